"""What varies, by one rule for all who divide by a spread; and the numbers that hold what varies."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# Of the level: a movement below FLAT is none, unless most steps show it and it is still above what rounding makes.
FLAT, ROUNDING = 1e-6, 1e-11
# Of the spread: float32 may move a value by this much, and no further.
FINE = 1e-3


def moves(changes: np.ndarray, level: np.ndarray | float) -> np.ndarray:
    """(C,) bool: whether changes (T, C), or distances from a middle, are more than noise about values of size `level`.

    Their root mean square must exceed FLAT of the level, so that neither rounding nor a single flicker passes for a
    unit of measurement; or their median ROUNDING of it, because a great level may hide a small movement that is steady.
    """
    size = np.abs(changes)
    return np.asarray((np.sqrt((size**2).mean(0)) > FLAT * level) | (np.median(size, axis=0) > ROUNDING * level))


def varies(values: np.ndarray, level: np.ndarray | float | None = None) -> np.ndarray:
    """(C,) bool: whether values (T, C), T at least 1, vary. level: of their size; None: the largest."""
    values = np.asarray(values, np.float64)
    return moves(values - np.median(values, axis=0), np.abs(values).max(0) if level is None else level)


def standardisation(values: np.ndarray, level: np.ndarray | float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) of values (T, C); what does not vary keeps its unit, 1."""
    deviation = values.std(0)
    return values.mean(0), np.where(varies(values, level), deviation, 1)


def storing(series: Iterable[np.ndarray]) -> type[np.float32] | type[np.float64]:
    """The type that holds series (T, C) so finely that what varies in each of them stays: float32 where it does."""
    for values in series:
        spread = np.where(varies(values), values.std(0), np.inf)
        if (np.finfo(np.float32).eps * np.abs(values).max(0) > FINE * spread).any():
            return np.float64
    return np.float32
