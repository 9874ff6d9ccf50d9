"""The bootstrap's coverage and false alarms on simulated data; Holm and Diebold–Mariano against references."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from seqlab.evaluation import significance
from seqlab.evaluation.significance import PairedDifference, diebold_mariano, holm, interval, p_value


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    reduce: Callable[[np.ndarray], np.ndarray],
    replicates: int,
    seed: int,
) -> PairedDifference:
    """reduce(sums of first) - reduce(sums of second), averaged over seeds; an exact test of up to EXACT examples.

    first, second: features (E, D) of the same examples, or (S, E, D) of the same S seeds; reduce: (..., D) -> (...).
    """
    both = np.stack([np.reshape(part, (-1, *part.shape[-2:])) for part in (first, second)])
    systems, seeds, examples, width = both.shape
    sums = significance.resampled_sums(both.transpose(2, 0, 1, 3).reshape(examples, -1), replicates, seed)
    weights = significance.seed_weights(range(seeds), replicates, seed)
    drawn = (reduce(sums.reshape(replicates, systems, seeds, width)) * weights[:, None]).sum(2)
    point = reduce(both.sum(2)).mean(1)
    left_out = significance.leave_one_out(both.transpose(2, 0, 1, 3), reduce).mean(2)
    return significance.compared(float(point[0] - point[1]), drawn[:, 0] - drawn[:, 1], left_out[:, 0] - left_out[:, 1])


def test_resampled_sums_are_sums_of_drawn_examples() -> None:
    features = np.eye(6)
    counts = significance.resampled_sums(features, 5000, seed=0)
    assert np.array_equal(counts, counts.round())
    assert np.all(counts.sum(1) == 6)
    # Multinomial counts: mean 1, variance 1 - 1/6, covariance -1/6.
    assert counts.mean(0) == pytest.approx(np.ones(6), abs=0.06)
    assert np.cov(counts.T) == pytest.approx(np.eye(6) - 1 / 6, abs=0.06)


def test_chunks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    whole = significance.resampled_sums(features, 100, seed=1)
    monkeypatch.setattr(significance, "CHUNK", 170)
    np.testing.assert_allclose(significance.resampled_sums(features, 100, seed=1), whole)


def test_bootstrap_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(0).exponential(size=400)
    sums = significance.resampled_sums(np.stack([values, np.ones(400)], axis=1), 4000, seed=2)
    assert ratio(sums).std() == pytest.approx(values.std() / 20, rel=0.05)


def test_intervals_cover_and_false_alarms_are_rare() -> None:
    rng = np.random.default_rng(5)
    covered, alarms, trials = 0, 0, 400
    for trial in range(trials):
        sizes = rng.integers(1, 6, 100).astype(np.float64)
        shared = rng.normal(size=100)  # what makes an example hard is common to both systems
        first, second = (np.stack([sizes * (2 + shared + rng.normal(size=100)), sizes], axis=1) for _ in range(2))
        found = paired_bootstrap(first, second, ratio, 400, seed=trial)
        covered += found.low <= 0 <= found.high
        alarms += found.p < 0.05
    # Two and a half standard deviations of the binomial, and the percentile interval's own small-sample deficit.
    assert 0.915 < covered / trials < 0.98
    assert alarms / trials < 0.085


def test_pairing_finds_what_separate_intervals_miss() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 5, 300)
    first, second = (np.stack([hard + rng.normal(gain, 0.3, 300), np.ones(300)], axis=1) for gain in (0.2, 0.0))
    found = paired_bootstrap(first, second, ratio, 1000, seed=0)
    assert found.difference == pytest.approx((first - second)[:, 0].mean())
    assert found.low > 0
    assert found.p < 0.01
    assert interval(ratio(significance.resampled_sums(first, 1000, 0)))[0] < hard.mean()


def test_p_agrees_with_the_interval_and_with_the_paired_t_test() -> None:
    rng = np.random.default_rng(3)
    for shift in (0.0, 0.05, 0.1, 0.2):
        gap = rng.normal(shift, 1, 500)
        first, second = (np.stack([part, np.ones(500)], axis=1) for part in (gap, np.zeros(500)))
        found = paired_bootstrap(first, second, ratio, 4000, seed=1)
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
        assert found.p == pytest.approx(stats.ttest_1samp(gap, 0).pvalue, abs=0.03)


def test_equal_systems_differ_by_nothing() -> None:
    one = np.random.default_rng(0).random((50, 2))
    found = paired_bootstrap(one, one, ratio, 200, seed=0)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert p_value(np.ones(1999)) == pytest.approx(2 / 2000)


def test_seeds_widen_the_interval_by_their_variance() -> None:
    rng = np.random.default_rng(1)
    examples, seeds = 500, 4
    effect = np.array([-0.3, -0.1, 0.1, 0.3])
    first = np.ones((seeds, examples, 2))
    first[:, :, 0] = rng.normal(size=examples) + effect[:, None]
    second = np.zeros_like(first)
    second[:, :, 1] = 1
    sums = significance.resampled_sums(first.transpose(1, 0, 2).reshape(examples, -1), 4000, 0)
    weights = significance.seed_weights(range(seeds), 4000, 0)
    drawn = (ratio(sums.reshape(4000, seeds, 2)) * weights).sum(1)
    # Crossed factors: the variances of the two means add up; Rao and Wu make that of the seeds unbiased.
    expected = first[0, :, 0].var() / examples + effect.var(ddof=1) / seeds
    assert drawn.var() == pytest.approx(expected, rel=0.08)
    with_seeds = paired_bootstrap(first, second, ratio, 2000, 0)
    averaged = paired_bootstrap(first.mean(0), second.mean(0), ratio, 2000, 0)
    assert with_seeds.difference == pytest.approx(averaged.difference)
    assert with_seeds.high - with_seeds.low > 1.5 * (averaged.high - averaged.low)


def test_weights_of_seeds() -> None:
    weights = significance.seed_weights([3, 5, 9], 500, 0)
    assert np.allclose(weights.sum(1), 1)
    assert np.array_equal(weights, significance.seed_weights([3, 5, 9], 500, 0))
    assert not np.array_equal(weights, significance.seed_weights([0, 1, 2], 500, 0))
    assert np.array_equal(significance.seed_weights([7], 5, 0), np.ones((5, 1)))


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_holm_equals_statsmodels(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(3):
        p = (rng.random(size) ** 3).round(2)  # rounded, so that some are equal and some are 0
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_of_nothing() -> None:
    assert holm([]) == []


def test_diebold_mariano_one_step_is_a_t_test() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(40), rng.random(40) + 0.1
    # At horizon 1 Harvey's factor turns the biased variance into the unbiased one: the paired t statistic.
    expected = stats.ttest_rel(first, second)
    assert diebold_mariano(first, second, 1) == pytest.approx((expected.statistic, expected.pvalue))


def test_diebold_mariano_by_hand_at_horizon_three() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=62)
    gap = noise[2:] + noise[1:-1] + noise[:-2] + 0.3
    n, h, mean = 60, 3, gap.mean()
    gamma = [sum((gap[t] - mean) * (gap[t - k] - mean) for t in range(k, n)) / n for k in range(h)]
    plain = mean / np.sqrt((gamma[0] + 2 * gamma[1] + 2 * gamma[2]) / n)
    statistic = plain * np.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    found = diebold_mariano(gap, np.zeros(n), h)
    assert found == pytest.approx((statistic, 2 * stats.t.sf(abs(statistic), n - 1)))
    assert diebold_mariano(np.zeros(n), gap, h) == pytest.approx((-statistic, found[1]))


def test_diebold_mariano_edges() -> None:
    assert diebold_mariano(np.ones(9), np.ones(9), 2) == (0, 1)
    assert diebold_mariano(np.ones(9), np.zeros(9), 2) == (np.inf, 0)
    alternating = np.tile([1.0, -1.0], 10) + 0.1
    assert np.isfinite(diebold_mariano(alternating, np.zeros(20), 2)[0])
    with pytest.raises(ValueError, match="longer than 5"):
        diebold_mariano(np.ones(5), np.zeros(5), 5)


# Few examples


def pair_of(gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of two systems whose differences are `gap`."""
    first, second = (np.stack([part, np.ones(len(gap))], axis=1) for part in (gap, np.zeros(len(gap))))
    return first, second


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.floats(0.1, 10))
def test_sign_flips_count_every_flip(values: list[int], unit: float) -> None:
    gap = np.array(values) * unit
    flipped = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=len(values))]
    assert significance.sign_flips(gap).p == np.mean(np.array(flipped) >= abs(sum(values)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, significance.EXACT), st.integers(0, 1000))
