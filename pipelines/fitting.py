"""What pretrain and finetune share: train one task after another, resume after a kill, report, note the cost."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stage import PRIVATE, ROOT, Stage, content_hash

from seqlab.artifacts import read_json, write_json
from seqlab.data.domains.base import Prepared
from seqlab.data.pairs import Data
from seqlab.data.vocabulary import NAME as VOCABULARY
from seqlab.families import saved
from seqlab.families.saved import Recipe
from seqlab.tracking import Run
from seqlab.training import resume
from seqlab.training.settings import Budget, Objective, Strategy
from seqlab.training.trained import Trained


class Fitting:
    """The trainings of one stage. A killed one leaves its checkpoints, and the next with equal inputs resumes there.

    `key` is the tracked run that the resumed stage continues.
    """

    def __init__(self, stage: Stage, inputs: dict[str, Path]):
        resume.die_with_parent()
        self.stage = stage
        sources = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "pipelines").glob("*.py")])
        code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
        what = [stage.verb, stage.label, stage.tree, {k: content_hash(v) for k, v in inputs.items()}, code]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        self.folder = PRIVATE / "checkpoints" / digest[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / "run.json"
        if not note.exists():
            write_json(note, {"run": uuid.uuid4().hex})
        self.key: str = read_json(note)["run"]
        self.trained: dict[str, Trained] = {}

    def train(
        self,
        run: Run,
        prepared: Prepared,
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

        objective: of the task `masked`. name: of this training, where a task has several.
        """
        stage, meta = self.stage, prepared.meta
        assert stage.family is not None
        family = stage.family
        recipe = Recipe(
            target=family.component.target,
            parameters=family.sized(strategy.sizes),
            fit=family.fit,
            kind=meta.kind,
            size=meta.size,
            classes=len(meta.classes) if task == "classify" else None,
        )

        def log(losses: dict[str, float], step: int) -> None:
            run.metrics({f"{name or task}/{key}": value for key, value in losses.items()}, step)

        trained: Trained = importlib.import_module(f"seqlab.training.{family.fit}.train").train(
            recipe,
            task,
            train,
            valid,
            prepared=prepared.folder,
            start=start,
            teacher=teacher,
            objective=objective,
            strategy=strategy,
            budget=budget.scaled(stage.steps, stage.trainer.max_steps),
            optimizer=family.optimizer,
            trainer=stage.trainer,
            seed=stage.seed_for(task),
            checkpoint=self.folder / (name or task),
            log=log,
        )
        saved.save(out, recipe, trained.tensors, trained.files)
        if stage.domain.translates:
            shutil.copyfile(prepared.folder / VOCABULARY, out / VOCABULARY)
        self.trained[task] = trained
        loss = trained.validation
        run.metrics(
            {f"{name or task}/{key}": value for key, value in asdict(trained.cost).items()}
            | ({} if loss is None else {f"{name or task}/best_valid_loss": loss})
        )
        run.text(json.dumps(trained.report, indent=2), f"report/{name or task}.json")
        print(
            f"{stage.verb} {stage.label}: {name or task}:"
            + ("" if loss is None else f" validation {loss:.4f} nats,")
            + f" {trained.cost.seconds:.1f} s"
        )
        return trained

    def report(self, folder: Path) -> None:
        """report.json: what each training did, equal on every run."""
        parts: dict[str, Any] = {
            task: {"parameters": one.parameters, "steps": one.steps, "flops": one.flops, "details": one.report}
            for task, one in self.trained.items()
        }
        write_json(folder / "report.json", parts)

    def finished(self, run: Run, out: Path) -> None:
        """The outputs stand under their names: log them, note the cost, and drop what a resumption would need."""
        run.artifact(out, "model")
        cost = {task: asdict(one.cost) for task, one in self.trained.items()}
        self.stage.finished(run, cost, {"model": out})
        resume.finish(self.folder)
