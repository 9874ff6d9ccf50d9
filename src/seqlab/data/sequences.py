"""Sequences of unequal length on disk and in padded batches.

A set of S sequences is one contiguous array of values and S + 1 offsets, memory-mapped, so that opening costs the same
whatever the size, and a padded batch is one gather without Python work for each item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.lib import format as npy

from seqlab.artifacts import read_array
from seqlab.errors import UserError

SPLITS = ("train", "valid", "test")
OPTIONAL = ("labels", "first", "centre", "scale")  # one entry a sequence
POSITIONAL = ("marks", "filled")  # one entry a position
# A batch of at least this share of its tokens ends before more than this share of it is padding.
FULL_ENOUGH, WASTE = 0.25, 0.1


@dataclass(frozen=True)
class Space:
    """What one position of a sequence is: a symbol out of `size`, or a vector of `size` channels."""

    kind: str  # "symbols" | "vectors"
    size: int

    @property
    def symbols(self) -> bool:
        return self.kind == "symbols"


@dataclass(frozen=True)
class Batch:
    """A padded batch. x: (B, T) int64 symbols or (B, T, C) float32 vectors; padding is zero.

    mask: (B, T) bool, true where a position exists. scored: (B, T) bool, true where it is also scored (what is before a
    sequence's `first` or was filled in is context only). labels: (B,) int64, or None. source: of pairs, (B, S) int64,
    what x is to be predicted from; its padding is zero and no symbol. marks: (B, T) int64 class of each position, zero
    on padding, or None.
    """

    x: np.ndarray
    mask: np.ndarray
    scored: np.ndarray
    labels: np.ndarray | None
    source: np.ndarray | None = None
    marks: np.ndarray | None = None


@dataclass(frozen=True)
class Sequences:
    """S sequences as one array.

    values: (N,) unsigned integers for symbols, or (N, C) float32 for vectors; float64 where float32 would round away
    what varies (batches are standardised first, and then float32). offsets: (S + 1,) int64; sequence i is
    values[offsets[i]:offsets[i + 1]]. labels: (S,) int64 class of each sequence. first: (S,) int64, the first scored
    position. centre, scale: (S, C) standardisation of each sequence, of the values' type, from positions before
    `first` alone. marks: (N,) unsigned integers, the class of each position. filled: (N,) bool, where no value was
    recorded and another stands in its place: context, and never scored.
    """

    values: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray | None = None
    first: np.ndarray | None = None
    centre: np.ndarray | None = None
    scale: np.ndarray | None = None
    marks: np.ndarray | None = None
    filled: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> np.ndarray:
        """(S,) int64."""
        return np.diff(self.offsets)

    @property
    def sizes(self) -> np.ndarray:
        """(S,) int64: what is padded."""
        return self.lengths

    @property
    def contents(self) -> Sequences:
        """What tells one example from another: themselves."""
        return self

    @property
    def symbols(self) -> bool:
        return self.values.ndim == 1

    @property
    def scored(self) -> np.ndarray:
        """(N,) bool, the positions from each sequence's `first` on that were not filled in."""
        begins = self.offsets[:-1] + (0 if self.first is None else self.first)
        scored = np.arange(len(self.values)) >= np.repeat(begins, self.lengths)
        return scored if self.filled is None else scored & ~self.filled

    def subset(self, indices: np.ndarray) -> Sequences:
        """The sequences at `indices`, in that order, copied."""
        indices = np.asarray(indices, np.int64)
        lengths = self.lengths[indices]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        source = np.repeat(self.offsets[indices] - offsets[:-1], lengths) + np.arange(offsets[-1])
        optional = {name: part[indices] for name in OPTIONAL if (part := getattr(self, name)) is not None}
        optional |= {name: part[source] for name in POSITIONAL if (part := getattr(self, name)) is not None}
        return Sequences(self.values[source], offsets, **optional)

    def batch(self, indices: np.ndarray, key: tuple[int, ...] = ()) -> Batch:
        """A padded batch of the sequences at `indices`, standardised where the set carries centre and scale.

        `key`, which says when the batch is drawn, matters to noised data alone (pairs.Denoising).
        """
        indices = np.asarray(indices, np.int64)
        starts, lengths = self.offsets[indices], self.offsets[indices + 1] - self.offsets[indices]
        steps = np.arange(int(lengths.max(initial=0)))
        mask = steps < lengths[:, None]
        # Positions past a sequence's end read its last value and are zeroed below: one gather, no branch a row.
        # An empty sequence has no last value, so its index is kept inside the array.
        last = np.maximum(lengths - 1, 0)[:, None]
        gathered = np.minimum(starts[:, None], len(self.values) - 1) + np.minimum(steps, last)
        x = self.values[gathered]
        if self.symbols:
            x = np.where(mask, x, 0).astype(np.int64)
        else:
            if self.centre is not None and self.scale is not None:
                x = (x - self.centre[indices, None]) / self.scale[indices, None]
            x = np.where(mask[..., None], x, 0).astype(np.float32)
        scored = mask if self.first is None else mask & (steps >= self.first[indices, None])
        if self.filled is not None:
            scored = scored & ~self.filled[gathered]
        labels = None if self.labels is None else self.labels[indices].astype(np.int64)
        marks = None if self.marks is None else np.where(mask, self.marks[gathered], 0).astype(np.int64)
        return Batch(x, mask, scored, labels, marks=marks)

    def longest(self) -> Batch:
        """The longest sequence."""
        return self.batch(np.argsort(self.lengths, kind="stable")[-1:])

    def batches(self, tokens: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Every sequence once, in batches of similar length of at most `tokens` positions: (indices, batch)."""
        for indices in buckets(self.lengths, tokens):
            yield indices, self.batch(indices)

    def save(self, folder: Path) -> None:
        """Write as `.npy` files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("values", "offsets", *OPTIONAL, *POSITIONAL):
            if (part := getattr(self, name)) is not None:
                save_array(folder / f"{name}.npy", part)

    @classmethod
    def load(cls, folder: Path) -> Sequences:
        """Memory-map a saved set. Raises UserError when a part is missing or does not fit the others."""
        parts = {}
        for name in ("values", "offsets", *OPTIONAL, *POSITIONAL):
            path = folder / f"{name}.npy"
            if path.exists():
                # An empty file cannot be mapped, and labels are too small to be worth it.
                mapped = name in ("values", *POSITIONAL) and path.stat().st_size > 4096
                parts[name] = read_array(path, mapped=mapped)
            elif name not in (*OPTIONAL, *POSITIONAL):
                raise UserError(f"{path}: missing; run the prepare stage")
        found = cls(**parts)
        offsets = found.offsets
        whole = offsets.ndim == 1 and offsets.dtype == np.int64 and offsets[:1].tolist() == [0]
        if not whole or (np.diff(offsets) < 0).any():
            raise UserError(f"{folder / 'offsets.npy'}: expected int64 positions that begin with 0 and never fall")
        if offsets[-1] != len(found.values):
            raise UserError(f"{folder}: offsets end at {offsets[-1]}, but there are {len(found.values)} values")
        for name in OPTIONAL:
            if name in parts and len(parts[name]) != len(found):
                raise UserError(f"{folder / name}.npy: {len(parts[name])} entries for {len(found)} sequences")
        for name in POSITIONAL:
            if name in parts and parts[name].shape != found.values.shape[:1]:
                raise UserError(f"{folder / name}.npy: {len(parts[name])} entries for {len(found.values)} positions")
        return found

    @classmethod
    def from_arrays(cls, arrays: Iterable[np.ndarray], **optional: np.ndarray) -> Sequences:
        """Concatenate in-memory sequences; there must be at least one."""
        arrays = list(arrays)
        offsets = np.concatenate([[0], np.cumsum([len(a) for a in arrays])]).astype(np.int64)
        return cls(np.concatenate(arrays), offsets, **optional)


class Data(Protocol):
    """Whatever batches can be drawn from: sequences, pairs of them, noised ones."""

    @property
    def labels(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray:
        """(S,) positions that are predicted."""

    @property
    def sizes(self) -> np.ndarray:
        """(S,) or (S, n): what is padded."""

    @property
    def contents(self) -> Sequences:
        """What tells one example from another."""

    def subset(self, indices: np.ndarray) -> Self: ...

    def batch(self, indices: np.ndarray, key: tuple[int, ...] = ()) -> Batch: ...

    def longest(self) -> Batch: ...


def save_array(path: Path, values: np.ndarray) -> None:
    """The bytes of `np.save`, which reports a full disk without the error's number."""
    values = np.ascontiguousarray(values)
    with open(path, "wb") as file:
        npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(values))
        file.write(values.data)


def buckets(lengths: np.ndarray, tokens: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
    """Cut the sequences into batches of similar length, each at most `tokens` positions after padding.

    lengths: (S,), or (S, n) of n sequences that belong together, which are sorted by the first column, then by the
    second; each column is then at most `tokens`. Where lengths are too few to fill a batch with similar ones, it ends
    early (FULL_ENOUGH, WASTE). With `rng`, sequences of equal length and the batches themselves are shuffled: one
    epoch's order. A sequence longer than `tokens` gets a batch of its own.
    """
    columns = np.asarray(lengths).T.reshape(-1, len(lengths)) if len(lengths) else np.zeros((1, 0), np.int64)
    order = np.lexsort([*([] if rng is None else [rng.random(len(lengths))]), *columns[::-1]])
    longest = columns.max(0)[order].tolist()
    cuts, start, widest, filled = [], 0, 0, 0
    for i, length in enumerate(longest):
        # The padded width, of the widest column; the first one rises, so it is mostly the newest sequence's.
        widest = max(widest, length)
        size = widest * (i - start + 1)
        wasteful = filled >= FULL_ENOUGH * tokens and size - filled - length > WASTE * size
        if i > start and (size > tokens or wasteful):
            cuts.append(i)
            start, widest, filled = i, length, 0
        filled += length
    batches = [part for part in np.split(order, cuts) if len(part)]
    if rng is not None:
        rng.shuffle(batches)
    return batches
