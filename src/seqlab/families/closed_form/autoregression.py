"""Autoregression by least squares: one a series for a whole panel at once, and one pooled over a panel.

Both rest on the moment matrix of lagged windows, M = sum_t w_t w_t' with w_t = (1, x_t, x_{t-1}, ..., x_{t-p}). Its
first block row takes p + 1 lagged products over the data; every other block follows from its upper left neighbour,

    sum_t x_{t-i-1} x_{t-j-1}' = sum_t x_{t-i} x_{t-j}' + (what enters at the start) - (what leaves at the end),

so the data are read in O(T p) and not O(T p^2). Least squares, orders and tests are those of Lütkepohl (2005), New
Introduction to Multiple Time Series Analysis, ch. 3-4.

`fit_each` fits an AR(p) to every series of a panel. `VectorAutoregression` is the closed-form family: a VAR(p) pooled
over the sequences of a set, exact at every position, with the source as a power prior.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numba import njit

from seqlab.data.scale import FLAT
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import ClosedForm, check_source

LOG_2PI = math.log(2 * math.pi)

# --------------------------------------------------------------------------------------------- one model a series

# Series are factored side by side so that each step of the Cholesky factorisation is a vector instruction over lanes.
LANES = 16
# Normal equations lose twice the digits that QR loses: about 1e-16 / pivot, where a pivot is the share of a lag's
# variance that the lags before it leave unexplained. Below this share a series is solved again by its singular values.
LEAST_PIVOT = 1e-8
# Sums may be reordered into vector registers; NaN and infinity keep their meaning.
REORDER = {"reassoc", "contract", "nsz", "arcp"}


class Fits(NamedTuple):
    """S autoregressions. coefficients: (S, p + 1), the constant first, then lag 1 to p; variance: (S,), the residuals'
    mean square; log_likelihood: (S,) in nats, conditional on the first p steps."""

    coefficients: np.ndarray
    variance: np.ndarray
    log_likelihood: np.ndarray


def fit_each(panel: Sequences, order: int) -> Fits:
    """Fit an AR(order) with a constant to every series of a one-channel panel by conditional least squares.

    Equals `statsmodels.tsa.ar_model.AutoReg(series, order).fit()` for each; in the units of `values` (centre and scale
    are not applied). Raises UserError naming the first series that is too short or has a number that is not finite.
    """
    needed = 2 * order + 2  # as many residuals as coefficients, and one
    if len(short := np.flatnonzero(panel.lengths < needed)):
        raise UserError(
            f"series {short[0]}: {panel.lengths[short[0]]} steps, but an autoregression of order {order} with a "
            f"constant needs at least {needed}"
        )
    values = np.asarray(panel.values).reshape(-1)
    coefficients, variance, pivot = np.empty((len(panel), order + 1)), np.empty(len(panel)), np.empty(len(panel))
    _fit_each(values, panel.offsets, order, coefficients, variance, pivot)
    for i in np.flatnonzero(~(pivot > LEAST_PIVOT)):
        series = values[panel.offsets[i] : panel.offsets[i + 1]].astype(np.float64)
        if not np.isfinite(series).all():
            step = int(np.flatnonzero(~np.isfinite(series))[0])
            raise UserError(f"series {i}, step {step}: {series[step]}; expected a finite number")
        coefficients[i], variance[i] = _minimum_norm(series, order)
    with np.errstate(divide="ignore"):  # a series that is explained exactly has an infinite likelihood
        log_likelihood = -(panel.lengths - order) / 2 * (LOG_2PI + np.log(variance) + 1)
    return Fits(coefficients, variance, log_likelihood)


def _minimum_norm(series: np.ndarray, order: int) -> tuple[np.ndarray, float]:
    """The least-squares coefficients of smallest norm, for a series whose lags are (nearly) collinear."""
    windows = np.lib.stride_tricks.sliding_window_view(series, order + 1)[:, ::-1]
    design = np.column_stack([np.ones(len(windows)), windows[:, 1:]])
    coefficients = np.linalg.lstsq(design, windows[:, 0], rcond=None)[0]
    return coefficients, float(np.mean((windows[:, 0] - design @ coefficients) ** 2))


@njit(cache=True, error_model="numpy")
def _fit_each(
    values: np.ndarray, offsets: np.ndarray, p: int, coefficients: np.ndarray, variance: np.ndarray, pivot: np.ndarray
) -> None:
    """Fill coefficients (S, p + 1), variance (S,) and the smallest relative pivot (S,), LANES series at a time."""
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    centred = np.empty(longest)
    mean, steps = np.zeros(LANES), np.ones(LANES)
    head, tail = np.ones((p, LANES)), np.ones((p, LANES))
    sums, products = np.ones((p + 1, LANES)), np.ones((p + 1, p + 1, LANES))
    gram, inverse = np.empty((p + 1, p + 1, LANES)), np.empty((p + 1, LANES))
    solution, least, row = np.empty((p + 1, LANES)), np.empty(LANES), np.empty(LANES)
    for base in range(0, len(offsets) - 1, LANES):
        lanes = min(LANES, len(offsets) - 1 - base)
        for lane in range(lanes):
            series = values[offsets[base + lane] : offsets[base + lane + 1]]
            x = centred[: len(series)]
            mean[lane] = _centre(series, x)
            steps[lane] = len(x) - p
            _lagged_products(x, p, products[0], lane)
            sums[0, lane] = 0
            for i in range(p):
                head[i, lane] = x[p - 1 - i]
                tail[i, lane] = x[len(x) - 1 - i]
                sums[0, lane] -= x[i]  # the whole centred series sums to zero
        _moments(p, products, sums, head, tail)
        _centred_gram(p, products, sums, steps, gram)
        _factor(p, gram, inverse, least, row)
        _substitute(p, gram, inverse, sums, steps, mean, solution)
        for lane in range(lanes):
            for i in range(p + 1):
                coefficients[base + lane, i] = solution[i, lane]
            variance[base + lane] = gram[p, p, lane] / steps[lane]
            pivot[base + lane] = least[lane]


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _centre(series: np.ndarray, x: np.ndarray) -> float:
    """x = series - mean(series) in float64; the mean is returned."""
    total = 0.0
    for t in range(len(series)):
        total += series[t]
    mean = total / len(series)
    for t in range(len(series)):
        x[t] = series[t] - mean
    return mean


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _lagged_products(x: np.ndarray, p: int, products: np.ndarray, lane: int) -> None:
    """products[k, lane] = sum over t >= p of x_t x_{t-k}, k = 0..p; three lags a pass share the load of x_t."""
    now = x[p:]
    k = 0
    while k + 2 <= p:
        past0, past1, past2 = x[p - k :], x[p - k - 1 :], x[p - k - 2 :]
        sum0, sum1, sum2 = 0.0, 0.0, 0.0
        for t in range(len(now)):
            sum0 += now[t] * past0[t]
            sum1 += now[t] * past1[t]
            sum2 += now[t] * past2[t]
        products[k, lane], products[k + 1, lane], products[k + 2, lane] = sum0, sum1, sum2
        k += 3
    while k <= p:
        past0, sum0 = x[p - k :], 0.0
        for t in range(len(now)):
            sum0 += now[t] * past0[t]
        products[k, lane] = sum0
        k += 1


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _moments(p: int, products: np.ndarray, sums: np.ndarray, head: np.ndarray, tail: np.ndarray) -> None:
    """From lag 0 to all: products[i, j] = sum over t >= p of x_{t-i} x_{t-j} for i <= j, sums[i] = sum of x_{t-i}."""
    for i in range(p):
        for lane in range(LANES):
            sums[i + 1, lane] = sums[i, lane] + head[i, lane] - tail[i, lane]
        for j in range(i, p):
            for lane in range(LANES):
                products[i + 1, j + 1, lane] = (
                    products[i, j, lane] + head[i, lane] * head[j, lane] - tail[i, lane] * tail[j, lane]
                )


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _centred_gram(p: int, products: np.ndarray, sums: np.ndarray, steps: np.ndarray, gram: np.ndarray) -> None:
    """The lower triangle after the constant is swept out, in the order lag 1, ..., lag p, lag 0."""
    for i in range(p + 1):
        for j in range(i + 1):
            a = (i + 1) % (p + 1)
            b = (j + 1) % (p + 1)
            for lane in range(LANES):
                gram[i, j, lane] = products[min(a, b), max(a, b), lane] - sums[a, lane] * sums[b, lane] / steps[lane]


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _factor(p: int, gram: np.ndarray, inverse: np.ndarray, least: np.ndarray, row: np.ndarray) -> None:
    """Cholesky in place, with reciprocals of the diagonal; gram[p, p] ends as the residual sum of squares."""
    for lane in range(LANES):
        least[lane] = 1.0
    for j in range(p + 1):
        for i in range(j, p + 1):
            for lane in range(LANES):
                row[lane] = gram[i, j, lane]
            for k in range(j):
                for lane in range(LANES):
                    row[lane] -= gram[i, k, lane] * gram[j, k, lane]
            if i > j:
                for lane in range(LANES):
                    gram[i, j, lane] = row[lane] * inverse[j, lane]
            else:
                for lane in range(LANES):
                    share = row[lane] / gram[j, j, lane]
                    # NaN (0 / 0 in a constant series) runs on to the last pivot and is kept: no number exceeds it.
                    least[lane] = least[lane] if least[lane] <= share else share
                    inverse[j, lane] = 1 / math.sqrt(row[lane])
                    gram[j, j, lane] = row[lane]


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _substitute(
    p: int,
    gram: np.ndarray,
    inverse: np.ndarray,
    sums: np.ndarray,
    steps: np.ndarray,
    mean: np.ndarray,
    solution: np.ndarray,
) -> None:
    """Back substitution for lags p..1, then the constant in the units of the series."""
    for lane in range(LANES):
        solution[0, lane] = mean[lane] + sums[0, lane] / steps[lane]
    for j in range(p - 1, -1, -1):
        for lane in range(LANES):
            solution[j + 1, lane] = gram[p, j, lane]
        for i in range(j + 1, p):
            for lane in range(LANES):
                solution[j + 1, lane] -= gram[i, j, lane] * solution[i + 1, lane]
        for lane in range(LANES):
            solution[j + 1, lane] *= inverse[j, lane]
            solution[0, lane] -= solution[j + 1, lane] * (mean[lane] + sums[j + 1, lane] / steps[lane])


# ------------------------------------------------------------------------------------------ one model for a panel

BATCH_STEPS = 1 << 16  # positions a batch: windows of a few dozen lags stay in tens of megabytes
# A correlation matrix whose smallest pivot is below LEAST_PIVOT is singular in the precision of the data (float32).
RIDGE = 1e-6
# A density must stay finite where a channel never moves: no direction's variance is below this share of the data's
# mean square.
LEAST_VARIANCE = 1e-8
PORTMANTEAU_LAGS = 10  # residual correlations tested beyond the order


class Regression(NamedTuple):
    """x_t given its k last values is N(c + x_{t-1} A_1 + ... + x_{t-k} A_k, covariance).

    coefficients: (1 + k C, C), rows c, A_1, ..., A_k; covariance: (C, C), the residuals' mean square; factor: its lower
    Cholesky factor.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    factor: np.ndarray

    @property
    def log_determinant(self) -> float:
        return 2 * float(np.log(np.diag(self.factor)).sum())

    def log_density(self, residual: np.ndarray) -> np.ndarray:
        """(..., C) residuals -> (...) nats."""
        whitened = np.linalg.solve(self.factor, residual.reshape(-1, residual.shape[-1]).T)
        square = np.sum(whitened * whitened, axis=0).reshape(residual.shape[:-1])
        density: np.ndarray = -(residual.shape[-1] * LOG_2PI + self.log_determinant + square) / 2
        return density

    def total_log_density(self, moments: np.ndarray) -> float:
        """The sum of log densities over the windows behind `moments` ((1 + (k + 1) C) square, see `LaggedMoments`)."""
        channels = len(self.covariance)
        contrast = np.concatenate([-self.coefficients[:1], np.eye(channels), -self.coefficients[1:]])
        scatter = contrast.T @ moments @ contrast
        square = np.trace(np.linalg.solve(self.covariance, scatter))
        return float(-(moments[0, 0] * (channels * LOG_2PI + self.log_determinant) + square) / 2)


