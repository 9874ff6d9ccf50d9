"""A teacher's classes, softened."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from seqlab.families.gradient.model import GradientFamily
from seqlab.training.gradient import distil
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.loss import Loss


class Teaching(distil.SoftTargets):
    def mixed_loss(self, model: GradientFamily, batch: TensorBatch) -> Loss:
        assert batch.labels is not None, "classification needs labels"
        student, teacher = (one.class_logits(batch.x, batch.mask) for one in (model, self.model))
        soft = distil.soft_loss(student, teacher, self.settings.temperature)
        hard = F.cross_entropy(student, batch.labels, reduction="none")
        return Loss(self.mixed(soft, hard).sum(), torch.full_like(soft.sum(), len(soft)))