def test_the_exact_interval_ends_where_the_exact_test_does(size: int, seed: int) -> None:
    gap = np.random.default_rng(seed).normal(0.5, 1, size)
    found = significance.sign_flips(gap)
    assert found.too_few == (size < 6) == bool(np.isinf(found.high))
    assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    if not found.too_few:
        for end, inwards in ((found.low, 1e-6), (found.high, -1e-6)):
            assert significance.sign_flips(gap - end - inwards).p > 0.05
            assert significance.sign_flips(gap - end + inwards).p < 0.05


def test_exact_intervals_of_few_examples_cover() -> None:
    rng = np.random.default_rng(0)
    for size, level in ((6, 1 - 2 / 64), (8, 1 - 12 / 256), (12, 1 - 204 / 4096)):
        inside = [
            found.low <= 1 <= found.high
            for found in (significance.sign_flips(rng.laplace(1, 2, size)) for _ in range(600))
        ]
        assert np.mean(inside) == pytest.approx(level, abs=0.025)


def test_two_pairs_tell_nothing() -> None:
    found = paired_bootstrap(*pair_of(np.array([3.0, 3.1])), ratio, 1000, seed=0)
    assert (found.difference, found.p, found.least) == (pytest.approx(3.05), 0.5, 0.5)
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.too_few


