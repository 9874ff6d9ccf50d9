"""Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate (Gers, Schmidhuber and Cummins 2000).

i, f, o = sigmoid(x_t W_X + h_{t-1} W_H + b), g = tanh(likewise); c_t = f c_{t-1} + i g; h_t = o tanh(c_t).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

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
    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        return LSTMLayer.apply(x, *state, weight_ih, weight_hh, bias_ih + bias_hh)


class LSTMLayer(torch.autograd.Function):
    """One layer over time with its gradient by hand; gates in torch's order, i, f, g, o.

    As in rnn.TanhLayer, what need not wait for the step before is done for all steps at once. Going back this holds for
    all that is elementwise but the two products with the gradients of state and cell.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(
        ctx: Any, x: Tensor, first: Tensor, first_cell: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(T, B, D), (B, H), (B, H), (4 H, D), (4 H, H), (4 H,) -> states and cells, (T, B, H)."""
        x = x.contiguous()
        size = first.shape[1]
        gates = F.linear(x, weight_ih, bias).to(first.dtype)
        # From the state before to the last, so that going back finds each step's predecessor without a copy.
        states, cells = gates.new_empty(2, len(x) + 1, *first.shape).unbind()
        states[0], cells[0] = first, first_cell
        squashed = torch.empty_like(first)
        recurrent = weight_hh.t().contiguous()
        for gate, i_f, i, f, g, o, before, state, cell, next_cell in zip(
            gates.unbind(),
            gates[..., : 2 * size].unbind(),
            *(part.unbind() for part in gates.split(size, -1)),
            states[:-1].unbind(),
            states[1:].unbind(),
            cells[:-1].unbind(),
            cells[1:].unbind(),
            strict=True,
        ):
            gate.addmm_(before, recurrent)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, cell, out=next_cell).addcmul_(i, g)
            torch.mul(o, torch.tanh(next_cell, out=squashed), out=state)
        ctx.save_for_backward(x, weight_ih, weight_hh, gates, states, cells)
        ctx.set_materialize_grads(False)
        return states[1:], cells[1:]

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx: Any, grad: Tensor | None, grad_cells: Tensor | None) -> tuple[Tensor, ...]:  # type: ignore[override]
        x, weight_ih, weight_hh, gates, states, cells = ctx.saved_tensors
        size = states.shape[-1]
        i, f, g, o = gates.split(size, -1)
        # Each gate's gradient before its sigmoid or tanh, yet without the factor that only the step after knows: the
        # gradient of the cell for i, f and g, that of the state for o.
        delta = torch.empty_like(gates)
        d_i, d_f, d_g, d_o = delta.split(size, -1)
        sigmoid_backward, tanh_backward = (
            torch.ops.aten.sigmoid_backward.grad_input,
            torch.ops.aten.tanh_backward.grad_input,
        )
        sigmoid_backward(g, i, grad_input=d_i)
        sigmoid_backward(cells[:-1], f, grad_input=d_f)
        tanh_backward(i, g, grad_input=d_g)
        squashed = cells[1:].tanh()
        sigmoid_backward(squashed, o, grad_input=d_o)
        through = tanh_backward(o, squashed, grad_input=squashed)
        nothing = [None] * len(x)
        d_state, d_cell = torch.zeros_like(states[0]), torch.zeros_like(cells[0])
        for d, to_cell, to_state, outside, keep, d_output, d_next in zip(
            reversed(delta.unbind()),
            reversed(delta[..., : 3 * size].unflatten(-1, (3, size)).unbind()),
            reversed(d_o.unbind()),
            reversed(through.unbind()),
            reversed(f.unbind()),
            reversed(nothing if grad is None else grad.unbind()),
            reversed(nothing if grad_cells is None else grad_cells.unbind()),
            strict=True,
        ):
            if d_output is not None:
                d_state += d_output
            if d_next is not None:
                d_cell += d_next
            d_cell.addcmul_(d_state, outside)
            to_cell.mul_(d_cell[:, None])
            to_state.mul_(d_state)
            torch.mm(d, weight_hh, out=d_state)
            d_cell.mul_(keep)
        flat = delta.flatten(0, 1)
        dtype = delta.dtype
        return (
            (flat @ weight_ih).view(x.shape).to(x.dtype),
            d_state,
            d_cell,
            (flat.t() @ x.flatten(0, 1)).to(dtype),
            (flat.t() @ states[:-1].flatten(0, 1)).to(dtype),
            flat.sum(0),
        )
