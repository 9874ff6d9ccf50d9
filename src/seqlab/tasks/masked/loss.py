"""-log P of hidden positions given all the others (Devlin et al. 2019)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.families.gradient.ends import lagged
from seqlab.families.gradient.model import GradientFamily
from seqlab.families.gradient.vector_ends import VectorEnds
from seqlab.settings import Hiding
from seqlab.training.gradient import loss
from seqlab.training.gradient.batches import TensorBatch


class Loss(loss.TaskLoss):
    def attach(self, model: GradientFamily) -> None:
        assert self.objective is not None
        assert self.objective.hidden is not None  # which the configuration requires
        model.hidden = Hidden(model.width, self.objective.hidden)

    def __call__(self, model: GradientFamily, batch: TensorBatch) -> loss.Loss:
        """Over hidden positions; the mean is per symbol, or per step and channel."""
        holder: Any = model.hidden
        hidden = holder.draw(batch.mask)
        channels = batch.x.shape[2] if batch.x.ndim == 3 else 1
        total = -hidden_log_prob(model, batch.x, batch.mask, hidden).sum()
        return loss.Loss(total, hidden.sum().float() * channels)


class Hidden(nn.Module):
    """What stands where a position is hidden, (D,), and which positions are. A model carries it as `hidden`."""

    def __init__(self, width: int, settings: Hiding):
        super().__init__()
        self.settings = settings
        self.vector = nn.Parameter(torch.randn(width) / width**0.5)

    def draw(self, mask: Tensor) -> Tensor:
        """(B, T) bool: spans of real positions, anew in training and the same ones at every validation."""
        fixed = None if self.training else torch.Generator().manual_seed(0)
        chance = torch.rand(mask.shape, generator=fixed).to(mask.device)
        span = self.settings.span
        begins = (chance < self.settings.share / span).float()
        return (F.max_pool1d(F.pad(begins, (span - 1, 0))[:, None], span, 1)[:, 0] > 0) & mask


def hidden_log_prob(model: GradientFamily, x: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
    """(B, T) float32: log P(x_t | every position that is not hidden), 0 where t is not hidden.

    The family's `around` is its body with both sides in view; the output above a position predicts that position.
    """
    holder: Any = model.hidden
    over = hidden if x.ndim == 2 else hidden[..., None]
    visible = x.masked_fill(over, 0)
    inputs = torch.where(hidden[..., None], holder.vector, model.ends.embed(visible))
    start = model.ends.start.expand(len(x), 1, -1)
    around: Any = model.around
    h = around(torch.cat([start, inputs], 1), F.pad(mask, (1, 0), value=True))[:, 1:]
    if isinstance(model.ends, VectorEnds):
        found = model.ends.predictive(h, lagged(visible)[:, :-1]).log_prob(x)
    else:
        found = model.ends.log_prob(h, x)
    return found.masked_fill(~hidden, 0)
