"""Intervals and p-values by the paired bootstrap over examples, Holm's correction, and the Diebold–Mariano test; how
small a difference a test set can show.

Systems are compared in pairs: every replicate draws one set of examples and scores all systems on it (Koehn 2004).

Intervals are percentile intervals, and a p-value is that level at which the percentile interval of the difference ends
at zero, so the two never disagree. BCa was weighed and left: on differences of means over hundreds of examples it moves
an interval by little, and its p-values need an inversion of their own. The calibration error alone is biased upwards by
resampling, and its interval lies high.

Of up to EXACT examples the bootstrap knows too few resamples to be believed: two examples have three. There the test
is exact: all sign flips of the paired differences (Fisher 1935), whose least p is 2 / 2^n, and the interval is the one
that ends where that test does, between two means of subsets (Hartigan 1969). Fewer than six examples cannot reach 0.05
whatever they say: the interval is unbounded, and they are too few to tell. A metric that is no mean is tested by its
jackknife pseudo-values (Tukey 1958), which for a mean are the differences themselves.

Several seeds are a second, crossed factor (Owen 2007, the pigeonhole bootstrap): examples and seeds are drawn
independently, systems of equal seeds share the drawn seeds, and of S seeds S - 1 are drawn, which makes the variance
between so few of them unbiased (Rao and Wu 1988). With one seed the interval speaks of examples alone; so does an
exact test, which takes the mean over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seqlab.artifacts import seed_of

CHUNK = 1 << 22  # drawn examples held at a time
ALPHA = 0.05
EXACT = 12  # examples up to which all 2^n sign flips are tried


@dataclass(frozen=True)
class PairedDifference:
    """A difference, its interval and the two-sided p-value of "there is none".

    low, high: infinite where no interval of 95% is bounded. least: the least p that any data of this size could give.
    """

    difference: float
    low: float
    high: float
    p: float
    least: float

    @property
    def too_few(self) -> bool:
        """Whether no data of this size could be significant."""
        return self.least > ALPHA


def resampled_sums(features: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """(replicates, D) sums of features (E, D) over E examples drawn with replacement, the same ones in all columns."""
    size = len(features)
    rng = np.random.default_rng(seed)
    rows = max(1, CHUNK // size)
    sums = np.empty((replicates, features.shape[1]))
    for start in range(0, replicates, rows):
        count = min(rows, replicates - start)
        # Row r's draws count into cells r * size and on: multinomial counts by one bincount, faster than drawing them.
        drawn = rng.integers(0, size, (count, size)) + np.arange(0, count * size, size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        sums[start : start + count] = counts.astype(np.float64) @ features
    return sums


def seed_weights(seeds: Sequence[int], replicates: int, seed: int) -> np.ndarray:
    """(replicates, S) weights of the seeds, rows that sum to one; equal `seeds` give equal weights."""
    count = len(seeds)
    if count == 1:
        return np.ones((replicates, 1))
    rng = np.random.default_rng(seed_of(seed, "seeds", *seeds))
    return rng.multinomial(count - 1, np.full(count, 1 / count), replicates) / (count - 1)


def interval(replicates: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """Two-sided, from the replicates (B,) of a difference; at least 2 / (B + 1)."""
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, float(2 * (tail + 1) / (len(differences) + 1)))


def compared(difference: float, replicates: np.ndarray, left_out: np.ndarray) -> PairedDifference:
    """A difference with the replicates (B,) of it, and what it is without each example (E,); empty where E > EXACT."""
    if len(left_out):
        return sign_flips(pseudo_values(difference, left_out))
    return PairedDifference(difference, *interval(replicates), p_value(replicates), 2 / (len(replicates) + 1))


def least_p(examples: int, hypotheses: int = 1) -> float:
    """The least p that a test of this many examples can give, after Holm's correction over so many hypotheses.

    Above EXACT examples the bootstrap's own bound is of its replicates, and this one is beyond reach.
    """
    return min(1.0, max(1, hypotheses) * 2 / 2.0 ** min(examples, 1000))


def leave_one_out(features: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(E, ...): the metric without each example, of features (E, ..., D); empty where E > EXACT.

    Of a single example there is nothing without it: its own value stands for that.
    """
    if len(features) > EXACT:
        return np.empty((0, *features.shape[1:-1]))
    return reduce(features.sum(0) - features if len(features) > 1 else features)


def standard_error(difference: Callable[[np.ndarray], np.ndarray], features: np.ndarray) -> float:
    """The jackknife's, of a function of the sums of features (E, ...); infinite of a single example."""
    size = len(features)
    if size < 2:
        return float("inf")
    left_out = difference(features.sum(0) - features)
    return float(np.sqrt((size - 1) * left_out.var()))


