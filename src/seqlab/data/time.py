"""Time stamps as people and machines write them, and the steps by which they go on.

A column of times is read whole, because one cell does not tell what it is: 202012 is a month among 202001 to 202112 and
a counter among 202001 to 202060. Then the steps are counted on whichever calendar makes them most alike: months are of
one length to whoever records by them, and so are the days of a business week.
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

SECOND = 10**6  # all moments are whole microseconds
DAY = 86_400 * SECOND
YEARS = range(1700, 2300)  # what digits may mean by a year, and epochs by a moment
# Steps that differ by no more than this share of one step are one step, measured by an unsteady clock or rounded.
JITTER = 0.2
EXAMPLES = "2020-01-31, 2020-01-31T13:00+09:00, 1982 Apr, 1998 Q1, 2020-W05, 20200131, 2020년 1월 or a number"


class NotATime(Exception):
    """A text among the times that is none, or none of the same kind: its index among them, and what is wrong."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index, self.reason = index, reason


@dataclass(frozen=True)
class Times:
    """N distinct times.

    instant: (N,) int64, what orders them: microseconds since 1970 (UTC where an offset is written), or numbers times
    `scale`, a power of ten that makes all of them whole. local: (N,) int64, the same by the clock of the place; None
    where the times are numbers. written: the resolution that the notation has.
    """

    instant: np.ndarray
    local: np.ndarray | None
    written: str  # "number" | "moment" | "date" | "week" | "month" | "quarter" | "year"
    scale: int = 1


# Reading

MONTHS = {name.casefold(): i for i in range(1, 13) for name in (calendar.month_name[i], calendar.month_abbr[i])}
MONTHS["sept"] = 9
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
HOUR = r"(?P<h>\d{1,2}):(?P<m>\d\d)(?::(?P<s>\d\d)(?P<f>[.,]\d+)?)?"
CLOCK = rf"(?:[T ] *(?P<half>오전|오후)? *{HOUR} *(?P<ampm>[AaPp][Mm])?)?"
ZONE = r" *(?P<zone>Z|UTC|[+-]\d\d(?::?\d\d)?)?"
YEAR = r"(?P<Y>\d{4})"
FORMS: dict[str, list[re.Pattern[str]]] = {
    kind: [re.compile(pattern, re.ASCII) for pattern in patterns]
    for kind, patterns in {
        "moment": [
            rf"{YEAR}([-/.])(?P<M>\d{{1,2}})\2(?P<D>\d{{1,2}}){CLOCK}{ZONE}",  # ISO, and 2020/1/31, 2020.01.31
            rf"{YEAR}\. *(?P<M>\d{{1,2}})\. *(?P<D>\d{{1,2}})\.?{CLOCK}{ZONE}",  # 2020. 1. 31.
            rf"{YEAR}년 *(?P<M>\d{{1,2}})월 *(?P<D>\d{{1,2}})일{CLOCK}{ZONE}",
            rf"{YEAR}(?P<M>\d\d)(?P<D>\d\d)[T ](?P<h>\d\d):?(?P<m>\d\d):?(?P<s>\d\d)?(?P<f>[.,]\d+)?{ZONE}",
            rf"(?P<D>\d{{1,2}})[- ](?P<B>[A-Za-z]{{3,9}})[- ,] ?{YEAR}{CLOCK}{ZONE}",  # 31 Jan 2020, 31-Jan-2020
            rf"(?P<B>[A-Za-z]{{3,9}})\.? (?P<D>\d{{1,2}}),? {YEAR}{CLOCK}{ZONE}",  # January 31, 2020
        ],
        "slashed": [rf"(?P<a>\d{{1,2}})([-/.])(?P<b>\d{{1,2}})\2{YEAR}{CLOCK}{ZONE}"],
        "week": [rf"{YEAR}[- ]?W(?P<W>\d\d?)(?:-?(?P<wd>[1-7]))?"],
        "month": [
            rf"{YEAR}[-/. ](?P<M>\d{{1,2}})",
            rf"{YEAR}년 *(?P<M>\d{{1,2}})월",
            rf"{YEAR}[- ]?(?P<B>[A-Za-z]{{3,9}})",
            rf"(?P<B>[A-Za-z]{{3,9}})[- ]{YEAR}",
            rf"{YEAR}M(?P<M>\d{{1,2}})",
        ],
        "quarter": [rf"{YEAR}[- ]?Q(?P<Q>[1-4])", rf"Q(?P<Q>[1-4])[- ]?{YEAR}", rf"{YEAR}년 *(?P<Q>[1-4])분기"],
        "year": [rf"{YEAR}년"],
    }.items()
}


