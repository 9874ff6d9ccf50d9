"""A model that this project did not fit is judged as its own are; tables of Nixtla's and AutoGluon's are understood."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.evaluation import controls, judge, leaderboard, metrics, outside
from seqlab.evaluation.leaderboard import CONTROL, Entry
from seqlab.evaluation.metrics import FORECAST, LEVELS
from seqlab.evaluation.outside import OUTSIDE

DOMAIN = SimpleNamespace(characters=False, transform="log1p")
SETTINGS = SimpleNamespace(horizons=[1, 6], origins=2, samples=99, period=4)


def panel(channels: int = 1, count: int = 16) -> Sequences:
    """Trend and season of period 4, in logarithms of values."""
    rng = np.random.default_rng(0)
    t = np.arange(48)[:, None]
    series = [
        3 + 0.01 * t + 0.3 * np.sin(np.pi * t / 2 + rng.uniform(0, 6)) + rng.normal(0, 0.03, (48, channels))
        for _ in range(count)
    ]
    return Sequences.from_arrays([one.astype(np.float32) for one in series], first=np.full(count, 40))


TEST = panel()
Rows = list[dict[str, Any]]


def predictions(made: list[metrics.Forecast], model: str, levels: tuple[int, ...] = (80, 95)) -> Rows:
    """As Nixtla's libraries write them."""
    rows = []
    for one in made:
        for step in range(len(one.truth)):
            for c in range(one.truth.shape[1]):
                name = str(one.series) if one.truth.shape[1] == 1 else f"{one.series}:{c}"
                row = {"unique_id": name, "ds": one.origin + step, "cutoff": one.origin - 1, "y": one.truth[step, c]}
                row[model] = one.median[step, c]
                for level in levels:
                    tail = (1 - level / 100) / 2
                    for side, wanted in (("lo", tail), ("hi", 1 - tail)):
                        row[f"{model}-{side}-{level}"] = one.quantiles[LEVELS.index(round(wanted, 6)), step, c]
                rows.append(row)
    return rows


def write(rows: Rows, path: Path) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def naive(test: Sequences = TEST) -> list[metrics.Forecast]:
    model = controls.SeasonalNaive(4)
    return judge.forecasts(model, DOMAIN, test, SETTINGS, SETTINGS.horizons, SETTINGS.origins, seed=0)


def same(found: metrics.Scores, expected: metrics.Scores) -> None:
    assert found.ratios
    for key, one in found.ratios.items():
        np.testing.assert_array_equal(one.example, expected.ratios[key].example)
        np.testing.assert_allclose(one.numerator, expected.ratios[key].numerator, rtol=1e-9)
        np.testing.assert_allclose(one.denominator, expected.ratios[key].denominator, rtol=1e-9)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_of_our_own_forecasts_has_our_own_scores(kind: str, tmp_path: Path) -> None:
    made = naive()
    path = write(predictions(made, "Naive", (20, 40, 60, 80, 95)), tmp_path / f"mine.{kind}")
    (found,) = outside.forecasts(path, TEST, DOMAIN, SETTINGS)
    assert (found.name, found.notes) == ("Naive", [])
    expected = metrics.forecast_scores(made, SETTINGS.horizons)
    assert set(found.scores.ratios) == set(expected.ratios)
    same(found.scores, expected)


def test_steps_that_were_not_recorded_are_asked_for_and_not_scored(tmp_path: Path) -> None:
    """Whose values stand in for them is in the table of the history."""
    filled = TEST.scored & (np.random.default_rng(0).random(len(TEST.values)) < 0.3)
    gappy = replace(TEST, filled=filled)
    path = write(predictions(naive(), "Naive", (20, 40, 60, 80, 95)), tmp_path / "mine.csv")
    (found,) = outside.forecasts(path, gappy, DOMAIN, SETTINGS)
    assert outside.cutoffs(gappy, SETTINGS) == outside.cutoffs(TEST, SETTINGS)
    expected = metrics.forecast_scores(naive(gappy), SETTINGS.horizons)
    assert expected.ratios[FORECAST, "coverage80@6"].denominator.sum() < 16 * 2 * 6
    same(found.scores, expected)


def test_several_channels(tmp_path: Path) -> None:
    test = panel(channels=2, count=3)
    made = naive(test)
    path = write(predictions(made, "Naive", (20, 40, 60, 80, 95)), tmp_path / "mine.csv")
    (found,) = outside.forecasts(path, test, DOMAIN, SETTINGS)
    same(found.scores, metrics.forecast_scores(made, SETTINGS.horizons))
    assert set(outside.cutoffs(test, SETTINGS)["unique_id"].to_pylist()) == {
        f"{i}:{c}" for i in range(3) for c in (0, 1)
    }


