"""A gradient family from recipe to tensors: build, take over the source's weights, fit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from seqlab.artifacts import read_tensors
from seqlab.data.pairs import Data
from seqlab.families.saved import WEIGHTS, Recipe
from seqlab.training.gradient.callbacks import Log
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.task import TaskName
from seqlab.training.gradient.transfer import begin
from seqlab.training.settings import Budget, Optimizer, Strategy, TrainerSettings
from seqlab.training.trained import Trained


def train(
    recipe: Recipe,
    task: TaskName,
    train: Data,
    valid: Data,
    *,
    start: Path | None,
    strategy: Strategy,
    budget: Budget,
    optimizer: Optimizer | None,
    trainer: TrainerSettings,
    seed: int,
    checkpoint: Path,
    log: Log,
    **_: Any,
) -> Trained:
    """Fit what `recipe` builds; `start` is the folder of the source's model. See `fit` for what it raises."""
    assert optimizer is not None  # what makes it a gradient family
    torch.manual_seed(seed)
    model = recipe.build()
    settings, loaded = begin(model, strategy, None if start is None else read_tensors(start / WEIGHTS), optimizer)
    report, cost = fit(
        model,
        task,
        train,
        valid,
        budget=budget,
        optimizer=settings,
        settings=trainer,
        seed=seed,
        checkpoint=checkpoint,
        log=log,
    )
    return Trained(
        tensors={name: part.numpy() for name, part in model.state_dict().items()},
        report=asdict(report) | ({"transfer": asdict(loaded)} if loaded else {}),
        validation=report.best_loss,
        parameters=sum(part.numel() for part in model.parameters()),
        steps=report.steps,
        flops=float(report.flops),
        cost=cost,
    )
