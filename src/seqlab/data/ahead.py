"""Sequences that are learned from many steps ahead: how far, and what is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqlab.data.sequences import OPTIONAL, POSITIONAL, Sequences
from seqlab.settings import Count, NonNegative

Differences = Literal["last", "season"]
Scaling = Literal["window", "none"]


@dataclass(frozen=True)
class Look:
    """horizon: H, steps that are forecast at once. window: L, values that are read of the past. season: the period.

    differences: what a forecast is a difference to: the last value, or that of the season before. scaling: of a window:
    by its own changes (reversible instance normalisation, Kim et al. 2022, whose mean is here the last value), or not.
    ridge: penalty of the map that training begins at, a share of the regressors' mean variance.
    """

    horizon: Count
    window: Count
    season: Count
    differences: Differences
    scaling: Scaling
    ridge: NonNegative


@dataclass(frozen=True, kw_only=True)
class Ahead(Sequences):
    """look: of the forecasts that are learned."""

    look: Look

    @classmethod
    def of(cls, sequences: Sequences, look: Look) -> Ahead:
        parts = {name: getattr(sequences, name) for name in ("values", "offsets", *OPTIONAL, *POSITIONAL)}
        return cls(**parts, look=look)

    def subset(self, indices: np.ndarray) -> Ahead:
        return Ahead.of(super().subset(indices), self.look)
