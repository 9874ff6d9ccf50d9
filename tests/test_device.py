"""What is asked of a CUDA device, and in which order: by a stand-in for torch.cuda, so that no card is needed."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from seqlab.cli.fingerprint import SRC
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.gradient import device as devices
from seqlab.families.rnn import RNN
from seqlab.settings import Budget, Optimizer, TrainerSettings
from seqlab.training.gradient import fit as fitting
from seqlab.training.gradient import measured, recorded
from seqlab.training.gradient.loss import loss_of
from seqlab.training.resume import Checkpoint

CARD = torch.device("cuda", 0)
CPU = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
TOUCH = (
    "seqlab/families/gradient/device.py",
    "seqlab/training/gradient/measured.py",
    "seqlab/families/gradient/graphs.py",
)
# Who else may name torch.cuda: the state of its generators, which asks first whether one is in use.
GENERATORS = "seqlab/training/gradient/checkpoints.py"


class Card:
    """torch.cuda of a machine with one card: as there, statistics cannot be reset before the card is initialised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.calls: list[str] = []
        for name in ("init", "is_available", "reset_peak_memory_stats", "max_memory_allocated", "synchronize"):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def is_available(self) -> bool:
        return True

    def init(self) -> None:
        assert torch.are_deterministic_algorithms_enabled(), "cuBLAS and kernels are chosen when the card wakes"
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
        self.calls.append("init")

    def awake(self, name: str) -> None:
        if "init" not in self.calls:
            raise RuntimeError(f"{name}: Invalid device argument: did you call init?")
        self.calls.append(name)

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        self.awake("reset")

    def max_memory_allocated(self, device: torch.device) -> int:
        self.awake("read")
        return 123_000_000

    def synchronize(self, device: torch.device) -> None:
        self.awake("synchronize")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """A stand-in, and the process's own settings after it."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"))
    flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    attention, cudnn = torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cudnn
    benchmark, rounding = cudnn.benchmark, cudnn.allow_tf32
    yield Card(monkeypatch)
    torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
    torch.backends.cuda.enable_cudnn_sdp(attention)
    cudnn.benchmark, cudnn.allow_tf32 = benchmark, rounding


def test_a_card_is_claimed_before_anything_is_asked_of_it(card: Card) -> None:
    devices.claim(CARD)
    assert card.calls == ["init", "reset"]
    # As an error: with a warning, some kernels of attention would stay as they are.
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.backends.cudnn.allow_tf32
    assert measured.peak_memory_mb(CARD) == 123.0


def test_the_cpu_wakes_no_card(card: Card) -> None:
    devices.claim(torch.device("cpu"))
    assert devices.chosen(CPU) == torch.device("cpu")
    assert measured.peak_memory_mb(torch.device("cpu")) > 1
    assert measured.product_rate(torch.device("cpu"), torch.float32) > 1e8
    assert not card.calls


def test_who_evaluates_claims_the_card_too(card: Card) -> None:
    assert devices.chosen(replace(CPU, accelerator="auto")) == torch.device("cuda")
    assert card.calls == ["init", "reset"]


def test_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.chosen(replace(CPU, accelerator="auto")) == torch.device("cpu")
    with pytest.raises(UserError, match=r"trainer\.accelerator: 'gpu', but torch finds no CUDA device"):
        devices.chosen(replace(CPU, accelerator="gpu"))


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator")
def test_fit_meets_the_card_in_that_order(card: Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`fit` sees a card until Lightning takes over, which then runs the steps on the CPU; and again when it is done."""
    build = fitting.build_trainer

    def on_card(*arguments: Any) -> Trainer:
        trainer = build(*arguments)
        strategy, run = trainer.strategy, trainer.fit
        monkeypatch.setattr(strategy, "_root_device", CARD)

        def steps(*positional: Any, **named: Any) -> None:
            monkeypatch.setattr(strategy, "_root_device", torch.device("cpu"))
            card.calls.append("steps")
            run(*positional, **named)

        monkeypatch.setattr(trainer, "fit", steps)
        return trainer

    monkeypatch.setattr(fitting, "build_trainer", on_card)
    monkeypatch.setattr(fitting, "product_rate", lambda *_: 1e12)
    monkeypatch.setattr(recorded, "chosen", lambda *_: fitting.Module)
    data = Sequences.from_arrays([np.arange(8) % 5] * 4)
    model = RNN(Space("symbols", 5), None, hidden_size=8, layers=1, dropout=0.0, truncation=None, density="gaussian")
    _, cost = fitting.fit(
        model,
        loss_of("next_step"),
        data,
        data,
        budget=Budget(steps=2, tokens=16, evaluations=1),
        optimizer=Optimizer(1e-2, 0.0, [0.9, 0.99], 1.0, 0.0, 0.0),
        trainer=CPU,
        seed=0,
        checkpoint=Checkpoint(tmp_path, 1e9),
        log=lambda *_: None,
    )
    assert card.calls == ["init", "reset", "steps", "read"]
    assert cost.peak_memory_mb == 123.0


@pytest.mark.parametrize("file", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_few_modules_touch_cuda(file: Path) -> None:
    place = str(file.relative_to(SRC))
    named = {ast.unparse(node) for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
    if place not in (*TOUCH, GENERATORS):
        assert not any(name.startswith("torch.cuda.") for name in named)
