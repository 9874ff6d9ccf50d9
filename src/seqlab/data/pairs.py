"""Pairs of sequences: what an encoder reads and what a decoder is to write; and monolingual text, noised, as pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqlab.data.sequences import Batch, Sequences
from seqlab.data.vocabulary import MASK
from seqlab.errors import UserError
from seqlab.settings import Noise


@dataclass(frozen=True)
class Pairs:
    """source and target: as many sequences of symbols each. Their batches carry the padded source beside the target."""

    source: Sequences
    target: Sequences
    labels = None

    def __post_init__(self) -> None:
        if len(self.source) != len(self.target):
            raise UserError(f"pairs: {len(self.source)} sources and {len(self.target)} targets, expected as many")

    def __len__(self) -> int:
        return len(self.target)

    @property
    def contents(self) -> Sequences:
        """The targets."""
        return self.target

    @property
    def lengths(self) -> np.ndarray:
        """(S,) of the targets: what is predicted."""
        return self.target.lengths

    @property
    def sizes(self) -> np.ndarray:
        """(S, 2) of targets and sources: what is padded."""
        return np.stack([self.target.lengths, self.source.lengths], 1)

    def subset(self, indices: np.ndarray) -> Pairs:
        return Pairs(self.source.subset(indices), self.target.subset(indices))

    def batch(self, indices: np.ndarray, key: tuple[int, ...] = ()) -> Batch:
        """`key`, which says when the batch is drawn, changes nothing: see Denoising."""
        return paired(self.source.batch(indices), self.target.batch(indices))

    def longest(self) -> Batch:
        """One pair, of the longest source and the longest target."""
        return paired(self.source.longest(), self.target.longest())


def paired(source: Batch, target: Batch) -> Batch:
    return Batch(target.x, target.mask, target.scored, None, source.x)


@dataclass(frozen=True)
class Denoising:
    """Sentences as pairs of (noised sentence, sentence). text: what to ask for, tokens, end.

    The noise is a function of `key`, or without one of the sentences' places in the set: so it is new at every step of
    a training, equal in a repeated training, and the same in every validation.
    """

    text: Sequences
    noise: Noise
    labels = None

    def __len__(self) -> int:
        return len(self.text)

    @property
    def contents(self) -> Sequences:
        return self.text

    @property
    def lengths(self) -> np.ndarray:
        """(S,) of the targets, which do not repeat what is asked for."""
        return self.text.lengths - 1

    @property
    def sizes(self) -> np.ndarray:
        return self.text.lengths

    def subset(self, indices: np.ndarray) -> Denoising:
        return Denoising(self.text.subset(indices), self.noise)

    def batch(self, indices: np.ndarray, key: tuple[int, ...] = ()) -> Batch:
        whole = self.text.batch(indices)
        rng = np.random.default_rng(key or np.asarray(indices, np.int64))
        return self._pair(whole, noised(whole.x, whole.mask, self.noise, rng))

    def longest(self) -> Batch:
        whole = self.text.longest()
        return self._pair(whole, whole.x)

    @staticmethod
    def _pair(whole: Batch, source: np.ndarray) -> Batch:
        return Batch(whole.x[:, 1:], whole.mask[:, 1:], whole.scored[:, 1:], None, source)


def noised(x: np.ndarray, mask: np.ndarray, noise: Noise, rng: np.random.Generator) -> np.ndarray:
    """x (B, T) with its inner tokens masked in spans and shuffled nearby; the first and last of a row stay.

    Padding stays where it is.
    """
    lengths = mask.sum(1)[:, None]
    steps = np.arange(x.shape[1])
    inner = (steps > 0) & (steps < lengths - 1)
    # A token begins a span with this chance, and spans have geometric lengths: about `masked` of all are covered.
    begins = rng.random(x.shape) < noise.masked / noise.span
    reach = np.where(begins, steps + rng.geometric(1 / noise.span, x.shape), 0)
    covered = np.maximum.accumulate(reach, axis=1) > steps
    places = steps + np.where(inner & ~covered, rng.random(x.shape) * (noise.shuffled + 1), 0)
    # A masked token keeps its place, and so do the ends: only what lies between them is sorted anew.
    order = np.argsort(np.where(inner, places, steps + np.where(steps >= lengths - 1, noise.shuffled + 1, -1)), axis=1)
    moved = np.take_along_axis(np.where(covered & inner, MASK, x), order, axis=1)
    return np.where(mask, moved, 0)
