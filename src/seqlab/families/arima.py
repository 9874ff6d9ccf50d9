"""Seasonal ARIMA with automatic orders (Hyndman and Khandakar 2008), fitted by statsforecast.

Differences by tests (KPSS; strength of the season), the other orders stepwise by an information criterion.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge
from scipy.signal import lfilter
from scipy.special import ndtri

from seqlab.data.sequences import Space
from seqlab.families.closed_form.conditional import quick
from seqlab.families.closed_form.local import LocalForecaster, Prediction
from seqlab.settings import Natural

LEVEL = 95.0  # per cent: of the interval from which the library's deviation is read
QUANTILE = ndtri(0.5 + LEVEL / 200)
PASSES = 200  # of a fit over the series, those for the gradient by differences included


class ARIMA(LocalForecaster):
    """order, seasonal_order: the most autoregressive or moving-average terms, and of seasonal ones. differences,
    seasonal_differences: the most of each. criterion: chooses the orders. models: the most that the search tries, which
    begins with five. approximation: whether it fits them by conditional sums of squares; the chosen one is fitted by
    maximum likelihood.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("forecast",)
    bound = ("period",)
    shortest = 10  # residuals that leave something to estimate an order from

    def __init__(
        self,
        space: Space,
        period: int,
        *,
        order: Natural,
        seasonal_order: Natural,
        differences: Natural,
        seasonal_differences: Natural,
        criterion: Literal["aic", "aicc", "bic"],
        models: Annotated[int, Ge(5)],
        approximation: bool,
    ):
        super().__init__(space, period)
        self.degree = order + period * seasonal_order  # of either polynomial, at most
        self.models, self.approximation = models, approximation
        self.limits = {
            "max_p": order,
            "max_q": order,
            "start_p": min(order, 1),
            "start_q": min(order, 1),
            "max_P": seasonal_order,
            "max_Q": seasonal_order,
            "start_P": min(seasonal_order, 1),
            "start_Q": min(seasonal_order, 1),
            "max_d": differences,
            "max_D": seasonal_differences,
            "ic": criterion,
            "nmodels": models,
            "approximation": approximation,
        }

    def fit_flops(self, steps: int) -> float:
        """The candidates by conditional sums of squares, a product a coefficient of the two polynomials and step, and
        one fit by the Kalman filter, three products a number of the state's covariance and step."""
        sums, filtered = 2 * (2 * self.degree + 1), 6 * (self.degree + 1) ** 2
        tried = sums if self.approximation else filtered
        return float(PASSES * (self.models * tried + filtered) * steps)

    def predict(self, past: np.ndarray, steps: int) -> Prediction:
        return self._predicted(past, steps, None)

    def _predicted(self, past: np.ndarray, steps: int, regressors: np.ndarray | None) -> Prediction:
        """regressors: (n + steps, K), of the past (n,) and the steps ahead."""
        from statsforecast.arima import auto_arima_f, forecast_arima

        seen, ahead = (None, None) if regressors is None else np.split(regressors, [len(past)])
        with warnings.catch_warnings(), quick():
            # That one candidate's search did not converge, or that the search reached its limit, decides nothing.
            warnings.filterwarnings("ignore", module="statsforecast")
            model = auto_arima_f(past, xreg=seen, period=self.period, **self.limits)
        found = forecast_arima(model, steps, xreg=ahead, level=(LEVEL,))
        reach = found["upper"].to_numpy()[:, 0] - found["mean"]
        return Prediction(found["mean"], reach / QUANTILE, responses(model["model"], steps))


def responses(model: dict[str, Any], steps: int) -> np.ndarray:
    """(steps,) psi weights of an ARIMA: theta(B) / (phi(B) times its differences), 1 at first.

    model: its `phi`, `theta` and `delta`, without the leading 1, with the signs of x_t = phi x + e_t + theta e.
    """
    own = np.concatenate([[1.0], -model["phi"]])
    differences = np.concatenate([[1.0], -model["delta"]])
    impulse = (np.arange(steps) == 0).astype(np.float64)
    return np.asarray(lfilter(np.concatenate([[1.0], model["theta"]]), np.convolve(own, differences), impulse))
