"""The leaderboard: signs, pairing, corrections, notes, and equal bytes of every file."""

import csv
import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from seqlab.artifacts import read_json
from seqlab.errors import UserError
from seqlab.evaluation import leaderboard, metrics, pictures, pictures_across
from seqlab.evaluation.across import Offer
from seqlab.evaluation.leaderboard import COLUMNS, Entry, MeanCost, Row
from seqlab.evaluation.metrics import CLASSIFY, FORECAST, LEVELS, Forecast
from seqlab.evaluation.scores import Predictions, Ratio, Scores

EXAMPLES = 200
HARD = np.random.default_rng(0).normal(3, 1, EXAMPLES)
REQUIRED = [
    "domain",
    "task",
    "family",
    "strategy",
    "seeds",
    "metric",
    "value",
    "low",
    "high",
    "control",
    "gain_over_scratch",
    "gain_low",
    "gain_high",
    "p_holm",
    "parameters",
    "train_steps",
    "train_flops",
]
HEADLINES = {"series": {FORECAST: "mase@4", CLASSIFY: "accuracy"}}


def cell(family: str, strategy: str, seed: int, error: float, skill: float) -> Entry:
    """A cell whose MASE is about `error` and whose accuracy rises with `skill`."""
    rng = np.random.default_rng([seed, *map(ord, family + strategy)])
    example, one = np.arange(EXAMPLES), np.ones(EXAMPLES)
    labels = np.arange(EXAMPLES) % 3
    logits = rng.normal(size=(EXAMPLES, 3)) + skill * np.eye(3)[labels]
    inside = rng.random(EXAMPLES) < (0.8 if strategy == "full" else 0.7)
    scores = Scores(
        {
            (FORECAST, "mase@4"): Ratio(example, HARD - 3 + error + rng.normal(0, 0.1, EXAMPLES), one),
            (FORECAST, "mase@16"): Ratio(example[::2], HARD[::2] + error, one[::2]),
            (FORECAST, "coverage80@4"): Ratio(example, inside.astype(float), one),
        },
        {CLASSIFY: Predictions(example, labels, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))},
    )
    known = (None, None, None) if strategy == leaderboard.CONTROL else (1000, 50, 1.5e12)
    return Entry("series", family, strategy, seed, scores, *known)


CELLS = [
    *(cell("rnn", "scratch", seed, 1.0, 1.0) for seed in (0, 1, 2)),
    *(cell("rnn", "full", seed, 0.8, 2.0) for seed in (0, 1, 2)),
    cell("ar", "scratch", 0, 1.1, 1.0),
    cell("ar", "full", 0, 1.3, 0.3),
    cell("drift", leaderboard.CONTROL, 0, 1.2, 0.1),
    cell("seasonal_naive", leaderboard.CONTROL, 0, 1.5, 0.0),
]
ROWS = leaderboard.build(CELLS, replicates=500, seed=0)


def row(family: str, strategy: str, metric: str, rows: list[Row] = ROWS) -> Row:
    return next(one for one in rows if (one.family, one.strategy, one.metric) == (family, strategy, metric))


def test_a_row_for_each_system_and_metric() -> None:
    assert tuple(REQUIRED) == COLUMNS[: len(REQUIRED)]
    keys = [(one.domain, one.task, one.family, one.strategy, one.metric) for one in ROWS]
    assert len(keys) == len(set(keys)) == 6 * (3 + 6)


def test_values_are_means_over_seeds_and_lie_in_their_intervals() -> None:
    own = [one for one in CELLS if (one.family, one.strategy) == ("rnn", "full")]
    for task, metric in metrics.names_of(own[0].scores):
        found = row("rnn", "full", metric)
        assert found.value == pytest.approx(np.mean([metrics.value_of(one.scores, task, metric) for one in own]))
        if metric != "ece":
            assert found.low <= found.value <= found.high
    assert row("rnn", "full", "mase@4").seeds == 3
    assert row("ar", "full", "mase@4").seeds == 1
    assert row("ar", "full", "mase@16").examples == EXAMPLES // 2


