"""New rows with their covariates, as people give them, parted into values and what stands beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.data.beside import Names, Own
from seqlab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def parted(
    data: Any, names: Names, channels: int, steps: int, id: str | None, time: str | None
) -> tuple[pd.DataFrame, list[Own]]:
    """Rows with values alone, and the covariates of each sequence in the order in which they come: of its own steps and
    of the `steps` after them.

    Rows after the last value are those to forecast: `steps` of them, where anything is known ahead. Raises UserError
    naming the sequence, the row or the column: what is missing, no number, or was never seen.
    """
    import pandas as pd

    if not isinstance(data, pd.DataFrame):
        raise UserError(f"this system forecasts with {', '.join(names.all)}; give a DataFrame with these columns")
    if lacking := [name for name in names.all if name not in data.columns]:
        there = ", ".join(map(str, data.columns))
        raise UserError(f"no column {lacking[0]!r}, a covariate that this system forecasts with; found {there}")
    values = [column for column in data.columns if column not in (id, time, *names.all)]
    if len(values) != channels:
        raise UserError(f"columns of values: found {', '.join(map(str, values)) or 'none'}, expected {channels}")
    rows, beside = [], []
    for name, part in [(0, data)] if id is None else list(data.groupby(id, sort=False)):
        ordered = part if time is None else part.sort_values(time, kind="stable")
        empty = ordered[values].isna().all(axis=1).to_numpy()
        past = len(ordered) - int(np.argmin(empty[::-1])) if not empty.all() else 0
        rows.append(ordered.iloc[:past])
        beside.append(_own(ordered, past, names, steps, f"sequence {name!r}", time))
    return pd.concat(rows)[[column for column in data.columns if column not in names.all]], beside


def _own(ordered: pd.DataFrame, past: int, names: Names, steps: int, called: str, time: str | None) -> Own:
    """Of one sequence, in order of time, whose first `past` rows have values."""
    known = _numbers(ordered, names.known, called)
    measured = np.full((past + steps, len(names.past)), np.nan)
    measured[:past] = _numbers(ordered.iloc[:past], names.past, called)
    if names.known:
        listed = ", ".join(names.known)
        if len(ordered) - past < steps:
            raise UserError(
                f"{called}: {listed} of {len(ordered) - past} of the {steps} steps to forecast; expected a row for "
                "each after the last value, its own value empty"
            )
        if len(bad := np.argwhere(np.isnan(known[past : past + steps]))):
            row, column = bad[0]
            at = "" if time is None else f" ({time} {ordered[time].iloc[past + row]})"
            raise UserError(f"{called}: {names.known[column]} is missing in step {row + 1} to forecast{at}; fill it in")
        if time is not None:
            _check_times(ordered[time].iloc[: past + steps], past, called, time)
        known = known[: past + steps]
    else:
        known = np.empty((past + steps, 0))
    return Own(known, measured, np.array([_static(ordered[name], names, called) for name in names.static], np.float64))


def _check_times(times: pd.Series[Any], past: int, called: str, column: str) -> None:
    """Raises UserError where the rows to forecast do not follow the last value at once, as the rows before did."""
    import pandas as pd

    stamps = pd.Index(times)
    if past < 2:
        return
    if isinstance(stamps, pd.DatetimeIndex):
        with pd.option_context("future.infer_freq_returns_offset", True):
            step = pd.infer_freq(stamps[:past]) if past > 2 else None
        even = step is None or stamps.equals(pd.date_range(stamps[0], periods=len(stamps), freq=step))
    else:
        strides = np.diff(stamps.to_numpy())
        even = not pd.api.types.is_numeric_dtype(stamps.dtype) or bool((strides == strides[0]).all())
    if not even:
        raise UserError(
            f"{called}: {column} of the rows to forecast does not go on from {stamps[past - 1]} step by step; found "
            f"{stamps[past]}"
        )


def _numbers(ordered: pd.DataFrame, columns: list[str], called: str) -> np.ndarray:
    """(T, n) float64, NaN where missing."""
    import pandas as pd

    found = np.empty((len(ordered), len(columns)))
    for i, column in enumerate(columns):
        found[:, i] = pd.to_numeric(ordered[column], errors="coerce")
        wrong = np.flatnonzero(np.isnan(found[:, i]) & ordered[column].notna().to_numpy())
        if len(wrong):
            value = ordered[column].iloc[wrong[0]]
            raise UserError(f"{called}, row {wrong[0] + 1}, column {column}: {value!r} is not a number")
    return found


def _static(column: pd.Series[Any], names: Names, called: str) -> float:
    """The one value of a series, of words its code. Raises UserError: several, or a word that was never seen."""
    name, values = str(column.name), list(dict.fromkeys(column.dropna()))
    if len(values) > 1:
        raise UserError(f"{called}, column {name}: {values[0]!r} and {values[1]!r}; expected one value a sequence")
    if not values or values[0] == "":
        return float("nan")
    if (levels := names.levels.get(name)) is None:
        try:
            return float(values[0])
        except ValueError:
            raise UserError(f"{called}, column {name}: {values[0]!r} is not a number") from None
    if str(values[0]) not in levels:
        raise UserError(f"{called}, column {name}: {values[0]!r} was not seen; expected one of {', '.join(levels)}")
    return float(levels.index(str(values[0])))
