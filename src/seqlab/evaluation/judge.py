"""One way of judging for every model and control: what a task's test examples give, as scores of each example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data.sequences import Sequences
from seqlab.evaluation import metrics
from seqlab.evaluation.metrics import Forecast, Forecaster, OneStep
from seqlab.evaluation.scores import Scores
from seqlab.families.base import Classifier, Predictor

TOKENS = 16384  # positions in a batch
DRAWS = 100  # one-step draws where the density is no Gaussian
POSITIONS = 6  # of a sequence at which CRPS and coverage look

# From a domain's values to the units of forecast errors. Returns are judged as returns, never as prices.
INVERSE: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {"none": None, "log1p": np.expm1, "log_return": None}


class Settings(Protocol):
    """A domain's `evaluate` section."""

    horizons: list[int]
    origins: int
    samples: int
    period: int


class Traits(Protocol):
    """What judging needs to know of a prepared domain."""

    @property
    def characters(self) -> bool: ...

    @property
    def transform(self) -> str: ...


def next_symbols(predictor: Predictor, domain: Traits, test: Sequences) -> Scores:
    """Scores of the next symbol."""
    characters = metrics.characters_of_bytes() if domain.characters else np.ones(predictor.space.size, np.int64)
    return metrics.next_symbols(predictor, test, characters, TOKENS)


def one_step(predictor: Predictor, sequences: Sequences, name: str, positions: int = POSITIONS) -> OneStep:
    """What the scores of the next vector are made of."""
    return metrics.one_step(predictor, sequences, TOKENS, positions, DRAWS, seed_of("judge", name))


def forecasts(
    predictor: Forecaster,
    domain: Traits,
    series: Sequences,
    settings: Settings,
    horizons: Sequence[int],
    origins: int,
    seed: int,
) -> list[Forecast]:
    """Rolling-origin forecasts in the units that a domain is judged in."""
    return metrics.rolling_origin(
        predictor,
        series,
        origins=origins,
        horizons=horizons,
        season=settings.period,
        samples=settings.samples,
        tokens=TOKENS * settings.samples // 8,
        seed=seed,
        inverse=INVERSE[domain.transform],
    )


def classes(classifier: Classifier, test: Sequences) -> Scores:
    """The classifier's answer for every labelled sequence."""
    return metrics.classify(classifier, test, TOKENS)
