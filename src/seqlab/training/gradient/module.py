"""A gradient family and its loss, as the module that Lightning's Trainer runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from seqlab.settings import Optimizer
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.loss import Loss, LossFunction
from seqlab.training.gradient.optim import build_optimizer, build_schedule

if TYPE_CHECKING:
    from seqlab.training.gradient.tuning import Tuning


class Module(LightningModule):
    """Forward, loss, clipping, AdamW and its schedule. `norm` is the last step's gradient norm before clipping.

    loss: the task's own, which validation always is. training_loss: what is trained on, where that is another.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        optimizer: Optimizer,
        steps: int,
        compile: bool,
        tuning: Tuning | None = None,
        training_loss: LossFunction | None = None,
    ):
        super().__init__()
        self.model, self.settings, self.steps, self.tuning = model, optimizer, steps, tuning
        self.loss = loss
        # Validation stays as written: one more compilation for its shapes and mode would cost more than it saves.
        self.training_loss = torch.compile(training_loss or loss) if compile else training_loss or loss
        self.norm = torch.zeros(())

    def on_train_batch_start(self, batch: TensorBatch, batch_idx: int) -> None:
        if self.tuning is not None:
            self.tuning.set_step(self.model, self.trainer.global_step, self.steps)

    def training_step(self, batch: TensorBatch, batch_idx: int) -> dict[str, Tensor]:
        loss = self.training_loss(self.model, batch)
        if batch.idle:
            loss = Loss(0 * loss.total, 0 * loss.number)
        return {"loss": self.mean(loss), "total": loss.total.detach(), "number": loss.number}

    def mean(self, loss: Loss) -> Tensor:
        """Whose gradient, a mean over ranks in itself, is that of the whole batch's mean."""
        if (ranks := self.trainer.world_size) == 1:
            return loss.mean
        return loss._replace(number=self.trainer.strategy.reduce(loss.number.clone(), reduce_op="sum")).mean * ranks

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.norm = nn.utils.clip_grad_norm_(self.parameters(), self.settings.clip)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.settings, self.tuning)
        slanted = None if self.tuning is None else self.tuning.slanted
        schedule = build_schedule(optimizer, self.steps, self.settings, slanted)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
