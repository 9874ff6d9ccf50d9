"""Labelling: where labels are the spaces of Korean, kiwipiepy's own `space`, trained elsewhere on far more text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqlab.data.prepared import TARGET
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Test
from seqlab.tasks.label.judge import scores, texts_of

KOREAN = range(ord("가"), ord("힣") + 1)


def peers(test: Test) -> Mapping[str, Scores]:
    """None where the domain has no texts, or texts that are mostly not Korean."""
    texts = texts_of(test)
    if texts is None or 2 * sum(ord(c) in KOREAN for c in "".join(texts.sources)) < len("".join(texts.sources)):
        return {}
    return {"kiwi": scores(kiwi(texts.sources), test.sequences(TARGET))}


def kiwi(texts: list[str]) -> list[np.ndarray]:
    """Whether each character of each text, which has no spaces, begins a word, (T,) int64 each."""
    from kiwipiepy import Kiwi

    return [begins(text, made) for text, made in zip(texts, Kiwi(num_workers=1).space(texts), strict=True)]


def begins(text: str, made: str) -> np.ndarray:
    """(T,) int64: 1 at the characters of `text` before which `made`, the same text, has a space, and at the first."""
    words = made.split()
    assert "".join(words) == text, f"{made!r} is not {text!r} with spaces"
    return np.concatenate([(np.arange(len(word)) == 0).astype(np.int64) for word in words])
