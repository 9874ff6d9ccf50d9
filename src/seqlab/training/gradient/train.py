"""A gradient family from recipe to tensors: build, take over the source's weights, fit."""

from __future__ import annotations

from dataclasses import asdict

import torch

from seqlab.families import saved
from seqlab.families.base import Use
from seqlab.settings import named
from seqlab.threads import pin
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.warm_start import begin
from seqlab.training.job import Job
from seqlab.training.trained import Trained


def train(job: Job) -> Trained:
    """Fit what the recipe builds. See `fit` for what it raises."""
    assert job.optimizer is not None  # what makes it a gradient family
    pin(job.trainer.threads)
    torch.manual_seed(job.seed)
    model = job.recipe.build()
    data = job.train
    if job.recipe.kind == "vectors":
        # By name, here and below: who has no vectors, trains all parameters alike or has no teacher does not depend on
        # how these are dealt with.
        named("seqlab.training.gradient.carry.set_carry")(model.ends, data)
    tensors = None if job.start is None else saved.tensors_of(job.start)
    optimizer, loaded = begin(model, job.strategy, tensors, job.optimizer)
    loss, training_loss = loss_of(job.task, job.objective), None
    loss.attach(model)
    tuning = (
        named("seqlab.training.gradient.tuning.tuning_of")(model, job.strategy, model.adapts)
        if job.strategy.grouped
        else None
    )
    if (distillation := job.strategy.distillation) is not None:
        assert job.teacher is not None  # which the configuration requires
        teaching = named("seqlab.training.gradient.distil.teaching")(
            job.task,
            named("seqlab.families.loading.load")(job.teacher, Use(job.trainer, distillation.decoding)),
            distillation,
        )
        data, training_loss = teaching.data(data, job.seed), teaching.loss()
    report, cost = fit(
        model,
        loss,
        data,
        job.valid,
        budget=job.budget,
        optimizer=optimizer,
        trainer=job.trainer,
        seed=job.seed,
        checkpoint=job.checkpoint,
        log=job.log,
        tuning=tuning,
        training_loss=training_loss,
    )
    details = {}
    if tuning is not None:
        details["trained_parameters"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        tuning.merge(model)
    return Trained(
        tensors={name: part.numpy() for name, part in model.state_dict().items()},
        report=asdict(report) | details | ({"transfer": asdict(loaded)} if loaded else {}),
        validation=report.best_loss,
        parameters=sum(part.numel() for part in model.parameters()),
        steps=report.steps,
        flops=float(report.flops),
        cost=cost,
    )
