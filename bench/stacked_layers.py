"""Recurrent layers of N models at once, each with its gradient by hand: a step is one batched product.

The layers are those of families.rnn, lstm and gru with N before every shape. Inside `torch.vmap` a layer is called for
one model, (T, B, D); `SideBySide` hands it over for all of them, (N, T, B, D). Neither the state that a layer begins
with nor the one that it ends in has a gradient: between segments of truncated back-propagation they are cut anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seqlab.families.gradient.autograd import applied


def by_step(flat: Tensor, steps: int) -> Tensor:
    """(N, T B, G) -> (T, N, B, G), contiguous."""
    parts: Tensor = flat.unflatten(1, (steps, -1)).transpose(0, 1).contiguous()
    return parts


def by_model(parts: Tensor) -> Tensor:
    """(T, N, B, G) -> (N, T B, G)."""
    return parts.transpose(0, 1).flatten(1, 2)


def gradients(x: Tensor, weight_ih: Tensor, weight_hh: Tensor, of_x: Tensor, of_h: Tensor, before: Tensor) -> Any:
    """Of inputs and weights, from those before the gates: of_x, of_h (T, N, B, G), as the products with the inputs and
    with the states before them (T, N, B, H) had them."""
    flat, hidden = by_model(of_x), by_model(of_h)
    dtype = weight_ih.dtype
    return (
        torch.bmm(flat, weight_ih).view(x.shape).to(x.dtype),
        torch.bmm(flat.mT, x.flatten(1, 2).to(dtype)),
        torch.bmm(hidden.mT, by_model(before)),
        flat.sum(1),
        hidden.sum(1),
    )


class TanhLayers(torch.autograd.Function):
    """families.rnn, N of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        """(N, T, B, D), (N, B, H), (N, H, D), (N, H, H), (N, H), (N, H) -> (N, T, B, H)."""
        bias = (b_ih + b_hh)[:, None]
        states = by_step(torch.baddbmm(bias, x.flatten(1, 2), w_ih.mT).to(first.dtype), x.shape[1])
        recurrent, before = w_hh.mT.contiguous(), first
        for state in states.unbind():
            before = state.baddbmm_(before, recurrent).tanh_()
        ctx.save_for_backward(x, first, w_ih, w_hh, states)
        return states.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, first, w_ih, w_hh, states = ctx.saved_tensors
        delta = grad.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        after = None
        for d, state in zip(reversed(delta.unbind()), reversed(states.unbind()), strict=True):
            if after is not None:
                d.baddbmm_(after, w_hh)
            after = torch.ops.aten.tanh_backward.grad_input(d, state, grad_input=d)
        of_x, *others = gradients(x, w_ih, w_hh, delta, delta, torch.cat([first[None], states[:-1]]))
        return (of_x, None, *others)


