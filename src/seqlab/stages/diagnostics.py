"""Draw what `diagnose` found of every family: gradient norms by lag, and the horizons of the tasks of memory."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from seqlab.artifacts import read_json
from seqlab.evaluation import pictures
from seqlab.scratch import replacing

COLUMNS = ("task", "family", "horizon", "loss", "baseline", "solved", "steps")


def diagnostics(families: Sequence[str], diagnosed: Path, out: Path) -> None:
    """Two pictures and a table of horizons. diagnosed: a folder a family."""
    found = {name: read_json(diagnosed / name / "memory.json") for name in families}
    with replacing(out) as made:
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
