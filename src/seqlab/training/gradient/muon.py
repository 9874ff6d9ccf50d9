"""Muon (Jordan et al. 2024) for the body's matrices, beside AdamW for all else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon


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
    """torch's Muon, matrices of one shape turned side by side: as many kernels a shape as there were a matrix."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        assert closure is None, "MuonAdamW has called it"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, parameters in by_shape.items():
                self.turn(parameters, group, 0.2 * math.sqrt(max(shape)))

    def turn(self, parameters: list[Tensor], group: dict[str, Any], size: float) -> None:
        """One step of matrices of one shape. size: of the update, as a multiple of the rate ("match_rms_adamw")."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum_buffer"] for p in parameters]
        self.apply(parameters, gradients, momenta, group, 1 - group["lr"] * group["weight_decay"], -group["lr"] * size)

    @staticmethod
    def apply(parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], group: Any, *by: Any) -> None:
        """by: which multiple of the parameters stays, and of the turned updates joins them."""
        decay, rate = by
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, momenta, group["momentum"])
        turned = orthogonalised(torch.stack(updates), group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(parameters, decay)
        for p, change in zip(parameters, turned.unbind(), strict=True):
            # A rate is a tensor in steps that a card records, or that are compiled.
            p.addcmul_(change.to(p.dtype), rate) if isinstance(rate, Tensor) else p.add_(change, alpha=rate)


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


def beside(adam: AdamW, turned: list[dict[str, Any]], decay: float) -> MuonAdamW:
    """`adam`, with Muon for the groups `turned`. The size of an update is as AdamW's at that rate (Liu et al. 2025)."""
    return MuonAdamW(BatchedMuon(turned, weight_decay=decay, adjust_lr_fn="match_rms_adamw"), adam)
