"""Where a density of vectors begins: with the carry of its training data."""

from __future__ import annotations

import numpy as np
import torch

from seqlab.data.ahead import Ahead
from seqlab.data.sequences import Sequences
from seqlab.families.gradient.vector_ends import VectorEnds
from seqlab.settings import named

TOKENS = 1 << 16  # positions in a batch while the training split is read


def set_carry(ends: VectorEnds, data: Sequences) -> None:
    """Let each channel begin with its own `lag_one`, and an end that looks further ahead with its own beginning."""
    with torch.no_grad():
        ends.carry.copy_(torch.from_numpy(lag_one(data)))
    if isinstance(data, Ahead):
        # By name: what looks one step ahead does not depend on what looks further.
        named("seqlab.tasks.forecast.gradient.begin")(ends, data)


def lag_one(sequences: Sequences) -> np.ndarray:
    """(C,) coefficients of each channel's value on the one before, no constant, by least absolute deviations; within
    [-1, 1]; 0 of a channel without values.

    Squares would follow the few large jumps, such as a film's cuts, and pull all that stands still away from its place.
    """
    nothing = np.empty((0, sequences.values.shape[1]), np.float32)
    pairs = [(nothing, nothing)]
    for _, batch in sequences.batches(TOKENS):
        followed = batch.mask[:, 1:]
        pairs.append((batch.x[:, :-1][followed], batch.x[:, 1:][followed]))
    before, after = (np.concatenate(part).astype(np.float64) for part in zip(*pairs, strict=True))
    return np.array([np.clip(least_deviations(*column), -1, 1) for column in zip(before.T, after.T, strict=True)])


def least_deviations(before: np.ndarray, after: np.ndarray) -> float:
    """The a with the least sum of |after - a before|, (N,) each: the median of the ratios, weighted by |before|."""
    some = before != 0
    if not some.any():
        return 0.0
    ratios = after[some] / before[some]
    order = np.argsort(ratios, kind="stable")
    weight = np.cumsum(np.abs(before[some])[order])
    return float(ratios[order][np.searchsorted(weight, weight[-1] / 2)])
