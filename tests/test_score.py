"""A foreign model's predictions beside a domain's own cells: asked for, judged, compared in pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from seqlab.artifacts import read_json, write_json
from seqlab.cells import Cell
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.errors import UserError
from seqlab.evaluation import controls, judge, metrics, scores
from seqlab.evaluation.kept import Forecasts, Kept
from seqlab.evaluation.leaderboard import ENSEMBLE, OUTSIDE
from seqlab.evaluation.settings import Comparing, SequenceEvaluation
from seqlab.settings import Strategy
from seqlab.stages.compare import Comparison, pretraining
from seqlab.stages.score import Judgement, ask, score

SETTINGS = SequenceEvaluation(
    headline={"forecast": "mase@6", "classify": "accuracy"}, horizons=[1, 6], origins=2, samples=9, period=4
)
NAMES = ["calm", "wild"]
CELL = Cell("power", "ets", "scratch", 0)


def series(seed: int, first: int | None) -> Sequences:
    rng = np.random.default_rng(seed)
    t = np.arange(48)[:, None]
    rows = [(5 + np.sin(np.pi * t / 2 + k) + rng.normal(0, 0.2, (48, 1))).astype(np.float32) for k in range(20)]
    return Sequences.from_arrays(rows, **({} if first is None else {"first": np.full(len(rows), first)}))


def labelled(seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % 2
    return Sequences.from_arrays(
        [rng.normal(0, 1 + 2 * k, (12, 1)).astype(np.float32) for k in labels], labels=labels.astype(np.int64)
    )


def forecasts(model: controls.SeasonalNaive, traits: Any, series: Sequences) -> list[metrics.Forecast]:
    return judge.forecasts(model, traits, series, SETTINGS, SETTINGS.horizons, SETTINGS.origins, seed=0)


class Workspace:
    """A prepared domain `power`, its controls' scores, and those of one cell; another cell was not evaluated."""

    def __init__(self, folder: Path):
        self.folder, self.prepared = folder, folder / "data/prepared/power"
        for k, split in enumerate(SPLITS):
            series(k, None if split == "train" else 40).save(self.prepared / "target" / split)
            labelled(k).save(self.prepared / "labelled" / split)
        write_json(
            self.prepared / "meta.json",
            {"kind": "vectors", "size": 1, "tasks": ["next_step", "classify"], "classes": NAMES, "transform": "none"},
        )
        test = Sequences.load(self.prepared / "target/test")
        for name, model in (("scores/power/controls/last_value", controls.SeasonalNaive(1)),
                            (f"scores/{CELL.path}", controls.SeasonalNaive(4))):  # fmt: skip
            made = forecasts(model, self.traits, test)
            scores.write(metrics.forecast_scores(made, SETTINGS.horizons), folder / name)
        whole = {"parameters": 3, "steps": 0, "flops": 0.0, "details": {}}
        write_json(folder / "models" / CELL.path / "report.json", {"forecast": whole})
        self.comparison = Comparison(
            cells=[CELL, Cell("power", "theta", "scratch", 0)],
            domains={"power": SETTINGS},
            judges={"forecast": "forecast", "classify": "classify"},
            judged={"power": ["forecast", "classify"]},
            strategies={"scratch": Strategy(init="scratch", learning_rate_factor=1.0)},
            replicates=500,
            comparing=Comparing("theta", 5),
        )

    class traits:
        characters, transform = False, "none"

    def ask(self, task: str, examples: int | None = None) -> dict[str, pd.DataFrame]:
        out = self.folder / "asked"
        names = ask(self.prepared, out, domain="power", task=task, comparison=self.comparison, examples=examples)
        return {name: pq.read_table(out / f"{name}.parquet").to_pandas() for name in names}

    def score(self, table: pd.DataFrame, task: str, examples: int | None = None) -> Judgement:
        path = self.folder / "foreign.csv"
        table.to_csv(path, index=False)
        places = self.prepared, self.folder / "models", self.folder / "scores"
        return score(path, *places, domain="power", task=task, comparison=self.comparison, examples=examples)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def means(asked: dict[str, pd.DataFrame], period: int) -> pd.DataFrame:
    """The mean of the same phase over the past: from the asked tables alone."""
    rows = []
    history = asked["history"].set_index(["unique_id", "ds"]).y
    for name, cutoff, ahead in asked["cutoffs"].itertuples(index=False):
        past = history[name][:cutoff].to_numpy()
        for ds in range(cutoff + 1, cutoff + 1 + ahead):
            rows.append({"unique_id": name, "cutoff": cutoff, "ds": ds, "Mean": past[ds % period :: period].mean()})
    return pd.DataFrame(rows)


