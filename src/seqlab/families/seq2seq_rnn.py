"""An encoder–decoder without attention (Cho et al. 2014; Sutskever et al. 2014): a source becomes one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.families.seq2seq import BidirectionalGRU, DecoderState, Memory, Readout, Seq2Seq
from seqlab.settings import Count, ProperShare


class Seq2SeqRNN(Seq2Seq):
    """hidden_size: of embeddings, of the decoder's state and of the vector that is all it knows of the source; each of
    the encoder's directions has half of it. layers: of the encoder and of the decoder. dropout: of what each layer
    reads and of the readout.
    """

    def __init__(
        self,
        space: Space,
        classes: int | None,
        *,
        hidden_size: Count,
        layers: Count,
        dropout: ProperShare,
        label_smoothing: ProperShare,
    ):
        super().__init__(space, classes, width=hidden_size, label_smoothing=label_smoothing)
        self.dropout = dropout
        self.encoder = BidirectionalGRU(hidden_size, hidden_size // 2, layers, dropout)
        self.bridge = nn.Linear(hidden_size, layers * hidden_size)
        between = dropout if layers > 1 else 0.0
        self.decoder = nn.GRU(2 * hidden_size, hidden_size, layers, batch_first=True, dropout=between)
        self.readout = Readout(3 * hidden_size, hidden_size, dropout)

    def encode(self, source: Tensor) -> Memory:
        """(B, H), the only thing a decoder sees."""
        return (self.encoder(self.embedding(source), source)[1],)

    def decode(self, memory: Memory, inputs: Tensor) -> Tensor:
        summary = memory[0][:, None].expand(-1, inputs.shape[1], -1)
        embedded = F.dropout(self.embedding(inputs), self.dropout, self.training)
        states, _ = self.decoder(torch.cat([embedded, summary], -1), self.first(memory[0]))
        out: Tensor = self.readout(states, embedded, summary)
        return out

    def first(self, summary: Tensor) -> Tensor:
        """(B, H) -> the decoder's first state, (layers, B, H)."""
        state = torch.tanh(self.bridge(summary)).unflatten(-1, (-1, self.width))
        first: Tensor = state.transpose(0, 1).contiguous()
        return first

    def start(self, memory: Memory, beams: int) -> DecoderState:
        summary = memory[0].repeat_interleave(beams, 0)
        return DecoderState((), (self.first(summary).transpose(0, 1), summary), 0)

    def step(self, state: DecoderState, inputs: Tensor) -> tuple[DecoderState, Tensor]:
        """State: (B K, layers, H), and each hypothesis's summary of its source."""
        before, summary = state.past
        embedded = self.embedding(inputs)
        read = torch.cat([embedded, summary], -1)[:, None]
        output, after = self.decoder(read, before.transpose(0, 1).contiguous())
        h = self.readout(output[:, 0], embedded, summary)
        return state.after(after.transpose(0, 1), summary), h
