"""The quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno (Nocedal and Wright 2006, algorithm 6.1).

scipy's `minimize(method="BFGS")` with its slopes by differences, to the last bit: the same points, steps and sums. For
few parameters scipy's own work at a point is many times that of the function, so the values that make one slope are
asked for together here, which a compiled function gives at the price of one call, and nothing is wrapped.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
from scipy.optimize import OptimizeResult, line_search
from scipy.optimize._dcsrch import DCSRCH  # the search alone: around it scipy asks for every value one by one

STEP = math.sqrt(np.finfo(np.float64).eps)  # of a difference
DECREASE, CURVATURE = 1e-4, 0.9  # of Wolfe's conditions
SHORTEST, LONGEST, NARROWEST = 1e-100, 1e100, 1e-14  # steps along a direction, and an interval relative to its end
SEARCHED = 100  # points along a direction, at most
FLAT = 1000.0  # inverse of a curvature that is 0
CONVERGED, TOO_LONG, NO_PROGRESS, NOT_A_NUMBER = range(4)

Values = Callable[[np.ndarray], list[float]]
"""Of points (M, K), one value each; of a point always the same."""


class Function:
    """values: of it. Remembers the last point, since a search asks for value and slope of it in turn."""

    def __init__(self, values: Values, size: int):
        self.values = values
        self.offsets = STEP * np.eye(size + 1, size)
        self.point, self.known = b"", (math.nan, np.empty(0))

    def both(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and slope (K,)."""
        if (point := x.tobytes()) != self.point:
            points = x + self.offsets
            steps = points.diagonal() - x
            if not steps.all():  # somewhere the step is lost in rounding
                relative = np.where(x >= 0, STEP, -STEP) * np.maximum(1.0, np.abs(x))
                np.fill_diagonal(points, np.where(steps == 0, x + relative, points.diagonal()))
                steps = points.diagonal() - x
            *others, value = self.values(points)
            self.point, self.known = point, (value, (np.array(others) - value) / steps)
        return self.known

    def value(self, x: np.ndarray) -> float:
        return self.both(x)[0]

    def slope(self, x: np.ndarray) -> np.ndarray:
        return self.both(x)[1]


def minimize(values: Values, x: np.ndarray, tolerance: float, iterations: int) -> OptimizeResult:
    """From x (K,) to a slope of at most `tolerance` in any direction: `x`, `fun`, `hess_inv`, `status`, `success`."""
    function = Function(values, len(x))
    with np.errstate(all="ignore"):  # infinite values are none to step to, and no error
        return _minimize(function, np.array(x, np.float64), tolerance, iterations)


def _minimize(function: Function, x: np.ndarray, tolerance: float, iterations: int) -> OptimizeResult:
    value, slope = function.both(x)
    before = value + float(np.linalg.norm(slope)) / 2  # so that the first step has about unit length
    identity = np.eye(len(x), dtype=int)
    inverse, done, status = identity, 0, CONVERGED
    steepest = np.abs(slope).max()
    while steepest > tolerance and done < iterations:
        direction = -np.dot(inverse, slope)
        found = searched(function, x, direction, slope, value, before)
        if found is None:
            status = NO_PROGRESS
            break
        length, (value, before) = found[0], (found[1], value)
        step = length * direction
        x = x + step
        change, slope = (after := function.slope(x)) - slope, after
        done += 1
        steepest = np.abs(slope).max()
        if steepest <= tolerance or length * np.linalg.norm(direction) <= 0:
            break
        if not math.isfinite(value):
            status = NO_PROGRESS
            break
        curvature = np.dot(change, step)
        scale = FLAT if curvature == 0 else 1.0 / curvature
        left = identity - step[:, None] * change[None, :] * scale
        right = identity - change[:, None] * step[None, :] * scale
        inverse = np.dot(left, np.dot(inverse, right)) + (scale * step[:, None] * step[None, :])
    if status == CONVERGED and done >= iterations:
        status = TOO_LONG
    elif status == CONVERGED and (np.isnan(steepest) or np.isnan(value) or np.isnan(x).any()):
        status = NOT_A_NUMBER
    return OptimizeResult(x=x, fun=value, hess_inv=inverse, status=status, success=status == CONVERGED)


def searched(
    function: Function, x: np.ndarray, direction: np.ndarray, slope: np.ndarray, value: float, before: float
) -> tuple[float, float] | None:
    """How far to go and the value there, None where no length will do: after Moré and Thuente (1994), else by scipy's
    other search. before: the value one step earlier."""
    along = np.dot(slope, direction)
    first = min(1.0, 1.01 * 2 * (value - before) / along) if along != 0 else 1.0
    search = DCSRCH(
        lambda length: function.value(x + length * direction),
        lambda length: np.dot(function.slope(x + length * direction), direction),
        DECREASE,
        CURVATURE,
        NARROWEST,
        SHORTEST,
        LONGEST,
    )
    length, reached, _, _ = search(1.0 if first < 0 else first, phi0=value, derphi0=along, maxiter=SEARCHED)
    if length is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it did not converge says its answer, too
            length, _, _, reached, _, _ = line_search(
                function.value, function.slope, x, direction, slope, value, before,
                c1=DECREASE, c2=CURVATURE, amax=LONGEST,
            )  # fmt: skip
    return None if length is None else (length, reached)
