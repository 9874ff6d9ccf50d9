"""Gradient norms by lag, and the horizon at which a recurrent family solves a task of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.diagnostics.tasks import Examples, Task
from seqlab.families.gradient import GradientFamily

CHECKS = 10  # looks at the held-out examples in a training
HELD_OUT = 0  # number of their batch; training takes 1, 2, ...


class Remembering(nn.Module):
    """A family's body between the inputs of a task and a linear read-out of its last positions."""

    def __init__(self, family: GradientFamily, outputs: int):
        super().__init__()
        self.family, self.leave = family, nn.Linear(family.width, outputs)

    def forward(self, x: Tensor, answers: int) -> Tensor:
        """(B, T, C) -> (B, answers, outputs)."""
        answered: Tensor = self.leave(self.family.body(self.family.ends.embed(x))[:, -answers:])
        return answered


def loss_of(model: Remembering, examples: Examples) -> Tensor:
    """Nats a letter where answers are letters, else the mean squared error."""
    answers = torch.from_numpy(examples.answers)
    found = model(torch.from_numpy(examples.x), answers.shape[1])
    if answers.is_floating_point():
        return F.mse_loss(found[..., 0], answers)
    return F.cross_entropy(found.flatten(0, 1), answers.flatten())


@dataclass(frozen=True)
class Learned:
    """loss: on the held-out batch. steps: of training, until it was solved or the budget spent."""

    loss: float
    solved: bool
    steps: int


def learn(
    model: Remembering,
    task: Task,
    *,
    steps: int,
    batch: int,
    learning_rate: float,
    clip: float,
    solved: float,
    seed: int,
    tell: Callable[[float, int], None],
) -> Learned:
    """Train with AdamW until the held-out loss is below `solved` times that without memory, `steps` steps at most."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    held_out = task.draw(8 * batch, seed, HELD_OUT)
    loss, every = float("inf"), max(1, steps // CHECKS)
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss_of(model, task.draw(batch, seed, step)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if step % every == 0 or step == steps:
            with torch.no_grad():
                loss = float(loss_of(model, held_out))
            tell(loss, step)
            if loss < solved * task.baseline:
                return Learned(loss, True, step)
    return Learned(loss, False, steps)


def gradient_norms(model: Remembering, examples: Examples, lags: int, truncation: int | None) -> np.ndarray:
    """(lags + 1,) mean over examples of the norm of d loss / d state k steps before the last, k = 0 .. lags.

    The state is all that a step hands on. With `truncation`, the state is cut off from its past at multiples of so many
    steps from the sequence's start, as in truncated back-propagation through time, and what lies before is exactly 0.

    Raises ValueError when the sequences are not longer than `lags`.
    """
    x = torch.from_numpy(examples.x)
    if x.shape[1] <= lags:
        raise ValueError(f"{lags} lags need more than {x.shape[1]} steps")
    family = model.family
    inputs = family.ends.embed(x)
    state = family.start(len(x))
    states: list[tuple[Tensor, ...]] = []
    for t in range(x.shape[1]):
        if truncation is not None and t and t % truncation == 0:
            state = tuple(part.detach() for part in state)
        state, _ = family.step(state, inputs[:, t])
        for part in state:
            part.retain_grad()
        states.append(state)
    answers = torch.from_numpy(examples.answers)[:, -1]
    found = model.leave(states[-1][0][:, -1])
    # The sum keeps each example's own gradient; what a family's last output is, is the first part of its state.
    loss = (
        (found[:, 0] - answers).square().sum()
        if answers.is_floating_point()
        else F.cross_entropy(found, answers, reduction="sum")
    )
    loss.backward()
    norms = np.zeros(lags + 1)
    for lag in range(lags + 1):
        parts = [part.grad for part in states[-1 - lag]]
        squares = [part.flatten(1).square().sum(1) for part in parts if part is not None]
        norms[lag] = float(torch.stack(squares).sum(0).sqrt().mean()) if squares else 0.0
    return norms
