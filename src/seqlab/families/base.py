"""The contract of a family, stated once, in shapes.

Every family writes P(x_1, ..., x_T) = prod_t P(x_t | x_1, ..., x_{t-1}) and answers four questions about it. B
sequences are padded on the right to T positions; `mask` is (B, T) bool, true on positions that exist; what a family
returns on padding is 0 (log 1) and never NaN. x is (B, T) int64 for symbols, (B, T, C) float32 for vectors.

    log_prob(x, mask) -> (B, T)        log P(x_t | x_<t) in nats; the first position is P(x_1) with no past.
                                       Symbols: a mass. Vectors: a density, joint over the C channels.
    distribution(x, mask) -> (B, T + 1, V)   symbols: log P(. | x_<t) of every symbol, after each of T + 1 prefixes
    forecast(prefix, mask, steps, samples, seed) -> (B, samples, steps[, C])    sample paths after each prefix
    moments(x, mask) -> (B, T, C), (B, T, C)       vectors: mean and standard deviation of x_t given x_<t

A family is one of two kinds, by how it is fitted:

* closed form (`families.closed_form.ClosedForm`; NumPy, no torch): counts, least squares, EM. `fit` reads a whole data
  set; a prior fitted on the source makes it a MAP estimate. It classifies by Bayes' rule over one model a class.
* gradient (`families.gradient.GradientFamily`; torch): a causal body between shared ends, trained by steps of an
  optimiser. It classifies through a pooled head.

A family's constructor takes the Space first and then keyword-only parameters, annotated and without defaults: their
values live in conf/family/NAME.yaml alone, and seqlab.config checks one against the other without importing torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seqlab.data.sequences import Space
from seqlab.settings import Decoding, TrainerSettings


@dataclass(frozen=True)
class Use:
    """How a saved model is used. trainer: where and how it computes. decoding: how a neural translator searches."""

    trainer: TrainerSettings
    decoding: Decoding | None = None


class FamilyClass(Protocol):
    """What every family's class states, as literals that seqlab.config reads from its source, and how it is made."""

    fitted_by: str  # the package under training/: "closed_form" | "gradient" | "rules"
    kinds: tuple[str, ...]  # of spaces that it models: "symbols", "vectors", "pairs"
    tasks: tuple[str, ...]  # folders of tasks/ that it can be trained for
    objectives: tuple[str, ...]  # what it can be pretrained to predict: "next", "hidden"; (): it learns from no source
    bound: tuple[str, ...]  # constructor arguments before the `*`, which the domain's `evaluate` section gives
    # The module by which a fitted model is used, where `opened` finds it by name. (`on`: see closed_form.by_kind.)
    used_by: str

    @classmethod
    def assemble(cls, space: Space, classes: int | None, parameters: dict[str, Any]) -> Any:
        """A model with nothing estimated; with `classes` one that tells as many apart."""

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Any:
        """The model with what was saved in `folder`, as evaluation and people use it.

        Raises UserError when the tensors do not fit.
        """


class Predictor(Protocol):
    """What evaluation needs of a fitted model of either kind: NumPy in, NumPy (float64) out."""

    space: Space

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray: ...

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray: ...

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray: ...


class Classifier(Protocol):
    """A fitted classifier of either kind: log P(class | sequence), (B, K) float64, rows that sum to one."""

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray: ...
