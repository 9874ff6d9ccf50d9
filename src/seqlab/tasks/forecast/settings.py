"""What the configuration says of forecasts that networks are trained for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seqlab.data.ahead import Look
from seqlab.settings import TaskBudget


@dataclass(frozen=True)
class TrainingBudget(TaskBudget):
    """by: how a network forecasts. samples: of its next step, fed back; validation: by these or by a direct end,
    whichever does better on the validation split. look: of the direct end."""

    by: Literal["samples", "validation"]
    look: Look
