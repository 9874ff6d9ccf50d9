"""A file of new data is read as the domain's own was, and what is mended in it is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.tseries.offsets import BMonthEnd

from seqlab.cli.new_data import read_sequences, read_texts
from seqlab.cli.predict import Asked, answer, checked, write
from seqlab.data.beside import Names
from seqlab.errors import UserError

COLUMNS = {"text": "review", "label": "label"}


# --------------------------------------------------------------------------------------------------------------- texts


def test_texts_to_predict_on_are_those_of_the_domains_own_column(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text('id,review\n1,very good\n2,"bad, very"\n')
    assert read_texts(path, {"target_columns": COLUMNS}) == ["very good", "bad, very"]
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
        translate=lambda texts: [text.upper() for text in texts.values()],
        score=list,
    )
    asked = Asked("own", path, None, None, 1, (0.5,), None)
    assert answer(model, "translate", asked, {}, tmp_path, []) == ["VERY GOOD", "", "BAD, VERY"]
    assert "blank texts, which have no answer: 1 (row 2)" in capsys.readouterr().err
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
        expected = np.arange(LENGTH * (number + 1) - rows, LENGTH * (number + 1))
        np.testing.assert_array_equal(found[name].values[:, 0], expected)
        assert list(found[name].ahead) == list(following)
        assert list(found[name].stamps) == list(moments(calendar)[LENGTH - rows : LENGTH])


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
    assert "missing steps for which the last value before stands: 3\n" in capsys.readouterr().err


def test_a_series_begins_after_a_gap_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = panel("hours")
    new = own[~own["v"].isin([*range(20, 24), 100])].replace({"v": {60.0: np.nan, 119.0: np.nan}})
    found = read(new, own, tmp_path)
    np.testing.assert_array_equal(found["a"].values[:, 0], np.arange(24, 60))
    np.testing.assert_array_equal(found["b"].values[:, 0], [*range(61, 100), 99, *range(101, 119)])
    assert list(found["b"].ahead) == list(moments("hours")[LENGTH - 1 : LENGTH + 2])
    said = capsys.readouterr().err
    assert "steps before a gap that is too long to carry values over, left out: 20\n" in said
    assert "rows without a value at the end, left out: 1\n" in said


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
        assert one.covariates["price"].tolist() == [5.0] * 11 + [7.0 if name[0] == "b" else 5.0]
        past = one.covariates["value 1"].to_numpy()
        np.testing.assert_array_equal(past[:9], one.values[:, 0])
        assert np.isnan(past[9:]).all()
        assert list(one.ahead or ()) == list(moments("months")[LENGTH - 3 : LENGTH])
    np.testing.assert_array_equal(found["b/w"].values, -found["b/v"].values)


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


WRONG: dict[str, tuple[Any, str]] = {
    "no time": (lambda frame: frame.assign(at=frame["at"].where(frame["v"] != 3, "soon")), r"row 5, column at: 'soon'"),
    "no row": (lambda frame: frame.head(0), "no row below the header"),
    "no value": (lambda frame: frame.assign(v=np.nan), "no series has a value"),
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
    return SimpleNamespace(units=SimpleNamespace(kind="vectors"), covariates=None, **answers)


def test_answers_have_the_times_of_their_steps(tmp_path: Path) -> None:
    own = panel("business days")
    (tmp_path / "raw").mkdir()
    own.to_csv(tmp_path / "raw/own.csv", index=False)
    own.groupby("shop").tail(2).to_csv(tmp_path / "new.csv", index=False)

    def forecast(values: dict[str, np.ndarray], steps: int, *, levels: tuple[float, ...]) -> pd.DataFrame:
        assert {name: one.tolist() for name, one in values.items()} == {"a": [[58.0], [59.0]], "b": [[118.0], [119.0]]}
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
    ):
        with pytest.raises(UserError, match=message):
            checked(Asked(**{**asked, "steps": 1, "levels": (0.5,), "out": None, **words}))  # type: ignore[arg-type]
