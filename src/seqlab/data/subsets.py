"""Nested shares of a training set, the same for every strategy that is given them."""

from __future__ import annotations

import hashlib
from typing import Literal, TypeVar, cast

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data.sequences import Data
from seqlab.settings import named

D = TypeVar("D", bound=Data)


def share(data: Data, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of about `fraction` of the sequences (of pairs: by their targets), and of the rest, both rising.

    Of each class, and of a set without labels, at least one. The order in which sequences join follows from the hash of
    seed and content, so that a smaller share lies within every larger one, and equal contents of two sets join alike.
    """
    key = seed.to_bytes(8, "big")
    ranks = [hashlib.sha256(key + np.ascontiguousarray(values).tobytes()).digest() for values in data.contents]
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


def arranged(data: D, order: Literal["kept", "shuffled"], *names: str) -> D:
    """The data in this order. names: of the data, from which the order follows when it is shuffled.

    What shuffles is found by name: only those who shuffle depend on it.
    """
    if order == "kept":
        return data
    return cast(D, named("seqlab.data.order.shuffled")(data, seed_of("order", *names)))
