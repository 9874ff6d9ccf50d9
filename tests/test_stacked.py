"""Seeds side by side: each trains as it does alone, whatever the others do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.gradient import GradientFamily, Recurrent
from seqlab.families.gru import GRU
from seqlab.families.lstm import LSTM
from seqlab.families.mlp import MLP
from seqlab.families.rnn import RNN
from seqlab.families.transformer import Transformer
from seqlab.settings import Budget, Optimizer, TrainerSettings
from seqlab.training.gradient.batches import Stream
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.resume import Checkpoint
from stacked import fit_seeds, side_by_side
from stacked_layers import LAYERS

OPTIMIZER = Optimizer(learning_rate=1e-2, weight_decay=0.1, betas=[0.9, 0.99], clip=0.5, warmup=0.2, floor=0.1)
CPU = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
BUDGET = Budget(steps=20, tokens=200, evaluations=10)
SEEDS = [5, 0, 3]
FAMILIES = {"mlp": MLP, "rnn": RNN, "gru": GRU, "lstm": LSTM, "transformer": Transformer}
SIZES = {"symbols": 9, "vectors": 2}


def data(kind: str, seed: int, count: int) -> Sequences:
    """Ragged and labelled."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    rows: list[np.ndarray] = []
    for label, length in zip(labels, draw.integers(5, 30, count), strict=True):
        if kind == "vectors":
            rows.append(draw.normal(size=(length, 2)).cumsum(0).astype(np.float32))
        else:
            rows.append((draw.integers(9) + (2 * label - 1) * np.arange(length)) % 9)
    return replace(Sequences.from_arrays(rows), labels=labels)


def model(name: str, kind: str, classes: int | None, seed: int, truncation: int | None = None) -> GradientFamily:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"hidden_size": 16, "layers": 2, "dropout": 0.0, "density": "gaussian"}
    if name == "transformer":
        sizes |= {"heads": 2, "feedforward_size": 32, "rotary_base": 1e4}
    elif name != "mlp":
        sizes |= {"truncation": truncation}
    make: Callable[..., GradientFamily] = FAMILIES[name]
    return make(Space(kind, SIZES[kind]), classes, **sizes)


def compare(
    name: str, kind: str, task: Any, tolerance: float, folder: Path, *, muon: float | None = None, **changes: Any
) -> None:
    """Curves, the best step and the weights it had, of every seed."""
    train, valid = data(kind, 0, 60), data(kind, 1, 20)
    classes = 2 if task == "classify" else None
    common: dict[str, Any] = {
        "budget": BUDGET,
        "optimizer": replace(OPTIMIZER, matrix_learning_rate=muon),
    }
    where = replace(CPU, **changes)
    together = [model(name, kind, classes, seed) for seed in SEEDS]
    found = fit_seeds(together, task, train, valid, seeds=SEEDS, log=lambda *_: None, settings=where, **common)
    for seed, ours, report in zip(SEEDS, together, found, strict=True):
        alone = model(name, kind, classes, seed)
        expected, _ = fit(
            alone,
            loss_of(task),
            train,
            valid,
            seed=seed,
            trainer=where,
            checkpoint=Checkpoint(folder / str(seed), 1e9),
            log=lambda *_: None,
            **common,
        )
        for point, reference in zip(report.curves, expected.curves, strict=True):
            assert point == pytest.approx(reference, rel=0, abs=tolerance)
        if report.best_step == expected.best_step:  # two validations may be as good as equal
            for part, reference in zip(ours.state_dict().values(), alone.state_dict().values(), strict=True):
                torch.testing.assert_close(part, reference, rtol=0, atol=100 * tolerance)


@pytest.mark.parametrize("name", ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in list(FAMILIES)[1:])])
@pytest.mark.parametrize(
    ("kind", "task"), [("symbols", "next_step"), ("vectors", "next_step"), ("symbols", "classify")]
)
@pytest.mark.slow
def test_each_seed_trains_as_it_does_alone(name: str, kind: str, task: str, tmp_path: Path) -> None:
    """To 1e-5 nats over 20 steps, though sums run in another order."""
    compare(name, kind, task, 1e-5, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rnn", "transformer"])
def test_muon_turns_the_matrices_of_all_seeds(name: str, tmp_path: Path) -> None:
    """It rounds to bfloat16, so that a last bit of float32 may come to be one of eight."""
    compare(name, "symbols", "next_step", 1e-3, tmp_path, muon=1e-2)


@pytest.mark.slow
def test_bfloat16_stays_near(tmp_path: Path) -> None:
    compare("gru", "symbols", "next_step", 3e-2, tmp_path, precision="bf16-mixed")


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("truncation", [None, 4])
def test_layers_of_many_models_are_those_of_each(name: str, truncation: int | None) -> None:
    """Outputs and every gradient, beside the families' own layers."""
    models = [model(name, "symbols", None, seed, truncation).double() for seed in range(3)]
    assert all(isinstance(one, Recurrent) for one in models)
    x = torch.randn(3, 9, 4, 16, dtype=torch.float64)
    weight = torch.randn_like(x)
    state = torch.randn(models[0].state_parts, 3, 4, 16, dtype=torch.float64)  # type: ignore[attr-defined]
    layers = [[part.detach().clone().requires_grad_() for part in one.stack.all_weights[0]] for one in models]  # type: ignore[union-attr]
    expected = []
    for i, one in enumerate(models):
        inputs = x[i].clone().requires_grad_()
        outputs, after = one.layer(inputs, tuple(state[:, i]), layers[i])  # type: ignore[operator]
        expected.append([outputs, *after, *torch.autograd.grad((outputs * weight[i]).sum(), [inputs, *layers[i]])])
    stacked = [torch.stack(parts).detach().requires_grad_() for parts in zip(*layers, strict=True)]
    inputs = x.clone().requires_grad_()
    kernel = LAYERS[models[0].torch_stack]  # type: ignore[index]
    outputs, *after = torch.vmap(kernel)(inputs, *state, *stacked)
    found: list[Tensor] = [outputs, *after, *torch.autograd.grad((outputs * weight).sum(), [inputs, *stacked])]
    for part, parts in zip(found, zip(*expected, strict=True), strict=True):
        torch.testing.assert_close(part, torch.stack(parts), rtol=1e-9, atol=1e-9)


def test_batches_of_other_shapes_lie_side_by_side() -> None:
    """Each one's own rows and positions, and nothing scored beside them."""
    sequences = data("symbols", 0, 30)
    streams = [Stream(sequences, 60, seed) for seed in SEEDS]
    for batches in islice(zip(*streams, strict=False), 6):
        whole = side_by_side(batches)
        assert whole.labels is not None
        for i, own in enumerate(batches):
            rows, steps = own.mask.shape
            assert torch.equal(whole.x[i, :rows, :steps], own.x)
            assert torch.equal(whole.labels[i, :rows], own.labels)
            assert int(whole.mask[i].sum()) == int(own.mask.sum())
            assert int(whole.scored[i].sum()) == int(own.scored.sum())
            assert (whole.labels[i, rows:] < 0).all()


def test_a_seed_that_diverges_is_named() -> None:
    models = [model("rnn", "vectors", None, seed) for seed in SEEDS]
    with torch.no_grad():
        models[1].ends.leave.weight.fill_(torch.nan)
    train = data("vectors", 0, 20)
    with pytest.raises(UserError, match="training diverged by step 2: seed 0;"):
        fit_seeds(
            models,
            "next_step",
            train,
            train,
            budget=BUDGET,
            optimizer=OPTIMIZER,
            settings=CPU,
            seeds=SEEDS,
            log=lambda *_: None,
        )
