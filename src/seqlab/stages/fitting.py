"""What pretrain and finetune share: train one task after another, and report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seqlab.artifacts import seed_of, write_json
from seqlab.data.prepared import Prepared
from seqlab.data.sequences import Data
from seqlab.families import saved
from seqlab.families.saved import Recipe
from seqlab.settings import Budget, Family, Objective, Strategy, TrainerSettings
from seqlab.training import job
from seqlab.training.job import Job
from seqlab.training.resume import Checkpoint
from seqlab.training.task import trained_task
from seqlab.training.trained import Trained
from seqlab.watch import Watch


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """The trainings of one stage.

    domain: its name, of which the seeds are made. steps: a factor of every budget's. positions: of each training and
    validation set, about; None: all.
    """

    prepared: Prepared
    domain: str
    family: Family
    steps: float
    positions: int | None
    seed: int
    trainer: TrainerSettings
    checkpoint: Checkpoint
    watch: Watch
    trained: dict[str, Trained] = field(default_factory=dict)

    def train(
        self,
        task: str,
        train: Data,
        valid: Data,
        *,
        budget: Budget,
        start: Path | None,
        strategy: Strategy,
        out: Path,
        teacher: Path | None = None,
        objective: Objective | None = None,
        name: str | None = None,
    ) -> Trained:
        """Train one task, and save the model under `out`.

        objective: of pretraining. name: of this training, where a task has several.
        """
        meta, family, of = self.prepared.meta, self.family, trained_task(task)
        name = name or task
        recipe = Recipe(
            target=family.component.target,
            parameters=family.sized(strategy.sizes),
            fit=family.fit,
            kind=meta.kind,
            size=meta.size,
            classes=of.classes(self.prepared),
            around=of.around(family.fit),
        )

        def log(losses: dict[str, float], step: int) -> None:
            self.watch.metrics({f"{name}/{key}": value for key, value in losses.items()}, step)

        trained = job.run(
            Job(
                recipe=recipe,
                task=task,
                train=train,
                valid=valid,
                prepared=self.prepared.folder,
                start=start,
                teacher=teacher,
                objective=objective,
                strategy=strategy,
                budget=budget.scaled(self.steps, self.trainer.max_steps),
                optimizer=family.optimizer,
                trainer=self.trainer,
                # Equal for every strategy of a cell, so that a strategy and its control differ in nothing else.
                seed=seed_of(self.seed, self.domain, family.name, task),
                checkpoint=self.checkpoint.of(name),
                log=log,
            )
        )
        saved.save(out, recipe, trained.tensors, trained.files)
        for file, path in of.files(self.prepared).items():
            shutil.copyfile(path, out / file)
        self.trained[task] = trained
        loss = trained.validation
        self.watch.metrics(
            {f"{name}/{key}": value for key, value in asdict(trained.cost).items()}
            | ({} if loss is None else {f"{name}/best_valid_loss": loss})
        )
        self.watch.text(json.dumps(trained.report, indent=2), f"report/{name}.json")
        return trained

    def report(self, folder: Path) -> Mapping[str, Trained]:
        """Write report.json: what each training did, equal on every run."""
        parts: dict[str, Any] = {
            task: {"parameters": one.parameters, "steps": one.steps, "flops": one.flops, "details": one.report}
            for task, one in self.trained.items()
        }
        write_json(folder / "report.json", parts)
        return self.trained
