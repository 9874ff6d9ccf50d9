"""The Theta method (Assimakopoulos and Nikolopoulos 2000), fitted by statsforecast.

The mean of a line through the series and of simple exponential smoothing of the series with doubled curvature, after
classical seasonal decomposition where the autocorrelation at the period is significant. Its point forecast is that of
smoothing with a drift (Hyndman and Billah 2003), from which the spread of its paths is taken.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from seqlab.data.sequences import Space
from seqlab.families.closed_form.local import LocalForecaster, Prediction

PASSES, STEP_FLOPS = 100, 10  # of the search for alpha and the level over a series, and of one step of smoothing
BURN_IN = 3  # residuals at the start that show the initial state and not the model, as the library has it


class Theta(LocalForecaster):
    """model: STM, the standard method; OTM, with its theta optimised; DSTM, DOTM, their dynamic kinds (Fiorucci et al.
    2016); null: that with the least mean squared error. decomposition: of the season; multiplicative becomes additive
    where a value is not positive.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("forecast",)
    bound = ("period",)
    shortest = BURN_IN + 3

    def __init__(
        self,
        space: Space,
        period: int,
        *,
        model: Literal["STM", "OTM", "DSTM", "DOTM"] | None,
        decomposition: Literal["additive", "multiplicative"],
    ):
        super().__init__(space, period)
        self.model, self.decomposition = model, decomposition

    def fit_flops(self, steps: int) -> float:
        """Where no model is named, all four are fitted. The decomposition is a moving average of a period."""
        return float(((4 if self.model is None else 1) * PASSES * STEP_FLOPS + 2 * self.period) * steps)

    def predict(self, past: np.ndarray, steps: int) -> Prediction:
        from statsforecast.theta import auto_theta, forecast_theta

        model = auto_theta(past, self.period, model=self.model, decomposition_type=self.decomposition)
        adjusted, ahead = unseasoned(model, steps)
        response = np.full(steps, model["par"]["alpha"])
        response[0] = 1
        found = Prediction.of(forecast_theta(model, steps)["mean"], float(adjusted[BURN_IN:].std(ddof=1)), response)
        return found._replace(deviation=found.deviation * ahead)


def unseasoned(model: dict[str, Any], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Residuals (n,) of the seasonally adjusted series, and what the season multiplies an error by, (steps,) ahead.

    The library gives residuals to which it has added, or by which it has multiplied, the season.
    """
    residuals = model["residuals"]
    if not model.get("decompose"):
        return residuals, np.ones(steps)
    season = model["seas_forecast"]["mean"]  # of the last period, which all periods share
    past = np.resize(season[::-1], len(residuals))[::-1]
    if model["decomposition_type"] == "additive":
        return residuals - past, np.ones(steps)
    return residuals / past, np.resize(season, steps)
