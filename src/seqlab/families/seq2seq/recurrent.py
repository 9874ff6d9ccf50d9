"""Recurrent parts that two families share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqlab.data.vocabulary import PAD


class BidirectionalGRU(nn.Module):
    """Gated recurrent units that read a source from both ends (Schuster and Paliwal 1997; Cho et al. 2014)."""

    def __init__(self, width: int, hidden_size: int, layers: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        between = dropout if layers > 1 else 0.0  # torch warns where there is no layer between two
        self.gru = nn.GRU(width, hidden_size, layers, batch_first=True, bidirectional=True, dropout=between)
        for _, weight_hh, *_ in self.gru.all_weights:
            for gate in weight_hh.split(hidden_size):
                nn.init.orthogonal_(gate)

    def forward(self, embedded: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, D), (B, S) symbols -> states at every position, (B, S, 2 H), 0 on padding, and (B, 2 H): what each
        direction has of the whole source at its end."""
        embedded = F.dropout(embedded, self.dropout, self.training)
        lengths = (source != PAD).sum(1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = self.gru(packed)
        states, _ = pad_packed_sequence(outputs, batch_first=True, total_length=source.shape[1])
        return states, torch.cat([last[-2], last[-1]], -1)


class Readout(nn.Module):
    """From what a decoder knows at a position to the D numbers that meet the embedding: tanh of a linear map."""

    def __init__(self, inputs: int, width: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(inputs, width)

    def forward(self, *parts: Tensor) -> Tensor:
        return F.dropout(torch.tanh(self.linear(torch.cat(parts, -1))), self.dropout, self.training)
