"""Pretrain a family on a domain's source: next step, hidden ones, or denoising. In closed form: fit the prior."""

from __future__ import annotations

import warm  # noqa: F401
from fitting import Fitting
from stage import Stage, main

from seqlab.config import mismatch
from seqlab.data.domains.base import SOURCE, Prepared
from seqlab.data.subsets import within
from seqlab.errors import UserError
from seqlab.training.settings import Strategy


def pretrain(stage: Stage) -> float:
    assert stage.family is not None
    assert stage.seed is not None
    if reason := mismatch(stage.domain, stage.family):
        raise UserError(f"domain {stage.domain.name}, family {stage.family.name}: not applicable: {reason}")
    if not (stage.domain.translates or stage.family.can_predict(stage.objective)):
        raise UserError(f"objective: family {stage.family.name} cannot predict {stage.objective.predicts} positions")
    prepared = Prepared.open(stage.prepared)
    task = prepared.meta.pretraining if stage.domain.translates else stage.objective.task
    budget = stage.domain.pretrain
    fitting = Fitting(stage, {"prepared": stage.prepared})
    with stage.run({"prepared": stage.prepared}, follows={"prepare": stage.domain.name}, key=fitting.key) as run:
        with stage.writing(stage.pretrained) as made:
            trained = fitting.train(
                run,
                prepared,
                task,
                *(
                    within(
                        prepared.data(task, split, budget.noise)
                        if stage.domain.translates
                        else prepared.split(SOURCE, split),
                        stage.positions,
                        stage.seed,
                    )
                    for split in ("train", "valid")
                ),
                budget=budget,
                start=None,
                strategy=Strategy(init="scratch", learning_rate_factor=1.0),
                objective=stage.objective,
                out=made / "next_step",  # what a model of the target begins with, whatever was predicted
            )
            fitting.report(made)
        fitting.finished(run, stage.pretrained)
    return trained.validation


if __name__ == "__main__":
    main(pretrain, needs=("domain", "family", "seed"))
