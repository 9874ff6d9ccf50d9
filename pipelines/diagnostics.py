"""Draw what `diagnose` found of every family: gradient norms by lag, and the horizons of the tasks of memory."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import warm  # noqa: F401
from stage import ROOT, errors_in_one_line, new_run

from seqlab import config
from seqlab.artifacts import read_json, replacing
from seqlab.evaluation import pictures

FOLDER, REPORT = Path("diagnostics"), Path("reports/diagnostics")
COLUMNS = ("task", "family", "horizon", "loss", "baseline", "solved", "steps")


def draw() -> None:
    tree = config.read_params(Path("params.yaml"))
    experiment = config.experiment(tree)
    found = {name: read_json(FOLDER / name / "memory.json") for name in experiment.diagnosed()}
    with (
        new_run(
            experiment.tracking,
            experiment="diagnostics",
            name=f"diagnostics {experiment.suite.name}",
            tags={"phase": "diagnostics", "suite": experiment.suite.name},
            tree={"diagnostics": tree["diagnostics"]},
            inputs={},
            follows={},
        ) as run,
        replacing(REPORT) as made,
    ):
        made.mkdir(parents=True)
        pictures.gradients({name: one["gradients"] for name, one in found.items()}, made / "gradients.png")
        pictures.horizons({name: one["tasks"] for name, one in found.items()}, made / "horizons.png")
        with open(made / "horizons.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for name, one in found.items():
                for task, lines in one["tasks"].items():
                    for line in lines:
                        writer.writerow({"task": task, "family": name, **line, "loss": f"{line['loss']:.6g}"})
        run.artifact(made, "pictures")


if __name__ == "__main__":
    os.chdir(ROOT)
    errors_in_one_line(draw)
