"""Stacked recurrent layers: unrolling, truncation and the one-step twin, whatever the cell."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from seqlab.data.sequences import Space
from seqlab.families.gradient.ends import Density, SymbolEnds
from seqlab.families.gradient.model import GradientFamily, State
from seqlab.settings import Count, ProperShare


class Recurrent(GradientFamily):
    """A body of recurrent layers whose parameters lie in `stack`, one of torch's own recurrent modules.

    On CUDA the stack runs itself (cuDNN). Elsewhere `layer` trains it, which a subclass writes for its cell: where
    torch has no kernel of a whole layer, its CPU loop makes an autograd node of every operation of every step, and a
    weight gradient of every step.

    A cell's state is a tuple of (B, H) tensors, the first of which is also its output.

    hidden_size: H, the width of embedding and state. layers: how many are stacked. truncation: back-propagation through
    time stops after this many steps at most (at multiples of it, counted from a sequence's start); None for full
    back-propagation. dropout: of each layer's inputs and of the last outputs, never of the recurrence (Zaremba,
    Sutskever and Vinyals 2014).
    """

    # What a subclass says of its cell: torch's module of it, and how many tensors its state has.
    torch_stack: Callable[..., nn.RNNBase]
    state_parts: int

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        hidden_size: Count,
        layers: Count,
        dropout: ProperShare,
        truncation: Count | None,
        density: Density,
    ):
        super().__init__(space, classes, width=hidden_size, density=density)
        self.dropout, self.truncation = dropout, truncation
        between = dropout if layers > 1 else 0.0  # torch warns where there is no layer between two
        self.stack = self.torch_stack(hidden_size, hidden_size, layers, dropout=between)
        self.initialise()

    def initialise(self) -> None:
        """Beside torch's own start: each gate's recurrent weights are orthogonal."""
        for _, weight_hh, *_ in self.stack.all_weights:
            for gate in weight_hh.split(self.width):
                nn.init.orthogonal_(gate)

    @staticmethod
    @abstractmethod
    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
        """One layer over time: inputs (T, B, D) and the state before -> outputs (T, B, H) and the state after.

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
        return self.unroll(parts.transpose(0, 1), basis).transpose(0, 1)

    def body(self, h: Tensor) -> Tensor:
        x = h.transpose(0, 1)
        outputs = self.run_stack(x) if x.is_cuda else self.unroll(x)
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

    def unroll(self, x: Tensor, basis: Tensor | None = None) -> Tensor:
        """(T, B, D) -> (T, B, H), layer by layer. basis: (K, D), where x is (T, B, K) and the inputs are x @ basis."""
        for i, (weight_ih, *others) in enumerate(self.stack.all_weights):
            weights = (weight_ih if i or basis is None else weight_ih @ basis.t(), *others)
            x = F.dropout(x, self.dropout, self.training)
            state = tuple(part[:, i] for part in self.start(x.shape[1]))
            outputs = []
            # Cutting each layer at the same steps is cutting the whole stack there: layers meet within a step alone.
            for segment in x.split(self.truncation or len(x)):
                output, state = self.layer(segment, state, weights)
                state = tuple(part.detach() for part in state)
                outputs.append(output)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return x

    def start(self, batch_size: int) -> State:
        """`state_parts` zeros of (B, layers, H)."""
        return (self.ends.start.new_zeros(batch_size, self.stack.num_layers, self.width),) * self.state_parts

    def step(self, state: State, h: Tensor) -> tuple[State, Tensor]:
        after = self.advance(h[None], state)
        return after, after[0][:, -1]

    def prefill(self, h: Tensor, lengths: Tensor) -> tuple[State, Tensor]:
        packed = pack_padded_sequence(h, lengths.cpu(), batch_first=True, enforce_sorted=False)
        after = self.advance(packed, self.start(len(h)))
        return after, after[0][:, -1]

    def advance(self, x: Tensor | PackedSequence, state: State) -> State:
        """The state after inputs (T, B, D), or as many of them as each row has, by torch's own module.

        In the parameters' precision: under autocast torch would round the state at every step.
        """
        before = tuple(part.transpose(0, 1).contiguous() for part in state)
        with torch.autocast(self.device.type, enabled=False):
            _, after = self.stack(x.to(before[0].dtype), before if len(before) > 1 else before[0])
        return tuple(part.transpose(0, 1) for part in (after if isinstance(after, tuple) else (after,)))

    def body_groups(self) -> list[list[nn.Parameter]]:
        return [list(weights) for weights in self.stack.all_weights]
