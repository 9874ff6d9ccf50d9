"""Intervals that hold: one step after fitting, for every family that forecasts vectors, from its validation forecasts.

Each quantile of a forecast is moved by as much as validation says: by the level's own quantile of the validation errors
(truth minus that quantile), in units of the forecast's own spread, its 80% interval. That is split conformal prediction
of each quantile (Romano, Patterson and Candès 2019; Vovk et al. 2017), so each covers its nominal share of values that
are exchangeable with validation's; moved quantiles that cross are put back in order, which can only bring them nearer
to the truth (Chernozhukov, Fernández-Val and Galichon 2010). There is one map for each group of steps (up to the first
horizon, from there to the second, ...) and channel; sample paths keep their ranks under it (Schefzik, Thorarinsdottir
and Gneiting 2013), and it commutes with every change of location and scale, so it holds for standardised values too.

What moves is decided by validation as well. *None*: the quantiles stay. *Centred*: the median stays and both sides
widen or narrow alike. *Full*: every quantile, the median included. A bias of one month need not be the next one's, nor
its volatility, so each is taken in place of the one before only where its pinball loss is the less on the thirds of the
validation time that it was not estimated from, and on the series as well; the full one by more than a standard error.

Three limits. Validation lies before the test, so exchangeability is an assumption: what changes between them, or is
common to all series of a panel at one date, is not covered. Steps that no origin within the validation part reaches are
calibrated from origins before it, on truths within it alone, together with those of the group before. With fewer than
LEAST series all channels share one map.

The one-step density stays what it is, and so does its likelihood: of the next step only intervals and draws are mended.
A factor on the standard deviation of a normal density would leave it one, but on the panels of series and stocks the
factor of most likelihood on validation raised the nats of the test for 7 of 8 fitted families (by 0.001 to 0.05): how
far values spread is what changes most between one year and the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np

from seqlab.artifacts import seed_of, write_tensors
from seqlab.data.arrays import read_parts
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.evaluation import judge, metrics
from seqlab.evaluation.metrics import LEVELS, Forecast, Forecaster, OneStep, sample_quantiles
from seqlab.evaluation.scores import Scores
from seqlab.families.base import Predictor

# What a system forecasts: series, to these horizons, from so many origins. The random draws follow from the part, of
# which "early" are the origins before the validation part.
S = TypeVar("S", bound=Sequences)
Part = Literal["test", "valid", "early"]
Make = Callable[[S, Sequence[int], int, Part], list[Forecast]]

# Of raw values to those that standardisation, and so the map, is linear in: the inverses of judge.INVERSE.
FORWARD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": np.asarray,
    "log1p": lambda values: np.log1p(np.maximum(values, np.nextafter(-1, 0))),
    "log_return": np.asarray,
}
LOW, MEDIAN, HIGH = (LEVELS.index(level) for level in (0.1, 0.5, 0.9))  # the spread is from LOW to HIGH
LEAST = round(1 / LEVELS[0]) - 1  # values of which the smallest stands at the lowest level
FOLDS = 5  # of series, beside the thirds of the time
FLAT = 1e-3  # least spread, as a share of the mean spread of the forecast's steps and of 1: a flat forecast has none


@dataclass(frozen=True)
class Recalibration:
    """A monotone map of quantiles for each group of steps and channel.

    ends: (G,) int64, the last step of each group, rising; later steps are mapped as the last group. shifts: (G, C, L),
    what is added to quantile LEVELS[l], in units of the forecast's spread. centred: (G,) bool, whether the median
    stays. counts: (G,) int64, the validation values behind each map.
    """

    ends: np.ndarray
    shifts: np.ndarray
    centred: np.ndarray
    counts: np.ndarray

    def quantiles(self, quantiles: np.ndarray) -> np.ndarray:
        """(L, ..., h, C) quantiles at LEVELS of steps 1 to h, mapped."""
        moves = self.shifts[self._groups(quantiles.shape[-2])].transpose(2, 0, 1)
        moves = moves.reshape(len(LEVELS), *[1] * (quantiles.ndim - 3), *moves.shape[1:])
        return np.sort(quantiles + moves * spread(quantiles), axis=0)

    def forecast(self, one: Forecast, transform: str) -> Forecast:
        """A forecast of a domain with this transform, mapped."""
        raw = judge.INVERSE[transform] or np.asarray
        return replace(one, quantiles=raw(self.quantiles(FORWARD[transform](one.quantiles))))

    def paths(self, paths: np.ndarray) -> np.ndarray:
        """(B, S, h, C) sample paths, standardised or not: at each step the k-th smallest moves as the level k / (S + 1)
        does, or where that is outside LEVELS as the outermost; ranks stay.
        """
        size = paths.shape[1]
        level = np.arange(1, size + 1) / (size + 1)
        # With few paths the outermost stands for the outermost level, as in `sample_quantiles`.
        level[[0, -1]] = min(level[0], LEVELS[0]), max(level[-1], LEVELS[-1])
        right = np.clip(np.searchsorted(LEVELS, level), 1, len(LEVELS) - 1)
        weight = np.clip((level - np.array(LEVELS)[right - 1]) / np.diff(LEVELS)[right - 1], 0, 1)
        moves = self.shifts[self._groups(paths.shape[2])]
        moves = moves[..., right - 1] * (1 - weight) + moves[..., right] * weight  # (h, C, S)
        with np.errstate(invalid="ignore"):  # an exploded path is NaN or infinite, and stays so
            wide = spread(sample_quantiles(paths, LEVELS))
            order = np.argsort(paths, axis=1, kind="stable")
            moved = np.take_along_axis(paths, order, axis=1) + moves.transpose(2, 0, 1) * wide[:, None]
        mapped: np.ndarray = np.empty_like(moved)
        np.put_along_axis(mapped, order, np.sort(moved, axis=1), axis=1)
        return mapped

    def _groups(self, steps: int) -> np.ndarray:
        """(steps,) the group of each step."""
        return np.minimum(np.searchsorted(self.ends, np.arange(1, steps + 1)), len(self.ends) - 1)


def spread(quantiles: np.ndarray) -> np.ndarray:
    """(..., h, C): the 80% interval's width of quantiles (L, ..., h, C), at least FLAT of its mean over the steps."""
    width = quantiles[HIGH] - quantiles[LOW]
    mean = width.mean(-2, keepdims=True)
    return np.asarray(np.maximum(width, FLAT * np.where(mean > 0, mean, 1.0)))


