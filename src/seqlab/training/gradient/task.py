"""A gradient family and what it is trained for, as the module that Lightning's Trainer runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.masked import hidden_log_prob
from seqlab.training.gradient.optim import build_optimizer, build_schedule
from seqlab.training.gradient.tuning import Tuning
from seqlab.training.settings import Optimizer

if TYPE_CHECKING:
    from seqlab.families.gradient import GradientFamily
    from seqlab.families.seq2seq import Seq2Seq

TaskName = Literal["next_step", "classify", "masked", "denoise", "translate"]


class Loss(NamedTuple):
    """A batch's summed loss in nats and over how many positions or sequences it is summed, both float32 scalars."""

    total: Tensor
    number: Tensor

    @property
    def mean(self) -> Tensor:
        """0 where nothing is scored."""
        return self.total / self.number.clamp(min=1)


def next_step_loss(model: GradientFamily, batch: TensorBatch) -> Loss:
    """-log P over scored positions; the mean is per symbol, or per step and channel."""
    channels = batch.x.shape[2] if batch.x.ndim == 3 else 1
    log_prob = model.log_prob(batch.x, batch.mask)
    return Loss(-log_prob.masked_fill(~batch.scored, 0).sum(), batch.scored.sum().float() * channels)


def classify_loss(model: GradientFamily, batch: TensorBatch) -> Loss:
    """Cross-entropy; the mean is per sequence."""
    assert batch.labels is not None, "classification needs labels"
    total = F.cross_entropy(model.class_logits(batch.x, batch.mask), batch.labels, reduction="sum")
    return Loss(total, torch.full_like(total, len(batch.labels)))


def masked_loss(model: GradientFamily, batch: TensorBatch) -> Loss:
    """-log P over hidden positions; the mean is per symbol, or per step and channel."""
    holder: Any = model.hidden
    hidden = holder.draw(batch.mask)
    channels = batch.x.shape[2] if batch.x.ndim == 3 else 1
    return Loss(-hidden_log_prob(model, batch.x, batch.mask, hidden).sum(), hidden.sum().float() * channels)


def translate_loss(model: Seq2Seq, batch: TensorBatch) -> Loss:
    """-log P of the target given the source, smoothed in training; the mean is per symbol of the target."""
    assert batch.source is not None, "translation needs sources"
    return Loss(model.loss(batch.source, batch.x), batch.mask.sum().float())


LossFunction = Callable[[Any, TensorBatch], Loss]
LOSSES: dict[TaskName, LossFunction] = {
    "next_step": next_step_loss,
    "classify": classify_loss,
    "masked": masked_loss,
    "denoise": translate_loss,
    "translate": translate_loss,
}


class Task(LightningModule):
    """Forward, loss, clipping, AdamW and its schedule. `norm` is the last step's gradient norm before clipping.

    loss: what is trained on, where that is not the task's own loss, which validation always is.
    """

    def __init__(
        self,
        model: nn.Module,
        task: TaskName,
        optimizer: Optimizer,
        steps: int,
        compile: bool,
        tuning: Tuning | None = None,
        loss: LossFunction | None = None,
    ):
        super().__init__()
        self.model, self.settings, self.steps, self.tuning = model, optimizer, steps, tuning
        self.loss = LOSSES[task]
        # Validation stays as written: one more compilation for its shapes and mode would cost more than it saves.
        self.training_loss = torch.compile(loss or self.loss) if compile else loss or self.loss
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
        ranks = self.trainer.world_size
        if ranks == 1:
            return loss.mean
        return loss._replace(number=self.trainer.strategy.reduce(loss.number.clone(), reduce_op="sum")).mean * ranks

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self.norm = nn.utils.clip_grad_norm_(self.parameters(), self.settings.clip)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.settings, self.tuning)
        schedule = build_schedule(
            optimizer, self.steps, self.settings, None if self.tuning is None else self.tuning.slanted
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
