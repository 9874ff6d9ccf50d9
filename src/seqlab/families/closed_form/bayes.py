"""Classification by Bayes' rule over one sequence model a class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.families.base import Use
from seqlab.families.closed_form.classifier import labels_of, log_loss, log_softmax
from seqlab.families.closed_form.family import ClosedForm

BATCH_STEPS = 1 << 16  # positions a batch
HOTTEST = 1e6
COMMON = "common"  # in place of a class, in the names of arrays


class BayesClassifier:
    """log P(class | x) = log softmax(sum_t log P(x_t | x_<t, class) / temperature + log P(class)).

    The class models are the leaves of a hierarchy: source -> all classes of the target together -> each class, every
    level the prior of the next. Without a source the same hierarchy starts at the target, so that a comparison of the
    two differs in the source alone. Order and weight of the prior are the same for every class and minimise the
    validation split's log loss, one after the other: chosen for each class's own likelihood they would differ between
    classes, and the difference of two orders, not of two classes, would decide.

    The temperature (Guo et al. 2017) corrects what the sum over t overstates, since a wrong model's errors are not
    independent from step to step. It minimises the log loss of the validation split and is at least 1: on a split
    that happens to be separated, the likelihood that is largest without bound is no evidence.
    """

    def __init__(self, factory: Callable[[], ClosedForm], classes: int):
        self.factory, self.classes = factory, classes

    def fit(self, train: Sequences, valid: Sequences, prior: ClosedForm | None = None) -> dict[str, Any]:
        """`prior` was fitted on the unlabelled source. Returns a JSON-able report.

        Raises UserError naming a class that has no sequence in either split, and what the family's own fit raises.
        """
        labels, held_out = labels_of(train, "training", self.classes), labels_of(valid, "validation", self.classes)
        shared = self.shared = self.factory()
        report: dict[str, Any] = {"all": shared.fit(train, valid, prior), "candidates": []}
        counts = np.bincount(labels, minlength=self.classes)
        self.log_prior = np.log(counts / counts.sum())
        split = [
            (train.subset(np.flatnonzero(labels == k)), valid.subset(np.flatnonzero(held_out == k)))
            for k in range(self.classes)
        ]

        def valid_log_loss(chosen: dict[str, Any]) -> float:
            self.models = [self.factory().choosing(chosen) for _ in range(self.classes)]
            for model, (own, own_held_out) in zip(self.models, split, strict=True):
                model.fit(own, own_held_out, shared)
            scores = np.empty((len(valid), self.classes))
            for indices, batch in valid.batches(BATCH_STEPS):
                scores[indices] = self._scores(batch.x, batch.mask)
            self.temperature = fit_temperature(scores, self.log_prior, held_out)
            loss = log_loss(log_softmax(scores / self.temperature + self.log_prior), held_out)
            report["candidates"].append({**chosen, "temperature": self.temperature, "valid_log_loss": loss})
            return loss

        choices = self.factory().choices()
        chosen: dict[str, Any] = {name: values[0] for name, values in choices.items()}
        lowest, best = np.inf, None
        tried: set[tuple[Any, ...]] = set()
        refused: list[UserError] = []
        # One choice after the other, beginning with the first value of each.
        for trial in chain([chosen], ({name: value} for name, values in choices.items() for value in values)):
            candidate = chosen | trial
            if (key := tuple(candidate.values())) in tried:
                continue
            tried.add(key)
            try:
                loss = valid_log_loss(candidate)
            except UserError as error:  # few sequences carry fewer candidates than many
                refused.append(error)
                continue
            if best is None or loss < lowest:
                lowest, best, chosen = loss, (self.models, self.temperature), candidate
        if best is None:
            raise refused[0]
        self.models, self.temperature = best
        return report | {"chosen": chosen, "temperature": self.temperature}

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, K) float64."""
        return log_softmax(self._scores(x, mask) / self.temperature + self.log_prior)

    def _scores(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, K): log P(x | class)."""
        return np.stack([model.log_prob(x, mask).sum(axis=1) for model in self.models], axis=1)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays that all class models hold in common, such as a source's, are kept once."""
        states = [model.state() for model in self.models]
        first = states[0].items()
        common = {name: part for name, part in first if all(state.get(name) is part for state in states)}
        own = {
            f"{k}.{name}": part for k, state in enumerate(states) for name, part in state.items() if name not in common
        }
        return {
            "log_prior": self.log_prior,
            "temperature": np.array([self.temperature]),
            **{f"{COMMON}.{name}": part for name, part in common.items()},
            **own,
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.log_prior, self.temperature = state["log_prior"], float(state["temperature"].item())
        self.models = [self.factory() for _ in range(self.classes)]
        for k, model in enumerate(self.models):
            prefixes = (f"{COMMON}.", f"{k}.")
            model.load_state({key.split(".", 1)[1]: part for key, part in state.items() if key.startswith(prefixes)})

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> BayesClassifier:
        """The classifier with what was saved."""
        self.load_state(dict(tensors))
        return self

    def flops(self, train: Sequences) -> float | None:
        """Those of all classes together and of each class, as `ClosedForm.flops` counts them."""
        assert train.labels is not None  # which fitting checks
        own = (train.subset(np.flatnonzero(train.labels == k)) for k in range(self.classes))
        parts = [self.shared.flops(train), *(model.flops(data) for model, data in zip(self.models, own, strict=True))]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    @property
    def parameters(self) -> int:
        """Those of the class models, K - 1 free class probabilities and the temperature."""
        return sum(model.parameters for model in self.models) + self.classes


def fit_temperature(scores: np.ndarray, log_prior: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of at least 1 that minimises the mean log loss of softmax(scores / temperature + log_prior).

    scores: (N, K) log-likelihoods; labels: (N,). The loss is convex in 1 / temperature, so its slope is bisected.
    Scores that mislead get the temperature HOTTEST, which leaves the prior.
    """
    observed = scores[np.arange(len(scores)), labels]

    def slope(sharpness: float) -> float:
        probability = np.exp(log_softmax(scores * sharpness + log_prior))
        return float(np.mean(np.sum(probability * scores, axis=1) - observed))

    if slope(1.0) <= 0:
        return 1.0
    low, high = 1 / HOTTEST, 1.0
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return 1 / high