def test_interval_is_that_of_the_mean() -> None:
    found = row("ar", "scratch", "mase@4")
    error = next(c for c in CELLS if c.family == "ar").scores.ratios[FORECAST, "mase@4"].numerator.std() / EXAMPLES**0.5
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


def test_gains_are_positive_where_it_got_better() -> None:
    for metric in ("mase@4", "accuracy", "macro_f1", "log_loss", "brier", "coverage80@4"):
        assert (row("rnn", "full", metric).gain_over_scratch or 0) > 0, metric
    for metric in ("mase@4", "accuracy", "macro_f1"):
        assert (row("ar", "full", metric).gain_over_scratch or 0) < 0, metric
    gain = row("rnn", "full", "mase@4")
    assert gain.gain_over_scratch == pytest.approx(row("rnn", "scratch", "mase@4").value - gain.value)
    # Paired: what is hard for both cancels, and the interval is far narrower than that of the value, though what three
    # seeds differ in has two degrees of freedom.
    assert (gain.gain_high or 0) - (gain.gain_low or 0) < 0.4 * (gain.high - gain.low)
    scratch = row("rnn", "scratch", "mase@4")
    assert (scratch.gain_over_scratch, scratch.gain_p_holm) == (0, None)
    assert row("drift", leaderboard.CONTROL, "mase@4").gain_over_scratch is None


def test_order_best_and_differences() -> None:
    for metric in ("mase@4", "accuracy", "coverage80@4"):
        table = [one for one in ROWS if one.metric == metric]
        losses = [metrics.metric_of(metric).loss(one.value) for one in table]
        assert losses == sorted(losses)
        assert [one.best for one in table] == [True] + [False] * 5
        for one, loss in zip(table[1:], losses[1:], strict=True):
            assert one.difference_from_best == pytest.approx(losses[0] - loss)
            assert one.p_holm is not None
        assert table[0].p_holm is None


def test_controls() -> None:
    assert {one.family for one in ROWS if one.control} == {"drift", "seasonal_naive"}
    assert {one.best_control for one in ROWS if one.metric == "mase@4"} == {"drift"}
    assert row("rnn", "scratch", "mase@4").beats_control is True
    lost = row("ar", "full", "mase@4")
    assert lost.beats_control is False
    assert (lost.gain_over_control or 0) < 0
    assert row("drift", leaderboard.CONTROL, "mase@4").beats_control is None
    assert row("drift", leaderboard.CONTROL, "mase@4").parameters is None


def few(size: int) -> list[Row]:
    """Rows of two systems on the first examples alone; the second is ahead in each."""
    example, one = np.arange(size), np.ones(size)
    systems = {"ar": HARD[:size], "rnn": HARD[:size] - 1 - 0.01 * example}
    cells = [
        Entry("series", name, "scratch", 0, Scores({(FORECAST, "mase@4"): Ratio(example, values, one)}))
        for name, values in systems.items()
    ]
    return leaderboard.build(cells, 1000, 0)


def test_two_examples_are_too_few_to_tell_and_nine_are_tested_exactly(tmp_path: Path) -> None:
    best, other = few(2)
    assert (other.p_holm, other.difference_low, other.difference_high) == (0.5, -np.inf, np.inf)
    assert "Too few examples to tell any two systems apart: no p can be below 0.5 here." in leaderboard.markdown(
        [best, other], HEADLINES
    )
    leaderboard.write_csv([best, other], tmp_path / "few.csv")
    assert leaderboard.read_csv(tmp_path / "few.csv")[1].difference_low == -np.inf
    pictures.leaderboard([best, other], tmp_path / "few.png")
    best, other = few(9)
    assert other.p_holm == 2 / 2**9
    assert (other.difference_high or 0) < -1


def test_a_table_without_controls_and_one_system_alone() -> None:
    (only,) = [one for one in leaderboard.build(CELLS[6:7], 100, 0) if one.metric == "mase@4"]
    assert only.best
    assert (only.p_holm, only.best_control, only.beats_control, only.gain_over_scratch) == (None, None, None, 0)


