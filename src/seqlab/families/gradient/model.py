"""A gradient family: shared ends around a causal body."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.families.base import Use
from seqlab.families.gradient.ends import Density, SymbolEnds, lagged
from seqlab.settings import named

if TYPE_CHECKING:
    from seqlab.families.gradient.vector_ends import VectorEnds

# What a body remembers of B prefixes: tensors with a row for each, or for each group of branches of one prefix.
State = tuple[Tensor, ...]


class GradientFamily(nn.Module, ABC):
    """P(x_t | x_<t) from a causal body between the ends of the sequence's kind, and classes from a pooled head.

    A family is `body` and its one-position-at-a-time twin, `step`. Sequences are padded on the right, where a causal
    body's output cannot reach what came before: so a body needs no mask, and padding is set to 0 on the way out.

    space: what a position is. classes: K of the pooled head, or None for no head. width: D, the body's width.
    """

    fitted_by = "gradient"
    used_by = "seqlab.families.gradient.predictor"
    kinds: tuple[str, ...] = ("symbols", "vectors")
    tasks: tuple[str, ...] = ("next_step", "classify", "label")
    # Names of the linear maps that a low-rank adapter may change.
    adapts: tuple[str, ...] = ()
    # What it can be pretrained to predict (conf/objective); `hidden` needs a method `around`, the body with both sides
    # in view.
    objectives: tuple[str, ...] = ("next",)

    ends: SymbolEnds | VectorEnds
    head: nn.Linear | None

    def __init__(self, space: Space, classes: int | None, *, width: int, density: Density):
        super().__init__()
        self.space, self.width = space, width
        if space.symbols:
            self.ends = SymbolEnds(space.size, width)
        else:
            # By name: what reads symbols does not depend on densities of vectors.
            self.ends = named("seqlab.families.gradient.vector_ends.VectorEnds")(space.size, width, density)
        self.head = None
        if classes is not None:
            self.with_classes(classes)

    @classmethod
    def assemble(cls, space: Space, classes: int | None, parameters: dict[str, Any]) -> Self:
        """The model as its constructor initialises it."""
        return cls(space, classes, **parameters)

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Any:
        """The model with what was saved, as a Predictor and Classifier."""
        # By name: who trains a model does not depend on how one is used.
        return named("seqlab.families.gradient.predictor.predictor")(self, tensors, use.trainer)

    @abstractmethod
    def body(self, h: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D), causal: output t depends on inputs up to t alone."""

    @abstractmethod
    def start(self, batch_size: int) -> State:
        """The state before any input."""

    @abstractmethod
    def step(self, state: State, h: Tensor) -> tuple[State, Tensor]:
        """One position of `body`: (B, D) -> (B, D). The state that is passed in is used up."""

    @abstractmethod
    def prefill(self, h: Tensor, lengths: Tensor) -> tuple[State, Tensor]:
        """The state after the first `lengths` (B,) >= 1 inputs of each row of (B, T, D), and the last output (B, D)."""

    def branch(self, state: State, copies: int) -> State:
        """The state of `copies` continuations of each row, side by side."""
        return tuple(part.repeat_interleave(copies, 0) for part in state)

    @abstractmethod
    def body_groups(self) -> list[list[nn.Parameter]]:
        """The body's parameters by layer, from the input upwards."""

    def with_classes(self, classes: int) -> Self:
        """Give the model a new head for `classes` classes (a head it had is dropped)."""
        self.head = nn.Linear(2 * self.width, classes, device=self.device)
        return self

    @property
    def device(self) -> torch.device:
        return self.ends.start.device

    def layer_groups(self) -> list[tuple[str, list[nn.Parameter]]]:
        """Every parameter once, in named groups from the input end to the output end (and head).

        For discriminative learning rates and gradual unfreezing (Howard and Ruder 2018).
        """
        groups = [("input", [self.ends.start, *self.ends.enter.parameters()])]
        groups += [(f"layer{i}", group) for i, group in enumerate(self.body_groups(), 1)]
        groups.append(("output", self.ends.outputs()))
        if self.head is not None:
            groups.append(("head", list(self.head.parameters())))
        return groups

    def encode(self, x: Tensor) -> Tensor:
        """(B, T[, C]) -> (B, T + 1, D): the body's output after each of the T + 1 prefixes of x."""
        return self.body(self.ends.inputs(x))

    def log_prob(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T) float32 in nats, 0 on padding. The training loss is its negated sum over scored positions."""
        # The last position is never an input: nothing follows it. (T = 0 still has the start.)
        h = self.encode(x[:, :-1])[:, : x.shape[1]]
        return self.ends.log_prob(h, x).masked_fill(~mask, 0)

    def distribution(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T + 1, V) float32 log-probabilities after every prefix, 0 where there is no such prefix. Symbols only."""
        if not isinstance(self.ends, SymbolEnds):
            raise TypeError(f"{type(self).__name__} on {self.space.kind} has no distribution over symbols")
        # The empty prefix always exists, and the prefix of length t exists if position t does.
        exists = F.pad(mask, (1, 0), value=True)
        return self.ends.distribution(self.encode(x)).masked_fill(~exists[..., None], 0)

    def moments(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of x_t given x_<t, each (B, T, C) float32, 0 on padding. Vectors only."""
        if isinstance(self.ends, SymbolEnds):
            raise TypeError(f"{type(self).__name__} on {self.space.kind} has no moments")
        h = self.encode(x[:, :-1])[:, : x.shape[1]]
        mean, deviation = self.ends.moments(h, x)
        return mean.masked_fill(~mask[..., None], 0), deviation.masked_fill(~mask[..., None], 0)

    @torch.inference_mode()
    def forecast(self, prefix: Tensor, mask: Tensor, steps: int, samples: int, seed: int) -> Tensor:
        """(B, samples, steps[, C]): paths drawn position by position after each prefix, which may be empty."""
        generator = torch.Generator(self.device).manual_seed(seed)
        lengths = mask.sum(1)
        state, h = self.prefill(self.ends.inputs(prefix), lengths + 1)
        last = lagged(prefix)[torch.arange(len(prefix), device=prefix.device), lengths]
        state = self.branch(state, samples)
        h, last = h.repeat_interleave(samples, 0), last.repeat_interleave(samples, 0)
        path = []
        for i in range(steps):
            if i:
                state, h = self.step(state, self.ends.embed(last))
            last = self.ends.sample(h, last, generator)
            path.append(last)
        paths: Tensor = torch.stack(path, 1).unflatten(0, (len(prefix), samples))
        return paths

    def class_logits(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, K) from the body's outputs, pooled."""
        if self.head is None:
            raise TypeError(f"{type(self).__name__} was built without classes: call with_classes(K) first")
        logits: Tensor = self.head(self.pool(self.encode(x), mask)).float()
        return logits

    def attention_maps(self, x: Tensor, mask: Tensor) -> Tensor | None:
        """(B, layers, heads, T + 1, T + 1) weights of each prefix on what it has seen, where the family attends."""
        return None

    def pool(self, h: Tensor, mask: Tensor) -> Tensor:
        """(B, T + 1, D), (B, T) -> (B, 2 D): mean and last of the outputs at real positions, each having seen its x_t.

        Of an empty sequence the mean is 0 and the last is what follows the start.
        """
        lengths = mask.sum(1)
        mean = (h[:, 1:] * mask[..., None]).sum(1) / lengths.clamp(min=1)[:, None]
        last = h[torch.arange(len(h), device=h.device), lengths]
        return torch.cat([mean, last], -1)