def pseudo_values(value: float, left_out: np.ndarray) -> np.ndarray:
    """(E,) jackknife pseudo-values; their mean is the value less its jackknife bias, of a mean the value itself."""
    size = len(left_out)
    return np.asarray(size * value - (size - 1) * left_out)


def sign_flips(differences: np.ndarray) -> PairedDifference:
    """The exact test that differences (n,), n <= EXACT, lie symmetrically about zero, and its interval of the centre.

    With n paired differences there are 2^n sign flips. As many of them reach the observed mean as there are subsets
    whose sum is not positive (the empty one included), so the p-value and the interval are read off the means of the
    2^n - 1 others: of 95% are those from the k-th smallest to the k-th largest, k = floor(2^n / 40), none where k is 0.
    """
    size = len(differences)
    flips = 1 << size
    chosen = (np.arange(1, flips)[:, None] >> np.arange(size)) & 1
    means = np.sort(chosen @ differences / chosen.sum(1))
    # Sums of the same numbers in another order differ in their last digits, and would miss a tie with zero.
    means[np.abs(means) <= 1e-12 * np.abs(differences).max()] = 0
    tail = 1 + min((means <= 0).sum(), (means >= 0).sum())
    k = int(ALPHA / 2 * flips)
    low, high = (means[k - 1], means[-k]) if k else (-np.inf, np.inf)
    return PairedDifference(
        float(differences.mean()), float(low), float(high), min(1.0, 2 * tail / flips), least_p(size)
    )


def detectable(error: float, examples: int, power: float = 0.8) -> float:
    """The least true difference that a two-sided paired test at ALPHA finds with this probability.

    error: standard error of the difference over `examples` pairs. From the noncentral t distribution (Cohen 1988,
    chapter 2). Infinite where the pairs are too few for any difference.
    """
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    if least_p(examples) > ALPHA:
        return float("inf")
    if error == 0:
        return 0.0
    freedom = examples - 1
    bound = t.ppf(1 - ALPHA / 2, freedom)

    def excess(shift: float) -> float:
        return float(nct.sf(bound, freedom, shift) - power)  # the far tail's share is below 1e-5 at a power of 0.8

    return error * float(brentq(excess, 0, 2 * bound + 10))


def examples_needed(difference: float, error: float, examples: int, power: float = 0.8) -> float:
    """Pairs of the same spread that would make this true difference detectable; infinite where there is none."""
    if difference == 0:
        return float("inf")
    spread, most = error * examples**0.5, 1 << 40
    low, high = 1, 2
    while detectable(spread / high**0.5, high, power) > abs(difference):
        low, high = high, 2 * high
        if high > most:
            return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        enough = detectable(spread / middle**0.5, middle, power) <= abs(difference)
        low, high = (low, middle) if enough else (middle, high)
    return float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order; Holm (1979)."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return [float(one) for one in adjusted]


def diebold_mariano(first: np.ndarray, second: np.ndarray, horizon: int) -> tuple[float, float]:
    """Statistic and two-sided p of equal accuracy, from losses (n,) of two h-step forecasts in order of time.

    Diebold and Mariano (1995) with the small-sample factor and Student's t (n - 1) of Harvey, Leybourne and Newbold
    (1997). A negative statistic favours the first. Where h - 1 autocovariances leave no positive variance, they are
    given Bartlett's weights. Raises ValueError on unequal lengths or a series no longer than the horizon.
    """
    from scipy.special import stdtr

    gap = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    size = len(gap)
    if np.shape(first) != np.shape(second) or size <= horizon:
        raise ValueError(f"shapes {np.shape(first)}, {np.shape(second)}: expected equal, longer than {horizon}")
    centred = gap - gap.mean()
    if not centred.any():
        return (float(np.sign(gap[0]) * np.inf), 0.0) if gap[0] else (0.0, 1.0)
    covariances = np.array([centred[lag:] @ centred[: size - lag] for lag in range(horizon)]) / size
    variance = covariances[0] + 2 * covariances[1:].sum()
    if variance <= 0:
        variance = covariances[0] + 2 * covariances[1:] @ (1 - np.arange(1, horizon) / horizon)
    harvey = (size + 1 - 2 * horizon + horizon * (horizon - 1) / size) / size
    statistic = float(gap.mean() / np.sqrt(variance / size) * np.sqrt(harvey))
    return statistic, float(2 * stdtr(size - 1, -abs(statistic)))
