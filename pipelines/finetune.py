"""Fine-tune a cell on its target, task by task, from the source's weights or prior, or from scratch."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import warm  # noqa: F401
from fitting import Fitting
from pretrain import pretrain
from stage import Stage, main

from seqlab.config import not_applicable
from seqlab.data.domains.base import Prepared
from seqlab.data.order import arranged
from seqlab.data.subsets import share, within
from seqlab.errors import UserError
from seqlab.families import saved
from seqlab.tracking import Run
from seqlab.training.pseudo_labels import pseudo_labelled
from seqlab.training.trained import Trained


def finetune(stage: Stage) -> float:
    assert stage.strategy is not None
    assert stage.family is not None
    if reason := not_applicable(stage.domain, stage.family, stage.strategy, stage.objective, stage.fraction):
        raise UserError(f"strategy {stage.strategy_name} of family {stage.family.name}: not applicable: {reason}")
    prepared = Prepared.open(stage.prepared)
    inputs = {"prepared": stage.prepared}
    follows = {"prepare": stage.domain.name}
    start = None
    if stage.strategy.init == "pretrained":
        if stage.out is not None:
            # By hand the family may differ from the pipeline's, so its source model is made here, beside the result.
            pretrain(replace(stage, verb="pretrain", strategy=None, strategy_name=None))
        inputs["pretrained"] = stage.pretrained
        start = stage.pretrained / "next_step"
        follows["pretrain"] = stage.pretrained_label
    elif stage.strategy.init != "scratch":
        start = inputs["pretrained"] = Path(stage.strategy.init)
    if stage.teacher is not None:
        inputs["teacher"] = stage.teacher
    for name, path in inputs.items():
        if not path.exists():
            raise UserError(f"{path}: missing; expected what is the {name} of {stage.label}")
    fitting = Fitting(stage, inputs)
    with stage.run(inputs, follows=follows, key=fitting.key) as run:
        with stage.writing(stage.model) as made:
            for task in tasks_of(stage, prepared):
                budget = stage.domain.finetune[task]
                factor = stage.strategy.learning_rate_factor * budget.learning_rate_factor
                strategy, source = replace(stage.strategy, learning_rate_factor=factor), start
                if budget.start == "target" and stage.family.fit == "gradient":
                    factor = budget.learning_rate_factor
                    strategy = replace(stage.strategy, init="pretrained", learning_rate_factor=factor)
                    source = made / "next_step"
                tune(
                    fitting,
                    run,
                    prepared,
                    task,
                    budget=budget,
                    start=source,
                    strategy=strategy,
                    out=made / task,
                    teacher=stage.teacher and stage.teacher / task,
                )
            fitting.report(made)
        fitting.finished(run, stage.model)
    return next(iter(fitting.trained.values())).validation


def tasks_of(stage: Stage, prepared: Prepared) -> list[str]:
    """All; of shuffled data the next step; for pseudo-labels the classes, and what their training begins with."""
    assert stage.strategy is not None
    assert stage.family is not None
    if stage.strategy.order == "shuffled":
        return ["next_step"]
    if stage.strategy.pseudo_labels is None:
        return prepared.meta.tasks
    begins = stage.domain.finetune["classify"].start == "target" and stage.family.fit == "gradient"
    return [task for task in prepared.meta.tasks if task == "classify" or begins]


def tune(fitting: Fitting, run: Run, prepared: Prepared, task: str, **how: Any) -> None:
    """Train one task on the stage's share of the target, and again with pseudo-labels where the strategy has rounds.

    Every round begins anew, so that an early mistake is not handed on, and the best one on validation is kept.
    """
    stage = fitting.stage
    assert stage.seed is not None
    whole, valid = (within(prepared.data(task, split), stage.positions, stage.seed) for split in ("train", "valid"))
    taken, rest = share(whole, stage.fraction, stage.seed) if stage.fraction < 1 else (None, None)
    labelled = whole if taken is None else whole.subset(taken)
    order = how["strategy"].order
    labelled, valid = (
        arranged(part, order, stage.domain.name, split) for part, split in ((labelled, "train"), (valid, "valid"))
    )
    trained = [fitting.train(run, prepared, task, labelled, valid, **how)]
    settings = how["strategy"].pseudo_labels
    if settings is None or task != "classify" or rest is None:
        return
    rounds: list[dict[str, Any]] = []
    for number in range(1, settings.rounds + 1):
        classifier = saved.load(how["out"], stage.trainer)
        known, found = pseudo_labelled(classifier, labelled, whole.subset(rest), settings.confidence)
        rounds.append({"round": number, **found})
        run.metrics({f"pseudo_labels/{key}": value for key, value in found.items() if value is not None}, number)
        if not found["accepted"]:
            break
        trained.append(fitting.train(run, prepared, task, known, valid, name=f"{task}_round{number}", **how))
    best = fitting.trained[task] = best_of(trained, rounds)
    saved.save(how["out"], saved.load_recipe(how["out"]), best.tensors)


def best_of(trained: list[Trained], rounds: list[dict[str, Any]]) -> Trained:
    """The training with the lowest validation loss, at the cost of all of them."""
    best = min(trained, key=lambda one: inf if one.validation is None else one.validation)
    costs = [one.cost for one in trained]
    return replace(
        best,
        report=best.report | {"pseudo_labels": rounds, "kept_round": trained.index(best)},
        steps=sum(one.steps for one in trained),
        flops=None if best.flops is None else sum(one.flops or 0 for one in trained),
        cost=replace(best.cost, seconds=sum(cost.seconds for cost in costs)),
    )


if __name__ == "__main__":
    main(finetune)
