"""The quasi-Newton method beside scipy's, and automatic ARIMA with it beside the library's own, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from statsforecast import arima as library

from seqlab.families.closed_form import bfgs, conditional

BITS = ("x", "fun", "hess_inv", "status", "success")


def rosenbrock(x: np.ndarray) -> float:
    return float(optimize.rosen(x))


def rippled(x: np.ndarray) -> float:
    """Rough at the size of a difference: searches fail."""
    return float((x**2).sum() + 1e-7 * np.sin(1e9 * x).sum())


def walled(x: np.ndarray) -> float:
    """No number beyond a wall; there is no end before it."""
    return math.log(1 - x.sum()) if x.sum() < 1 else math.nan


def bottomless(x: np.ndarray) -> float:
    return -math.inf if x[0] > 3 else float(-x[0])


def far(x: np.ndarray) -> float:
    """So far from 0 that steps are lost in rounding."""
    return float(((x * 1e-9 - 1) ** 2).sum())


CASES: dict[str, tuple[Callable[[np.ndarray], float], list[float], int]] = {
    "smooth": (rosenbrock, [-1.2, 1.0, 0.3], 100),
    "one parameter": (lambda x: float(np.cosh(x[0] - 0.5)), [3.0], 100),
    "too long": (rosenbrock, [-1.2, 1.0, 0.3], 3),
    "rough": (rippled, [1.0, -2.0], 100),
    "walled": (walled, [0.5, 0.1], 100),
    "beyond the wall": (walled, [0.9, 0.4], 100),
    "bottomless": (bottomless, [0.0], 100),
    "flat": (lambda _: 1.0, [0.3, 0.4], 100),
    "far": (far, [3e9, -2e9], 100),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_it_goes_where_scipy_goes(name: str) -> None:
    function, start, iterations = CASES[name]
    found = bfgs.minimize(lambda points: [function(one) for one in points], np.array(start), 1e-8, iterations)
    expected = optimize.minimize(function, start, method="BFGS", tol=1e-8, options={"maxiter": iterations})
    for part in BITS:
        np.testing.assert_array_equal(found[part], expected[part], part)


def test_the_cases_end_in_every_way() -> None:
    ended = {
        bfgs.minimize(lambda points, f=function: [f(one) for one in points], np.array(start), 1e-8, most).status
        for function, start, most in CASES.values()
    }
    assert ended == {bfgs.CONVERGED, bfgs.TOO_LONG, bfgs.NO_PROGRESS, bfgs.NOT_A_NUMBER}


def walk(length: int, seed: int, period: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    season = np.sin(2 * np.pi * np.arange(length) / period) if period > 1 else 0
    return np.asarray(season + 0.3 * rng.standard_normal(length).cumsum())


def missing(series: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(series)) % 17 == 5, np.nan, series)


SERIES: dict[str, tuple[np.ndarray, int, int]] = {  # values, period, regressors
    "short": (walk(16, 0, 1), 1, 0),
    "a walk": (walk(90, 1, 1), 1, 0),
    "white noise": (np.random.default_rng(2).standard_normal(60), 1, 0),
    "seasonal": (walk(100, 3, 12), 12, 0),
    "small": (1e-6 * walk(60, 4, 4), 4, 0),
    "missing": (missing(walk(80, 5, 4)), 4, 0),
    "regressor": (walk(70, 6, 4), 4, 1),
    "regressors": (walk(70, 7, 1), 1, 2),
}


def fitted(series: np.ndarray, period: int, regressors: int) -> dict[str, Any]:
    outside = np.random.default_rng(0).standard_normal((len(series), regressors)) if regressors else None
    most = {"max_p": 2, "max_q": 2, "start_p": 1, "start_q": 1, "max_P": 1, "max_Q": 1, "nmodels": 10}
    found = library.auto_arima_f(series, period=period, xreg=outside, approximation=True, **most)
    ahead = library.forecast_arima(found, 5, level=(95.0,), xreg=None if outside is None else outside[:5])
    return {
        "orders": found["arma"],
        "coefficients": list(found["coef"].values()),
        "covariance": found["var_coef"],
        "residuals": found["residuals"],
        "likelihood": found["loglik"],
        "mean": ahead["mean"],
        "upper": ahead["upper"].to_numpy(),
    }


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.filterwarnings("ignore")
def test_a_quick_fit_is_the_librarys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def counted(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return searched(*args)

    expected, searched = fitted(*SERIES[name]), bfgs.minimize
    monkeypatch.setattr(bfgs, "minimize", counted)
    with conditional.quick():
        found = fitted(*SERIES[name])
    for part, value in expected.items():
        np.testing.assert_array_equal(found[part], value, part)
    # Where a version of the library calls another function, or names or binds its objective otherwise, none is.
    assert (asked > 0) == (SERIES[name][2] < 2)


def fail_within() -> None:
    with conditional.quick():
        assert library.minimize is conditional.minimize
        raise KeyError


def test_the_library_is_left_as_it_was() -> None:
    before = library.minimize
    with pytest.raises(KeyError):
        fail_within()
    assert library.minimize is before
