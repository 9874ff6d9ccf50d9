"""Which columns tell series apart: the fewest that, with the time, name every row once; or, where times alone do, one
that shows that several series were recorded at times of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.data import time
from seqlab.data.panels import Layout
from seqlab.data.readers import Dialect, place, read_table
from seqlab.errors import UserError
from seqlab.intake.sniff import Column

MOST = 3  # columns of a key
EVEN = 0.9  # of the steps are alike
FEWEST = 3  # rows of a series, on average: names that hardly come again tell events apart
BALANCED = 0.5  # rows of the least series, of those of the greatest


def is_once(columns: Sequence[Column], rows: int) -> bool:
    """Whether the columns together name as many rows."""
    return len(set(zip(*(c.cells for c in columns), strict=True))) == rows


def fewest(times: Column, candidates: Sequence[Column], extra: Sequence[Column], rows: int) -> list[Column]:
    """The fewest columns that with the time name every row once, without those in `extra` if possible; or none."""
    for every in (candidates, [*candidates, *extra]) if extra else (candidates,):
        for size in range(1, min(MOST, len(every)) + 1):
            for chosen in combinations(every, size):
                if is_once([times, *chosen], rows):
                    return list(chosen)
    return []


def may_count(column: Column, times: Column) -> bool:
    """Whether whole numbers may be names of series, of which at most about as many have a row at any moment."""
    return 2 <= column.distinct <= 2 * max(Counter(times.cells).values())


def apart(
    times: Column, form: str | None, named: Sequence[Column], others: Sequence[Column]
) -> tuple[Column, str] | None:
    """Of columns of few names, one whose rows are series of their own, though no time stands twice; and why.

    named: those that are called like ids. A series that is even as it stands is taken apart only where the parts, by a
    column that is called so, are even too: events, seasons and states of one series make them uneven.
    """
    texts = [cell.strip() for cell in times.cells]
    try:
        read = time.read(texts, form) if len(set(texts)) == len(texts) else None
    except time.NotATime:  # which reading will name
        read = None
    found = ((c, _why_apart(read, c, c in named)) for c in (*named, *others)) if read is not None else ()
    return next(((column, why) for column, why in found if why), None)


def _why_apart(times: time.Times, column: Column, named: bool) -> str:
    """Why the rows of each of its cells are a series; "" where they are not."""
    at: dict[str, list[int]] = {}
    for i, cell in enumerate(column.cells):
        at.setdefault(cell, []).append(i)
    if len(at) < 2 or len(column.cells) < FEWEST * len(at) or not all(map(str.strip, at)):
        return ""
    if not named and _of_calendar(times, column):
        return ""
    groups = [np.array(own) for own in at.values()]
    numbers, sizes = all(cell.strip().isdigit() for cell in at), [len(own) for own in groups]
    parts_even = _evenness(times, [own[np.argsort(times.instant[own])] for own in groups]) >= EVEN
    if _one_after_another(times.instant, groups):
        why = "rows of one of its names follow one another in order of time, and then times begin anew"
    elif _evenness(times, [np.argsort(times.instant)]) >= EVEN:
        # A code that changes once within a series may be of its state.
        meant = named and parts_even and not (numbers and _in_blocks(groups))
        why = "its name, and the steps of each are even" if meant else ""
    elif parts_even:
        why = "the steps of each are even, those of all together are not"
    elif named and not numbers:
        why = "its name, and a few that come again at times of their own"
    else:
        balanced = min(sizes) >= BALANCED * max(sizes)
        why = "a few that come about as often as one another, at uneven times of their own" if balanced else ""
    return why


def _of_calendar(times: time.Times, column: Column) -> bool:
    """Whether the hour, the day of the week or the month tells the cell, as of weekends, shifts and seasons."""
    if times.local is None:
        return False
    days = times.local // time.DAY
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12
    hours = times.local % time.DAY // (3600 * time.SECOND)
    units = (own.tolist() for own in (days % 7, months, hours) if len(np.unique(own)) > 1)
    return any(len(set(zip(own, column.cells, strict=True))) == len(set(own)) for own in units)


def is_steady(times: time.Times) -> bool:
    """Whether nearly all steps between different times are alike, on a calendar or by an unsteady clock."""
    return len(times.instant) >= FEWEST and _evenness(times, [np.argsort(times.instant)]) >= EVEN


def _evenness(times: time.Times, groups: Sequence[np.ndarray]) -> float:
    """The share of the commonest step, on the calendar on which most are alike."""
    counts, _ = time.spaced(times, groups)
    steps = np.concatenate([np.diff(own) for own in counts])
    return float(np.unique(steps, return_counts=True)[1].max() / len(steps)) if len(steps) else 1.0


def _in_blocks(groups: Sequence[np.ndarray]) -> bool:
    """Whether the rows of each stand together."""
    return all(own[-1] - own[0] + 1 == len(own) for own in groups)


def _one_after_another(instant: np.ndarray, groups: Sequence[np.ndarray]) -> bool:
    """Whether rows stand together and in order of time within each group, and not in order of time altogether."""
    if not _in_blocks(groups):
        return False
    way = np.sign(np.diff(instant))
    inside = np.concatenate([np.sign(np.diff(instant[own])) for own in groups])
    return len(np.unique(inside)) == 1 and len(np.unique(way)) > 1


def check_series(path: Path, layout: Layout, names: Iterable[str]) -> None:
    """As `check_names`, which reads the table once more, where the names of its series show that one may lack a name:
    it has a blank part, or is the file's, which stands for a key that is empty.
    """
    if any(name == Path(layout.file).stem or not all(map(str.strip, name.split("/"))) for name in names):
        check_names(path, layout.key, layout.dialect)


def check_names(path: Path, key: Sequence[str], dialect: dict[str, Any] | None) -> None:
    """Raises UserError naming the first row of a table that lacks a cell of the key, and how many do: such rows would
    be one more series, of no name.
    """
    lacking = 0
    first: tuple[int, str] | None = None
    for row, cells in read_table(path, key, (), Dialect.of(path, dialect)) if key else ():
        if not all(map(str.strip, cells)):
            lacking += 1
            first = first or (row, next(name for name, cell in zip(key, cells, strict=True) if not cell.strip()))
    if first is not None:
        raise UserError(
            f"{place(path, *first)}: an empty cell, in {lacking} row(s), where others name their series; "
            "fill it in, or leave these rows out"
        )
