"""Scores of each example, kept so that any two runs can be compared in pairs later.

Tables, all Parquet with equal bytes for equal content; the last two only where there are translations:

* `scores.parquet`: task, metric, example, numerator, denominator. The metric is the sum of the numerators over the sum
  of the denominators: bits over characters, absolute scaled error over one.
* `predictions.parquet`: task, example, label, log_probs. Macro-F1, balanced accuracy and calibration error are no ratio
  of sums, so a classifier's whole answer is kept, and every classification metric is computed from it.
* `statistics.parquet`: task, metric, example, counts. Of a corpus score, which is a function of summed n-gram counts.
* `texts.parquet`: task, example, text. What a system wrote.

An example is the unit that is resampled: one sequence, or one series with all its origins and channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seqlab.errors import UserError
from seqlab.scratch import replacing

if TYPE_CHECKING:
    import pyarrow as pa

SCORES, PREDICTIONS = "scores.parquet", "predictions.parquet"
STATISTICS, TEXTS = "statistics.parquet", "texts.parquet"


@dataclass(frozen=True)
class Ratio:
    """One metric on E examples. example: (E,) int64, rising; numerator, denominator: (E,) float64."""

    example: np.ndarray
    numerator: np.ndarray
    denominator: np.ndarray

    @property
    def value(self) -> float:
        return float(self.numerator.sum() / self.denominator.sum())


@dataclass(frozen=True)
class Predictions:
    """A classifier's answers. example, labels: (E,) int64; log_probs: (E, K) float64, log P(class | sequence)."""

    example: np.ndarray
    labels: np.ndarray
    log_probs: np.ndarray


@dataclass(frozen=True)
class Statistics:
    """What a corpus score is computed from. example: (E,) int64, rising; values: (E, D) float64 counts."""

    example: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Scores:
    """All that the evaluation of one model keeps: ratios and statistics by (task, metric), the rest by task."""

    ratios: Mapping[tuple[str, str], Ratio] = field(default_factory=dict)
    predictions: Mapping[str, Predictions] = field(default_factory=dict)
    statistics: Mapping[tuple[str, str], Statistics] = field(default_factory=dict)
    texts: Mapping[str, list[str]] = field(default_factory=dict)

    def __or__(self, other: Scores) -> Scores:
        """Both; what `other` has under the same name wins."""
        return Scores(
            {**self.ratios, **other.ratios},
            {**self.predictions, **other.predictions},
            {**self.statistics, **other.statistics},
            {**self.texts, **other.texts},
        )

    def of(self, *tasks: str) -> Scores:
        """Those of some tasks alone."""
        return Scores(
            {key: ratio for key, ratio in self.ratios.items() if key[0] in tasks},
            {task: part for task, part in self.predictions.items() if task in tasks},
            {key: part for key, part in self.statistics.items() if key[0] in tasks},
            {task: part for task, part in self.texts.items() if task in tasks},
        )


def write(scores: Scores, folder: Path) -> None:
    """Write the two tables. Raises UserError, and writes nothing, when a number is NaN or infinite."""
    import pyarrow as pa

    ratios = sorted(scores.ratios.items())
    for (task, metric), ratio in ratios:
        _refuse_unbounded(ratio.example, ratio.numerator + ratio.denominator, f"{folder}: {task} {metric}")
    answers = sorted(scores.predictions.items())
    for task, part in answers:
        # A class that was ruled out has log 0 and harms nobody; only the truth's must be finite, and none may be NaN.
        truth = part.log_probs[np.arange(len(part.labels)), part.labels]
        _refuse_unbounded(part.example, truth + 0 * np.exp(part.log_probs).sum(1), f"{folder}: {task} log-probability")

    sizes = [len(ratio.example) for _, ratio in ratios]
    table = {
        "task": _names([task for (task, _), _ in ratios], sizes),
        "metric": _names([metric for (_, metric), _ in ratios], sizes),
        "example": _column([ratio.example for _, ratio in ratios], np.int64),
        "numerator": _column([ratio.numerator for _, ratio in ratios], np.float64),
        "denominator": _column([ratio.denominator for _, ratio in ratios], np.float64),
    }
    widths = [np.full(len(part.example), part.log_probs.shape[1]) for _, part in answers]
    offsets = np.concatenate([[0], np.cumsum(_column(widths, np.int64))]).astype(np.int32)
    flat = _column([part.log_probs.ravel() for _, part in answers], np.float64)
    answered = {
        "task": _names([task for task, _ in answers], [len(part.example) for _, part in answers]),
        "example": _column([part.example for _, part in answers], np.int64),
        "label": _column([part.labels for _, part in answers], np.int64),
        "log_probs": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat)),
    }
    with replacing(folder) as made:
        made.mkdir()
        _write_table(pa.table(table), made / SCORES)
        _write_table(pa.table(answered), made / PREDICTIONS)
        if scores.statistics:
            _write_table(_statistics_table(scores.statistics), made / STATISTICS)
        if scores.texts:
            _write_table(_texts_table(scores.texts), made / TEXTS)


