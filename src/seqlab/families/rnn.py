"""The simple recurrent network (Elman 1990): h_t = tanh(x_t W_X + h_{t-1} W_H + b), shared over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from seqlab.families.gradient import Recurrent, State
from seqlab.families.gradient.autograd import applied, custom_bwd, custom_fwd


class RNN(Recurrent):
    """`Recurrent` with a cell of one tanh."""

    torch_stack = nn.RNN
    state_parts = 1

    @staticmethod
    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
        weight_ih, weight_hh, bias_ih, bias_hh = weights
        states: Tensor = applied(TanhLayer, x, *state, weight_ih, weight_hh, bias_ih + bias_hh)
        return states, (states[-1],)


class TanhLayer(torch.autograd.Function):
    """One layer over time with its gradient by hand (back-propagation through time, Werbos 1990).

    What need not wait for the step before is one matrix product over all steps: the inputs' share going forward, and
    the gradients of both weights and of the inputs going back. A step itself is one product and one tanh, in place.
    Under autocast the large products run in bfloat16 and the steps in float32, which is both faster than small
    bfloat16 products and exact where errors would accumulate.
    """

    @staticmethod
    @custom_fwd
    def forward(ctx: Any, x: Tensor, first: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
        """(T, B, D), (B, H), (H, D), (H, H), (H,) -> (T, B, H)."""
        x = x.contiguous()
        states = F.linear(x, weight_ih, bias).to(first.dtype)
        # Laid out for the product that runs T times: BLAS is a third slower on the transposed view.
        recurrent = weight_hh.t().contiguous()
        before = first
        for state in states.unbind():
            before = state.addmm_(before, recurrent).tanh_()
        ctx.save_for_backward(x, first, weight_ih, weight_hh, states)
        return states

    @staticmethod
    @once_differentiable
    @custom_bwd
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, first, weight_ih, weight_hh, states = ctx.saved_tensors
        # Becomes the gradient before tanh, from the last step to the first.
        delta = grad.clone(memory_format=torch.contiguous_format)
        after = None
        for d, state in zip(reversed(delta.unbind()), reversed(states.unbind()), strict=True):
            if after is not None:
                d.addmm_(after, weight_hh)
            after = torch.ops.aten.tanh_backward.grad_input(d, state, grad_input=d)
        flat = delta.flatten(0, 1)
        previous = torch.cat([first[None], states[:-1]]).flatten(0, 1)
        dtype = delta.dtype
        return (
            (flat @ weight_ih).view(x.shape).to(x.dtype),
            delta[0] @ weight_hh,
            (flat.t() @ x.flatten(0, 1)).to(dtype),
            (flat.t() @ previous).to(dtype),
            flat.sum(0),
        )
