"""A file of new data, read as the domain's own was: the same columns, the same numbers, times of the same calendar.

What the prepare stage mends in training data is mended here as it is there, and said with its count.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.data.beside import Names
    from seqlab.data.panels import Layout, Panel, Run
    from seqlab.data.time import CalendarStep, Times

MENDED = {"rows given twice": "rows that say the same of the same time, taken once"}  # in words for who asks


# Texts


def read_texts(path: Path, prepare: dict[str, Any]) -> list[str]:
    """One a line, or, of a table, the cells of the column in which the domain's own file has its texts; blank ones too.

    Raises UserError where the domain's own file is one of lines and this is none, and where there is no text.
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
        raise UserError(f"{path}: {'every text is blank' if found else 'no row'}; expected one text at least")
    if blank:
        say(f"blank texts, which have no answer: {len(blank)} ({listed(blank)})")
    return [text for _, text in found]


def listed(rows: Sequence[int], most: int = 5) -> str:
    named = ", ".join(map(str, rows[:most]))
    return f"row{'s' if len(rows) > 1 else ''} {named}{', …' if len(rows) > most else ''}"


# Sequences of numbers


@dataclass(frozen=True)
class NewSequence:
    """values: (T, C) of its even steps up to the last that is known. stamps: (T,) their times, where there are any.
    ahead: the times that follow, as many as were asked for; None: steps are rows. covariates: a table of T rows and of
    those ahead, where they were asked for.
    """

    values: np.ndarray
    stamps: Sequence[Any] | None = None
    ahead: Sequence[Any] | None = None
    covariates: pd.DataFrame | None = None


def read_sequences(
    path: Path, prepare: dict[str, Any], raw: Path, steps: int, names: Names | None = None, unused: Sequence[str] = ()
) -> dict[str, NewSequence]:
    """Every sequence by the name that the domain's own file would give it.

    prepare: the domain's section. raw: the folder with the domain's own files, from whose times the calendar is known.
    steps: to forecast. names: covariates to be read beside the values, of which a model does not need the `unused`.

    Raises UserError naming file, row and column.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    if "data" in prepare:
        return _labelled(path, prepare["data"])
    if path.is_dir():
        raise UserError(f"{path}: a folder; expected a table")
    layout, by, carried = layout_of(prepare)
    if layout is None:
        raise UserError(f"{path}: the domain's yaml names no columns of values, so a table cannot be read; use Python")
    return _Reader(path, layout, by, carried, raw, steps, names, unused).read()


def layout_of(prepare: dict[str, Any]) -> tuple[Layout | None, str, int]:
    """The columns of a domain's own table, what a step is ("time" or "rows"), and how many missing ones are carried."""
    from seqlab.data.domains.accompanied import parted
    from seqlab.data.panels import VALUES, Layout

    target = prepare.get("target")
    if not isinstance(target, dict):
        return None, "rows", 0
    if "price" in target:
        key = [] if target["key"] is None else [target["key"]]
        form = target["date_format"]
        return Layout(target["file"], target["date"], key, [target["price"]], False, form, None), "rows", 0
    if not any(name in target for name in VALUES):
        return None, "rows", 0
    plain, _ = parted(target)
    return Layout.of(plain, "domain"), prepare["steps"], int(prepare["carried"])


def _labelled(path: Path, data: dict[str, Any]) -> dict[str, NewSequence]:
    """Of a domain of whole sequences; a class is not asked for, but to be told."""
    from seqlab.data.domains import labelled

    removed: Counter[str] = Counter()
    if data["format"] == "table":
        data = data | {"file": path.name, "label": None}
    elif data["format"] == "ts":
        data = data | {"train": path.name, "test": None}
    else:
        data = data | {"labels": None}
    found = {
        one.name.removeprefix(f"{path.name}, sequence "): NewSequence(one.values)
        for one in labelled.read(data, {"data": path}, removed)
        if len(one.values)
    }
    for what, count in (+removed).items():
        say(f"{MENDED.get(what, what)}: {count}")
    if not found:
        raise UserError(f"{path}: no sequence with a value")
    return found


