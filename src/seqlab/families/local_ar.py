"""A local autoregression: one of each series, its order by an information criterion, fitted anew at each origin.

Where the others of this kind learn one recurrence from a whole panel, here every series has its own
(Brockwell and Davis 1991, Time Series: Theory and Methods, ch. 8-9).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from annotated_types import Len
from scipy.signal import lfilter

from seqlab.data.sequences import Sequences, Space
from seqlab.families.closed_form.autoregression import fit_each
from seqlab.families.closed_form.backtest import backtest
from seqlab.families.closed_form.local import LocalForecaster, Prediction, carried
from seqlab.settings import Count

Difference = Literal["none", "step", "season"]


class LocalAR(LocalForecaster):
    """order: the highest. criterion: what chooses it, on the steps that all orders share. differences: candidates for
    what is taken before: nothing, the step before, the step a period before; validation chooses one for all series.

    An order whose fit explodes, a root of its polynomial on or inside the unit circle, is no candidate.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("forecast",)
    bound = ("period", "horizons")

    def __init__(
        self,
        space: Space,
        period: int,
        horizons: list[int],
        *,
        order: Count,
        criterion: Literal["aic", "aicc", "bic"],
        differences: Annotated[list[Difference], Len(1)],
    ):
        super().__init__(space, period)
        self.horizons, self.order, self.criterion, self.differences = horizons, order, criterion, differences

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Choose the difference. Raises UserError when validation has nothing to choose by."""
        self.carried = carried(train)
        tried = list(dict.fromkeys(self._lag(name) for name in self.differences))
        errors = {}
        for lag in tried if len(tried) > 1 else []:
            self._take(lag)
            errors[lag] = backtest(self.point, valid, self.period, max(self.horizons))
        self._take(min(errors, key=errors.__getitem__, default=tried[0]))
        return {"difference": self.lag, "candidates": [{"difference": d, "valid_mase": e} for d, e in errors.items()]}

    def _lag(self, name: Difference) -> int:
        return {"none": 0, "step": 1, "season": self.period}[name]

    def _take(self, lag: int) -> None:
        self.lag, self.shortest = lag, lag + 6  # one slope, a constant, and residuals to spare

    def fit_flops(self, steps: int) -> float:
        """Of each order p the products of p + 1 lagged values a step, and p + 1 normal equations, factored."""
        size = np.arange(1, min(self.order, max((steps - 2) // 2, 0)) + 1) + 1
        return float((2 * steps * size + 2 / 3 * size**3).sum())

    def predict(self, past: np.ndarray, steps: int) -> Prediction:
        series = past[self.lag :] - past[: -self.lag] if self.lag else past
        constant, slopes, sigma = self._fitted(series)
        ahead = np.concatenate([series, np.zeros(steps)])
        for t in range(len(series), len(ahead)):
            ahead[t] = constant + slopes @ ahead[t - len(slopes) : t][::-1]
        mean = ahead[len(series) :]
        response = (np.arange(steps) == 0).astype(np.float64)
        response = lfilter([1.0], np.concatenate([[1.0], -slopes]), response)
        if self.lag:
            mean, response = _integrated(mean, past[-self.lag :]), _integrated(response, np.zeros(self.lag))
        return Prediction.of(mean, sigma, response)

    def _fitted(self, series: np.ndarray) -> tuple[float, np.ndarray, float]:
        """Constant, slopes (p,) and the innovations' deviation of the order with the least criterion."""
        most = min(self.order, (len(series) - 2) // 2)
        shared = len(series) - most
        fits = [(float(series[most:].mean()), np.empty(0), float(series[most:].var()))]
        for order in range(1, most + 1):
            found = fit_each(Sequences.from_arrays([series[most - order :, None]]), order)
            fits.append((float(found.coefficients[0, 0]), found.coefficients[0, 1:], float(found.variance[0])))
        with np.errstate(divide="ignore"):  # a series that is explained exactly
            fitness = [
                shared * np.log(variance) + self._penalty(p + 2, shared) for p, (_, _, variance) in enumerate(fits)
            ]
        for p in np.argsort(fitness, kind="stable"):
            constant, slopes, variance = fits[p]
            if stable(slopes):
                return constant, slopes, float(np.sqrt(variance * shared / max(shared - p - 1, 1)))
        raise AssertionError("order 0 does not explode")

    def _penalty(self, parameters: int, steps: int) -> float:
        if self.criterion == "bic":
            return float(parameters * np.log(steps))
        if self.criterion == "aic":
            return 2.0 * parameters
        spare = steps - parameters - 1
        return 2.0 * parameters * steps / spare if spare > 0 else np.inf

    def state(self) -> dict[str, np.ndarray]:
        return {**self.carried, "lag": np.array([self.lag])}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        super().load_state(state)
        self._take(int(state["lag"].item()))


def stable(slopes: np.ndarray) -> bool:
    """Whether x_t = slopes_1 x_{t-1} + ... + slopes_p x_{t-p} dies out."""
    return bool((np.abs(np.roots(np.concatenate([[1.0], -slopes]))) < 1).all())


def _integrated(changes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Values whose change over `len(last)` steps is `changes`, after the values `last`."""
    lag = len(last)
    rows = np.resize(np.concatenate([changes, np.zeros(-len(changes) % lag)]), (-(-len(changes) // lag), lag))
    values: np.ndarray = (last + np.cumsum(rows, axis=0)).reshape(-1)[: len(changes)]
    return values
