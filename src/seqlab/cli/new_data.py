"""A file of new data, read as the domain's own was: the same columns, the same way of writing numbers and times.

What the prepare stage mends in training data is mended here as it is there, and said with its count.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.data.time import Times


@dataclass(frozen=True)
class NewRows:
    """frame: id, time, values and covariates, as many rows as the file has and those that stand for missing steps.

    names: the columns of id and time, as the questions of a model take them. values: columns. lines: (rows,) numbers of
    rows in the file, 0 where none stands there. latest: (rows,) bool, after the last gap of their sequence that is too
    long to be carried over. scale: numbers that are times are this many times as large in `frame`.
    """

    frame: pd.DataFrame
    names: dict[str, str]
    values: list[str]
    lines: np.ndarray
    latest: np.ndarray
    scale: int = 1

    def without(self, columns: Sequence[str]) -> NewRows:
        """Without these covariates, and the rows that have nothing else."""
        kept = before_last(self.frame, self.values, self.names)
        return self.chosen(kept, self.frame.drop(columns=list(columns)))

    def chosen(self, kept: np.ndarray, frame: pd.DataFrame | None = None) -> NewRows:
        """kept: (rows,) bool."""
        of = self.frame if frame is None else frame
        return replace(self, frame=of[kept].reset_index(drop=True), lines=self.lines[kept], latest=self.latest[kept])


def read_texts(path: Path, prepare: dict[str, Any]) -> list[str]:
    """One a line, or, of a table, the cells of the column in which the domain's own file has its texts.

    Blank ones are left out. Raises UserError where the domain's own file is one of lines and this is none, and where
    there is no text.
    """
    from seqlab.data.readers import Dialect, plain_suffix, read_lines, read_table
    from seqlab.intake import sniff

    if plain_suffix(path) not in sniff.TABLES:
        found = list(read_lines(path))
    else:
        columns = prepare.get("target_columns")  # a list of a file without a header
        named = [columns["text"]] if isinstance(columns, dict) else []
        named += [
            c.get("columns", ["english"])[0] for c in (prepare.get("corpora") or {}).values() if c["format"] == "table"
        ]
        if not named:
            raise UserError(
                f"{path}: a table, but the domain's own file has one text a line; give such a file, as .txt"
            )
        rows = read_table(path, named[:1], [], Dialect.of(path, prepare.get("dialect")))
        found = [(row, text) for row, (text,) in rows]
    blank = [row for row, text in found if not text.strip()]
    if len(blank) == len(found):
        raise UserError(f"{path}: every text is blank; expected one at least")
    if blank:
        say(f"blank texts, which have no answer: {len(blank)} ({listed(blank)})")
    return [text for _, text in found if text.strip()]


def listed(rows: Sequence[int], most: int = 5) -> str:
    named = ", ".join(map(str, rows[:most]))
    return f"row{'s' if len(rows) > 1 else ''} {named}{', …' if len(rows) > most else ''}"


def covariates_of(prepare: dict[str, Any]) -> list[str]:
    """Columns of covariates of a domain's own table."""
    from seqlab.data.beside import ROLES

    layout = prepare.get("target") or {}
    return [name for role in ROLES for name in layout.get(role) or []]


def read_rows(path: Path, prepare: dict[str, Any]) -> NewRows:
    """The columns of the domain's own. For missing values and steps stand those before them, as in its prepared data.

    Where the domain has covariates, values may be empty after the last one of a sequence. Raises UserError naming row
    and column.
    """
    import pandas as pd

    from seqlab.data import time
    from seqlab.data.readers import Dialect, read_table

    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    layout = prepare.get("target") or prepare
    keys = list(layout.get("key") or [])
    values = layout.get("channels") or layout.get("value")
    columns = [values] if isinstance(values, str) else list(values or [])
    if not columns:
        raise UserError(f"{path}: the domain's yaml names no columns of values, so a table cannot be read; use Python")
    stamp = layout.get("time")
    beside = covariates_of(prepare)
    wanted = [*keys, *([stamp] if stamp else []), *columns, *beside]
    dialect = Dialect.of(path, layout.get("dialect") or prepare.get("dialect"))
    rows = list(read_table(path, wanted, [], dialect))
    frame = pd.DataFrame([cells for _, cells in rows], columns=wanted)
    for column in (*columns, *(name for name in beside if name not in (layout.get("static") or []))):
        cells = zip((row for row, _ in rows), frame[column], strict=True)
        numbers = [dialect.number(cell, path, row, column) for row, cell in cells]
        frame[column] = numbers
    names: dict[str, str] = {}
    if keys:
        frame.insert(0, "id", frame[keys].agg(" / ".join, axis=1))
        frame = frame.drop(columns=keys)
        names["id"] = "id"
    found = NewRows(frame, names, columns, np.array([row for row, _ in rows], np.int64), np.ones(len(rows), bool))
    carried = int(prepare.get("carried") or 0)
    if stamp:
        names["time"] = stamp
        distinct = list(dict.fromkeys(frame[stamp]))
        times = time.read(distinct)
        places = {text: i for i, text in enumerate(distinct)}
        at = frame[stamp].map(places).to_numpy(np.int64)
        instants = times.instant if times.local is None else pd.to_datetime(times.local, unit="us")
        frame[stamp] = instants[at]
        found = replace(found, scale=times.scale)
        if prepare.get("steps") == "time":
            found = with_missing_steps(found, times, at, carried)
    return carried_over(found, path, carried, bool(beside))


