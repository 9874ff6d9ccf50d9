"""A regression of its own for every step on the whole past, all of them from one factor.

For every t, x_t is regressed on z_t = (1, x_0, ..., x_{t-1}) over the training sequences that reach t, with a ridge:

    B_t = argmin sum_i |x_t - B z_t|² + λ |B|²,      Σ_t = (that minimum + λ I) / (n_t + λ),

in units of each channel's mean and deviation. It is the mode of a matrix-normal-inverse-Wishart posterior whose prior
is worth λ sequences of white noise. All regressions together are the modified Cholesky decomposition of a covariance
between all steps (Pourahmadi 1999): in the lower Cholesky factor L of the Gram matrix of (1, x_0, ..., x_t) plus λ I,

    B_t = L_{t,<t} L_{<t,<t}^-1,      Σ_t = L_tt L_tt' / (n_t + λ),

and the factor of the steps before t is the leading block of L. Sequences of unequal length join it as t goes down from
the longest, each by a rank-one update of that block (Golub and Van Loan 2013, section 6.5.4) or many at once by a new
factorisation, so that T regressions on up to T steps of C channels cost O((T C)³ + S (T C)²) from S sequences and not
T factorisations.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from seqlab.data.scale import standardisation
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import ClosedForm, check_source

LOG_2PI = math.log(2 * math.pi)
BATCH_STEPS = 1 << 16  # positions a batch
# A rank-one update runs at a fraction of the speed of the matrix products of a factorisation: worth it for a number of
# sequences below this share of the factor's size.
ONE_BY_ONE = 1 / 16
CURVE_POINTS = 40  # of t, spaced evenly in its logarithm


class Evidence(NamedTuple):
    """Training sequences, each counted `weights` times: values (N, C) float32, offsets (S + 1,), weights (S,)."""

    values: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def steps(self) -> float:
        """How many."""
        return float(self.weights @ self.lengths)

    def mixed(self, source: Evidence, share: float) -> Evidence:
        """Evidence of which the source is `share`, 0 to 1, and this the rest: a power prior (Ibrahim and Chen 2000)."""
        if share in (0, 1):
            return source if share else self
        weight = share / (1 - share) * self.steps / source.steps
        return Evidence(
            np.concatenate([source.values, self.values]),
            np.concatenate([source.offsets, source.offsets[-1] + self.offsets[1:]]),
            np.concatenate([weight * source.weights, self.weights]),
        )

    def reach(self, support: int) -> int:
        """How many steps at least `support` sequences have; the longest sequence's if there are not as many."""
        ordered = np.sort(self.lengths)[::-1]
        return int(ordered[min(support, int(np.count_nonzero(ordered))) - 1])


class Regressions(NamedTuple):
    """x_t given x_<t for t below T, in units of `mean` and `scale` (C,).

    coefficients: (T C, 1 + T C), rows t C to (t + 1) C are B_t, zero from column 1 + t C on. factors: (T, C, C), lower
    Cholesky factors of Σ_t.
    """

    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    factors: np.ndarray

    def up_to(self, steps: int) -> Regressions:
        size = steps * len(self.mean)
        return Regressions(
            self.mean, self.scale, self.coefficients[:size, : 1 + size].copy(), self.factors[:steps].copy()
        )


def regress(evidence: Evidence, mean: np.ndarray, scale: np.ndarray, ridge: float, steps: int) -> Regressions:
    """The regressions of the first `steps` steps on all steps before them."""
    channels = len(mean)
    lengths = np.minimum(evidence.lengths, steps)
    gram = ridge * np.eye(1 + steps * channels)
    factor = np.sqrt(gram)
    coefficients = np.zeros((steps * channels, 1 + steps * channels))
    factors = np.empty((steps, channels, channels))
    number = ridge
    for t in range(steps - 1, -1, -1):
        joining = np.flatnonzero(lengths == t + 1)
        before, size = 1 + t * channels, 1 + (t + 1) * channels
        if len(joining):
            values = evidence.values[evidence.offsets[joining][:, None] + np.arange(t + 1)]
            windows = np.ones((len(joining), size))
            windows[:, 1:] = ((values - mean) / scale).reshape(len(joining), -1)
            windows *= np.sqrt(evidence.weights[joining])[:, None]
            number += evidence.weights[joining].sum()
            gram[:size, :size] += windows.T @ windows
            if len(joining) < ONE_BY_ONE * size:
                _update(factor, windows)
            else:
                factor[:size, :size] = np.linalg.cholesky(gram[:size, :size])
        coefficients[before - 1 : size - 1, :before] = _solve(factor, factor[before:size, :before].copy())
        factors[t] = factor[before:size, before:size] / math.sqrt(number)
    return Regressions(mean, scale, coefficients, factors)


