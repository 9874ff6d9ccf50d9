"""How a domain's models are judged, as configured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seqlab.settings import Count, Decoding, Natural, Register


@dataclass(frozen=True)
class Evaluation:
    """How a domain's models are judged. headline: the metric that ranks each table; its keys say what is judged."""

    headline: dict[str, str]


@dataclass(frozen=True)
class SequenceEvaluation(Evaluation):
    """Of sequences: next step, forecasts and classes."""

    horizons: list[Count]  # steps ahead; empty: no forecasts
    origins: Natural  # rolling origins a series
    samples: Natural  # sample paths an origin
    period: Count  # declared seasonal period, in steps


@dataclass(frozen=True)
class PairEvaluation(Evaluation):
    """Of translations."""

    decoding: Decoding  # of every neural system
    tokenize: Literal["char", "ko-mecab"]  # of BLEU
    samples: Natural  # sentences of each test set that the report shows
    registers: dict[str, Register]  # that each test set is ordered in


@dataclass(frozen=True)
class Comparing:
    """How the systems of a suite are compared across its tasks, and joined."""

    baseline: str  # family that skill and win rate are counted against, from scratch
    rounds: Count  # of the greedy selection of an ensemble
