"""Forecasting with covariates: the table of forecasts, answered by models that are told what is known besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data.beside import Accompanied, Beside
from seqlab.evaluation import conformal, judge, metrics
from seqlab.evaluation.kept import Forecasts, Kept
from seqlab.evaluation.metrics import FORECAST, Forecast
from seqlab.tasks.forecast.judge import longest
from seqlab.tasks.judging import Judged, JudgedTask, Shown, Test


class Judge(JudgedTask):
    models = ("covariates", "forecast", "next_step")
    tables = ("forecast",)

    def judge(self, model: Any, test: Test) -> Judged:
        """As forecasts are judged: the same examples, origins, metrics and recalibration."""
        settings, traits = test.settings, test.prepared.meta
        valid, sequences = (of(test, split) for split in ("valid", "test"))
        assert valid.first is not None
        make = along(model, traits, settings, test.name)
        raw, made, known, found = conformal.recalibrated(make, traits, valid, sequences, settings)
        horizons = settings.horizons
        return Judged(
            metrics.forecast_scores(made, horizons) | metrics.raw_scores(raw, horizons),
            Drawn(longest(made, sequences, traits.transform)),
            kept=OfTheTable(Forecasts(known, valid.first, made), found),
        )


def of(test: Test, split: str) -> Accompanied:
    """The examples of a split that are asked for."""
    found = test.first(Accompanied.open(test.prepared, split))
    assert isinstance(found, Accompanied)  # as `subset` gives
    return found


class Drawn(Shown):
    """Shown as forecasts are, by the name of the table."""

    def write(self, folder: Path) -> None:
        super().write(folder.with_name(FORECAST))


class OfTheTable(Kept):
    """Kept where systems are joined: by the name of the table."""

    def write(self, folder: Path) -> None:
        super().write(folder.with_name(FORECAST))


class Bound:
    """A forecaster of one sequence's pasts. beside: of this sequence."""

    def __init__(self, model: Any, beside: Beside):
        self.model, self.beside = model, beside

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        own = self.beside.subset(np.zeros(len(prefix), np.int64))
        made: np.ndarray = self.model.forecast_along(prefix, mask, own, steps, samples, seed)
        return made


def along(model: Any, traits: judge.Traits, settings: judge.Settings, name: str) -> conformal.Make[Accompanied]:
    """As `conformal.made_by`, of series one by one, whose covariates are told with each."""

    def make(series: Accompanied, horizons: Sequence[int], origins: int, part: conformal.Part) -> list[Forecast]:
        drawn = {"test": name, "valid": f"{name} valid", "early": f"{name} valid early"}[part]
        found: list[Forecast] = []
        for i in range(len(series)):
            only = series.subset(np.array([i]))
            assert only.first is not None
            own = [steps for steps in horizons if steps <= only.lengths[0] - only.first[0]]
            if own:
                bound, seed = Bound(model, only.beside), seed_of("covariates", drawn, i)
                made = judge.forecasts(bound, traits, only, settings, own, origins, seed)
                found += [replace(one, series=i) for one in made]
        return found

    return make
