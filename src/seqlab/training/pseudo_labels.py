"""Self-training: which of a model's own answers are taken for labels, and whether they were right (Lee 2013)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.data.sequences import OPTIONAL, POSITIONAL, Sequences
from seqlab.families import loading, saved
from seqlab.families.base import Use
from seqlab.settings import PseudoLabels, TrainerSettings
from seqlab.training.trained import Trained
from seqlab.watch import Watch

if TYPE_CHECKING:
    from seqlab.families.base import Classifier

TOKENS = 1 << 14  # positions in a batch


def rounds(
    trained: Trained,
    labelled: Sequences,
    unlabelled: Sequences,
    settings: PseudoLabels,
    out: Path,
    trainer: TrainerSettings,
    again: Callable[[Sequences, str], Trained],
    watch: Watch,
) -> Trained:
    """Train again and again on what the last model labels; the best on validation is kept, also under `out`.

    Every round begins anew, so that an early mistake is not handed on. trained: on `labelled` alone, its model under
    `out`. again: trains a round of this name on these data, to `out`.
    """
    found, reports = [trained], list[dict[str, Any]]()
    for number in range(1, settings.rounds + 1):
        classifier = loading.load(out, Use(trainer))
        known, report = pseudo_labelled(classifier, labelled, unlabelled, settings.confidence)
        reports.append({"round": number, **report})
        watch.metrics({f"pseudo_labels/{key}": v for key, v in report.items() if v is not None}, number)
        if not report["accepted"]:
            break
        found.append(again(known, f"classify_round{number}"))
    best = best_of(found, reports)
    saved.save(out, saved.load_recipe(out), best.tensors)
    return best


def best_of(trained: list[Trained], rounds: list[dict[str, Any]]) -> Trained:
    """The training with the lowest validation loss, at the cost of all of them."""
    best = min(trained, key=lambda one: inf if one.validation is None else one.validation)
    costs = [one.cost for one in trained]
    return replace(
        best,
        report=best.report | {"pseudo_labels": rounds, "kept_round": trained.index(best)},
        steps=sum(one.steps for one in trained),
        flops=None if best.flops is None else sum(one.flops or 0 for one in trained),
        cost=replace(best.cost, seconds=sum(cost.seconds for cost in costs)),
    )


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
