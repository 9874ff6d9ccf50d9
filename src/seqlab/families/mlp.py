"""The memoryless family: a multilayer perceptron that sees x_t alone to predict x_{t+1}."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.families.gradient import Density, GradientFamily, State
from seqlab.settings import Count, ProperShare


class MLP(GradientFamily):
    """hidden_size: D, the width of every layer. layers: how many. dropout: of each one's inputs and the last outputs.

    Its classifier is the order-free control: it sees which positions a sequence has and never their order.
    """

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        hidden_size: Count,
        layers: Count,
        dropout: ProperShare,
        density: Density,
    ):
        super().__init__(space, classes, width=hidden_size, density=density)
        self.dropout = dropout
        stack = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(layers))
        self.stack = cast(list[nn.Linear], stack)  # ModuleList's own type forgets what it holds

    def body(self, h: Tensor) -> Tensor:
        for layer in self.stack:
            h = F.gelu(layer(F.dropout(h, self.dropout, self.training)))
        return F.dropout(h, self.dropout, self.training)

    def start(self, batch_size: int) -> State:
        """Nothing is remembered."""
        return ()

    def step(self, state: State, h: Tensor) -> tuple[State, Tensor]:
        return (), self.body(h)

    def prefill(self, h: Tensor, lengths: Tensor) -> tuple[State, Tensor]:
        return (), self.body(h[torch.arange(len(h), device=h.device), lengths - 1])

    def pool(self, h: Tensor, mask: Tensor) -> Tensor:
        """(B, T + 1, D), (B, T) -> (B, 2 D): the mean over positions, and in place of the last one the greatest of
        each channel, the start included.
        """
        exists = F.pad(mask, (1, 0), value=True)
        greatest = h.masked_fill(~exists[..., None], float("-inf")).amax(1)
        return torch.cat([super().pool(h, mask)[:, : self.width], greatest], -1)

    def body_groups(self) -> list[list[nn.Parameter]]:
        return [list(layer.parameters()) for layer in self.stack]
