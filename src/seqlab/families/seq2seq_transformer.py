"""The Transformer of two stacks (Vaswani et al. 2017), pre-norm (Xiong et al. 2020), embeddings tied.

Positions are rotary (Su et al. 2021), and queries and keys of self-attention normalised (Henry et al. 2020).
"""

from __future__ import annotations

from math import log, sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.data.vocabulary import PAD, START
from seqlab.errors import UserError
from seqlab.families.seq2seq import Memory, Seq2Seq, State

ROTARY_BASE = 10_000.0  # the longest wavelength of positions is 2 pi times this
EPSILON = 1e-6  # of the normalisation of queries and keys
# Cosines and sines, (T, d / 2) each.
Turns = tuple[Tensor, Tensor]


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
        hidden_size: int,
        layers: int,
        heads: int,
        feedforward_size: int,
        dropout: float,
        label_smoothing: float,
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

    def turns(self, first: int, count: int) -> Turns:
        """By how much queries and keys turn at positions `first` and on."""
        half = self.width // self.heads // 2
        rates = torch.exp(torch.arange(half, device=self.device) * (-log(ROTARY_BASE) / half))
        angles = torch.arange(first, first + count, device=self.device)[:, None] * rates
        return angles.cos(), angles.sin()

    def encode(self, source: Tensor) -> Memory:
        """Keys and values for each layer of the decoder, (B, heads, S, d) each, and what attention adds to the score of
        a source's positions, (B, 1, 1, S): -inf on padding."""
        h = self.embed(source)
        bias = torch.zeros(source.shape, dtype=h.dtype, device=h.device)
        bias = bias.masked_fill(source == PAD, float("-inf"))[:, None, None]
        turns = self.turns(0, source.shape[1])
        for block in self.encoder:
            h = block(h, turns, bias)
        h = self.encoder_norm(h)
        return *(part for block in self.decoder for part in block.source_parts(h)), bias

    def decode(self, memory: Memory, inputs: Tensor) -> Tensor:
        *parts, bias = memory
        h, turns = self.embed(inputs), self.turns(0, inputs.shape[1])
        for block, keys, values in zip(self.decoder, parts[::2], parts[1::2], strict=True):
            q, k, v = block.self_parts(h, turns)
            h = block.after_self(h, attend(q, k, v, None, causal=True))
            h = block.after_source(h, attend(block.source_query(h), keys, values, bias))
            h = block.after_mlp(h)
        return self.decoder_norm(h)

    def start(self, memory: Memory, beams: int) -> State:
        empty = memory[0].new_empty(0, len(memory[0]) * beams, self.width)
        return State(memory, (empty,) * (2 * len(self.decoder)), 0, grows=True)

    def step(self, state: State, inputs: Tensor) -> tuple[State, Tensor]:
        """State: keys and values of each layer since the start, (t, B K, D) each."""
        *parts, bias = state.memory
        beams = len(inputs) // len(bias)
        h, turns = self.embed(inputs[:, None]), self.turns(state.steps, 1)
        past = []
        for i, block in enumerate(self.decoder):
            q, k, v = block.self_parts(h, turns)
            for cache, new in zip(state.past[2 * i : 2 * i + 2], (k, v), strict=True):
                room = cache.new_empty(state.steps + 1 - len(cache), *cache.shape[1:])
                past.append(torch.cat([cache, room]) if len(room) else cache)
                past[-1][state.steps] = new.flatten(1)
            # (t, B K, D) -> (B K, heads, t, d), without a copy.
            k, v = (cache.unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3).to(q.dtype) for cache in past[-2:])
            h = block.after_self(h, attend(q, k, v, None))
            # The hypotheses of a source ask it side by side, as if they were positions of one sequence.
            q = block.source_query(h).view(len(bias), beams, self.heads, -1).transpose(1, 2)
            mixed = attend(q, parts[2 * i].to(q.dtype), parts[2 * i + 1].to(q.dtype), bias)
            h = block.after_source(h, mixed.transpose(1, 2).reshape(len(h), self.heads, 1, -1))
            h = block.after_mlp(h)
        return State(state.memory, tuple(past), state.steps + 1, grows=True), self.decoder_norm(h)[:, 0]

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, S), (B, T) -> (B, T, S): the last layer's attention to the source, a mean over heads; rows sum to 1."""
        *parts, bias = self.encode(source)
        weight = h = self.embed(torch.cat([target.new_full((len(target), 1), START), target[:, :-1]], 1))
        turns = self.turns(0, target.shape[1])
        for block, keys, values in zip(self.decoder, parts[::2], parts[1::2], strict=True):
            q, k, v = block.self_parts(h, turns)
            h = block.after_self(h, attend(q, k, v, None, causal=True))
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
        self.query_norm, self.key_norm = (nn.RMSNorm(width // heads, eps=EPSILON) for _ in range(2))
        self.mlp_norm = nn.LayerNorm(width)
        self.up = prepared(nn.Linear(width, feedforward))
        self.down = prepared(nn.Linear(feedforward, width))

    def split(self, h: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, d)."""
        return h.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def self_parts(self, h: Tensor, turns: Turns) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values."""
        h = self.self_norm(h)
        q, k, v = (self.split(of(h)) for of in (self.self_q, self.self_k, self.self_v))
        return rotated(self.query_norm(q), turns), rotated(self.key_norm(k), turns), v

    def added(self, h: Tensor, change: Tensor) -> Tensor:
        return h + F.dropout(change, self.dropout, self.training)

    def after_self(self, h: Tensor, mixed: Tensor) -> Tensor:
        """mixed: what attention gathered, (B, heads, T, d)."""
        return self.added(h, self.self_mix(mixed.transpose(1, 2).flatten(2)))

    def after_mlp(self, h: Tensor) -> Tensor:
        return self.added(h, self.down(F.relu(self.up(self.mlp_norm(h)))))


class EncoderBlock(Block):
    def forward(self, h: Tensor, turns: Turns, bias: Tensor) -> Tensor:
        q, k, v = self.self_parts(h, turns)
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
        """Keys and values, heads outermost, since every step of a search reads them."""
        return [self.split(of(encoded)).contiguous() for of in (self.source_k, self.source_v)]

    def source_query(self, h: Tensor) -> Tensor:
        return self.split(self.source_q(self.source_norm(h)))

    def after_source(self, h: Tensor, mixed: Tensor) -> Tensor:
        return self.added(h, self.source_mix(mixed.transpose(1, 2).flatten(2)))


def prepared(linear: nn.Linear) -> nn.Linear:
    """Glorot and Bengio (2010); biases zero."""
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def rotated(x: Tensor, turns: Turns) -> Tensor:
    """(B, heads, T, d): channels i and i + d / 2 as a point in the plane, turned by the i-th angle of its position."""
    cos, sin = (part.to(x.dtype) for part in turns)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def weights(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """(B, heads, T, d), (B, heads, S, d) -> (B, heads, T, S), rows summing to one."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    return (scores if bias is None else scores + bias).softmax(-1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool = False) -> Tensor:
    """(B, heads, T, d): attention with `bias`, broadcast over (B, heads, T, S), added to the scores."""
    if q.device.type == "cpu":
        # For sentences, plain products are no slower than the CPU's fused kernel in float32, and several times faster
        # in bfloat16, going back.
        if causal:
            bias = torch.full((q.shape[2],) * 2, float("-inf"), dtype=q.dtype).triu(1)
        return weights(q, k, bias) @ v
    return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype), is_causal=causal)
