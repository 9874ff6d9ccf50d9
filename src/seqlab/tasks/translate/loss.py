"""-log P of the target given the source, smoothed in training."""

from __future__ import annotations

from seqlab.families.seq2seq.model import Seq2Seq
from seqlab.training.gradient import loss
from seqlab.training.gradient.batches import TensorBatch


class Loss(loss.TaskLoss):
    def __call__(self, model: Seq2Seq, batch: TensorBatch) -> loss.Loss:
        """The mean is per symbol of the target."""
        assert batch.source is not None, "translation needs sources"
        return loss.Loss(model.loss(batch.source, batch.x), batch.mask.sum().float())
