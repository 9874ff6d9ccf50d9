"""What a comparison sends to MLflow: one name a metric, few metrics, and families beside controls."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Mapping
from typing import Any, SupportsFloat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.evaluation import leaderboard
from seqlab.evaluation.leaderboard import Entry, MeanCost
from seqlab.evaluation.metrics import CLASSIFY, FORECAST
from seqlab.evaluation.scores import Predictions, Ratio, Scores
from seqlab.tracking import comparison, names
from seqlab.tracking.comparison import Leaderboard
from seqlab.tracking.systems import Note, System
from seqlab.tracking.views import View, run_address, runs_address

HEADLINES = {"series": {FORECAST: "mase@4", CLASSIFY: "accuracy"}, "strings": {CLASSIFY: "accuracy"}}


def cell(family: str, strategy: str, seed: int, error: float) -> Entry:
    rng = np.random.default_rng([seed, *map(ord, family)])
    example, labels = np.arange(40), np.arange(40) % 2
    answers = np.log(np.where(np.arange(2) == labels[:, None], 0.7, 0.3))
    found = Scores(
        {(FORECAST, "mase@4"): Ratio(example, error + rng.normal(0, 0.1, 40), np.ones(40))},
        {} if strategy == leaderboard.CONTROL else {CLASSIFY: Predictions(example, labels, answers)},
    )
    return Entry("series", family, strategy, seed, found, 1000, 50, 1.5e12)


CELLS = [cell("rnn", "full", seed, 0.8) for seed in (0, 1, 2)]
CELLS += [cell("ar", "full", 0, 1.3), cell("seasonal_naive", leaderboard.CONTROL, 0, 1.1)]
SECONDS = {"next_step": 60.0, CLASSIFY: 20.0}
COSTS = {("series", task, "rnn", "full"): MeanCost(seconds, 1e4, seconds) for task, seconds in SECONDS.items()}
COSTLESS = {"cost/train_flops", "cost/parameters"}


class Recorded:
    """What a run was told."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.systems: dict[System, tuple[dict[str, float], Note]] = {}
        self.experiments: dict[str, tuple[View, str]] = {}
        self.texts: dict[str, str] = {}
        self.noted = ""

    def metrics(self, values: Mapping[str, SupportsFloat]) -> None:
        self.values |= {name: float(value) for name, value in values.items()}

    def system(self, system: System, values: dict[str, float], note: Note) -> None:
        self.systems[system] = values, note

    def experiment(self, domain: str, view: View, description: str) -> None:
        self.experiments[domain] = view, description

    def text(self, text: str, to: str) -> None:
        self.texts[to] = text

    def note(self, text: str) -> None:
        self.noted = text


@pytest.fixture(scope="module")
def run() -> Any:
    made = Leaderboard(
        suite="default",
        rows=leaderboard.build(CELLS, 100, seed=0),
        headlines=HEADLINES,
        costs=COSTS,
        deviations=comparison.deviations(CELLS, HEADLINES),
        verdicts={"series": "rnn is best."},
        rerun=lambda system: f"make {system.name}",
    )
    recorded: Any = Recorded()
    comparison.record(recorded, made)
    return recorded


def test_a_family_and_a_control_have_their_scores_under_one_name(run: Any) -> None:
    rnn, naive = (
        run.systems[System("default", "series", *parts)][0]
        for parts in (("rnn", "full"), ("seasonal_naive", leaderboard.CONTROL, True))
    )
    assert rnn["forecast/mase_4"] < naive["forecast/mase_4"]
    assert rnn["interval/forecast_mase_4_low"] < rnn["forecast/mase_4"] < rnn["interval/forecast_mase_4_high"]
    assert set(naive) == {"forecast/mase_4", "interval/forecast_mase_4_low", "interval/forecast_mase_4_high", *COSTLESS}


def test_spread_over_seeds_and_cost_stand_beside_the_score(run: Any) -> None:
    values, _ = run.systems[System("default", "series", "rnn", "full")]
    means = [float(one.scores.ratios[FORECAST, "mase@4"].value) for one in CELLS[:3]]
    assert values["forecast/mase_4"] == pytest.approx(statistics.mean(means))
    assert values["interval/forecast_mase_4_std"] == pytest.approx(statistics.stdev(means))
    assert values["interval/classify_accuracy_std"] == 0
    assert (values["cost/seconds"], values["cost/peak_memory_mb"]) == (80, 60)
    # The figures of a cell's rows are those of one training, told once.
    assert (values["cost/train_flops"], values["cost/parameters"]) == (1.5e12, 1000)
    assert "interval/forecast_mase_4_std" not in run.systems[System("default", "series", "ar", "full")][0], "one seed"


def test_the_comparison_itself_has_few_metrics_and_all_rows_in_a_table(run: Any) -> None:
    best = run.systems[System("default", "series", "rnn", "full")][0]
    assert run.values == {
        "series/forecast/mase@4": best["forecast/mase_4"],
        "series/classify/accuracy": best["classify/accuracy"],
    }
    rows = list(csv.DictReader(io.StringIO(run.texts["headline.csv"])))
    assert [row["system"] for row in rows if row["task"] == "forecast"] == ["rnn·full", "seasonal naive", "ar·full"]
    assert rows[0].keys() == set(comparison.COLUMNS)
    assert float(next(row for row in rows if row["system"] == "rnn·full")["seconds"]) == 80


def test_notes_say_what_it_is_what_it_means_and_how_to_make_it_again(run: Any) -> None:
    assert run.noted == "### series\n\nrnn is best."
    text = run.systems[System("default", "series", "rnn", "full")][1].text
    for part in ("What this is:", "place 1 of 3", "Rerun with:** `make rnn·full`", "| `forecast/mase_4` | MASE, 4 st"):
        assert part in text
    control = run.systems[System("default", "series", "seasonal_naive", leaderboard.CONTROL, True)][1].text
    assert "what a family must beat" in control


def test_a_domain_that_was_scored_gets_a_view_that_sorts_the_best_first(run: Any) -> None:
    assert set(run.experiments) == {"series"}
    view, description = run.experiments["series"]
    assert (view.lower, description) == (True, "rnn is best.")
    assert view.metrics == ["forecast/mase_4", "classify/accuracy", "cost/seconds"]
    assert view.scatters == [("cost/seconds", "forecast/mase_4"), ("cost/seconds", "classify/accuracy")]


def test_winners_are_families_and_one_a_question() -> None:
    cells = [*CELLS, cell("none", leaderboard.CONTROL, 0, 0.1)]
    rows = leaderboard.build(cells, 20, seed=0)
    found = comparison.winners(rows, HEADLINES)
    assert [(one.name("seqlab"), one.row.family) for one in found] == [
        ("seqlab-series-forecast", "rnn"),
        ("seqlab-series-classify", found[1].row.family),
    ]
    assert found[0].tags["forecast/mase_4"] == f"{found[0].row.value:.6g}"


@given(st.text(max_size=300))
def test_names_are_such_as_mlflow_takes(name: str) -> None:
    cleaned = names.clean(name)
    assert len(cleaned) <= names.LONGEST_NAME
    assert re.fullmatch(r"[/\w.\- :]*", cleaned)
    assert names.clean(cleaned) == cleaned


def test_addresses_open_model_training() -> None:
    assert run_address("3", "ab") == "#/experiments/3/runs/ab?workflowType=machine_learning"
    assert runs_address("3", "quick", charts=True) == (
        "#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=families-quick&compareRunsMode=CHART"
    )
