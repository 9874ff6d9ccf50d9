"""Times as they are written and spaced: what pandas writes is read back, counted in its own steps and gone on with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.data import time
from seqlab.data.panels import longest_run


def spaced(texts: list[str], form: str | None = None) -> tuple[time.Times, np.ndarray, time.CalendarStep]:
    """Times of one series, its counts, and its spacing."""
    times = time.read(texts, form)
    (counts,), spacing = time.spaced(times, [np.argsort(times.instant)])
    return times, counts, spacing


SPACINGS = {
    "YS": "yearly", "YE": "yearly", "QS": "quarterly", "QE": "quarterly", "QS-FEB": "quarterly", "QE-JAN": "quarterly",
    "BQE": "quarterly", "6MS": "half-yearly", "MS": "monthly", "ME": "monthly", "BMS": "monthly", "BME": "monthly",
    "SMS": "twice a month", "SME": "twice a month", "2W": "fortnightly", "W": "weekly", "W-WED": "weekly",
    "B": "on business days", "D": "daily", "3D": "every 3D", "6h": "every 6h", "h": "hourly", "15min": "every 15min",
    "min": "every minute", "s": "every second", "20ms": "every 20ms",
}  # fmt: skip


@pytest.mark.parametrize("frequency", SPACINGS)
def test_what_pandas_spaces_evenly_is_even_and_goes_on_as_pandas_would(frequency: str) -> None:
    stamps = pd.date_range("2010-01-01", periods=70, freq=frequency)
    written = [str(stamp) for stamp in stamps[:60]]
    times, counts, spacing = spaced(written)
    assert set(np.diff(counts)) == {spacing.step}
    assert spacing.words == SPACINGS[frequency]
    assert list(time.following(times, 59, spacing, 10)) == list(stamps[60:])


def test_a_day_of_the_month_is_kept_where_the_month_has_it() -> None:
    stamps = [pd.Timestamp("2020-01-31") + pd.DateOffset(months=i) for i in range(24)]
    _, counts, spacing = spaced([f"{stamp:%Y-%m-%d}" for stamp in stamps])
    assert (set(np.diff(counts)), spacing.words) == ({1}, "monthly")
    times, _, spacing = spaced([f"{2020 + i // 12}-{i % 12 + 1:02d}-15" for i in range(20)])
    assert [str(stamp.date()) for stamp in time.following(times, 19, spacing, 2)] == ["2021-09-15", "2021-10-15"]


DAYS = pd.date_range("2019-12-20", periods=300)
HOURS = pd.date_range("2019-12-30 20:00", periods=300, freq="h")
MONTHS = pd.date_range("2017-03-01", periods=60, freq="MS")
QUARTERS = pd.date_range("2000-04-01", periods=60, freq="QS")
WEEKS = pd.date_range("2018-12-03", periods=100, freq="7D")
HALVES = ("오전", "오후")
NOTATIONS: dict[str, tuple[pd.DatetimeIndex, Callable[[pd.Timestamp], str], str]] = {
    "ISO": (DAYS, lambda t: f"{t:%Y-%m-%d}", "daily"),
    "slashes": (DAYS, lambda t: f"{t:%Y/%m/%d}", "daily"),
    "slashes, unpadded": (DAYS, lambda t: f"{t.year}/{t.month}/{t.day}", "daily"),
    "dots": (DAYS, lambda t: f"{t:%Y.%m.%d}", "daily"),
    "Korean dots": (DAYS, lambda t: f"{t.year}. {t.month}. {t.day}.", "daily"),
    "Korean": (DAYS, lambda t: f"{t.year}년 {t.month}월 {t.day}일", "daily"),
    "Korean, decomposed": (DAYS, lambda t: f"{t.year}\u1102\u1167\u11ab {t.month}\u110b\u116f\u11af {t.day}\u110b\u1175\u11af", "daily"),  # noqa: E501
    "digits": (DAYS, lambda t: f"{t:%Y%m%d}", "daily"),
    "digits of a column with a gap": (DAYS, lambda t: f"{t:%Y%m%d}.0", "daily"),
    "six digits": (DAYS, lambda t: f"{t:%y%m%d}", "daily"),
    "day first": (DAYS, lambda t: f"{t:%d/%m/%Y}", "daily"),
    "month first": (DAYS, lambda t: f"{t:%m/%d/%Y}", "daily"),
    "day, name of the month": (DAYS, lambda t: f"{t:%d-%b-%Y}", "daily"),
    "name of the month, day": (DAYS, lambda t: f"{t:%B %d, %Y}", "daily"),
    "days as epochs": (DAYS, lambda t: str(int(t.timestamp())), "daily"),
    "ISO and time": (HOURS, lambda t: t.isoformat(), "hourly"),
    "ISO in UTC": (HOURS, lambda t: f"{t.isoformat()}Z", "hourly"),
    "ISO and an offset": (HOURS, lambda t: f"{t.isoformat(sep=' ')}+0900", "hourly"),
    "fractions": (HOURS, lambda t: f"{t.isoformat()}.000000", "hourly"),
    "compact ISO": (HOURS, lambda t: f"{t:%Y%m%dT%H%M%S}", "hourly"),
    "ten digits": (HOURS, lambda t: f"{t:%Y%m%d%H}", "hourly"),
    "twelve digits": (HOURS, lambda t: f"{t:%Y%m%d%H%M}", "hourly"),
    "fourteen digits": (HOURS, lambda t: f"{t:%Y%m%d%H%M%S}", "hourly"),
    "AM and PM": (HOURS, lambda t: f"{t:%m/%d/%Y %I:%M:%S %p}", "hourly"),
    "오전, 오후": (HOURS, lambda t: f"{t:%Y-%m-%d} {HALVES[t.hour // 12]} {t.hour % 12 or 12}:00:00", "hourly"),
    "seconds since 1970": (HOURS, lambda t: str(int(t.timestamp())), "hourly"),
    "milliseconds": (HOURS, lambda t: str(int(t.timestamp()) * 10**3), "hourly"),
    "microseconds": (HOURS, lambda t: str(int(t.timestamp()) * 10**6), "hourly"),
    "nanoseconds": (HOURS, lambda t: str(int(t.timestamp()) * 10**9), "hourly"),
    "months": (MONTHS, lambda t: f"{t:%Y %b}", "monthly"),
    "months first": (MONTHS, lambda t: f"{t:%B %Y}", "monthly"),
    "months, ISO": (MONTHS, lambda t: f"{t:%Y-%m}", "monthly"),
    "months, six digits": (MONTHS, lambda t: f"{t:%Y%m}", "monthly"),
    "months, four digits": (MONTHS, lambda t: f"{t:%y%m}", "monthly"),
    "months, a dot": (MONTHS, lambda t: f"{t:%Y.%m}", "monthly"),
    "months taken for numbers": (MONTHS, lambda t: str(float(f"{t:%Y.%m}")), "monthly"),
    "months, an M": (MONTHS, lambda t: f"{t.year}M{t.month:02d}", "monthly"),
    "months, Korean": (MONTHS, lambda t: f"{t.year}년 {t.month}월", "monthly"),
    "quarters": (QUARTERS, lambda t: f"{t.year} Q{t.quarter}", "quarterly"),
    "quarters, close": (QUARTERS, lambda t: f"{t.year}Q{t.quarter}", "quarterly"),
    "quarters first": (QUARTERS, lambda t: f"Q{t.quarter} {t.year}", "quarterly"),
    "quarters, Korean": (QUARTERS, lambda t: f"{t.year}년 {t.quarter}분기", "quarterly"),
    "weeks": (WEEKS, lambda t: "{}-W{:02d}".format(*t.isocalendar()[:2]), "weekly"),
    "weeks and days": (WEEKS, lambda t: "{}-W{:02d}-{}".format(*t.isocalendar()), "weekly"),
    "years": (pd.date_range("1950-01-01", periods=40, freq="YS"), lambda t: str(t.year), "yearly"),
    "years, Korean": (pd.date_range("1950-01-01", periods=40, freq="YS"), lambda t: f"{t.year}년", "yearly"),
}  # fmt: skip


@pytest.mark.parametrize("notation", NOTATIONS)
def test_every_notation_is_the_time_it_stands_for(notation: str) -> None:
    stamps, write, words = NOTATIONS[notation]
    times, counts, spacing = spaced([write(stamp) for stamp in stamps])
    assert times.local is not None
    np.testing.assert_array_equal(times.local, stamps.as_unit("us").astype(np.int64))
    assert set(np.diff(counts)) == {spacing.step}
    assert spacing.words == words


def test_a_form_of_strptime_is_read_where_it_is_given() -> None:
    times, *_ = spaced(["03|04|2020", "04|04|2020"], "%d|%m|%Y")
    assert pd.to_datetime(times.instant, unit="us").strftime("%F").tolist() == ["2020-04-03", "2020-04-04"]


@pytest.mark.parametrize("utc", [False, True], ids=["local midnights", "local midnights in UTC"])
def test_days_stay_days_where_clocks_change(utc: bool) -> None:
    stamps = pd.date_range("2020-01-01", periods=400, tz="Europe/Berlin")
    _, counts, spacing = spaced([stamp.isoformat() for stamp in (stamps.tz_convert("UTC") if utc else stamps)])
    assert (set(np.diff(counts)), spacing.words) == ({1}, "daily")


def test_hours_stay_hours_where_clocks_change() -> None:
    stamps = pd.date_range("2020-03-01", periods=6000, freq="h", tz="Europe/Berlin")
    _, counts, spacing = spaced([stamp.isoformat() for stamp in stamps])
    assert (set(np.diff(counts)), spacing.words) == ({spacing.step}, "hourly")


def test_months_end_on_the_last_trading_day_too() -> None:
    """On holidays at the end of a month, trade ended a day or more before the last business day."""
    ends = [*pd.date_range("2010-01-01", periods=60, freq="BME").strftime("%F")]
    ends[ends.index("2010-05-31")] = "2010-05-28"
    ends[ends.index("2013-03-29")] = "2013-03-28"
    times, counts, spacing = spaced(ends)
    assert (set(np.diff(counts)), spacing.words) == ({1}, "monthly")
    assert str(time.following(times, 59, spacing, 1)[0].date()) == "2015-01-30"


def test_holidays_are_gaps_of_business_days() -> None:
    stamps = pd.bdate_range("2020-01-01", periods=200)
    _, counts, spacing = spaced([f"{stamp:%F}" for stamp in stamps.delete([50, 51, 120])])
    assert spacing.words == "on business days"
    assert np.unique(np.diff(counts), return_counts=True)[1].tolist() == [194, 1, 1]


def test_an_unsteady_clock_is_counted_in_whole_steps() -> None:
    rng = np.random.default_rng(0)
    seconds = np.delete(np.arange(200), [70, 71]) + rng.uniform(-0.05, 0.05, 198)
    stamps = pd.Timestamp("2020-01-01 12:00") + pd.to_timedelta(seconds, unit="s")
    _, counts, spacing = spaced([stamp.isoformat() for stamp in stamps])
    assert spacing.words == "about every 1 s"
    assert np.unique(np.diff(counts) // spacing.step, return_counts=True)[1].tolist() == [196, 1]


def test_numbers_that_are_no_dates_are_numbers() -> None:
    for texts in (
        ["-2", "-1", "0"],
        ["200011", "200012", "200013"],
        ["20000131", "20000132"],
        ["0.02", "0.04", "0.06"],
    ):
        times, counts, _ = spaced(texts)
        assert times.local is None
        np.testing.assert_allclose(counts / times.scale, np.array(texts, float))
    # Years as tables of the 1990s have them: a month is 0.083 or 0.084.
    _, counts, spacing = spaced([f"{1959 + month / 12:.3f}" for month in range(48)])
    assert set(np.diff(counts)) == {spacing.step}


BAD = [
    (["2020-01-01", "soon"], 1, "'soon' is no time; expected such as 2020-01-31"),
    (["2020-01-01", "2020-02-30"], 1, "'2020-02-30' is no date of the calendar"),
    (["2020-01-01", "2020 Q1"], 1, "'2020 Q1' is a quarter, and '2020-01-01' a moment"),
    (["2020-01-01", "5"], 1, "'5' is a number, and '2020-01-01' a moment"),
    (["2020-W54"], 0, "'2020-W54' is no week"),
    (["2020-13"], 0, "'2020-13' is no month"),
    (["2020-01-01T00:00Z", "2020-01-02"], 1, "one time has an offset from UTC and another has none"),
    (["01/02/2020", "02/02/2020", "03/02/2020"], 0, "'01/02/2020' may have its day or its month first"),
    (["13/02/2020", "02/13/2020"], 1, "is no date of the calendar"),
    (["9" * 30, "1"], 0, "is too large for a time"),
]


@pytest.mark.parametrize(("texts", "index", "message"), BAD, ids=[message[:40] for *_, message in BAD])
def test_what_is_no_time_is_named(texts: list[str], index: int, message: str) -> None:
    with pytest.raises(time.NotATime, match=message) as error:
        time.read(texts)
    assert error.value.index == index


# What is done about gaps


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=30), st.integers(0, 3), st.integers(1, 5)
)
def test_a_run_is_the_longest_of_even_steps(steps: list[tuple[int, bool]], carried: int, step: int) -> None:
    counts = np.cumsum([jump * step for jump, _ in steps])
    values = np.arange(1.0, len(steps) + 1)[:, None]
    values[[missing for _, missing in steps]] = np.nan
    run, recorded, cut, filled = longest_run(counts, values, step, carried)
    # By hand: a grid, on which a value stands for itself and for up to `carried` steps after it.
    grid = np.full((counts[-1] - counts[0]) // step + 1, np.nan)
    grid[(counts - counts[0]) // step] = values[:, 0]
    runs: list[list[tuple[float, bool]]] = [[]]
    since = carried + 1
    for value in grid:
        since = 0 if not np.isnan(value) else since + 1
        if since > carried:
            runs.append([])
        else:
            runs[-1].append((runs[-1][-1][0] if np.isnan(value) else value, not np.isnan(value)))
    for one in runs:
        while one and not one[-1][1]:  # what no value follows is not carried
            one.pop()
    best = max(reversed(runs), key=len)
    assert run[:, 0].tolist() == [value for value, _ in best]
    assert recorded.tolist() == [there for _, there in best]
    assert cut == int((~np.isnan(values)).sum()) - sum(there for _, there in best)
    assert filled == sum(not there for _, there in best)
