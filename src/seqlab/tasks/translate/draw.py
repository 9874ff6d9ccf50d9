"""Translation: how some translations came about, step by step or by attention, as pages."""

from __future__ import annotations

from pathlib import Path

from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Shown


def draw(scores: Scores, shown: Shown, label: str, folder: Path) -> None:
    for name, text in shown.texts.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
