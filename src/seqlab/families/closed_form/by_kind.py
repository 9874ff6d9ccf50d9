"""A family that is one model on symbols and another on vectors."""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar, Self

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.families.closed_form.family import Arcs, ClosedForm
from seqlab.settings import named


class ByKind(ClosedForm):
    """Subclasses name the class of each kind of space, and give it its parameters in their constructor."""

    # The model's class by the kind of space: a literal, which the fingerprint of a stage reads from the source, so that
    # a change of what serves symbols reruns nothing on vectors.
    on: ClassVar[dict[str, str]]

    def __init__(self, space: Space, **parameters: Any):
        self.space = space
        self.model: ClosedForm = named(self.on[space.kind])(space, **parameters)

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

    @property
    def begin(self) -> int:
        return self.model.begin

    def arcs(self, states: np.ndarray, symbols: np.ndarray) -> Arcs:
        return self.model.arcs(states, symbols)

    def state(self) -> dict[str, np.ndarray]:
        return self.model.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.model.load_state(state)

    def flops(self, train: Sequences) -> float | None:
        return self.model.flops(train)

    @property
    def parameters(self) -> int:
        return self.model.parameters
