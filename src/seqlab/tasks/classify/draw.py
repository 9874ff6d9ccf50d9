"""Classification: accuracy against confidence, and which classes are taken for which."""

from __future__ import annotations

from pathlib import Path

from seqlab.evaluation import metrics, pictures
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Shown


def draw(scores: Scores, shown: Shown, label: str, folder: Path) -> None:
    found = scores.predictions[metrics.CLASSIFY]
    pictures.reliability({label: found}, folder / "reliability.png")
    guesses, classes = found.log_probs.argmax(1), found.log_probs.shape[1]
    pictures.confusion(found.labels, guesses, classes, label, folder / "confusion.png")
