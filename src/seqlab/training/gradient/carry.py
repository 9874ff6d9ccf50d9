"""Where a density of vectors begins: with the carry of its training data."""

from __future__ import annotations

import numpy as np
import torch

from seqlab.data.sequences import Sequences
from seqlab.families.gradient.vector_ends import VectorEnds

TOKENS = 1 << 16  # positions in a batch while the training split is read


def set_carry(ends: VectorEnds, data: Sequences) -> None:
    """Let each channel begin with its own `lag_one`."""
    with torch.no_grad():
        ends.carry.copy_(torch.from_numpy(lag_one(data)))


def lag_one(sequences: Sequences) -> np.ndarray:
    """(C,) least-squares coefficients of each channel's value on the one before, no constant; within [-1, 1]."""
    products, squares = np.zeros((2, sequences.values.shape[1]))
    for _, batch in sequences.batches(TOKENS):
        # Padding is zero and adds nothing to the products; squares need the value to be followed by another.
        before, after = batch.x[:, :-1].astype(np.float64), batch.x[:, 1:]
        products += (before * after).sum((0, 1))
        squares += (before**2 * batch.mask[:, 1:, None]).sum((0, 1))
    return np.clip(products / np.where(squares > 0, squares, 1), -1, 1)
