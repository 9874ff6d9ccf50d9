"""The Transformer of two stacks (Vaswani et al. 2017), pre-norm (Xiong et al. 2020), embeddings tied.

Positions are rotary (Su et al. 2021), and queries and keys of self-attention normalised (Dehghani et al. 2023).
"""

from __future__ import annotations

from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.data.vocabulary import PAD, START
from seqlab.errors import UserError
from seqlab.families.attention import attend, rotated, rotation, weights
from seqlab.families.seq2seq import DecoderState, Memory, Seq2Seq
from seqlab.settings import Count, ProperShare

ROTARY_BASE = 10_000.0  # the longest wavelength of positions is 2 pi times this


class Seq2SeqTransformer(Seq2Seq):
    """hidden_size: D, of the residual stream. layers: of the encoder and of the decoder. heads: each D / heads wide.
    feedforward_size: inner width of the MLP. dropout: of embeddings and of what each part of a block adds. There is no
    limit to the length.

    Raises UserError when heads do not divide hidden_size into even parts.
    """

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        hidden_size: Count,
        layers: Count,
        heads: Count,
        feedforward_size: Count,
        dropout: ProperShare,
        label_smoothing: ProperShare,
    ):
        super().__init__(space, classes, width=hidden_size, label_smoothing=label_smoothing)
        if hidden_size % (2 * heads):
            raise UserError(f"heads: {heads} do not divide hidden_size {hidden_size} into parts of even size")
        self.heads, self.dropout = heads, dropout
        sizes = (hidden_size, heads, feedforward_size, dropout)
        self.encoder = cast(list[EncoderBlock], nn.ModuleList(EncoderBlock(*sizes) for _ in range(layers)))
        self.encoder_norm = nn.LayerNorm(hidden_size)
        self.decoder = cast(list[DecoderBlock], nn.ModuleList(DecoderBlock(*sizes) for _ in range(layers)))
        self.decoder_norm = nn.LayerNorm(hidden_size)

    def embed(self, symbols: Tensor) -> Tensor:
        """(B, T) -> (B, T, D)."""
        return F.dropout(self.embedding(symbols) * sqrt(self.width), self.dropout, self.training)

    def rotation(self, first: int | Tensor, count: int) -> Tensor:
        """(count, D / 2, 2): by how much queries and keys turn at positions `first` and on."""
        positions = first + torch.arange(count, device=self.device)
        return rotation(positions, self.width // self.heads, ROTARY_BASE, self.bias.dtype).repeat(1, self.heads, 1)

    def encode(self, source: Tensor) -> Memory:
        """Keys and values for each layer of the decoder, (B, heads, S, d) each, and what attention adds to the score of
        a source's positions, (B, 1, 1, S): -inf on padding."""
        h = self.embed(source)
        bias = torch.zeros(source.shape, dtype=h.dtype, device=h.device)
        bias = bias.masked_fill(source == PAD, float("-inf"))[:, None, None]
        turn = self.rotation(0, source.shape[1])
        for block in self.encoder:
            h = block(h, turn, bias)
        h = self.encoder_norm(h)
        return *(part for block in self.decoder for part in block.source_parts(h)), bias

    def decode(self, memory: Memory, inputs: Tensor) -> Tensor:
        *parts, bias = memory
        h, turn = self.embed(inputs), self.rotation(0, inputs.shape[1])
        for block, keys, values in zip(self.decoder, parts[::2], parts[1::2], strict=True):
            q, k, v = block.self_parts(h, turn)
            h = block.after_self(h, attend(q, k, v, causal=True))
            h = block.after_source(h, attend(block.source_query(h), keys, values, bias))
            h = block.after_mlp(h)
        out: Tensor = self.decoder_norm(h)
        return out

    def start(self, memory: Memory, beams: int) -> DecoderState:
        empty = memory[0].new_empty(0, len(memory[0]) * beams, self.width)
        # Contiguous, since every step reads it.
        return DecoderState(
            tuple(part.contiguous() for part in memory), (empty,) * (2 * len(self.decoder)), 0, grows=True
        )

    def step(self, state: DecoderState, inputs: Tensor) -> tuple[DecoderState, Tensor]:
        """State: keys and values of each layer since the start, (t, B K, D) each."""
        *parts, bias = state.memory
        beams = len(inputs) // len(bias)
        h, turn = self.embed(inputs[:, None]), self.rotation(state.steps, 1)
        past = []
        for i, block in enumerate(self.decoder):
            q, k, v = block.self_parts(h, turn)
            for cache, new in zip(state.past[2 * i : 2 * i + 2], (k, v), strict=True):
                past.append(state.extended(cache, new.flatten(1)))
            # (t, B K, D) -> (B K, heads, t, d), without a copy.
            k, v = (cache.unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3).to(q.dtype) for cache in past[-2:])
            h = block.after_self(h, attend(q, k, v, state.unread))
            # The hypotheses of a source ask it side by side, as if they were positions of one sequence.
            q = block.source_query(h).view(len(bias), beams, self.heads, -1).transpose(1, 2)
            mixed = attend(q, parts[2 * i].to(q.dtype), parts[2 * i + 1].to(q.dtype), bias)
            h = block.after_source(h, mixed.transpose(1, 2).reshape(len(h), self.heads, 1, -1))
            h = block.after_mlp(h)
        return state.after(*past), self.decoder_norm(h)[:, 0]

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, S), (B, T) -> (B, T, S): the last layer's attention to the source, a mean over heads; rows sum to 1."""
        *parts, bias = self.encode(source)
        weight = h = self.embed(torch.cat([target.new_full((len(target), 1), START), target[:, :-1]], 1))
        turn = self.rotation(0, target.shape[1])
        for block, keys, values in zip(self.decoder, parts[::2], parts[1::2], strict=True):
            q, k, v = block.self_parts(h, turn)
            h = block.after_self(h, attend(q, k, v, causal=True))
            weight = weights(block.source_query(h), keys, bias)
            h = block.after_mlp(block.after_source(h, weight @ values))
        return weight.mean(1)