def regress(moments: np.ndarray, channels: int) -> Regression:
    """Least squares of x_t on its lags from their moments: (1 + (k + 1) C) square, over (1, x_t, ..., x_{t-k})."""
    count = moments[0, 0]
    mean = moments[0, 1:] / count
    square = np.diag(moments)[1:]
    scatter = moments[1:, 1:] - count * np.outer(mean, mean)
    moving = np.diag(scatter) > FLAT**2 * square  # else the variance is rounding alone
    scale = np.sqrt(np.where(moving, np.diag(scatter), 1))
    correlation = np.where(moving[:, None] & moving, scatter / np.outer(scale, scale), 0)
    y, z = slice(None, channels), slice(channels, None)
    within = correlation[z, z]
    if not _positive(within):
        within = within + RIDGE * np.eye(len(within))
    slopes = np.linalg.solve(within, correlation[z, y])
    residual = correlation[y, y] - slopes.T @ correlation[z, y] - correlation[y, z] @ slopes
    residual += slopes.T @ correlation[z, z] @ slopes
    covariance = residual * np.outer(scale[y], scale[y]) / count
    covariance = (covariance + covariance.T) / 2
    floor = LEAST_VARIANCE * (square[y].mean() / count or 1.0)
    lift = floor - np.linalg.eigvalsh(covariance)[0]
    if lift > 0:
        covariance += lift * np.eye(channels)
    slopes *= scale[y] / scale[z, None]
    coefficients = np.concatenate([(mean[y] - mean[z] @ slopes)[None], slopes])
    return Regression(coefficients, covariance, np.linalg.cholesky(covariance))


