"""A teacher's distribution of the next position."""

from __future__ import annotations

from typing import cast

from torch.nn import functional as F

from seqlab.families.gradient.ends import SymbolEnds, lagged
from seqlab.families.gradient.model import GradientFamily
from seqlab.families.gradient.vector_ends import VectorEnds
from seqlab.training.gradient import distil
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.loss import Loss


class Teaching(distil.SoftTargets):
    def mixed_loss(self, model: GradientFamily, batch: TensorBatch) -> Loss:
        student, teacher = (one.encode(batch.x[:, :-1])[:, : batch.x.shape[1]] for one in (model, self.model))
        if isinstance(model.ends, SymbolEnds):
            channels = 1
            ours, theirs = model.ends.leave(student).float(), self.model.ends.leave(teacher).float()
            soft = distil.soft_loss(ours, theirs, self.settings.temperature)
            hard = F.cross_entropy(ours.flatten(0, 1), batch.x.flatten(), reduction="none").view(batch.x.shape)
        else:
            channels, last = batch.x.shape[2], lagged(batch.x)[:, :-1]
            ends = model.ends.predictive(student, last)
            drawn = cast(VectorEnds, self.model.ends).predictive(teacher, last).draw()
            soft, hard = -ends.log_prob(drawn), -ends.log_prob(batch.x)
        total = self.mixed(soft, hard).masked_fill(~batch.scored, 0).sum()
        return Loss(total, batch.scored.sum().float() * channels)
