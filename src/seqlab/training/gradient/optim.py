"""AdamW (Loshchilov and Hutter 2019), Muon for the body's matrices where asked for, and the schedule of their rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from seqlab.settings import Optimizer, Slanted, named

if TYPE_CHECKING:
    from seqlab.training.gradient.muon import MuonAdamW
    from seqlab.training.gradient.tuning import Tuning

# Groups of parameters that are no layer of a body. An embedding or an output has a row for each symbol, and its
# gradient's singular values say how often the symbols occur: they are not to be made alike.
ENDS = ("input", "output", "head")


def build_optimizer(model: nn.Module, settings: Optimizer, tuning: Tuning | None = None) -> AdamW | MuonAdamW:
    """AdamW, with Muon for the matrices of the body where `settings` gives these a rate. Decay acts on matrices alone.

    Biases, gains of norms and single vectors set a scale rather than a complexity, and a row of an embedding gets no
    gradient where its symbol is absent, so that decay would erase rare symbols: all of these are left alone.

    tuning: which parameters there are, those that join later included, and each group's rate; None: all, alike.
    """
    spared = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    inner: set[int] = set()
    if settings.matrix_learning_rate is not None:
        body: Any = model  # of any family
        inner = {
            id(p) for name, group in body.layer_groups() if name not in ENDS for p in group if p.ndim == 2
        } - spared
    if tuning is None:
        parts = [([p for p in model.parameters() if p.requires_grad], 1.0)]
    else:
        parts = [(group.parameters, group.rate) for group in tuning.groups if group.joins is not None]
    groups, turned = [], []
    for parameters, rate in parts:
        matrices = [p for p in parameters if id(p) in inner]
        if matrices:
            assert settings.matrix_learning_rate is not None
            turned.append({"params": matrices, "lr": rate * settings.matrix_learning_rate})
        decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in spared | inner]
        rest = [p for p in parameters if p.ndim < 2 or id(p) in spared]
        for members, decay in ((decayed, settings.weight_decay), (rest, 0.0)):
            groups.append({"params": members, "weight_decay": decay, "lr": rate * settings.learning_rate})
    first, second = settings.betas
    adam = AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, betas=(first, second), fused=True)
    if not turned:
        return adam
    # By name: who asks for no Muon does not depend on how it is computed.
    beside: Callable[..., MuonAdamW] = named("seqlab.training.gradient.muon.beside")
    return beside(adam, turned, settings.weight_decay)


def learning_rate_factor(step: int, steps: int, settings: Optimizer) -> float:
    """The share of the largest rate at `step` = 0 .. steps - 1: a linear rise, then half a cosine down to the floor."""
    rise = round(settings.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    done = min(1.0, (step - rise) / max(1, steps - rise - 1))
    return settings.floor + (1 - settings.floor) * 0.5 * (1 + math.cos(math.pi * done))


def slanted_factor(step: int, steps: int, settings: Slanted) -> float:
    """The share of the largest rate at `step`: a short linear rise, then a long linear fall (Howard and Ruder 2018)."""
    cut = max(1, int(steps * settings.cut))
    done = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / settings.cut - 1))
    return (1 + max(0.0, done) * (settings.ratio - 1)) / settings.ratio


def build_schedule(
    optimizer: torch.optim.Optimizer, steps: int, settings: Optimizer, slanted: Slanted | None = None
) -> LambdaLR:
    """To be stepped after every optimiser step."""
    if slanted is not None:
        return LambdaLR(optimizer, lambda step: slanted_factor(step, steps, slanted))
    return LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, settings))
