"""Direct forecasters: one map from the last steps of a series to the next H at once, shared by a panel.

A window is read without its last value and in units of its own changes (`normalised`), so that series of any level and
size are alike. Paths are the point forecast and residuals in the same units: at each step of a distribution that split
conformal prediction takes from the validation split (Lei et al. 2018, JASA 113), hung together from step to step as the
training split's residuals are. Each channel is a series of its own.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import ClosedForm
from seqlab.families.closed_form.local import CARRIED, LEAST_RANGE, CarriedOn, carried
from seqlab.families.closed_form.paths import levels

BATCH_STEPS = 1 << 15  # positions a batch, channels counted, while windows are cut
LEVELS = 399  # of the residuals' quantiles that a model keeps
CHANGES = 6  # over a period, fewer of which say nothing of a window's size where the period is longer
LEAST_PAIRS = 20  # validation residuals of a horizon below which no interval rests on them
MOST_NUMBERS = 1 << 26  # in windows and futures that are held at once: half a gigabyte
MARGINAL, WALK = 0, 1  # tables for a past without a value, and for one too short for any window
CORRELATION_RIDGE = 1e-6  # keeps the residuals' correlations positive definite in rounding


class Normalised(NamedTuple):
    """N windows as a direct map reads them. shape: (N, L), without the last value and in units of `scale`; the last
    column is 0. last, scale: (N,). Steps before a series' beginning are NaN."""

    shape: np.ndarray
    last: np.ndarray
    scale: np.ndarray

    def to_values(self, shape: np.ndarray) -> np.ndarray:
        """(N, H) of what follows, back in the units of the series."""
        values: np.ndarray = self.last[:, None] + self.scale[:, None] * shape
        return values


def normalised(windows: np.ndarray, period: int) -> Normalised:
    """Of (N, L) windows: the scale is the root mean square change over a period or, where so few fit that chance would
    make it, over a step.

    A window that does not change has scale 0 and shape 0.
    """
    last = windows[:, -1]
    scale = np.zeros(len(windows))
    for lag in (1, period) if 1 < period <= windows.shape[1] - min(period, CHANGES) else (1,):
        change = windows[:, lag:] - windows[:, :-lag]
        known = np.isfinite(change)
        mean_square = np.where(known, change, 0).__pow__(2).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        scale = np.where(known.any(axis=1), np.sqrt(mean_square), scale)
    size = np.nanmax(np.abs(windows), axis=1)
    scale = np.where(scale > LEAST_RANGE * size, scale, 0)
    return Normalised((windows - last[:, None]) / np.where(scale > 0, scale, 1)[:, None], last, scale)


