"""A direct linear map from a window to all steps ahead, the window's last value taken out (Zeng et al. 2023, NLinear).

Ridge regression of the next H steps on the last L in closed form, from moments alone: one pass over the data serves
every penalty and every share of the source.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from annotated_types import Ge, Len

from seqlab.data.sequences import Sequences, Space
from seqlab.families.closed_form.direct import DirectForecaster, Pairs, pairs, reaching, usable
from seqlab.families.closed_form.family import check_source
from seqlab.settings import PositiveList, ShareList


class Linear(NamedTuple):
    """shape (N, L - 1) -> intercept + shape @ slopes, (N, H)."""

    intercept: np.ndarray
    slopes: np.ndarray

    def __call__(self, shape: np.ndarray) -> np.ndarray:
        steps: np.ndarray = self.intercept + shape @ self.slopes
        return steps


class Ridge:
    """Ridge regression with a free intercept, for every penalty at once, from moments.

    moments: the sum of w w', w = (1, regressors, targets), over the observations; size: of the regressors. A penalty is
    a share of the regressors' mean variance: it adds that share to the variance of each.
    """

    def __init__(self, moments: np.ndarray, size: int):
        mean = moments[0, 1:] / moments[0, 0]
        covariance = moments[1:, 1:] / moments[0, 0] - np.outer(mean, mean)
        self.size, self.mean, self.covariance = size, mean, covariance
        self.values, self.vectors = np.linalg.eigh(covariance[:size, :size])
        self.projected = self.vectors.T @ covariance[:size, size:]

    def fit(self, penalty: float) -> Linear:
        raised = np.maximum(self.values, 0) + penalty * self.values.mean()
        slopes = self.vectors @ (self.projected / raised[:, None])
        return Linear(self.mean[self.size :] - self.mean[: self.size] @ slopes, slopes)

    def residual_covariance(self, linear: Linear) -> np.ndarray:
        """(H, H), of the observations behind the moments."""
        x, y = slice(None, self.size), slice(self.size, None)
        cross = linear.slopes.T @ self.covariance[x, y]
        explained = linear.slopes.T @ self.covariance[x, x] @ linear.slopes
        residual: np.ndarray = self.covariance[y, y] - cross - cross.T + explained
        return residual


class Fit(NamedTuple):
    """A map with its validation loss and residuals (N, H), the covariance (H, H) of the training split's, and what was
    tried for it."""

    loss: float
    linear: Linear
    residual: np.ndarray
    covariance: np.ndarray
    tried: list[dict[str, Any]]


class NLinear(DirectForecaster):
    """windows: candidate lengths L, and longer ones where none reads two periods. penalties: of the ridge, shares of
    the regressors' mean variance. prior_weights: the source's share in the evidence (0 ignores the source, 1 the
    target), as a power prior. Validation chooses each, by the mean absolute error over all horizons in units of a
    window's own changes.

    A past that is shorter than the chosen window is read through the longest of the others that it fills.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("forecast",)
    bound = ("period", "horizons")
    objectives = ("next",)

    def __init__(
        self,
        space: Space,
        period: int,
        horizons: list[int],
        *,
        windows: Annotated[list[Annotated[int, Ge(3)]], Len(1)],
        penalties: PositiveList,
        prior_weights: ShareList,
    ):
        super().__init__(space, period, horizons)
        self.windows, self.penalties, self.prior_weights = reaching(windows, period), penalties, prior_weights

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Raises UserError when no window length leaves anything to fit or to validate on."""
        check_source(self.space, prior)
        self.carry(train)
        self.evidence = {length: self._moments(train, length) for length in self.windows}
        counts = {length: int(moments[0, 0]) for length, moments in self.evidence.items()}
        lengths, held_out = usable(valid, self.period, self.steps, [n for n in self.windows if counts[n] > n])
        weights = self.prior_weights if prior is not None else [0.0]
        fits = {length: self._fit(held_out, prior, length, weights) for length in lengths}
        chosen = min(fits, key=lambda length: fits[length].loss)
        kept = [fit for length, fit in fits.items() if length <= chosen]
        self._take([length for length in fits if length <= chosen], [fit.linear for fit in kept])
        self.calibrate([(fit.residual, held_out.known) for fit in kept], fits[chosen].covariance)
        return {
            "windows": {str(length): count for length, count in counts.items()},
            "candidates": [one for fit in fits.values() for one in fit.tried],
            "chosen": min(fits[chosen].tried, key=itemgetter("valid_loss")),
        }

    def _fit(self, held_out: Pairs, prior: Self | None, length: int, weights: list[float]) -> Fit:
        """The best map from the last `length` steps."""
        shapes, futures = held_out.read(length, self.period)
        best, tried = None, []
        for weight in weights:
            ridge = Ridge(self._mixed(prior, length, weight), length - 1)
            for penalty in self.penalties:
                linear = ridge.fit(penalty)
                residual = futures - linear(shapes[:, :-1])
                loss = held_out.loss(residual, length, self.period)
                tried.append({"window": length, "prior_weight": weight, "penalty": penalty, "valid_loss": loss})
                if best is None or loss < best.loss:
                    best = Fit(loss, linear, residual, ridge.residual_covariance(linear), tried)
        assert best is not None
        return best

    def _take(self, lengths: list[int], maps: list[Linear]) -> None:
        self.lengths = self.needed = lengths
        self.maps = maps

    def _moments(self, sequences: Sequences, length: int) -> np.ndarray:
        """Of (1, shape, future) over all whole windows that change."""
        moments = np.zeros((length + self.steps,) * 2)
        for found in pairs(sequences, length, self.steps, whole=True):
            shape, future = found.moving(self.period).read(length, self.period)
            window = np.concatenate([np.ones((len(future), 1)), shape[:, :-1], future], axis=1)
            moments += window.T @ window
        return moments

    def _mixed(self, prior: Self | None, length: int, weight: float) -> np.ndarray:
        """Evidence of which the source's is a share (Ibrahim and Chen 2000, The power prior)."""
        moments = self.evidence[length]
        source = None if prior is None else prior.evidence.get(length)
        if source is None or source[0, 0] == 0 or weight == 0:
            return moments
        mixed: np.ndarray = (1 - weight) * moments / moments[0, 0] + weight * source / source[0, 0]
        return mixed

    def flops(self, train: Sequences) -> float:
        """Of each window length L that is kept the moments, two operations a number of (L + H)² and window, and the
        ridge of L - 1 regressors: its eigenvectors, nine times their cube (Golub and Van Loan 2013, section 8.3), and
        two products with them for each of the H steps."""
        total = 0.0
        for length in self.lengths:
            windows = self.space.size * np.maximum(train.lengths - length - self.steps + 1, 0).sum()
            total += 2 * windows * (length + self.steps) ** 2
            total += 9 * (length - 1) ** 3 + 4 * (length - 1) ** 2 * self.steps
        return float(total)

    def predict(self, rung: int, shape: np.ndarray, channel: np.ndarray) -> np.ndarray:
        return self.maps[rung](shape[:, :-1])

    def state(self) -> dict[str, np.ndarray]:
        """The maps, what their intervals rest on, and the moments, of which a source's are the prior of a target's."""
        arrays = super().state() | {"lengths": np.array(self.lengths)}
        for length, linear in zip(self.lengths, self.maps, strict=True):
            arrays |= {f"{length}.{name}": part for name, part in linear._asdict().items()}
        return arrays | {f"{length}.moments": moments for length, moments in self.evidence.items()}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        super().load_state(state)
        lengths = state["lengths"].tolist()
        self._take(lengths, [Linear(*(np.array(state[f"{n}.{name}"]) for name in Linear._fields)) for n in lengths])
        self.evidence = {n: np.array(state[f"{n}.moments"]) for n in self.windows if f"{n}.moments" in state}

    @property
    def parameters(self) -> int:
        """Of the map on the chosen window."""
        return sum(part.size for part in self.maps[-1])
