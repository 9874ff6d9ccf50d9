"""Fine-tune a cell on its target, task by task, from the source's weights or prior, or from scratch."""

from __future__ import annotations

from dataclasses import replace

import warm  # noqa: F401
from fitting import Fitting
from pretrain import pretrain
from stage import Stage, main

from seqlab.data.domains.base import Prepared, task_set
from seqlab.training.settings import Strategy


def finetune(stage: Stage) -> float:
    assert stage.strategy is not None
    assert stage.family is not None
    prepared = Prepared.open(stage.prepared)
    inputs = {"prepared": stage.prepared}
    follows = {"prepare": stage.domain.name}
    start = None
    if stage.strategy.init == "pretrained":
        if stage.out is not None:
            # By hand the family may differ from the pipeline's, so its source model is made here, beside the result.
            pretrain(replace(stage, verb="pretrain", strategy=None, strategy_name=None))
        start = stage.pretrained
        inputs["pretrained"] = start
        follows["pretrain"] = stage.pretrained_label
    fitting = Fitting(stage, inputs)
    with stage.run(inputs, follows=follows, key=fitting.key) as run:
        with stage.writing(stage.model) as made:
            losses = []
            for task in prepared.meta.tasks:
                budget = stage.domain.finetune[task]
                factor = stage.strategy.learning_rate_factor * budget.learning_rate_factor
                strategy, source = replace(stage.strategy, learning_rate_factor=factor), start
                if budget.start == "target" and stage.family.fit == "gradient":
                    strategy, source = Strategy("pretrained", budget.learning_rate_factor), made
                trained = fitting.train(
                    run,
                    prepared,
                    task,
                    task_set(task),
                    budget=budget,
                    start=source and source / "next_step",
                    strategy=strategy,
                    out=made / task,
                )
                losses.append(trained.validation)
            fitting.report(made)
        fitting.finished(run, stage.model)
    return losses[0]


if __name__ == "__main__":
    main(finetune)
