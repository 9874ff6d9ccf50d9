"""Which parameters a training changes, from which step on and how fast; and low-rank adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from seqlab.families.gradient import GradientFamily
from seqlab.settings import Adapters, Slanted, Strategy


@dataclass(frozen=True)
class Group:
    """Parameters that join a training together. rate: multiplies the learning rate.

    joins: the share of the steps after which they are trained; None: never.
    """

    name: str
    parameters: list[nn.Parameter]
    rate: float
    joins: float | None


@dataclass(frozen=True)
class Tuning:
    """Every parameter of a model once, from the top group down. slanted: in place of the optimiser's own schedule."""

    groups: list[Group]
    slanted: Slanted | None

    def first_steps(self, steps: int) -> list[tuple[int, Group]]:
        """The groups that are trained at all, each with its first step."""
        return [(round(group.joins * steps), group) for group in self.groups if group.joins is not None]

    def set_step(self, model: nn.Module, step: int, steps: int) -> None:
        """Let step number `step` of `steps` change the groups that have joined by then, and nothing else of `model`.

        A part with no parameter that is trained is in evaluation mode: its running statistics stay as they are.
        """
        joined = {id(group) for first, group in self.first_steps(steps) if first <= step}
        for group in self.groups:
            for parameter in group.parameters:
                parameter.requires_grad_(id(group) in joined)
        if model.training and len(joined) < len(self.groups):
            for part in model.modules():
                part.train(any(parameter.requires_grad for parameter in part.parameters()))

    def merge(self, model: nn.Module) -> None:
        """Put every adapter's product into its matrix: the tensors are those of the family's own layout again."""
        for part in list(model.modules()):
            if parametrize.is_parametrized(part):
                parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)

    def phases(self, steps: int) -> list[tuple[int, int]]:
        """First step of each phase, in which the same groups are trained, and the phase's number of steps."""
        firsts = sorted({0, *(first for first, _ in self.first_steps(steps) if first < steps)})
        return [(first, after - first) for first, after in zip(firsts, [*firsts[1:], steps], strict=True)]


def tuning_of(model: GradientFamily, strategy: Strategy, adapted: Sequence[str]) -> Tuning:
    """What a strategy that is `grouped` asks of this model.

    With adapters, `attach` puts them on the linear maps called `adapted`. The top group is the head of a classifier,
    whose output end has no part in the loss and is left alone.
    """
    layers = dict(model.layer_groups())
    unused = layers.pop("output") if model.head is not None else []
    depth = max(1, len(layers) - 1)
    groups = []
    for k, (name, parameters) in enumerate(reversed(layers.items())):
        joins = (strategy.unfreezing or 0.0) * k / depth
        rate = 1.0 if strategy.depth_factor is None else strategy.depth_factor**k
        groups.append(Group(name, parameters, rate, None if strategy.frozen and k else joins))
    groups.append(Group("unused", unused, 1.0, None))
    if strategy.adapters is not None:
        groups.append(Group("adapters", attach(model, adapted, strategy.adapters), 1.0, 0.0))
    return Tuning(groups, strategy.slanted)


class LowRank(nn.Module):
    """W -> W + alpha / rank B A with A (rank, in) random and B (out, rank) zero: it begins as W itself.

    Of torch's own parametrisation, and not by the library peft: that one needs transformers, accelerate and their hubs
    for what is one product here, and its state is not the family's own once merged.
    """

    def __init__(self, weight: Tensor, settings: Adapters):
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = settings.alpha / settings.rank
        self.a = nn.Parameter(torch.randn(settings.rank, inputs, device=weight.device) / sqrt(inputs))
        self.b = nn.Parameter(torch.zeros(outputs, settings.rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.scale * self.b @ self.a


def attach(model: nn.Module, names: Sequence[str], settings: Adapters) -> list[nn.Parameter]:
    """Put an adapter on every linear map with one of these names, and return the adapters' parameters."""
    found = [part for name, part in model.named_modules() if name.rpartition(".")[2] in names]
    adapters = [LowRank(part.weight, settings) for part in found if isinstance(part, nn.Linear)]
    for part, adapter in zip(found, adapters, strict=True):
        parametrize.register_parametrization(part, "weight", adapter)
    return [parameter for adapter in adapters for parameter in adapter.parameters()]