def read(folder: Path) -> Scores:
    """What `write` wrote. Raises UserError when a table is missing, is not Parquet or lacks a column."""
    rows = _read_table(folder / SCORES, ("task", "metric", "example", "numerator", "denominator"))
    task, metric = rows["task"].to_numpy(), rows["metric"].to_numpy()
    numbers = [rows[name].to_numpy() for name in ("example", "numerator", "denominator")]
    ratios = {
        (str(task[part.start]), str(metric[part.start])): Ratio(*(column[part] for column in numbers))
        for part in _runs(task, metric)
    }
    answers = _read_table(folder / PREDICTIONS, ("task", "example", "label", "log_probs"))
    task, example, label = (answers[name].to_numpy() for name in ("task", "example", "label"))
    lists = answers["log_probs"].combine_chunks()
    flat, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    predictions = {}
    for part in _runs(task):
        values = flat[offsets[part.start] : offsets[part.stop]].reshape(part.stop - part.start, -1)
        predictions[str(task[part.start])] = Predictions(example[part], label[part], values)
    statistics = _read_statistics(folder / STATISTICS) if (folder / STATISTICS).exists() else {}
    texts = _read_texts(folder / TEXTS) if (folder / TEXTS).exists() else {}
    return Scores(ratios, predictions, statistics, texts)


def _statistics_table(statistics: Mapping[tuple[str, str], Statistics]) -> pa.Table:
    import pyarrow as pa

    parts = sorted(statistics.items())
    sizes = [len(part.example) for _, part in parts]
    widths = _column([np.full(len(part.example), part.values.shape[1]) for _, part in parts], np.int64)
    offsets = np.concatenate([[0], np.cumsum(widths)]).astype(np.int32)
    flat = _column([part.values.ravel() for _, part in parts], np.float64)
    return pa.table(
        {
            "task": _names([task for (task, _), _ in parts], sizes),
            "metric": _names([metric for (_, metric), _ in parts], sizes),
            "example": _column([part.example for _, part in parts], np.int64),
            "counts": pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat)),
        }
    )


def _read_statistics(path: Path) -> dict[tuple[str, str], Statistics]:
    rows = _read_table(path, ("task", "metric", "example", "counts"))
    task, metric, example = (rows[name].to_numpy() for name in ("task", "metric", "example"))
    lists = rows["counts"].combine_chunks()
    flat, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    found = {}
    for part in _runs(task, metric):
        values = flat[offsets[part.start] : offsets[part.stop]].reshape(part.stop - part.start, -1)
        found[str(task[part.start]), str(metric[part.start])] = Statistics(example[part], values)
    return found


def _texts_table(texts: Mapping[str, list[str]]) -> pa.Table:
    import pyarrow as pa

    parts = sorted(texts.items())
    return pa.table(
        {
            "task": _names([task for task, _ in parts], [len(part) for _, part in parts]),
            "example": _column([np.arange(len(part)) for _, part in parts], np.int64),
            "text": pa.array([text for _, part in parts for text in part], pa.string()),
        }
    )


def _read_texts(path: Path) -> dict[str, list[str]]:
    rows = _read_table(path, ("task", "example", "text"))
    task, texts = rows["task"].to_numpy(), rows["text"].to_pylist()
    return {str(task[part.start]): texts[part] for part in _runs(task)}


def _refuse_unbounded(example: np.ndarray, value: np.ndarray, what: str) -> None:
    if len(bad := np.flatnonzero(~np.isfinite(value))):
        raise UserError(
            f"{what} of example {example[bad[0]]} is {value[bad[0]]} ({len(bad) - 1} more); expected numbers:"
            " the model diverged, or gives an event that happened a probability of zero"
        )


def _names(names: list[str], sizes: list[int]) -> pa.Array:
    import pyarrow as pa

    return pa.array(np.repeat(np.asarray(names, object), sizes), pa.string())


def _column(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def _write_table(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", use_dictionary=["task"], row_group_size=1 << 20)


def _read_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run the evaluate stage") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a Parquet file: {' '.join(str(error).split())}") from None
    if lacking := [name for name in columns if name not in table.column_names]:
        raise UserError(f"{path}: no column {lacking[0]!r}, found {', '.join(table.column_names)}")
    return table


def _runs(*columns: np.ndarray) -> list[slice]:
    """Slices of rows that agree in every column; the tables are sorted, so each group is one run."""
    if not len(columns[0]):
        return []
    changed = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    edges = [0, *(np.flatnonzero(changed) + 1).tolist(), len(columns[0])]
    return [slice(start, stop) for start, stop in pairwise(edges)]
