"""Self-training: which of a model's own answers are taken for labels, and whether they were right (Lee 2013)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.data.sequences import OPTIONAL, POSITIONAL, Sequences

if TYPE_CHECKING:
    from seqlab.families.base import Classifier

TOKENS = 1 << 14  # positions in a batch


def pseudo_labelled(
    classifier: Classifier, labelled: Sequences, unlabelled: Sequences, confidence: float
) -> tuple[Sequences, dict[str, Any]]:
    """`labelled` and those of `unlabelled` whose most probable class has at least this probability, with that class.

    The labels that `unlabelled` may carry are read for the report alone: how many were accepted, and the share of them
    that was right (None where nothing was accepted or nothing is known).
    """
    answers = np.empty(len(unlabelled), np.int64)
    believed = np.empty(len(unlabelled))
    for indices, batch in unlabelled.batches(TOKENS):
        log_probs = classifier.class_log_prob(batch.x, batch.mask)
        answers[indices], believed[indices] = log_probs.argmax(1), np.exp(log_probs.max(1))
    accepted = np.flatnonzero(believed >= confidence)
    report: dict[str, Any] = {"unlabelled": len(unlabelled), "accepted": len(accepted), "accuracy": None}
    if not len(accepted):
        return labelled, report
    if unlabelled.labels is not None:
        report["accuracy"] = float((answers[accepted] == unlabelled.labels[accepted]).mean())
    return joined(labelled, relabelled(unlabelled.subset(accepted), answers[accepted])), report


def joined(first: Sequences, second: Sequences) -> Sequences:
    """Both sets as one. They carry the same optional parts."""
    parts = {
        name: np.concatenate([one, getattr(second, name)])
        for name in (*OPTIONAL, *POSITIONAL)
        if (one := getattr(first, name)) is not None
    }
    offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
    return Sequences(np.concatenate([first.values, second.values]), offsets, **parts)


def relabelled(data: Sequences, labels: np.ndarray) -> Sequences:
    """The same sequences with other labels."""
    return replace(data, labels=labels.astype(np.int64))
