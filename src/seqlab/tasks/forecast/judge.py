"""Forecasting: errors and intervals at each horizon from rolling origins, in the units that a domain is judged in."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlab.data.prepared import TARGET, Prepared
from seqlab.data.sequences import Sequences
from seqlab.evaluation import conformal, judge, metrics
from seqlab.evaluation.kept import Forecasts, Kept
from seqlab.evaluation.metrics import Forecast
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Judged, JudgedTask, Shown, Test

SERIES = 4  # whose forecasts are shown
FILMS = 3  # whose frames are shown


class Judge(JudgedTask):
    models = ("forecast", "next_step")

    def judge(self, model: Any, test: Test) -> Judged:
        if test.order == "shuffled" or not test.settings.horizons:
            return Judged(Scores())
        prepared, sequences = test.prepared, test.sequences(TARGET)
        valid = test.sequences(TARGET, "valid")
        make = conformal.made_by(model, prepared.meta, test.settings, test.name)
        raw, made, known, found = conformal.recalibrated(make, prepared.meta, valid, sequences, test.settings)
        arrays = longest(made, sequences, prepared.meta.transform)
        if prepared.meta.frame:
            arrays |= films(model, prepared, sequences, test.seed)
        assert valid.first is not None
        horizons = test.settings.horizons
        scores = metrics.forecast_scores(made, horizons) | metrics.raw_scores(raw, horizons)
        return Judged(scores, Shown(arrays), kept=Kept(Forecasts(known, valid.first, made), found))


def longest(made: list[Forecast], test: Sequences, transform: str) -> dict[str, np.ndarray]:
    """The longest forecast of a few series, evenly spread over the panel, and the values before it."""
    by_series = {one.series: one for one in sorted(made, key=lambda one: len(one.truth))}
    chosen = [by_series[k] for k in sorted(by_series)][:: max(1, len(by_series) // SERIES)][:SERIES]
    raw = judge.INVERSE[transform] or (lambda values: values)
    found: dict[str, np.ndarray] = {}
    for one in chosen:
        past = raw(np.asarray(test[one.series][: one.origin], np.float64))
        parts = {"truth": one.truth, "quantiles": one.quantiles, "past": past[-3 * len(one.truth) :]}
        found |= {f"forecast/{one.series}/{one.origin}/{name}": part for name, part in parts.items()}
    return found


def films(model: Any, prepared: Prepared, test: Sequences, seed: int) -> dict[str, np.ndarray]:
    """(T, H, W): what came after the context of a few test films, and what the model sees there."""
    assert test.first is not None
    found = {}
    for i in np.unique(np.linspace(0, len(test) - 1, FILMS).astype(np.int64)):
        batch, start = test.batch(np.array([i])), int(test.first[i])
        past = batch.x[:, :start], batch.mask[:, :start]
        drawn = model.forecast(*past, batch.x.shape[1] - start, 1, seed)[0, 0]
        if test.centre is not None and test.scale is not None:
            drawn = drawn * test.scale[i] + test.centre[i]
        for name, film in (("truth", test[i][start:]), ("sampled", drawn)):
            found[f"film/{i}/{name}"] = prepared.frames(film).astype(np.float32)
    return found
