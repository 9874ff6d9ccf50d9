"""Predictions of models from elsewhere, as a table, judged on the same examples by the same metrics.

A forecast is a row: a series, the last step that was known (the cutoff), the step that is forecast, and its columns.

* as Nixtla's libraries write them: `unique_id, cutoff, ds`, and for each model `MODEL` (its point forecast), and where
  it has them `MODEL-median`, `MODEL-lo-80`, `MODEL-hi-80`, ... ; several models in a file are several systems
* as AutoGluon writes them: `item_id, timestamp, mean, 0.1, ..., 0.9`, with a column `cutoff` beside them; the system is
  called as the file is

What there is to forecast is told by two tables: `history` (unique_id, ds, y, timestamp) and `cutoffs` (unique_id,
cutoff, h). A series is its number among the test series, with `:CHANNEL` behind it where there are several channels; a
step is its number in the series, or a day counted from EPOCH, for libraries that want dates. A column `y` is compared
with what the test has, so that predictions of other data are noticed.

A class prediction is a row as well: `example`, its number among the test sequences, and a probability for each class,
in columns called as the classes are. What there is to classify, and to learn from, is told by a table `examples`
(split, example, label, and text or values), in which the test has no labels.

What a table does not say is not scored: a metric that needs a quantile which is not there is left out, and said.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.data.readers import read_lines
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.evaluation.judge import INVERSE, Settings, Traits
from seqlab.evaluation.leaderboard import OUTSIDE, Entry
from seqlab.evaluation.metrics import (
    CLASSIFY,
    DECILES,
    INTERVALS,
    LEVELS,
    Forecast,
    forecast_scores,
    naive_errors,
    origins_of,
    recorded,
)
from seqlab.evaluation.scores import Predictions, Scores

if TYPE_CHECKING:
    import pyarrow as pa

EPOCH = date(2000, 1, 1)  # the day of step 0
LEAST = 1e-15  # probability of a class; less is raised to it, as scikit-learn's log loss once did

# Levels of the quantiles that a metric of forecasts reads; MASE and RMSSE read the median, which every system has.
NEEDED = {"wql": DECILES, **{name: (low, high) for name, (low, high, _) in INTERVALS.items()}}

SERIES, STEP, CUTOFF, TRUTH = ("unique_id", "item_id"), ("ds", "timestamp"), "cutoff", "y"
INTERVAL = re.compile(r"(?P<model>.+)-(?P<side>lo|hi)-(?P<level>\d+(\.\d+)?)")
AUTOGLUON = "mean"  # its point forecast; quantile columns are called by their levels


@dataclass(frozen=True)
class Foreign:
    """A system from elsewhere. notes: what was left out, raised or put in order, each a clause for people."""

    name: str
    scores: Scores
    notes: list[str]

    def entry(self, domain: str) -> Entry:
        """Its place in a leaderboard."""
        return Entry(domain, self.name, OUTSIDE, 0, self.scores)


# What there is to predict


def history(test: Sequences, domain: Traits) -> pa.Table:
    """All values of the test series in the units of the errors; a forecast may use those up to its cutoff alone."""
    import pyarrow as pa

    names, steps, values = [], [], []
    for i, series in enumerate(_raw(test, domain)):
        for c, name in enumerate(_names(i, series.shape[1])):
            names += [name] * len(series)
            steps.append(np.arange(len(series)))
            values.append(series[:, c])
    ds = np.concatenate(steps)
    days = np.array([EPOCH + timedelta(days=int(step)) for step in range(int(ds.max(initial=0)) + 1)], "datetime64[D]")
    return pa.table({"unique_id": names, "ds": ds, "y": np.concatenate(values), "timestamp": days[ds]})


def cutoffs(test: Sequences, settings: Settings) -> pa.Table:
    """The last known step of every forecast, and how many steps follow that are scored."""
    import pyarrow as pa

    rows = [
        (name, origin - 1, steps)
        for i, origin, steps in origins_of(test, settings.origins, settings.horizons, settings.period)
        for name in _names(i, test.values.shape[1])
    ]
    names, known, ahead = zip(*rows, strict=True)
    return pa.table({"unique_id": names, "cutoff": known, "h": ahead})


def _raw(test: Sequences, domain: Traits) -> list[np.ndarray]:
    raw = INVERSE[domain.transform] or np.asarray
    return [raw(series.astype(np.float64)) for series in test]


def _names(series: int, channels: int) -> list[str]:
    return [str(series)] if channels == 1 else [f"{series}:{channel}" for channel in range(channels)]


# Forecasts


def forecasts(path: Path, test: Sequences, domain: Traits, settings: Settings) -> list[Foreign]:
    """The systems of a CSV or Parquet table, in the order of its columns.

    Raises UserError naming file and row: no column of series, cutoff, step or model; a forecast that is missing, there
    twice or no number; a truth that is not the test's.
    """
    table = _read(path)
    series_column, step_column = (_one_of(path, table, names) for names in (SERIES, STEP))
    _one_of(path, table, (CUTOFF,))
    rows: dict[tuple[str, int, int], int] = {}
    names = [str(value) for value in table[series_column]]
    known, steps = (_steps(path, table, column) for column in (CUTOFF, step_column))
    for row, key in enumerate(zip(names, known, steps, strict=True)):
        if key in rows:
            raise UserError(f"{_where(path, row)}: series {key[0]}, cutoff {key[1]}, step {key[2]} stand in row"
                            f" {rows[key] + 2} already")  # fmt: skip
        rows[key] = row
    systems = _systems(path, table, {series_column, step_column, CUTOFF, TRUTH})
    values = {column: _numbers(path, table, column) for columns in systems.values() for column in columns.values()}
    truths = _numbers(path, table, TRUTH) if TRUTH in table else None

    whole, jobs, used = _raw(test, domain), [], 0
    for i, origin, ahead in origins_of(test, settings.origins, settings.horizons, settings.period):
        found = np.array([
            [_row(path, rows, (name, origin - 1, step)) for name in _names(i, whole[i].shape[1])]
            for step in range(origin, origin + ahead)
        ])  # fmt: skip
        held = slice(origin, origin + ahead)
        if truths is not None:
            _same_truth(path, truths, found, whole[i][held])
        truth = np.where(recorded(test, i, held)[:, None], whole[i][held], np.nan)
        used += found.size
        jobs.append((i, origin, truth, found, naive_errors(whole[i][:origin], settings.period)))
    notes = [f"{len(rows) - used} rows of other series, cutoffs or steps not used"] if used < len(rows) else []
    return [_judged(name, columns, values, jobs, settings, notes) for name, columns in systems.items()]


def _judged(
    name: str,
    columns: Mapping[float, str],
    values: Mapping[str, np.ndarray],
    jobs: Sequence[tuple[int, int, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]],
    settings: Settings,
    notes: Sequence[str],
) -> Foreign:
    """columns: of each level that the table has. jobs: series, origin, truth, rows (h, C) and the scales of errors."""
    crossed, made = 0, []
    known = [k for k, level in enumerate(LEVELS) if level in columns]
    for series, origin, truth, rows, scales in jobs:
        quantiles = np.full((len(LEVELS), *truth.shape), np.nan)
        quantiles[known] = [values[columns[LEVELS[k]]][rows] for k in known]
        crossed += int((np.diff(quantiles[known], axis=0) < 0).any(0).sum())
        quantiles[known] = np.sort(quantiles[known], axis=0)
        made.append(Forecast(series, origin, truth, quantiles, *scales))
    scores = forecast_scores(made, settings.horizons)
    lost = sorted(metric for metric, levels in NEEDED.items() if not set(levels) <= set(columns))
    scored = {key: one for key, one in scores.ratios.items() if key[1].partition("@")[0] not in lost}
    own = list(notes)
    if lost:
        own.append(f"not scored, for want of quantiles: {', '.join(lost)}")
    if crossed:
        own.append(f"quantiles of {crossed} steps crossed, and were put in order")
    return Foreign(name, Scores(scored), own)


def _systems(path: Path, table: Mapping[str, list[Any]], taken: set[str]) -> dict[str, dict[float, str]]:
    """The column of each level in LEVELS, by system; a point forecast stands for the median where there is none."""
    rest = [column for column in table if column not in taken]
    by_level = {level: column for column in rest if (level := _level(column)) is not None}
    if AUTOGLUON in rest or by_level:
        if 0.5 not in by_level and AUTOGLUON in rest:
            by_level[0.5] = AUTOGLUON
        return {path.stem: by_level}
    found: dict[str, dict[float, str]] = {}
    for column in rest:
        matched = INTERVAL.fullmatch(column)
        if matched:
            tail = (1 - float(matched["level"]) / 100) / 2
            level = round(tail if matched["side"] == "lo" else 1 - tail, 6)
            found.setdefault(matched["model"], {})[level] = column
        elif column.endswith("-median"):
            found.setdefault(column.removesuffix("-median"), {})[0.5] = column
        else:
            found.setdefault(column, {})
    for name, columns in found.items():
        if 0.5 not in columns and name in rest:
            columns[0.5] = name
        if 0.5 not in columns:
            raise UserError(f"{path.name}: no column {name!r} or '{name}-median', found {', '.join(columns.values())}")
    if not found:
        raise UserError(f"{path.name}: no column of a model; expected MODEL and MODEL-lo-80, ..., or mean, 0.1, ...")
    return found


def _level(column: str) -> float | None:
    """The level that a column is called by, 0 to 1."""
    try:
        level = float(column)
    except ValueError:
        return None
    return round(level, 6) if 0 < level < 1 else None


def _row(path: Path, rows: Mapping[tuple[str, int, int], int], key: tuple[str, int, int]) -> int:
    try:
        return rows[key]
    except KeyError:
        series, cutoff, step = key
        raise UserError(
            f"{path.name}: no forecast of series {series} for step {step} at cutoff {cutoff}; the table has {len(rows)}"
            " rows; every row of `cutoffs` needs its h steps"
        ) from None


def _same_truth(path: Path, found: np.ndarray, rows: np.ndarray, truth: np.ndarray) -> None:
    wrong = ~np.isclose(found[rows], truth, rtol=1e-4, atol=1e-6 * np.abs(truth).max(initial=0))
    if wrong.any():
        row = int(rows[wrong][0])
        raise UserError(
            f"{_where(path, row)}: y is {found[row]:.6g}, the test has {truth[wrong][0]:.6g};"
            " the predictions are of other data, or in other units"
        )


# Classes


def examples(splits: Mapping[str, Sequences], names: Sequence[str], characters: bool) -> pa.Table:
    """Labelled sequences, split by split, in their order; the test's labels are not told.

    names: of the classes. characters: whether symbols are UTF-8 bytes: then a sequence is its text, otherwise a list of
    positions as models see them, each a symbol or a list of channels.
    """
    import pyarrow as pa

    columns: dict[str, list[Any]] = {"split": [], "example": [], "label": [], "text" if characters else "values": []}
    for split, found in splits.items():
        assert found.labels is not None
        columns["split"] += [split] * len(found)
        columns["example"] += range(len(found))
        columns["label"] += [None if split == "test" else names[label] for label in found.labels]
        rows: list[Any]
        if characters:
            rows = [bytes(one).decode("utf-8", "replace") for one in found]
        else:
            batches = (found.batch(np.array([i])) for i in range(len(found)))
            rows = [one.tolist() for one in (found if found.symbols else (batch.x[0] for batch in batches))]
        columns["text" if characters else "values"] += rows
    return pa.table(columns)


def classes(path: Path, test: Sequences, names: Sequence[str]) -> Foreign:
    """The system of a CSV or Parquet table of class probabilities, called as the file is.

    names: of the classes. Raises UserError naming file and row: a column that is missing; an example that is missing or
    there twice; probabilities that do not sum to one.
    """
    if test.labels is None:
        raise UserError("outside predictions of classes: the test sequences carry no labels")
    table = _read(path)
    for column in ("example", *names):
        _one_of(path, table, (column,))
    example = _steps(path, table, "example")
    probs = np.stack([_numbers(path, table, name) for name in names], axis=1)
    for row, own in enumerate(probs):
        if own.min() < 0 or abs(own.sum() - 1) > 1e-3:
            raise UserError(f"{_where(path, row)}: the classes' probabilities sum to {own.sum():.6g}; expected 1")
    if double := [one for one, count in Counter(example).items() if count > 1]:
        raise UserError(f"{path.name}: example {double[0]} is there more than once ({len(double) - 1} more)")
    if lacking := sorted(set(range(len(test))) - set(example)):
        raise UserError(
            f"{path.name}: no row of example {lacking[0]} ({len(lacking) - 1} more); the test has {len(test)}"
        )
    rows = {one: row for row, one in enumerate(example)}
    chosen = probs[[rows[one] for one in range(len(test))]]
    labels = test.labels.astype(np.int64)
    raised = int((chosen[np.arange(len(test)), labels] < LEAST).sum())
    chosen = np.maximum(chosen, LEAST)
    log_probs = np.log(chosen / chosen.sum(1, keepdims=True))
    notes = [f"{len(example) - len(test)} rows of other examples not used"] if len(example) > len(test) else []
    if raised:
        notes.append(f"{raised} true classes had a probability below {LEAST:g}, which was raised to it")
    answers = Predictions(np.arange(len(test)), labels, log_probs)
    return Foreign(path.stem, Scores(predictions={CLASSIFY: answers}), notes)


# Tables


def _read(path: Path) -> dict[str, list[Any]]:
    """Columns by name, at least one row. Raises UserError: another kind of file, or none."""
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path.name}: expected a table called .csv or .parquet")
    if not path.exists():
        raise UserError(f"{path}: missing")
    table = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    if not table or not next(iter(table.values())):
        raise UserError(f"{path.name}: the table has no rows")
    return table


def _read_csv(path: Path) -> dict[str, list[Any]]:
    rows = csv.reader((line + "\n" for _, line in read_lines(path)), strict=True)
    try:
        header, *lines = [cells for cells in rows if cells]
    except csv.Error as error:
        raise UserError(f"{path.name}, row {rows.line_num}: not CSV: {error}") from None
    for row, cells in enumerate(lines):
        if len(cells) != len(header):
            raise UserError(f"{_where(path, row)}: {len(cells)} cells, expected {len(header)}")
    if len(set(header)) < len(header):
        raise UserError(f"{path.name}: two columns are called {max(header, key=header.count)!r}")
    # Tools that write a table's index give it a column without a name.
    return {name: [cells[k] for cells in lines] for k, name in enumerate(header) if name}


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path.name}: not a Parquet file: {error}") from None
    return {name: table[name].to_pylist() for name in table.column_names if not name.startswith("__index_level")}


def _one_of(path: Path, table: Mapping[str, list[Any]], names: Sequence[str]) -> str:
    for name in names:
        if name in table:
            return name
    raise UserError(f"{path.name}: no column {' or '.join(map(repr, names))}, found {', '.join(table)}")


def _steps(path: Path, table: Mapping[str, list[Any]], column: str) -> list[int]:
    return [_step(value, _where(path, row), column) for row, value in enumerate(table[column])]


def _step(value: Any, where: str, column: str) -> int:
    """A whole number, or a day since EPOCH."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = float(value) if re.fullmatch(r"\s*-?\d+(\.0*)?\s*", value) else datetime.fromisoformat(value)
    if isinstance(value, datetime) and value.time() == datetime.min.time():
        value = value.date()
    if isinstance(value, date) and not isinstance(value, datetime):
        return (value - EPOCH).days
    if isinstance(value, int | float) and value == int(value):
        return int(value)
    raise UserError(f"{where}: {column} is {str(value)!r}; expected a step's number, or a day counted from {EPOCH}")


def _numbers(path: Path, table: Mapping[str, list[Any]], column: str) -> np.ndarray:
    """(N,) float64. Raises UserError naming the row of what is no finite number."""
    found = np.empty(len(table[column]))
    for row, value in enumerate(table[column]):
        try:
            found[row] = math.nan if value is None else float(value)
        except (TypeError, ValueError):
            found[row] = math.nan
        if not math.isfinite(found[row]):
            raise UserError(f"{_where(path, row)}: {column} is {str(value)!r}; expected a finite number")
    return found


def _where(path: Path, row: int) -> str:
    """A data row as people count it: the header is row 1."""
    return f"{path.name}, row {row + 2}"
