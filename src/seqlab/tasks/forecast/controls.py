"""Forecasting: the last value, last year's, the drift, the mean; of returns, none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from seqlab.data.prepared import TARGET
from seqlab.evaluation import controls as made
from seqlab.evaluation import judge, metrics
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Test


def controls(test: Test) -> Mapping[str, Scores]:
    meta, settings = test.prepared.meta, test.settings
    if not settings.horizons:
        return {}
    # Where values are returns, zero means something: so controls see values, not standardised ones.
    raw = replace(test.sequences(TARGET), centre=None, scale=None)
    found = {}
    for name, forecaster in made.forecasters(settings.period, returns=meta.transform == "log_return").items():
        forecasts = judge.forecasts(forecaster, meta, raw, settings, name)
        found[name] = metrics.forecast_scores(forecasts, settings.horizons)
    return found
