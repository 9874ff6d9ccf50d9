"""A file of new data is read as the domain's own was, and what is mended in it is said."""

from __future__ import annotations

import re
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.tseries.offsets import BMonthEnd

from seqlab.cli.new_data import Wanted, read_sequences, read_texts
from seqlab.cli.places import Workspace
from seqlab.cli.predict import Asked, answer, checked, fitting, foremost, keyed, raw_of, workspace_of, write
from seqlab.cli.score import compared
from seqlab.data.beside import Names
from seqlab.errors import UserError

COLUMNS = {"text": "review", "label": "label"}


# --------------------------------------------------------------------------------------------------------------- texts


def test_texts_to_predict_on_are_those_of_the_domains_own_column(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text('id,review\n1,very good\n2,"bad, very"\n')
    assert read_texts(path, {"target_columns": COLUMNS}) == {0: "very good", 1: "bad, very"}
    corpora = {"own": {"format": "table", "columns": ["review", "korean"]}}
    assert read_texts(path, {"corpora": corpora})[0] == "very good"
    with pytest.raises(UserError, match=r"new\.csv.*comment"):
        read_texts(path, {"target_columns": {"text": "comment"}})
    with pytest.raises(UserError, match="one text a line"):
        read_texts(path, {"target_columns": ["text"]})


def test_answers_to_texts_keep_their_places_around_blank_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.txt"
    path.write_text("very good\n\nbad, very\n")
    model = SimpleNamespace(
        units=SimpleNamespace(kind="symbols"),
        translate=lambda texts, register=None: [text.upper() for text in texts.values()],
        score=list,
    )
    asked = Asked("own", path, None, None, 1, (0.5,), None)
    assert answer(model, "translate", asked, {}, tmp_path, []) == ["VERY GOOD", "", "BAD, VERY"]
    assert "blank texts, which have no answer: 1 of 3 (row 2, whose id is 1)" in capsys.readouterr().err
    assert answer(model, "score", asked, {}, tmp_path, []) == [0, 2]
    path.write_text(" \n\n")
    with pytest.raises(UserError, match="every text is blank"):
        read_texts(path, {})


def test_texts_are_written_as_the_name_says(tmp_path: Path) -> None:
    texts = ["하나", ""]
    write(texts, tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8") == "하나\n\n"
    write(texts, tmp_path / "out.parquet")
    assert pd.read_parquet(tmp_path / "out.parquet").to_dict("list") == {"id": [0, 1], "text": texts}
    write(texts, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "id,text\n0,하나\n1,\n"


# -------------------------------------------------------------------------------------------------------------- series

CALENDARS: dict[str, tuple[str, Any, str]] = {
    "hours": ("2024-03-01 05:00", "h", "%Y-%m-%d %H:%M"),
    "business days": ("2024-03-01", "B", "%Y-%m-%d"),
    "month ends": ("2020-01-31", "ME", "%Y-%m-%d"),
    "business month ends": ("2020-01-31", BMonthEnd(), "%Y-%m-%d"),
    "months": ("2020-01-01", "MS", "%Y-%m"),
    "weeks": ("2024-01-01", "7D", "%d.%m.%Y"),
    "days first": ("2024-02-20", "D", "%d/%m/%Y"),
    "half months": ("2024-01-01", "SMS", "%Y-%m-%d"),
    "epochs": ("2024-02-20", "h", "%s"),
}
LENGTH = 60


def moments(calendar: str) -> pd.DatetimeIndex:
    """More of them than a panel has."""
    begin, step, _ = CALENDARS[calendar]
    return pd.date_range(begin, periods=LENGTH + 20, freq=step)


def written(at: pd.DatetimeIndex, form: str) -> list[str]:
    if form == "%s":
        return [str(int(one.timestamp())) for one in at]
    return list(at.strftime(form))


def panel(calendar: str) -> pd.DataFrame:
    """Two series, of other values at each step."""
    at = written(moments(calendar)[:LENGTH], CALENDARS[calendar][2])
    return pd.DataFrame({"at": np.tile(at, 2), "shop": np.repeat(["a", "b"], LENGTH), "v": np.arange(2.0 * LENGTH)})


def prepare(**more: Any) -> dict[str, Any]:
    target = {"file": "own.csv", "key": ["shop"], "time": "at", "value": "v"}
    return {"steps": "time", "carried": 2, "target": target, **more}


def read(
    new: pd.DataFrame, own: pd.DataFrame | None, folder: Path, ahead: int = 3, by: str = "time", carried: int = 2
) -> dict[str, Any]:
    (folder / "raw").mkdir(exist_ok=True)
    if own is not None:
        own.to_csv(folder / "raw/own.csv", index=False)
    new.to_csv(folder / "new.csv", index=False)
    return read_sequences(folder / "new.csv", prepare(steps=by, carried=carried), folder / "raw", ahead)


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("rows", [1, 2, 5, LENGTH])
def test_steps_are_those_of_the_domains_own_calendar(calendar: str, rows: int, tmp_path: Path) -> None:
    """However few rows there are, and in whatever order."""
    own = panel(calendar)
    new = own.groupby("shop").tail(rows).sample(frac=1, random_state=rows)
    found = read(new, own, tmp_path)
    following = moments(calendar)[LENGTH : LENGTH + 3]
    for number, name in enumerate("ab"):
        # The rows of the domain's own file before the new ones are their past.
        expected = np.arange(LENGTH * number, LENGTH * (number + 1))
        np.testing.assert_array_equal(found[name].values[:, 0], expected)
        assert list(found[name].ahead) == list(following)
        assert list(found[name].stamps) == list(moments(calendar)[:LENGTH])


@pytest.mark.parametrize("calendar", CALENDARS)
def test_missing_steps_are_carried_as_in_the_data_that_models_know(
    calendar: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = panel(calendar)
    # Of series a two steps in a row have no row, of b one has no value.
    new = own[~own["v"].isin([20, 21])].replace({"v": {97.0: np.nan}})
    found = read(new, own, tmp_path)
    expected = np.arange(2.0 * LENGTH)
    expected[[20, 21, 97]] = [19, 19, 96]
    np.testing.assert_array_equal(np.concatenate([one.values[:, 0] for one in found.values()]), expected)
    assert list(found["a"].stamps) == list(moments(calendar)[:LENGTH])
    assert "missing steps for which the last value before stands: 3 (a: 2; b: 1)\n" in capsys.readouterr().err


def test_a_series_begins_after_a_gap_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = panel("hours")
    new = own[~own["v"].isin([*range(20, 24), 100])].replace({"v": {60.0: np.nan, 119.0: np.nan}})
    found = read(new, own, tmp_path)
    np.testing.assert_array_equal(found["a"].values[:, 0], np.arange(24, 60))
    np.testing.assert_array_equal(found["b"].values[:, 0], [*range(61, 100), 99, *range(101, 119)])
    assert list(found["b"].ahead) == list(moments("hours")[LENGTH - 1 : LENGTH + 2])
    said = capsys.readouterr().err
    assert "steps before a gap that is too long to carry values over, left out: 20 (a: 20)\n" in said
    assert "rows without a value at the end, left out: 1 (b: 1)\n" in said


def test_a_file_of_another_step_has_gaps(tmp_path: Path) -> None:
    own = panel("months")
    new = own[own["v"] % 2 == 0]
    found = read(new, own, tmp_path)
    np.testing.assert_array_equal(found["a"].values[:, 0], np.repeat(np.arange(0, 60, 2), 2)[:59])
    assert len(read(new, own, tmp_path, carried=0)["a"].values) == 1


def test_without_the_domains_own_file_the_step_is_the_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(panel("weeks"), None, tmp_path)
    assert list(found["a"].ahead) == list(moments("weeks")[LENGTH : LENGTH + 3])
    assert "own.csv is not in" in capsys.readouterr().err


def test_rows_that_are_steps_have_no_time_ahead(tmp_path: Path) -> None:
    own = panel("hours")
    new = own[~own["v"].isin([20, 30])].sample(frac=1, random_state=0)
    found = read(new, own, tmp_path, by="rows", carried=0)
    assert found["a"].ahead is None
    assert len(found["a"].values) == LENGTH - 2
    np.testing.assert_array_equal(found["b"].values[:, 0], np.arange(60, 120))


def test_stamps_with_an_offset_keep_it_where_clocks_change(tmp_path: Path) -> None:
    at = pd.date_range("2021-03-20", periods=24 * 7 + 1, freq="h", tz="Europe/Berlin")
    own = pd.DataFrame({"at": [one.isoformat() for one in at], "shop": "a", "v": np.arange(len(at), dtype=float)})
    found = read(own, own, tmp_path, 30)["a"]
    assert len(found.values) == len(at)
    after = pd.date_range(at[-1], periods=31, freq="h")[1:]
    assert [one.tz_convert("UTC") for one in found.ahead] == [one.tz_convert("UTC") for one in after]


@pytest.mark.parametrize("scale", [1, 10])
def test_numbers_that_are_times_come_back_as_the_file_has_them(scale: int, tmp_path: Path) -> None:
    at = [f"{i / scale:g}" for i in range(40)]
    own = pd.DataFrame({"at": at, "shop": "a", "v": np.arange(40.0)})
    assert list(read(own.tail(2), own, tmp_path)["a"].ahead) == [40 / scale, 41 / scale, 42 / scale]


def test_names_are_those_of_the_domains_own_series(tmp_path: Path) -> None:
    frame = panel("months").assign(item="x", w=1.0)
    frame.to_csv(tmp_path / "new.csv", index=False)
    several = {"file": "own.csv", "key": ["shop", "item"], "time": "at", "value": ["v", "w"]}
    found = read_sequences(tmp_path / "new.csv", prepare(target=several), tmp_path, 1)
    assert list(found) == ["a/x/v", "a/x/w", "b/x/v", "b/x/w"]
    channels = {"file": "own.csv", "key": [], "time": None, "channels": ["v", "w"]}
    found = read_sequences(tmp_path / "new.csv", prepare(target=channels), tmp_path, 1)
    assert list(found) == ["own"]
    assert found["own"].values.shape == (2 * LENGTH, 2)


def test_several_columns_of_values_have_the_covariates_of_their_key(tmp_path: Path) -> None:
    own = panel("months").assign(w=lambda frame: -frame["v"], price=5.0, region=lambda frame: "in " + frame["shop"])
    (tmp_path / "raw").mkdir()
    own.to_csv(tmp_path / "raw/own.csv", index=False)
    new = own.groupby("shop").tail(12).copy()
    ahead = new.groupby("shop").cumcount() >= 9
    new.loc[ahead, ["v", "w", "region"]] = np.nan
    new.loc[new.index[-1], "price"] = 7.0
    new.to_csv(tmp_path / "new.csv", index=False)
    target = {"file": "own.csv", "key": ["shop"], "time": "at", "value": ["v", "w"], "known": ["price"]}
    names = Names(["price"], [], ["region"], {"region": ["in a", "in b"]})
    found = read_sequences(tmp_path / "new.csv", prepare(target=target), tmp_path / "raw", 3, names)
    assert list(found) == ["a/v", "a/w", "b/v", "b/w"]
    for name, one in found.items():
        assert one.covariates is not None
        assert one.covariates["region"].unique().tolist() == [f"in {name[0]}"]
        assert one.covariates["price"].tolist() == [5.0] * (LENGTH - 1) + [7.0 if name[0] == "b" else 5.0]
        past = one.covariates["value 1"].to_numpy()
        np.testing.assert_array_equal(past[: LENGTH - 3], one.values[:, 0])
        assert np.isnan(past[LENGTH - 3 :]).all()
        assert list(one.ahead or ()) == list(moments("months")[LENGTH - 3 : LENGTH])
    np.testing.assert_array_equal(found["b/w"].values, -found["b/v"].values)
    # Where no number of steps was asked for, those are forecast of which covariates are known.
    found = read_sequences(
        tmp_path / "new.csv", prepare(target=target), tmp_path / "raw", 9, names, wanted=Wanted(exact=False)
    )
    assert {len(one.ahead or ()) for one in found.values()} == {3}
    new.loc[new.index[-2], "price"] = np.nan
    new.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError, match="'b/v': price is missing in step 2 to forecast"):
        read_sequences(
            tmp_path / "new.csv", prepare(target=target), tmp_path / "raw", 9, names, wanted=Wanted(exact=False)
        )


def test_sequences_of_a_domain_of_classes_need_no_label(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = panel("hours").assign(w=2.0)
    frame.loc[3, "v"] = np.nan
    frame.to_parquet(tmp_path / "new.parquet")
    data = {
        "format": "table",
        "file": "own.parquet",
        "id": ["shop"],
        "time": "at",
        "channels": ["v", "w"],
        "label": "x",
    }
    found = read_sequences(tmp_path / "new.parquet", {"data": data}, tmp_path, 0)
    assert [one.values.shape for one in found.values()] == [(LENGTH - 1, 2), (LENGTH, 2)]
    assert list(found) == ["a", "b"]
    assert "steps without a value: 1" in capsys.readouterr().err


def test_the_domains_own_past_has_to_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = panel("months")
    new = own.groupby("shop").tail(4)
    found = read(new, own[own["v"] != 119], tmp_path)
    assert len(found["a"].values) == LENGTH
    assert "rows of own.csv before those of new.csv, joined as their past: 112 of 2 series" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"new\.csv, row 3, column v: 7 of the series 'a', and 57 in the domain's own"):
        read(new.replace({"v": {57.0: 7.0}}), own, tmp_path)
    # What is scored is the new rows alone, by what is known of their past.
    scored = read(new, own, tmp_path, ahead=0)["a"]
    assert len(scored.values) - scored.past == 4
    assert scored.past > 0
    read(own[own["v"] < 50], own, tmp_path)
    assert "rows of own.csv later than the last value here, not used: 10 (a: 10)" in capsys.readouterr().err
    # Between the known past and the new rows there may be a gap like any other.
    assert len(read(own.groupby("shop").tail(5), own[own["v"] % LENGTH < 40], tmp_path)["a"].values) == 5


def test_what_a_gap_leaves_too_little_of_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = panel("hours")
    own[~own["v"].isin([54, 55, 56])].to_csv(tmp_path / "new.csv", index=False)
    found = read_sequences(tmp_path / "new.csv", prepare(), tmp_path, 3, wanted=Wanted(least=12))
    assert list(found) == ["b"]
    said = capsys.readouterr().err
    assert "series that have no answer: 1 of 2 ('a': a gap ends before 2024-03-03 14:00" in said
    assert "has 3 steps of 12 that are needed" in said


def test_a_new_series_that_is_shorter_than_is_needed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = panel("hours")
    own[(own["shop"] == "b") | (own["v"] < 6)].to_csv(tmp_path / "new.csv", index=False)
    assert list(read_sequences(tmp_path / "new.csv", prepare(), tmp_path, 3, wanted=Wanted(least=12))) == ["b"]
    assert "('a': it has 6 steps of 12 that are needed; give what is missing)" in capsys.readouterr().err


def test_likelihoods_are_of_the_new_rows_and_rest_on_the_domains_own_before_them(tmp_path: Path) -> None:
    own = panel("hours")
    (tmp_path / "raw").mkdir()
    own[own["v"] % LENGTH < 50].to_csv(tmp_path / "raw/own.csv", index=False)
    own[own["v"] % LENGTH >= 47].to_csv(tmp_path / "new.csv", index=False)

    def score(values: dict[str, np.ndarray]) -> pd.DataFrame:
        parts = [
            pd.DataFrame({"id": name, "step": np.arange(1, len(y) + 1), "log_prob": y[:, 0]})
            for name, y in values.items()
        ]
        return pd.concat(parts, ignore_index=True)

    model = SimpleNamespace(units=SimpleNamespace(kind="vectors"), score=score, unfit=lambda y: None, covariates=None)
    asked = Asked("own", tmp_path / "new.csv", None, None, None, None, None)
    found = answer(model, "score", asked, prepare(), tmp_path / "raw", [])
    assert found["log_prob"].tolist() == [*range(47, 60), *range(107, 120)]
    assert list(found["time"]) == [*moments("hours")[47:60]] * 2


@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul"])
@pytest.mark.parametrize("step", ["h", "D"])
def test_an_offset_is_kept(zone: str, step: str, tmp_path: Path) -> None:
    at = pd.date_range("2024-03-01", periods=40, freq=step, tz=zone)
    own = pd.DataFrame({"at": [one.isoformat() for one in at], "shop": "a", "v": np.arange(40.0)})
    found = read(own, own, tmp_path)["a"]
    for one in (*found.stamps, *found.ahead):
        assert one.utcoffset() == at[0].utcoffset()
    assert found.ahead[0] == at[-1] + (at[1] - at[0])
    assert list(found.stamps) == list(at)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("%Y-%m-%d %H:%M+09:00", "are with an offset .* are without an offset"),
        ("%Y-%m", "are written as a month .* a moment"),
    ],
)
def test_times_of_another_kind_are_told_from_the_domains_own(form: str, message: str, tmp_path: Path) -> None:
    own = panel("months").assign(at=np.tile(moments("months")[:LENGTH].strftime("%Y-%m-%d"), 2))
    new = own.assign(at=pd.to_datetime(own["at"]).dt.strftime(form))
    with pytest.raises(UserError, match=rf"new\.csv, column at: its times {message}"):
        read(new, own, tmp_path)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"encoding": "utf-16"}, "read as utf-16"),
        ({"sep": ";", "decimal": ","}, r"parted by ';'.*numbers are not written as.*'0,5' is 0\.5"),
        ({"sep": "\t"}, r"parted by '\\t'"),
    ],
)
def test_a_table_may_be_written_in_another_way(
    how: dict[str, str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = panel("hours").assign(v=np.arange(2.0 * LENGTH) + 0.5)
    (tmp_path / "raw").mkdir()
    own.to_csv(tmp_path / "raw/own.csv", index=False)
    own.to_csv(tmp_path / "new.csv", index=False, **how)
    found = read_sequences(tmp_path / "new.csv", prepare(), tmp_path / "raw", 3)
    np.testing.assert_array_equal(found["b"].values[:, 0], np.arange(LENGTH, 2 * LENGTH) + 0.5)
    assert re.search(said, capsys.readouterr().err, re.DOTALL)


def test_recordings_are_named_by_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, length in (("high/0.wav", 1600), ("low/0.wav", 1600), ("low/1.wav", 100), ("list.txt", 0)):
        path = tmp_path / "tones" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("x")
            continue
        with wave.open(str(path), "wb") as opened:
            opened.setparams((1, 2, 16000, 0, "NONE", ""))
            opened.writeframes(np.random.default_rng(0).integers(-9, 9, length).astype("<i2").tobytes())
    data = {"format": "wav", "labels": "folder", "rate": 16000, "frame": 410, "shift": 160, "order": 12}
    assert list(read_sequences(tmp_path / "tones", {"data": data}, tmp_path, 0)) == ["high/0.wav", "low/0.wav"]
    said = capsys.readouterr().err
    assert "shorter than two frames, left out: 1 (low/1.wav)" in said
    assert "do not end in .wav, left out: 1 (list.txt)" in said
    assert list(read_sequences(tmp_path / "tones/low/0.wav", {"data": data}, tmp_path, 0)) == ["0.wav"]
    with pytest.raises(UserError, match="a folder; expected a table"):
        read_sequences(tmp_path / "tones", {"data": {"format": "table"}}, tmp_path, 0)


def test_texts_of_a_folder_are_named_by_their_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("a/1.txt", "very\ngood"), ("b/1.txt", "bad"), ("b/2.txt", "")):
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / name).write_text(text)
    found = read_texts(tmp_path / "new", {"target_columns": {"files": "folder"}})
    assert found == {"a/1.txt": "very\ngood", "b/1.txt": "bad", "b/2.txt": ""}
    assert "blank texts, which have no answer: 1 of 3 (b/2.txt)" in capsys.readouterr().err
    for own in ({"target_columns": ["text"]}, {"target_columns": COLUMNS}, {"corpora": {"own": {"format": "lines"}}}):
        with pytest.raises(UserError, match="new: a folder; the domain's own texts are lines or cells"):
            read_texts(tmp_path / "new", own)


