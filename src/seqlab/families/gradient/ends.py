"""The two ends of a gradient family: from a position to a vector of D numbers, and back to a prediction of the next.

Both kinds of ends answer the same calls, so that a body and a training loop never ask which kind they serve. `h` is
the body's output after the start and some prefix; it predicts the position that follows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import pi
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal, StudentT
from torch.nn import functional as F

Density = Literal["gaussian", "student_t"]


def lagged(x: Tensor) -> Tensor:
    """(B, T[, C]) -> (B, T + 1[, C]): the value before every position and after the last; before the first is zero."""
    return torch.cat([x.new_zeros(len(x), 1, *x.shape[2:]), x], 1)


class Ends(nn.Module, ABC):
    """`enter`: the input end; `leave`: the output end; `start`: (D,) stands where the first position has no past."""

    enter: nn.Module
    leave: nn.Linear

    def __init__(self, width: int):
        super().__init__()
        self.start = nn.Parameter(torch.randn(width))

    def inputs(self, x: Tensor) -> Tensor:
        """(B, T[, C]) -> (B, T + 1, D): the start, then every position, so that input t has seen x_<=t and no more."""
        return torch.cat([self.start.expand(len(x), 1, -1), self.embed(x)], dim=1)

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """(...[, C]) -> (..., D)."""

    def outputs(self) -> list[nn.Parameter]:
        """The parameters of the output end."""
        return list(self.leave.parameters())

    @abstractmethod
    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        """(B, T, D), (B, T[, C]) -> (B, T) float32: log P(x_t) in nats, where h[:, t] has seen x_<t."""

    @abstractmethod
    def sample(self, h: Tensor, last: Tensor, generator: torch.Generator) -> Tensor:
        """(N, D) and the value before, (N[, C]) -> (N[, C]): one draw of the next position."""


class SymbolEnds(Ends):
    """Embedding in; a linear map to V logits out."""

    def __init__(self, size: int, width: int):
        super().__init__(width)
        self.enter = nn.Embedding(size, width)
        self.leave = nn.Linear(width, size)

    def embed(self, x: Tensor) -> Tensor:
        return self.enter(x)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        logits = self.leave(h).float()
        return -F.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view(x.shape)

    def distribution(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., V) float32 log-probabilities."""
        return F.log_softmax(self.leave(h).float(), dim=-1)

    def sample(self, h: Tensor, last: Tensor, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.distribution(h).exp(), 1, generator=generator).squeeze(-1)


class VectorEnds(Ends):
    """Linear in; out a density of each channel, the channels independent given the past:

        x_t = a ⊙ x_{t-1} + s_t ⊙ (m_t + noise),   where scale s_t and shift m_t come from the body's output.

    The carry a is a parameter of each channel. Built, it is 1 and m_t is 0: the naive forecast. Training begins at the
    carry of its data (`lag_one`), near 1 where things move smoothly, near 0 for returns, and learns on. The shift is in
    units of the scale: its gradient then has one size whatever the scale of a sequence, and where little moves, a poor
    shift does little harm.
    """

    # Least scale, in units of the standardised series: a constant stretch would otherwise have infinite density.
    FLOOR = 1e-3
    # In the same units: a path that explodes when it is fed its own values goes no further, or it would overflow.
    FAR = 1e6

    def __init__(self, channels: int, width: int, density: Density):
        super().__init__(width)
        self.density = density
        self.enter = nn.Linear(channels, width)
        self.leave = nn.Linear(width, channels * (3 if density == "student_t" else 2))
        self.carry = nn.Parameter(torch.ones(channels))
        with torch.no_grad():
            # The scale's rows keep their start, so that the body has a gradient of full size from the first step on.
            self.leave.weight[:channels] = 0
            self.leave.bias[:channels] = 0

    def embed(self, x: Tensor) -> Tensor:
        return self.enter(x)

    def outputs(self) -> list[nn.Parameter]:
        return [*super().outputs(), self.carry]

    def predictive(self, h: Tensor, last: Tensor) -> Normal | StudentT:
        """(..., D), (..., C) -> the density of the next value, batch shape (..., C)."""
        shift, width, *tail = self.leave(h).float().unflatten(-1, (-1, last.shape[-1])).unbind(-2)
        scale = F.softplus(width) + self.FLOOR
        location = self.carry * last + scale * shift
        if self.density == "gaussian":
            return Normal(location, scale, validate_args=False)
        # More than two degrees of freedom, so that the standard deviation exists.
        return StudentT(2 + F.softplus(tail[0]), location, scale, validate_args=False)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        return self.predictive(h, lagged(x)[:, :-1]).log_prob(x).sum(-1)

    def moments(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B, T, C) -> mean and standard deviation of x_t, each (B, T, C), where h[:, t] has seen x_<t."""
        predictive = self.predictive(h, lagged(x)[:, :-1])
        return predictive.mean, predictive.stddev

    def sample(self, h: Tensor, last: Tensor, generator: torch.Generator) -> Tensor:
        return self.drawn(self.predictive(h, last), generator).clamp(-self.FAR, self.FAR)

    @staticmethod
    def drawn(p: Normal | StudentT, generator: torch.Generator) -> Tensor:
        if isinstance(p, Normal):
            return p.loc + p.scale * torch.randn(p.loc.shape, generator=generator, device=p.loc.device)
        # Bailey (1994), Mathematics of Computation 62: the polar method for Student's t, exact for any degrees of
        # freedom; torch's own sampler takes no generator. 1 - u lies in (0, 1], where the logarithm is finite.
        u, v = torch.rand((2, *p.loc.shape), generator=generator, device=p.loc.device, dtype=torch.float64)
        radius = torch.sqrt(p.df * torch.expm1(-2 / p.df * torch.log1p(-u)))
        return p.loc + p.scale * (radius * torch.cos(2 * pi * v)).float()
