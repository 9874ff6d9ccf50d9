"""What an evaluation keeps beside a task's scores, of what systems are joined and judged by later.

* `valid.safetensors`, `test.safetensors`: forecasts as they are judged, quantiles of every origin, step and channel
* `recalibration.safetensors`: the map that was fitted on validation (conformal)
* `valid/`: a classifier's answers to the validation split, as scores are kept

Quantiles are what every forecast metric of the table is computed from: at eleven levels they take a third of the room
of 32 sample paths, an eighth where there are 256, and as many numbers as they are whatever is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqlab.artifacts import read_tensors, write_tensors
from seqlab.errors import UserError
from seqlab.evaluation import conformal, scores
from seqlab.evaluation.conformal import Recalibration
from seqlab.evaluation.metrics import CLASSIFY, Forecast
from seqlab.evaluation.scores import Predictions, Scores

VALID, TEST, MAP = "valid.safetensors", "test.safetensors", "recalibration.safetensors"
ANSWERS = "valid"


@dataclass(frozen=True)
class Forecasts:
    """Of one system on both splits, recalibrated. first: (S,) the first held-out position of each validation series."""

    valid: Sequence[Forecast]
    first: np.ndarray
    test: Sequence[Forecast]


@dataclass(frozen=True)
class Kept:
    """Of one task. Empty: the task keeps nothing."""

    forecasts: Forecasts | None = None
    recalibration: Recalibration | None = None
    answers: Predictions | None = None

    def write(self, folder: Path) -> None:
        """Nothing at all where there is nothing to keep."""
        if self.forecasts is not None:
            write_forecasts(self.forecasts.valid, folder / VALID, self.forecasts.first)
            write_forecasts(self.forecasts.test, folder / TEST)
        if self.recalibration is not None:
            conformal.write(self.recalibration, folder / MAP)
        if self.answers is not None:
            folder.mkdir(parents=True, exist_ok=True)
            scores.write(Scores(predictions={CLASSIFY: self.answers}), folder / ANSWERS)


def forecasts_of(folder: Path) -> Forecasts | None:
    """What a task kept in its folder; None where that is nothing. Raises UserError when it holds something else."""
    if not (folder / VALID).exists():
        return None
    first = read_tensors(folder / VALID).get("first")
    if first is None:
        raise UserError(f"{folder / VALID}: no 'first'; run the evaluate stage")
    return Forecasts(read_forecasts(folder / VALID), first, read_forecasts(folder / TEST))


def answers_of(folder: Path) -> Predictions | None:
    """A classifier's answers to validation; None where it kept none."""
    if not (folder / ANSWERS).exists():
        return None
    return scores.read(folder / ANSWERS).predictions[CLASSIFY]


def write_forecasts(forecasts: Sequence[Forecast], path: Path, first: np.ndarray | None = None) -> None:
    """As safetensors, one after another: truths as float64, quantiles as their float32 differences from the truth (of a
    step that was not recorded: from 0), so that what is kept is exact in units of the errors; 4 (L + 2) bytes a step
    and channel.
    """
    truth = np.concatenate([one.truth for one in forecasts])
    quantiles = np.concatenate([one.quantiles - _known(one.truth) for one in forecasts], axis=1)
    held = {} if first is None else {"first": first.astype(np.int64)}
    write_tensors(
        path,
        {
            "origins": np.array([(one.series, one.origin, len(one.truth)) for one in forecasts], np.int64),
            "truth": truth.astype(np.float64),
            "errors": quantiles.astype(np.float32),
            "scales": np.array([(one.absolute, one.squared) for one in forecasts], np.float64),
            **held,
        },
    )


def read_forecasts(path: Path) -> list[Forecast]:
    """What `write_forecasts` wrote. Raises UserError when the file is missing or holds something else."""
    tensors = read_tensors(path)
    if lacking := {"origins", "truth", "errors", "scales"} - set(tensors):
        raise UserError(f"{path}: no {min(lacking)!r}, found {', '.join(sorted(tensors))}; run the evaluate stage")
    found, start = [], 0
    for (series, origin, steps), (absolute, squared) in zip(tensors["origins"], tensors["scales"], strict=True):
        part = slice(start, start := start + int(steps))
        truth = tensors["truth"][part]
        quantiles = _known(truth) + tensors["errors"][:, part].astype(np.float64)
        found.append(Forecast(int(series), int(origin), truth, quantiles, absolute, squared))
    return found


def _known(truth: np.ndarray) -> np.ndarray:
    """0 where nothing was recorded."""
    return np.where(np.isnan(truth), 0, truth)