def _positive(correlation: np.ndarray) -> bool:
    try:
        return len(correlation) == 0 or bool(np.diag(np.linalg.cholesky(correlation)).min() ** 2 > LEAST_PIVOT)
    except np.linalg.LinAlgError:
        return False


class LaggedMoments:
    """Sufficient statistics of every autoregression up to order P over the scored positions of a set.

    parts[k], (1 + (k + 1) C) square, is the sum of w w', w = (1, x_t, x_{t-1}, ..., x_{t-k}), over the positions t with
    exactly k past steps; parts[P] over those with P or more. So no position is left out, however short its sequence.
    """

    def __init__(self, parts: list[np.ndarray]):
        self.parts = parts
        self.channels = len(parts[0]) - 1

    @classmethod
    def of(cls, sequences: Sequences, channels: int, order: int) -> LaggedMoments:
        parts = [np.zeros((1 + (k + 1) * channels,) * 2) for k in range(order + 1)]
        for _, batch in sequences.batches(BATCH_STEPS):
            x = batch.x.astype(np.float64)
            for k in range(min(order, x.shape[1])):
                window = x[batch.scored[:, k], k::-1].reshape(-1, (k + 1) * channels)
                window = np.concatenate([np.ones((len(window), 1)), window], axis=1)
                parts[k] += window.T @ window
            if x.shape[1] > order:
                parts[order] += _lagged_moments(x, batch.scored, order)
        return cls(parts)

    @property
    def order(self) -> int:
        return len(self.parts) - 1

    @property
    def count(self) -> float:
        """How many positions."""
        positions: float = sum(part[0, 0] for part in self.parts)
        return positions

    def since(self, order: int) -> np.ndarray:
        """The moments of all positions with `order` past steps or more, over (1, x_t, ..., x_{t-order})."""
        size = 1 + (order + 1) * self.channels
        moments: np.ndarray = np.sum([part[:size, :size] for part in self.parts[order:]], axis=0)
        return moments

    def up_to(self, order: int) -> LaggedMoments:
        """The same positions with no lag beyond `order`."""
        return LaggedMoments([*self.parts[:order], self.since(order)])

    def mixed(self, source: LaggedMoments, share: float) -> LaggedMoments:
        """Evidence of which the source is `share`, 0 to 1, and these positions the rest, counted once each: the power
        prior of Ibrahim and Chen (2000).

        In the terms of a matrix-normal-inverse-Wishart prior with w = share / (1 - share) times as many steps as these:
        its mean is the source's least-squares coefficients, its precision w times the source's mean Gram matrix, its
        scatter w times the source's residual covariance.
        """
        source = source.up_to(self.order)
        if share == 1:
            return source
        weight = share / (1 - share) * self.count / source.count
        return LaggedMoments([a + weight * b for a, b in zip(self.parts, source.parts, strict=True)])

    def regressions(self, order: int) -> list[Regression]:
        """The regression on k past steps, for k = 0, ..., order, each from every position that has them.

        At k = 0 only first values count, beside the marginal distribution as a prior worth C + 1 of them, since one
        sequence alone has no covariance of first values.
        """
        marginal = self.since(0)
        first = self.parts[0] + (self.channels + 1) / marginal[0, 0] * marginal
        later = (regress(self.since(k), self.channels) for k in range(1, order + 1))
        return [regress(first, self.channels), *later]


