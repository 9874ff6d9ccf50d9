"""Intervals and p-values by the paired bootstrap over examples, Holm's correction, and the Diebold–Mariano test.

Systems are compared in pairs: every replicate draws one set of examples and scores all systems on it (Koehn 2004).

Intervals are percentile intervals, and a p-value is that level at which the percentile interval of the difference ends
at zero, so the two never disagree. BCa was weighed and left: on differences of means over hundreds of examples it moves
an interval by little, and its p-values need an inversion of their own. The calibration error alone is biased upwards by
resampling, and its interval lies high.

Several seeds are a second, crossed factor (Owen 2007, the pigeonhole bootstrap): examples and seeds are drawn
independently, systems of equal seeds share the drawn seeds, and of S seeds S - 1 are drawn, which makes the variance
between so few of them unbiased (Rao and Wu 1988). With one seed the interval speaks of examples alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seqlab.artifacts import seed_of

CHUNK = 1 << 22  # drawn examples held at a time


@dataclass(frozen=True)
class Comparison:
    """A difference, its interval and the two-sided p-value of "there is none"."""

    difference: float
    low: float
    high: float
    p: float


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


def compared(difference: float, replicates: np.ndarray) -> Comparison:
    """A difference with the replicates (B,) of it."""
    return Comparison(difference, *interval(replicates), p_value(replicates))


def paired_bootstrap(
    first: np.ndarray,
    second: np.ndarray,
    reduce: Callable[[np.ndarray], np.ndarray],
    replicates: int,
    seed: int,
) -> Comparison:
    """reduce(sums of first) - reduce(sums of second), averaged over seeds.

    first, second: features (E, D) of the same examples, or (S, E, D) of the same S seeds; reduce: (..., D) -> (...).
    """
    both = np.stack([np.reshape(part, (-1, *part.shape[-2:])) for part in (first, second)])
    systems, seeds, examples, width = both.shape
    sums = resampled_sums(both.transpose(2, 0, 1, 3).reshape(examples, -1), replicates, seed)
    weights = seed_weights(range(seeds), replicates, seed)
    drawn = (reduce(sums.reshape(replicates, systems, seeds, width)) * weights[:, None]).sum(2)
    point = reduce(both.sum(2)).mean(1)
    return compared(float(point[0] - point[1]), drawn[:, 0] - drawn[:, 1])


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
