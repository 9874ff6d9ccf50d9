"""Means and intervals over seeds and examples against the analysis of variance, the t test and simulation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from seqlab import config
from seqlab.cli.composing import compose
from seqlab.evaluation import leaderboard, metrics, seeds
from seqlab.evaluation.leaderboard import Entry
from seqlab.evaluation.metrics import metric_of
from seqlab.evaluation.scores import Predictions, Ratio, Scores

RATIO = metric_of("mase").reduce


def features(values: np.ndarray) -> np.ndarray:
    """(S, E, 2) of the mean of values (S, E)."""
    return np.stack([values, np.ones_like(values)], axis=2)


def drawn(rng: np.random.Generator, count: int, seed_effect: float, examples: int = 120) -> np.ndarray:
    hard = rng.normal(0, 1, examples)
    return hard + rng.normal(0, seed_effect, (count, 1)) + rng.normal(0, 0.5, (count, examples))


def test_one_seed_is_the_t_interval_over_examples() -> None:
    values = np.random.default_rng(0).normal(2, 1, (1, 40))
    found = seeds.spread(features(values), RATIO)
    expected = stats.ttest_1samp(values[0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.seeds, found.examples, found.between, found.share) == (1, 40, 0, 0)


def test_variance_is_that_of_the_two_way_layout() -> None:
    values = drawn(np.random.default_rng(1), 4, 0.6, 15)
    table = pd.DataFrame(
        [(s, e, values[s, e]) for s in range(4) for e in range(15)], columns=["seed", "example", "value"]
    )
    squares = anova_lm(ols("value ~ C(seed) + C(example)", table).fit())["mean_sq"]
    expected = (squares["C(seed)"] + squares["C(example)"] - squares["Residual"]) / values.size
    found = seeds.spread(features(values), RATIO)
    assert found.error**2 == pytest.approx(expected)
    assert found.share == pytest.approx((squares["C(seed)"] - squares["Residual"]) / values.size / expected)
    assert found.between == pytest.approx(values.mean(1).std(ddof=1))
    assert found.mean == pytest.approx(values.mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 9))
def test_order_and_units_do_not_matter(seed: int, count: int, examples: int) -> None:
    rng = np.random.default_rng(seed)
    values = drawn(rng, count, 0.3, examples)
    found = seeds.spread(features(values), RATIO)
    mixed = seeds.spread(features(values[rng.permutation(count)][:, rng.permutation(examples)]), RATIO)
    assert (mixed.low, mixed.high, mixed.freedom) == pytest.approx((found.low, found.high, found.freedom))
    scaled = seeds.spread(features(3 * values + 1), RATIO)
    assert (scaled.low, scaled.high) == pytest.approx((3 * found.low + 1, 3 * found.high + 1))
    assert found.low <= found.mean <= found.high
    assert found.freedom >= min(examples - 1, max(count - 1, 1))


@pytest.mark.parametrize(("count", "least"), [(2, 0.87), (3, 0.89), (6, 0.91)])
def test_intervals_hold_where_seeds_make_most_of_the_variance(count: int, least: float) -> None:
    rng = np.random.default_rng(2)
    held, alone = 0, 0
    for _ in range(400):
        values = drawn(rng, count, 0.4)
        found = seeds.spread(features(values), RATIO)
        held += found.low <= 0 <= found.high
        examples = seeds.spread(features(values[:1]), RATIO)
        alone += examples.low <= 0 <= examples.high
    assert least < held / 400 <= 0.985
    assert alone / 400 < 0.6  # what one seed and its interval over examples claim


def test_intervals_hold_where_seeds_make_nothing() -> None:
    rng = np.random.default_rng(3)
    found = [seeds.spread(features(drawn(rng, 3, 0.0)), RATIO) for _ in range(400)]
    assert np.mean([one.low <= 0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.03)
    assert np.median([one.share for one in found]) == 0


def test_a_difference_is_paired_over_examples_and_over_seeds() -> None:
    rng = np.random.default_rng(4)
    first = drawn(rng, 3, 0.0)
    second = first + 0.2 + rng.normal(0, 0.05, first.shape)
    found = seeds.difference(features(first), features(second), RATIO)
    assert found.difference == pytest.approx((second - first).mean())
    assert found.low > 0.18
    assert found.p < 1e-10
    turned = seeds.difference(features(second), features(first), RATIO)
    assert (turned.low, turned.high, turned.p) == pytest.approx((-found.high, -found.low, found.p))
    equal = seeds.difference(features(first), features(first), RATIO)
    assert (equal.difference, equal.low, equal.high, equal.p) == (0, 0, 0, 1)


def test_a_closed_form_of_one_seed_beside_a_network_of_three() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        hard = rng.normal(0, 1, 120)
        network = hard + rng.normal(0, 0.3, (3, 1)) + rng.normal(0, 0.3, (3, 120))
        closed = (hard + rng.normal(0, 0.3, 120))[None]
        found = seeds.difference(features(network), features(closed), RATIO)
        held += found.low <= 0 <= found.high
    assert 0.9 < held / 400 <= 0.985


def test_a_metric_that_is_no_mean() -> None:
    rng = np.random.default_rng(6)
    labels = np.arange(200) % 4
    own = []
    for _ in range(3):
        logits = rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[labels]
        part = Predictions(np.arange(200), labels, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        features_of = metric_of("macro_f1").features
        assert features_of is not None
        own.append(features_of(part))
    judged = metrics.metric_of("macro_f1")
    found = seeds.spread(np.stack(own), judged.reduce)
    assert found.mean == pytest.approx(np.mean([judged.reduce(one.sum(0)) for one in own]))
    alone = seeds.spread(own[0][None], judged.reduce)
    resampled = [judged.reduce(own[0][drawn].sum(0)) for drawn in rng.integers(0, 200, (500, 200))]
    assert alone.error == pytest.approx(np.std(resampled), rel=0.1)


# In the comparison


def entry(family: str, seed: int, errors: np.ndarray, strategy: str = "scratch") -> Entry:
    ratio = Ratio(np.arange(len(errors)), errors, np.ones(len(errors)))
    return Entry("series", family, strategy, seed, Scores({("forecast", "mase@16"): ratio}))


def test_the_leaderboard_is_over_seeds_and_examples_where_a_row_has_several() -> None:
    rng = np.random.default_rng(7)
    network, closed = drawn(rng, 3, 0.5) + 3, drawn(rng, 1, 0.0)[0] + 3
    cells = [entry("gru", seed, errors) for seed, errors in enumerate(network)]
    rows = leaderboard.build([*cells, entry("ar", 0, closed)], 200, 0)
    of = {row.family: row for row in rows}
    expected = seeds.spread(features(network), RATIO)
    assert (of["gru"].value, of["gru"].low, of["gru"].high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert (of["gru"].seeds, of["gru"].between_seeds) == (3, pytest.approx(expected.between))
    assert of["gru"].seed_share == pytest.approx(expected.share)
    assert (of["ar"].seeds, of["ar"].between_seeds, of["ar"].seed_share) == (1, None, None)
    behind = max(rows, key=lambda row: row.value)
    first, second = (network, closed[None]) if rows[0].family == "gru" else (closed[None], network)
    paired = seeds.difference(features(second), features(first), RATIO)
    assert behind.p_holm == pytest.approx(paired.p)
    text = leaderboard.markdown(rows, {"series": {"forecast": "mase@16"}})
    assert "| seeds | deviation |" in text
    assert "Mean and interval over 3 seeds and all examples: gru · scratch." in text
    assert "One seed, so the interval speaks of examples and not of training: ar · scratch." in text


def test_a_page_says_on_how_many_seeds_it_stands() -> None:
    assert seeds.told({"series/ar": 1, "series/gru": 1}).startswith("One seed: ")
    assert seeds.told({"series/ar": 1, "series/gru": 3, "series/rnn": 3}).startswith("Seeds: 1 systems of 1, 2 systems")


@pytest.mark.slow
def test_the_suite_seeds_has_three_of_what_is_trained_by_gradient_and_one_of_the_rest() -> None:
    default, found = (config.experiment(compose("config", [f"suite={name}"])) for name in ("default", "seeds"))
    by_fit: dict[str, set[int]] = {}
    for cell in found.cells():
        by_fit.setdefault(found.families[cell.family].fit, set()).add(cell.seed)
    assert by_fit == {"gradient": {0, 1, 2}, "closed_form": {0}, "rules": {0}, "mixture": {0}}
    assert {cell for cell in found.cells() if cell.seed == 0} == set(default.cells())
    counts = Counter(replace(cell, seed=0) for cell in found.cells())
    assert all(n == (3 if found.families[cell.family].fit == "gradient" else 1) for cell, n in counts.items())