def _lagged_moments(x: np.ndarray, scored: np.ndarray, order: int) -> np.ndarray:
    """Sum of w w' over scored positions t >= order of x (B, T, C); the scored positions of a row are contiguous."""
    _, steps, channels = x.shape
    scored = scored[:, order:]
    rows = np.flatnonzero(scored.any(axis=1))
    x, scored = x[rows], scored[rows]
    start = order + scored.argmax(axis=1)
    end = start + scored.sum(axis=1)
    # What enters before the first window and leaves at the last when all lags move on by one: (B, order, C).
    back = np.arange(1, order + 1)
    sequence = np.arange(len(rows))[:, None]
    head, tail = x[sequence, start[:, None] - back], x[sequence, end[:, None] - back]
    correction = _outer(head) - _outer(tail)
    now = np.where(scored[..., None], x[:, order:], 0).reshape(-1, channels)
    products = np.zeros((order + 1, channels, order + 1, channels))
    for lag in range(order + 1):
        products[0, :, lag] = now.T @ x[:, order - lag : steps - lag].reshape(-1, channels)
    for lag in range(order):
        products[lag + 1, :, lag + 1 :] = products[lag, :, lag:-1] + correction[lag, :, lag:]
    sums = now.sum(axis=0) + np.cumsum(np.concatenate([np.zeros((1, channels)), (head - tail).sum(axis=0)]), axis=0)
    moments = np.empty((1 + (order + 1) * channels,) * 2)
    moments[0, 0] = scored.sum()
    moments[0, 1:] = moments[1:, 0] = sums.reshape(-1)
    upper = np.triu(products.reshape(len(moments) - 1, -1))
    moments[1:, 1:] = upper + np.triu(upper, 1).T
    return moments


