"""Batches as tensors, in an order that is a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from seqlab.data.sequences import Batch, Data, buckets


class TensorBatch(NamedTuple):
    """A `seqlab.data.sequences.Batch` as tensors. idle: stands where a rank has no row, and must not count."""

    x: Tensor
    mask: Tensor
    scored: Tensor
    labels: Tensor | None
    source: Tensor | None = None
    marks: Tensor | None = None
    idle: bool = False

    @classmethod
    def of(cls, batch: Batch, multiple: int = 1, idle: bool = False) -> TensorBatch:
        """Share the arrays' memory; with `multiple`, T is padded up to a multiple of it."""
        parts = (batch.x, batch.mask, batch.scored, batch.source, batch.marks)
        x, mask, scored, source, marks = (None if a is None else torch.from_numpy(widened(a, multiple)) for a in parts)
        assert x is not None
        assert mask is not None
        assert scored is not None
        labels = None if batch.labels is None else torch.from_numpy(batch.labels)
        return cls(x, mask, scored, labels, source, marks, idle)

    def cut(self, length: int, source_length: int) -> TensorBatch:
        """The first positions alone."""
        source = None if self.source is None else self.source[:, :source_length]
        marks = None if self.marks is None else self.marks[:, :length]
        return self._replace(
            x=self.x[:, :length], mask=self.mask[:, :length], scored=self.scored[:, :length], source=source, marks=marks
        )


def widened(a: np.ndarray, multiple: int) -> np.ndarray:
    """(B, T[, C]) with T padded up to a multiple."""
    extra = -a.shape[1] % multiple
    return np.pad(a, ((0, 0), (0, extra)) + ((0, 0),) * (a.ndim - 2)) if extra else a


def shared(batch: Batch, rank: int, ranks: int) -> Batch:
    """The rows of one of several ranks, every so many-th, without the padding that none of them needs. A rank without
    any has the first row."""
    if ranks == 1:
        return batch
    rows = np.arange(rank if rank < len(batch.x) else 0, len(batch.x), ranks)
    width = int(batch.mask[rows].sum(1).max(initial=0))
    x, mask, scored = (part[rows, :width] for part in (batch.x, batch.mask, batch.scored))
    labels = None if batch.labels is None else batch.labels[rows]
    marks = None if batch.marks is None else batch.marks[rows, :width]
    source = None if batch.source is None else batch.source[rows, : int((batch.source[rows] != 0).sum(1).max())]
    return Batch(x, mask, scored, labels, source, marks)


class Stream(IterableDataset[TensorBatch]):
    """Epoch after epoch without end, each in its own order; `start` at any step without reading what came before.

    The permutation of an epoch is a function of (seed, epoch), and the noise of a batch one of (seed, step). Of each
    batch every rank has a share of the rows, so that what is trained on does not depend on the number of devices.

    tokens: positions in a batch, of all ranks together, padding included.
    """

    def __init__(self, data: Data, tokens: int, seed: int, multiple: int = 1):
        self.data, self.tokens, self.seed, self.multiple = data, tokens, seed, multiple
        self.rank, self.ranks, self.start = 0, 1, 0

    def epoch(self, number: int) -> list[np.ndarray]:
        """The batches of one epoch, as indices of sequences; every epoch has the same number of batches."""
        return buckets(self.data.sizes, self.tokens, np.random.default_rng((self.seed, number)))

    def __iter__(self) -> Iterator[TensorBatch]:
        current, batches = 0, self.epoch(0)
        for step in count(self.start):
            number, i = divmod(step, len(batches))
            if number != current:
                current, batches = number, self.epoch(number)
            whole = self.data.batch(batches[i], (self.seed, step))
            yield TensorBatch.of(shared(whole, self.rank, self.ranks), self.multiple, self.rank >= len(whole.x))

    def seen(self, steps: int) -> tuple[int, int, int]:
        """Sequences, positions and, beside these, padding of the batches of `steps` steps."""
        epochs, rest = divmod(steps, len(self.epoch(0)))
        part = np.concatenate([np.zeros(0, np.int64), *self.epoch(epochs)[:rest]])
        lengths = self.data.lengths
        positions = int(epochs * lengths.sum() + lengths[part].sum())
        # Sorted by length before they are cut, the batches of all epochs have the same shapes.
        padded = epochs * self.size(self.epoch(0)) + self.size(self.epoch(epochs)[:rest])
        return epochs * len(lengths) + len(part), positions, padded - positions

    def size(self, batches: list[np.ndarray]) -> int:
        """Positions of these batches, padding included."""
        widest = (int(self.data.lengths[indices].max()) for indices in batches)
        return sum(len(i) * (w + -w % self.multiple) for i, w in zip(batches, widest, strict=True))


def validation_batches(data: Data, tokens: int, positions: int, seed: int) -> list[np.ndarray]:
    """Batches (as indices) of the whole set, or of a random part of it with about `positions` positions: the same at
    every validation of a training."""
    order = np.random.default_rng(seed).permutation(len(data))
    enough = int(np.searchsorted(np.cumsum(data.lengths[order]), positions)) + 1
    chosen = np.sort(order[:enough])
    return [chosen[part] for part in buckets(data.sizes[chosen], tokens)]
