"""An encoder–decoder: P(target | source) = prod_t P(target_t | target_<t, source)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.data.vocabulary import PAD, START
from seqlab.errors import UserError
from seqlab.families.base import Use
from seqlab.settings import named

# What the encoder leaves of B sources: tensors with a row for each.
Memory = tuple[Tensor, ...]


@dataclass
class DecoderState:
    """Where the decoding of B sources stands, each with K hypotheses.

    memory: the sources', tensors of B rows. past: the hypotheses', of B K rows side by side, or where it grows with
    every step (t, B K, ...), perhaps with room for the next step. steps: how many symbols have been read.
    """

    memory: Memory
    past: Memory
    steps: int | Tensor
    grows: bool = False

    @property
    def unread(self) -> Tensor | None:
        """What attention adds to the scores of a growing part's slots once `extended`: -inf where nothing stands."""
        return None

    def extended(self, part: Tensor, new: Tensor) -> Tensor:
        """A growing part with what this step adds to it, (B K, ...)."""
        assert isinstance(self.steps, int)
        room = part.new_empty(self.steps + 1 - len(part), *part.shape[1:])
        part = torch.cat([part, room]) if len(room) else part
        part[self.steps] = new
        return part

    def after(self, *past: Tensor) -> DecoderState:
        """One symbol later, with another past."""
        return replace(self, past=past, steps=self.steps + 1)

    def reordered(self, hypotheses: Tensor, sources: Tensor | None) -> DecoderState:
        """Hypothesis i goes on from row hypotheses[i]; of the sources some (an index) or, with None, all remain."""
        memory = self.memory if sources is None else tuple(part.index_select(0, sources) for part in self.memory)
        return replace(self, memory=memory, past=tuple(self.chosen(part, hypotheses) for part in self.past))

    def chosen(self, part: Tensor, hypotheses: Tensor) -> Tensor:
        if not self.grows:
            return part.index_select(0, hypotheses)
        assert isinstance(self.steps, int)
        found = part.new_empty(self.steps + 1, len(hypotheses), *part.shape[2:])
        torch.index_select(part[: self.steps], 1, hypotheses, out=found[: self.steps])
        return found


class Seq2Seq(nn.Module, ABC):
    """A family is `encode`, the decoder over all positions at once, and its twin that goes one position at a time.

    Symbols are those of data.vocabulary: 0 pads on the right, and a target ends with its END. One matrix embeds both
    languages and gives the output's weights (Press and Wolf 2017). width: D, the embedding's and the readout's.
    label_smoothing: the share of the truth that training spreads evenly over all symbols (Szegedy et al. 2016).

    Raises UserError when asked for classes or for anything but pairs.
    """

    fitted_by = "gradient"
    used_by = "seqlab.families.seq2seq.translator"
    kinds: tuple[str, ...] = ("pairs",)
    tasks: tuple[str, ...] = ("translate",)
    adapts: tuple[str, ...] = ()  # as of families.gradient

    def __init__(self, space: Space, classes: int | None, *, width: int, label_smoothing: float):
        super().__init__()
        if space.kind != "pairs" or classes is not None:
            raise UserError(f"{type(self).__name__} translates pairs; it takes no {space.kind} and has no classes")
        self.space, self.width, self.label_smoothing = space, width, label_smoothing
        self.embedding = nn.Embedding(space.size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.bias = nn.Parameter(torch.zeros(space.size))

    @classmethod
    def assemble(cls, space: Space, classes: int | None, parameters: dict[str, Any]) -> Self:
        """The model as its constructor initialises it."""
        return cls(space, classes, **parameters)

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Any:
        """The model with what was saved, as a Translator."""
        # By name: who trains a model does not depend on how one is used.
        return named("seqlab.families.seq2seq.translator.translator")(self, tensors, folder, use)

    @abstractmethod
    def encode(self, source: Tensor) -> Memory:
        """(B, S) symbols -> what the decoder may look at."""

    @abstractmethod
    def decode(self, memory: Memory, inputs: Tensor) -> Tensor:
        """(B, T) symbols -> (B, T, D), causal: output t has seen inputs up to t alone."""

    @abstractmethod
    def start(self, memory: Memory, beams: int) -> DecoderState:
        """Before any input, with `beams` hypotheses of each source."""

    @abstractmethod
    def step(self, state: DecoderState, inputs: Tensor) -> tuple[DecoderState, Tensor]:
        """One position of `decode` for all hypotheses: (B K,) -> (B K, D). The state that is passed in is used up."""

    def layer_groups(self) -> list[tuple[str, list[nn.Parameter]]]:
        """Every parameter once, in named groups from the input end to the output end."""
        groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            groups.setdefault("input" if name.startswith(("embedding", "bias")) else name.split(".")[0], []).append(
                parameter
            )
        return list(groups.items())

    @property
    def device(self) -> torch.device:
        return self.bias.device

    def logits(self, h: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return F.linear(h, self.embedding.weight, self.bias)

    def teacher_forced(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S), (B, T) -> logits (N, V) and symbols (N,) of the N positions of the targets that are not padding."""
        inputs = torch.cat([target.new_full((len(target), 1), START), target[:, :-1]], 1)
        real = target != PAD
        return self.logits(self.decode(self.encode(source), inputs)[real]), target[real]

    def log_prob(self, source: Tensor, target: Tensor) -> Tensor:
        """(B, S), (B, T) -> (B, T) float32: log P(target_t | target_<t, source) in nats, 0 on padding."""
        logits, symbols = self.teacher_forced(source, target)
        found = -F.cross_entropy(logits.float(), symbols, reduction="none")
        return torch.zeros(target.shape, device=found.device).masked_scatter(target != PAD, found)

    def loss(self, source: Tensor, target: Tensor) -> Tensor:
        """Summed -log P in nats, in training against the smoothed truth."""
        logits, symbols = self.teacher_forced(source, target)
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits.float(), symbols, reduction="sum", label_smoothing=smoothing)
