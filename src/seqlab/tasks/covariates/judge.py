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
        origins = settings.origins * max(1, round(len(sequences) / len(valid)))
        known = validation(model, valid, traits, settings, origins, f"{test.name} valid")
        found = conformal.fit(known, valid.first, settings.horizons, traits.transform)
        raw = along(model, sequences, traits, settings, settings.horizons, settings.origins, test.name)
        made, known = ([found.forecast(one, traits.transform) for one in part] for part in (raw, known))
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


def along(
    model: Any, series: Accompanied, traits: judge.Traits, settings: judge.Settings, horizons: Sequence[int],
    origins: int, name: str,
) -> list[Forecast]:  # fmt: skip
    """`metrics.rolling_origin` of each series, whose covariates are told with it."""
    found: list[Forecast] = []
    for i in range(len(series)):
        only = series.subset(np.array([i]))
        assert only.first is not None
        own = [steps for steps in horizons if steps <= only.lengths[0] - only.first[0]]
        if not own:
            continue
        made = metrics.rolling_origin(
            Bound(model, only.beside),
            only,
            origins=origins,
            horizons=own,
            season=settings.period,
            samples=settings.samples,
            tokens=judge.TOKENS * settings.samples // 8,
            seed=seed_of("covariates", name, i),
            inverse=judge.INVERSE[traits.transform],
        )
        found += [replace(one, series=i) for one in made]
    return found


def validation(
    model: Any, valid: Accompanied, traits: judge.Traits, settings: judge.Settings, origins: int, name: str
) -> list[Forecast]:
    """As `conformal.validation_forecasts`: origins that differ from series to series and, where the validation part is
    shorter than the longest horizon, one before it that reaches as far."""
    assert valid.first is not None
    longest, reach = max(settings.horizons), int((valid.lengths - valid.first).max())
    apart = np.maximum((valid.lengths - valid.first) // origins, 1)
    late = replace(valid, first=valid.first + np.arange(len(valid)) % apart)
    horizons = range(1, min(longest, reach) + 1)
    found = along(model, late, traits, settings, horizons, origins, name)
    if reach < longest:
        early = np.maximum(valid.lengths - longest, settings.period + 1)
        long = np.flatnonzero(valid.lengths - np.minimum(early, valid.first) >= longest)
        if len(long):
            part = replace(valid, first=np.minimum(early, valid.first)).subset(long)
            made = along(model, part, traits, settings, [longest], 1, f"{name} early")
            found += [replace(one, series=int(long[one.series])) for one in made]
    return found
