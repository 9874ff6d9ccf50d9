"""A gradient family from recipe to tensors: build, take over the source's weights, fit."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqlab.data.pairs import Data, Pairs
from seqlab.data.sequences import Sequences
from seqlab.families import saved
from seqlab.families.gradient.ends import VectorEnds
from seqlab.families.saved import Recipe
from seqlab.threads import pin
from seqlab.training.gradient.callbacks import Log
from seqlab.training.gradient.distil import Distilled, taught
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.masked import Hidden
from seqlab.training.gradient.task import TaskName
from seqlab.training.gradient.transfer import begin
from seqlab.training.gradient.tuning import merge, tuning_of
from seqlab.training.settings import Budget, Objective, Optimizer, Strategy, TrainerSettings
from seqlab.training.trained import Trained

TOKENS = 1 << 16  # positions in a batch while the training split is read for its lag-one coefficients


def train(
    recipe: Recipe,
    task: TaskName,
    train: Data,
    valid: Data,
    *,
    start: Path | None,
    teacher: Path | None,
    strategy: Strategy,
    budget: Budget,
    optimizer: Optimizer | None,
    trainer: TrainerSettings,
    seed: int,
    checkpoint: Path,
    log: Log,
    objective: Objective | None = None,
    **_: Any,
) -> Trained:
    """Fit what `recipe` builds. start: the folder of the source's model, or a file of its tensors; teacher: the folder
    of the model that gives soft targets; objective: of the task `masked`. See `fit` for what it raises.
    """
    assert optimizer is not None  # what makes it a gradient family
    pin(trainer.threads)
    torch.manual_seed(seed)
    model = recipe.build()
    if isinstance(train, Sequences) and isinstance(model.ends, VectorEnds):
        with torch.no_grad():
            model.ends.carry.copy_(torch.from_numpy(lag_one(train)))
    settings, loaded = begin(model, strategy, None if start is None else saved.tensors_of(start), optimizer)
    if task == "masked":
        assert objective is not None
        assert objective.hidden is not None
        model.hidden = Hidden(model.width, objective.hidden)
    tuning = tuning_of(model, strategy, model.adapts)
    soft = None
    if strategy.distillation is not None:
        assert teacher is not None  # which the configuration requires
        known = saved.load(teacher, trainer, strategy.distillation.decoding)
        if isinstance(train, Pairs):
            train = taught(
                train,
                lambda sources: [found.symbols for found in known.search(sources)],
                strategy.distillation.weight,
                seed,
            )
        else:
            soft = Distilled(known.model, task, strategy.distillation)
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
        tuning=tuning,
        loss=soft,
    )
    changed = [p for p in model.parameters() if p.requires_grad]
    details = {"trained_parameters": sum(part.numel() for part in changed)} if tuning is not None else {}
    merge(model)
    return Trained(
        tensors={name: part.numpy() for name, part in model.state_dict().items()},
        report=asdict(report) | details | ({"transfer": asdict(loaded)} if loaded else {}),
        validation=report.best_loss,
        parameters=sum(part.numel() for part in model.parameters()),
        steps=report.steps,
        flops=float(report.flops),
        cost=cost,
    )


def lag_one(sequences: Sequences) -> np.ndarray:
    """(C,) least-squares coefficients of each channel's value on the one before, no constant; within [-1, 1]."""
    products, squares = np.zeros((2, sequences.values.shape[1]))
    for _, batch in sequences.batches(TOKENS):
        # Padding is zero and adds nothing to the products; squares need the value to be followed by another.
        before, after = batch.x[:, :-1].astype(np.float64), batch.x[:, 1:]
        products += (before * after).sum((0, 1))
        squares += (before**2 * batch.mask[:, 1:, None]).sum((0, 1))
    return np.clip(products / np.where(squares > 0, squares, 1), -1, 1)
