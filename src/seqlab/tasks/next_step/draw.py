"""Next step: calibration of a density, what was written on, and where a family that attends looks."""

from __future__ import annotations

from pathlib import Path

from seqlab.evaluation import pictures
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Shown


def draw(scores: Scores, shown: Shown, label: str, folder: Path) -> None:
    if (transform := shown.arrays.get("transform")) is not None:
        pictures.coverage({label: transform}, folder / "calibration.png")
    for example, maps in shown.part("attention").items():
        letters = list(shown.texts[f"positions/{example}"]) or None
        pictures.attention(maps, letters, f"test {example}", folder / f"attention-{example}.png")
    if (text := shown.texts.get("continuations.md")) is not None:
        (folder / "continuations.md").write_text(text, encoding="utf-8")
