"""Expectation-maximisation for models whose M-step is a function of expected sufficient statistics.

Statistics add up over sequences, so that a prior is statistics too: those of a source, scaled to the weight it is to
have, make the estimate a MAP one (Dempster, Laird and Rubin 1977), and an M-step may follow each block of the data and
not only the whole, the other blocks' statistics being those of their last visit (Neal and Hinton 1998). Either way the
objective never falls, and with one block it is EM as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import NamedTuple, TypeAlias

import numpy as np

from seqlab.errors import UserError

Statistics: TypeAlias = tuple[np.ndarray, ...]
EStep: TypeAlias = Callable[[Statistics], Statistics]


class Climb(NamedTuple):
    """Where a run of EM ended: the best statistics, their score, and how often the data were read."""

    statistics: Statistics
    score: float
    passes: int


def total(parts: Iterable[tuple[float, Statistics]]) -> Statistics:
    """The weighted sum; all parts have the same shapes."""
    weighted = ([weight * array for array in statistics] for weight, statistics in parts)
    return tuple(reduce(lambda sums, more: [a + b for a, b in zip(sums, more, strict=True)], weighted))


def climb(
    start: Statistics,
    blocks: Sequence[EStep],
    score: Callable[[Statistics], float],
    *,
    prior: Statistics,
    passes: int,
    tolerance: float,
) -> Climb:
    """Run EM from the parameters that `start` implies.

    blocks: the E-step of each block of the data, from statistics (which imply parameters) to expected statistics;
    without any, the prior alone is the candidate. score: of a candidate, larger is better; the best pass is kept, and
    a pass that gains less than `tolerance` on the best before is the last. prior: added to the expected statistics of
    all blocks.
    """
    held: list[Statistics] = []
    now, best = start, Climb(start, -np.inf, 0)
    for done in range(1, passes + 1):
        for i, expect in enumerate(blocks):
            held[i : i + 1] = [expect(now)]
            now = total([(1.0, prior), *((1.0, part) for part in held)])
        reached, before = score(now), best.score
        if reached > before:
            best = Climb(now, reached, done)
        if not reached - before >= tolerance:
            break
    return best


def check_search(prior_weights: list[float], passes: int, tolerance: float) -> None:
    """Raise UserError for settings that no run of EM can have."""
    if not prior_weights or not all(0 <= weight <= 1 for weight in prior_weights):
        raise UserError(f"prior_weights: {prior_weights}; expected shares from 0 to 1")
    if passes < 1:
        raise UserError(f"passes: {passes}; expected at least 1")
    if not 0 <= tolerance < np.inf:
        raise UserError(f"tolerance: {tolerance}; expected a finite number of nats, not below 0")


def weight_of(share: float, count: float, source: float) -> float:
    """What to multiply a source's statistics by, so that it is `share` < 1 of the evidence (`count` positions are the
    target's, `source` the source's): the power prior of Ibrahim and Chen (2000)."""
    return share / (1 - share) * count / source