class GRULayers(torch.autograd.Function):
    """families.gru, N of them; gates in torch's order, r, z, n."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        """(N, T, B, D), (N, B, H), (N, 3 H, D), (N, 3 H, H), (N, 3 H), (N, 3 H) -> (N, T, B, H)."""
        size = first.shape[-1]
        gates = by_step(torch.baddbmm(b_ih[:, None], x.flatten(1, 2), w_ih.mT).to(first.dtype), x.shape[1])
        recurrent, bias = w_hh.mT.contiguous(), b_hh[:, None]
        states = gates.new_empty(len(gates) + 1, *first.shape)
        recalled = gates.new_empty(len(gates), *first.shape)
        states[0] = first
        for t, gate in enumerate(gates.unbind()):
            r_z, n = gate.split([2 * size, size], -1)
            of_r_z, of_n = torch.baddbmm(bias, states[t], recurrent).split([2 * size, size], -1)
            recalled[t] = of_n
            r, z = r_z.add_(of_r_z).sigmoid_().chunk(2, -1)
            n.addcmul_(r, of_n).tanh_()
            torch.lerp(n, states[t], z, out=states[t + 1])
        ctx.save_for_backward(x, w_ih, w_hh, gates, states, recalled)
        return states[1:].transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, states, recalled = ctx.saved_tensors
        r, z, n = gates.chunk(3, -1)
        to_n = (1 - z) * (1 - n.square())
        # Of r, of z and of the product inside the reset, as multiples of the state's gradient.
        factors = torch.cat([to_n * recalled * r * (1 - r), (states[:-1] - n) * z * (1 - z), to_n * r], -1)
        total = grad.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        for t in range(len(total) - 1, -1, -1):
            step = factors[t].unflatten(-1, (3, -1)).mul_(total[t].unsqueeze(-2)).flatten(-2)
            if t:
                total[t - 1].baddbmm_(step, w_hh).addcmul_(total[t], z[t])
        size = n.shape[-1]
        of_x = torch.cat([factors[..., : 2 * size], to_n * total], -1)
        found, *others = gradients(x, w_ih, w_hh, of_x, factors, states[:-1])
        return (found, None, *others)


class LSTMLayers(torch.autograd.Function):
    """families.lstm, N of them; gates in torch's order, i, f, g, o."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, first: Tensor, cell: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(N, T, B, D), twice (N, B, H), (N, 4 H, D), (N, 4 H, H), (N, 4 H), (N, 4 H) -> (N, T, B, H), (N, B, H)."""
        size = first.shape[-1]
        bias = (b_ih + b_hh)[:, None]
        gates = by_step(torch.baddbmm(bias, x.flatten(1, 2), w_ih.mT).to(first.dtype), x.shape[1])
        recurrent = w_hh.mT.contiguous()
        states = gates.new_empty(len(gates) + 1, *first.shape)
        cells = torch.empty_like(states)
        states[0], cells[0] = first, cell
        for t, gate in enumerate(gates.unbind()):
            i_f, g, o = gate.baddbmm_(states[t], recurrent).split([2 * size, size, size], -1)
            i, f = i_f.sigmoid_().chunk(2, -1)
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g.tanh_())
            torch.tanh(cells[t + 1], out=states[t + 1]).mul_(o.sigmoid_())
        ctx.save_for_backward(x, w_ih, w_hh, gates, states, cells)
        last = cells[-1].clone()
        ctx.mark_non_differentiable(last)
        return states[1:].transpose(0, 1), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, w_ih, w_hh, gates, states, cells = ctx.saved_tensors
        i, f, g, o = gates.chunk(4, -1)
        bent = cells[1:].tanh()
        to_cell = o * (1 - bent.square())
        # Of i, f and g as multiples of the cell's gradient, of o of the state's.
        factors = torch.cat(
            [g * i * (1 - i), cells[:-1] * f * (1 - f), i * (1 - g.square()), bent * o * (1 - o)], -1
        ).unflatten(-1, (4, -1))
        total = grad.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        of_cell = torch.zeros_like(total[0])
        for t in range(len(total) - 1, -1, -1):
            of_cell.addcmul_(total[t], to_cell[t])
            factors[t, ..., :3, :].mul_(of_cell.unsqueeze(-2))
            factors[t, ..., 3, :].mul_(total[t])
            if t:
                total[t - 1].baddbmm_(factors[t].flatten(-2), w_hh)
                of_cell.mul_(f[t])
        delta = factors.flatten(-2)
        found, *others = gradients(x, w_ih, w_hh, delta, delta, states[:-1])
        return (found, None, None, *others)


class SideBySide(torch.autograd.Function):
    """The bridge out of `torch.vmap`: `layers` with what all models give it."""

    @staticmethod
    def forward(layers: Any, *arguments: Tensor) -> tuple[Tensor, ...]:
        raise AssertionError("a layer of N models is called under torch.vmap alone")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: what goes back is kept by `layers`."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, layers: Any, *arguments: Tensor) -> tuple[Any, Any]:
        first = [
            part.expand(info.batch_size, *part.shape) if dim is None else part.movedim(dim, 0)
            for part, dim in zip(arguments, in_dims[1:], strict=True)
        ]
        found = layers.apply(*first)
        found = found if isinstance(found, tuple) else (found,)
        return found, (0,) * len(found)


def called(layers: type[torch.autograd.Function], *arguments: Tensor) -> tuple[Tensor, ...]:
    """Outputs (T, B, H) and the state after, which for one part is the last output."""
    outputs, *after = applied(SideBySide, layers, *arguments)
    return outputs, outputs[-1], *after


LAYERS: dict[Any, Callable[..., tuple[Tensor, ...]]] = {
    nn.RNN: lambda *arguments: called(TanhLayers, *arguments),
    nn.GRU: lambda *arguments: called(GRULayers, *arguments),
    nn.LSTM: lambda *arguments: called(LSTMLayers, *arguments),
}
