"""Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers, Schmidhuber and Cummins 2000).

i, f, o = sigmoid(x_t W_X + h_{t-1} W_H + b), g = tanh(likewise); c_t = f c_{t-1} + i g; h_t = o tanh(c_t).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqlab.data.sequences import Space
from seqlab.families.gradient import Density, Recurrent, State


class LSTM(Recurrent):
    """hidden_size: H, the width of embedding, state and cell. layers: how many are stacked."""

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        hidden_size: int,
        layers: int,
        dropout: float,
        truncation: int | None,
        density: Density,
    ):
        super().__init__(
            space,
            classes,
            stack=nn.LSTM,
            state_parts=2,
            hidden_size=hidden_size,
            layers=layers,
            dropout=dropout,
            truncation=truncation,
            density=density,
        )
        # Jozefowicz, Zaremba and Sutskever (2015): a forget gate that starts open lets gradients through from the
        # first step on. Torch has two biases, of which the sum acts.
        for _, _, bias_ih, bias_hh in self.stack.all_weights:
            bias_ih.data[hidden_size : 2 * hidden_size] = 1
            bias_hh.data[hidden_size : 2 * hidden_size] = 0

    @staticmethod
    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
        before = tuple(part[None].contiguous() for part in state)
        # torch keeps what going back needs only when it is told that it trains.
        train = torch.is_grad_enabled()
        outputs, hidden, cell = torch.lstm(x, before, list(weights), True, 1, 0.0, train, False, False)
        return outputs, (hidden[0], cell[0])
