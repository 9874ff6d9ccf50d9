"""Forecasting: medians and intervals against the truth; films against what was sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from seqlab.evaluation import pictures
from seqlab.evaluation.metrics import Forecast
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Shown


def draw(scores: Scores, shown: Shown, label: str, folder: Path) -> None:
    if forecasts := parted(shown.part("forecast")):
        nothing = np.empty(0)
        made = [
            Forecast(int(series), int(origin), one["truth"], one["quantiles"], nothing, nothing)
            for (series, origin), one in ((name.split("/"), one) for name, one in forecasts.items())
        ]
        past = [one["past"] for one in forecasts.values()]
        pictures.forecasts(made, past, [f"series {one.series}" for one in made], folder / "forecasts.png")
    if films := parted(shown.part("film")):
        rows = [
            row for i, film in films.items() for row in ((f"test {i}", film["truth"]), ("sampled", film["sampled"]))
        ]
        pictures.frames(rows, folder / "frames.png")


def parted(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Arrays called NAME/PART by name and part, names in order of their numbers."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key in sorted(arrays, key=lambda key: [int(word) if word.isdigit() else -1 for word in key.split("/")]):
        name, _, part = key.rpartition("/")
        found.setdefault(name, {})[part] = arrays[key]
    return found