class Block(nn.Module):
    """Self-attention and an MLP, each on the normalised stream and added to it."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.self_norm = nn.LayerNorm(width)
        # Three matrices and not one, since Muon makes the singular values of each alike.
        self.self_q = prepared(nn.Linear(width, width))
        self.self_k = prepared(nn.Linear(width, width))
        self.self_v = prepared(nn.Linear(width, width))
        self.self_mix = prepared(nn.Linear(width, width))
        self.query_norm, self.key_norm = (nn.LayerNorm(width // heads, bias=False) for _ in range(2))
        self.mlp_norm = nn.LayerNorm(width)
        self.up = prepared(nn.Linear(width, feedforward))
        self.down = prepared(nn.Linear(feedforward, width))

    def split(self, h: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, d)."""
        parts: Tensor = h.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return parts

    def self_parts(self, h: Tensor, turn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        h = self.self_norm(h)
        q = rotated(self.query_norm(self.self_q(h).unflatten(-1, (self.heads, -1))).flatten(2), turn)
        k = rotated(self.key_norm(self.self_k(h).unflatten(-1, (self.heads, -1))).flatten(2), turn)
        return self.split(q), self.split(k), self.split(self.self_v(h))

    def added(self, h: Tensor, change: Tensor) -> Tensor:
        return h + F.dropout(change, self.dropout, self.training)

    def after_self(self, h: Tensor, mixed: Tensor) -> Tensor:
        """mixed: what attention gathered, (B, heads, T, d)."""
        return self.added(h, self.self_mix(mixed.transpose(1, 2).flatten(2)))

    def after_mlp(self, h: Tensor) -> Tensor:
        return self.added(h, self.down(F.relu(self.up(self.mlp_norm(h)))))


class EncoderBlock(Block):
    def forward(self, h: Tensor, turn: Tensor, bias: Tensor) -> Tensor:
        q, k, v = self.self_parts(h, turn)
        return self.after_mlp(self.after_self(h, attend(q, k, v, bias)))


class DecoderBlock(Block):
    """Attention to the source between the two."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float):
        super().__init__(width, heads, feedforward, dropout)
        self.source_norm = nn.LayerNorm(width)
        self.source_q = prepared(nn.Linear(width, width))
        self.source_k = prepared(nn.Linear(width, width))
        self.source_v = prepared(nn.Linear(width, width))
        self.source_mix = prepared(nn.Linear(width, width))

    def source_parts(self, encoded: Tensor) -> list[Tensor]:
        """Keys and values."""
        return [self.split(of(encoded)) for of in (self.source_k, self.source_v)]

    def source_query(self, h: Tensor) -> Tensor:
        return self.split(self.source_q(self.source_norm(h)))

    def after_source(self, h: Tensor, mixed: Tensor) -> Tensor:
        return self.added(h, self.source_mix(mixed.transpose(1, 2).flatten(2)))


def prepared(linear: nn.Linear) -> nn.Linear:
    """Glorot and Bengio (2010); biases zero."""
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