# Fitting


def validation_forecasts(make: Make[S], valid: S, settings: judge.Settings, origins: int) -> list[Forecast]:
    """Forecasts of `origins` origins within the validation part, as far as it goes, and of an origin before it where
    it is shorter than the longest horizon of the settings. Series without a period before it are left out, having no
    scale.
    """
    if valid.first is None:
        raise UserError("recalibration: the validation series carry no `first`; expected the first held-out position")
    some = np.flatnonzero((valid.first > settings.period) & (valid.first < valid.lengths))
    if not len(some):
        raise UserError(
            f"recalibration: no validation series has more than {settings.period} values, the period, before its first"
            " held-out step; lower `evaluate.period` or hold out less"
        )
    held = cast(S, valid.subset(some))
    assert held.first is not None
    longest, reach = max(settings.horizons), int((held.lengths - held.first).max())
    late = replace(held, first=_staggered(held.first, held.lengths, origins))
    made = make(late, range(1, min(longest, reach) + 1), origins, "valid")
    found = [replace(one, series=int(some[one.series])) for one in made]
    if reach < longest:
        first = np.maximum(held.lengths - longest, settings.period + 1)
        early = replace(held, first=np.minimum(first, held.first))
        long = np.flatnonzero(early.lengths - early.first >= longest)
        if len(long):
            made = make(cast(S, early.subset(long)), [longest], 1, "early")
            found += [replace(one, series=int(some[long[one.series]])) for one in made]
    return found


