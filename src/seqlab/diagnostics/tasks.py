"""Two tasks that nothing but memory solves, at any horizon; data are a function of (seed, batch number)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

LETTERS = 8  # of the copy task
COPIED = 4  # letters to remember
BLANK, RECALL = LETTERS, LETTERS + 1  # symbols beside the letters: wait; and say what you saw


@dataclass(frozen=True)
class Examples:
    """x: (B, T, C) float32. answers: (B, A) of the last A positions, int64 for letters or float32 for numbers."""

    x: np.ndarray
    answers: np.ndarray


@dataclass(frozen=True)
class Task:
    """name: copy or adding. horizon: steps between what is to be remembered and its use."""

    name: Literal["copy", "adding"]
    horizon: int

    @property
    def channels(self) -> int:
        return LETTERS + 2 if self.name == "copy" else 2

    @property
    def outputs(self) -> int:
        return LETTERS if self.name == "copy" else 1

    @property
    def baseline(self) -> float:
        """The least loss without memory: nats a letter, or the mean squared error."""
        # A sum of two uniform numbers has the variance 2 / 12.
        return math.log(LETTERS) if self.name == "copy" else 1 / 6

    def draw(self, size: int, seed: int, number: int) -> Examples:
        """Batch `number` of `size` examples."""
        rng = np.random.default_rng((seed, number, self.horizon))
        return (copying if self.name == "copy" else adding)(rng, size, self.horizon)


def copying(rng: np.random.Generator, size: int, horizon: int) -> Examples:
    """COPIED letters, `horizon` blanks, then the letters again, each while RECALL is shown (Hochreiter and Schmidhuber
    1997; Arjovsky, Shah and Bengio 2016): one-hot inputs, and the letters as answers."""
    letters = rng.integers(LETTERS, size=(size, COPIED))
    symbols = np.full((size, 2 * COPIED + horizon), BLANK)
    symbols[:, :COPIED] = letters
    symbols[:, -COPIED:] = RECALL
    return Examples(np.eye(LETTERS + 2, dtype=np.float32)[symbols], letters)


def adding(rng: np.random.Generator, size: int, horizon: int) -> Examples:
    """`horizon` uniform numbers, two of them marked, one in each half; the answer is the sum of the two (Hochreiter and
    Schmidhuber 1997): a channel of numbers and one of marks."""
    numbers = rng.random((size, horizon), np.float32)
    marks = np.zeros((size, horizon), np.float32)
    rows, half = np.arange(size), horizon // 2
    for low, high in ((0, half), (half, horizon)):
        marks[rows, rng.integers(low, high, size=size)] = 1
    return Examples(np.stack([numbers, marks], -1), (numbers * marks).sum(1, keepdims=True))
