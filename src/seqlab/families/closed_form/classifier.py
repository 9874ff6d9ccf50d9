"""Classifiers that read a sequence as a whole: no model of the sequences themselves, so nothing for Bayes' rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy import special

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError

SHARPEST = 1e6


class DirectClassifier(ABC):
    """log P(class | sequence) from features or distances. Subclasses take their parameters in __init__."""

    fitted_by = "closed_form"
    tasks: tuple[str, ...] = ("classify",)
    objectives: tuple[str, ...] = ()  # the unlabelled source has nothing that it could learn

    def __init__(self, space: Space, classes: int):
        self.space, self.classes = space, classes

    @classmethod
    def assemble(cls, space: Space, classes: int | None, parameters: dict[str, Any]) -> Self:
        """The classifier with nothing estimated. Raises UserError without classes."""
        if classes is None:
            raise UserError(f"{cls.__name__} tells classes apart and does nothing else; expected the task classify")
        return cls(space, classes, **parameters)

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: object) -> Self:
        """The classifier with what was saved."""
        self.load_state(dict(tensors))
        return self

    @abstractmethod
    def fit(self, train: Sequences, valid: Sequences, prior: None = None) -> dict[str, Any]:
        """Estimate from `train`, choose on `valid`. Returns a JSON-able report.

        Raises UserError when a split has no labels or lacks a class.
        """

    @abstractmethod
    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, K) float64."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that was estimated, as arrays."""

    @abstractmethod
    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` returned."""

    @abstractmethod
    def flops(self, train: Sequences) -> float:
        """Operations of estimating from `train` what `fit` chose, by a formula that the subclass states: an estimate."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Numbers that were estimated."""


def labels_of(sequences: Sequences, split: str, classes: int) -> np.ndarray:
    """(S,) labels, each class at least once. Raises UserError otherwise."""
    if sequences.labels is None:
        raise UserError(f"{split} split: no labels; a classifier needs one a sequence")
    counts = np.bincount(sequences.labels, minlength=classes)
    if len(counts) > classes:
        raise UserError(f"{split} split: label {len(counts) - 1}; expected 0 to {classes - 1}")
    if not counts.all():
        raise UserError(f"{split} split: class {counts.argmin()} has no sequence; every class needs at least one")
    return sequences.labels.astype(np.int64)


def standardised(sequences: Sequences) -> list[np.ndarray]:
    """Each sequence, (T, C) float32, in the units of the batches."""
    return [sequences.batch(np.array([i])).x[0] for i in range(len(sequences))]


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    return np.asarray(special.log_softmax(scores, axis=-1))


def log_loss(log_probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log P(label), nats. log_probs: (N, K)."""
    return -float(log_probs[np.arange(len(labels)), labels].mean())


def sharpness(scores: np.ndarray, labels: np.ndarray) -> float:
    """The s from 0 to SHARPEST with the least mean log loss of softmax(s scores), (N, K); 1 / s is the temperature of
    Guo et al. (2017).

    Labels count as certain to (N + 1) / (N + 2) (Platt 1999), so that scores that separate the classes of a split do
    not ask for certainty. The loss is convex in s: its slope is bisected. Scores that mislead get 0, every class alike.
    """
    number, classes = scores.shape
    truth = np.full((number, classes), 1 / (number + 2) / max(classes - 1, 1))
    truth[np.arange(number), labels] = (number + 1) / (number + 2)

    def slope(s: float) -> float:
        return float(((np.exp(log_softmax(s * scores)) - truth) * scores).sum(axis=1).mean())

    low, high = 0.0, SHARPEST
    if slope(low) >= 0:
        return low
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return high
