"""Verdicts on tables whose truth is known, and what people read of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_significance import paired_bootstrap

from seqlab.evaluation import leaderboard, metrics, significance
from seqlab.evaluation.leaderboard import CONTROL, OUTSIDE, Entry, MeanCost
from seqlab.evaluation.metrics import CLASSIFY, FORECAST
from seqlab.evaluation.scores import Predictions, Ratio, Scores
from seqlab.evaluation.transfer import Point
from seqlab.evaluation.verdict import Verdict, sentences, verdict

METRIC = "mase@4"
COSTS = {("series", FORECAST, "gru", "scratch"): MeanCost(120.0, 1e4, 512.0),
         ("series", FORECAST, "ar", "scratch"): MeanCost(0.05, 1e6, 180.0)}  # fmt: skip


def cells(examples: int, errors: dict[str, float], noise: float = 0.1) -> list[Entry]:
    """Systems with these mean errors on the same examples; a name that ends in ! is a control."""
    rng = np.random.default_rng(0)
    hard, one = rng.uniform(1, 3, examples), np.ones(examples)
    found = []
    for name, error in errors.items():
        ratio = Ratio(np.arange(examples), hard + error + rng.normal(0, noise, examples), one)
        strategy = CONTROL if name.endswith("!") else "scratch"
        found.append(Entry("series", name.rstrip("!"), strategy, 0, Scores({(FORECAST, METRIC): ratio})))
    return found


def judged(own: list[Entry], points: list[Point] | None = None, **more: object) -> Verdict:
    return verdict(leaderboard.build(own, 2000, 0), own, COSTS, 1, points or [], **more)  # type: ignore[arg-type]


def point(fraction: float, value: float) -> Point:
    nothing = (None, None, None, None)
    return Point("series", FORECAST, METRIC, "gru", "scratch", fraction, 1, value, value, value, "scratch", *nothing)


def test_best_tied_and_beaten() -> None:
    found = judged(cells(200, {"gru": 0.0, "ar": 0.005, "mlp": 0.3, "drift!": 0.5}))
    assert (found.best, found.tied) == ("gru · scratch", ["ar · scratch"])
    assert [one.system for one in found.beaten] == ["mlp · scratch", "drift"]
    assert found.beaten[0].difference == pytest.approx(0.3, abs=0.03)
    assert found.beaten[0].low < found.beaten[0].difference < found.beaten[0].high
    assert found.opponent == found.beaten[1]
    assert (found.core_seconds, found.peak_mb, found.cheapest) == (120, 512, ("ar · scratch", 0.05))
    assert not found.too_few
    assert not found.small
    text = sentences(found)
    assert "Best in MASE, 4 steps ahead is gru · scratch" in text
    assert "(200 examples, one seed), for 120 core seconds of training and judging and 512 MB." in text
    assert "It cannot be told apart from ar · scratch" in text
    assert "the cheapest of them is ar · scratch (0.05 core seconds)." in text
    assert "It beats drift by 0.494 [0.476, 0.512] and 1 more." in text
    assert text.count(". ") == 2


def test_detectable_difference_is_that_of_the_paired_differences() -> None:
    own = cells(100, {"gru": 0.0, "ar": 0.02})
    first, second = (cell.scores.ratios[FORECAST, METRIC].numerator for cell in own)
    expected = significance.detectable((first - second).std(ddof=1) / 10, 100)
    assert judged(own).detectable == pytest.approx(expected, rel=1e-6)


def test_of_equal_scores_no_difference_is_said_to_be_detectable() -> None:
    own = cells(50, {"gru": 0.0})
    found = judged([*own, replace(own[0], family="ar")])
    assert found.detectable == 0
    assert found.best == "ar · scratch" or found.tied == ["ar · scratch"]
    assert "the nearest has the same score on every example" in sentences(found)
    assert "would have been found" not in sentences(found)


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    size, trials = 60, 200
    shift = significance.detectable(0.1 * 2**0.5 / size**0.5, size)
    rng, hits = np.random.default_rng(1), 0
    for trial in range(trials):
        gap = np.stack([rng.normal(shift, 0.1 * 2**0.5, size), np.ones(size)], axis=1)
        none = gap * [0, 1]
        hits += paired_bootstrap(gap, none, metrics.metric_of(METRIC).reduce, 500, trial).p < 0.05
    assert hits / trials == pytest.approx(0.8, abs=0.08)


def test_a_small_test_set_warns() -> None:
    found = judged(cells(20, {"gru": 0.0, "drift!": 0.04}, noise=0.3))
    assert found.tied
    assert found.small
    assert found.needed is not None
    assert found.needed > 20
    assert "The test set is small: a difference like the one from" in sentences(found)


def test_two_examples_are_too_few() -> None:
    found = judged(cells(2, {"gru": 0.0, "drift!": 1.0}))
    assert found.too_few
    assert "2 examples are too few to tell: no difference can have a p below 0.5." in sentences(found)
    assert "beats" not in sentences(found)
    alone = sentences(judged(cells(1, {"gru": 0.0, "drift!": 1.0})))
    assert "(1 example, one seed)" in alone
    assert "1 example is too few to tell" in alone


def test_examples_that_suffice_for_one_rival_are_too_few_for_many() -> None:
    names = ["gru", "ar", "mlp", "lstm", "rnn", "markov", "naive", "drift!"]
    many = judged(cells(8, {name: 0.5 * k for k, name in enumerate(names)}))
    assert not judged(cells(8, {"gru": 0.0, "drift!": 0.5})).tied
    assert (len(many.tied), many.beaten, many.least_p) == (7, [], 7 * 2 / 2**8)
    assert "no difference can have a p below 0.0547" in sentences(many)


def test_a_control_that_leads_and_one_system_alone() -> None:
    found = judged(cells(100, {"gru": 0.5, "drift!": 0.0}))
    assert (found.best, found.control) == ("drift", True)
    assert found.opponent is not None
    assert found.opponent.system == "gru · scratch"
    alone = judged(cells(100, {"gru": 0.0}))
    assert (alone.tied, alone.beaten, alone.detectable, alone.opponent) == ([], [], None, None)
    assert "beats" not in sentences(alone)


def test_more_data_and_what_is_not_applicable() -> None:
    own = cells(200, {"gru": 0.0, "mlp": 0.3})
    level = 2.0
    grown = judged(own, [point(0.25, level + 0.4), point(1.0, level)])
    assert grown.growth is not None
    assert grown.growth.helps
    assert "More data would help: from 25% to all of it brought +0.4." in sentences(grown)
    flat = judged(
        own,
        [point(0.25, level), point(1.0, level)],
        not_applicable=[("markov", "few"), ("ar", "few"), ("tfidf", "no words")],
    )
    assert flat.growth is not None
    assert not flat.growth.helps
    end = "Not applicable: markov and ar (few); tfidf (no words)."
    assert sentences(flat).endswith(f" {end}")
    assert sentences(flat, ["One.", "Two."]).endswith(f" One. Two. {end}")
    assert judged(own, [point(1.0, level)]).growth is None


def test_seeds_and_metrics_that_are_no_ratio() -> None:
    rng = np.random.default_rng(3)
    labels = np.arange(60) % 3
    own = []
    for seed in (0, 1):
        for family, skill in (("gru", 3.0), ("mlp", 0.0)):
            logits = rng.normal(size=(60, 3)) + skill * np.eye(3)[labels]
            answers = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            part = Predictions(np.arange(60), labels, answers)
            own.append(Entry("motion", family, "scratch", seed, Scores(predictions={CLASSIFY: part})))
    rows = [row for row in leaderboard.build(own, 1000, 0) if row.metric == "macro_f1"]
    found = verdict(rows, own, {}, 1)
    assert (found.best, found.seeds, found.core_seconds) == ("gru · scratch", 2, None)
    assert found.detectable is not None
    assert 0 < found.detectable < 0.5
    assert "one seed" not in sentences(found)


def test_a_system_from_elsewhere_is_quoted_and_never_the_best() -> None:
    own = cells(100, {"kiwi": 0.0, "gru": 1.0, "ar": 1.4})
    own[0] = replace(own[0], strategy=OUTSIDE)
    rows = leaderboard.build(own, 500, 0)
    assert [(row.system, row.best) for row in rows] == [
        ("kiwi · outside", False), ("gru · scratch", True), ("ar · scratch", False),
    ]  # fmt: skip
    assert (rows[0].difference_from_best or 0) > 0  # ahead of it, and said so
    found = judged(own)
    assert found.best == "gru · scratch"
    assert [one.system for one in found.beaten] == ["ar · scratch"]
    assert found.tied == []
    assert "trained elsewhere: kiwi · outside with" in sentences(found)
    notes = leaderboard.markdown(rows, {"series": {FORECAST: METRIC}})
    assert "Best: gru · scratch;" in notes
    assert "Quoted beside, since it was trained elsewhere: kiwi · outside" in notes