def _staggered(first: np.ndarray, lengths: np.ndarray, origins: int) -> np.ndarray:
    """(S,) first origins that differ from series to series, by up to the distance of two origins: what happens at one
    date happens to all series of a panel, so that many dates say more than few.
    """
    apart = np.maximum((lengths - first) // origins, 1)
    found: np.ndarray = first + np.arange(len(first)) % apart
    return found


def made_by(predictor: Forecaster, domain: judge.Traits, settings: judge.Settings, name: str) -> Make[Sequences]:
    """What a forecaster makes of series alone."""

    def make(series: Sequences, horizons: Sequence[int], origins: int, part: Part) -> list[Forecast]:
        seed = seed_of("judge", name) if part == "test" else seed_of("recalibrate", f"{name} {part}")
        return judge.forecasts(predictor, domain, series, settings, horizons, origins, seed)

    return make


def fit(forecasts: Sequence[Forecast], first: np.ndarray, horizons: Sequence[int], transform: str) -> Recalibration:
    """The map that makes these validation forecasts hold, groups of steps ending at each of the horizons.

    first: (S,), the first held-out position of each series; truths before it are not looked at. Raises UserError when
    no forecast has a held-out truth.
    """
    pooled = len({one.series for one in forecasts}) < LEAST
    groups: list[tuple[int, _Errors]] = []
    for start, end in zip([0, *horizons], horizons, strict=False):
        group = _Errors.of(forecasts, first, start, end, FORWARD[transform], pooled=pooled)
        if group is None:
            continue
        # Reached mostly from before the validation part: few dates, behind values that the model was fitted on.
        if groups and group.early.mean() > 0.5:
            group = group.joined(groups[-1][1])
        groups.append((end, group))
    if not groups:
        raise UserError("recalibration: no validation forecast has a held-out truth")
    chosen = [_map(group) for _, group in groups]
    channels = forecasts[0].truth.shape[1]
    shifts = [
        np.broadcast_to(make(group.values).T, (channels, len(LEVELS)))
        for (_, group), make in zip(groups, chosen, strict=True)
    ]
    centred = [make is not _full for make in chosen]
    counts = [group.values.shape[1] for _, group in groups]
    return Recalibration(np.array([end for end, _ in groups]), np.stack(shifts), np.array(centred), np.array(counts))


def recalibrated(
    make: Make[S], domain: judge.Traits, valid: S, test: S, settings: judge.Settings
) -> tuple[list[Forecast], list[Forecast], list[Forecast], Recalibration]:
    """The shared step of every forecaster: its test forecasts as they were made, those and the validation's mapped,
    and the map. Validation is forecast about as often as the test: from more origins where it has fewer series.
    """
    origins = settings.origins * max(1, round(len(test) / len(valid)))
    known = validation_forecasts(make, valid, settings, origins)
    assert valid.first is not None  # which forecasting checks
    found = fit(known, valid.first, settings.horizons, domain.transform)
    raw = make(test, settings.horizons, settings.origins, "test")
    mended, mended_valid = ([found.forecast(one, domain.transform) for one in part] for part in (raw, known))
    return raw, mended, mended_valid, found


def next_vectors(
    predictor: Predictor, valid: Sequences, test: Sequences, name: str
) -> tuple[Scores, OneStep, Recalibration]:
    """Scores of the next vector with intervals that validation has mended, what they are made of, and the map. As many
    positions are looked at in both: more of a sequence where validation has fewer.
    """
    positions = judge.POSITIONS * max(1, round(len(test) / len(valid)))
    found = fit_one_step(judge.one_step(predictor, valid, f"{name} valid", positions))
    made = judge.one_step(predictor, test, name)
    return metrics.next_vectors(made, found.quantiles), made, found


def fit_one_step(found: OneStep) -> Recalibration:
    """The map of one-step quantiles that makes these validation ones hold, one step being one group.

    Places in a sequence stand for origins: what held at some of them is tested at the others.
    """
    nothing = np.empty(0)
    made = [
        Forecast(int(example), int(place), truth[None], quantiles[:, None], nothing, nothing)
        for example, place, truth, quantiles in zip(
            found.example, found.place, found.truth, found.quantiles.swapaxes(0, 1), strict=True
        )
    ]
    return fit(made, np.zeros(len(found.nats), np.int64), [1], "none")


@dataclass(frozen=True)
class _Errors:
    """Validation errors of one group of steps. values: (L, N, C), truth minus quantile, in spreads; C is 1 where the
    channels are pooled. origin, series: (N,), the origin after `first`, and whose. early: (N,) bool, origins before it.
    """

    values: np.ndarray
    origin: np.ndarray
    series: np.ndarray
    early: np.ndarray

    @classmethod
    def of(
        cls,
        forecasts: Sequence[Forecast],
        first: np.ndarray,
        start: int,
        end: int,
        forward: Callable[[np.ndarray], np.ndarray],
        *,
        pooled: bool,
    ) -> _Errors | None:
        """Of the steps after `start` up to `end` whose truth is held out and was recorded; None where there is none."""
        values, tags = [], []
        for one in forecasts:
            ahead = one.origin - int(first[one.series])
            steps = slice(max(start, -ahead), min(end, len(one.truth)))
            missing = np.isnan(one.truth[steps]).any(1)
            if not missing.all():  # nor is there no step
                quantiles = forward(one.quantiles)
                error = (forward(one.truth) - quantiles) / spread(quantiles)
                values.append(error[:, steps][:, ~missing] if missing.any() else error[:, steps])
                tags.append(np.full((values[-1].shape[1], 2), (ahead, one.series)))
        if not values:
            return None
        found, (origin, series) = np.concatenate(values, axis=1), np.concatenate(tags).T
        if pooled:
            origin, series = (np.repeat(part, found.shape[2]) for part in (origin, series))
            found = found.reshape(len(LEVELS), -1, 1)
        return cls(found, origin, series, origin < 0)

    def joined(self, other: _Errors) -> _Errors:
        return _Errors(
            np.concatenate([self.values, other.values], axis=1),
            np.concatenate([self.origin, other.origin]),
            np.concatenate([self.series, other.series]),
            np.concatenate([self.early, other.early]),
        )


def _full(values: np.ndarray) -> np.ndarray:
    """(L, C) moves that put each quantile where its share of the errors (L, N, C) lies below."""
    return np.stack([sample_quantiles(own[None], [level])[0, 0] for own, level in zip(values, LEVELS, strict=True)])


def _centred(values: np.ndarray) -> np.ndarray:
    """(L, C) moves of both ends of each interval alike, so that it holds its share; the median's is 0."""
    moves = np.zeros((len(LEVELS), values.shape[2]))
    for low, level in enumerate(LEVELS[:MEDIAN]):
        high = len(LEVELS) - 1 - low
        outside = np.maximum(values[high], -values[low])  # how far out of the interval the truth is; inside: negative
        moves[high] = sample_quantiles(outside[None], [1 - 2 * level])[0, 0]
        moves[low] = -moves[high]
    return moves


def _none(values: np.ndarray) -> np.ndarray:
    """(L, C) moves of nothing."""
    return np.zeros((len(LEVELS), values.shape[2]))


Map = Callable[[np.ndarray], np.ndarray]


def _map(group: _Errors) -> Map:
    """What moves. Where there is but one origin and one fold of series, nothing can be tested: the centred map."""
    found = _centred
    gains = _gains(group, _none, _centred, errors=0)
    if gains and min(gains) <= 0:
        found = _none
    gains = _gains(group, found, _full, errors=1)
    return _full if gains and min(gains) > 0 else found


def _gains(group: _Errors, before: Map, after: Map, errors: int) -> list[float]:
    """On the thirds of the time, and on the series, that the maps were not estimated from, where there are two folds:
    the share of the loss that the second saves, its mean over folds, each left out once, less so many standard errors.
    """
    found = []
    for folds in (_thirds(group.origin), group.series % FOLDS):
        gained = []
        for fold in np.unique(folds):
            away = folds == fold
            if away.all():
                break
            ours, theirs = (
                _pinball(group.values[:, away] - make(group.values[:, ~away])[:, None]) for make in (before, after)
            )
            gained.append((ours - theirs) / ours)
        if gained:
            found.append(float(np.mean(gained) - errors * np.std(gained, ddof=1) / len(gained) ** 0.5))
    return found


def _thirds(origin: np.ndarray) -> np.ndarray:
    """(N,) early, middle or late: neighbouring origins look at the same dates, and are no test of each other."""
    found: np.ndarray = np.searchsorted(np.quantile(origin, [1 / 3, 2 / 3]), origin)
    return found


def _pinball(errors: np.ndarray) -> float:
    level = np.array(LEVELS)[:, None, None]
    return float(np.maximum(level * errors, (level - 1) * errors).mean())


# Applying and keeping


@dataclass(frozen=True)
class Recalibrated:
    """A predictor whose sample paths are mapped; its densities and moments are the predictor's own."""

    predictor: Predictor
    recalibration: Recalibration

    @property
    def space(self) -> Space:
        return self.predictor.space

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self.predictor.log_prob(x, mask)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self.predictor.distribution(x, mask)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.predictor.moments(x, mask)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        return self.recalibration.paths(self.predictor.forecast(prefix, mask, steps, samples, seed))


def write(found: Recalibration, path: Path) -> None:
    """As safetensors: equal maps give equal bytes."""
    tensors = {
        "ends": found.ends.astype(np.int64),
        "shifts": found.shifts.astype(np.float64),
        "centred": found.centred.astype(np.bool_),
        "counts": found.counts.astype(np.int64),
    }
    write_tensors(path, tensors)


def read(path: Path) -> Recalibration:
    """Raises UserError when the file is missing or holds something else."""
    return read_parts(path, Recalibration)
