"""What a forecast's and a class's evaluation keep, and what a comparison joins from it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from test_conformal import Walk

from seqlab.artifacts import write_json
from seqlab.cells import Cell
from seqlab.data.prepared import LABELLED, TARGET, Meta, Prepared
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.evaluation import kept, leaderboard, metrics, scores
from seqlab.evaluation.leaderboard import ENSEMBLE, Entry, MeanCost
from seqlab.evaluation.metrics import CLASSIFY, FORECAST, INTERVALS
from seqlab.evaluation.settings import Comparing, SequenceEvaluation
from seqlab.settings import Strategy
from seqlab.stages import ensembles
from seqlab.stages.compare import Compared, Comparison, Measured, compare
from seqlab.tasks import judging
from seqlab.tasks.classify.judge import Judge as Classes
from seqlab.tasks.forecast.judge import Judge as Forecasts
from seqlab.tasks.judging import Judged
from seqlab.tasks.next_step.judge import Judge as NextStep

SETTINGS = SequenceEvaluation(
    headline={FORECAST: "mase@4", CLASSIFY: "accuracy"}, horizons=[1, 4], origins=3, samples=39, period=1
)
SERIES, LENGTH, HELD_OUT = 400, 40, 12


class Sign:
    """Two classes by a sequence's last value, as surely as `scale` says."""

    def __init__(self, scale: float):
        self.scale = scale

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        last = self.scale * x[np.arange(len(x)), mask.sum(1) - 1, 0].astype(np.float64)
        return np.stack([-np.logaddexp(0, last), -np.logaddexp(0, -last)], axis=1)


@pytest.fixture(scope="module")
def test(tmp_path_factory: pytest.TempPathFactory) -> judging.Test:
    """Walks, whose class is the sign of where they end."""
    folder = tmp_path_factory.mktemp("prepared")
    for seed, split in enumerate(("train", "valid", "test")):
        steps = np.random.default_rng(seed).standard_normal((SERIES, LENGTH, 1))
        values = np.cumsum(steps, axis=1).astype(np.float32)
        first = np.full(SERIES, LENGTH - HELD_OUT)
        Sequences.from_arrays(list(values), first=first).save(folder / TARGET / split)
        labels = (values[:, -1, 0] > 0).astype(np.int64)
        Sequences.from_arrays(list(values), labels=labels).save(folder / LABELLED / split)
    meta = Meta(kind="vectors", size=1, tasks=["next_step", "forecast", "classify"], classes=["down", "up"])
    return judging.Test(Prepared(folder, meta), SETTINGS, "walks", "walks/0", 0, None)


def value(found: Judged, task: str, metric: str) -> float:
    return metrics.value_of(found.scores, task, metric)


@pytest.mark.slow
def test_forecasts_are_judged_recalibrated_and_what_they_were_stands_beside(test: judging.Test) -> None:
    found = Forecasts().judge(Walk(0.4), test)
    for horizon in SETTINGS.horizons:
        for name, (_, _, nominal) in INTERVALS.items():
            assert abs(value(found, FORECAST, f"{name}@{horizon}") - nominal) < 0.05
            assert value(found, FORECAST, f"raw_{name}@{horizon}") < nominal - 0.15
        assert value(found, FORECAST, f"wql@{horizon}") < value(found, FORECAST, f"raw_wql@{horizon}")


def test_the_next_steps_intervals_are_mended_and_its_density_is_not(test: judging.Test) -> None:
    found = NextStep().judge(Walk(0.4), test)
    assert found.kept.recalibration is not None
    for name, (_, _, nominal) in INTERVALS.items():
        assert abs(value(found, "next_step", name) - nominal) < 0.05
        assert value(found, "next_step", f"raw_{name}") < nominal - 0.15
    changes = np.diff(np.stack(list(test.sequences(TARGET)))[..., 0].astype(np.float64))[:, -HELD_OUT:]
    assert value(found, "next_step", "nll") == pytest.approx(-norm.logpdf(changes, 0, 0.4).mean(), rel=1e-4)