def test_a_foreign_forecaster_stands_in_the_paired_tests(workspace: Workspace) -> None:
    found = workspace.score(means(workspace.ask("forecast"), 4), "forecast")
    table = [row for row in found.rows if row.metric == "mase@6"]
    assert [row.system for row in table] == [f"Mean · {OUTSIDE}", "ets · scratch", "last value"]
    outside, cell, control = table
    assert outside.beats_control
    assert cell.best, "what is from outside is compared with the best of the table, and is never it"
    assert outside.difference_from_best is not None
    assert outside.difference_from_best == pytest.approx(cell.value - outside.value)
    assert control.p_holm is not None
    assert control.p_holm < 0.05
    assert found.lacking == ["power/theta/scratch/0"]
    assert found.systems[0].notes == ["not scored, for want of quantiles: coverage80, coverage95, wql"]


def test_the_ensembles_of_the_cells_stand_beside_what_is_foreign(workspace: Workspace) -> None:
    test, valid = (Sequences.load(workspace.prepared / "target" / split) for split in ("test", "valid"))
    for family, period in (("ets", 4), ("theta", 1)):
        own = replace(CELL, family=family).path
        made, before = (forecasts(controls.SeasonalNaive(period), workspace.traits, split) for split in (test, valid))
        assert valid.first is not None
        scores.write(metrics.forecast_scores(made, SETTINGS.horizons), workspace.folder / "scores" / own)
        Kept(Forecasts(before, valid.first, made)).write(workspace.folder / "scores" / own / "forecast")
        report = workspace.folder / "models" / CELL.path / "report.json"
        write_json(workspace.folder / "models" / own / "report.json", read_json(report))
    found = workspace.score(means(workspace.ask("forecast"), 4), "forecast")
    value = {row.system: row.value for row in found.rows if row.metric == "mase@6"}
    assert value[f"selected · {ENSEMBLE}"] == pytest.approx(value["ets · scratch"])
    assert value["ets · scratch"] < value[f"median · {ENSEMBLE}"] < value["theta · scratch"]
    assert found.lacking == []


def test_the_examples_are_those_that_the_suite_judges(workspace: Workspace) -> None:
    asked = workspace.ask("forecast", examples=5)
    assert asked["cutoffs"].unique_id.nunique() == 5
    with pytest.raises(UserError, match="they are not the same; evaluate both again"):
        workspace.score(means(asked, 4), "forecast", examples=5)  # the cells were judged on all of them


def test_classes_are_learnt_from_the_asked_table_whose_test_has_no_labels(workspace: Workspace) -> None:
    examples = workspace.ask("classify")["examples"]
    assert examples[examples.split == "test"].label.isna().all()
    assert set(examples[examples.split == "train"].label) == set(NAMES)
    spread = examples["values"].map(lambda one: np.std([step[0] for step in one]))
    wild = (spread[examples.split == "test"] > 2).to_numpy().astype(float)
    table = pd.DataFrame({"example": np.arange(len(wild)), "calm": 1 - wild, "wild": wild})
    found = workspace.score(table, "classify")
    value = next(row.value for row in found.rows if row.metric == "accuracy")
    assert value == (wild == labelled(2).labels).mean()
    assert found.rows[0].family == "foreign"


def test_behind_a_mixture_is_what_is_behind_its_members(tmp_path: Path) -> None:
    """A mixture has no model of the source of its own."""
    for name, steps, flops in (("naive", 0, 3.0), ("gru", 40, 5.0)):
        write_json(
            tmp_path / "power" / name / "pretrain/0/report.json", {"next_step": {"steps": steps, "flops": flops}}
        )
    full, scratch = (Strategy(init=init, learning_rate_factor=1.0) for init in ("pretrained", "scratch"))
    comparison = Comparison(
        cells=[], domains={}, judges={}, judged={}, strategies={"full": full, "scratch": scratch}, replicates=1,
        comparing=Comparing("naive", 5), members={"mixture": ["naive", "gru"]},
    )  # fmt: skip
    assert pretraining(comparison, Cell("power", "mixture", "full", 0), tmp_path) == (40, 8.0)
    assert pretraining(comparison, Cell("power", "mixture", "scratch", 0), tmp_path) == (0, 0.0)


BROKEN: dict[str, tuple[Callable[[Workspace], Any], str]] = {
    "nothing evaluated": (
        lambda w: (w.folder / "scores").rename(w.folder / "away"),
        "no scores to compare with; `seqlab repro --only domain=power` makes them",
    ),
    "the controls alone": (
        lambda w: (w.folder / "scores/power/controls").rename(w.folder / "away"),
        "controls: missing, .*; `seqlab repro --only stage=controls domain=power` makes them",
    ),
    "no forecasts": (
        lambda w: w.comparison.domains.update(power=SequenceEvaluation({}, [], 0, 0, 1)),  # type: ignore[attr-defined]
        "it asks for no forecasts",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_lacking_is_named(name: str, workspace: Workspace) -> None:
    table = means(workspace.ask("forecast"), 4)
    breaking, message = BROKEN[name]
    breaking(workspace)
    with pytest.raises(UserError, match=message):
        workspace.score(table, "forecast")