@dataclass
class _Reader:
    path: Path
    layout: Layout
    by: str
    carried: int
    raw: Path
    steps: int
    names: Names | None
    unused: Sequence[str]
    said: Counter[str] = field(default_factory=Counter)

    def read(self) -> dict[str, NewSequence]:
        from seqlab.data import panels, time
        from seqlab.intake.identity import check_series

        own, width = self._own(), len(self.layout.columns)
        panel = panels.read(self.path, self._wide(), lambda value: None, () if own is None else own.texts)
        if not panel.tracks:
            raise UserError(f"{self.path}: no row below the header")
        check_series(self.path, self.layout, panel.tracks)
        self.said.update({MENDED.get(what, what): count for what, count in panel.mended.items()})
        tracks = list(panel.tracks.values())
        if self.by == "rows" or self.layout.time is None:
            counts, spacing, step = [np.arange(len(track.at)) for track in tracks], None, 1
        else:
            # On the calendar on which the domain's own times are even, though these alone may look even on another.
            places = {text: i for i, text in enumerate(panel.texts)}
            there = np.array([places[text] for text in ([] if own is None else own.texts)], np.int64)
            known = [there[track.at] for track in (own.tracks.values() if own is not None else ())]
            found, spacing = time.spaced(panel.times, [*(track.at for track in tracks), *known])
            counts, step = found[: len(tracks)], spacing.step
        static = self._static() if self.names is not None else {}
        made = {}
        for (base, track), count in zip(panel.tracks.items(), counts, strict=True):
            for name, columns in self._series(base):
                run = panels.latest_run(count, track.values[:, columns], step, self.carried)
                if not len(run.values):
                    self.said["series without a value, which have no answer"] += 1
                    continue
                last = int(run.places[-1])
                self.said["steps before a gap that is too long to carry values over, left out"] += run.outside
                self.said["missing steps for which the last value before stands"] += int((~run.recorded).sum())
                one = NewSequence(run.values)
                if self.layout.time is not None:
                    one = replace(one, stamps=_stamps(panel.times, track.at, run, spacing))
                if spacing is not None:
                    ahead = time.following(panel.times, int(track.at[last]), spacing, self.steps)
                    one = replace(one, ahead=list(ahead))
                if self.names is None:
                    self.said["rows without a value at the end, left out"] += len(track.at) - 1 - last
                else:
                    own_static = static.get(base, {})
                    table = self._covariates(name, one, run, track.values[:, width:], count, step, own_static)
                    one = replace(one, covariates=table)
                made[name] = one
        for what, number in (+self.said).items():
            say(f"{what}: {number}")
        if not made:
            raise UserError(f"{self.path}: no series has a value")
        return made

    def _series(self, base: str) -> list[tuple[str, slice]]:
        """Of what was read as one, the names of its series and their columns: with covariates, all of a key are one."""
        width = len(self.layout.columns)
        if self.names is None:
            return [(base, slice(0, self.layout.channels))]
        names = self.layout.names([base] if self.layout.key else [])
        parts = [slice(0, width)] if self.layout.together else [slice(i, i + 1) for i in range(width)]
        return list(zip(names, parts, strict=True))

    def _own(self) -> Panel | None:
        """The domain's own table, or None where it is gone; that is said where it matters."""
        from seqlab.data import panels
        from seqlab.data.domains.base import find

        if self.layout.time is None or (self.by == "rows" and self.layout.form is not None):
            return None
        with suppress(UserError):
            return panels.read(find(self.raw, self.layout.file), self.layout, lambda value: None)
        say(f"{self.layout.file} is not in {self.raw} any more: what a step is, is taken from {self.path.name} alone")
        return None

    def _wide(self) -> Layout:
        """The columns of values, and then of covariates by step, as channels of one series a key."""
        from seqlab.data.panels import Layout

        if self.names is None:
            return self.layout
        columns = [*self.layout.columns, *(name for name in self.names.stepwise if name not in self.absent)]
        own = self.layout
        return Layout(own.file, own.time, own.key, columns, True, own.form, own.dialect)

    @cached_property
    def absent(self) -> list[str]:
        """Covariates that the model does not need, and that this table does not have."""
        from seqlab.data.readers import Dialect, read_table

        dialect = Dialect.of(self.path, self.layout.dialect)
        first = ((name, next(read_table(self.path, [], [name], dialect), (0, []))) for name in self.unused)
        return [name for name, (_, cells) in first if not cells]

    def _static(self) -> dict[str, dict[str, str]]:
        """The static covariates of each series as they are written. Raises UserError where there are two of one."""
        from seqlab.data.readers import Dialect, place, read_table

        assert self.names is not None
        columns = [name for name in self.names.static if name not in self.absent]
        found: dict[str, dict[str, str]] = {}
        dialect = Dialect.of(self.path, self.layout.dialect)
        keys = len(self.layout.key)
        for row, cells in read_table(self.path, [*self.layout.key, *columns], (), dialect) if columns else ():
            [name] = self._wide().names(cells[:keys])
            own = found.setdefault(name, {})
            for column, cell in zip(columns, cells[keys:], strict=True):
                if (text := cell.strip()) and own.setdefault(column, text) != text:
                    raise UserError(
                        f"{place(self.path, row, column)}: {own[column]!r} and {text!r}; expected one value a sequence"
                    )
        return found

    def _covariates(
        self,
        name: str,
        one: NewSequence,
        run: Run,
        beside: np.ndarray,
        counts: np.ndarray,
        step: int,
        static: dict[str, str],
    ) -> pd.DataFrame:
        """As `seqlab.data.along` takes them: rows of the run, and those of the steps ahead without values.

        Raises UserError naming the time of a step whose covariate is not known.
        """
        import pandas as pd

        assert self.names is not None
        last = int(run.places[-1])
        begin = counts[last] - step * (len(run.values) - 1)
        wanted = begin + step * np.arange(len(run.values) + self.steps)
        row = np.minimum(np.searchsorted(counts, wanted), len(counts) - 1)
        found = np.where((counts[row] == wanted)[:, None], beside[row], np.nan)
        there = [column for column in self.names.stepwise if column not in self.absent]
        columns: dict[str, Any] = {"id": [name] * len(wanted)}
        empty = np.full(self.steps, np.nan)
        for i in range(run.values.shape[1]):
            columns[f"value {i + 1}"] = np.append(run.values[:, i], empty)
        for i, column in enumerate(there):
            columns[column] = found[:, i]
            if column in self.names.known and column not in self.unused:
                lacking = np.flatnonzero(np.isnan(found[len(run.values) :, i]))
                if len(lacking):
                    when = "" if one.ahead is None else f" ({one.ahead[lacking[0]]})"
                    raise UserError(
                        f"{self.path.name}, series {name!r}: {column} is missing in step {lacking[0] + 1} to forecast"
                        f"{when}; a row for each of the {self.steps} steps after the last value has to say it"
                    )
        columns |= {column: [static.get(column)] * len(wanted) for column in self.names.static}
        return pd.DataFrame(columns | {column: np.full(len(wanted), np.nan) for column in self.absent})


def _stamps(times: Times, at: np.ndarray, run: Run, spacing: CalendarStep | None) -> list[Any]:
    """The time of each step of a run, of those that no row has too."""
    import pandas as pd

    from seqlab.data import time

    if times.local is None:
        read: Any = pd.Index(times.instant / times.scale if times.scale > 1 else times.instant)
    else:
        read = pd.to_datetime(times.local, unit="us")
    found: list[Any] = []
    missing = 0
    for place, recorded in zip(run.places.tolist(), run.recorded.tolist(), strict=True):
        missing = 0 if recorded else missing + 1
        if recorded or spacing is None:
            found.append(read[at[place]])
        else:
            found.append(time.following(times, int(at[place]), spacing, missing)[-1])
    return found


def say(what: str) -> None:
    print(f"seqlab: {what}", file=sys.stderr)
