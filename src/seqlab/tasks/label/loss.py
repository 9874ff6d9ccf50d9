"""Cross-entropy of the head over positions."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from seqlab.training.gradient import loss
from seqlab.training.gradient.batches import TensorBatch


class Loss(loss.TaskLoss):
    recordable = True

    def __call__(self, model: Any, batch: TensorBatch) -> loss.Loss:
        """Over scored positions; the mean is per position."""
        assert batch.marks is not None, "labelling needs a class for each position"
        logits = model.label_logits(batch.x, batch.mask)
        nats = F.cross_entropy(logits.flatten(0, 1), batch.marks.flatten(), reduction="none").view(batch.marks.shape)
        return loss.Loss(nats.masked_fill(~batch.scored, 0).sum(), batch.scored.sum().float())
