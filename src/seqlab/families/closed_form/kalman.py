"""Linear-Gaussian state space over vectors: the Kalman filter and smoother, and EM (Shumway and Stoffer 1982).

    z_1 ~ N(mean, spread),  z_t = A z_{t-1} + N(0, Q),  x_t = d + C z_t + N(0, R),  z_t of n numbers, never seen.

No step is missing, so gains and covariances depend on the step alone and one Riccati recursion serves all sequences;
their means are columns of one matrix a step. What the E-step needs of the smoother's covariances is their sum over
sequences, and since the smoother is linear in them, one recursion gives that sum too, whatever the lengths. With L_t
the sequences longer than t (from 0), P predicted, F filtered and J the smoother's gain,

    W_t = sum over L_t of Cov(z_t | x_1..T) = |L_t| F_t + J_t (W_{t+1} - |L_{t+1}| P_{t+1}) J_t'.

Notation and recursions: Shumway and Stoffer (2017), Time Series Analysis and Its Applications, ch. 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from seqlab.data.sequences import Batch, Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.autoregression import BATCH_STEPS, LOG_2PI, LaggedMoments
from seqlab.families.closed_form.em import Climb, EStep, Statistics, check_search, climb, total, weight_of
from seqlab.families.closed_form.family import ClosedForm, check_source

# Sums may be reordered into vector registers; NaN and infinity keep their meaning.
REORDER = {"reassoc", "contract", "nsz", "arcp"}
LANES = 64  # sequences whose likelihoods are computed side by side
# No direction's variance is below this share of the mean variance, so that a density and a gain stay finite.
LEAST_VARIANCE = 1e-8
# The Riccati recursion has arrived where a step moves it by no more than rounding does.
ARRIVED = 4 * float(np.finfo(float).eps)


class Moments(NamedTuple):
    """Expected sums of w w', the statistics of an EM step.

    first: (1 + n) square over w = (1, z_1); moves: (1 + 2 n) square over (1, z_{t-1}, z_t);
    seen: (1 + n + C) square over (1, z_t, x_t).
    """

    first: np.ndarray
    moves: np.ndarray
    seen: np.ndarray


class StateSpace(NamedTuple):
    """The parameters: mean (n,), spread (n, n), transition A and noise Q (n, n), offset d (C,), output C (C, n) and
    error R (C, C)."""

    mean: np.ndarray
    spread: np.ndarray
    transition: np.ndarray
    noise: np.ndarray
    offset: np.ndarray
    output: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, moments: Statistics) -> StateSpace:
        """The M-step: regressions of z_t on z_{t-1} and of x_t on (1, z_t)."""
        first, moves, seen = moments
        states = len(first) - 1
        mean = first[0, 1:] / first[0, 0]
        spread = _floored(first[1:, 1:] / first[0, 0] - np.outer(mean, mean))
        transition, noise = _regress(moves[1:, 1:], states, moves[0, 0])
        coefficients, error = _regress(seen, 1 + states, seen[0, 0])
        return cls(mean, spread, transition, noise, coefficients[:, 0].copy(), coefficients[:, 1:].copy(), error)


def _regress(moments: np.ndarray, inputs: int, count: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (m, inputs) and residual covariance (m, m) of the last m variables on the first `inputs`."""
    past, cross, now = moments[:inputs, :inputs], moments[:inputs, inputs:], moments[inputs:, inputs:]
    coefficients = np.ascontiguousarray(np.linalg.solve(past, cross).T)
    residual = now - coefficients @ cross - cross.T @ coefficients.T + coefficients @ past @ coefficients.T
    return coefficients, _floored(residual / count)


