"""Pretrain a family on a domain's source: next step, hidden ones, or denoising. In closed form: fit the prior."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlab.data.prepared import Prepared
from seqlab.data.subsets import within
from seqlab.scratch import replacing
from seqlab.settings import Family, Objective, SourceBudget, Strategy, TrainerSettings
from seqlab.stages.fitting import Fitting
from seqlab.training.resume import Checkpoint
from seqlab.training.task import trained_task
from seqlab.training.trained import Trained
from seqlab.watch import NOBODY, Watch

SCRATCH = Strategy(init="scratch", learning_rate_factor=1.0)


def pretrain(
    prepared: Path,
    out: Path,
    *,
    domain: str,
    family: Family,
    task: str,
    objective: Objective,
    budget: SourceBudget,
    steps: float,
    positions: int | None,
    seed: int,
    trainer: TrainerSettings,
    checkpoint: Checkpoint,
    bound: Mapping[str, Any] | None = None,
    watch: Watch = NOBODY,
) -> Mapping[str, Trained]:
    """Write the model of the source to `out`. task: what is predicted there. See `Fitting` for the rest.

    Raises UserError when the domain was not prepared, and what the family's fit raises.
    """
    fitting = Fitting(
        prepared=Prepared.open(prepared),
        domain=domain,
        family=family,
        steps=steps,
        positions=positions,
        seed=seed,
        trainer=trainer,
        checkpoint=checkpoint,
        watch=watch,
        bound=bound or {},
    )
    train, valid = (
        within(trained_task(task).source(fitting.prepared, split, budget), positions, seed)
        for split in ("train", "valid")
    )
    with replacing(out) as made:
        fitting.train(
            task,
            train,
            valid,
            budget=budget,
            start=None,
            strategy=SCRATCH,
            objective=objective,
            out=made / "next_step",  # what a model of the target begins with, whatever was predicted
        )
        return fitting.report(made)
