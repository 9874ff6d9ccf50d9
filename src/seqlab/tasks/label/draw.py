"""Labelling: texts with the spaces that are true and those that a model put, as a page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Shown

# As proof-readers mark what is missing (a caret) and what is to be closed up; colours of Okabe and Ito (2008).
PAGE = """<!doctype html>
<html lang="ko">
<meta charset="utf-8">
<title>{label}</title>
<style>
body {{ font: 16px/1.8 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
.missing::after {{ content: "‸"; color: #0072B2; font-weight: bold; }}
.wrong::after {{ content: "⁐"; color: #D55E00; font-weight: bold; }}
</style>
<h1>{label}</h1>
<p>A space is where the model put one and it is right; <span class="missing"></span> a space that it did not put;
<span class="wrong"></span> a space that it put and that is none.</p>
<ol>
{lines}
</ol>
</html>
"""


def draw(scores: Scores, shown: Shown, label: str, folder: Path) -> None:
    numbers = sorted(int(key.removeprefix("true/")) for key in shown.texts if key.startswith("true/"))
    if numbers:
        lines = [f"<li>{marked(shown.texts[f'true/{i}'], shown.texts[f'predicted/{i}'])}</li>" for i in numbers]
        page = PAGE.format(label=escape(label), lines="\n".join(lines))
        (folder / "spaces.html").write_text(page, encoding="utf-8")


def marked(true: str, predicted: str) -> str:
    """Two spacings of one text as HTML."""
    wanted, found = places(true), places(predicted)
    parts = []
    for i, letter in enumerate("".join(true.split())):
        if i in wanted & found:
            parts.append(" ")
        elif i in wanted | found:
            parts.append(f'<span class="{"missing" if i in wanted else "wrong"}"></span>')
        parts.append(escape(letter))
    return "".join(parts)


def places(text: str) -> set[int]:
    """How many characters stand before each space."""
    words = text.split()
    return {sum(map(len, words[:i])) for i in range(1, len(words))}
