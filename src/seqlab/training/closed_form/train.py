"""A family in closed form from recipe to tensors: the same verb as `training.gradient.train`, with no torch."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.families import saved
from seqlab.families.saved import Recipe
from seqlab.threads import pin
from seqlab.training.cost import Cost, peak_memory_mb
from seqlab.training.settings import Strategy, TrainerSettings
from seqlab.training.trained import Trained

TOKENS = 1 << 16  # positions in a batch of validation


def train(
    recipe: Recipe,
    task: Literal["next_step", "classify"],
    train: Sequences,
    valid: Sequences,
    *,
    start: Path | None,
    strategy: Strategy,
    trainer: TrainerSettings,
    **_: Any,
) -> Trained:
    """Fit what `recipe` builds, with the source's model in the folder `start` as prior unless the strategy is scratch.

    The rest of what a gradient training needs (budget, optimiser, seed, checkpoint...) means nothing here. Raises
    UserError when a set is empty, when the prior is missing or of another family, and what the family's fit raises.
    """
    pin(trainer.threads)
    for name, data in (("training", train), ("validation", valid)):
        if not len(data):
            raise UserError(f"{name} set: it is empty, expected at least one sequence")
    prior = None
    if strategy.init != "scratch":
        if start is None:
            raise UserError(
                f"strategy.init: {strategy.init!r} needs a model of the source; run the pretrain stage first"
            )
        prior = own_prior(recipe, start) if start.suffix == saved.TENSORS else pretrained_prior(recipe, start, trainer)
    model = recipe.build()
    began = time.perf_counter()
    report = model.fit(train, valid, prior)
    seconds = time.perf_counter() - began
    return Trained(
        tensors=model.state(),
        report=report,
        validation=(next_step_loss if task == "next_step" else classify_loss)(model, valid),
        parameters=model.parameters,
        steps=0,
        flops=None,
        cost=Cost(seconds, len(train) / seconds, int(train.offsets[-1]) / seconds, peak_memory_mb()),
    )


def pretrained_prior(recipe: Recipe, folder: Path, trainer: TrainerSettings) -> Any:
    """The source's model. Raises UserError when it is of another family or of other data."""
    found = saved.load_recipe(folder)
    if (found.target, found.kind, found.size) != (recipe.target, recipe.kind, recipe.size):
        raise UserError(
            f"{folder}: it holds {found.target} on {found.size} {found.kind}, "
            f"expected {recipe.target} on {recipe.size} {recipe.kind}"
        )
    return saved.load(folder, trainer)


def own_prior(recipe: Recipe, path: Path) -> Any:
    """A user's own tensors, as the family writes them. Raises UserError naming those that were found instead."""
    prior, tensors = replace(recipe, classes=None).build(), saved.tensors_of(path)
    one = np.zeros((1, 2), np.int64) if recipe.space.symbols else np.zeros((1, 2, recipe.size), np.float32)
    try:
        prior.load_state(tensors)
        prior.log_prob(one, np.ones((1, 2), bool))  # tensors of other data load, and fail where they are used
    except (KeyError, IndexError, ValueError):
        found = ", ".join(f"{name} {part.shape}" for name, part in sorted(tensors.items())[:4])
        raise UserError(
            f"{path}: not what {recipe.target} writes for {recipe.size} {recipe.kind}; it has {found}"
        ) from None
    return prior


def next_step_loss(model: Any, data: Sequences) -> float:
    """Mean of -log P over scored positions in nats, per symbol, or per step and channel."""
    total, number = 0.0, 0
    for _, batch in data.batches(TOKENS):
        total -= float(model.log_prob(batch.x, batch.mask)[batch.scored].sum())
        number += int(batch.scored.sum())
    return total / number / (1 if data.symbols else data.values.shape[1])


def classify_loss(model: Any, data: Sequences) -> float:
    """Mean cross-entropy in nats, per sequence."""
    total = 0.0
    for _, batch in data.batches(TOKENS):
        assert batch.labels is not None  # which fitting a classifier checks
        total -= float(np.take_along_axis(model.class_log_prob(batch.x, batch.mask), batch.labels[:, None], 1).sum())
    return total / len(data)