@pytest.mark.slow
def test_holt_winters_of_statsmodels_joins_the_table_and_wins(tmp_path: Path) -> None:
    """From the two exported tables alone, as a stranger would do it."""
    values = outside.history(TEST, DOMAIN).to_pandas()
    rows = []
    for name, cutoff, ahead in outside.cutoffs(TEST, SETTINGS).to_pandas().itertuples(index=False):
        y = values.loc[(values.unique_id == name) & (values.ds <= cutoff), "y"].to_numpy()
        model = ExponentialSmoothing(y, trend="add", seasonal="add", seasonal_periods=4).fit()
        paths = model.simulate(ahead, repetitions=200, rng=np.random.default_rng(0))
        rows += [
            {"unique_id": name, "cutoff": cutoff, "ds": cutoff + 1 + k, "HoltWinters": point,
             "HoltWinters-lo-80": low, "HoltWinters-hi-80": high}
            for k, (point, low, high) in enumerate(zip(model.forecast(ahead), *np.quantile(paths, [0.1, 0.9], axis=1),
                                                       strict=True))
        ]  # fmt: skip
    (found,) = outside.forecasts(write(rows, tmp_path / "holt.parquet"), TEST, DOMAIN, SETTINGS)
    assert found.notes == ["not scored, for want of quantiles: coverage95, wql"]
    assert 0.5 < metrics.value_of(found.scores, FORECAST, "coverage80@6") <= 1
    control = Entry("series", "seasonal_naive", CONTROL, 0, metrics.forecast_scores(naive(), SETTINGS.horizons))
    table = [row for row in leaderboard.build([found.entry("series"), control], 500, 0) if row.metric == "mase@6"]
    assert (table[0].system, table[0].strategy, table[0].best) == (f"HoltWinters · {OUTSIDE}", OUTSIDE, False)
    assert table[0].beats_control


def test_autogluon_with_dates_is_called_as_its_file(tmp_path: Path) -> None:
    made = naive()
    rows = []
    for one in made:
        for step in range(len(one.truth)):
            day = pd.Timestamp(outside.EPOCH) + pd.Timedelta(days=one.origin + step)
            known = pd.Timestamp(outside.EPOCH) + pd.Timedelta(days=one.origin - 1)
            levels = {str(level): one.quantiles[LEVELS.index(level), step, 0] for level in metrics.DECILES}
            rows.append({"item_id": str(one.series), "timestamp": day, "cutoff": known, "mean": 0.0, **levels})
    expected = metrics.forecast_scores(made, SETTINGS.horizons)
    (found,) = outside.forecasts(write(rows, tmp_path / "chronos.parquet"), TEST, DOMAIN, SETTINGS)
    assert found.name == "chronos"
    assert found.notes == ["not scored, for want of quantiles: coverage95"]
    same(found.scores, expected)
    text = [{name: value for name, value in row.items() if name != "0.5"} for row in rows]
    (point,) = outside.forecasts(write(text, tmp_path / "mean.csv"), TEST, DOMAIN, SETTINGS)
    assert metrics.value_of(point.scores, FORECAST, "mase@1") > metrics.value_of(found.scores, FORECAST, "mase@1")


def test_several_models_medians_crossings_and_rows_that_are_not_used(tmp_path: Path) -> None:
    rows = predictions(naive(), "First", (80,))
    for row in rows:
        row |= {"Second": 0.0, "Second-median": row["First"]}
    rows[0]["First-lo-80"], rows[0]["First-hi-80"] = rows[0]["First-hi-80"], rows[0]["First-lo-80"]
    extra = {**rows[0], "cutoff": 3, "y": 1e9}
    first, second = outside.forecasts(write([*rows, extra], tmp_path / "two.csv"), TEST, DOMAIN, SETTINGS)
    assert (first.name, second.name) == ("First", "Second")
    assert first.notes == [
        "1 rows of other series, cutoffs or steps not used",
        "not scored, for want of quantiles: coverage95, wql",
        "quantiles of 1 steps crossed, and were put in order",
    ]
    assert {metric for _, metric in second.scores.ratios} == {"mase@1", "mase@6", "rmsse@1", "rmsse@6"}
    expected = metrics.forecast_scores(naive(), SETTINGS.horizons)
    same(second.scores, expected)
    same(first.scores, expected)


