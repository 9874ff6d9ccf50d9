"""One training, whatever the kind of family: what is fitted to what, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from seqlab.data.sequences import Data
from seqlab.families.saved import Recipe
from seqlab.settings import Budget, Objective, Optimizer, Strategy, TrainerSettings, named
from seqlab.training.resume import Checkpoint
from seqlab.training.trained import Trained

Log = Callable[[dict[str, float], int], None]
"""Gets each validation's losses, by name, and its step."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every kind of fitting is given; each reads what has a meaning for it.

    prepared: the domain's folder, for what is learned from its texts. start: the folder of the source's model, or a
    file of its tensors. teacher: the folder of the model that gives soft targets. objective: of pretraining.
    """

    recipe: Recipe
    task: str
    train: Data
    valid: Data
    prepared: Path
    start: Path | None
    teacher: Path | None
    objective: Objective | None
    strategy: Strategy
    budget: Budget
    optimizer: Optimizer | None
    trainer: TrainerSettings
    seed: int
    checkpoint: Checkpoint
    log: Log


def run(job: Job) -> Trained:
    """Fit it by the package that its recipe names. See each `train` for what it raises."""
    train = cast(Callable[[Job], Trained], named(f"seqlab.training.{job.recipe.fit}.train.train"))
    return train(job)
