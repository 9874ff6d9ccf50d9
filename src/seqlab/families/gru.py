"""Gated recurrent units (Cho et al. 2014), the reset gate after the product as in torch and cuDNN.

r, z = sigmoid(x_t W_X + h_{t-1} W_H + b); n = tanh(x_t W_N + b_N + r (h_{t-1} W_M + b_M)); h_t = (1 - z) n + z h_{t-1}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seqlab.families.gradient import Recurrent, State
from seqlab.families.gradient.autograd import applied, custom_bwd, custom_fwd


class GRU(Recurrent):
    """`Recurrent` with a cell of two gates."""

    torch_stack = nn.GRU
    state_parts = 1

    @staticmethod
    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
        states: Tensor = applied(GRULayer, x, *state, *weights)
        return states, (states[-1],)


class GRULayer(torch.autograd.Function):
    """One layer over time with its gradient by hand; gates in torch's order, r, z, n.

    As in rnn.TanhLayer, what need not wait for the step before is done for all steps at once. Going back this holds for
    all that is elementwise but the products with the gradient of the state.
    """

    @staticmethod
    @custom_fwd
    def forward(
        ctx: Any, x: Tensor, first: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias_ih: Tensor, bias_hh: Tensor
    ) -> Tensor:
        """(T, B, D), (B, H), (3 H, D), (3 H, H), (3 H,), (3 H,) -> (T, B, H)."""
        x = x.contiguous()
        size = first.shape[1]
        # The biases of r and z meet in their sum; n's recurrent one is inside the reset.
        bias = bias_ih + F.pad(bias_hh[: 2 * size], (0, size))
        gates = F.linear(x, weight_ih, bias).to(first.dtype)
        # From the state before to the last, so that going back finds each step's predecessor without a copy.
        states = gates.new_empty(len(x) + 1, *first.shape)
        states[0] = first
        recalled = torch.empty_like(states[1:])
        recurrent_gates, recurrent = weight_hh.t().split([2 * size, size], 1)
        recurrent_gates, recurrent = recurrent_gates.contiguous(), recurrent.contiguous()
        for r_z, r, z, n, recall, before, state in zip(
            gates[..., : 2 * size].unbind(),
            *(part.unbind() for part in gates.split(size, -1)),
            recalled.unbind(),
            states[:-1].unbind(),
            states[1:].unbind(),
            strict=True,
        ):
            r_z.addmm_(before, recurrent_gates).sigmoid_()
            n.addcmul_(r, torch.addmm(bias_hh[2 * size :], before, recurrent, out=recall)).tanh_()
            torch.lerp(n, before, z, out=state)
        ctx.save_for_backward(x, weight_ih, weight_hh, gates, states, recalled)
        return states[1:]

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, weight_ih, weight_hh, gates, states, recalled = ctx.saved_tensors
        size = states.shape[-1]
        r, z, n = gates.split(size, -1)
        previous = states[:-1]
        # Gradients before each sigmoid and tanh and, third in `delta`, of the product inside the reset; yet without the
        # factor that only the step after knows, the gradient of the state.
        to_candidate = torch.ops.aten.tanh_backward(1 - z, n)
        delta = torch.empty_like(gates)
        d_r, d_z, d_recalled = delta.split(size, -1)
        torch.mul(to_candidate, r, out=d_recalled)
        torch.ops.aten.sigmoid_backward.grad_input(to_candidate * recalled, r, grad_input=d_r)
        torch.ops.aten.sigmoid_backward.grad_input(previous - n, z, grad_input=d_z)
        # Becomes the gradient of each state, from the last step to the first.
        total = grad.clone(memory_format=torch.contiguous_format)
        d_first = torch.zeros_like(states[0])
        for d, before, step, keep in zip(
            reversed(total.unbind()),
            [*reversed(total[:-1].unbind()), d_first],
            reversed(delta.unflatten(-1, (3, size)).unbind()),
            reversed(z.unbind()),
            strict=True,
        ):
            step.mul_(d[:, None])
            before.addmm_(step.flatten(1), weight_hh).addcmul_(d, keep)
        hidden = delta.flatten(0, 1)
        hidden_bias = hidden.sum(0)
        weight_hh_grad = (hidden.t() @ previous.flatten(0, 1)).to(delta.dtype)
        # The inputs meet the candidate outside the reset.
        torch.mul(to_candidate, total, out=d_recalled)
        return (
            (hidden @ weight_ih).view(x.shape).to(x.dtype),
            d_first,
            (hidden.t() @ x.flatten(0, 1)).to(delta.dtype),
            weight_hh_grad,
            hidden.sum(0),
            hidden_bias,
        )