def before_last(frame: pd.DataFrame, values: Sequence[str], names: dict[str, str]) -> np.ndarray:
    """(rows,) bool: which are no later than the last of their sequence that has values. names: of id and time."""
    there = frame[list(values)].notna().any(axis=1)
    latest_first = (
        frame.index[::-1] if "time" not in names else frame[names["time"]].sort_values(kind="stable").index[::-1]
    )
    there = there.loc[latest_first]
    found = there.groupby(frame[names["id"]]).cummax() if "id" in names else there.cummax()
    needed: np.ndarray = found.loc[frame.index].to_numpy(bool)
    return needed


def with_missing_steps(rows: NewRows, times: Times, at: np.ndarray, carried: int) -> NewRows:
    """With a row of nothing but its time for each missing step, where at most `carried` of them follow one another.

    at: (rows,) index of each row's time. Times that stand twice are left to who asks.
    """
    import pandas as pd

    from seqlab.data import time

    frame, stamp = rows.frame, rows.names["time"]
    groups = frame.groupby("id", sort=False).indices.values() if "id" in rows.names else [np.arange(len(frame))]
    ordered = [own[np.argsort(times.instant[at[own]], kind="stable")] for own in groups]
    if any((np.diff(times.instant[at[own]]) <= 0).any() for own in ordered):
        return rows
    counts, spacing = time.spaced(times, [at[own] for own in ordered])
    needed = before_last(frame, rows.values, rows.names)
    latest, added = np.ones(len(frame), bool), []
    for own, count in zip(ordered, counts, strict=True):
        lengths, rest = np.divmod(np.diff(count), spacing.step)
        uneven = (rest != 0) | (lengths < 1) | (lengths > carried + 1)
        begin = max(np.flatnonzero(uneven & needed[own[1:]]) + 1, default=0)
        latest[own[:begin]] = False
        for i in np.flatnonzero(~uneven & (lengths > 1) & needed[own[1:]]):
            missing = frame.iloc[np.repeat(own[i], lengths[i] - 1)].drop(columns=rows.values)
            if times.local is None:
                missing[stamp] = times.instant[at[own[i]]] + spacing.step * np.arange(1, lengths[i])
            else:
                missing[stamp] = time.following(times, at[own[i]], spacing, len(missing)).astype(frame[stamp].dtype)
            added.append((missing, i >= begin))
    if added:
        frame = pd.concat([frame, *(missing for missing, _ in added)], ignore_index=True)
        latest = np.append(latest, np.concatenate([np.full(len(missing), late) for missing, late in added]))
    lines = np.append(rows.lines, np.zeros(len(frame) - len(rows.lines), np.int64))
    return replace(rows, frame=frame, lines=lines, latest=latest)


def carried_over(rows: NewRows, path: Path, carried: int, ahead: bool) -> NewRows:
    """With the last value before in place of each missing one, `carried` times in a row at most.

    ahead: whether rows without values may stand after the last that has any. Raises UserError for what is missing then.
    """
    frame, names = rows.frame, rows.names
    needed = before_last(frame, rows.values, names) if ahead else np.ones(len(frame), bool)
    missing = frame[rows.values].isna() & needed[:, None]
    if carried and missing.to_numpy().any():
        in_time = frame if "time" not in names else frame.sort_values(names["time"], kind="stable")
        known = (in_time.groupby("id")[rows.values] if "id" in names else in_time[rows.values]).ffill(limit=carried)
        frame = frame.assign(**{c: frame[c].where(~missing[c], known[c]) for c in rows.values})
        number = int((missing & frame[rows.values].notna()).to_numpy().sum())
        absent = int((rows.lines == 0).sum())
        also = f"; steps that have no row: {absent}" if absent else ""
        say(f"missing values for which the last one before stands: {number}{also}")
    for column in rows.values:
        if len(without := np.flatnonzero(frame[column].isna() & needed)):
            first = int(without[0])
            where = (
                f"row {rows.lines[first]}" if rows.lines[first] else f"{names['time']} {frame[names['time']][first]}"
            )
            said = f", with no value in the {carried} steps before" if carried else ""
            raise UserError(
                f"{path}, {where}, column {column}: missing{said}; a model needs every step before a forecast"
            )
    return replace(rows, frame=frame)


def say(what: str) -> None:
    print(f"seqlab: {what}", file=sys.stderr)
