"""What a network scores, when another seed and other examples would have given another figure: mean and interval over
both.

Seeds and examples are crossed: each seed's model is scored on every example. The variance of the mean is that of a
random two-way layout, so much from the seeds, so much from the examples, less what was counted twice; the interval is
Student's t with the degrees of freedom of Satterthwaite (1946), which are few where few seeds make most of the variance
(Searle, Casella and McCulloch 1992, chapter 4). A metric that is no mean goes by its jackknife pseudo-values.

The pigeonhole bootstrap of `significance` estimates the same variance, and for many seeds the same interval. Of three
seeds it draws two, which gives nine resamples: where seeds make most of the variance, its 95% intervals hold 90% of the
truths, and those here 92%; of two seeds, 86% and 91%. One seed is no sample of seeds: the interval then speaks of
examples alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from seqlab.evaluation.significance import ALPHA, PairedDifference


def told(seeds: Mapping[str, int]) -> str:
    """For the head of a page: on how many seeds its systems stand. seeds: how many, by system."""
    counts = sorted(set(seeds.values()))
    if counts == [1]:
        return "One seed: intervals and p-values speak of examples, not of training, and another seed may turn them."
    parts = [f"{sum(own == count for own in seeds.values())} systems of {count}" for count in counts]
    return f"Seeds: {', '.join(parts)}. Where there are several, intervals and p-values are over seeds and examples."


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and examples with its 95% interval.

    between: standard deviation of the metric from seed to seed, over all examples; 0 of one seed. error: standard error
    of the mean, of which `share` comes from the seeds. freedom: degrees of freedom of its t distribution.
    """

    mean: float
    low: float
    high: float
    seeds: int
    examples: int
    between: float
    error: float
    share: float
    freedom: float


def spread(features: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> Spread:
    """Of features (S, E, D) of S seeds on the same E examples, E >= 2; reduce: (..., D) sums -> (...)."""
    return _spread(*_pseudo_values(features, reduce))


def difference(
    first: np.ndarray,
    second: np.ndarray,
    loss: Callable[[np.ndarray], np.ndarray],
    other_loss: Callable[[np.ndarray], np.ndarray] | None = None,
) -> PairedDifference:
    """loss of second - loss of first: how much less the first loses, paired over examples.

    first, second: features (S, E, D) and (S', E, D) of the same examples. With equally many seeds they are paired in
    the order given; otherwise the means over the seeds are, and each side's seeds add their own variance.
    loss: (..., D) sums -> (...), lower being better. other_loss: the second's, where it is another.
    """
    value, pseudo = _pseudo_values(first, loss)
    other_value, other = _pseudo_values(second, other_loss or loss)
    if len(pseudo) == len(other):
        found = _spread(other_value - value, other - pseudo)
        return _comparison(found.mean, found.error, found.freedom)
    paired = _spread(
        np.array([other_value.mean() - value.mean()]), other.mean(0, keepdims=True) - pseudo.mean(0, keepdims=True)
    )
    parts = [(paired.error**2, paired.freedom)]
    for one in (value, other_value):
        if len(one) > 1:
            parts.append((float(one.var(ddof=1)) / len(one), len(one) - 1))
    variance = sum(part for part, _ in parts)
    return _comparison(paired.mean, variance**0.5, _satterthwaite(parts))


def _pseudo_values(features: np.ndarray, reduce: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The metric of each seed (S,), and its pseudo-value of each example (S, E)."""
    total = features.sum(1)
    value = reduce(total)
    size = features.shape[1]
    left_out = reduce(total[:, None] - features)
    return value, size * value[:, None] - (size - 1) * left_out


def _spread(value: np.ndarray, pseudo: np.ndarray) -> Spread:
    """value: (S,); pseudo: (S, E), of which a row's mean is about the seed's value."""
    seeds, examples = pseudo.shape
    cells = seeds * examples
    of_examples = seeds * pseudo.mean(0).var(ddof=1)
    of_seeds = examples * pseudo.mean(1).var(ddof=1) if seeds > 1 else 0.0
    rest = pseudo - pseudo.mean(0) - pseudo.mean(1, keepdims=True) + pseudo.mean()
    interaction = (rest**2).sum() / ((seeds - 1) * (examples - 1)) if seeds > 1 else 0.0
    # The interaction is in both mean squares. Chance may make that of the seeds the smaller one: then they add nothing.
    added = max(0.0, of_seeds - interaction)
    variance = (of_examples + added) / cells
    parts = [(of_examples / cells, examples - 1)]
    if added:
        parts.append((of_seeds / cells, seeds - 1))
        parts.append((interaction / cells, (seeds - 1) * (examples - 1)))
    freedom = _satterthwaite(parts, variance)
    made = _comparison(float(value.mean()), variance**0.5, freedom)
    return Spread(
        mean=made.difference,
        low=made.low,
        high=made.high,
        seeds=seeds,
        examples=examples,
        between=float(value.std(ddof=1)) if seeds > 1 else 0.0,
        error=float(variance**0.5),
        share=float(added / cells / variance) if variance else 0.0,
        freedom=freedom,
    )


def _satterthwaite(parts: list[tuple[float, float]], variance: float | None = None) -> float:
    """Degrees of freedom of a sum of mean squares, each with its own; `variance` where some were taken off again."""
    total = sum(part for part, _ in parts) if variance is None else variance
    below = sum(part**2 / freedom for part, freedom in parts)
    least = min(freedom for _, freedom in parts)
    return max(float(least), float(total**2 / below)) if below else float(least)


def _comparison(mean: float, error: float, freedom: float) -> PairedDifference:
    from scipy.special import stdtr, stdtrit

    if error == 0:
        return PairedDifference(mean, mean, mean, 1.0 if mean == 0 else 0.0, 0.0)
    reach = float(stdtrit(freedom, 1 - ALPHA / 2) * error)
    return PairedDifference(mean, mean - reach, mean + reach, float(2 * stdtr(freedom, -abs(mean) / error)), 0.0)
