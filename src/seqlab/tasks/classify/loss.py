"""Cross-entropy of the pooled head."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from seqlab.families.gradient.model import GradientFamily
from seqlab.training.gradient import loss
from seqlab.training.gradient.batches import TensorBatch


class Loss(loss.TaskLoss):
    labelled = True
    recordable = True

    def __call__(self, model: GradientFamily, batch: TensorBatch) -> loss.Loss:
        """The mean is per sequence."""
        assert batch.labels is not None, "classification needs labels"
        total = F.cross_entropy(model.class_logits(batch.x, batch.mask), batch.labels, reduction="sum")
        return loss.Loss(total, torch.full_like(total, len(batch.labels)))