class Pairs(NamedTuple):
    """Windows (N, L) of a set and what follows, (N, H). known: (N, H) bool, the steps that exist and are scored.
    channel: (N,) of each."""

    windows: np.ndarray
    futures: np.ndarray
    known: np.ndarray
    channel: np.ndarray

    @classmethod
    def of(cls, parts: list[Pairs]) -> Pairs:
        """One after the other; of no part, none."""
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True))) if parts else cls(*np.empty((4, 0)))

    def moving(self, period: int) -> Pairs:
        """Without the windows that do not change."""
        some = normalised(self.windows, period).scale > 0
        return Pairs(*(part[some] for part in self))

    def every(self, step: int, first: int = 0) -> Pairs:
        """Every so manieth window."""
        return self if step == 1 else Pairs(*(part[first::step] for part in self))

    def thinned(self, most: int) -> Pairs:
        """At most so many windows, evenly spread."""
        if len(self.windows) <= most:
            return self
        taken = np.linspace(0, len(self.windows) - 1, most).astype(np.int64)
        return Pairs(*(part[taken] for part in self))

    def read(self, length: int, period: int) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (N, length) and futures (N, H), normalised, through the last `length` steps of each window."""
        read = normalised(self.windows[:, -length:], period)
        return read.shape, (self.futures - read.last[:, None]) / np.where(read.scale > 0, read.scale, np.inf)[:, None]

    def loss(self, residual: np.ndarray, length: int, period: int) -> float:
        """Mean absolute error over all horizons, in units of the changes of the whole windows.

        residual: (N, H), in units of those of the last `length` steps.
        """
        own = normalised(self.windows[:, -length:], period).scale / normalised(self.windows, period).scale
        error = np.where(self.known, np.abs(residual) * own[:, None], 0)
        return float((error.sum(axis=0) / self.known.sum(axis=0)).mean())


def pairs(sequences: Sequences, length: int, steps: int, *, whole: bool) -> Iterator[Pairs]:
    """Every window of `length` steps of every channel with at least one scored step among the `steps` that follow, in
    the units of the batches. whole: only those of which all `steps` exist and are scored."""
    channels = sequences.values.shape[1]
    for _, batch in sequences.batches(max(BATCH_STEPS // channels, 1)):
        if batch.x.shape[1] <= length:
            continue
        x = np.pad(batch.x.astype(np.float64), ((0, 0), (0, steps), (0, 0)))
        scored = np.pad(batch.scored, ((0, 0), (0, steps)))
        cut = np.lib.stride_tricks.sliding_window_view(x, length + steps, axis=1)  # (B, origins, C, length + steps)
        known = np.lib.stride_tricks.sliding_window_view(scored, length + steps, axis=1)[..., length:]
        row, origin = np.nonzero(known.all(axis=2) if whole else known.any(axis=2))
        found = cut[row, origin].reshape(-1, length + steps)
        yield Pairs(
            found[:, :length],
            found[:, length:],
            np.repeat(known[row, origin], channels, axis=0),
            np.tile(np.arange(channels), len(row)),
        )


class DirectForecaster(ClosedForm):
    """Subclasses set `lengths` and `needed` and predict normalised futures from normalised windows.

    lengths: of the windows that the fitted model reads, ascending; needed: (R,) of each, the shortest past it serves.
    The longest that a past has steps for is used; one that is too short for all is carried on from its last value.
    H is the longest horizon; forecasts beyond it go on from their own paths.

    State: what carries a short past on (`local.carried`), tables (2 + R, H, LEVELS) of residual quantiles, and factor
    (H, H), the lower Cholesky factor of the residuals' correlations.
    """

    kinds = ("vectors",)
    tasks = ("forecast",)
    lengths: list[int]
    needed: list[int]

    def __init__(self, space: Space, period: int, horizons: list[int]):
        self.space, self.period, self.horizons = space, period, horizons

    @property
    def steps(self) -> int:
        """H."""
        return max(self.horizons)

    @abstractmethod
    def predict(self, rung: int, shape: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """(N, L) normalised windows of length lengths[rung], (N,) channels -> (N, H) normalised."""

    def carry(self, train: Sequences) -> None:
        """What serves a past that is too short for any window."""
        self.carried = carried(train)

    def calibrate(self, residuals: list[tuple[np.ndarray, np.ndarray]], covariance: np.ndarray) -> None:
        """Take the residuals' distribution up. residuals: of each rung (N, H) normalised ones on the validation split,
        and which of them are known; covariance: (H, H) of the training split's."""
        from scipy.special import ndtri

        level = np.arange(1, LEVELS + 1) / (LEVELS + 1)
        normal = np.broadcast_to(ndtri(level), (self.steps, LEVELS))
        tables = [normal, normal * np.sqrt(np.arange(1, self.steps + 1))[:, None]]
        for found, known in residuals:
            columns = [np.quantile(found[known[:, h], h], level, method="weibull") for h in range(self.steps)]
            tables.append(np.array(columns))
        self.tables = np.array(tables)
        deviation = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
        correlation = covariance / np.outer(deviation, deviation)
        np.fill_diagonal(correlation, 1 + CORRELATION_RIDGE)
        self.factor = np.linalg.cholesky(correlation)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal((len(prefix), samples, steps, self.space.size))
        lengths = mask.sum(axis=1)
        paths = self._paths(
            np.where(mask[..., None], prefix, 0)[:, None].astype(np.float64), lengths, noise[:, :, : self.steps]
        )
        while paths.shape[2] < steps:
            done = paths.shape[2]
            longer = _appended(prefix, lengths, paths)
            paths = np.concatenate(
                [paths, self._paths(longer, lengths + done, noise[:, :, done : done + self.steps])], axis=2
            )
        return paths

    def point(self, prefix: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, H, C): the forecast without its residuals."""
        past = np.where(mask[..., None], prefix, 0)[:, None].astype(np.float64)
        return self._read(past, mask.sum(axis=1))[0][:, 0]

    def _paths(self, past: np.ndarray, lengths: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(B, S, h, C) for (B, S or 1, T, C) pasts of which `lengths` steps exist; noise: (B, S, h, C)."""
        steps = noise.shape[2]
        point, scale, table = self._read(past, lengths)
        level = levels(np.einsum("hi,bsic->bshc", self.factor[:steps, :steps], noise))
        grid = np.arange(1, LEVELS + 1) / (LEVELS + 1)
        residual = np.empty(noise.shape)
        for used in np.unique(table):
            rows = np.flatnonzero(table == used)
            for h in range(steps):
                residual[rows, :, h] = np.interp(level[rows, :, h], grid, self.tables[used, h])
        return point[:, :, :steps] + scale[:, :, None] * residual

    def _read(self, past: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Point forecasts (B, S, H, C), scales (B, S, C) and table (B,) of (B, S, T, C) pasts."""
        batch, branches, _, channels = past.shape
        point, scale = np.empty((batch, branches, self.steps, channels)), np.empty((batch, branches, channels))
        rung = np.searchsorted(self.needed, lengths, side="right") - 1
        table = np.where(lengths == 0, MARGINAL, rung + 2)
        if defeated := int((rung < 0).sum()):
            why = f"are shorter than {self.needed[0]} steps, the shortest window"
            warnings.warn(CarriedOn(type(self).__name__, defeated, batch, why), stacklevel=3)
        for used in np.unique(table):
            rows = np.flatnonzero(table == used)
            if used in (MARGINAL, WALK):
                last = past[rows, :, lengths[rows] - 1] if used == WALK else self.carried["mean"]
                point[rows] = np.broadcast_to(last, (len(rows), branches, channels))[:, :, None]
                scale[rows] = self.carried["step" if used == WALK else "deviation"]
                continue
            length = self.lengths[used - 2]
            index = lengths[rows, None] - length + np.arange(length)
            windows = past[rows[:, None], :, np.maximum(index, 0)]  # (rows, L, S, C)
            windows = np.where((index >= 0)[..., None, None], windows, np.nan).transpose(0, 2, 3, 1).reshape(-1, length)
            read = normalised(windows, self.period)
            made = read.to_values(
                self.predict(used - 2, read.shape, np.tile(np.arange(channels), len(rows) * branches))
            )
            point[rows] = made.reshape(len(rows), branches, channels, self.steps).swapaxes(2, 3)
            scale[rows] = read.scale.reshape(len(rows), branches, channels)
        return point, scale, table

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError(f"{type(self).__name__} forecasts; it has no density of the next step")

    def state(self) -> dict[str, np.ndarray]:
        return {**self.carried, "tables": self.tables, "factor": self.factor}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.carried = {name: np.array(state[name]) for name in CARRIED}
        self.tables, self.factor = np.array(state["tables"]), np.array(state["factor"])


def gathered(parts: Iterable[Pairs]) -> Pairs:
    """All of them; every second, fourth, … where all would hold more numbers than memory should, which is warned of."""
    kept: list[Pairs] = []
    every, seen, numbers = 1, 0, 0
    for part in parts:
        own = part.every(every, -seen % every)
        seen += len(part.windows)
        kept.append(own)
        numbers += own.windows.size + own.futures.size
        while numbers > MOST_NUMBERS:
            every *= 2
            kept = [Pairs.of(kept).every(2)]
            numbers = kept[0].windows.size + kept[0].futures.size
    if every > 1:
        warnings.warn(
            f"of {seen} windows one in {every} is used; all of them would take more than "
            f"{MOST_NUMBERS * 8 / 1e6:.0f} MB",
            stacklevel=2,
        )
    return Pairs.of(kept)


def reaching(windows: list[int], period: int) -> list[int]:
    """Window lengths, ascending; where none of them reads two periods, two more: the longest, and one or two periods
    before it.

    A window that begins within the last period has neither the step a period before the one that is forecast nor
    changes over a period, whose size is its scale; and one period alone tells a season with all of its noise.
    """
    known = sorted(set(windows))
    return known if known[-1] >= 2 * period else [*known, period + known[-1], 2 * period + known[-1]]


def learned(train: Sequences, period: int, steps: int, length: int, *, whole: bool, most: int) -> int:
    """Windows of so many steps that the training split has to learn from, counted until there are `most`."""
    count = 0
    for part in pairs(train, length, steps, whole=whole):
        count += len(part.moving(period).windows)
        if count >= most:
            break
    return count


def readable(
    train: Sequences, valid: Sequences, period: int, steps: int, windows: list[int], *, whole: bool
) -> tuple[list[int], Pairs]:
    """As `usable`, of the window lengths of which the training split has more windows than each has steps; the shortest
    where there is none."""
    enough = [n for n in windows if learned(train, period, steps, n, whole=whole, most=n + 1) > n]
    return usable(valid, period, steps, enough or windows[:1])


def usable(valid: Sequences, period: int, steps: int, lengths: list[int]) -> tuple[list[int], Pairs]:
    """The window lengths of which the validation split has enough, and its windows of the longest of them.

    Raises UserError when it has enough of none.
    """
    for length in sorted(lengths, reverse=True):
        found = gathered(one.moving(period) for one in pairs(valid, length, steps, whole=False))
        if len(found.windows) and found.known.sum(axis=0).min() >= LEAST_PAIRS:
            return [other for other in sorted(lengths) if other <= length], found
    raise UserError(
        f"too few sequences of the training or validation split have the steps of a window and the {steps} after it "
        "that the longest horizon needs; shorten `windows` or `horizons`"
    )


def _appended(prefix: np.ndarray, lengths: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """(B, S, T + done, C): each path behind its prefix, of which `lengths` steps exist."""
    batch, samples, done, channels = paths.shape
    longer = np.zeros((batch, samples, prefix.shape[1] + done, channels))
    longer[:, :, : prefix.shape[1]] = prefix[:, None]
    at = lengths[:, None] + np.arange(done)
    longer[np.arange(batch)[:, None], :, at] = paths.swapaxes(1, 2)
    return longer
