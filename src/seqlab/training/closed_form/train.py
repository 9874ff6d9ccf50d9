"""A family in closed form from recipe to tensors: the same verb as `training.gradient.train`, with no torch."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.cost import Cost, peak_memory_mb, product_rate
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.families import loading, saved
from seqlab.families.base import Use
from seqlab.families.saved import Recipe
from seqlab.settings import TrainerSettings
from seqlab.threads import pin
from seqlab.training.job import Job
from seqlab.training.task import trained_task
from seqlab.training.trained import Trained


def train(job: Job) -> Trained:
    """Fit what the recipe builds, with the source's model in the folder `start` as prior unless it starts from scratch.

    Budget, optimiser, seed and checkpoint mean nothing here. Raises UserError when a set is empty, when the prior is
    missing or of another family, and what the family's fit raises.
    """
    recipe, train, valid = job.recipe, job.train, job.valid
    assert isinstance(train, Sequences)
    pin(job.trainer.threads)
    for name, data in (("training", train), ("validation", valid)):
        if not len(data):
            raise UserError(f"{name} set: it is empty, expected at least one sequence")
    prior = None
    if job.strategy.init != "scratch":
        if job.start is None:
            raise UserError(
                f"strategy.init: {job.strategy.init!r} needs a model of the source; run the pretrain stage first"
            )
        tensors = job.start.suffix == saved.TENSORS
        prior = own_prior(recipe, job.start) if tensors else pretrained_prior(recipe, job.start, job.trainer)
    model = recipe.build()
    began = time.perf_counter()
    report = model.fit(train, valid, prior)
    seconds = time.perf_counter() - began
    flops = model.flops(train)
    pace = (flops or 0.0) / seconds
    return Trained(
        tensors=model.state(),
        report=report,
        validation=trained_task(job.task).validation_loss(model, valid),
        parameters=model.parameters,
        steps=0,
        flops=flops,
        cost=Cost(
            seconds=seconds,
            sequences_per_second=len(train) / seconds,
            symbols_per_second=int(train.offsets[-1]) / seconds,
            peak_memory_mb=peak_memory_mb(),
            flops_per_second=pace,
            product_share=pace / product_rate(),
        ),
    )


def pretrained_prior(recipe: Recipe, folder: Path, trainer: TrainerSettings) -> Any:
    """The source's model. Raises UserError when it is of another family or of other data."""
    found = saved.load_recipe(folder)
    if (found.target, found.kind, found.size) != (recipe.target, recipe.kind, recipe.size):
        raise UserError(
            f"{folder}: it holds {found.target} on {found.size} {found.kind}, "
            f"expected {recipe.target} on {recipe.size} {recipe.kind}"
        )
    if found.around != recipe.around:
        ours, theirs = (one.around or "the family itself" for one in (recipe, found))
        raise UserError(f"{folder}: it holds {theirs}, expected {ours}: a prior in closed form is of the same task")
    return loading.load(folder, Use(trainer))


def own_prior(recipe: Recipe, path: Path) -> Any:
    """A user's own tensors, as the family writes them. Raises UserError naming those that were found instead."""
    # Under Bayes' rule every class has the prior; what is built around a family has its own.
    prior = (recipe if recipe.around else replace(recipe, classes=None)).build()
    tensors = saved.tensors_of(path)
    one = np.zeros((1, 2), np.int64) if recipe.space.symbols else np.zeros((1, 2, recipe.size), np.float32)
    try:
        prior.load_state(tensors)
        # Tensors of other data load, and fail where they are used.
        if hasattr(prior, "log_prob"):
            prior.log_prob(one, np.ones((1, 2), bool))
        elif hasattr(prior, "label_log_prob"):
            prior.label_log_prob(one, np.ones((1, 2), bool))
        else:
            prior.forecast(one, np.ones((1, 2), bool), 1, 1, 0)
    except (KeyError, IndexError, ValueError):
        found = ", ".join(f"{name} {part.shape}" for name, part in sorted(tensors.items())[:4])
        raise UserError(
            f"{path}: not what {recipe.target} writes for {recipe.size} {recipe.kind}; it has {found}"
        ) from None
    return prior
