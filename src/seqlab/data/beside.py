"""Covariates: what is known beside the values of sequences, in a file of its own that who does not use it never opens.

PREPARED/covariates/names.json                    what they are called, and the levels of those that are words
PREPARED/covariates/{train,valid,test}.safetensors  of the target's sequences of that split, position by position
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from seqlab.artifacts import read_json, write_json, write_tensors
from seqlab.data.arrays import read_parts
from seqlab.data.prepared import TARGET, Prepared
from seqlab.data.sequences import OPTIONAL, POSITIONAL, Sequences
from seqlab.errors import UserError

FOLDER, NAMES = "covariates", "names.json"
ROLES = ("known", "past", "static")


@dataclass(frozen=True)
class Names:
    """Columns by role. known: ahead, for the steps to forecast too. past: measured, up to the last step alone. static:
    one value a series. levels: of each static column of words, its words by their codes.
    """

    known: list[str] = field(default_factory=list)
    past: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    levels: dict[str, list[str]] = field(default_factory=dict)

    @property
    def stepwise(self) -> list[str]:
        """Those with a value a step."""
        return [*self.known, *self.past]

    @property
    def all(self) -> list[str]:
        return [*self.stepwise, *self.static]

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Names:
        """Raises UserError when the file is missing or of another layout."""
        try:
            return cls(**read_json(path))
        except TypeError:
            raise UserError(f"{path}: expected the keys {', '.join(cls.__dataclass_fields__)}") from None


@dataclass(frozen=True)
class Own:
    """Covariates of one sequence: known (T, K), past (T, P), static (Q,)."""

    known: np.ndarray
    past: np.ndarray
    static: np.ndarray

    def tail(self, length: int) -> Own:
        """The last `length` steps."""
        return Own(self.known[len(self.known) - length :], self.past[len(self.past) - length :], self.static)


@dataclass(frozen=True)
class Beside:
    """Covariates of S sequences. known: (N, K) and past: (N, P) float64, NaN where missing; offsets: (S + 1,) int64,
    those of sequence i are rows offsets[i] to offsets[i + 1]. static: (S, Q) float64, of words their codes.
    """

    known: np.ndarray
    past: np.ndarray
    static: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.static)

    @property
    def lengths(self) -> np.ndarray:
        """(S,) int64."""
        return np.diff(self.offsets)

    @classmethod
    def of_each(cls, parts: Sequence[Own]) -> Beside:
        """At least one."""
        return cls.of(
            [one.known for one in parts], [one.past for one in parts], np.stack([one.static for one in parts])
        )

    @classmethod
    def of(cls, known: Sequence[np.ndarray], past: Sequence[np.ndarray], static: np.ndarray) -> Beside:
        """From the (T, K) and (T, P) arrays of each sequence, at least one."""
        offsets = np.concatenate([[0], np.cumsum([len(own) for own in known])]).astype(np.int64)
        return cls(np.concatenate(known), np.concatenate(past), static, offsets)

    def subset(self, indices: np.ndarray) -> Beside:
        """Of the sequences at `indices`, in that order."""
        rows = [slice(self.offsets[i], self.offsets[i + 1]) for i in indices]
        return Beside.of([self.known[own] for own in rows], [self.past[own] for own in rows], self.static[indices])

    def cut(self, lengths: np.ndarray) -> Beside:
        """The first `lengths` (S,) steps of each."""
        rows = [slice(start, start + n) for start, n in zip(self.offsets[:-1], lengths, strict=True)]
        return Beside.of([self.known[own] for own in rows], [self.past[own] for own in rows], self.static)

    def seen(self, lengths: np.ndarray) -> Beside:
        """As it is known after `lengths` (S,) steps: nothing measured later."""
        place = np.arange(len(self.past)) - np.repeat(self.offsets[:-1], self.lengths)
        later = place >= np.repeat(lengths, self.lengths)
        return Beside(self.known, np.where(later[:, None], np.nan, self.past), self.static, self.offsets)

    def at(self, values: np.ndarray, sequence: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Rows of `known` or `past`, (N, ·), at positions (N,) of sequences (N,); NaN outside of them."""
        inside = (position >= 0) & (position < self.lengths[sequence])
        row = self.offsets[sequence] + np.where(inside, position, 0)
        return np.where(inside[:, None], values[np.minimum(row, len(values) - 1)], np.nan)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {name: np.ascontiguousarray(part) for name, part in vars(self).items()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises UserError when the file is missing or holds something else."""
        return read_parts(path, cls)


@dataclass(frozen=True, kw_only=True)
class Accompanied(Sequences):
    """Sequences with their covariates."""

    beside: Beside

    @classmethod
    def of(cls, sequences: Sequences, beside: Beside) -> Accompanied:
        parts: dict[str, Any] = {
            name: getattr(sequences, name) for name in ("values", "offsets", *OPTIONAL, *POSITIONAL)
        }
        return cls(**parts, beside=beside)

    @classmethod
    def open(cls, prepared: Prepared, split: str) -> Accompanied:
        """A split of the target. Raises UserError when its covariates are missing or of other sequences."""
        path = prepared.folder / FOLDER / f"{split}.safetensors"
        sequences, beside = prepared.split(TARGET, split), Beside.load(path)
        if not np.array_equal(beside.lengths, sequences.lengths):
            raise UserError(f"{path}: of other sequences than {TARGET}/{split}; run the prepare stage")
        return cls.of(sequences, beside)

    def subset(self, indices: np.ndarray) -> Accompanied:
        return Accompanied.of(super().subset(indices), self.beside.subset(np.asarray(indices, np.int64)))