def read(texts: Sequence[str], form: str | None = None) -> Times:
    """The times that distinct texts are. form: of `datetime.strptime`, where it is known.

    Raises NotATime for the first text that is none or differs in kind from the first; dates such as 01/02/2020 are
    refused where neither a day above 12 nor the order of the texts tells day from month.
    """
    texts = [unicodedata.normalize("NFC", text.strip()) for text in texts]
    if form is not None:
        return _by_form(texts, form)
    if all(map(NUMBER.fullmatch, texts)):
        return _numbers(texts)
    kinds: list[str] = []
    found: list[dict[str, str]] = []
    for i, text in enumerate(texts):
        kind, stamp = _stamp(text)
        if stamp is None:
            raise NotATime(i, f"{text!r} is no time; expected such as {EXAMPLES}")
        kinds.append(kind)
        found.append(stamp)
    for i, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise NotATime(i, f"{texts[i]!r} is a {kind}, and {texts[0]!r} a {kinds[0]}; expected times of one kind")
    if kinds[:1] == ["slashed"]:
        return _slashed(texts, found)
    if kinds[:1] == ["moment"]:
        return _moments([_moment(parts, i, texts[i]) for i, parts in enumerate(found)])
    days = [_first_day(kinds[0], parts, i, texts[i]) for i, parts in enumerate(found)]
    at = np.array([(day - date(1970, 1, 1)).days for day in days], np.int64) * DAY
    return Times(at, at, kinds[0])


def _stamp(text: str) -> tuple[str, dict[str, str] | None]:
    """The kind of a text and its parts."""
    for kind, patterns in FORMS.items():
        for pattern in patterns:
            if match := pattern.fullmatch(text):
                return kind, {name: part for name, part in match.groupdict().items() if part}
    return ("number" if NUMBER.fullmatch(text) else ""), ({} if NUMBER.fullmatch(text) else None)


def _numbers(texts: Sequence[str]) -> Times:
    """Dates and moments written in digits alone, epochs in s, ms, us or ns; or numbers as they are."""
    bare = [text.removesuffix(".0") for text in texts]  # a table with a missing cell writes its integers so
    lengths = set(map(len, bare))
    if len(lengths) == 1 and all(text.isdigit() for text in bare):
        size = max(lengths)
        for form, written, certain in DIGITS.get(size, ()):
            found = _compact(bare, form)
            # Digits that are dates of the calendar in every row are dates; of two digits for a year, more is asked.
            if found is not None and (certain or _even_dates(found) > _evenness(np.array(bare, np.int64))):
                return Times(found, found, written)
        if size in EPOCHS:
            at = np.array([int(text) * SECOND // EPOCHS[size] for text in bare], np.int64)
            return Times(at, at, "moment")
    if (months := _dotted_months(texts)) is not None:
        return Times(months, months, "month")
    places = max((len(text.partition(".")[2]) for text in bare), default=0)
    scaled = [int(text.replace(".", "") + "0" * (places - len(text.partition(".")[2]))) for text in bare]
    if too_far := [i for i, value in enumerate(scaled) if abs(value) >= 2**62]:
        raise NotATime(too_far[0], f"{texts[too_far[0]]!r} is too large for a time")
    return Times(np.array(scaled, np.int64), None, "number", 10**places)


# By the number of digits: forms of `strptime`, from the likeliest, and whether being valid in every row settles it.
DIGITS = {
    4: [("%y%m", "month", False), ("%Y", "year", True)],
    6: [("%Y%m", "month", True), ("%y%m%d", "date", False)],
    8: [("%Y%m%d", "date", True)],
    10: [("%Y%m%d%H", "moment", True)],
    12: [("%Y%m%d%H%M", "moment", True)],
    14: [("%Y%m%d%H%M%S", "moment", True)],
}
EPOCHS = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}  # parts of a second


def _compact(texts: Sequence[str], form: str) -> np.ndarray | None:
    """(N,) microseconds of texts that are all of a form, with years among YEARS; None otherwise."""
    found = np.empty(len(texts), np.int64)
    for i, text in enumerate(texts):
        try:
            moment = datetime.strptime(text, form)
        except ValueError:
            return None
        # `strptime` takes one digit where two may stand; what was read must be what is written.
        if moment.year not in YEARS or moment.strftime(form) != text:
            return None
        found[i] = _micros(moment)
    return found


def _evenness(values: np.ndarray) -> float:
    """The share of the commonest step between neighbours."""
    steps = np.diff(np.unique(values))
    return float(np.unique(steps, return_counts=True)[1].max() / len(steps)) if len(steps) else 0.0


def _even_dates(moments: np.ndarray) -> float:
    dates = moments.astype("datetime64[us]")
    return max(_evenness(dates.astype(f"datetime64[{unit}]").astype(np.int64)) for unit in ("M", "D"))


def _dotted_months(texts: Sequence[str]) -> np.ndarray | None:
    """(N,) microseconds of months such as 2020.01, 2020.10 or, of a table that took them for numbers, 2020.1."""
    parts = [text.partition(".")[::2] for text in texts]
    if not all(len(year) == 4 and year.isdigit() and int(year) in YEARS and 1 <= len(m) <= 2 for year, m in parts):
        return None
    if all(len(month) == 1 for _, month in parts):
        return None
    padded = any(month.startswith("0") for _, month in parts)
    days = [_day(int(year), int(month.ljust(2, "0") if padded else month), 1) for year, month in parts]
    if not all(days):
        return None
    return np.array([(day - date(1970, 1, 1)).days for day in days if day], np.int64) * DAY


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day) if year in YEARS else None
    except ValueError:
        return None


