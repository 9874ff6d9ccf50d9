"""Local forecasters: a model of one series alone, fitted anew at each origin on what is seen there.

Each channel is a series of its own. What a subclass predicts of one is linear in its innovations (`Prediction`), so
that all share how paths are drawn. A past that no model can be fitted to is carried on from its last value.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.families.closed_form.family import ClosedForm
from seqlab.families.closed_form.paths import gaussian, responding

BATCH_STEPS = 1 << 16  # positions a batch while the training split's changes are gathered
# A series whose range is below this share of its size does not vary: what is left is rounding.
LEAST_RANGE = 1e-6


class Prediction(NamedTuple):
    """The next H steps of one series. mean, deviation: (H,), of each step's own distribution, which is normal.

    response: (H,), what an innovation leaves 0, 1, ... steps later, in units of it; its first is 1.
    """

    mean: np.ndarray
    deviation: np.ndarray
    response: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray, sigma: float, response: np.ndarray) -> Prediction:
        """From the innovations' deviation: step h has variance sigma² (response_0² + ... + response_{h-1}²)."""
        return cls(mean, sigma * np.sqrt(np.cumsum(response**2)), response)

    @property
    def finite(self) -> bool:
        return all(bool(np.isfinite(part).all()) for part in self)


class CarriedOn(UserWarning):
    """Of `total` pasts `count` could not be forecast, for the reason `why`: their last value is carried on."""

    def __init__(self, family: str, count: int, total: int, why: str):
        super().__init__(f"{family}: {count} of {total} pasts {why}; their last value is carried on")
        self.count, self.total, self.why = count, total, why


class LocalForecaster(ClosedForm):
    """Subclasses predict one series; `fit` learns from the training split no more than how a value is carried on.

    State: mean, deviation and step, (C,) each: mean and deviation of all training values, and the root mean square of
    their changes, which serve where a past is too short (`shortest`), does not vary or defeats the library.
    """

    kinds = ("vectors",)
    tasks = ("forecast",)
    objectives = ()  # a source has nothing that a model of one series could learn from
    shortest: int  # steps of the shortest past that can be fitted

    def __init__(self, space: Space, period: int):
        self.space, self.period = space, period

    @abstractmethod
    def fit_flops(self, steps: int) -> float:
        """Operations of fitting one series of so many steps: an estimate, in which a search has its usual length."""

    @abstractmethod
    def predict(self, past: np.ndarray, steps: int) -> Prediction:
        """Fit a model to one series, (n,) float64 that varies, n >= shortest; and predict its next steps."""

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        self.carried = carried(train)
        return {}

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        shape = (len(prefix), samples, steps, self.space.size)
        return drawn(self._predictions(prefix, mask, steps), shape, seed)

    def point(self, prefix: np.ndarray, mask: np.ndarray, steps: int) -> np.ndarray:
        """(B, steps, C) float64: the mean, and median, of the paths."""
        means = [found.mean for found in self._predictions(prefix, mask, steps)]
        return np.array(means).reshape(len(prefix), self.space.size, steps).swapaxes(1, 2)

    def _predictions(self, prefix: np.ndarray, mask: np.ndarray, steps: int) -> list[Prediction]:
        """Of every channel of every row."""
        predictions, defeated = [], 0
        for row, length in enumerate(mask.sum(axis=1)):
            for channel in range(self.space.size):
                past = prefix[row, :length, channel].astype(np.float64)
                found = self.predict(past, steps) if self._fits(past) else None
                if found is None or not found.finite:
                    found = self.carry(past, channel, steps)
                    defeated += 1
                predictions.append(found)
        if defeated:
            why = f"are shorter than {self.shortest} steps, do not vary or cannot be fitted"
            warnings.warn(CarriedOn(type(self).__name__, defeated, len(predictions), why), stacklevel=2)
        return predictions

    def _fits(self, past: np.ndarray) -> bool:
        return len(past) >= self.shortest and np.ptp(past) > LEAST_RANGE * np.abs(past).max()

    def carry(self, past: np.ndarray, channel: int, steps: int) -> Prediction:
        """A random walk from the last value with the training split's changes; without any value, its distribution."""
        mean, deviation, step = (self.carried[name][channel] for name in CARRIED)
        if len(past):
            return Prediction.of(np.full(steps, past[-1]), step, np.ones(steps))
        return Prediction(np.full(steps, mean), np.full(steps, deviation), (np.arange(steps) == 0).astype(np.float64))

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} forecasts; it has no density of the next step")

    def flops(self, train: Sequences) -> float:
        """Those of one fit of every training series, which is what each origin costs anew, and six a value for how it
        is carried on."""
        return float(6 * train.values.size + self.space.size * sum(self.fit_flops(int(n)) for n in train.lengths))

    def state(self) -> dict[str, np.ndarray]:
        return dict(self.carried)

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.carried = {name: np.array(state[name]) for name in CARRIED}

    @property
    def parameters(self) -> int:
        """None: each origin estimates its own."""
        return 0


CARRIED = ("mean", "deviation", "step")


def carried(train: Sequences) -> dict[str, np.ndarray]:
    """Mean and deviation of the values and root mean square of the changes, (C,) each, in the units of the batches."""
    channels = train.values.shape[1]
    count, total, square, changes, change = 0, *np.zeros((2, channels)), 0, np.zeros(channels)
    for _, batch in train.batches(BATCH_STEPS):
        x, exists = batch.x.astype(np.float64), batch.mask[..., None]
        count, changes = count + int(batch.mask.sum()), changes + int(batch.mask[:, 1:].sum())
        total, square = total + x.sum(axis=(0, 1)), square + (x**2).sum(axis=(0, 1))
        change = change + np.where(exists[:, 1:], np.diff(x, axis=1) ** 2, 0).sum(axis=(0, 1))
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    return {"mean": mean, "deviation": deviation, "step": np.sqrt(change / max(changes, 1))}


def drawn(predictions: list[Prediction], shape: tuple[int, int, int, int], seed: int) -> np.ndarray:
    """Paths (B, S, H, C) of the predictions of B rows, C channels each."""
    batch, _, steps, channels = shape
    mean, deviation, response = (
        np.array(part).reshape(batch, channels, steps).swapaxes(1, 2) for part in zip(*predictions, strict=True)
    )
    return gaussian(mean, deviation, responding(np.random.default_rng(seed).standard_normal(shape), response))
