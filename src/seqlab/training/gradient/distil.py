"""What a student learns from its teacher beside the labels (Hinton, Vinyals and Dean 2015)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

from torch import Tensor
from torch.nn import functional as F

from seqlab.data.sequences import Data
from seqlab.settings import Distillation, named
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.loss import Loss, LossFunction


class Teaching:
    """A teacher for one task. tasks/NAME/distil.py calls its own Teaching.

    teacher: the model as it is used once it is trained.
    """

    def __init__(self, teacher: Any, settings: Distillation):
        self.teacher, self.settings = teacher, settings

    def data(self, train: Data, seed: int) -> Data:
        """What the student is trained on."""
        return train

    def loss(self) -> LossFunction | None:
        """What the student is trained for, where that is not the task's own loss."""
        return None


class SoftTargets(Teaching):
    """weight x soft loss + (1 - weight) x the labels' loss, summed over what the task's own loss is summed over.

    Symbols and classes are softened by the temperature. A density has none: there the soft loss is -log P, under the
    student, of one value that the teacher draws at each position, which is their cross-entropy on average.
    """

    def __init__(self, teacher: Any, settings: Distillation):
        super().__init__(teacher, settings)
        self.model = teacher.model.eval().requires_grad_(False)

    def loss(self) -> LossFunction:
        return self

    def __call__(self, model: Any, batch: TensorBatch) -> Loss:
        if self.model.device != batch.x.device:
            self.model.to(batch.x.device)
        return self.mixed_loss(model, batch)

    @abstractmethod
    def mixed_loss(self, model: Any, batch: TensorBatch) -> Loss: ...

    def mixed(self, soft: Tensor, hard: Tensor) -> Tensor:
        return self.settings.weight * soft + (1 - self.settings.weight) * hard


def teaching(task: str, teacher: Any, settings: Distillation) -> Teaching:
    return cast(Teaching, named(f"seqlab.tasks.{task}.distil.Teaching")(teacher, settings))


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(..., K) logits twice -> (...): T² KL(teacher || student), both softened by T.

    Its gradient with respect to the student's logits is T (softmax(student / T) - softmax(teacher / T)), as large as
    that of the labels whatever T is.
    """
    ours, theirs = (F.log_softmax(logits / temperature, -1) for logits in (student, teacher))
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1)
