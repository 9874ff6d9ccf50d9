"""From a model of the source to one of the target: weights move by name, and a strategy says how training goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seqlab.errors import UserError
from seqlab.settings import Optimizer, Strategy


@dataclass(frozen=True)
class Loaded:
    """Names of tensors. loaded: taken over. new: the model's own, kept as initialised. left: not in the model."""

    loaded: list[str]
    new: list[str]
    left: list[str]


def load_matching(model: nn.Module, tensors: Mapping[str, np.ndarray]) -> Loaded:
    """Copy every tensor whose name the model has: all of them or, on an error, none.

    A head for another task is new or left, since it goes by another name. Raises UserError when a shape differs, naming
    tensor and shapes, or when no name matches at all.
    """
    own = model.state_dict()
    shared = [name for name in own if name in tensors]
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, the model's is {tuple(own[name].shape)}"
        for name in shared
        if tuple(tensors[name].shape) != tuple(own[name].shape)
    ]
    if wrong:
        raise UserError(f"pretrained weights do not fit the model: {'; '.join(wrong)}")
    if not shared:
        raise UserError(
            f"pretrained weights do not fit the model: no name is shared; they have {', '.join(sorted(tensors)[:3])}, "
            f"..., the model has {', '.join(sorted(own)[:3])}, ..."
        )
    with torch.no_grad():
        for name in shared:
            own[name].copy_(torch.as_tensor(tensors[name]))
    return Loaded(shared, [name for name in own if name not in tensors], [name for name in tensors if name not in own])


def begin(
    model: nn.Module, strategy: Strategy, pretrained: Mapping[str, np.ndarray] | None, optimizer: Optimizer
) -> tuple[Optimizer, Loaded | None]:
    """Ready `model`, as its seed initialised it, for training on the target; return the optimiser's settings for that.

    Raises UserError when the strategy starts from pretrained weights and there are none, or they do not fit.
    """
    settings = optimizer.scaled(strategy.learning_rate_factor)
    if strategy.init == "scratch":
        return settings, None
    if pretrained is None:
        raise UserError(f"strategy.init: {strategy.init!r} needs a model of the source; run the pretrain stage first")
    return settings, load_matching(model, pretrained)
