"""A teacher's classes of every position, softened."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from seqlab.training.gradient import distil
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.loss import Loss


class Teaching(distil.SoftTargets):
    def mixed_loss(self, model: Any, batch: TensorBatch) -> Loss:
        assert batch.marks is not None, "labelling needs a class for each position"
        student, teacher = (one.label_logits(batch.x, batch.mask) for one in (model, self.model))
        soft = distil.soft_loss(student, teacher, self.settings.temperature)
        hard = F.cross_entropy(student.flatten(0, 1), batch.marks.flatten(), reduction="none").view(batch.marks.shape)
        total = self.mixed(soft, hard).masked_fill(~batch.scored, 0).sum()
        return Loss(total, batch.scored.sum().float())
