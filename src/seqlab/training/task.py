"""What training stages ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from seqlab.data.sequences import Data
from seqlab.errors import UserError
from seqlab.settings import Budget, Objective, named

if TYPE_CHECKING:
    from seqlab.data.prepared import Prepared


class TrainedTask(ABC):
    """A task's data, and its loss where a family is fitted in closed form. tasks/NAME/train.py calls its own Train."""

    @abstractmethod
    def data(self, prepared: Prepared, split: str, budget: Budget) -> Data:
        """One split of what the task learns from. Raises UserError when the domain lacks what it needs."""

    @abstractmethod
    def validation_loss(self, model: Any, valid: Any) -> float:
        """Mean loss in nats of a model in closed form."""

    def classes(self, prepared: Prepared) -> int | None:
        """How many a model of the task tells apart; None for a task without."""
        return None

    def around(self, fit: str) -> str | None:
        """The dotted name of what is built around a family that is fitted so; None: the family does the task itself."""
        return None

    def files(self, prepared: Prepared) -> Mapping[str, Path]:
        """What a saved model needs beside its tensors, by the name it gets there."""
        return {}

    def source(self, prepared: Prepared, split: str, budget: Budget) -> Data:
        """One split of what the task learns from where it is trained on the source."""
        raise UserError(f"{type(self).__module__.split('.')[-2]}: no task of a source")


def trained_task(name: str, objective: Objective | None = None) -> TrainedTask:
    """The task of that name. objective: what pretraining predicts, of a task that depends on it.

    Raises UserError for a name that no folder has.
    """
    try:
        found = named(f"seqlab.tasks.{name}.train.Train")
    except ModuleNotFoundError:
        raise UserError(f"task {name!r}: there is no such task to train for") from None
    return cast(TrainedTask, found())
