"""Forecasts by the quantile loss of all steps at once, against those by the model's own samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from seqlab.families.gradient.direct import LEVELS, Windows, quantile_loss
from seqlab.tasks.forecast.gradient import Direct, ahead
from seqlab.training.gradient import loss
from seqlab.training.gradient.batches import TensorBatch

STRIDE = 4  # of the origins of a batch that is trained on: neighbours say much the same
SAMPLES, SEED = 32, 0  # paths of the model's own forecast on the validation split, and their seed


class Loss(loss.TaskLoss):
    """Trained on origins all along each sequence; validated, as it is judged, on forecasts of the scored part.

    The validation before the first step is of the model's own samples, all others of its direct end. The best one is
    kept, and so chooses between the two: a best step of 0 means samples.
    """

    def __call__(self, model: Direct, batch: TensorBatch) -> loss.Loss:
        """The mean is in units of each window's scale, per step and channel."""
        if model.training:
            model.direct.taken.fill_(True)
            rows, at = origins(batch, model.direct.window)
        else:
            rows, at = torch.arange(len(batch.x), device=batch.x.device), batch.scored.int().argmax(1)
        if model.direct.taken:
            made, window = model.quantiles(batch.x, rows, at)
        else:
            made, window = self.sampled(model, batch, rows, at)
        truth, known = ahead_of(batch, rows, at, window, model.direct.horizon)
        return summed(quantile_loss(made, truth), known)

    def sampled(self, model: Direct, batch: TensorBatch, rows: Tensor, first: Tensor) -> tuple[Tensor, Windows]:
        """As `Direct.quantiles`, of the paths that the model draws from its next step."""
        known = torch.arange(batch.x.shape[1], device=batch.x.device) < first[:, None]
        drawn = model.forecast(batch.x * known[..., None], known, model.direct.horizon, SAMPLES, SEED)
        quantiles = np.quantile(drawn.cpu().numpy(), LEVELS, axis=1, method="weibull")  # (K, B, H, C)
        window = model.direct.read(batch.x, rows, first)
        made = torch.from_numpy(quantiles).to(batch.x).permute(1, 3, 2, 0)
        return (made - window.last[..., None, None]) / window.scale[..., None, None], window


def origins(batch: TensorBatch, window: int) -> tuple[Tensor, Tensor]:
    """Rows and positions, (N,) each, with a whole window behind and something scored next: every STRIDE-th, from a
    random one on."""
    positions = torch.arange(batch.x.shape[1], device=batch.x.device)
    begin = torch.randint(STRIDE, (1,), device=batch.x.device)
    kept = (positions >= window) & (positions % STRIDE == begin) & batch.scored
    rows, found = kept.nonzero(as_tuple=True)
    return rows, found


def ahead_of(batch: TensorBatch, rows: Tensor, at: Tensor, window: Windows, horizon: int) -> tuple[Tensor, Tensor]:
    """What follows batch.x[rows, :at], (N, C, H) in units of the windows; and which of it exists and is scored."""
    exists = at[:, None] + torch.arange(horizon, device=at.device) < batch.x.shape[1]
    known = (exists & ahead(batch.scored, rows, at, horizon))[:, None]
    future = ahead(batch.x, rows, at, horizon).transpose(1, 2)
    return (future - window.last[..., None]) / window.scale[..., None], known.expand(-1, batch.x.shape[2], -1)


def summed(lost: Tensor, known: Tensor) -> loss.Loss:
    """(N, C, H) twice, over the known ones."""
    return loss.Loss(lost.masked_fill(~known, 0).sum(), known.sum().float())
