"""A closed-form family: what is estimated from a whole data set at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.base import Use


class Arcs(NamedTuple):
    """The ways on in a model that is a weighted automaton over symbols: E of them from H pairs of state and symbol.

    row: (E,) which pair it leaves, rising. log_prob: (E,) log P(symbol, next state | state). state: (E,) the next one.
    """

    row: np.ndarray
    log_prob: np.ndarray
    state: np.ndarray


class ClosedForm(ABC):
    """A family fitted by counting, least squares or EM. Subclasses set `space` and their parameters in __init__."""

    fitted_by = "closed_form"
    kinds: tuple[str, ...] = ("symbols", "vectors")
    tasks: tuple[str, ...] = ("next_step", "classify")
    space: Space
    # Attributes that hold lists of candidates, of which `fit` chooses one on validation.
    candidates: tuple[str, ...] = ()

    @classmethod
    def assemble(cls, space: Space, classes: int | None, parameters: dict[str, Any]) -> Any:
        """The model with nothing estimated or, with classes, one a class under Bayes' rule."""
        build: Callable[..., ClosedForm] = cls
        if classes is None:
            return build(space, **parameters)
        from seqlab.families.closed_form.bayes import BayesClassifier

        return BayesClassifier(lambda: build(space, **parameters), classes)

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Self:
        """The model with what was saved."""
        self.load_state(dict(tensors))
        return self

    def choices(self) -> dict[str, list[Any]]:
        """The candidates that `fit` chooses from, by name."""
        return {name: list(getattr(self, name)) for name in self.candidates}

    def choosing(self, chosen: dict[str, Any]) -> Self:
        """An unfitted copy with nothing left to choose."""
        copied = copy(self)
        for name, value in chosen.items():
            setattr(copied, name, [value])
        return copied

    @abstractmethod
    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Estimate from `train`, choose orders and weights on `valid`, with `prior` (fitted on the source) as prior.

        Returns a report for tracking and the report page: JSON-able values such as the chosen order, the weight of the
        prior and the criterion of every candidate. Raises UserError when the data cannot carry the model (a series
        shorter than the order, say), naming what was found and what is needed.
        """

    @abstractmethod
    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T) float64."""

    @abstractmethod
    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """(B, samples, steps[, C])."""

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T + 1, V) for symbols."""
        raise NotImplementedError(f"{type(self).__name__} on {self.space.kind} has no distribution over symbols")

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two of (B, T, C) for vectors."""
        raise NotImplementedError(f"{type(self).__name__} on {self.space.kind} has no moments")

    @property
    def begin(self) -> int:
        """The state before a sequence, of a model over symbols that is an automaton."""
        raise NotImplementedError(f"{type(self).__name__} on {self.space.kind} is no automaton")

    def arcs(self, states: np.ndarray, symbols: np.ndarray) -> Arcs:
        """Every way on from states (H,) by symbols (H,): a search for what is not known goes from state to state."""
        raise NotImplementedError(f"{type(self).__name__} on {self.space.kind} is no automaton")

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Everything that was estimated, as arrays (written as safetensors)."""

    @abstractmethod
    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take up what `state` returned."""

    def flops(self, train: Sequences) -> float | None:
        """Operations of estimating from `train`, by `fit`, what `fit` chose: by a formula, which the subclass states.

        As of gradient families, validation and what was tried and not chosen are not counted. Where the arithmetic is
        counting, an addition of integers is an operation. None: nobody has written the formula.
        """
        return None

    @property
    def parameters(self) -> int:
        """Free parameters that were estimated."""
        return sum(part.size for part in self.state().values())


def check_source(space: Space, prior: ClosedForm | None) -> None:
    """Raises UserError when a source's model is of other positions than the target's."""
    if prior is not None and prior.space != space:
        unit = "symbols" if space.symbols else "channels"
        raise UserError(f"the source has {prior.space.size} {unit}, the target {space.size}; expected the same")


def check_symbols(x: np.ndarray, size: int) -> None:
    """Raises UserError naming a symbol that is not one of `size`: kernels index memory by symbols, unchecked."""
    for extreme in (x.min(initial=0), x.max(initial=0)):
        if not 0 <= extreme < size:
            raise UserError(f"symbol {extreme}; expected one of 0 to {size - 1}, the alphabet")
