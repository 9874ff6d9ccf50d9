"""Fine-tune a cell on its target, task by task, from the source's weights or prior, or from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seqlab.data.prepared import Prepared
from seqlab.data.sequences import Data
from seqlab.data.subsets import arranged, share, within
from seqlab.errors import UserError
from seqlab.scratch import replacing
from seqlab.settings import Family, Strategy, TaskBudget, TrainerSettings, named
from seqlab.stages.fitting import Fitting
from seqlab.training.resume import Checkpoint
from seqlab.training.task import trained_task
from seqlab.training.trained import Trained
from seqlab.watch import NOBODY, Watch


def finetune(
    prepared: Path,
    out: Path,
    *,
    domain: str,
    family: Family,
    budgets: Mapping[str, TaskBudget],
    strategy: Strategy,
    start: Path | None,
    teacher: Path | None,
    fraction: float,
    steps: float,
    positions: int | None,
    seed: int,
    trainer: TrainerSettings,
    checkpoint: Checkpoint,
    bound: Mapping[str, Any] | None = None,
    members: Mapping[str, Path] | None = None,
    watch: Watch = NOBODY,
) -> Mapping[str, Trained]:
    """Write a tuned model a task to `out`.

    budgets: by task. start: the source's model, or a file of tensors, where the strategy begins with one. teacher: the
    tuned models that teach, where it has one. fraction: of the target's training examples. See `Fitting` for the rest.

    Raises UserError when the domain was not prepared or a model is missing, and what the family's fit raises.
    """
    for name, path in (("source's model", start), ("teacher", teacher)):
        if path is not None and not path.exists():
            raise UserError(f"{path}: missing; expected the {name} of {domain}/{family.name}")
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
        members=members or {},
    )
    with replacing(out) as made:
        for task in tasks_of(fitting, budgets, strategy):
            budget = budgets[task]
            factor = strategy.learning_rate_factor * budget.learning_rate_factor
            used, source = replace(strategy, learning_rate_factor=factor), start
            if budget.start == "target" and family.fit == "gradient":
                used = replace(strategy, init="pretrained", learning_rate_factor=budget.learning_rate_factor)
                source = made / "next_step"
            tune(
                fitting,
                task,
                fraction,
                budget=budget,
                start=source,
                strategy=used,
                out=made / task,
                teacher=teacher and teacher / task,
            )
        return fitting.report(made)


def tasks_of(fitting: Fitting, budgets: Mapping[str, TaskBudget], strategy: Strategy) -> list[str]:
    """Those of the domain that its data allow and the family does; of shuffled data the next step; for pseudo-labels
    the classes, and what their training begins with.

    Raises UserError when the data have a task that has no budget.
    """
    meta = fitting.prepared.meta
    if lacking := [task for task in meta.tasks if task in fitting.family.tasks and task not in budgets]:
        raise UserError(f"domain.finetune.{lacking[0]}: missing; the data of {fitting.domain} have this task")
    found = [task for task in budgets if task in fitting.family.tasks and trained_task(task).possible(meta)]
    if strategy.order == "shuffled":
        return ["next_step"]
    if strategy.pseudo_labels is None:
        return found
    begins = budgets["classify"].start == "target" and fitting.family.fit == "gradient"
    return [task for task in found if task == "classify" or begins]


def tune(fitting: Fitting, task: str, fraction: float, **how: Any) -> None:
    """Train one task on a share of the target, and again with pseudo-labels where the strategy has rounds."""
    of, seed, strategy = trained_task(task), fitting.seed, how["strategy"]
    whole, valid = (
        within(of.data(fitting.prepared, split, how["budget"]), fitting.positions, seed) for split in ("train", "valid")
    )
    taken, rest = share(whole, fraction, seed) if fraction < 1 else (None, None)
    labelled = whole if taken is None else whole.subset(taken)
    labelled, valid = (
        arranged(part, strategy.order, fitting.domain, split) for part, split in ((labelled, "train"), (valid, "valid"))
    )

    def again(known: Data, name: str) -> Trained:
        return fitting.train(task, known, valid, name=name, **how)

    trained = fitting.train(task, labelled, valid, **how)
    if strategy.pseudo_labels is not None and task == "classify" and rest is not None:
        # By name: who has no such labels does not depend on how they are made.
        rounds = named("seqlab.training.pseudo_labels.rounds")
        fitting.trained[task] = rounds(
            trained,
            labelled,
            whole.subset(rest),
            strategy.pseudo_labels,
            how["out"],
            fitting.trainer,
            again,
            fitting.watch,
        )