BROKEN: dict[str, tuple[Callable[[Rows], Any], str]] = {
    "no cutoff": (lambda rows: [row.pop("cutoff") for row in rows], "bad.csv: no column 'cutoff', found unique_id"),
    "no series": (lambda rows: [row.pop("unique_id") for row in rows], "no column 'unique_id' or 'item_id'"),
    "no model": (lambda rows: [row.pop(name) for row in rows for name in ("M", "M-lo-80", "M-hi-80")], "of a model"),
    "no point": (lambda rows: [row.pop("M") for row in rows], "no column 'M' or 'M-median', found M-lo-80, M-hi-80"),
    "missing": (lambda rows: rows.pop(3), "no forecast of series 0 for step 43 at cutoff 39; the table has 111 rows"),
    "twice": (lambda rows: rows.append(rows[2]), "row 114: series 0, cutoff 39, step 42 stand in row 4 already"),
    "text": (lambda rows: rows[1].update(M="n/a"), r"bad.csv, row 3: M is 'n/a'; expected a finite number"),
    "infinite": (lambda rows: rows[0].update(M=float("inf")), r"row 2: M is 'inf'; expected a finite number"),
    "other data": (lambda rows: rows[4].update(y=1.0), "row 6: y is 1, the test has .*; the predictions are of other"),
    "half a step": (lambda rows: rows[0].update(ds=1.5), "row 2: ds is '1.5'; expected a step's number, or a day"),
    "an hour": (lambda rows: rows[0].update(ds="2000-01-01T05:00"), "expected a step's number, or a day counted from"),
    "nothing": (lambda rows: rows.clear(), "the file is empty|no rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named(name: str, tmp_path: Path) -> None:
    breaking, message = BROKEN[name]
    rows = predictions(naive(), "M", (80,))
    breaking(rows)
    path = tmp_path / "bad.csv"
    if rows:
        write(rows, path)
    else:
        path.write_text("unique_id,ds,cutoff,M\n")
    with pytest.raises(UserError, match=message):
        outside.forecasts(path, TEST, DOMAIN, SETTINGS)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    for name, content, message in (
        ("a.xlsx", b"PK", "expected a table called .csv or .parquet"),
        ("a.parquet", b"text", "not a Parquet file"),
        ("a.csv", b"unique_id,ds\n1\n", "row 2: 1 cells, expected 2"),
        ("b.csv", b"unique_id,M,M\n1,2,3\n", "two columns are called 'M'"),
        ("c.csv", b'unique_id\n"1\n', "not CSV"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=message):
            outside.forecasts(tmp_path / name, TEST, DOMAIN, SETTINGS)
    with pytest.raises(UserError, match=r"none.csv: missing"):
        outside.forecasts(tmp_path / "none.csv", TEST, DOMAIN, SETTINGS)


# Classes


NAMES = ["walk", "run", "rest"]
LABELS = np.arange(30) % 3
LABELLED = Sequences.from_arrays(
    [np.random.default_rng(k).normal(label, 0.7, (9, 2)).astype(np.float32) for k, label in enumerate(LABELS)],
    labels=LABELS,
)


def answers() -> Rows:
    features = np.stack([one.mean(0) for one in LABELLED])
    probs = LogisticRegression().fit(features, LABELS).predict_proba(features)
    return [{"example": k, **dict(zip(NAMES, row.tolist(), strict=True))} for k, row in enumerate(probs)]


def test_class_probabilities_of_scikit_learn_in_any_order(tmp_path: Path) -> None:
    rows = answers()
    found = outside.classes(write(rows[::-1], tmp_path / "forest.csv"), LABELLED, NAMES)
    assert (found.name, found.notes) == ("forest", [])
    guessed = np.array([[row[name] for name in NAMES] for row in rows]).argmax(1)
    assert metrics.value_of(found.scores, "classify", "accuracy") == (guessed == LABELS).mean()


def test_certainty_of_a_wrong_class_is_raised_and_said(tmp_path: Path) -> None:
    rows = [row | dict(zip(NAMES, (0.0, 1.0, 0.0), strict=True)) if row["example"] == 0 else row for row in answers()]
    found = outside.classes(write([*rows, {**rows[0], "example": 77}], tmp_path / "a.parquet"), LABELLED, NAMES)
    assert found.notes == ["1 rows of other examples not used",
                           "1 true classes had a probability below 1e-15, which was raised to it"]  # fmt: skip
    assert np.isfinite(metrics.value_of(found.scores, "classify", "log_loss"))


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda rows: rows[2].update(walk=0.9, run=0.9), r"row 4: the classes' probabilities sum to"),
        (lambda rows: rows.pop(7), r"no row of example 7 \(0 more\); the test has 30"),
        (lambda rows: rows.append(rows[7]), "example 7 is there more than once"),
        (lambda rows: [row.pop("run") for row in rows], "no column 'run', found example, walk, rest"),
    ],
)
def test_what_is_wrong_with_class_probabilities_is_named(
    breaking: Callable[[Rows], Any], message: str, tmp_path: Path
) -> None:
    rows = answers()
    breaking(rows)
    with pytest.raises(UserError, match=message):
        outside.classes(write(rows, tmp_path / "bad.csv"), LABELLED, NAMES)
