"""The causal Transformer (Vaswani et al. 2017), pre-norm, with rotary positions (Su et al. 2021)."""

from __future__ import annotations

from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.errors import UserError
from seqlab.families.attention import attend, rotated, rotation, weights
from seqlab.families.gradient import Density, GradientFamily, State
from seqlab.settings import Count, Positive, ProperShare

# Slots of a fresh cache of keys and values; it doubles when full.
SLOTS = 16


class Transformer(GradientFamily):
    """hidden_size: D, the width of the residual stream. heads: of attention, each D / heads wide, an even number.

    feedforward_size: inner width of the MLP. rotary_base: the longest wavelength of the positions is 2 pi times this.
    dropout: of embeddings and of what each half block adds. There is no limit to the length.

    Raises UserError when heads do not divide hidden_size into even parts.
    """

    adapts = ("qkv", "mix", "up", "down")
    objectives = ("next", "hidden")

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        hidden_size: Count,
        layers: Count,
        heads: Count,
        feedforward_size: Count,
        rotary_base: Positive,
        dropout: ProperShare,
        density: Density,
    ):
        super().__init__(space, classes, width=hidden_size, density=density)
        if hidden_size % (2 * heads):
            raise UserError(f"heads: {heads} do not divide hidden_size {hidden_size} into parts of even size")
        self.heads, self.rotary_base, self.dropout = heads, rotary_base, dropout
        blocks = nn.ModuleList(Block(hidden_size, heads, feedforward_size, dropout) for _ in range(layers))
        self.blocks = cast(list[Block], blocks)  # ModuleList's own type forgets what it holds
        self.norm = nn.LayerNorm(hidden_size)
        if space.symbols:
            # Embeddings of unit length: at torch's unit variance they drown what the first blocks add to the stream.
            for part in (self.ends.start, *self.ends.enter.parameters()):
                part.data /= sqrt(hidden_size)
        for block in self.blocks:
            # Radford et al. (2019): the residual stream's variance then does not grow with depth.
            for last in (block.mix, block.down):
                last.weight.data /= sqrt(2 * layers)

    def rotation(self, positions: Tensor) -> Tensor:
        """(...) -> (..., D, 2): by how much each pair of queries' and keys' channels turns."""
        turn = rotation(positions, self.width // self.heads, self.rotary_base, self.ends.start.dtype)
        # The same for each head, of queries and of keys.
        return turn.repeat(*[1] * positions.ndim, 2 * self.heads, 1)

    def body(self, h: Tensor) -> Tensor:
        turn = self.rotation(torch.arange(h.shape[1], device=h.device))
        h = F.dropout(stream(h), self.dropout, self.training)
        for block in self.blocks:
            q, k, v = block.project(h, turn)
            h = block.finish(h, attend(q, k, v, causal=True))
        out: Tensor = self.norm(h)
        return out

    def around(self, h: Tensor, exists: Tensor) -> Tensor:
        """`body` with both sides in view: (B, T, D) -> (B, T, D), where `exists` (B, T) keeps padding out of sight."""
        turn = self.rotation(torch.arange(h.shape[1], device=h.device))
        h = F.dropout(stream(h), self.dropout, self.training)
        for block in self.blocks:
            q, k, v = block.project(h, turn)
            h = block.finish(h, F.scaled_dot_product_attention(q, k, v, attn_mask=exists[:, None, None]))
        out: Tensor = self.norm(h)
        return out

    def start(self, batch_size: int) -> State:
        """What `prefill` leaves of a prefix of no positions."""
        empty = self.ends.start.new_zeros(batch_size, len(self.blocks), self.heads, 0, self.width // self.heads)
        lengths = torch.zeros(batch_size, device=self.device, dtype=torch.int64)
        return empty.transpose(0, 1), empty.transpose(0, 1), lengths, empty, empty, lengths

    def branch(self, state: State, copies: int) -> State:
        """Branches share their prefix's keys and values: these are read once a prefix and not once a branch."""
        *prefix, keys, values, taken = state
        return (*prefix, *(part.repeat_interleave(copies, 0) for part in (keys, values, taken)))

    def step(self, state: State, h: Tensor) -> tuple[State, Tensor]:
        """State: keys and values of the prefixes, (layers, P, heads, T, D / heads) each, and their lengths, (P,); keys
        and values since, (B, layers, heads, slots, D / heads) each, and how many slots are taken, (B,), the same for
        all. B / P consecutive rows share a prefix.
        """
        prefix_keys, prefix_values, lengths, keys, values, taken = state
        slot, rows, copies = int(taken.max()), len(h), len(h) // len(lengths)
        if slot == keys.shape[3]:
            keys, values = (F.pad(cache, (0, 0, 0, max(slot, SLOTS))) for cache in (keys, values))
        turn = self.rotation(lengths.repeat_interleave(copies) + taken)[:, None]
        beyond = torch.arange(prefix_keys.shape[3], device=h.device) >= lengths[:, None, None, None]
        h = stream(h)[:, None]
        for i, block in enumerate(self.blocks):
            q, k, v = block.project(h, turn)
            keys[:, i, :, slot] = k[:, :, 0].to(keys.dtype)
            values[:, i, :, slot] = v[:, :, 0].to(values.dtype)
            recent_keys, recent_values = (cache[:, i, :, : slot + 1].to(q.dtype) for cache in (keys, values))
            # (B, heads, 1, d) -> (P, heads, B / P, d): every branch of a prefix asks it at once.
            shared = (q * q.shape[-1] ** -0.5).view(len(lengths), copies, *q.shape[1:]).squeeze(3).transpose(1, 2)
            old = shared @ prefix_keys[i].to(q.dtype).transpose(2, 3)
            old = (
                old.masked_fill(beyond, float("-inf"))
                .transpose(1, 2)
                .reshape(rows, self.heads, 1, prefix_keys.shape[3])
            )
            new = (q * q.shape[-1] ** -0.5) @ recent_keys.transpose(2, 3)
            weight = torch.cat([old, new], -1).softmax(-1)
            past = weight[..., : old.shape[-1]].view(len(lengths), copies, self.heads, old.shape[-1]).transpose(1, 2)
            mixed = (past @ prefix_values[i].to(q.dtype)).transpose(1, 2).reshape(q.shape)
            h = block.finish(h, mixed + weight[..., old.shape[-1] :] @ recent_values)
        return (prefix_keys, prefix_values, lengths, keys, values, taken + 1), self.norm(h)[:, 0]

    def prefill(self, h: Tensor, lengths: Tensor) -> tuple[State, Tensor]:
        turn = self.rotation(torch.arange(h.shape[1], device=h.device))
        h, keys, values = stream(h), [], []
        for block in self.blocks:
            q, k, v = block.project(h, turn)
            keys.append(k)
            values.append(v)
            h = block.finish(h, attend(q, k, v, causal=True))
        last = h[torch.arange(len(h), device=h.device), lengths - 1]
        # Layers first: a product copies what does not lie together, here the whole prefix at every step.
        prefix = (torch.stack(cache).to(self.ends.start.dtype) for cache in (keys, values))
        return (*prefix, lengths, *self.start(len(h))[3:]), self.norm(last)

    def body_groups(self) -> list[list[nn.Parameter]]:
        groups = [list(block.parameters()) for block in self.blocks]
        groups[-1] += self.norm.parameters()
        return groups

    def attention_maps(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, layers, heads, T + 1, T + 1) weights: row t is how prefix x_<=t attends to the start and to x_1 .. x_t.

        Rows of prefixes that do not exist are 0.
        """
        h = self.ends.inputs(x)
        turn = self.rotation(torch.arange(h.shape[1], device=h.device))
        maps = []
        for block in self.blocks:
            q, k, v = block.project(h, turn)
            maps.append(weights(q, k, causal=True))
            h = block.finish(h, maps[-1] @ v)
        exists = F.pad(mask, (1, 0), value=True)
        return torch.stack(maps, 1).masked_fill(~exists[:, None, None, :, None], 0)


def stream(h: Tensor) -> Tensor:
    """The residual stream: under autocast on a card as products are, which halves what norms and sums move there."""
    kind = h.device.type
    return h.to(torch.get_autocast_dtype(kind)) if kind == "cuda" and torch.is_autocast_enabled(kind) else h


class Block(nn.Module):
    """h + attention(norm(h)), then h + MLP(norm(h)); attention itself happens between `project` and `finish`."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.norm_mlp = nn.LayerNorm(width)
        self.up = nn.Linear(width, feedforward)
        self.down = nn.Linear(feedforward, width)

    def project(self, h: Tensor, turn: Tensor) -> list[Tensor]:
        """(B, T, D), (T, D, 2) -> queries, keys and values, each (B, heads, T, D / heads)."""
        width = h.shape[-1]
        qk, v = self.qkv(self.norm_attention(h)).split([2 * width, width], -1)
        q, k = rotated(qk, turn).chunk(2, -1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v)]

    def finish(self, h: Tensor, mixed: Tensor) -> Tensor:
        """The residual stream (B, T, D) and what attention gathered for it, (B, heads, T, D / heads) -> (B, T, D)."""
        h = h + F.dropout(self.mix(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return h + F.dropout(self.down(F.gelu(self.up(self.norm_mlp(h)))), self.dropout, self.training)