def _outer(windows: np.ndarray) -> np.ndarray:
    """(B, p, C) -> (p, C, p, C), summed over the batch."""
    flat = windows.reshape(len(windows), math.prod(windows.shape[1:]))
    products: np.ndarray = (flat.T @ flat).reshape(windows.shape[1:] * 2)
    return products


class VectorAutoregression(ClosedForm):
    """VAR(p) with a constant and a full residual covariance, pooled over the sequences of a set.

    lags: candidate orders. criterion: what chooses among them: the log-likelihood of the validation split over all its
    scored positions, or AIC or BIC on the training positions that all candidates share. prior_weights: candidates for
    the source's share in the evidence (0 ignores the source, 1 the target), chosen on validation.

    Positions with fewer than p past steps are predicted by the regression on as many as there are, so that log_prob is
    exact everywhere.
    """

    candidates = ("lags", "prior_weights")

    def __init__(
        self,
        space: Space,
        *,
        lags: list[int],
        criterion: Literal["valid", "aic", "bic"],
        prior_weights: list[float],
    ):
        if not lags or min(lags) < 1:
            raise UserError(f"lags: {lags}; expected orders of at least 1")
        if not prior_weights or not all(0 <= weight <= 1 for weight in prior_weights):
            raise UserError(f"prior_weights: {prior_weights}; expected shares from 0 to 1")
        self.space, self.lags, self.criterion, self.prior_weights = space, sorted(lags), criterion, prior_weights

    # ---------------------------------------------------------------------------------------------------- fitting

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        check_source(self.space, prior)
        source = None if prior is None else prior.statistics
        lags = self._estimable(train, source)
        moments = _finite_moments(train, self.space.size, lags[-1], "training")
        held_out = _finite_moments(valid, self.space.size, lags[-1], "validation")
        information = _information(moments.since(lags[-1]), self.space.size, lags)
        least = {name: min(lags, key=lambda lag: information[lag][name]) for name in ("aic", "bic")}
        orders = lags if self.criterion == "valid" else [least[self.criterion]]
        weights = [0.0] if source is None else self.prior_weights
        if held_out.count == 0 and len(orders) * len(weights) > 1:
            raise UserError("validation split: no scored position; orders and prior weights are chosen on it")
        candidates: list[dict[str, Any]] = []
        for weight in weights:
            regressions = _posterior(moments, source, weight).regressions(orders[-1])
            for order in orders:
                total = _log_likelihood(regressions, held_out.up_to(order))
                fitted = total / held_out.count if held_out.count else None
                candidates.append({"order": order, "prior_weight": weight, "valid_log_prob": fitted})
        chosen = max(candidates, key=lambda candidate: candidate["valid_log_prob"]) if held_out.count else candidates[0]
        self._take(_posterior(moments, source, chosen["prior_weight"]), chosen["order"])
        root = self.largest_root()
        return {
            "order": self.order,
            "prior_weight": chosen["prior_weight"],
            "criterion": self.criterion,
            "candidates": candidates,
            "information": [{"order": lag, **values} for lag, values in information.items()],
            "least": least,
            "largest_root": root,
            "stable": root < 1,
            "ljung_box": self.ljung_box(train),
        }

    def _take(self, moments: LaggedMoments, order: int) -> None:
        self.statistics, self.order = moments, order
        self.regressions = moments.regressions(order)

    def _estimable(self, train: Sequences, source: LaggedMoments | None) -> list[int]:
        """The candidate orders that `train` can carry, upwards."""
        first = np.zeros(len(train), np.int64) if train.first is None else train.first

        def steps(lag: int) -> int:
            return int(np.maximum(train.lengths - np.maximum(lag, first), 0).sum())

        def needed(lag: int) -> int:
            # Residuals must outnumber coefficients by more than C for a covariance of full rank, or a prior gives one.
            return (lag + 1) * self.space.size + 2 if source is None else 1

        known = self.lags if source is None else [lag for lag in self.lags if lag <= source.order]
        if source is not None and not known:
            raise UserError(f"lags: {self.lags}; expected one of at most {source.order}, the longest of the source's")
        if found := [lag for lag in known if steps(lag) >= needed(lag)]:
            return found
        lag, longest = known[0], int(train.lengths.argmax())
        raise UserError(
            f"training split: order {lag} on {self.space.size} channels needs {needed(lag)} scored steps with {lag} "
            f"before them, found {steps(lag)}; the longest sequence, {longest}, has {train.lengths[longest]} steps"
        )

    # ------------------------------------------------------------------------------------------------ diagnostics

    def largest_root(self) -> float:
        """The largest modulus of the companion matrix's eigenvalues: the process is stable where it is below 1."""
        channels, size = self.space.size, self.order * self.space.size
        companion = np.eye(size, k=-channels)
        companion[:channels] = self.regressions[-1].coefficients[1:].T
        return float(np.abs(np.linalg.eigvals(companion)).max())

    def ljung_box(self, sequences: Sequences) -> dict[str, float]:
        """Are the residuals white? Ljung and Box (1978) over order + 10 lags, for C channels as Hosking (1980) has it.

        Autocorrelations are pooled over the sequences' scored positions that have `order` past steps.
        """
        lags = self.order + PORTMANTEAU_LAGS
        covariance = np.zeros((lags + 1, self.space.size, self.space.size))
        pairs = np.zeros(lags + 1)
        for _, batch in sequences.batches(BATCH_STEPS):
            x = batch.x.astype(np.float64)
            used = batch.scored[:, self.order :]
            residual = np.where(used[..., None], (x - self._means(x))[:, self.order :], 0)
            for lag in range(min(lags + 1, used.shape[1])):
                later, earlier = slice(lag, None), slice(None, used.shape[1] - lag)
                flat = (part.reshape(-1, self.space.size) for part in (residual[:, later], residual[:, earlier]))
                covariance[lag] += next(flat).T @ next(flat)
                pairs[lag] += np.count_nonzero(used[:, later] & used[:, earlier])
        # Short sequences have no pairs at long lags; an even number of tested lags gives even degrees of freedom.
        tested = max(int(np.count_nonzero(pairs)) - 1 - self.order, 0) // 2 * 2
        precision = np.linalg.pinv(covariance[0])
        squares = np.array([np.trace(part.T @ precision @ part @ precision) for part in covariance[1:]])
        weights = np.divide(1, pairs[1:], out=np.zeros(lags), where=pairs[1:] > 0)[: self.order + tested]
        statistic = float(pairs[0] * (pairs[0] + 2) * np.sum(squares[: self.order + tested] * weights))
        freedom = self.space.size**2 * tested
        return {
            "lags": self.order + tested,
            "statistic": statistic,
            "degrees_of_freedom": freedom,
            "p_value": chi2_survival(statistic, freedom) if tested else 1.0,
        }

    # ------------------------------------------------------------------------------------------------- prediction

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64)
        residual = x - self._means(x)
        density = np.empty(mask.shape)
        for k, steps in self._by_past(mask.shape[1]):
            density[:, steps] = self.regressions[k].log_density(residual[:, steps])
        return np.where(mask, density, 0)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = x.astype(np.float64)
        deviation = np.empty_like(x)
        for k, steps in self._by_past(x.shape[1]):
            deviation[:, steps] = np.sqrt(np.diag(self.regressions[k].covariance))
        return np.where(mask[..., None], self._means(x), 0), np.where(mask[..., None], deviation, 0)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        batch, channels = len(prefix), self.space.size
        lengths = mask.sum(axis=1)
        # Time first and paths last: the last p values of all paths lie together, so that a step is one matrix product.
        paths = np.zeros((self.order + steps, channels, batch * samples))
        padded = np.pad(prefix, ((0, 0), (self.order, 0), (0, 0)))
        history = padded[np.arange(batch)[:, None], lengths[:, None] + np.arange(self.order)]
        paths[: self.order] = np.repeat(history.transpose(1, 2, 0), samples, axis=2)
        noise = np.random.default_rng(seed).standard_normal((steps, channels, batch * samples))
        for step in range(steps):
            past, now = paths[step : step + self.order], paths[step + self.order]
            known = np.minimum(lengths + step, self.order)
            for k in np.unique(known):
                constant, slopes, factor = self._oldest_first(k)
                these = slice(None) if np.all(known == k) else np.repeat(known == k, samples)
                drawn = factor @ noise[step][:, these]
                now[:, these] = constant + slopes @ past[self.order - k :, :, these].reshape(-1, drawn.shape[1]) + drawn
        return paths[self.order :].reshape(steps, channels, batch, samples).transpose(2, 3, 0, 1)

    def _oldest_first(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The regression on k steps for columns: constant (C, 1), slopes (C, k C) from the oldest lag on, factor."""
        regression, channels = self.regressions[k], self.space.size
        slopes = regression.coefficients[1:].reshape(k, channels, channels)[::-1].reshape(k * channels, channels)
        return regression.coefficients[0][:, None], slopes.T, regression.factor

    def _means(self, x: np.ndarray) -> np.ndarray:
        """(B, T, C) float64 -> the mean of each x_t given x_<t; nothing past t is read."""
        means = np.empty_like(x)
        for k, steps in self._by_past(x.shape[1]):
            coefficients = self.regressions[k].coefficients
            means[:, steps] = coefficients[0]
            for lag in range(1, k + 1):
                slopes = coefficients[1 + (lag - 1) * self.space.size : 1 + lag * self.space.size]
                means[:, steps] += x[:, steps.start - lag : steps.stop - lag] @ slopes
        return means

    def _by_past(self, length: int) -> Iterator[tuple[int, slice]]:
        """(number of past steps used, the positions that use as many)."""
        for k in range(min(self.order, length)):
            yield k, slice(k, k + 1)
        if length > self.order:
            yield self.order, slice(self.order, length)

    # ------------------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, np.ndarray]:
        parts = {f"moments.{k}": part for k, part in enumerate(self.statistics.parts)}
        return {"order": np.array([self.order]), **parts}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        parts = [state[f"moments.{k}"] for k in range(len(state) - 1)]
        self._take(LaggedMoments(parts), int(state["order"].item()))

    def flops(self, train: Sequences) -> float:
        """p + 1 products of C by C numbers a position, and for each k up to p the normal equations of its 1 + k C
        regressors, factored and solved: (1 + k C)³ / 3 multiplications and as many additions, (1 + k C)² C twice each.
        """
        channels, regressors = self.space.size, 1 + np.arange(self.order + 1) * self.space.size
        moments = 2 * len(train.values) * (self.order + 1) * channels**2
        return float(moments + np.sum(2 / 3 * regressors**3 + 4 * regressors**2 * channels))

    @property
    def parameters(self) -> int:
        """Coefficients and covariance of the regression on p past steps; those on fewer come from the same moments."""
        return self.regressions[-1].coefficients.size + self.space.size * (self.space.size + 1) // 2


def _finite_moments(sequences: Sequences, channels: int, order: int, split: str) -> LaggedMoments:
    with np.errstate(invalid="ignore"):  # infinity is named below
        moments = LaggedMoments.of(sequences, channels, order)
    if not all(np.isfinite(part).all() for part in moments.parts):
        for i, sequence in enumerate(sequences):
            for step, channel in np.argwhere(~np.isfinite(sequence)):
                raise UserError(
                    f"{split} split: sequence {i}, step {step}, channel {channel}: {sequence[step, channel]}; expected "
                    "a finite number"
                )
        raise UserError(f"{split} split: centre or scale of a sequence is not finite, or a scale is 0")
    return moments


def _posterior(target: LaggedMoments, source: LaggedMoments | None, weight: float) -> LaggedMoments:
    return target if source is None else target.mixed(source, weight)


def _log_likelihood(regressions: list[Regression], moments: LaggedMoments) -> float:
    """Of `moments`, whose order may be less than that of the longest regression."""
    return sum(regressions[k].total_log_density(part) for k, part in enumerate(moments.parts))


def _information(moments: np.ndarray, channels: int, lags: list[int]) -> dict[int, dict[str, float]]:
    """AIC and BIC of each order on the positions behind `moments`, which all of them share."""
    found = {}
    for lag in lags:
        size = 1 + (lag + 1) * channels
        likelihood = regress(moments[:size, :size], channels).total_log_density(moments[:size, :size])
        free = channels * (1 + lag * channels) + channels * (channels + 1) // 2
        found[lag] = {"aic": 2 * (free - likelihood), "bic": free * math.log(moments[0, 0]) - 2 * likelihood}
    return found


def chi2_survival(value: float, freedom: int) -> float:
    """P(X > value) of a chi-squared X with an even number of degrees of freedom: a Poisson sum. SciPy, which has
    it for any number, takes 0.35 s to import: a quarter of all that a stage in closed form waits for its imports."""
    mean = max(value / 2, np.finfo(float).tiny)
    return min(1.0, sum(math.exp(k * math.log(mean) - math.lgamma(k + 1) - mean) for k in range(freedom // 2)))
