"""Pretrain a family on a domain's source: next step, or hidden ones. In closed form: fit what becomes the prior."""

from __future__ import annotations

import warm  # noqa: F401
from fitting import Fitting
from stage import Stage, main

from seqlab.data.domains.base import SOURCE, Prepared
from seqlab.errors import UserError
from seqlab.training.settings import Strategy


def pretrain(stage: Stage) -> float:
    assert stage.family is not None
    if not stage.family.can_predict(stage.objective):
        raise UserError(f"objective: family {stage.family.name} cannot predict {stage.objective.predicts} positions")
    prepared = Prepared.open(stage.prepared)
    fitting = Fitting(stage, {"prepared": stage.prepared})
    with stage.run({"prepared": stage.prepared}, follows={"prepare": stage.domain.name}, key=fitting.key) as run:
        with stage.writing(stage.pretrained) as made:
            trained = fitting.train(
                run,
                prepared,
                stage.objective.task,
                prepared.split(SOURCE, "train"),
                prepared.split(SOURCE, "valid"),
                budget=stage.domain.pretrain,
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
