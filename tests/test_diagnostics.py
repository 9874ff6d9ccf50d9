"""Gradient norms equal autograd's through the whole body, and tasks of memory are what they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqlab.data.sequences import Space
from seqlab.diagnostics.memory import Remembering, gradient_norms, learn, loss_of
from seqlab.diagnostics.tasks import BLANK, COPIED, LETTERS, RECALL, Task
from seqlab.families.gru import GRU
from seqlab.families.lstm import LSTM
from seqlab.families.rnn import RNN

FAMILIES = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


def model(name: str, task: Task, truncation: int | None = None, size: int = 6) -> Remembering:
    torch.manual_seed(0)
    family = FAMILIES[name](
        Space("vectors", task.channels),
        None,
        hidden_size=size,
        layers=1,
        dropout=0.0,
        truncation=truncation,
        density="gaussian",
    )
    return Remembering(family, task.outputs)


def brute_force(of: Remembering, task: Task, lags: int, truncation: int | None) -> np.ndarray:
    """The same by one gradient of the whole loss for each lag, with a zero added to the state there."""
    examples = task.draw(3, 1, 0)
    x, answers = torch.from_numpy(examples.x), torch.from_numpy(examples.answers)
    found = []
    for lag in range(lags + 1):
        state = of.family.start(len(x))
        inputs = of.family.ends.embed(x)
        for t in range(x.shape[1]):
            if truncation and t and t % truncation == 0:
                state = tuple(part.detach() for part in state)
            state, _ = of.family.step(state, inputs[:, t])
            if t == x.shape[1] - 1 - lag:
                nudge = [torch.zeros_like(part, requires_grad=True) for part in state]
                state = tuple(part + extra for part, extra in zip(state, nudge, strict=True))
        loss = (of.leave(state[0][:, -1])[:, 0] - answers[:, -1]).square().sum()
        parts = torch.autograd.grad(loss, nudge, allow_unused=True)
        squares = [part.flatten(1).square().sum(1) for part in parts if part is not None]
        found.append(float(torch.stack(squares).sum(0).sqrt().mean()) if squares else 0.0)
    return np.array(found)


@pytest.mark.parametrize("truncation", [None, 4])
@pytest.mark.parametrize("name", FAMILIES)
def test_norms_are_those_of_autograd(name: str, truncation: int | None) -> None:
    task = Task("adding", 10)
    of = model(name, task)
    norms = gradient_norms(of, task.draw(3, 1, 0), 9, truncation)
    np.testing.assert_allclose(norms, brute_force(of, task, 9, truncation), rtol=1e-4, atol=1e-9)
    # Steps 8 and 9 lie after the last cut, at 8; all that lies before is cut off.
    assert (norms > 0).tolist() == [truncation is None or lag < 2 for lag in range(10)]


def test_more_lags_than_steps() -> None:
    task = Task("adding", 10)
    with pytest.raises(ValueError, match="10 lags need more than 10 steps"):
        gradient_norms(model("rnn", task), task.draw(3, 1, 0), 10, None)


def test_copying_asks_for_what_was_shown() -> None:
    examples = Task("copy", 7).draw(50, 0, 1)
    symbols = examples.x.argmax(-1)
    assert examples.x.shape == (50, 2 * COPIED + 7, LETTERS + 2)
    np.testing.assert_array_equal(examples.x.sum(-1), 1)
    np.testing.assert_array_equal(symbols[:, :COPIED], examples.answers)
    assert set(symbols[:, COPIED:-COPIED].ravel()) == {BLANK}
    assert set(symbols[:, -COPIED:].ravel()) == {RECALL}


def test_adding_sums_what_is_marked() -> None:
    examples = Task("adding", 9).draw(4000, 0, 1)
    numbers, marks = examples.x[..., 0], examples.x[..., 1]
    np.testing.assert_array_equal(marks[:, :4].sum(1), 1)
    np.testing.assert_array_equal(marks[:, 4:].sum(1), 1)
    np.testing.assert_allclose(examples.answers[:, 0], (numbers * marks).sum(1))
    # Without memory nothing is better than the mean, whose squared error is the variance.
    assert np.var(examples.answers) == pytest.approx(Task("adding", 9).baseline, rel=0.1)


def test_without_memory_a_letter_costs_its_entropy() -> None:
    task = Task("copy", 3)
    of = model("rnn", task)
    torch.nn.init.zeros_(of.leave.weight)
    torch.nn.init.zeros_(of.leave.bias)
    assert loss_of(of, task.draw(8, 0, 1)).item() == pytest.approx(task.baseline, rel=1e-6)


def test_batches_are_functions_of_seed_and_number() -> None:
    task = Task("adding", 9)
    again, other = task.draw(4, 0, 2), task.draw(4, 0, 3)
    np.testing.assert_array_equal(task.draw(4, 0, 2).x, again.x)
    assert not np.array_equal(again.x, other.x)


def test_a_short_horizon_is_learned() -> None:
    task = Task("adding", 4)
    told: list[tuple[float, int]] = []
    settings = {"batch": 32, "learning_rate": 1e-2, "clip": 1.0, "solved": 0.3, "seed": 0}
    of = model("gru", task, size=24)
    learned = learn(of, task, steps=400, tell=lambda loss, step: told.append((loss, step)), **settings)
    assert learned.solved
    assert told[-1] == (learned.loss, learned.steps)
    assert learned.loss < 0.3 * task.baseline