def test_one_example_more_than_the_exact_test_takes_is_bootstrapped() -> None:
    gap = np.random.default_rng(1).normal(1.5, 1, significance.EXACT + 1)
    exact = paired_bootstrap(*pair_of(gap[:-1]), ratio, 2000, seed=0)
    drawn = paired_bootstrap(*pair_of(gap), ratio, 2000, seed=0)
    assert (exact.least, drawn.least) == (2 / 2**significance.EXACT, 2 / 2001)
    assert exact.high - exact.low == pytest.approx(drawn.high - drawn.low, rel=0.35)


def test_pseudo_values_of_a_mean_are_the_differences_and_of_a_ratio_have_its_jackknife_error() -> None:
    rng = np.random.default_rng(2)
    gap = rng.normal(size=9)
    features = np.stack([gap, np.ones(9)], axis=1)
    np.testing.assert_allclose(significance.pseudo_values(gap.mean(), significance.leave_one_out(features, ratio)), gap)
    features[:, 1] = rng.uniform(1, 2, 9)
    ratio_of = ratio(features.sum(0))
    left_out = significance.leave_one_out(features, ratio)
    by_hand = [features[np.arange(9) != i, 0].sum() / features[np.arange(9) != i, 1].sum() for i in range(9)]
    np.testing.assert_allclose(left_out, by_hand)
    linear = (features[:, 0] - ratio_of * features[:, 1]) / features[:, 1].mean()
    assert significance.pseudo_values(ratio_of, left_out).std() == pytest.approx(linear.std(), rel=0.1)


@pytest.mark.parametrize("examples", [6, 10, 42, 500])
def test_detectable_difference_equals_statsmodels(examples: int) -> None:
    spread = 1.7
    expected = TTestPower().solve_power(nobs=examples, alpha=0.05, power=0.8) * spread
    found = significance.detectable(spread / examples**0.5, examples)
    assert found == pytest.approx(expected, rel=1e-3)
    assert significance.examples_needed(found * 1.0001, spread / examples**0.5, examples) == examples
    assert significance.examples_needed(found / 3, spread / examples**0.5, examples) == pytest.approx(
        TTestPower().solve_power(effect_size=found / 3 / spread, alpha=0.05, power=0.8), abs=1
    )


def test_detectable_difference_of_too_few() -> None:
    assert significance.detectable(0.1, 5) == np.inf
    assert significance.detectable(0.0, 6) == 0
    assert significance.examples_needed(0.0, 0.1, 100) == np.inf
