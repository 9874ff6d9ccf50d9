"""Nested shares of a training set, the same for every strategy that is given them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TypeVar

import numpy as np

from seqlab.data.pairs import Data, Denoising, Pairs
from seqlab.data.sequences import OPTIONAL, Sequences

D = TypeVar("D", Sequences, Pairs, Denoising)


def share(data: Data, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of about `fraction` of the sequences (of pairs: by their targets), and of the rest, both rising.

    Of each class, and of a set without labels, at least one. The order in which sequences join follows from the hash of
    seed and content, so that a smaller share lies within every larger one, and equal contents of two sets join alike.
    """
    key = seed.to_bytes(8, "big")
    contents = data.target if isinstance(data, Pairs) else data.text if isinstance(data, Denoising) else data
    ranks = [hashlib.sha256(key + np.ascontiguousarray(values).tobytes()).digest() for values in contents]
    labels = np.zeros(len(data), np.int64) if data.labels is None else data.labels
    taken = np.zeros(len(data), bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label), key=ranks.__getitem__)
        taken[members[: max(1, round(fraction * len(members)))]] = True
    return np.flatnonzero(taken), np.flatnonzero(~taken)


def within(data: D, positions: int | None, seed: int) -> D:
    """A nested share of about `positions` positions (of pairs: of their targets); all where there are no more."""
    total = int(data.lengths.sum())
    if positions is None or positions >= total:
        return data
    return data.subset(share(data, positions / total, seed)[0])


def joined(first: Sequences, second: Sequences) -> Sequences:
    """Both sets as one. They carry the same optional parts."""
    parts = {
        name: np.concatenate([one, getattr(second, name)])
        for name in OPTIONAL
        if (one := getattr(first, name)) is not None
    }
    offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
    return Sequences(np.concatenate([first.values, second.values]), offsets, **parts)


def relabelled(data: Sequences, labels: np.ndarray) -> Sequences:
    """The same sequences with other labels."""
    return replace(data, labels=labels.astype(np.int64))
