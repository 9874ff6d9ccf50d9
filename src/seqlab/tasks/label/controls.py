"""Labelling: the commonest class; and the words of the training texts, the longest that match (two classes alone)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqlab.data.prepared import SOURCE, TARGET
from seqlab.data.sequences import Sequences
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Test
from seqlab.tasks.label.judge import labelled, scores
from seqlab.tasks.label.train import marked


def controls(test: Test) -> Mapping[str, Scores]:
    sequences = test.sequences(TARGET)
    train = [marked(test.prepared, name, "train") for name in (TARGET, SOURCE)]
    systems: dict[str, Majority | Lexicon] = {"majority": Majority(train[0])}
    if len(test.prepared.meta.classes) == 2 and sequences.symbols:
        systems |= {"lexicon": Lexicon(train[:1]), "lexicon_with_source": Lexicon(train)}
    return {name: scores(labelled(system, sequences), sequences) for name, system in systems.items()}


class Majority:
    """The commonest class of the scored training positions, everywhere."""

    def __init__(self, train: Sequences):
        assert train.marks is not None
        self.commonest = int(np.bincount(train.marks[train.scored]).argmax())

    def labels(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, self.commonest, 0)


class Lexicon:
    """Words begin where class 1 is. From left to right, the longest word of the training texts that matches is taken;
    symbols at which none begins, up to the next at which one does, are a word as well (maximum matching; Xue 2003).
    """

    def __init__(self, train: list[Sequences]):
        self.words: set[bytes] = set()
        for sequences in train:
            assert sequences.marks is not None
            # A sequence's first symbol begins a word, marked or not.
            begins = np.union1d(np.flatnonzero(sequences.marks), sequences.offsets[:-1])
            ends = [*begins[1:].tolist(), len(sequences.values)]
            values = np.asarray(sequences.values, np.uint32)
            self.words |= {values[start:end].tobytes() for start, end in zip(begins.tolist(), ends, strict=True)}
        self.longest = max(map(len, self.words)) // np.dtype(np.uint32).itemsize

    def labels(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        found = np.zeros(mask.shape, np.int64)
        for row, length in enumerate(mask.sum(1).tolist()):
            symbols = x[row, :length].astype(np.uint32)
            start, matched = 0, True
            while start < length:
                ends = range(min(length, start + self.longest), start, -1)
                end = next((end for end in ends if symbols[start:end].tobytes() in self.words), None)
                found[row, start] = matched or end is not None
                start, matched = end or start + 1, end is not None
        return found
