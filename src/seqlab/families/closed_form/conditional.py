"""Quicker fits of statsforecast's ARIMA, with the same bits: its objective compiled, and its search over it our own.

Candidates are fitted by the conditional sum of squares (Box and Jenkins 1976, chapter 7): thousands of passes over a
short series, each a Python function of the library's that scipy wraps several times.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import njit
from scipy import optimize
from scipy.optimize import OptimizeResult

from seqlab.families.closed_form import bfgs

OBJECTIVE = "arma_css_op"  # the library's, of its conditional sum of squares


@contextmanager
def quick() -> Iterator[None]:
    """Within it, the library's ARIMA is fitted with the minimiser of this module.

    The function to replace is a name in the library's module, since it takes none as an argument. Fits of others that
    happen meanwhile give the same, too.
    """
    from statsforecast import arima

    known, arima.minimize = arima.minimize, minimize
    try:
        yield
    finally:
        arima.minimize = known


def minimize(objective: Callable[..., float], start: np.ndarray, args: tuple[Any, ...], **given: Any) -> OptimizeResult:
    """In the place of scipy's, with what the library gives it."""
    values = squares(objective, *args) if objective.__name__ == OBJECTIVE else None
    if values is None:
        # The likelihood among them, whose value depends on what it was last asked: scipy's order of questions is part
        # of its answer.
        return optimize.minimize(objective, start, args=args, **given)
    assert given["method"] == "BFGS"
    return bfgs.minimize(values, start, given["tol"], given["options"]["maxiter"])


def squares(objective: Callable[..., float], series: np.ndarray) -> bfgs.Values | None:
    """The library's objective, compiled. None where it has more to it: several regressors, or parameters held fixed."""
    cells = objective.__closure__
    assert cells is not None
    own = {name: cell.cell_contents for name, cell in zip(objective.__code__.co_freevars, cells, strict=True)}
    if own["ncxreg"] > 1 or not own["mask"].all():
        return None
    regressor = np.ascontiguousarray(own["xreg"][:, 0]) if own["ncxreg"] else np.empty(0)
    orders = own["arma"]
    return lambda points: [_logarithm(one) for one in mean_squares(points, series, regressor, orders).tolist()]


def _logarithm(square: float) -> float:
    if math.isinf(square):
        return sys.float_info.max
    return 0.5 * math.log(square) if square > 0 or math.isnan(square) else -math.inf


# Without numba's fastmath: a sum in another order has other last bits.


@njit(cache=True)
def mean_squares(points: np.ndarray, series: np.ndarray, regressor: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """(M,) mean squared errors of a series (T,) at points (M, K): coefficients, autoregressive and moving-average, then
    those of the season, then, where K has one more, of a regressor (T,).

    orders: p, q, P, Q, period, d, D. Where an error is no number it does not count.
    """
    found = np.empty(len(points))
    for row, point in enumerate(points):
        own, moving = polynomials(point, orders)
        rest = series - regressor * point[-1] if len(regressor) else series.copy()
        difference(rest, 1, orders[5])
        difference(rest, orders[4], orders[6])
        first = orders[0] + orders[5] + orders[4] * (orders[2] + orders[6])
        errors, count, total = np.empty(len(rest)), 0, 0.0
        for t in range(first, len(rest)):
            error = rest[t]
            for lag in range(min(t, len(own))):
                error -= own[lag] * rest[t - lag - 1]
            for lag in range(min(t - first, len(moving))):
                error -= moving[lag] * errors[t - lag - 1]
            errors[t] = error
            if not np.isnan(error):
                count += 1
                total += error * error
        found[row] = total / count if count else np.nan
    return found


@njit(cache=True)
def difference(values: np.ndarray, lag: int, times: int) -> None:
    """In place, from `lag` on."""
    for _ in range(times):
        for t in range(len(values) - 1, lag - 1, -1):
            values[t] -= values[t - lag]


@njit(cache=True)
def polynomials(point: np.ndarray, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(p + P period,), (q + Q period,): the products of the polynomials and those of the season, as the library's phi
    and theta."""
    p, q, seasonal_p, seasonal_q, period = orders[0], orders[1], orders[2], orders[3], orders[4]
    own, moving = np.zeros(p + period * seasonal_p), np.zeros(q + period * seasonal_q)
    own[:p], moving[:q] = point[:p], point[p : p + q]
    for j in range(seasonal_p):
        factor, start = point[p + q + j], (j + 1) * period
        own[start - 1] += factor
        for i in range(p):
            own[start + i] -= point[i] * factor
    for j in range(seasonal_q):
        factor, start = point[p + q + seasonal_p + j], (j + 1) * period
        moving[start - 1] += factor
        for i in range(q):
            moving[start + i] += point[p + i] * factor
    return own, moving
