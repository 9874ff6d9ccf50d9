"""A file of new data is read as the domain's own was, and what is mended in it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from seqlab.cli.new_data import read_rows, read_texts
from seqlab.cli.predict import Asked, answer
from seqlab.errors import UserError


def test_texts_to_predict_on_are_those_of_the_domains_own_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.csv"
    path.write_text('id,review\n1,very good\n2,"bad, very"\n')
    columns = {"text": "review", "label": "label"}
    assert read_texts(path, {"target_columns": columns}) == ["very good", "bad, very"]
    assert (
        read_texts(path, {"corpora": {"own": {"format": "table", "columns": ["review", "korean"]}}})[0] == "very good"
    )
    with pytest.raises(UserError, match=r"new\.csv.*comment"):
        read_texts(path, {"target_columns": {"text": "comment"}})
    with pytest.raises(UserError, match="one text a line"):
        read_texts(path, {"target_columns": ["text"]})
    (tmp_path / "new.txt").write_text("very good\n\nbad, very\n")
    assert read_texts(tmp_path / "new.txt", {"target_columns": columns}) == ["very good", "bad, very"]
    assert "blank texts, which have no answer: 1 (row 2)" in capsys.readouterr().err
    (tmp_path / "new.txt").write_text(" \n\n")
    with pytest.raises(UserError, match="every text is blank"):
        read_texts(tmp_path / "new.txt", {"target_columns": columns})


def test_a_missing_value_is_carried_as_in_the_data_that_models_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("day,shop,v\n2024-01-01,a,1\n2024-01-01,b,5\n2024-01-03,a,3\n2024-01-02,a,\n2024-01-02,b,\n")
    prepare = {"carried": 1, "target": {"key": ["shop"], "time": "day", "channels": ["v"]}}
    frame = read_rows(path, prepare).frame
    assert frame["v"].tolist() == [1, 5, 3, 1, 5]
    assert "for which the last one before stands: 2\n" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"new\.csv, row 5, column v: missing; a model needs every step"):
        read_rows(path, prepare | {"carried": 0})
    with open(path, "a", encoding="utf-8") as file:
        file.write("2024-01-03,b,\n")
    with pytest.raises(UserError, match=r"row 7, column v: missing, with no value in the 1 steps before"):
        read_rows(path, prepare)


CALENDARS = {
    "hours": ("2024-03-01 05:00", "h", "%Y-%m-%d %H:%M"),
    "business days": ("2024-03-01", "B", "%Y-%m-%d"),
    "month ends": ("2020-01-31", "ME", "%Y-%m-%d"),
    "months": ("2020-01-01", "MS", "%Y-%m"),
    "weeks": ("2024-01-01", "7D", "%d.%m.%Y"),
}


def panel(calendar: str, rng: np.random.Generator) -> pd.DataFrame:
    """Two series of 60 steps and other values at each, in no order."""
    begin, step, form = CALENDARS[calendar]
    at = pd.date_range(begin, periods=60, freq=step).strftime(form)
    whole = pd.DataFrame({"at": np.tile(at, 2), "shop": np.repeat(["a", "b"], 60), "v": np.arange(120.0)})
    return whole.sample(frac=1, random_state=int(rng.integers(2**31)))


@pytest.mark.parametrize("calendar", CALENDARS)
def test_missing_steps_are_carried_as_in_the_data_that_models_know(
    calendar: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(len(calendar))
    whole = panel(calendar, rng)
    # Of series a two steps in a row, of b one, within.
    gone = whole["v"].isin([20, 21, 40, 97])
    whole[~gone].to_csv(tmp_path / "new.csv", index=False)
    prepare = {"steps": "time", "carried": 2, "target": {"key": ["shop"], "time": "at", "channels": ["v"]}}
    rows = read_rows(tmp_path / "new.csv", prepare)
    found = rows.frame.sort_values(["id", "at"], ignore_index=True)
    expected = np.arange(120.0)
    expected[[20, 21, 40, 97]] = [19, 19, 39, 96]
    assert found["v"].tolist() == expected.tolist()
    assert "for which the last one before stands: 4; steps that have no row: 4" in capsys.readouterr().err
    whole.to_csv(tmp_path / "whole.csv", index=False)
    complete = read_rows(tmp_path / "whole.csv", prepare).frame.sort_values(["id", "at"], ignore_index=True)
    assert found["at"].tolist() == complete["at"].tolist()
    assert found["id"].tolist() == complete["id"].tolist()
    assert rows.latest.all()
    assert capsys.readouterr().err == ""


class Echo:
    """Forecasts the last value, and says what it was given."""

    class units:
        kind = "vectors"

    covariates = None

    def forecast(self, frame: pd.DataFrame, steps: int, *, levels: object, **names: str) -> pd.DataFrame:
        self.frame, self.names = frame, names
        return frame.tail(1)[[names["time"]]].rename(columns={names["time"]: "time"}) if "time" in names else frame


def asked(model: Any, path: Path, prepare: dict[str, Any]) -> pd.DataFrame:
    found = answer(model, "forecast", Asked("own", path, None, None, 1, (0.5,), None), {"prepare": prepare})
    assert isinstance(found, pd.DataFrame)
    return found


def test_a_forecast_begins_after_a_gap_that_is_too_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = panel("hours", np.random.default_rng(0))
    whole[~whole["v"].isin([*range(20, 24), 30, 100])].to_csv(tmp_path / "new.csv", index=False)
    prepare = {"steps": "time", "carried": 2, "target": {"key": ["shop"], "time": "at", "channels": ["v"]}}
    model = Echo()
    asked(model, tmp_path / "new.csv", prepare)
    kept = model.frame.sort_values(["id", "at"])
    expected = np.array([*range(24, 60), *range(60, 120)], float)
    expected[[6, 76]] = [29, 99]
    assert kept["v"].tolist() == expected.tolist()
    assert "20 rows before a gap" in capsys.readouterr().err


def test_of_steps_that_are_rows_the_answer_counts_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = panel("hours", np.random.default_rng(0))
    whole[~whole["v"].isin([20, 30])].to_csv(tmp_path / "new.csv", index=False)
    prepare = {"steps": "rows", "carried": 0, "target": {"key": ["shop"], "time": "at", "channels": ["v"]}}
    model = Echo()
    asked(model, tmp_path / "new.csv", prepare)
    assert model.names == {"id": "id"}
    assert model.frame["v"].tolist() != whole["v"].tolist()
    assert model.frame[model.frame["id"] == "b"]["v"].tolist() == list(range(60, 120))
    assert "the answer counts steps" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "scale"), [(0, 10), (5, 1), (0, 1)])
def test_numbers_that_are_times_come_back_as_the_file_has_them(first: int, scale: int, tmp_path: Path) -> None:
    at = [f"{i / scale:g}" for i in range(first, first + 40)]
    pd.DataFrame({"at": at, "v": np.arange(40.0)}).to_csv(tmp_path / "new.csv", index=False)
    prepare = {"steps": "time", "carried": 0, "target": {"key": [], "time": "at", "channels": ["v"]}}
    [last] = asked(Echo(), tmp_path / "new.csv", prepare)["time"]
    assert last == float(at[-1])
