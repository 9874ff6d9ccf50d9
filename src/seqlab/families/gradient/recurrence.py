"""Stacked recurrent layers: unrolling, truncation and the one-step twin, whatever the cell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.families.gradient.ends import Density, SymbolEnds
from seqlab.families.gradient.model import GradientFamily, State


class Recurrent(GradientFamily):
    """A body of recurrent layers whose parameters lie in `stack`, one of torch's own recurrent modules.

    On CUDA the stack runs itself (cuDNN). Elsewhere `layer` runs it, which a subclass writes for its cell: torch's CPU
    loop makes an autograd node of every operation of every step, and a weight gradient of every step.

    A cell's state is a tuple of (B, H) tensors, the first of which is also its output.

    truncation: back-propagation through time stops after this many steps at most (at multiples of it, counted from a
    sequence's start); None for full back-propagation. dropout: of each layer's inputs and of the last outputs, never of
    the recurrence (Zaremba, Sutskever and Vinyals 2014).

    state_parts: how many tensors a cell's state has. stack: makes the module, as torch.nn.RNN, LSTM and GRU do.
    """

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        stack: Callable[..., nn.RNNBase],
        state_parts: int,
        hidden_size: int,
        layers: int,
        dropout: float,
        truncation: int | None,
        density: Density,
    ):
        super().__init__(space, classes, width=hidden_size, density=density)
        self.state_parts, self.dropout, self.truncation = state_parts, dropout, truncation
        between = dropout if layers > 1 else 0.0  # torch warns where there is no layer between two
        self.stack = stack(hidden_size, hidden_size, layers, dropout=between)
        for _, weight_hh, *_ in self.stack.all_weights:
            for gate in weight_hh.split(hidden_size):
                nn.init.orthogonal_(gate)

    @staticmethod
    @abstractmethod
    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """One layer over time: inputs (T, B, D) and the state before -> the state's parts after each step, (T, B, H).

        weights: in torch's order and layout, weight_ih (G H, D), weight_hh (G H, H), bias_ih and bias_hh (G H,).
        """

    def encode(self, x: Tensor) -> Tensor:
        ends = self.ends
        dropped = self.training and self.dropout > 0
        if isinstance(ends, SymbolEnds) or x.is_cuda or dropped or x.shape[-1] + 2 >= self.width:
            return super().encode(x)
        # Vectors of few channels: the first layer's product with the embeddings, half of all arithmetic, is one with
        # the vectors themselves once the two maps are multiplied.
        parts, basis = ends.factors(x)
        return self.unroll(parts.transpose(0, 1), self.start(len(x)), basis)[-1][0].transpose(0, 1)

    def body(self, h: Tensor) -> Tensor:
        x = h.transpose(0, 1)
        outputs = self.run_stack(x) if x.is_cuda else self.unroll(x, self.start(len(h)))[-1][0]
        return F.dropout(outputs.transpose(0, 1), self.dropout, self.training)

    def run_stack(self, x: Tensor) -> Tensor:
        """(T, B, D) -> (T, B, H) by torch's own module, in segments of `truncation` steps."""
        x = F.dropout(x, self.dropout, self.training)
        state, outputs = None, []
        for segment in x.split(self.truncation or len(x)):
            output, state = self.stack(segment, state)
            state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
            outputs.append(output)
        return torch.cat(outputs)

    def unroll(self, x: Tensor, state: State, basis: Tensor | None = None) -> list[tuple[Tensor, ...]]:
        """(T, B, D) and the state before -> for each layer the parts of its state after each step, (T, B, H).

        basis: (K, D), where x is (T, B, K) and the inputs are x @ basis.
        """
        trace: list[tuple[Tensor, ...]] = []
        for i, (weight_ih, *others) in enumerate(self.stack.all_weights):
            weights = (weight_ih if i or basis is None else weight_ih @ basis.t(), *others)
            x = F.dropout(x, self.dropout, self.training)
            before = tuple(part[:, i] for part in state)
            segments = []
            # Cutting each layer at the same steps is cutting the whole stack there: layers meet within a step alone.
            for segment in x.split(self.truncation or len(x)):
                segments.append(self.layer(segment, before, weights))
                before = tuple(part[-1].detach() for part in segments[-1])
            trace.append(segments[0] if len(segments) == 1 else tuple(map(torch.cat, zip(*segments, strict=True))))
            x = trace[-1][0]
        return trace

    def start(self, batch_size: int) -> State:
        """`state_parts` zeros of (B, layers, H)."""
        return (self.ends.start.new_zeros(batch_size, self.stack.num_layers, self.width),) * self.state_parts

    def step(self, state: State, h: Tensor) -> tuple[State, Tensor]:
        trace = self.unroll(h[None], state)
        return tuple(torch.stack(parts, 2)[0] for parts in zip(*trace, strict=True)), trace[-1][0][0]

    def prefill(self, h: Tensor, lengths: Tensor) -> tuple[State, Tensor]:
        trace = self.unroll(h.transpose(0, 1), self.start(len(h)))
        rows = torch.arange(len(h), device=h.device)
        # (T, B, layers, H), of which each row's last real step is kept.
        state = tuple(torch.stack(parts, 2)[lengths - 1, rows] for parts in zip(*trace, strict=True))
        return state, trace[-1][0][lengths - 1, rows]

    def body_groups(self) -> list[list[nn.Parameter]]:
        return [list(weights) for weights in self.stack.all_weights]
