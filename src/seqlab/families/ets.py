"""Exponential smoothing in state-space form (Hyndman, Koehler, Ord and Snyder 2008), fitted by statsforecast.

Error, trend and season, each absent, additive or multiplicative, the trend damped or not; AICc chooses.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np

from seqlab.data.sequences import Space
from seqlab.errors import UserError
from seqlab.families.closed_form.local import LocalForecaster, Prediction

LONGEST_SIMULATED = 24  # steps of a period that the library can simulate, and so of a multiplicative form
SIMULATIONS = 500  # pairs of opposite paths behind the spread of a multiplicative form


class ETS(LocalForecaster):
    """form: error, trend, season, each A (additive), N (none, not the error) or Z (chosen by `criterion`). damped: the
    trend's slope; null: chosen too.

    Multiplicative forms are candidates of Z where all that is seen is positive. In logarithms, and in values
    standardised by their own past, it never is, and there an additive season is a multiplicative one.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("forecast",)
    bound = ("period",)
    shortest = 7  # the library's least, whatever the form

    def __init__(
        self, space: Space, period: int, *, form: str, damped: bool | None, criterion: Literal["aic", "aicc", "bic"]
    ):
        super().__init__(space, period)
        if not re.fullmatch("[AZ][NAZ][NAZ]", form):
            raise UserError(f"form: {form!r}; expected three letters, error (A, Z), trend and season (N, A, Z)")
        if damped and form[1] == "N":
            raise UserError(f"damped: true, but the form {form} has no trend")
        self.form, self.damped, self.criterion = form, damped, criterion

    def predict(self, past: np.ndarray, steps: int) -> Prediction:
        from statsforecast.ets import ets_f, forecast_ets

        model = ets_f(
            past,
            self.period,
            # A series of one period or less has no season to speak of; the library drops the letter only if it is Z.
            model=self.form if 1 < self.period < len(past) else self.form[:2] + "N",
            damped=self.damped,
            ic=self.criterion,
            additive_only=self.period > LONGEST_SIMULATED,
        )
        mean, sigma = forecast_ets(model, steps)["mean"], float(np.sqrt(model["sigma2"]))
        response = responses(model, steps)
        if model["components"][0] == "A":
            return Prediction.of(mean, sigma, response)
        return Prediction(mean, simulated_deviation(model, mean, sigma), response)


def responses(model: dict[str, Any], steps: int) -> np.ndarray:
    """(steps,): what an additive innovation leaves 0, 1, ... steps later, 1 at first (Hyndman et al. 2008, table 6.2).

    j steps later alpha + beta (phi + ... + phi^j), and gamma where j is a multiple of the period.
    """
    alpha, beta, gamma, phi = np.nan_to_num(model["par"][:4])
    _, trend, season, damped = model["components"]
    ahead = np.arange(steps)
    slope = beta * np.cumsum((phi if damped == "D" else 1.0) ** ahead[1:]) if trend != "N" else 0.0
    response = np.ones(steps)
    response[1:] = alpha + slope
    if season != "N":
        response[1:] += np.where(ahead[1:] % model["m"] == 0, gamma, 0.0)
    return response


def simulated_deviation(model: dict[str, Any], mean: np.ndarray, sigma: float) -> np.ndarray:
    """(H,) root mean square distance from the point forecasts of paths with normal errors, drawn in opposite pairs."""
    from statsforecast.ets import etssimulate, switch

    error, trend, season = (switch(letter) for letter in model["components"][:3])
    alpha, beta, gamma, phi = np.nan_to_num(model["par"][:4])
    phi = phi if model["components"][3] == "D" else 1.0
    half = sigma * np.random.default_rng(0).standard_normal((SIMULATIONS, len(mean)))
    path, square = np.empty(len(mean)), np.zeros(len(mean))
    for errors in (*half, *-half):
        etssimulate(
            model["states"][-1], model["m"], error, trend, season, alpha, beta, gamma, phi, len(mean), path, errors
        )
        square += (path - mean) ** 2
    return np.sqrt(square / (2 * SIMULATIONS))