@pytest.mark.slow
def test_what_is_kept_gives_the_scores_again(test: judging.Test, tmp_path: Path) -> None:
    found = Forecasts().judge(Walk(0.7, drift=0.2), test)
    found.kept.write(tmp_path)
    again = kept.forecasts_of(tmp_path)
    assert again is not None
    made = metrics.forecast_scores(again.test, SETTINGS.horizons)
    for task, metric in metrics.names_of(made):
        assert metrics.value_of(made, task, metric) == pytest.approx(value(found, task, metric), rel=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {kept.VALID, kept.TEST, kept.MAP}


def test_shuffled_positions_are_kept_for_nobody(test: judging.Test, tmp_path: Path) -> None:
    shuffled = replace(test, order="shuffled")
    for found in (Forecasts().judge(Walk(1.0), shuffled), Classes().judge(Sign(1.0), shuffled)):
        found.kept.write(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


# Ensembles

MODELS: dict[str, tuple[Any, Any]] = {
    "above": (Walk(1.0, drift=0.5), Sign(0.02)),
    "below": (Walk(1.0, drift=-0.5), Sign(3.0)),
    "wild": (Walk(6.0), Sign(-1.0)),
}


@pytest.fixture(scope="module")
def scored(test: judging.Test, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Cell], list[Entry]]:
    """Three systems' scores and what was kept of them."""
    home, cells, entries = tmp_path_factory.mktemp("scores"), [], []
    for family, (forecaster, classifier) in MODELS.items():
        cell = Cell("walks", family, "scratch", 0)
        parts = {FORECAST: Forecasts().judge(forecaster, test), CLASSIFY: Classes().judge(classifier, test)}
        both = parts[FORECAST].scores | parts[CLASSIFY].scores
        scores.write(both, home / cell.path)
        for task, part in parts.items():
            part.kept.write(home / cell.path / task)
            entries.append(Entry("walks", family, "scratch", 0, both.of(task), 10, 5, 100.0, 0, 0.0))
        cells.append(cell)
    return home, cells, entries


@pytest.mark.slow
def test_ensembles_are_rows_like_any_other(scored: tuple[Path, list[Cell], list[Entry]]) -> None:
    home, cells, entries = scored
    found = ensembles.build(cells, {"walks": SETTINGS}, entries, home, rounds=20)
    assert [(one.task, one.entry.family) for one in found] == [
        (task, name) for task in (FORECAST, CLASSIFY) for name in (ensembles.MEDIAN, ensembles.SELECTED)
    ]
    rows = leaderboard.build([*entries, *(one.entry for one in found)], 200, 0)
    by_name = {(row.metric, row.system): row for row in rows}
    for metric in ("mase@4", "accuracy"):
        for name in (ensembles.MEDIAN, ensembles.SELECTED):
            row = by_name[metric, f"{name} · {ENSEMBLE}"]
            assert row.low < row.value < row.high or row.value in (0.0, 1.0)
            assert row.difference_from_best is not None or row.best
    middle = by_name["mase@4", f"median · {ENSEMBLE}"]
    assert (middle.parameters, middle.train_flops) == (30, 300.0)


@pytest.mark.slow
def test_opposite_drifts_are_selected_together_and_told(scored: tuple[Path, list[Cell], list[Entry]]) -> None:
    home, cells, entries = scored
    made = ensembles.build(cells, {"walks": SETTINGS}, entries, home, 20)
    found = {(one.task, one.entry.family): one for one in made}
    selected = found[FORECAST, ensembles.SELECTED]
    assert {"above · scratch", "below · scratch"} <= set(selected.members)
    assert selected.told().startswith(f"selected · {ENSEMBLE}, seed 0, of up to step 1: ")
    assert found[CLASSIFY, ensembles.SELECTED].weights[0].get("below · scratch", 0) > 0.5
    assert "alike" in found[FORECAST, ensembles.MEDIAN].told()


@pytest.mark.slow
def test_an_ensemble_costs_its_members(scored: tuple[Path, list[Cell], list[Entry]]) -> None:
    home, cells, entries = scored
    found = ensembles.build(cells, {"walks": SETTINGS}, entries, home, 20)
    known = {("walks", FORECAST, name, "scratch"): MeanCost(2.0, 5.0, 10.0 * k) for k, name in enumerate(MODELS, 1)}
    made = ensembles.costs(found, known)
    assert made["walks", FORECAST, ensembles.MEDIAN, ENSEMBLE] == MeanCost(6.0, 5.0, 30.0)
    assert not [key for key in made if key[1] == CLASSIFY]  # of which nothing is known


def test_a_family_of_one_seed_joins_every_seed() -> None:
    cells = [Cell("walks", "gru", "scratch", seed) for seed in (0, 1)] + [Cell("walks", "ar", "scratch", 0)]
    assert [str(one) for one in ensembles._of_seed(cells, 1)] == ["walks-gru-scratch-s1", "walks-ar-scratch-s0"]


@pytest.mark.slow
def test_one_system_is_no_ensemble(scored: tuple[Path, list[Cell], list[Entry]]) -> None:
    home, cells, entries = scored
    assert ensembles.build(cells[:1], {"walks": SETTINGS}, entries, home, 20) == []
    assert ensembles.build(cells, {"walks": replace(SETTINGS, headline={"next_step": "nll"})}, entries, home, 20) == []


# The comparison


def compared(home: Path, cells: list[Cell], out: Path, flops: float | None = 100.0) -> Compared:
    """Of the cells, trained for nothing: their reports say what they took."""
    report = {"parameters": 10, "steps": 5, "flops": flops, "details": {}}
    for cell in cells:
        write_json(out / "models" / cell.path / "report.json", {FORECAST: report, CLASSIFY: report})
    (home / "walks/controls").mkdir(exist_ok=True)
    took = {"seconds": 2.0, "symbols_per_second": 5.0, "peak_memory_mb": 10.0}
    measured = Measured(
        trainings={cell.path: {FORECAST: took, CLASSIFY: took} for cell in cells},
        evaluations={cell.path: {FORECAST: {"seconds": 1.5}, CLASSIFY: {"seconds": 0.5}} for cell in cells},
    )
    comparison = Comparison(
        cells=cells, domains={"walks": SETTINGS}, judges={FORECAST: FORECAST, CLASSIFY: CLASSIFY},
        judged={"walks": [FORECAST, CLASSIFY]}, strategies={"scratch": Strategy("scratch", 1.0)}, replicates=50,
        comparing=Comparing("above", 10),
    )  # fmt: skip
    return compare(comparison, out / "models", home, out / "reports", measured)


@pytest.mark.slow
def test_a_comparison_joins_aggregates_and_weighs(scored: tuple[Path, list[Cell], list[Entry]], tmp_path: Path) -> None:
    home, cells, _ = scored
    found = compared(home, cells, tmp_path)
    systems = {row.system for row in found.rows if row.metric == "mase@4"}
    assert systems == {*(f"{name} · scratch" for name in MODELS), f"median · {ENSEMBLE}", f"selected · {ENSEMBLE}"}
    assert f"selected · {ENSEMBLE}, seed 0, of up to step 1: " in found.text
    cost = found.costs["walks", FORECAST, "median", ENSEMBLE]
    assert (cost.seconds, cost.judging_seconds) == (6.0, 4.5)
    reports = tmp_path / "reports"
    names = [line["system"] for line in csv.DictReader((reports / "across.csv").open(encoding="utf-8"))]
    assert sorted(names) == sorted([*(systems - {"above · scratch"}), "above · scratch"])
    assert "relative to above · scratch" in (reports / "across.md").read_text(encoding="utf-8")
    drawn = ("walks-forecast-flops", "walks-classify-flops", "across-all-skill", "across-all-ranks")
    assert all((reports / "pictures" / f"{name}.png").stat().st_size for name in drawn)
    assert (reports / "pareto/walks-forecast-seconds.png").stat().st_size
    members = {line["system"] for line in csv.DictReader((reports / "ensembles.csv").open(encoding="utf-8"))}
    assert members == {f"{name} · scratch" for name in MODELS}


@pytest.mark.slow
def test_a_count_that_is_missing_fails(scored: tuple[Path, list[Cell], list[Entry]], tmp_path: Path) -> None:
    home, cells, _ = scored
    with pytest.raises(UserError, match=r"report\.json: classify has no count of FLOPs; write above's formula"):
        compared(home, cells, tmp_path, flops=None)
