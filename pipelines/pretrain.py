"""Pretrain a family on a domain's source, self-supervised: next step, or denoising. In closed form: fit the prior."""

from __future__ import annotations

from fitting import Fitting
from stage import Stage, main

from seqlab.data.domains.base import SOURCE, Prepared
from seqlab.training.settings import Strategy


def pretrain(stage: Stage) -> float:
    prepared = Prepared.open(stage.prepared)
    task, budget = prepared.meta.pretraining, stage.domain.pretrain
    fitting = Fitting(stage, {"prepared": stage.prepared})
    with stage.run({"prepared": stage.prepared}, follows={"prepare": stage.domain.name}, key=fitting.key) as run:
        with stage.writing(stage.pretrained) as made:
            trained = fitting.train(
                run,
                prepared,
                task,
                {
                    split: prepared.data(task, split, budget.noise)
                    if stage.domain.translates
                    else prepared.split(SOURCE, split)
                    for split in ("train", "valid")
                },
                budget=budget,
                start=None,
                strategy=Strategy(init="scratch", learning_rate_factor=1.0),
                out=made / task,
            )
            fitting.report(made)
        fitting.finished(run, stage.pretrained)
    return trained.validation


if __name__ == "__main__":
    main(pretrain, needs=("domain", "family", "seed"))