def _floored(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    floor = LEAST_VARIANCE * (values.mean() if values.mean() > 0 else 1.0)
    floored: np.ndarray = (vectors * np.maximum(values, floor)) @ vectors.T
    return floored


def _root(covariance: np.ndarray) -> np.ndarray:
    """A square root (..., n, n) of covariances that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0))[..., None, :]
    return root


# ------------------------------------------------------------------------------------------------ filter and smoother


class Gains(NamedTuple):
    """What T steps of the filter need that no observation changes.

    predicted: (T + 1, n, n) Cov(z_t | x_<t); filtered: (T, n, n) Cov(z_t | x_<=t); gain: (T, n, C) Kalman's, into
    z_t; whitening: (T, C, C) the inverse of the lower Cholesky factor of Cov(x_t | x_<t); deviation: (T, C) its
    standard deviations.
    """

    predicted: np.ndarray
    filtered: np.ndarray
    gain: np.ndarray
    whitening: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, model: StateSpace, steps: int) -> Gains:
        channels, states = model.output.shape
        predicted, filtered = np.empty((steps + 1, states, states)), np.empty((steps, states, states))
        gain, whitening = np.empty((steps, states, channels)), np.empty((steps, channels, channels))
        deviation = np.empty((steps, channels))
        _riccati(
            model.spread, model.transition, model.noise, model.output, model.error,
            predicted, filtered, gain, whitening, deviation,
        )  # fmt: skip
        return cls(predicted, filtered, gain, whitening, deviation)

    def smoother(self, model: StateSpace) -> np.ndarray:
        """(T, n, n): J_t = Cov(z_t, z_{t+1} | x_<=t) Cov(z_{t+1} | x_<=t)^-1."""
        return np.linalg.solve(self.predicted[1:], model.transition @ self.filtered).transpose(0, 2, 1)


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _add_product(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out += a b."""
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _add_sandwich(a: np.ndarray, b: np.ndarray, between: np.ndarray, out: np.ndarray) -> None:
    """out += a b a', through `between`, which has the shape of a b."""
    between[:] = 0
    _add_product(a, b, between)
    _add_product(between, a.T, out)


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _riccati(
    spread: np.ndarray,
    transition: np.ndarray,
    noise: np.ndarray,
    output: np.ndarray,
    error: np.ndarray,
    predicted: np.ndarray,
    filtered: np.ndarray,
    gain: np.ndarray,
    whitening: np.ndarray,
    deviation: np.ndarray,
) -> None:
    """Fill what `Gains` holds; a covariance that is not positive ends in NaN."""
    channels, states = output.shape
    seen, whitened = np.empty((channels, states)), np.empty((channels, states))
    surprise, keep = np.empty((channels, channels)), np.empty((states, states))
    between, narrow = np.empty((states, states)), np.empty((states, channels))
    minus = -output
    predicted[0] = spread
    for t in range(len(gain)):
        surprise[:] = error
        _add_sandwich(output, predicted[t], seen, surprise)
        for c in range(channels):
            deviation[t, c] = np.sqrt(surprise[c, c])
        _invert_factor(surprise, whitening[t])
        whitened[:] = 0
        _add_product(whitening[t], seen, whitened)
        gain[t] = 0
        _add_product(whitened.T, whitening[t], gain[t])
        # Joseph's form keeps the covariance positive where R is small.
        keep[:] = 0
        _add_product(gain[t], minus, keep)
        for i in range(states):
            keep[i, i] += 1
        filtered[t] = 0
        _add_sandwich(keep, predicted[t], between, filtered[t])
        _add_sandwich(gain[t], error, narrow, filtered[t])
        predicted[t + 1] = noise
        _add_sandwich(transition, filtered[t], between, predicted[t + 1])
        moved, size = 0.0, 0.0
        for i in range(states):
            for j in range(i + 1):
                predicted[t + 1, i, j] = predicted[t + 1, j, i] = (predicted[t + 1, i, j] + predicted[t + 1, j, i]) / 2
                moved = max(moved, abs(predicted[t + 1, i, j] - predicted[t, i, j]))
                size = max(size, abs(predicted[t, i, j]))
        if moved <= ARRIVED * size:
            predicted[t + 2 :] = predicted[t + 1]
            filtered[t + 1 :] = filtered[t]
            gain[t + 1 :] = gain[t]
            whitening[t + 1 :] = whitening[t]
            deviation[t + 1 :] = deviation[t]
            break


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _invert_factor(covariance: np.ndarray, inverse: np.ndarray) -> None:
    """The inverse of the lower Cholesky factor, which is left in `covariance`."""
    size = len(covariance)
    inverse[:] = 0
    for j in range(size):
        for i in range(j, size):
            for k in range(j):
                covariance[i, j] -= covariance[i, k] * covariance[j, k]
            covariance[i, j] = np.sqrt(covariance[j, j]) if i == j else covariance[i, j] / covariance[j, j]
        inverse[j, j] = 1 / covariance[j, j]
        for i in range(j):
            for k in range(i, j):
                inverse[j, i] -= covariance[j, k] * inverse[k, i]
            inverse[j, i] *= inverse[j, j]


class Panel(NamedTuple):
    """B sequences side by side, the longest first. x: (T, C, B); alive: (T,) how many have each step; order: (B,) the
    row of each column."""

    x: np.ndarray
    alive: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, mask: np.ndarray) -> Panel:
        """Of x (B, T, C) with its padding zero."""
        order = np.argsort(-mask.sum(axis=1), kind="stable")
        x = np.where(mask[..., None], x, 0)[order].transpose(1, 2, 0)
        return cls(np.ascontiguousarray(x, np.float64), np.count_nonzero(mask, axis=0), order)

    @property
    def exists(self) -> np.ndarray:
        """(T, 1, B) bool."""
        return (np.arange(self.x.shape[2]) < self.alive[:, None])[:, None]

    def rows(self, columns: np.ndarray) -> np.ndarray:
        """(T, ..., B) -> (B, T, ...) in the order that x came in."""
        out = np.empty((columns.shape[-1], *columns.shape[:-1]))
        out[self.order] = np.moveaxis(columns, -1, 0)
        return out


