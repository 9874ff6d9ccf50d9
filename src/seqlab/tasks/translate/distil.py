"""Sequence-level distillation (Kim and Rush 2016): a teacher's translations in place of a share of the targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data.pairs import Pairs
from seqlab.data.sequences import Data, Sequences
from seqlab.training.gradient import distil


class Teaching(distil.Teaching):
    def data(self, train: Data, seed: int) -> Pairs:
        assert isinstance(train, Pairs)
        return taught(train, self.translated, self.settings.weight, seed)

    def translated(self, sources: list[list[int]]) -> list[list[int]]:
        return [found.symbols for found in self.teacher.search(sources)]


def taught(pairs: Pairs, translated: Callable[[list[list[int]]], list[list[int]]], share: float, seed: int) -> Pairs:
    """Pairs of which about `share`, drawn by `seed`, have the teacher's translation of their source as target."""
    chosen = np.flatnonzero(np.random.default_rng(seed_of(seed, "taught")).random(len(pairs)) < share)
    targets = list(pairs.target)
    for i, symbols in zip(chosen, translated([pairs.source[int(i)].tolist() for i in chosen]), strict=True):
        targets[i] = np.array(symbols, pairs.target.values.dtype)
    return Pairs(pairs.source, Sequences.from_arrays(targets))
