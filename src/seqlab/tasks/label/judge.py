"""Labelling: F1, and the shares of positions and of whole sequences that are right; shown by some labelled texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from seqlab.data.prepared import TARGET, TEXTS
from seqlab.data.sequences import Sequences
from seqlab.data.text_pairs import TextPairs
from seqlab.evaluation.judge import TOKENS
from seqlab.evaluation.scores import Ratio, Scores
from seqlab.tasks.judging import Judged, JudgedTask, Shown, Test

LABEL = "label"
LENGTHS = (2, 9, 12, 15)  # least positions of a sequence in each of the groups by length
SHOWN = 20  # texts


class Judge(JudgedTask):
    models = ("label",)

    def judge(self, model: Any, test: Test) -> Judged:
        sequences = test.sequences(TARGET)
        answers = labelled(model, sequences)
        return Judged(scores(answers, sequences), Shown(texts=shown(answers, test)))


def labelled(model: Any, sequences: Sequences) -> list[np.ndarray]:
    """A model's classes of each sequence, (T,) int64 each."""
    found: dict[int, np.ndarray] = {}
    for indices, batch in sequences.batches(TOKENS):
        made = model.labels(batch.x, batch.mask)
        found |= {i: row[:n] for i, row, n in zip(indices.tolist(), made, batch.mask.sum(1).tolist(), strict=True)}
    return [found[i] for i in range(len(sequences))]


def scores(answers: Sequence[np.ndarray], test: Sequences) -> Scores:
    """Of the scored positions of one system's answers; a sequence without any is left out.

    f1: of the positions with any class but 0, micro-averaged over these classes where there are several: 2 TP over
    2 TP + FP + FN. f1@9-11: of sequences of 9 to 11 positions.
    """
    assert test.marks is not None
    truth, scored, answer = test.marks, test.scored, np.concatenate([np.empty(0, np.int64), *answers])
    owner = np.repeat(np.arange(len(test)), test.lengths)[scored]
    truth, answer = truth[scored], answer[scored]
    right = truth == answer

    def count(what: np.ndarray) -> np.ndarray:
        return np.bincount(owner, what, len(test))

    positions = count(np.ones(len(owner)))
    kept = np.flatnonzero(positions)
    hits, both = count(right & (truth > 0)), count(truth > 0) + count(answer > 0)
    whole = (count(right) == positions).astype(np.float64)
    found = {
        (LABEL, "f1"): Ratio(kept, 2 * hits[kept], both[kept]),
        (LABEL, "position_accuracy"): Ratio(kept, count(right)[kept], positions[kept]),
        (LABEL, "sequence_accuracy"): Ratio(kept, whole[kept], np.ones(len(kept))),
    }
    for name, least, end in zip(group_names(), LENGTHS, [*LENGTHS[1:], np.inf], strict=True):
        own = kept[(least <= test.lengths[kept]) & (test.lengths[kept] < end)]
        if both[own].any():
            found[LABEL, f"f1@{name}"] = Ratio(own, 2 * hits[own], both[own])
    return Scores(found)


def group_names() -> list[str]:
    """Of the groups by length, the shortest first."""
    return [*(f"{low}-{high - 1}" for low, high in pairwise(LENGTHS)), f"{LENGTHS[-1]}+"]


def texts_of(test: Test) -> TextPairs | None:
    """The test sequences as texts, where the domain has them: what is labelled, and what its labels say."""
    path = test.prepared.folder / TEXTS
    return test.first(TextPairs.load(path)) if path.exists() else None


def spaced(text: str, labels: np.ndarray) -> str:
    """A text without spaces with one before every position of a class but 0, but none at the beginning."""
    return "".join(f" {c}" if i and label else c for i, (c, label) in enumerate(zip(text, labels, strict=True)))


def shown(answers: Sequence[np.ndarray], test: Test) -> dict[str, str]:
    """Evenly spread texts: `true/3` and `predicted/3`."""
    texts = texts_of(test)
    if texts is None or test.order == "shuffled":
        return {}
    found = {}
    for i in np.unique(np.linspace(0, len(texts) - 1, min(SHOWN, len(texts))).astype(np.int64)).tolist():
        found[f"true/{i}"] = texts.references[i][0]
        found[f"predicted/{i}"] = spaced(texts.sources[i], answers[i])
    return found