def test_order_of_cells_and_other_domains_change_nothing() -> None:
    other = [replace(one, domain="strings") for one in CELLS]
    again = leaderboard.build([*reversed(CELLS), *other], replicates=500, seed=0)
    assert [one for one in again if one.domain == "series"] == ROWS


def test_unequal_examples_and_doubles_are_refused() -> None:
    fewer = Ratio(np.arange(9), np.ones(9), np.ones(9))
    odd = replace(CELLS[0], family="mlp", scores=Scores({(FORECAST, "mase@4"): fewer}))
    with pytest.raises(UserError, match=r"series mlp scratch seed 0: forecast mase@4 has 9 examples"):
        leaderboard.build([*CELLS, odd], 10, 0)
    with pytest.raises(UserError, match="two cells with one name"):
        leaderboard.build([*CELLS, CELLS[0]], 10, 0)


# Files


def test_csv_round_trip(tmp_path: Path) -> None:
    leaderboard.write_csv(ROWS, tmp_path / "a.csv")
    found = leaderboard.read_csv(tmp_path / "a.csv")
    leaderboard.write_csv(found, tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    for ours, theirs in zip(found, ROWS, strict=True):
        for column in fields(Row):
            value, expected = getattr(ours, column.name), getattr(theirs, column.name)
            assert value == (pytest.approx(expected, rel=1e-7) if isinstance(expected, float) else expected)


def test_metrics_plots_and_costs(tmp_path: Path) -> None:
    leaderboard.write_metrics(ROWS, HEADLINES, tmp_path / "metrics")
    tree = read_json(tmp_path / "metrics" / f"series-{FORECAST}-mase@4.json")
    assert tree["rnn"]["full"] == pytest.approx(row("rnn", "full", "mase@4").value)
    leaderboard.write_plots(ROWS, HEADLINES, tmp_path / "plots")
    with open(tmp_path / "plots" / f"series-{FORECAST}.csv") as file:
        lines = list(csv.DictReader(file))
    assert lines[0]["system"] == "rnn · full"
    assert float(lines[0]["mase@4"]) == pytest.approx(row("rnn", "full", "mase@4").value)
    costs = {("series", CLASSIFY, "rnn", "full"): MeanCost(1.5, 2e5, 300.0)}
    assert leaderboard.read_costs(tmp_path / "cost.csv") == {}
    leaderboard.write_costs(costs, tmp_path / "cost.csv")
    assert leaderboard.read_costs(tmp_path / "cost.csv") == costs


def test_markdown_says_what_is_significant() -> None:
    costs = {("series", CLASSIFY, "rnn", "full"): MeanCost(1.5, 2e5, 321.0)}
    text = leaderboard.markdown(ROWS, HEADLINES, costs)
    classes, forecasts = text.split("### ")[1:]
    assert "| 1.5 | 200,000 | 321 |" in classes
    assert "Best: rnn · full; all others are significantly worse." in forecasts
    assert "Do not beat the best control (drift): ar · full." in forecasts
    assert "Transfer helps: rnn · full." in forecasts
    assert "Transfer hurts (negative transfer): ar · full." in forecasts
    assert "One seed, so the interval speaks of examples and not of training: ar · scratch, ar · full." in forecasts
    header = forecasts.splitlines()[2]
    assert "mase@16" in header
    assert "coverage80@4" in header
    assert "seconds" not in leaderboard.markdown(ROWS, HEADLINES)


def test_a_headline_that_was_not_scored_is_named() -> None:
    with pytest.raises(UserError, match="headline metric of series classify is 'chrf'; expected one of accuracy, bal"):
        leaderboard.markdown(ROWS, {"series": {FORECAST: "mase@4", CLASSIFY: "chrf"}})


# Pictures


def forecast(channels: int = 1) -> Forecast:
    ahead = np.linspace(0, 1, 8)[:, None] * np.ones(channels)
    spread = np.array(LEVELS)[:, None, None] - 0.5
    return Forecast(0, 20, ahead, ahead + spread, np.ones(channels), np.ones(channels))


TABLE = [one for one in ROWS if one.metric == "mase@4"]
ANSWERS = {one.family: one.scores.predictions[CLASSIFY] for one in CELLS}
STEPS = np.arange(0, 100, 10)
OFFERS = [Offer(f"ar{k}", 3.0 - k, 10.0 ** (4 * k), k == 1, k != 1) for k in range(3)]
DRAWINGS: dict[str, Callable[[Path], None]] = {
    "leaderboard": lambda path: pictures.leaderboard(TABLE, path),
    "controls alone": lambda path: pictures.leaderboard([one for one in TABLE if one.control], path),
    "gains": lambda path: pictures.gains(TABLE, path),
    "no gains": lambda path: pictures.gains([one for one in TABLE if one.control], path),
    "forecasts": lambda path: pictures.forecasts([forecast()] * 3, [np.zeros((20, 1))] * 3, ["a", "b", "c"], path),
    "losses": lambda path: pictures.loss_curves({"train": (STEPS, 1 / (1 + STEPS))}, "nats", path),
    "reliability": lambda path: pictures.reliability(ANSWERS, path),
    "coverage": lambda path: pictures.coverage({"ar": np.random.default_rng(0).random(500)}, path),
    "growth": lambda path: pictures.growth([0, 1, 9], {"bytes": [1, 8, 64]}, {"known": [1.0, 0.5, None]}, path),
    "growth of counts alone": lambda path: pictures.growth([0, 5], {"bytes": [1, 8], "sequences": [3, 0]}, {}, path),
    "attention": lambda path: pictures.attention(np.full((2, 3, 4, 4), 0.25), ["⊢", "$", "b", "c"], "test 0", path),
    "attention of one head on vectors": lambda path: pictures.attention(np.eye(5)[None, None], None, "test 1", path),
    "lengths": lambda path: pictures.lengths({"1-5": TABLE, "6+": TABLE[:2]}, path),
    "frames": lambda path: pictures.frames([("test 0", np.zeros((9, 4, 5))), ("sampled", np.ones((9, 4, 5)))], path),
    "confusion": lambda path: pictures.confusion(np.arange(9) % 3, np.arange(9) % 2, 3, "ar", path),
    "cost": lambda path: pictures_across.pareto(OFFERS, "mase@4", "FLOPs", "series: forecast", path),
    "lengths of controls alone": lambda path: pictures.lengths({"1+": [one for one in TABLE if one.control]}, path),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_have_equal_bytes(name: str, tmp_path: Path) -> None:
    for copy in ("a", "b"):
        DRAWINGS[name](tmp_path / f"{copy}.png")
    first = (tmp_path / "a.png").read_bytes()
    assert first == (tmp_path / "b.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    for stamp in (b"tIME", b"Software", b"matplotlib"):
        assert stamp not in first


@pytest.mark.parametrize("name", DRAWINGS)
def test_pictures_are_those_that_matplotlib_saves(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DRAWINGS[name](tmp_path / "own.png")
    monkeypatch.setattr(
        pictures, "_save", lambda figure, path: figure.savefig(path, format="png", metadata={"Software": None})
    )
    DRAWINGS[name](tmp_path / "theirs.png")
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "theirs.png").read_bytes()


def test_a_picture_shows_its_numbers(tmp_path: Path) -> None:
    pictures.leaderboard(TABLE, tmp_path / "a.png")
    pictures.leaderboard([replace(TABLE[0], value=TABLE[0].value + 0.05), *TABLE[1:]], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_metrics_stand_in_one_order_whatever_the_order_of_a_set_is() -> None:
    names = ["chrf++", "chrf++@kept", "chrf++@1-5", "chrf++@6-10", "bleu@kept", "bleu", "mase@16", "mase@4"]
    expected = sorted(names, key=metrics.order_of)
    for seed in range(20):
        random.Random(seed).shuffle(names)
        assert sorted(names, key=metrics.order_of) == expected
    assert expected.index("mase@4") < expected.index("mase@16")
    assert expected.index("chrf++") < expected.index("chrf++@kept") < expected.index("chrf++@6-10")