def test_several_columns_that_name_a_series_come_back(tmp_path: Path) -> None:
    frame = panel("months").assign(item="x/y")
    frame.to_csv(tmp_path / "new.csv", index=False)
    own = prepare(target={"file": "own.csv", "key": ["item", "shop"], "time": "at", "value": "v"})
    answers = pd.DataFrame({"id": ["x/y/a", "x/y/b"], "mean": [0.0, 1.0]})
    found = keyed(answers, read_sequences(tmp_path / "new.csv", own, tmp_path, 1))
    assert found.to_dict("list") == {"item": ["x/y"] * 2, "shop": ["a", "b"], "mean": [0.0, 1.0]}


WRONG: dict[str, tuple[Any, str]] = {
    "no time": (lambda frame: frame.assign(at=frame["at"].where(frame["v"] != 3, "soon")), r"row 5, column at: 'soon'"),
    "no row": (lambda frame: frame.head(0), "no row below the header"),
    "no value": (lambda frame: frame.assign(v=np.nan), "no series can be answered: 'a': it has no value"),
    "no number": (lambda frame: frame.assign(v="many"), r"row 2, column v: 'many' is not a number"),
    "no name": (
        lambda frame: frame.assign(shop=frame["shop"].where(frame["v"] != 3)),
        "row 5, column shop: an empty",
    ),
    "no column": (lambda frame: frame.drop(columns="v"), "no column 'v'"),
    "two values": (lambda frame: pd.concat([frame, frame.tail(1).assign(v=7)]), r"row 122, column at: .* row 121 too"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_line(name: str, tmp_path: Path) -> None:
    change, message = WRONG[name]
    own = panel("hours")
    with pytest.raises(UserError, match=message) as raised:
        read(change(own), own, tmp_path)
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------------------------------------------------- answers


def model_of(**answers: Any) -> Any:
    return SimpleNamespace(
        units=SimpleNamespace(kind="vectors"), covariates=None, shortest=0, unfit=lambda values: None, **answers
    )


def test_answers_have_the_times_of_their_steps(tmp_path: Path) -> None:
    own = panel("business days")
    (tmp_path / "raw").mkdir()
    own.to_csv(tmp_path / "raw/own.csv", index=False)
    own.groupby("shop").tail(2).to_csv(tmp_path / "new.csv", index=False)

    def forecast(values: dict[str, np.ndarray], steps: int, *, levels: tuple[float, ...]) -> pd.DataFrame:
        assert {name: one[-2:].tolist() for name, one in values.items()} == {
            "a": [[58.0], [59.0]],
            "b": [[118.0], [119.0]],
        }
        return pd.DataFrame(
            {"id": np.repeat(list(values), steps), "step": np.tile(range(1, steps + 1), 2), "mean": 0.0}
        )

    asked = Asked("own", tmp_path / "new.csv", None, None, 3, (0.5,), None)
    found = answer(model_of(forecast=forecast), "forecast", asked, prepare(), tmp_path / "raw", [])
    assert list(found.columns) == ["id", "time", "mean"]
    assert found["time"].tolist() == [*moments("business days")[LENGTH : LENGTH + 3]] * 2


def test_what_can_be_known_to_be_wrong_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    asked = {"domain": "own", "file": tmp_path, "question": None, "model": None}
    for words, message in (
        ({"out": tmp_path / "no/out.csv"}, "there is no folder"),
        ({"out": tmp_path}, "a folder"),
        ({"steps": 10**6}, "--steps 1000000: expected 10000 at most"),
        ({"levels": (0.1, 0.1)}, "expected each level once"),
        ({"levels": (0.0,)}, "found 0, expected numbers between 0 and 1"),
        ({"file": tmp_path / "none.csv"}, "there is no such file"),
    ):
        with pytest.raises(UserError, match=message):
            checked(Asked(**{**asked, "steps": 1, "levels": (0.5,), "out": None, **words}))  # type: ignore[arg-type]


def test_the_question_is_what_a_model_is_made_for() -> None:
    headline = {"next_step": "nll", "forecast": "mase@16", "classify": "accuracy"}
    assert foremost(headline, {}) == "forecast"
    assert foremost(headline, {"data": {"format": "wav"}, "classes": ["a", "b"]}) == "classify"
    assert foremost(headline, {}, ["classify"]) == "classify"


@pytest.mark.parametrize(
    ("words", "question", "message"),
    [
        ({"steps": 3}, "classify", "--steps 3: classify looks at no steps ahead"),
        ({"levels": (0.5,)}, "score", "--levels: score answers no quantiles"),
        ({"out": Path("o.xlsx")}, "forecast", r"o\.xlsx: expected a name that ends in \.parquet or \.csv"),
        ({"out": Path("o.xlsx")}, "translate", r"o\.xlsx: expected a name that ends in \.txt"),
    ],
)
def test_an_option_that_a_question_has_no_use_for_is_refused(words: Any, question: str, message: str) -> None:
    asked = {"domain": "own", "file": Path("x"), "question": None, "model": None, "steps": None, "levels": None}
    with pytest.raises(UserError, match=message):
        fitting(Asked(**{**asked, "out": None, **words}), question)


def test_a_model_of_another_place_answers_for_a_domain_that_nothing_was_compared_on(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing was compared on it; `seqlab compare stocks_far` does that"):
        workspace_of("stocks_far", None)
    with pytest.raises(UserError, match=r"unknown; did you mean 'stocks_far'"):
        workspace_of("stocks_fa", tmp_path)
    with pytest.raises(UserError, match="nothing was compared on it"):
        compared("stocks_far")  # as `seqlab score` asks
    workspace, params = workspace_of("stocks_far", tmp_path)
    assert not workspace.home.exists()
    assert params["domains"]["stocks_far"]["prepare"]["target"]["price"] == "Adj Close"


def test_where_nothing_was_compared_the_domains_own_file_is_read_where_it_is(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "own.csv"
    tree = {"prepare": {"target": {"file": "own.csv"}}, "archives": {"panels": {"registry": "file", "path": str(own)}}}
    workspace = Workspace(tmp_path)
    assert raw_of(workspace, "sales", tree) == own
    assert raw_of(workspace, "sales", {"prepare": {"data": {}}, "archives": {}}) == tmp_path / "data/raw/sales"
    (tmp_path / "data/raw/sales").mkdir(parents=True)
    assert raw_of(workspace, "sales", tree) == tmp_path / "data/raw/sales"


def test_a_control_that_is_ahead_of_the_winner_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from seqlab.cli import predict

    def row(family: str, strategy: str, value: str, control: str = "false") -> dict[str, str]:
        names = {"domain": "own", "task": "forecast", "metric": "mase@3", "control": control}
        return {**names, "family": family, "strategy": strategy, "value": value}

    rows = [row("seasonal_naive", "control", "1.56", "true"), row("median", "ensemble", "1.6")]
    monkeypatch.setattr(predict, "leaderboard", lambda home: [*rows, row("ets", "scratch", "2.12")])
    (tmp_path / "params.yaml").write_text("suite: {seeds: [4]}\n")
    found = predict.winner(Workspace(tmp_path), "own", "forecast", {"forecast": "mase@3"})
    assert found == tmp_path / "models/own/ets/scratch/4"
    said = capsys.readouterr().err
    assert "seasonal naive (1.56): ahead in forecast, but a control, and no model; ets · scratch (2.12) answers" in said
    assert "median · ensemble: ahead in forecast, but no single model; ets · scratch (2.12) answers" in said
