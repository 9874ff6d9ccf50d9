"""Tables of series, long or wide: one row a moment, and columns that say which series, when and what."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.data import time
from seqlab.data.readers import Dialect, place, read_table
from seqlab.errors import UserError

REQUIRED = ("file", "time", "key")
VALUES = ("value", "channels")
OPTIONAL = ("format", "dialect")


@dataclass(frozen=True)
class Layout:
    """Which columns of a table are what, as a configuration says it.

    time: the column of times; None: rows follow one another. key: columns that together name a series. columns: of
    values; each is a series of its own, or all are channels of one (`together`). form: of `datetime.strptime`; None:
    whatever `time.read` knows.
    """

    file: str
    time: str | None
    key: list[str]
    columns: list[str]
    together: bool
    form: str | None
    dialect: dict[str, Any] | None

    @classmethod
    def of(cls, spec: dict[str, Any], where: str) -> Layout:
        """From file, time, key, and value (a column or several series) or channels (of one series); optionally format
        (of the times) and dialect. Raises UserError naming `where` and what is missing.
        """
        given = [name for name in VALUES if name in spec]
        if set(spec) - {*REQUIRED, *VALUES, *OPTIONAL} or set(REQUIRED) - set(spec) or len(given) != 1:
            raise UserError(
                f"{where}, panel {spec.get('file', spec)}: expected the keys file, time, value, key, found "
                f"{', '.join(spec)} (`channels` may stand for `value`; format and dialect are optional)"
            )
        values = spec[given[0]]
        columns = [values] if isinstance(values, str) else list(values)
        if not columns:
            raise UserError(f"{where}, panel {spec['file']}: {given[0]}: found no column, expected at least one")
        together = given[0] == "channels"
        return cls(
            spec["file"], spec["time"], list(spec["key"]), columns, together, spec.get("format"), spec.get("dialect")
        )

    @property
    def channels(self) -> int:
        return len(self.columns) if self.together else 1

    def names(self, key: Sequence[str]) -> list[str]:
        """What the series of a key are called: by the key, and by their columns where these are several or no key."""
        if self.together or (len(self.columns) == 1 and key):
            return ["/".join(key) or Path(self.file).stem]
        return ["/".join([*key, column]) for column in self.columns]


@dataclass(frozen=True)
class Track:
    """One series as it is in the file, in order of time. at: (T,) int64 indices of its times; values: (T, C) float64,
    NaN where a cell is empty; rows: (T,) int64 numbers of its rows.
    """

    at: np.ndarray
    values: np.ndarray
    rows: np.ndarray


@dataclass
class Panel:
    """All series of a table by name, their times, and how many rows were put right. texts: of the distinct times."""

    tracks: dict[str, Track]
    times: time.Times
    texts: list[str]
    mended: Counter[str] = field(default_factory=Counter)

    def counts(self) -> tuple[list[np.ndarray], time.CalendarStep]:
        """`time.spaced` of every track, in their order."""
        return time.spaced(self.times, [track.at for track in self.tracks.values()])


def read(path: Path, layout: Layout, unfit: Callable[[float], str | None], beside: Sequence[str] = ()) -> Panel:
    """Every series of a table. unfit: why a value cannot be used, or None; of NaN, which is none, None. beside: further
    texts of times, by which the table's are read, and which the panel then has after its own.

    Rows that come out of order are sorted, and rows that say the same of the same moment are taken once; both are
    counted.

    Raises UserError naming file, row and column: no number, no time, two values of one moment, an unfit value; and what
    `read_table` raises.
    """
    dialect = Dialect.of(path, layout.dialect)
    wanted = [*([] if layout.time is None else [layout.time]), *layout.key, *layout.columns]
    codes: dict[str, int] = {}
    first_rows = array("q")
    found: dict[str, _Growing] = {}
    # By key, the series that its rows belong to: one, or one a column.
    grown: dict[tuple[str, ...], list[_Growing]] = {}
    timed = layout.time is not None
    beyond = len(wanted) - len(layout.columns)
    for row, cells in read_table(path, wanted, (), dialect):
        key = tuple(cells[timed:beyond])
        series = grown.get(key)
        if series is None:
            series = grown[key] = [found.setdefault(name, _Growing()) for name in layout.names(key)]
        text = cells[0].strip() if timed else str(len(series[0].rows))
        code = codes.setdefault(text, len(codes))
        if code == len(first_rows):
            first_rows.append(row)
        for i, column in enumerate(layout.columns):
            cell = cells[beyond + i]
            value = dialect.number(cell, path, row, column)
            if (reason := unfit(value)) is not None:
                raise UserError(f"{place(path, row, column)}: {cell} {reason}")
            series[0 if layout.together else i].values.append(value)
        for one in series:
            one.at.append(code)
            one.rows.append(row)
    texts = [*codes, *(text for text in dict.fromkeys(beside) if text not in codes)]
    try:
        times = time.read(texts, layout.form)
    except time.NotATime as error:
        where = place(path, first_rows[min(error.index, len(first_rows) - 1)], layout.time)
        raise UserError(f"{where}: {error.reason}") from None
    panel = Panel({}, times, texts)
    for name, one in found.items():
        values = np.array(one.values).reshape(-1, layout.channels)
        track = Track(np.array(one.at, np.int64), values, np.array(one.rows, np.int64))
        panel.tracks[name] = _ordered(track, name, panel, path, layout.time)
    return panel


class _Growing:
    """A series while its rows are read: indices of times, values, numbers of rows, in eight bytes each."""

    def __init__(self) -> None:
        self.at, self.values, self.rows = array("q"), array("d"), array("q")


def _ordered(track: Track, name: str, panel: Panel, path: Path, column: str | None) -> Track:
    """In order of time, each moment once. Raises UserError naming two rows that differ about one moment."""
    instants = panel.times.instant[track.at]
    if (np.diff(instants) > 0).all():
        return track
    order = np.argsort(instants, kind="stable")
    panel.mended["rows put in order of time"] += int((np.diff(instants) < 0).sum())
    instants, at, values, rows = instants[order], track.at[order], track.values[order], track.rows[order]
    again = np.flatnonzero(np.diff(instants) == 0) + 1
    for i in again:
        if not np.array_equal(values[i], values[i - 1], equal_nan=True):
            raise UserError(
                f"{place(path, int(rows[i]), column)}: {panel.texts[at[i]]!r} stands in row {rows[i - 1]} too, with "
                f"another value of the series {name!r}; expected each time once a series (or `key` names too few "
                "columns)"
            )
    panel.mended["rows given twice"] += len(again)
    kept = np.setdiff1d(np.arange(len(at)), again)
    return Track(at[kept], values[kept], rows[kept])


@dataclass(frozen=True)
class Run:
    """A stretch of even steps that are all there. values: (T, C). places: (T,) int64, of each step the row of the track
    that its value comes from. recorded: (T,) bool, whether that row is the step's own. outside: recorded steps of the
    track that are not in it.
    """

    values: np.ndarray
    places: np.ndarray
    recorded: np.ndarray
    outside: int


def latest_run(counts: np.ndarray, values: np.ndarray, step: int, carried: int) -> Run:
    """As `longest_run`, of the stretches the last one."""
    return _run(counts, values, step, carried, lambda sizes: len(sizes) - 1)


def longest_run(
    counts: np.ndarray, values: np.ndarray, step: int, carried: int
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """The longest stretch (the latest of equals) of even steps that are all there.

    counts: (T,) int64, one step is `step` of them. values: (T, C), NaN where missing. carried: most steps in a row for
    which the value before may stand in. Returns the run (T', C), whether each step of it was recorded (T',) bool, how
    many recorded steps lie outside, and how many of the run were carried.
    """
    found = _run(counts, values, step, carried, lambda sizes: len(sizes) - 1 - int(sizes[::-1].argmax()))
    return found.values, found.recorded, found.outside, int((~found.recorded).sum())


def _run(counts: np.ndarray, values: np.ndarray, step: int, carried: int, chosen: Callable[[np.ndarray], int]) -> Run:
    """chosen: of the numbers of steps of all stretches, in order, the index of one."""
    known = np.flatnonzero(~np.isnan(values).any(1))
    if not len(known):
        return Run(values[:0], np.empty(0, np.int64), np.empty(0, bool), 0)
    distance = np.diff(counts[known])
    lengths = distance // step
    breaks = np.flatnonzero((distance % step != 0) | (lengths < 1) | (lengths > carried + 1)) + 1
    starts, stops = np.append(0, breaks), np.append(breaks, len(known))
    passed = np.append(0, np.cumsum(lengths))
    which = chosen(passed[stops - 1] - passed[starts] + 1)
    start, stop = int(starts[which]), int(stops[which])
    repeats = np.append(lengths[start : stop - 1], 1)
    places = np.repeat(known[start:stop], repeats)
    recorded = np.zeros(len(places), bool)
    recorded[np.cumsum(repeats) - repeats] = True
    return Run(values[places], places, recorded, len(known) - (stop - start))
