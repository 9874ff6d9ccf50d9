"""Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers, Schmidhuber and Cummins 2000).

i, f, o = sigmoid(x_t W_X + h_{t-1} W_H + b), g = tanh(likewise); c_t = f c_{t-1} + i g; h_t = o tanh(c_t).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seqlab.families.gradient import Recurrent, State


class LSTM(Recurrent):
    """`Recurrent` with a cell of three gates; beside the output its state has the memory, as wide."""

    torch_stack = nn.LSTM
    state_parts = 2

    def initialise(self) -> None:
        """And forget gates start open, so that gradients pass from the first step on (Jozefowicz, Zaremba and Sutskever
        2015). Torch has two biases, of which the sum acts."""
        super().initialise()
        for _, _, bias_ih, bias_hh in self.stack.all_weights:
            bias_ih.data[self.width : 2 * self.width] = 1
            bias_hh.data[self.width : 2 * self.width] = 0

    @staticmethod
    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
        before = tuple(part[None].contiguous() for part in state)
        # torch keeps what going back needs only when it is told that it trains.
        train = torch.is_grad_enabled()
        outputs, hidden, cell = torch.lstm(x, before, list(weights), True, 1, 0.0, train, False, False)
        return outputs, (hidden[0], cell[0])