def _first_day(kind: str, parts: dict[str, str], index: int, text: str) -> date:
    """The first day of a week, month, quarter or year."""
    year = int(parts["Y"])
    try:
        if kind == "week":
            return date.fromisocalendar(year, int(parts["W"]), int(parts.get("wd", 1)))
        if kind == "quarter":
            return date(year, 3 * int(parts["Q"]) - 2, 1)
        return date(year, _month(parts) if kind == "month" else 1, 1)
    except (KeyError, ValueError):
        raise NotATime(index, f"{text!r} is no {kind}; expected such as {EXAMPLES}") from None


def _month(parts: dict[str, str]) -> int:
    return MONTHS[parts["B"].casefold()] if "B" in parts else int(parts["M"])


def _moment(parts: dict[str, str], index: int, text: str) -> datetime:
    """A date with its time of day, naive or in its zone."""
    hour, half = int(parts.get("h", 0)), parts.get("half") or parts.get("ampm", "").upper()
    if half:
        hour = hour % 12 + (12 if half in ("오후", "PM") else 0)
    fraction = int(parts.get("f", ".0")[1:][:6].ljust(6, "0"))
    try:
        # Midnight may be written as the end of its day.
        late = timedelta(days=1) if hour == 24 else timedelta(0)
        clock = (hour % 24 if late else hour, int(parts.get("m", 0)), int(parts.get("s", 0)), fraction)
        found = datetime(int(parts["Y"]), _month(parts), int(parts["D"]), *clock, _zone(parts.get("zone"))) + late
    except (KeyError, ValueError, OverflowError):
        raise NotATime(index, f"{text!r} is no date of the calendar; expected such as {EXAMPLES}") from None
    return found


def _zone(text: str | None) -> timezone | None:
    if text is None or text in ("Z", "UTC"):
        return None if text is None else UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(ahead if text[0] == "+" else -ahead)


