"""Classification: accuracy against confidence."""

from __future__ import annotations

from pathlib import Path

from seqlab.evaluation import metrics, pictures
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Shown


def draw(scores: Scores, shown: Shown, label: str, folder: Path) -> None:
    pictures.reliability({label: scores.predictions[metrics.CLASSIFY]}, folder / "reliability.png")
