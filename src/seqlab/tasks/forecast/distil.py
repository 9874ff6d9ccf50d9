"""A teacher's quantiles of all steps at once."""

from __future__ import annotations

from seqlab.families.gradient.direct import quantile_loss
from seqlab.tasks.forecast.gradient import Direct
from seqlab.tasks.forecast.loss import ahead_of, origins, summed
from seqlab.training.gradient import distil
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.loss import Loss


class Teaching(distil.SoftTargets):
    def mixed_loss(self, model: Direct, batch: TensorBatch) -> Loss:
        """The soft loss is the mean distance of student and teacher, over the quantiles."""
        model.direct.taken.fill_(True)
        rows, at = origins(batch, model.direct.window)
        made, window = model.quantiles(batch.x, rows, at)
        theirs, _ = self.model.quantiles(batch.x, rows, at)
        truth, known = ahead_of(batch, rows, at, window, model.direct.horizon)
        return summed(self.mixed((made - theirs).abs().mean(-1), quantile_loss(made, truth)), known)
