"""Muon (Jordan et al. 2024) for the body's matrices, AdamW (Loshchilov and Hutter 2019) for all else, and their rates.

Both rates follow one schedule over the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR

from seqlab.settings import Optimizer, Slanted
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
    # The size of an update is as AdamW's at that rate (Liu et al. 2025).
    return MuonAdamW(BatchedMuon(turned, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"), adam)


def orthogonalised(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """(N, R, C) -> (N, R, C) bfloat16: of each matrix all singular values brought near one, the singular vectors kept.

    Newton and Schulz's iteration with the quintic of Jordan et al. (2024): three products a step.
    """
    first, second, third = coefficients
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    # No singular value exceeds the Frobenius norm.
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=second, alpha=third), x, beta=first)
    return x.mT if tall else x


class BatchedMuon(Muon):
    """torch's Muon, matrices of one shape turned side by side: as many kernels a shape as there were a matrix.

    A card waits for launches where matrices are small, and fills where many are one product.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, parameters in by_shape.items():
                self.turn(parameters, group, 0.2 * math.sqrt(max(shape)))
        return loss

    def turn(self, parameters: list[Tensor], group: dict[str, Any], size: float) -> None:
        """One step of matrices of one shape. size: of the update, as a multiple of the rate ("match_rms_adamw")."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
        turned = orthogonalised(torch.stack(updates), group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for p, change in zip(parameters, turned.unbind(), strict=True):
            p.add_(change, alpha=-group["lr"] * size)


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers that step, are scheduled, saved and resumed as one; torch's Muon takes matrices alone."""

    def __init__(self, muon: Muon, adam: AdamW):
        self.parts: tuple[torch.optim.Optimizer, torch.optim.Optimizer] = (muon, adam)
        self.first = len(muon.param_groups)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self.link()

    def link(self) -> None:
        """Let the parts work on this optimiser's own groups and state."""
        muon, adam = self.parts
        muon.param_groups, adam.param_groups = self.param_groups[: self.first], self.param_groups[self.first :]
        muon.state = adam.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.link()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


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
