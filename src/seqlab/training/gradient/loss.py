"""A loss on batches of tensors: what tasks write and steps of an optimiser minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from torch import Tensor

from seqlab.settings import Objective, named
from seqlab.training.gradient.batches import TensorBatch


class Loss(NamedTuple):
    """A batch's summed loss in nats and over how many positions or sequences it is summed, both float32 scalars."""

    total: Tensor
    number: Tensor

    @property
    def mean(self) -> Tensor:
        """0 where nothing is scored."""
        return self.total / self.number.clamp(min=1)


LossFunction = Callable[[Any, TensorBatch], Loss]


class TaskLoss(ABC):
    """What a task's model is trained for and validated by. tasks/NAME/loss.py calls its own Loss."""

    labelled = False  # whether each sequence of the data needs a label
    recordable = False  # whether a card may record its steps (`recorded.Recorded` says what that asks of it)

    def __init__(self, objective: Objective | None = None):
        self.objective = objective

    @abstractmethod
    def __call__(self, model: Any, batch: TensorBatch) -> Loss: ...

    def attach(self, model: Any) -> None:
        """Give the model what the loss needs of it beside what the family has: most need nothing."""
        return


def loss_of(task: str, objective: Objective | None = None) -> TaskLoss:
    """The loss of a task. objective: what pretraining predicts, of a task that depends on it."""
    return cast(TaskLoss, named(f"seqlab.tasks.{task}.loss.Loss")(objective))