@njit(cache=True)
def _update(factor: np.ndarray, windows: np.ndarray) -> None:
    """L L' += w w' for every row w of `windows`, which is overwritten, in L's leading block; L is lower triangular."""
    for row in range(windows.shape[0]):
        w = windows[row]
        for j in range(len(w)):
            radius = math.hypot(factor[j, j], w[j])
            cosine, sine = radius / factor[j, j], w[j] / factor[j, j]
            factor[j, j] = radius
            for i in range(j + 1, len(w)):
                factor[i, j] = (factor[i, j] + sine * w[i]) / cosine
                w[i] = cosine * w[i] - sine * factor[i, j]


@njit(cache=True)
def _solve(factor: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """rows L^-1 for the leading block of the lower triangular L, in place."""
    for row in range(rows.shape[0]):
        r = rows[row]
        for j in range(len(r) - 1, -1, -1):
            r[j] /= factor[j, j]
            for i in range(j):
                r[i] -= r[j] * factor[j, i]
    return rows


class WholePast(ClosedForm):
    """A ridge regression on all past steps for each step, with a full residual covariance.

    ridges: candidates for λ, in sequences of white noise. prior_weights: candidates for the source's share in the
    evidence (0 ignores the source, 1 the target); a step that one of the two does not reach has the other's evidence
    alone. supports: candidates for the number of sequences that must reach a step for a regression of its own. All are
    chosen on validation. regressors: the most that a regression may have.

    Beyond the T steps with a regression of their own, the last regression, on T - 1 steps, goes on with the last T - 1
    steps, as if the sequence had begun there: the process is taken as stationary from then on.

    All steps of training sequences count, those before a sequence's `first` too.
    """

    evidence: Evidence
    regressions: Regressions

    candidates = ("ridges", "prior_weights", "supports")

    def __init__(
        self, space: Space, *, ridges: list[float], prior_weights: list[float], supports: list[int], regressors: int
    ):
        if not ridges or not all(0 < ridge < math.inf for ridge in ridges):
            raise UserError(f"ridges: {ridges}; expected finite numbers of sequences above 0")
        if not prior_weights or not all(0 <= weight <= 1 for weight in prior_weights):
            raise UserError(f"prior_weights: {prior_weights}; expected shares from 0 to 1")
        if not supports or min(supports) < 1:
            raise UserError(f"supports: {supports}; expected numbers of sequences of at least 1")
        if regressors < 1:
            raise UserError(f"regressors: {regressors}; expected at least 1")
        self.space, self.ridges, self.prior_weights = space, ridges, prior_weights
        self.supports, self.regressors = supports, regressors

    @property
    def reach(self) -> int:
        """T, the number of steps with a regression of their own."""
        return len(self.regressions.factors)

    # ---------------------------------------------------------------------------------------------------- fitting

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        check_source(self.space, prior)
        values = _standardised(train, "training")
        if len(values) == 0:
            raise UserError("training split: no steps; a regression needs at least one")
        _standardised(valid, "validation")
        own = Evidence(values, np.array(train.offsets, np.int64), np.ones(len(train)))
        mean, scale = standardisation(values.astype(np.float64, copy=False))
        weights = [0.0] if prior is None else self.prior_weights
        held_out = [batch for _, batch in valid.batches(BATCH_STEPS) if batch.scored.any()]
        if not held_out and len(weights) * len(self.ridges) * len(self.supports) > 1:
            raise UserError("validation split: no scored position; ridge, prior weight and support are chosen on it")
        number = sum(int(batch.scored.sum()) for batch in held_out)
        candidates: list[dict[str, Any]] = []
        best = -math.inf
        for weight in weights:
            evidence = own if prior is None else own.mixed(prior.evidence, weight)
            reaches = self._reaches(evidence)
            for ridge in self.ridges:
                longest = regress(evidence, mean, scale, ridge, max(reaches))
                for reach in reaches:
                    self.regressions = longest.up_to(reach)
                    total = sum(float(self.log_prob(batch.x, batch.mask)[batch.scored].sum()) for batch in held_out)
                    fitted = total / number if number else None
                    candidates.append(
                        {"prior_weight": weight, "ridge": ridge, "reach": reach, "valid_log_prob": fitted}
                    )
                    if fitted is None or fitted > best:
                        best = -math.inf if fitted is None else fitted
                        chosen, found = candidates[-1], (evidence, self.regressions)
        self.evidence, self.regressions = found
        return {
            **{name: chosen[name] for name in ("prior_weight", "ridge", "reach")},
            "candidates": candidates,
            "growth": self._growth(train),
        }

    def _reaches(self, evidence: Evidence) -> list[int]:
        """Candidates for T, downwards."""
        most = (self.regressors - 1) // self.space.size + 1
        return sorted({min(evidence.reach(support), most) for support in self.supports}, reverse=True)

    def _growth(self, train: Sequences) -> dict[str, Any]:
        """What the regression on t steps costs and needs.

        regressors: of each channel, which is how many sequences ordinary least squares would need; sequences: of the
        training split that reach t; parameters: of the regression on t steps; bytes: of those up to t together.
        """
        channels, longest = self.space.size, int(train.lengths.max())
        t = np.unique(np.geomspace(1, longest, CURVE_POINTS).astype(np.int64)) - 1
        regressors = 1 + t * channels
        covariance = channels * (channels + 1) // 2
        together = channels * (t + 1) * (1 + channels * t / 2) + (t + 1) * covariance
        return {
            "t": t.tolist(),
            "counts": {
                "regressors": regressors.tolist(),
                "sequences": np.count_nonzero(train.lengths > t[:, None], axis=1).tolist(),
                "parameters": (channels * regressors + covariance).tolist(),
                "bytes": (together * np.dtype(np.float64).itemsize).astype(np.int64).tolist(),
            },
            "shares": {},
        }

    # ------------------------------------------------------------------------------------------------- prediction

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        z = self._units(x)
        residual = z - self._means(z)
        own = np.minimum(np.arange(x.shape[1]), self.reach - 1)
        inverse = np.linalg.inv(self.regressions.factors)
        whitened = np.einsum("btc,tdc->btd", residual, inverse[own])
        diagonal = np.diagonal(self.regressions.factors, axis1=1, axis2=2) * self.regressions.scale
        constant = self.space.size * LOG_2PI / 2 + np.log(diagonal).sum(axis=1)
        return np.where(mask, -constant[own] - (whitened * whitened).sum(axis=2) / 2, 0)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = self.regressions.mean + self.regressions.scale * self._means(self._units(x))
        deviation = self.regressions.scale * np.sqrt((self.regressions.factors**2).sum(axis=2))
        own = np.minimum(np.arange(x.shape[1]), self.reach - 1)
        exists = mask[..., None]
        return np.where(exists, mean, 0), np.where(exists, deviation[own], 0)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        batch, length, channels = prefix.shape
        known = mask.sum(axis=1)
        paths = np.zeros((batch, samples, length + steps, channels))
        paths[:, :, :length] = self._units(prefix)[:, None]
        noise = np.random.default_rng(seed).standard_normal((batch, samples, steps, channels))
        for step in range(steps):
            own = np.minimum(known + step, self.reach - 1)
            for t in np.unique(own):
                rows = np.flatnonzero(own == t)
                now = known[rows] + step
                past = paths[rows[:, None], :, now[:, None] - t + np.arange(t)].swapaxes(1, 2)
                mean = self._mean(t, past.reshape(len(rows), samples, -1))
                paths[rows, :, now] = mean + noise[rows, :, step] @ self.regressions.factors[t].T
        drawn = paths[np.arange(batch)[:, None], :, known[:, None] + np.arange(steps)].swapaxes(1, 2)
        values: np.ndarray = self.regressions.mean + self.regressions.scale * drawn
        return values

    def _units(self, x: np.ndarray) -> np.ndarray:
        units: np.ndarray = (x.astype(np.float64) - self.regressions.mean) / self.regressions.scale
        return units

    def _mean(self, t: int, past: np.ndarray) -> np.ndarray:
        """The mean after t steps, (..., t C) -> (..., C)."""
        rows = self.regressions.coefficients[t * self.space.size : (t + 1) * self.space.size]
        mean: np.ndarray = rows[:, 0] + past @ rows[:, 1 : 1 + t * self.space.size].T
        return mean

    def _means(self, z: np.ndarray) -> np.ndarray:
        """(B, T, C) -> the mean of each z_t given z_<t; nothing past t is read."""
        batch, steps, channels = z.shape
        flat, last = z.reshape(batch, steps * channels), self.reach - 1
        means = np.empty_like(z)
        for t in range(steps):
            own = min(t, last)
            means[:, t] = self._mean(own, flat[:, (t - own) * channels : t * channels])
        return means

    # ------------------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, np.ndarray]:
        """The regressions, and the evidence, of which a source's model is the prior of another."""
        return {**self.evidence._asdict(), **self.regressions._asdict()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.evidence = Evidence(*(np.array(state[name]) for name in Evidence._fields))
        self.regressions = Regressions(*(np.array(state[name]) for name in Regressions._fields))

    def flops(self, train: Sequences) -> float:
        """With n = 1 + T C: of each sequence the products of its own 1 + t C numbers, (1 + t C)² twice; a factor of n
        by n numbers, n³ / 3; and from it the coefficients of all steps by substitution, n³ / 3."""
        lengths = np.minimum(train.lengths, self.reach)
        size = 1 + self.reach * self.space.size
        return float(2 * np.sum((1.0 + lengths * self.space.size) ** 2) + 2 / 3 * size**3)

    @property
    def parameters(self) -> int:
        """Coefficients and covariances of all steps."""
        channels, steps = self.space.size, self.reach
        coefficients = channels * (steps + channels * steps * (steps - 1) // 2)
        return coefficients + steps * channels * (channels + 1) // 2


def _standardised(sequences: Sequences, split: str) -> np.ndarray:
    """(N, C) float32, each sequence in its own units. Raises UserError naming a number that is not finite."""
    values = np.asarray(sequences.values)
    for i, step, channel in _not_finite(values, sequences.offsets):
        found = sequences[i][step, channel]
        raise UserError(
            f"{split} split: sequence {i}, step {step}, channel {channel}: {found}; expected a finite number"
        )
    if sequences.centre is not None and sequences.scale is not None:
        with np.errstate(divide="ignore", invalid="ignore"):  # named below
            values = values - np.repeat(sequences.centre, sequences.lengths, axis=0)
            values /= np.repeat(sequences.scale, sequences.lengths, axis=0)
        for i, _, channel in _not_finite(values, sequences.offsets):
            raise UserError(
                f"{split} split: sequence {i}, channel {channel}: centre {sequences.centre[i, channel]}, scale "
                f"{sequences.scale[i, channel]}; expected finite numbers and a scale above 0"
            )
    return values.astype(np.float32, copy=False)


def _not_finite(values: np.ndarray, offsets: np.ndarray) -> list[tuple[int, int, int]]:
    """(sequence, step, channel) of the first number that is not finite, if there is one."""
    if np.isfinite(values).all():
        return []
    position, channel = np.argwhere(~np.isfinite(values))[0]
    i = int(np.searchsorted(offsets, position, side="right")) - 1
    return [(i, int(position - offsets[i]), int(channel))]
