"""The two ends of a gradient family: from a position to a vector of D numbers, and back to a prediction of the next.

Both kinds of ends answer the same calls, so that a body and a training loop never ask which kind they serve. `h` is
the body's output after the start and some prefix; it predicts the position that follows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
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
        h: Tensor = self.enter(x)
        return h

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        logits = self.leave(h).float()
        return -F.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none").view(x.shape)

    def distribution(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., V) float32 log-probabilities."""
        return F.log_softmax(self.leave(h).float(), dim=-1)

    def sample(self, h: Tensor, last: Tensor, generator: torch.Generator) -> Tensor:
        return torch.multinomial(self.distribution(h).exp(), 1, generator=generator).squeeze(-1)
