"""Forecasting: the last value, last year's, the drift, the mean; of returns, none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from seqlab.data.prepared import TARGET
from seqlab.evaluation import conformal, metrics
from seqlab.evaluation import controls as made
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Test


def controls(test: Test) -> Mapping[str, Scores]:
    meta, settings = test.prepared.meta, test.settings
    if not settings.horizons:
        return {}
    # Where values are returns, zero means something: so controls see values, not standardised ones.
    valid, values = (replace(test.sequences(TARGET, part), centre=None, scale=None) for part in ("valid", "test"))
    found, horizons = {}, settings.horizons
    for name, forecaster in made.forecasters(settings.period, returns=meta.transform == "log_return").items():
        make = conformal.made_by(forecaster, meta, settings, name)
        raw, mended, *_ = conformal.recalibrated(make, meta, valid, values, settings)
        found[name] = metrics.forecast_scores(mended, horizons) | metrics.raw_scores(raw, horizons)
    return found
