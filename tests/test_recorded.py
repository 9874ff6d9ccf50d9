"""Training steps that a card records, by a stand-in for its graphs; tests/test_gpu.py holds the real ones to it."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from unread import Unread

from seqlab.data.sequences import Sequences, Space
from seqlab.families.gru import GRU
from seqlab.settings import Budget, Optimizer, Slanted, Strategy, TrainerSettings
from seqlab.training.gradient import fit as fitting
from seqlab.training.gradient import recorded
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.lookup import ByProduct, by_product, indicators
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.module import Module
from seqlab.training.gradient.recorded import CompiledModule, Recorded, RecordedModule
from seqlab.training.gradient.tuning import tuning_of
from seqlab.training.resume import Checkpoint

CPU = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
OPTIMIZER = Optimizer(1e-2, 0.01, [0.9, 0.99], 1.0, 0.1, 0.1)
BUDGET = Budget(steps=30, tokens=64, evaluations=3)


class Replay:
    """What a card's graph does: the step once more, on the tensors it was recorded with, into those it returned."""

    def __init__(self, step: Any, held: TensorBatch, outputs: tuple[Tensor, ...]):
        self.step, self.held, self.outputs, self.times = step, held, outputs, 0

    def replay(self) -> None:
        self.times += 1
        with Unread():
            found = self.step(self.held)
        for old, new in zip(self.outputs, found, strict=True):
            old.copy_(new)


class OnCPU(Recorded):
    made: list[OnCPU] = []  # noqa: RUF012  # emptied by `stand_in`

    def __init__(self, step: Any):
        self.step, self.met, self.graphs = step, set(), {}
        self.written = 0
        OnCPU.made.append(self)

    def as_written(self, batch: TensorBatch) -> tuple[Tensor, ...]:
        self.written += 1
        return self.step(batch)

    def record(self, batch: TensorBatch) -> tuple[list[Tensor], Any, tuple[Tensor, ...]]:
        held = TensorBatch(*(None if part is None else torch.zeros_like(part) for part in batch[:-1]))
        outputs = tuple(torch.zeros(()) for _ in range(4))
        return recorded.tensors(held), Replay(self.step, held, outputs), outputs


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[OnCPU]:
    OnCPU.made = []
    monkeypatch.setattr(recorded, "Recorded", OnCPU)
    monkeypatch.setattr(recorded, "prepare", lambda *_: None)
    return OnCPU.made


def data(task: str, seed: int, count: int = 24) -> Sequences:
    draw = np.random.default_rng(seed)
    rows = [draw.integers(0, 9, draw.choice([5, 8])).astype(np.uint8) for _ in range(count)]
    return Sequences.from_arrays(rows, labels=draw.integers(0, 2, count) if task == "classify" else None)


def train(task: str, folder: Path, tuned: bool) -> tuple[Any, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = GRU(
        Space("symbols", 9), 2 if task == "classify" else None,
        hidden_size=6, layers=2, dropout=0.2, truncation=None, density="gaussian",
    )  # fmt: skip
    strategy = Strategy("scratch", 1.0, unfreezing=0.5, depth_factor=0.5, slanted=Slanted(0.1, 32.0))
    report, _ = fitting.fit(
        model, loss_of(task), data(task, 0), data(task, 1, 8),
        budget=BUDGET, optimizer=OPTIMIZER, trainer=CPU, seed=3, checkpoint=Checkpoint(folder, 1e9),
        log=lambda *_: None, tuning=tuning_of(model, strategy, ()) if tuned else None,
    )  # fmt: skip
    return report, model.state_dict()


@pytest.mark.parametrize(("task", "tuned"), [("next_step", False), ("classify", False), ("classify", True)])
def test_recorded_steps_train_as_the_trainer_does(
    task: str, tuned: bool, tmp_path: Path, stand_in: list[OnCPU], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit: losses, gradients' norms, schedule, dropout's draws, which layers join when."""
    expected = train(task, tmp_path / "trainer", tuned)
    assert not stand_in
    monkeypatch.setattr(fitting, "Module", RecordedModule)
    found = train(task, tmp_path / "recorded", tuned)
    assert found[0] == expected[0]
    assert all(torch.equal(a, b) for a, b in zip(found[1].values(), expected[1].values(), strict=True))
    (steps,) = stand_in
    # Once as written for each shape and phase, and never again; the others are repeated.
    assert steps.written == len(steps.met)
    assert steps.written + sum(graph.times for _, graph, _ in steps.graphs.values()) == BUDGET.steps
    assert steps.written < BUDGET.steps / 2


def test_who_records() -> None:
    stream, compiled = Stream(data("next_step", 0), 64, 0), replace(CPU, compile=True)

    def chosen(settings: TrainerSettings = CPU, loss: Any = loss_of("next_step")) -> type[Module]:  # noqa: B008
        return recorded.chosen(stream, settings, loss)

    assert chosen() is RecordedModule
    assert chosen(compiled) is CompiledModule
    assert chosen(loss=loss_of("forecast")) is Module, "whose origins are counted on the way"
    assert chosen(loss=lambda *_: None) is Module, "a teacher's loss"
    stream.ranks = 2
    assert chosen() is Module


def test_few_symbols_are_looked_up_by_a_product() -> None:
    """To the bit of looking up; gradients to rounding. Of many symbols nothing changes."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"few": torch.nn.Embedding(40, 6), "many": torch.nn.Embedding(5000, 6)})
    by_product(model)
    few = model["few"]
    assert (type(few), type(model["many"])) == (ByProduct, torch.nn.Embedding)
    x, towards = torch.randint(40, (3, 50)), torch.randn(3, 50, 6)
    with Unread():
        found = indicators(x, 40).to(few.weight.dtype) @ few.weight
    assert torch.equal(found, few(x))
    gradients = [torch.autograd.grad((part * towards).sum(), few.weight)[0] for part in (found, few(x))]
    torch.testing.assert_close(*gradients)


def test_rates_are_tensors_that_the_schedule_fills() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([{"params": [parameter], "lr": 0.5}], fused=True)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    recorded.prepare(optimizer, torch.device("cpu"))
    rate = optimizer.param_groups[0]["lr"]
    for step in range(3):
        assert optimizer.param_groups[0]["lr"] is rate
        assert float(rate) == pytest.approx(0.5 / (1 + step))
        optimizer.step()
        schedule.step()


def test_few_shapes_stay_and_many_are_padded() -> None:
    few, many = data("next_step", 0), Sequences.from_arrays([np.zeros(n, np.uint8) for n in range(1, 200)])
    stream = Stream(many, 256, 0)
    assert recorded.shapes(stream) == len({batch.x.shape for batch in islice(stream, len(stream.epoch(0)))}) > 16
    recorded.chosen(stream, CPU, loss_of("next_step"))
    assert {batch.x.shape[1] % 32 for batch in islice(stream, 50)} == {0}
    stream = Stream(few, 64, 0)
    recorded.chosen(stream, CPU, loss_of("next_step"))
    assert {batch.x.shape[1] for batch in islice(stream, 50)} == {5, 8}