def _moments(found: Sequence[datetime]) -> Times:
    zoned = [moment.tzinfo is not None for moment in found]
    if any(zoned) and not all(zoned):
        raise NotATime(zoned.index(not zoned[0]), "one time has an offset from UTC and another has none")
    local = np.array([_micros(moment.replace(tzinfo=None)) for moment in found], np.int64)
    ahead = [moment.utcoffset() or timedelta(0) for moment in found]
    instant = local - np.array([offset // timedelta(microseconds=1) for offset in ahead], np.int64)
    return Times(instant, local, "moment")


def _micros(naive: datetime) -> int:
    return (naive - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def _slashed(texts: Sequence[str], found: list[dict[str, str]]) -> Times:
    """Day and month in whichever order all texts allow; where both do, the one in which they rise, or fall."""
    orders = {"day first": ("a", "b"), "month first": ("b", "a")}
    read_as: dict[str, Times] = {}
    wrong: list[NotATime] = []
    for name, (day, month) in orders.items():
        try:
            read_as[name] = _moments(
                [_moment({**parts, "D": parts[day], "M": parts[month]}, i, texts[i]) for i, parts in enumerate(found)]
            )
        except NotATime as error:
            wrong.append(error)
    if not read_as:
        raise max(wrong, key=lambda error: error.index)
    if len({times.instant.tobytes() for times in read_as.values()}) > 1:
        ordered = {name: times for name, times in read_as.items() if _monotone(times.instant)}
        if len(ordered) != 1:
            raise NotATime(0, f"{texts[0]!r} may have its day or its month first; expected dates such as 2020-01-31")
        read_as = ordered
    return next(iter(read_as.values()))


def _monotone(values: np.ndarray) -> bool:
    changes = np.diff(values)
    return bool((changes > 0).all() or (changes < 0).all())


def _by_form(texts: Sequence[str], form: str) -> Times:
    found = []
    for i, text in enumerate(texts):
        try:
            found.append(datetime.strptime(text, form))
        except ValueError:
            raise NotATime(i, f"{text!r} is not a date of the form {form}") from None
    return _moments(found)


# Spacing


@dataclass(frozen=True)
class CalendarStep:
    """One step of a calendar.

    unit: "number", "second" (step: microseconds), "about" (the same, by an unsteady clock), "day", "business day",
    "half month" or "month". step: how many of them. anchor: where in a month, a key of OFFSETS, or "day"; of half
    months, pandas' alias.
    """

    unit: str
    step: int
    anchor: str = "start"

    @property
    def frequency(self) -> str:
        """pandas' alias, such as "ME" or "15min"; "" for numbers."""
        if self.unit == "number":
            return ""
        if self.unit == "half month":
            return self.anchor if self.step == 1 else f"{self.step}{self.anchor}"
        if self.unit == "month":
            letter, size = next((k, n) for k, n in (("Y", 12), ("Q", 3), ("M", 1)) if self.step % n == 0)
            business, _, place = self.anchor.rpartition(" ")
            alias = f"{business[:1].upper()}{letter}{'E' if place == 'end' else 'S'}"
            return _times(self.step // size, alias)
        if self.unit == "business day":
            return _times(self.step, "B")
        step = self.step * DAY if self.unit == "day" else self.step
        alias, size = next((alias, size) for alias, size in SIZES.items() if step % size == 0)
        return _times(step // size, alias)

    @property
    def words(self) -> str:
        """What a person calls it."""
        if self.unit == "number":
            return "by number"
        if self.unit == "about":
            return f"about every {self.step / SECOND:.2g} s"
        return WORDS.get((self.unit, self.step)) or f"every {self.frequency}"


def _times(count: int, alias: str) -> str:
    return alias if count == 1 else f"{count}{alias}"


SIZES = {"W": 7 * DAY, "D": DAY, "h": 3600 * SECOND, "min": 60 * SECOND, "s": SECOND, "ms": 1000, "us": 1}
OFFSETS = {"start": "MS", "end": "ME", "business start": "BMS", "business end": "BME"}
WORDS = {
    ("month", 1): "monthly", ("month", 3): "quarterly", ("month", 6): "half-yearly", ("month", 12): "yearly",
    ("half month", 1): "twice a month", ("day", 1): "daily", ("day", 7): "weekly", ("day", 14): "fortnightly",
    ("business day", 1): "on business days", ("second", 3600 * SECOND): "hourly",
    ("second", 60 * SECOND): "every minute", ("second", SECOND): "every second",
}  # fmt: skip


def spaced(times: Times, series: Sequence[np.ndarray]) -> tuple[list[np.ndarray], CalendarStep]:
    """For each series the counts (T,) int64 of its times on one calendar for all: one step is `step` of them.

    series: for each, indices of its times, whose instants rise. Of the calendars on which every series rises, the one
    on which most steps are alike; of equals, the coarsest. An unsteady clock is counted in whole steps.
    """
    best: tuple[float, list[np.ndarray], str, int] | None = None
    for unit, counts in _calendars(times):
        own = [counts[indices] for indices in series]
        steps = _steps(own)
        if len(steps) and steps.min() <= 0:
            continue
        lengths, numbers = np.unique(steps, return_counts=True)
        share = float(numbers.max() / len(steps)) if len(steps) else 1.0
        if best is None or share > best[0]:
            best = share, own, unit, int(lengths[numbers.argmax()]) if len(steps) else 1
    assert best is not None  # the last calendar counts instants, which rise
    _, own, unit, step = best
    if unit in ("number", "second") and (_steps(own) % step).any() and (steady := _steadied(own)) is not None:
        return steady[0], CalendarStep("number" if unit == "number" else "about", steady[1])
    return own, CalendarStep(unit, step, _anchor(times, unit))


def _steps(counts: Sequence[np.ndarray]) -> np.ndarray:
    """All steps within series."""
    return np.concatenate([np.empty(0, np.int64), *map(np.diff, counts)])


def _calendars(times: Times) -> Iterator[tuple[str, np.ndarray]]:
    """Candidates to count by, from the coarsest: the unit and (N,) int64 counts."""
    if times.local is None:
        yield "number", times.instant
        return
    days, clock = np.divmod(times.local, DAY)
    if len(np.unique(clock)) > 1:
        yield "second", times.instant
        # Daily stamps in UTC of a place that changes its clocks come 23 or 25 hours after one another, twice a year.
        days, clock = np.divmod(times.instant - int(np.median(times.instant % DAY)) + DAY // 2, DAY)
        if (np.abs(clock - DAY // 2) <= 3600 * SECOND).all():
            yield "day", days
        return
    dates = days.astype("datetime64[D]")
    if times.written != "week":
        months = dates.astype("datetime64[M]")
        yield "month", months.astype(np.int64)
        if (border := _halves(dates)) is not None:
            yield "half month", 2 * months.astype(np.int64) + (_days_of_month(dates) > border[0])
    yield "day", days
    if np.is_busday(dates).all():
        yield "business day", np.busday_count("1970-01-01", dates).astype(np.int64)


def _days_of_month(dates: np.ndarray) -> np.ndarray:
    return np.asarray((dates - dates.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1)


def _from_end(dates: np.ndarray) -> np.ndarray:
    """Days to the last of the month."""
    return np.asarray(((dates.astype("datetime64[M]") + 1).astype("datetime64[D]") - 1 - dates).astype(np.int64))


def _halves(dates: np.ndarray) -> tuple[int, str] | None:
    """Where every date is the first or one other day of a month, or that day or the last: what parts the halves, and
    pandas' alias.
    """
    day, last = _days_of_month(dates), _from_end(dates) == 0
    if len(others := np.unique(day[day != 1])) == 1 and (day == 1).any():
        return 1, f"SMS-{others[0]}"
    if len(others := np.unique(day[~last])) == 1 and last.any():
        return int(others[0]), f"SME-{others[0]}"
    return None


def _anchor(times: Times, unit: str) -> str:
    """Where in its month every date is."""
    if times.local is None or unit not in ("month", "half month"):
        return "start"
    dates = (times.local // DAY).astype("datetime64[D]")
    if unit == "half month":
        border = _halves(dates)
        assert border is not None
        return border[1]
    first, last = _days_of_month(dates), _from_end(dates)
    for place, holds in (
        ("start", first == 1),
        ("end", last == 0),
        ("business start", np.is_busday(dates) & (first <= 3)),
        ("business end", np.is_busday(dates) & (last <= 4)),
    ):
        if holds.all():
            return place
    return "day"


def _steadied(counts: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int] | None:
    """Whole steps of an unsteady clock, where no step is further than JITTER from whole ones; None otherwise."""
    steps = _steps(counts)
    step = float(np.median(steps))
    whole = np.rint(steps / step)
    if (whole < 1).any() or (np.abs(steps - whole * step) > JITTER * step).any():
        return None
    size = max(1, round(step))
    return [size * np.cumsum(np.rint(np.diff(own, prepend=own[:1]) / step)).astype(np.int64) for own in counts], size


def following(times: Times, last: int, spacing: CalendarStep, steps: int) -> pd.Index:
    """The `steps` times after the one at index `last`: time stamps by its own clock, or numbers.

    Where an offset from UTC is written, stamps that are counted in seconds have the last one's, since the clock of the
    place may change.
    """
    import pandas as pd

    if times.local is None:
        made = times.instant[last] + spacing.step * np.arange(1, steps + 1)
        return pd.Index(made / times.scale if times.scale > 1 else made)
    start = pd.Timestamp(int(times.local[last]), unit="us")
    if spacing.unit == "month" and spacing.anchor == "day":
        # The 30th comes after the 28th of a February.
        day = int(_days_of_month((times.local // DAY).astype("datetime64[D]")).max())
        months = (spacing.step * k for k in range(1, steps + 1))
        return pd.DatetimeIndex([start + pd.DateOffset(months=count, day=day) for count in months])
    if spacing.unit in ("second", "about") and (offset := int(times.local[last] - times.instant[last])):
        zone = timezone(timedelta(microseconds=offset))
        start = pd.Timestamp(int(times.instant[last]), unit="us", tz=UTC).tz_convert(zone)
    # Years and quarters may begin in any month, so all are counted in months.
    alias = {"month": OFFSETS.get(spacing.anchor), "half month": spacing.anchor, "day": "D", "business day": "B"}
    return pd.date_range(start, periods=steps + 1, freq=f"{spacing.step}{alias.get(spacing.unit, 'us')}")[1:]
