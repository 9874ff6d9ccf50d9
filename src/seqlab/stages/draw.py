"""Draw what evaluation showed of a domain's models: a folder of pictures a cell. No model is loaded for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import read_json
from seqlab.evaluation import pictures, scores
from seqlab.scratch import replacing
from seqlab.tasks.judging import Shown, draw_of, judged_task


def draw(cells: Mapping[str, Iterable[str]], models: Path, scored: Path, shown: Path, out: Path) -> None:
    """Pictures of every cell of a domain, a folder FAMILY/STRATEGY/SEED each.

    cells: of each one's path below the folders of models, of scores and of what was shown, the tasks that judge it.
    """
    with replacing(out) as made:
        made.mkdir()
        for cell, tasks in cells.items():
            folder = made / cell.partition("/")[2]
            folder.mkdir(parents=True)
            report = read_json(models / cell / "report.json")
            draw_cell(cell, tasks, report, scored / cell, shown / cell, folder)


def draw_cell(
    label: str, tasks: Iterable[str], report: dict[str, Any], scored: Path, shown: Path, folder: Path
) -> None:
    """How training went, and what each task shows.

    The folder of a task that keeps nothing but its scores is empty, or is not there: DVC brings back no empty folder.
    """
    found = scores.read(scored)
    for task in tasks:
        if any(model in report for model in judged_task(task).models):
            draw_of(task)(found, Shown.read(shown / task), label, folder)
    for task, part in report.items():
        losses(task, part["details"].get("curves", []), folder)
        if growth := part["details"].get("growth"):
            pictures.growth(growth["t"], growth["counts"], growth["shares"], folder / f"growth-{task}.png")


def losses(task: str, curves: list[dict[str, float]], folder: Path) -> None:
    """Of a family that is trained in steps."""
    if len(curves) < 2:
        return
    named = {}
    for name in ("train_loss", "valid_loss"):
        points = np.array([(point["step"], point[name]) for point in curves if name in point])
        named[name.replace("_", " ")] = (points[:, 0], points[:, 1])
    pictures.loss_curves(named, f"{task} loss, nats", folder / f"loss-{task}.png")
