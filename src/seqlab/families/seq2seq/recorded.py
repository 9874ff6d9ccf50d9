"""Beam search on a card, whose steps are recorded: every step of one shape is the same step, on the same addresses.

What is done waits for the others in its batch instead of leaving it, and a past that grows has all its room from the
start. So a step looks at no value, and the processor looks at the card once in `LOOK` steps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from seqlab.data.vocabulary import PAD, START
from seqlab.families.gradient.graphs import Graphs
from seqlab.families.seq2seq.model import DecoderState, Memory, Seq2Seq
from seqlab.families.seq2seq.search import Hypothesis, Rules, Standing

LOOK = 4
# Lengths of sources and of rooms are multiples of this, and batches are powers of two, so that there are few shapes.
MULTIPLE = 32
# Shapes at most, the last ones used: each keeps its past and its record on the card.
MOST = 8


@dataclass
class RoomyState(DecoderState):
    """A past that grows has room for all steps; `steps` is a tensor, (). An object serves one step."""

    steps: Tensor

    @cached_property
    def ahead(self) -> Tensor:
        """(room,): of each slot by how much it is ahead of this step's own."""
        return torch.arange(len(self.past[0]), device=self.steps.device) - self.steps

    @cached_property
    def unread(self) -> Tensor | None:
        ahead = self.ahead
        return ahead.new_zeros(ahead.shape, dtype=self.past[0].dtype).masked_fill(ahead > 0, float("-inf"))[
            None, None, None
        ]

    def extended(self, part: Tensor, new: Tensor) -> Tensor:
        return torch.where((self.ahead == 0).view(-1, *[1] * new.ndim), new.to(part.dtype), part)

    def chosen(self, part: Tensor, hypotheses: Tensor) -> Tensor:
        return part.index_select(1 if self.grows else 0, hypotheses)


class Steps:
    """The search of batches of one shape, whose every step reads and writes the same tensors."""

    def __init__(self, model: Seq2Seq, graphs: Graphs, rows: int, room: int, memory: Memory, rules: dict[str, Any]):
        self.model, self.graphs = model, graphs
        self.ran = False
        self.graph: Any = None
        limits = torch.zeros(rows, dtype=torch.int64, device=model.device)
        self.now = Standing(*(part.clone() for part in Standing.begin(limits, rules["beam_size"], room)))
        self.rules = Rules.of(**rules, like=self.now, blind=True)
        first = model.start(memory, self.rules.beam_size)
        past = [part.new_zeros(room, *part.shape[1:]) if first.grows else part.clone() for part in first.past]
        memory = tuple(part.clone() for part in first.memory)
        self.state = RoomyState(memory, tuple(past), limits.new_zeros(()), first.grows)
        self.inputs = limits.new_empty(rows * self.rules.beam_size)
        self.offsets = torch.arange(rows, device=limits.device)[:, None] * self.rules.beam_size

    def begin(self, memory: Memory, limits: Tensor) -> None:
        first = self.model.start(memory, self.rules.beam_size)
        # What another search left has no weight, but would spoil sums where it is not finite.
        past = tuple(map(torch.zeros_like, self.state.past)) if first.grows else first.past
        now = Standing.begin(limits, self.rules.beam_size, self.now.written.shape[2])
        self.hold(RoomyState(first.memory, past, torch.zeros_like(self.state.steps)), now)
        self.inputs.fill_(START)

    def go_on(self) -> None:
        """By one symbol."""
        if not self.ran:
            self.graphs.as_written(self.step)
            self.ran = True
            return
        if self.graph is None:
            self.graph, _ = self.graphs.record(self.step)
        self.graph.replay()

    def step(self) -> None:
        state, h = self.model.step(replace(self.state), self.inputs)
        now, parents, symbols = self.rules.advance(self.now, self.model.logits(h))
        self.hold(state.reordered((parents + self.offsets).flatten(), None), now)
        self.inputs.copy_(symbols.flatten())

    def hold(self, state: DecoderState, now: Standing) -> None:
        held = (*self.state.memory, *self.state.past, self.state.steps, *self.now)
        for old, new in zip(held, (*state.memory, *state.past, state.steps, *now), strict=True):
            if old is not new:
                old.copy_(torch.as_tensor(new))


class RecordedSearch:
    """`search.beam_search` of one model, on the card where that is. Of several threads one searches at a time.

    Raises what recording a step raises: a step that looks at a value cannot be recorded.
    """

    def __init__(self, model: Seq2Seq, graphs: Callable[[], Any] = Graphs):
        self.model, self.graphs, self.lock = model, graphs(), threading.Lock()
        self.shapes: dict[Hashable, Steps] = {}

    @torch.inference_mode()
    def __call__(
        self, source: Tensor, limits: list[int], *, beam_size: int, length_penalty: float, patience: float | None
    ) -> list[Hypothesis]:
        rows = 1 << (len(source) - 1).bit_length()
        length, room = (-(-longest // MULTIPLE) * MULTIPLE for longest in (source.shape[1], max(limits)))
        whole = source.new_full((rows, length), PAD)
        whole[: len(source), : source.shape[1]] = source
        whole[len(source) :] = whole[0]  # what fills up a batch is done after a symbol
        limit = torch.tensor([*limits, *[1] * (rows - len(limits))], device=source.device)
        kind = source.device.type
        half, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        rules = {"beam_size": beam_size, "length_penalty": length_penalty, "patience": patience}
        key = (rows, length, room, half, dtype, beam_size, length_penalty, patience)
        # What was cast once would be lost to the steps that repeat the one which cast it.
        with self.lock, torch.autocast(kind, dtype, enabled=half, cache_enabled=False):
            memory = self.model.encode(whole)
            steps = self.shapes.pop(key, None) or Steps(self.model, self.graphs, rows, room, memory, rules)
            self.shapes[key] = steps
            if len(self.shapes) > MOST:
                del self.shapes[next(iter(self.shapes))]
            steps.begin(memory, limit)
            for number in range(1, max(limits) + 1):
                steps.go_on()
                if number % LOOK == 0 and bool(steps.now.done.all()):
                    break
            return steps.now.hypotheses(torch.arange(len(source), device=source.device))
