"""What every kind of translator answers with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Translated:
    """What a translator made of some texts, one translation each, and how, for whoever asks.

    unknown: of each text, how many words the translator does not know, and how many the text has. explained: HTML that
    says of some texts, by their indices, how the translations came about.
    """

    translations: list[str]
    unknown: Callable[[], list[tuple[int, int]]]
    explained: Callable[[Sequence[int]], str]
