"""AdamW (Loshchilov and Hutter 2019) and its learning rate over the steps."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from seqlab.training.settings import Optimizer


def build_optimizer(model: nn.Module, settings: Optimizer) -> AdamW:
    """AdamW whose decay acts on matrices alone.

    Biases, gains of norms and single vectors set a scale rather than a complexity, and a row of an embedding gets no
    gradient where its symbol is absent, so that decay would erase rare symbols: all of these are left alone.
    """
    spared = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in spared]
    kept = {id(p) for p in decayed}
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if id(p) not in kept], "weight_decay": 0.0},
    ]
    first, second = settings.betas
    return AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, betas=(first, second), fused=True)


def learning_rate_factor(step: int, steps: int, settings: Optimizer) -> float:
    """The share of the largest rate at `step` = 0 .. steps - 1: a linear rise, then half a cosine down to the floor."""
    rise = round(settings.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, steps - rise - 1))
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * done))


def build_schedule(optimizer: torch.optim.Optimizer, steps: int, settings: Optimizer) -> LambdaLR:
    """To be stepped after every optimiser step."""
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, settings))
