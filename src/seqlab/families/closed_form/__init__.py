"""What families fitted by counting, least squares and EM share; importing it imports all of it."""

from __future__ import annotations

from copy import copy
from typing import Any, Self

import numpy as np

from seqlab.data.sequences import Sequences
from seqlab.families.closed_form.autoregression import VectorAutoregression, fit_each
from seqlab.families.closed_form.bayes import BayesClassifier
from seqlab.families.closed_form.family import ClosedForm
from seqlab.families.closed_form.hmm import HiddenMarkov
from seqlab.families.closed_form.kalman import LinearGaussian
from seqlab.families.closed_form.ngram import Bigram, KneserNey
from seqlab.families.closed_form.suffix import SuffixModel
from seqlab.families.closed_form.whole_past import WholePast

__all__ = [
    "BayesClassifier",
    "Bigram",
    "ByKind",
    "ClosedForm",
    "HiddenMarkov",
    "KneserNey",
    "LinearGaussian",
    "SuffixModel",
    "VectorAutoregression",
    "WholePast",
    "fit_each",
]


class ByKind(ClosedForm):
    """A family that is one model on symbols and another on vectors: subclasses choose `model` in their constructor."""

    model: ClosedForm

    def choices(self) -> dict[str, list[Any]]:
        return self.model.choices()

    def choosing(self, chosen: dict[str, Any]) -> Self:
        copied = copy(self)
        copied.model = self.model.choosing(chosen)
        return copied

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        return self.model.fit(train, valid, None if prior is None else prior.model)

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self.model.log_prob(x, mask)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self.model.distribution(x, mask)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.model.moments(x, mask)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        return self.model.forecast(prefix, mask, steps, samples, seed)

    def state(self) -> dict[str, np.ndarray]:
        return self.model.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.model.load_state(state)

    def flops(self, train: Sequences) -> float | None:
        return self.model.flops(train)

    @property
    def parameters(self) -> int:
        return self.model.parameters
