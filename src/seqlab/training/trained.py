"""What a training gives, whatever the kind of family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqlab.cost import Cost


@dataclass(frozen=True)
class Trained:
    """tensors, files: what was estimated; files by name, for what is no array. report: JSON-able, equal on every run.
    validation: loss, lower is better; None where nothing is validated."""

    tensors: Mapping[str, np.ndarray]
    report: dict[str, Any]
    validation: float | None
    parameters: int
    steps: int  # of an optimiser; 0 in closed form
    flops: float | None  # of training, estimated; None where no formula is known
    cost: Cost
    files: Mapping[str, bytes] = field(default_factory=dict)