def predict(model: StateSpace, gains: Gains, panel: Panel) -> np.ndarray:
    """(T + 1, n, B): E(z_t | x_<t). Past a sequence's end plus one, numbers without meaning."""
    steps = len(panel.x)
    pull, keep = _one_step(model, gains, steps)
    means = np.empty((steps + 1, len(model.mean), panel.x.shape[2]))
    means[0] = model.mean[:, None]
    np.matmul(pull, panel.x - model.offset[:, None], out=means[1:])
    for t, alive in enumerate(panel.alive):
        means[t + 1, :, :alive] += keep[t] @ means[t, :, :alive]
    return means


def innovations(model: StateSpace, means: np.ndarray, panel: Panel) -> np.ndarray:
    """(T, C, B): x_t - E(x_t | x_<t)."""
    residual: np.ndarray = panel.x - model.offset[:, None] - model.output @ means[:-1]
    return residual


def log_density(model: StateSpace, gains: Gains, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(B, T): log P(x_t | x_<t) in nats, of x (B, T, C); 0 on padding."""
    steps, channels = x.shape[1:]
    lengths = mask.sum(axis=1)
    pull, keep = _one_step(model, gains, steps)
    whitening = gains.whitening[:steps]
    scale = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1) - channels * LOG_2PI / 2
    order = np.argsort(-lengths, kind="stable")
    out = np.zeros(mask.shape)
    x = np.ascontiguousarray(x, np.float64)  # one type, that numba compiles once
    _log_density(x, lengths, order, model.mean, model.offset, model.output, pull, keep, whitening, scale, out)
    return out


def _one_step(model: StateSpace, gains: Gains, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """pull (T, n, C) and keep (T, n, n): E(z_{t+1} | x_<=t) = keep E(z_t | x_<t) + pull (x_t - d)."""
    pull = model.transition @ gains.gain[:steps]
    return pull, model.transition - pull @ model.output


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _log_density(
    x: np.ndarray,
    lengths: np.ndarray,
    order: np.ndarray,
    mean: np.ndarray,
    offset: np.ndarray,
    output: np.ndarray,
    pull: np.ndarray,
    keep: np.ndarray,
    whitening: np.ndarray,
    scale: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill out (B, T), LANES sequences of like length side by side: each step is vector instructions over lanes."""
    channels, states = output.shape
    now, after = np.empty((states, LANES)), np.empty((states, LANES))
    seen, white = np.zeros((channels, LANES)), np.empty((channels, LANES))
    minus = -output
    for base in range(0, len(order), LANES):
        rows = order[base : base + LANES]
        for i in range(states):
            now[i] = mean[i]
        for t in range(lengths[rows[0]]):
            for c in range(channels):
                for lane in range(len(rows)):
                    seen[c, lane] = x[rows[lane], t, c] - offset[c]
            after[:] = 0
            _add_product(pull[t], seen, after)
            _add_product(keep[t], now, after)
            _add_product(minus, now, seen)
            white[:] = 0
            _add_product(whitening[t], seen, white)
            for lane in range(len(rows)):
                if t < lengths[rows[lane]]:
                    out[rows[lane], t] = scale[t]
                    for c in range(channels):
                        out[rows[lane], t] -= white[c, lane] ** 2 / 2
            now, after = after, now


def smooth(model: StateSpace, gains: Gains, backward: np.ndarray, panel: Panel) -> np.ndarray:
    """(T, n, B): E(z_t | x_1, ..., x_T), 0 past a sequence's end. backward: the smoother's gains."""
    steps = len(panel.x)
    predicted = predict(model, gains, panel)
    means = predicted[:-1] + gains.gain[:steps] @ innovations(model, predicted, panel)
    for t in range(steps - 2, -1, -1):
        alive = panel.alive[t + 1]
        means[t, :, :alive] += backward[t] @ (means[t + 1, :, :alive] - predicted[t + 1, :, :alive])
    return np.where(panel.exists, means, 0)


def expect(model: StateSpace, panels: list[Panel]) -> Moments:
    """The E-step."""
    channels, states = model.output.shape
    steps = max(len(panel.x) for panel in panels)
    gains = Gains.of(model, steps)
    backward = gains.smoother(model)
    first, moves = np.zeros((1 + states, 1 + states)), np.zeros((1 + 2 * states, 1 + 2 * states))
    seen = np.zeros((1 + states + channels, 1 + states + channels))
    alive = np.zeros(steps + 1)
    for panel in panels:
        means = smooth(model, gains, backward, panel)
        one = panel.exists.astype(np.float64)
        first += _moments(one[:1], means[:1])
        moves += _moments(one[1:], means[:-1] * one[1:], means[1:])
        seen += _moments(one, means, panel.x)
        alive[: len(panel.alive)] += panel.alive
    spread = np.zeros((steps + 1, states, states))  # W
    for t in range(steps - 1, -1, -1):
        excess = spread[t + 1] - alive[t + 1] * gains.predicted[t + 1]
        spread[t] = alive[t] * gains.filtered[t] + backward[t] @ excess @ backward[t].T
    z, later = slice(1, 1 + states), slice(1 + states, None)
    ends = (alive[:-1] - alive[1:])[:, None, None] * gains.filtered
    cross = np.sum(backward @ spread[1:], axis=0)
    first[z, z] += spread[0]
    moves[z, z] += np.sum(spread[:-1] - ends, axis=0)
    moves[later, later] += np.sum(spread[1:], axis=0)
    moves[z, later] += cross
    moves[later, z] += cross.T
    seen[z, z] += np.sum(spread, axis=0)
    return Moments(first, moves, seen)


def _moments(*parts: np.ndarray) -> np.ndarray:
    """Sum of w w' over steps and sequences of the (T, ., B) parts of w."""
    w = np.concatenate(parts, axis=1)
    moments: np.ndarray = np.matmul(w, w.transpose(0, 2, 1)).sum(axis=0)
    return moments


# ------------------------------------------------------------------------------------------------------------- start


def canonical(lagged: LaggedMoments, states: int, reach: int) -> Moments:
    """The statistics of a state made of the past, for EM to start from: canonical variate analysis (Larimore 1990).

    The state is the `states` combinations of the last `reach` steps that correlate most with the next `reach`, scaled
    to unit covariance. lagged: moments of windows of 2 reach steps.
    """
    channels = lagged.channels
    moments = lagged.since(2 * reach - 1)
    mean = moments[0, 1 : 1 + channels] / moments[0, 0]
    centre = moments[0, 1:] / moments[0, 0]
    covariance = moments[1:, 1:] / moments[0, 0] - np.outer(centre, centre)
    width = reach * channels
    future, past = slice(0, width), slice(width, 2 * width)
    now, moved = slice(width - channels, width), slice(width - channels, 2 * width - channels)
    whiten_future, whiten_past = (_whitening(covariance[part, part]) for part in (future, past))
    # The directions of the past, the most telling first.
    _, _, directions = np.linalg.svd(whiten_future @ covariance[future, past] @ whiten_past.T)
    combine = directions[:states] @ whiten_past
    first, moves = np.eye(1 + states), np.eye(1 + 2 * states)
    seen = np.eye(1 + states + channels)
    z, later = slice(1, 1 + states), slice(1 + states, None)
    moves[z, z] = combine @ covariance[past, past] @ combine.T
    moves[later, later] = combine @ covariance[moved, moved] @ combine.T
    moves[z, later] = combine @ covariance[past, moved] @ combine.T
    moves[later, z] = moves[z, later].T
    seen[z, z] = moves[z, z]
    seen[0, later] = seen[later, 0] = mean
    seen[z, later] = combine @ covariance[past, now]
    seen[later, z] = seen[z, later].T
    seen[later, later] = covariance[now, now] + np.outer(mean, mean)
    return Moments(first, moves, seen)


def _whitening(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    whitening: np.ndarray = (vectors / np.sqrt(np.maximum(values, 1e-6 * values[-1]))).T
    return whitening


# -------------------------------------------------------------------------------------------------------- the family


class LinearGaussian(ClosedForm):
    """Linear-Gaussian state space model, the state's size n chosen on the validation split.

    state_sizes: candidates for n; those whose start the data cannot carry are left out. passes, tolerance: EM ends
    after so many steps, or with one that gains less in nats a step of the validation split. prior_weights: candidates
    for the source's share in the evidence (0: its parameters are where EM starts and no more, 1: the model is the
    source's): its expected moments are the prior, and n is its n.
    """

    statistics: Moments
    passed: int  # over the data, by the run of EM that was chosen

    # With a source n is its n, so that weights alone are left to choose.
    candidates = ("prior_weights",)

    def __init__(
        self, space: Space, *, state_sizes: list[int], passes: int, tolerance: float, prior_weights: list[float]
    ):
        if not state_sizes or min(state_sizes) < 1:
            raise UserError(f"state_sizes: {state_sizes}; expected sizes of at least 1")
        check_search(prior_weights, passes, tolerance)
        self.space, self.state_sizes = space, sorted(state_sizes)
        self.passes, self.tolerance = passes, tolerance
        self.prior_weights = sorted(prior_weights, reverse=True)

    # ---------------------------------------------------------------------------------------------------- fitting

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """EM on `train`, context before `first` included; n, steps and weights are chosen on `valid`."""
        check_source(self.space, prior)
        if train.lengths.max(initial=0) < 2:
            longest = train.lengths.max(initial=0)
            raise UserError(f"training split: the longest sequence has {longest} steps; expected 2 or more")
        _check_finite(train, "training")
        _check_finite(valid, "validation")
        panels = [Panel.of(batch.x, batch.mask) for _, batch in train.batches(BATCH_STEPS)]
        held_out = [batch for _, batch in valid.batches(BATCH_STEPS)]
        if not any(batch.scored.any() for batch in held_out):
            raise UserError("validation split: no scored position; where EM ends is chosen on it")
        blocks: list[EStep] = [lambda moments: expect(StateSpace.of(moments), panels)]
        run = partial(
            climb,
            score=lambda moments: _held_out(StateSpace.of(moments), held_out),
            passes=self.passes,
            tolerance=self.tolerance,
        )
        if prior is None:
            search = self._from_scratch(run, blocks, train)
        else:
            search = self._from_source(run, blocks, len(train.values), prior.statistics)
        candidates, ends = zip(*search, strict=True)
        best = int(np.argmax([end.score for end in ends]))
        self._take(Moments(*ends[best].statistics))
        self.passed = ends[best].passes
        report = [
            candidate | {"passes": end.passes, "valid_log_prob": end.score}
            for candidate, end in zip(candidates, ends, strict=True)
        ]
        return {**report[best], "candidates": report, "largest_root": self.largest_root()}

    def _from_scratch(
        self, run: Callable[..., Climb], blocks: list[EStep], train: Sequences
    ) -> list[tuple[dict[str, Any], Climb]]:
        # How many steps of the past EM's start combines; with as many that follow, a window is twice that.
        reach = {size: math.ceil(size / self.space.size) + 1 for size in self.state_sizes}
        lagged = LaggedMoments.of(replace(train, first=None), self.space.size, 2 * max(reach.values()) - 1)

        def windows(size: int) -> int:
            return int(lagged.since(2 * reach[size] - 1)[0, 0])

        # More windows than numbers in one, or their covariance says nothing.
        usable = [size for size in self.state_sizes if windows(size) > 2 * reach[size] * self.space.size]
        if not usable:
            size = self.state_sizes[0]
            raise UserError(
                f"training split: a state of {size} starts from runs of {2 * reach[size]} steps and needs more than "
                f"{2 * reach[size] * self.space.size} of them, found {windows(size)}; the longest sequence has "
                f"{train.lengths.max()} steps"
            )
        found = []
        for size in usable:
            start = canonical(lagged, size, reach[size])
            prior = tuple(np.zeros_like(part) for part in start)
            found.append(({"state_size": size, "prior_weight": 0.0}, run(start, blocks=blocks, prior=prior)))
        return found

    def _from_source(
        self, run: Callable[..., Climb], blocks: list[EStep], steps: int, source: Moments
    ) -> list[tuple[dict[str, Any], Climb]]:
        """From the source's full share down, each share starting where the one above it ended."""
        now: Statistics = source
        found = []
        for share in self.prior_weights:
            if share == 1:
                end = run(source, blocks=[], prior=source)
            else:
                weight = weight_of(share, steps, float(source.seen[0, 0]))
                end = run(now, blocks=blocks, prior=total([(weight, source)]))
            now = end.statistics
            found.append(({"state_size": len(source.first) - 1, "prior_weight": share}, end))
        return found

    def _take(self, statistics: Moments) -> None:
        self.statistics, self.model = statistics, StateSpace.of(statistics)

    def largest_root(self) -> float:
        """The largest modulus of the transition's eigenvalues: the process is stable where it is below 1."""
        return float(np.abs(np.linalg.eigvals(self.model.transition)).max())

    # ------------------------------------------------------------------------------------------------- prediction

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return log_density(self.model, self._gains(x), x, mask)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        panel, gains = Panel.of(x, mask), self._gains(x)
        means = self.model.offset[:, None] + self.model.output @ predict(self.model, gains, panel)[:-1]
        exists = mask[..., None]
        return np.where(exists, panel.rows(means), 0), np.where(exists, gains.deviation, 0)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        panel, gains, model = Panel.of(prefix, mask), self._gains(prefix), self.model
        batch, lengths = len(prefix), mask.sum(axis=1)
        channels, states = model.output.shape
        rng = np.random.default_rng(seed)
        means = panel.rows(predict(model, gains, panel))[np.arange(batch), lengths]
        spread = _root(gains.predicted)[lengths]
        z = means[:, None] + rng.standard_normal((batch, samples, states)) @ spread.transpose(0, 2, 1)
        noise, error = _root(model.noise).T, _root(model.error).T
        out = np.empty((batch, samples, steps, channels))
        for step in range(steps):
            out[:, :, step] = (
                model.offset + z @ model.output.T + rng.standard_normal((batch, samples, channels)) @ error
            )
            z = z @ model.transition.T + rng.standard_normal(z.shape) @ noise
        return out

    def _gains(self, x: np.ndarray) -> Gains:
        return Gains.of(self.model, x.shape[1])

    # ------------------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, np.ndarray]:
        """Expected moments, the prior's included; parameters are their regressions."""
        return self.statistics._asdict()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self._take(Moments(**{name: np.array(state[name]) for name in Moments._fields}))

    def flops(self, train: Sequences) -> float:
        """For every pass, of each step of each sequence the filter, 2 n² + 4 n C, the smoother, 2 n² + 2 n C, and the
        moments, 2 (1 + 2 n)² + 2 (1 + n + C)²; and once for each step of the longest the covariances: the Riccati
        recursion in Joseph's form, 8 n³ + 6 n² C + 4 n C² + C³, and the smoother's, 8 n³.
        """
        channels, n = self.model.output.shape
        means = 4 * n**2 + 6 * n * channels + 2 * (1 + 2 * n) ** 2 + 2 * (1 + n + channels) ** 2
        covariances = 16 * n**3 + 6 * n**2 * channels + 4 * n * channels**2 + channels**3
        return float(self.passed * (len(train.values) * means + int(train.lengths.max()) * covariances))

    @property
    def parameters(self) -> int:
        """Those of `StateSpace`, less the n² that a change of the state's basis takes up."""
        channels, n = self.model.output.shape
        return int(n + n * (n + 1) + channels + channels * n + channels * (channels + 1) // 2)


def _held_out(model: StateSpace, batches: list[Batch]) -> float:
    """Mean log density of the scored positions in nats a step."""
    sum_, count = 0.0, 0
    gains = Gains.of(model, max(batch.x.shape[1] for batch in batches))
    for batch in batches:
        sum_ += float(log_density(model, gains, batch.x, batch.mask)[batch.scored].sum())
        count += int(batch.scored.sum())
    return sum_ / count


def _check_finite(sequences: Sequences, split: str) -> None:
    if not np.isfinite(sequences.values).all():
        for i, sequence in enumerate(sequences):
            for step, channel in np.argwhere(~np.isfinite(sequence)):
                raise UserError(
                    f"{split} split: sequence {i}, step {step}, channel {channel}: {sequence[step, channel]}; expected "
                    "a finite number"
                )
    for name, part in (("centre", sequences.centre), ("scale", sequences.scale)):
        if part is not None and not (np.isfinite(part).all() and (name == "centre" or (part > 0).all())):
            raise UserError(f"{split} split: the {name} of a sequence is not finite, or a scale is 0")
