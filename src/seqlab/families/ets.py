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

SIMULATIONS = 500  # pairs of opposite paths behind the spread of a multiplicative form
# Passes of the library's search over a series: seasonal forms end at its limit, others after about so many.
SEASONAL_PASSES, PASSES = 1000, 70
STEP_FLOPS = 16  # level, slope and season of one step, the error and its square


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

    def fit_flops(self, steps: int) -> float:
        """Every candidate form is fitted; of values that are not all positive the additive ones."""
        trends = {"N": 1, "A": 1, "Z": 2}[self.form[1]] + (self.damped is None and self.form[1] != "N")
        seasonal = self.form[2] != "N" and 1 < self.period < steps
        passes = SEASONAL_PASSES * seasonal + PASSES * (self.form[2] != "A" or not seasonal)
        return float(trends * passes * STEP_FLOPS * steps)

    def predict(self, past: np.ndarray, steps: int) -> Prediction:
        from statsforecast.ets import ets_f, forecast_ets

        model = ets_f(
            past,
            self.period,
            # A series of one period or less has no season to speak of; the library drops the letter only if it is Z.
            model=self.form if 1 < self.period < len(past) else self.form[:2] + "N",
            damped=self.damped,
            ic=self.criterion,
        )
        mean, sigma = forecast_ets(model, steps)["mean"], float(np.sqrt(model["sigma2"]))
        response = responses(model, steps)
        if model["components"][0] == "A":
            return Prediction.of(mean, sigma, response)
        return Prediction(mean, simulated_deviation(model, steps, sigma), response)


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


def simulated(model: dict[str, Any], states: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Paths (N, H) that begin at `states`, as the library keeps them, and meet errors (N, H): of an additive form the
    innovations, else their shares of what was expected (Hyndman et al. 2008, table 2.2-2.3)."""
    error, trend, season, damped = model["components"]
    alpha, beta, gamma, phi = np.nan_to_num(model["par"][:4])
    level, slope = np.full(len(errors), states[0]), np.full(len(errors), states[1] if trend != "N" else 0.0)
    seasons = np.tile(states[1 + (trend != "N") :][: model["m"]], (len(errors), 1)) if season != "N" else None
    paths = np.empty_like(errors)
    for h in range(errors.shape[1]):
        slope = slope * (phi if damped == "D" else 1.0)
        before = level + slope
        now = 0.0 if seasons is None else seasons[:, -1]
        expected = before * now if season == "M" else before + now
        paths[:, h] = expected + errors[:, h] * (1.0 if error == "A" else expected)
        level = before + alpha * ((paths[:, h] / now if season == "M" else paths[:, h] - now) - before)
        slope = slope + beta / alpha * (level - before)
        if seasons is not None:
            found = paths[:, h] / before if season == "M" else paths[:, h] - before
            seasons = np.column_stack([now + gamma * (found - now), seasons[:, :-1]])
    return paths


def simulated_deviation(model: dict[str, Any], steps: int, sigma: float) -> np.ndarray:
    """(steps,) root mean square distance of paths with normal errors, drawn in opposite pairs, from one without any."""
    half = sigma * np.random.default_rng(0).standard_normal((SIMULATIONS, steps))
    paths = simulated(model, model["states"][-1], np.concatenate([np.zeros((1, steps)), half, -half]))
    return np.asarray(np.sqrt(((paths[1:] - paths[0]) ** 2).mean(axis=0)))
