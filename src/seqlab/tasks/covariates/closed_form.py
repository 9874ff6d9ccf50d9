"""Families that use covariates: what each does of a forecast without, and what more it reads.

* gbdt: known covariates at the step that is forecast, at the step from which its change is counted and at the last one;
  past ones at the last steps and at that step; static ones as they are. What is missing goes its own way in a tree.
* arima: a regression on the known covariates with ARIMA errors, fitted anew to each series. It has one series at a time
  and no future of what is only measured: past and static covariates it does not use.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from copy import copy
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data.beside import NAMES, Accompanied, Beside, Names
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.arima import ARIMA
from seqlab.families.base import Use
from seqlab.families.closed_form.direct import BATCH_STEPS, Pairs, gathered, normalised, pairs
from seqlab.families.closed_form.family import ClosedForm
from seqlab.families.closed_form.local import LEAST_RANGE, Prediction
from seqlab.families.gbdt import GBDT

LAGS = 3  # last values of a past covariate that trees read


class Along(ClosedForm):
    """Mixed into a family. names: of the covariates; they come with the saved model.

    A model that has no covariates at hand forecasts nothing.
    """

    names: Names
    beside: Beside | None = None

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Self:
        self.names = Names.read(folder / NAMES)
        return super().opened(tensors, folder, use)

    def forecast_along(
        self, prefix: np.ndarray, mask: np.ndarray, beside: Beside, steps: int, samples: int, seed: int
    ) -> np.ndarray:
        """(B, samples, steps, C) after each prefix. beside: of the B rows, from their first position on, known ones up
        to `steps` after the last; past ones that come after the prefix are not looked at."""
        lengths = mask.sum(axis=1)
        beside = beside.seen(lengths)
        made = []
        for row in range(len(prefix)):
            bound = copy(self)
            bound.beside = beside.subset(np.array([row]))
            one = slice(row, row + 1)
            made.append(bound.forecast(prefix[one, : lengths[row]], mask[one, : lengths[row]], steps, samples,
                                       seed_of(seed, row)))  # fmt: skip
        return np.concatenate(made)

    @abstractmethod
    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """Of one prefix, whose covariates are at hand."""

    def at_hand(self) -> Beside:
        if self.beside is None:
            raise UserError(f"{type(self).__name__}: a model with covariates; ask with them")
        return self.beside


class AccompaniedGBDT(Along, GBDT):
    """What GBDT takes for a window's channel is here its place: a row of `places`."""

    places: np.ndarray  # (M, 3) int64: which sequence, how many of its steps are seen, which channel

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """As GBDT, on windows with their covariates. Raises UserError when too few windows fit into either split."""
        assert isinstance(train, Accompanied)
        assert isinstance(valid, Accompanied)
        self.beside, self.places = joined(train.beside, valid.beside), np.empty((0, 3), np.int64)
        report = super().fit(train, valid, prior)
        self.beside = None
        return report

    def _learned(self, train: Sequences, valid: Sequences, held_out: Pairs) -> tuple[Pairs, Pairs]:
        return self._placed(train, 0), self._placed(valid, len(train))

    def _placed(self, sequences: Sequences, first: int) -> Pairs:
        """Windows that change, and what follows. first: the number of the first sequence among the covariates."""
        places = [self.places]
        found = gathered(self._with_places(sequences, first, places))
        self.places = np.concatenate(places)
        return found

    def _with_places(self, sequences: Sequences, first: int, places: list[np.ndarray]) -> Iterator[Pairs]:
        """Numbered from the first of `places` on, to which theirs are added."""
        twins, count = placed(sequences, self.window, self.steps), sum(map(len, places))
        for part, place in zip(pairs(sequences, self.window, self.steps, whole=False), twins, strict=True):
            moving = normalised(part.windows, self.period).scale > 0
            places.append(place[moving] + np.array([first, 0, 0]))
            number = count + np.arange(len(places[-1]))
            count += len(number)
            yield Pairs(part.windows[moving], part.futures[moving], part.known[moving], number)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        self.at_hand()
        return GBDT.forecast(self, prefix, mask, steps, samples, seed)

    def _read(self, past: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of one past, in which the places of windows are its channels."""
        [seen] = lengths
        channels = np.arange(self.space.size)
        self.places = np.stack([np.zeros_like(channels), np.full_like(channels, seen), channels], axis=1)
        return super()._read(past, lengths)

    def _features(self, shape: np.ndarray, horizon: np.ndarray, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Those of GBDT, and the covariates of each place."""
        return self._beside(shape, horizon, channel, np.zeros_like(horizon))

    def _beside(
        self, shape: np.ndarray, horizon: np.ndarray, place: np.ndarray, made: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """made: (N,) steps at the end of each window that are forecasts themselves."""
        sequence, seen, channel = self.places[place].T
        inputs, anchor = super()._features(shape, horizon, channel)
        beside, last = self.at_hand(), seen + made - 1
        target = last + horizon
        before = target - self.period * -(-horizon // self.period)
        ahead, aligned, now = (beside.at(beside.known, sequence, at) for at in (target, before, last))
        # What is measured is not known of steps that are forecasts: it stays as it was last.
        lags = [beside.at(beside.past, sequence, seen - 1 - lag) for lag in range(LAGS)]
        measured = beside.at(beside.past, sequence, np.minimum(before, seen - 1))
        columns = [inputs, ahead, ahead - aligned, now, *lags, lags[0] - measured, beside.static[sequence]]
        return np.concatenate(columns, axis=1), anchor

    def predict(self, rung: int, shape: np.ndarray, channel: np.ndarray) -> np.ndarray:
        if self.way == "direct":
            return super().predict(rung, shape, channel)
        grown = shape
        for made in range(self.steps):
            read = normalised(grown[:, -self.window :], self.period)
            ones = np.ones(len(shape), np.int64)
            inputs, anchor = self._beside(read.shape, ones, channel, made * ones)
            grown = np.concatenate([grown, read.to_values((anchor + self._raw(inputs))[:, None])], axis=1)
        return grown[:, self.window :]


def placed(sequences: Sequences, length: int, steps: int) -> Iterator[np.ndarray]:
    """(N, 3) of the windows of `direct.pairs` that are not whole, in its order: sequence, steps seen, channel."""
    channels = sequences.values.shape[1]
    for indices, batch in sequences.batches(max(BATCH_STEPS // channels, 1)):
        if batch.x.shape[1] <= length:
            continue
        scored = np.pad(batch.scored, ((0, 0), (0, steps)))
        known = np.lib.stride_tricks.sliding_window_view(scored, length + steps, axis=1)[..., length:]
        row, origin = np.nonzero(known.any(axis=2))
        whose = np.stack([indices[row], origin + length], axis=1)
        yield np.column_stack([np.repeat(whose, channels, axis=0), np.tile(np.arange(channels), len(row))])


class AccompaniedARIMA(Along, ARIMA):
    """A regression on the known covariates, each in deviations of its own past, with ARIMA errors.

    A missing value of a covariate is taken for its mean; one that does not vary in the past is left out.
    """

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        self.at_hand()
        return ARIMA.forecast(self, prefix, mask, steps, samples, seed)

    def predict(self, past: np.ndarray, steps: int) -> Prediction:
        known = self.at_hand().known[: len(past) + steps]
        if len(known) < len(past) + steps:
            raise UserError(
                f"{steps} steps ahead: known covariates of {len(known) - len(past)} of them; expected of each"
            )
        regressors = standardised(known, len(past))
        return self._predicted(past, steps, regressors if regressors.shape[1] else None)


def standardised(known: np.ndarray, seen: int) -> np.ndarray:
    """(T, K') of (T, K): without what does not vary in the first `seen` steps, in deviations of these."""
    some = known[:, ~np.isnan(known[:seen]).all(axis=0)]
    mean, spread = np.nanmean(some[:seen], axis=0), np.nanstd(some[:seen], axis=0)
    varying = spread > LEAST_RANGE * np.abs(some[:seen]).max(axis=0, initial=0)
    return np.asarray(np.nan_to_num((some - mean)[:, varying] / spread[varying], nan=0.0))


def joined(first: Beside, second: Beside) -> Beside:
    """Of the sequences of two sets, one after the other."""
    rows = [(one.known[a:b], one.past[a:b]) for one in (first, second)
            for a, b in zip(one.offsets[:-1], one.offsets[1:], strict=True)]  # fmt: skip
    known, past = zip(*rows, strict=True)
    return Beside.of(known, past, np.concatenate([first.static, second.static]))


ALONG: dict[type[ClosedForm], type[Along]] = {GBDT: AccompaniedGBDT, ARIMA: AccompaniedARIMA}


def forecaster(family: type[ClosedForm], space: Space, classes: None, parameters: Mapping[str, Any]) -> Along:
    """A family's model that reads covariates."""
    build = cast(Any, ALONG[family])
    return cast(Along, build(space, **parameters))
