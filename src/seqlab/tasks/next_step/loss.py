"""-log P(x_t | x_<t)."""

from __future__ import annotations

from seqlab.families.gradient.model import GradientFamily
from seqlab.training.gradient import loss
from seqlab.training.gradient.batches import TensorBatch


class Loss(loss.TaskLoss):
    recordable = True

    def __call__(self, model: GradientFamily, batch: TensorBatch) -> loss.Loss:
        """Over scored positions; the mean is per symbol, or per step and channel."""
        channels = batch.x.shape[2] if batch.x.ndim == 3 else 1
        log_prob = model.log_prob(batch.x, batch.mask)
        return loss.Loss(-log_prob.masked_fill(~batch.scored, 0).sum(), batch.scored.sum().float() * channels)
