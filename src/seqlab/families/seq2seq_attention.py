"""An encoder–decoder with additive attention (Bahdanau, Cho and Bengio 2015): at each step a choice of the source."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.data.vocabulary import PAD, START
from seqlab.families.seq2seq import BidirectionalGRU, DecoderState, Memory, Readout, Seq2Seq
from seqlab.settings import Count, ProperShare


class Seq2SeqAttention(Seq2Seq):
    """hidden_size: H, of embeddings, of the decoder's state, and of both directions of the encoder together.
    attention_size: A, of the space where states and positions meet. layers: of the encoder; the decoder has one, which
    reads the last symbol and what attention gathered with the state before. dropout: of what the encoder's layers and
    the decoder read, and of the readout.
    """

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        hidden_size: Count,
        attention_size: Count,
        layers: Count,
        dropout: ProperShare,
        label_smoothing: ProperShare,
    ):
        super().__init__(space, classes, width=hidden_size, label_smoothing=label_smoothing)
        self.dropout = dropout
        self.encoder = BidirectionalGRU(hidden_size, hidden_size // 2, layers, dropout)
        self.bridge = nn.Linear(hidden_size, hidden_size)
        self.query = nn.Linear(hidden_size, attention_size)
        self.key = nn.Linear(hidden_size, attention_size, bias=False)
        self.energy = nn.Linear(attention_size, 1, bias=False)
        self.cell = nn.GRUCell(2 * hidden_size, hidden_size)
        for gate in self.cell.weight_hh.split(hidden_size):
            nn.init.orthogonal_(gate)
        self.readout = Readout(3 * hidden_size, hidden_size, dropout)

    def encode(self, source: Tensor) -> Memory:
        """States (B, S, H), their keys (B, S, A), which positions are padding (B, S), the last states (B, H)."""
        states, summary = self.encoder(self.embedding(source), source)
        return states, self.key(states), source == PAD, summary

    def attend(self, memory: Memory, state: Tensor) -> tuple[Tensor, Tensor]:
        """K states of each source, (B, K, H) -> what they gather, (B, K, H), and with which weights, (B, K, S)."""
        values, keys, padding, _ = memory
        energies = self.energy(torch.tanh(self.query(state)[:, :, None] + keys[:, None])).squeeze(-1)
        weights = energies.masked_fill(padding[:, None], float("-inf")).softmax(-1)
        return weights @ values, weights

    def decode(self, memory: Memory, inputs: Tensor) -> Tensor:
        return self.unroll(memory, inputs)[0]

    def unroll(self, memory: Memory, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) symbols -> (B, T, D), and the attention of each position, (B, T, S)."""
        embedded = F.dropout(self.embedding(inputs), self.dropout, self.training)
        state, states, contexts, maps = torch.tanh(self.bridge(memory[3])), [], [], []
        # What the symbols add to the gates needs no state: all positions at once.
        from_symbols = F.linear(embedded, self.cell.weight_ih[:, : self.width], self.cell.bias_ih)
        for part in from_symbols.unbind(1):
            context, weights = self.attend(memory, state[:, None])
            state = self.advance(part, context[:, 0], state)
            states.append(state)
            contexts.append(context[:, 0])
            maps.append(weights[:, 0])
        return self.readout(torch.stack(states, 1), embedded, torch.stack(contexts, 1)), torch.stack(maps, 1)

    def advance(self, from_symbol: Tensor, context: Tensor, state: Tensor) -> Tensor:
        """The cell, given what the symbol adds to its gates: (N, 3 H), (N, H), (N, H) -> (N, H)."""
        gates = from_symbol + F.linear(context, self.cell.weight_ih[:, self.width :])
        recurrent = F.linear(state, self.cell.weight_hh, self.cell.bias_hh)
        reset, update = (gates[:, : 2 * self.width] + recurrent[:, : 2 * self.width]).sigmoid().chunk(2, -1)
        candidate = torch.tanh(gates[:, 2 * self.width :] + reset * recurrent[:, 2 * self.width :])
        return torch.lerp(candidate, state, update)

    def start(self, memory: Memory, beams: int) -> DecoderState:
        return DecoderState(memory, (torch.tanh(self.bridge(memory[3])).repeat_interleave(beams, 0),), 0)

    def step(self, state: DecoderState, inputs: Tensor) -> tuple[DecoderState, Tensor]:
        (before,) = state.past
        embedded = self.embedding(inputs)
        from_symbol = F.linear(embedded, self.cell.weight_ih[:, : self.width], self.cell.bias_ih)
        context = self.attend(state.memory, before.view(len(state.memory[0]), -1, self.width))[0].flatten(0, 1)
        after = self.advance(from_symbol, context, before)
        return state.after(after), self.readout(after, embedded, context)

    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, S), (B, T) -> (B, T, S): where the decoder looked when it wrote each symbol; rows sum to one."""
        inputs = torch.cat([target.new_full((len(target), 1), START), target[:, :-1]], 1)
        return self.unroll(self.encode(source), inputs)[1]
