"""A file of new data, read as the domain's own was: the same columns, the same numbers, times of the same calendar.

What the prepare stage mends in training data is mended here as it is there, and said with its count.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.data.beside import Names
    from seqlab.data.panels import Layout, Panel, Run, Track
    from seqlab.data.readers import Dialect
    from seqlab.data.time import CalendarStep

MENDED = {"rows given twice": "rows that say the same of the same time, taken once"}  # in words for who asks


# Texts


def read_texts(path: Path, prepare: dict[str, Any]) -> dict[int | str, str]:
    """Texts by id, blank ones too: by number from 0, a line each, or, of a table, the cells of the column in which the
    domain's own file has its texts; of a folder, where every file is one text, by the file's place in it.

    Raises UserError where the new file is none of these, and where there is no text.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    columns = prepare.get("target_columns")  # a list of a file without a header
    of_files = isinstance(columns, dict) and "files" in columns
    found: dict[int | str, tuple[str, str]]
    if path.is_dir():
        if not of_files:
            raise UserError(
                f"{path}: a folder; the domain's own texts are lines or cells of a table: give one such file"
            )
        found = {name: (name, text) for name, text in _texts_of_files(path, columns)}
    else:
        if of_files:
            say(f"{path.name}: a line is a text here; of a folder, every file is one")
        found = {number: (str(row), text) for number, (row, text) in enumerate(_texts_of(path, prepare))}
    blank = {name: row for name, (row, text) in found.items() if not text.strip()}
    if len(blank) == len(found):
        raise UserError(f"{path}: {'every text is blank' if found else 'no row'}; expected one text at least")
    if blank:
        named = [str(name) if path.is_dir() else f"row {row}, whose id is {name}" for name, row in blank.items()]
        say(f"blank texts, which have no answer: {len(blank)} of {len(found)} ({some(named)})")
    return {name: text for name, (_, text) in found.items()}


def _texts_of_files(path: Path, columns: Any) -> Iterator[tuple[str, str]]:
    """Every file of a folder, but for the domain's table of labels, by its place."""
    from seqlab.data.readers import read_lines
    from seqlab.intake.sniff import files_below

    table = columns["files"]["file"] if isinstance(columns["files"], dict) else None
    files = [file for file in files_below(path) if file.name != table]
    if not files:
        raise UserError(f"{path}: no file in it; expected one a text")
    for file in files:
        # An empty file is a blank text, which `read_lines` refuses.
        lines = read_lines(file, _encoding(file, "utf-8")) if file.stat().st_size else ()
        yield file.relative_to(path).as_posix(), "\n".join(line for _, line in lines)


def _texts_of(path: Path, prepare: dict[str, Any]) -> list[tuple[int, str]]:
    """Numbered lines of a file, or cells of the texts' column of a table."""
    from seqlab.data.readers import Dialect, plain_suffix, read_lines, read_table
    from seqlab.intake import sniff

    columns, own = prepare.get("target_columns"), prepare.get("dialect")
    if plain_suffix(path) not in sniff.TABLES:
        return list(read_lines(path, _encoding(path, Dialect.of(path, own).encoding)))
    named = [columns["text"]] if isinstance(columns, dict) and "text" in columns else []
    for corpus in (prepare.get("corpora") or {}).values():
        if corpus["format"] == "table":
            named += [corpus.get("columns", ["english"])[0]]
            own = own or corpus.get("dialect")
    # Two columns without a header are numbered.
    if not named or not isinstance(named[0], str):
        raise UserError(f"{path}: a table, but the domain's own file has one text a line; give such a file, as .txt")
    return [(row, text) for row, (text,) in read_table(path, named[:1], [], written(path, own, named[:1], []))]


def _encoding(path: Path, own: str) -> str:
    """How a file of text is encoded; said where it is not as the domain's own."""
    from seqlab.intake import sniff

    found, why = sniff.encoding(path)
    if found != own:
        say(f"{path.name}: read as {found} ({why}); the domain's own file is {own}")
    return found


def some(named: Iterable[str], most: int = 3) -> str:
    """The first of them, and a mark where there are more."""
    listed = list(named)
    return "; ".join(listed[:most]) + ("; …" if len(listed) > most else "")


# How a table is written


def written(path: Path, own: dict[str, Any] | None, wanted: Sequence[str], numbers: Sequence[str]) -> Dialect:
    """How a new table is written, where that is not as the domain's own: its encoding, what parts its cells so that
    the columns `wanted` are there, and the marks by which the most cells of the columns `numbers` are numbers. What
    differs is said.
    """
    from seqlab.data.readers import Dialect, plain_suffix, read_table
    from seqlab.intake import sniff

    same = Dialect.of(path, own)
    if plain_suffix(path) in (".parquet", ".jsonl", ".ndjson"):
        return same
    found = replace(same, encoding=_encoding(path, same.encoding))
    if not _has(path, found, wanted):
        parted = sniff.delimiter_of(path, found.encoding)
        if parted is not None and _has(path, other := replace(found, delimiter=parted), wanted):
            found = other
            say(
                f"{path.name}: its cells are parted by {parted!r}; those of the domain's own file by {same.delimiter!r}"
            )
    rows = islice(read_table(path, [], numbers, found), sniff.LOOKED_AT)
    cells = [cell for _, row in rows for cell in row]
    if (bad := _unread(cells, found)) is None:
        odd = next((cell for cell in cells if found.thousands and found.thousands in cell), None)
        if odd is not None and found.delimiter != same.delimiter:
            value = found.number(odd, path, 0, "")
            say(f"{path.name}: numbers are read as the domain's own: {odd.strip()!r} is {value:.15g}")
        return found
    decimal, thousands = sniff.number_marks(cells, found.delimiter)
    marked = replace(found, decimal=decimal, thousands=thousands)
    if (still := _unread(cells, marked)) is not None and still <= bad:
        return found  # of which reading names the cell
    odd = cells[bad]
    say(f"{path.name}: numbers are not written as in the domain's own file: {odd!r} is {_value(odd, marked)}")
    return marked


def _has(path: Path, dialect: Dialect, wanted: Sequence[str]) -> bool:
    """Whether a table, its cells parted so, has all columns."""
    from seqlab.data.readers import read_table

    with suppress(UserError):
        next(read_table(path, wanted, [], dialect), None)
        return True
    return False


def _unread(cells: Sequence[str], dialect: Dialect) -> int | None:
    """The place of the first cell that is no number."""
    return next((i for i, cell in enumerate(cells) if _value(cell, dialect) is None), None)


def _value(cell: str, dialect: Dialect) -> float | None:
    with suppress(UserError):
        return dialect.number(cell, Path(), 0, "")
    return None


# Sequences of numbers


@dataclass(frozen=True)
class NewSequence:
    """values: (T, C) of its even steps up to the last that is known. stamps: (T,) their times, where there are any.
    ahead: the times that follow, as many as were asked for; None: steps are rows. covariates: a table of T rows and of
    those ahead, where they were asked for. key: its cell of each column, where several columns together name it. past:
    how many steps at the beginning are the domain's own, joined.
    """

    values: np.ndarray
    stamps: Sequence[Any] | None = None
    ahead: Sequence[Any] | None = None
    covariates: pd.DataFrame | None = None
    key: Mapping[str, str] = field(default_factory=dict)
    past: int = 0


@dataclass(frozen=True)
class Wanted:
    """What a model needs of a past. least: its steps. unfit: why (T, C) values cannot be answered, or None. exact:
    steps to forecast are as many as asked for; or else fewer, where covariates are known of fewer. joined: the domain's
    own rows before the new ones are their past.
    """

    least: int = 0
    unfit: Callable[[np.ndarray], str | None] = lambda values: None
    exact: bool = True
    joined: bool = True


def read_sequences(
    path: Path,
    prepare: dict[str, Any],
    raw: Path,
    steps: int,
    names: Names | None = None,
    unused: Sequence[str] = (),
    wanted: Wanted | None = None,
) -> dict[str, NewSequence]:
    """Every sequence by the name that the domain's own file would give it; of recordings and films, by their place.

    prepare: the domain's section. raw: the folder with the domain's own files, from whose times the calendar is known,
    and whose rows before the new ones are the past that a forecast goes on from. steps: to forecast. names: covariates
    to be read beside the values, of which a model does not need the `unused`.

    Raises UserError naming file, row and column.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    wanted = wanted or Wanted()
    if "data" in prepare:
        return _labelled(path, prepare["data"], wanted)
    if path.is_dir():
        raise UserError(f"{path}: a folder; expected a table")
    layout, by, carried = layout_of(prepare)
    if layout is None:
        raise UserError(f"{path}: the domain's yaml names no columns of values, so a table cannot be read; use Python")
    return _Reader(path, layout, by, carried, raw, steps, names, unused, wanted).read()


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


def _labelled(path: Path, data: dict[str, Any], wanted: Wanted) -> dict[str, NewSequence]:
    """Of a domain of whole sequences; a class is not asked for, but to be told."""
    from seqlab.data.domains import labelled

    removed: Counter[str] = Counter()
    if data["format"] in ("wav", "video"):
        made = dict(_recorded(path, data))
    else:
        if path.is_dir():
            form = "a table" if data["format"] == "table" else "a .ts file"
            raise UserError(f"{path}: a folder; expected {form}, as the domain's own file is")
        if data["format"] == "table":
            dialect = written(path, data.get("dialect"), [*data["id"], *data["channels"]], data["channels"])
            data = data | {"file": path.name, "label": None, "dialect": asdict(dialect)}
        else:
            data = data | {"train": path.name, "test": None}
        made = {
            one.name.removeprefix(f"{path.name}, sequence "): one.values
            for one in labelled.read(data, {"data": path}, removed)
        }
    for what, count in (+removed).items():
        say(f"{MENDED.get(what, what)}: {count}")
    left = {name: wanted.unfit(values) if len(values) else "it has no value" for name, values in made.items()}
    _tell_left({name: why for name, why in left.items() if why}, path, len(made))
    return {name: NewSequence(values) for name, values in made.items() if not left[name]}


def _recorded(path: Path, data: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """One file, or all below a folder, by their places in it: two folders may have files of one name."""
    from seqlab.data.domains.labelled import FILMS
    from seqlab.data.domains.speech import lpc_cepstra, read_wav
    from seqlab.data.domains.video import read_clip
    from seqlab.intake.sniff import files_below

    suffixes = (".wav",) if data["format"] == "wav" else FILMS
    root, every = (path, files_below(path)) if path.is_dir() else (path.parent, [path])
    files = [file for file in every if file.suffix.lower() in suffixes]
    if not files:
        raise UserError(
            f"{path}: {'no file' if path.is_dir() else 'it is no file'} that ends in {' or '.join(suffixes)}"
        )
    if others := [file.relative_to(root).as_posix() for file in every if file not in set(files)]:
        say(f"files that do not end in {' or '.join(suffixes)}, left out: {len(others)} ({some(others)})")
    short = []
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            if data["format"] == "video":
                yield name, read_clip(file, data["size"]).astype(np.float64)
                continue
            signal = read_wav(file, data["rate"])
        except UserError as error:
            raise UserError(str(error).replace(file.name, name, 1)) from None
        if len(signal) < data["frame"] + data["shift"]:
            short.append(name)
        else:
            yield name, lpc_cepstra(signal, frame=data["frame"], shift=data["shift"], order=data["order"])
    if short:
        say(f"recordings shorter than two frames, left out: {len(short)} ({some(short)})")


def _tell_left(left: dict[str, str], path: Path, total: int) -> None:
    """Say which series have no answer. Raises UserError where none has one."""
    named = some(f"{name!r}: {why}" for name, why in left.items())
    if len(left) == total:
        raise UserError(f"{path.name}: no series can be answered{': ' if named else ''}{named}")
    if left:
        say(f"series that have no answer: {len(left)} of {total} ({named})")


@dataclass
class _Reader:
    path: Path
    own_layout: Layout
    by: str
    carried: int
    raw: Path
    steps: int
    names: Names | None
    unused: Sequence[str]
    wanted: Wanted
    said: dict[str, dict[str, int]] = field(default_factory=dict)  # counts by series
    left: dict[str, str] = field(default_factory=dict)  # series without an answer, and why
    earlier: dict[str, int] = field(default_factory=dict)  # rows that were joined, by key

    def read(self) -> dict[str, NewSequence]:
        from seqlab.data import stamps, time
        from seqlab.intake.identity import check_series

        own, width = self._own(), len(self.layout.columns)
        panel = self._panel(own)
        if not panel.tracks:
            raise UserError(f"{self.path}: no row below the header")
        check_series(self.path, self.layout, panel.tracks)
        for what, count in (+panel.mended).items():
            say(f"{MENDED.get(what, what)}: {count}")
        before = {} if own is None else _placed(own, panel)
        if self.wanted.joined and self.layout.time is not None:
            self._join(panel, before)
        tracks = list(panel.tracks.values())
        if self.by == "rows" or self.layout.time is None:
            counts, spacing, step = [np.arange(len(track.at)) for track in tracks], None, 1
        else:
            # On the calendar on which the domain's own times are even, though these alone may look even on another.
            known = [track.at for track in before.values()]
            found, spacing = time.spaced(panel.times, [*(track.at for track in tracks), *known])
            counts, step = found[: len(tracks)], spacing.step
        offset = self.layout.time is not None and stamps.zoned(panel.texts, self.layout.form)
        runs = self._runs(panel, counts, step)
        if self.names is not None and not self.wanted.exact:
            self._fewer(runs, step)
        static = self._static() if self.names is not None else {}
        keys = self._keys()
        made = {}
        for name, (base, track, own_counts, run) in runs.items():
            last = int(run.places[-1])
            missing = int((~run.recorded).sum())
            self._count("missing steps for which the last value before stands", name, missing)
            past = int(np.searchsorted(run.places, self.earlier.get(base, 0)))
            one = NewSequence(run.values, key=keys.get(base, {}), past=past)
            if self.layout.time is not None:
                one = replace(one, stamps=_stamps(panel, track.at, run, spacing, offset))
            if spacing is not None:
                ahead = stamps.following(panel.times, int(track.at[last]), spacing, self.steps, offset)
                one = replace(one, ahead=list(ahead))
            if self.names is None:
                self._count("rows without a value at the end, left out", name, len(track.at) - 1 - last)
            else:
                own_static = static.get(base, {})
                table = self._covariates(name, one, run, track.values[:, width:], own_counts, step, own_static)
                one = replace(one, covariates=table)
            made[name] = one
        for what, number in self.said.items():
            say(f"{what}: {sum(number.values())} ({some(f'{name}: {count}' for name, count in number.items())})")
        _tell_left(self.left, self.path, len(self.left) + len(made))
        return made

    def _runs(self, panel: Panel, counts: list[np.ndarray], step: int) -> dict[str, tuple[str, Track, np.ndarray, Run]]:
        """What is left of each series after its last gap, with its key, rows and their counts."""
        from seqlab.data import panels

        runs: dict[str, tuple[str, Track, np.ndarray, Run]] = {}
        for (base, track), count in zip(panel.tracks.items(), counts, strict=True):
            for name, columns in self._series(base):
                run = panels.latest_run(count, track.values[:, columns], step, self.carried)
                if why := self._unfit(run, track, panel):
                    self.left[name] = why
                else:
                    runs[name] = base, track, count, run
                if len(run.values):
                    self._count("steps before a gap that is too long to carry values over, left out", name, run.outside)
        return runs

    def _count(self, what: str, name: str, count: int) -> None:
        if count:
            self.said.setdefault(what, {})[name] = count

    def _unfit(self, run: Run, track: Track, panel: Panel) -> str | None:
        """Why a series has no answer."""
        if not len(run.values):
            return "it has no value"
        if len(run.values) < self.wanted.least:
            lacking = f"{len(run.values)} steps of {self.wanted.least} that are needed; give what is missing"
            if not run.outside:
                return f"it has {lacking}"
            return f"a gap ends before {panel.texts[track.at[run.places[0]]]}, and from there on it has {lacking}"
        return self.wanted.unfit(run.values)

    @cached_property
    def layout(self) -> Layout:
        """That of the domain's own table, written as the new one is."""
        own = self.own_layout
        wanted = [*([] if own.time is None else [own.time]), *own.key, *own.columns]
        return replace(own, dialect=asdict(written(self.path, own.dialect, wanted, own.columns)))

    def _panel(self, own: Panel | None) -> Panel:
        """The new table, its times read together with the domain's own. Raises UserError."""
        from seqlab.data import panels, stamps

        layout = self._wide(self.layout)
        try:
            return panels.read(self.path, layout, lambda value: None, () if own is None else own.texts)
        except UserError:
            if own is None:
                raise
        alone = panels.read(self.path, layout, lambda value: None)  # which tells what is wrong with it by itself
        found = stamps.unlike(alone.texts, own.texts, layout.form)
        mine, theirs = found or ("of one kind", "of another")
        raise UserError(
            f"{self.path.name}, column {layout.time}: its times are {mine} ({alone.texts[0]!r}), those of the domain's "
            f"own {self.own_layout.file} are {theirs} ({own.texts[0]!r}); write them alike"
        )

    def _join(self, panel: Panel, before: dict[str, Track]) -> None:
        """Put the rows of the domain's own table that are before those of a series of the same name in front of them.

        Raises UserError naming the row that differs from the domain's own of the same time.
        """
        from seqlab.data.readers import place

        instants = panel.times.instant
        joined = self.earlier
        for name, track in panel.tracks.items():
            if (known := before.get(name)) is None:
                continue
            mine, theirs = instants[track.at], instants[known.at]
            _, i, j = np.intersect1d(mine, theirs, return_indices=True)
            new, old = track.values[i], known.values[j]
            # Of a step to forecast, covariates may be tried that were not those of its time.
            new = np.where(np.isnan(new[:, : len(self.layout.columns)]).any(1)[:, None], np.nan, new)
            wrong = np.argwhere(~(np.isclose(new, old, rtol=1e-6, atol=0) | np.isnan(new) | np.isnan(old)))
            if len(wrong):
                at, channel = wrong[0]
                columns = self._wide(self.layout).columns
                column = columns[channel] if new.shape[1] == len(columns) else name
                raise UserError(
                    f"{place(self.path, int(track.rows[i[at]]), column)}: {new[at, channel]:.15g} of the series "
                    f"{name!r}, and {old[at, channel]:.15g} in the domain's own {self.own_layout.file} at the same "
                    f"time, {panel.texts[track.at[i[at]]]}; mend one of them, or give the series another name"
                )
            if earlier := int((theirs < mine[0]).sum()):
                joined[name] = earlier
                panel.tracks[name] = type(track)(
                    np.concatenate([known.at[:earlier], track.at]),
                    np.concatenate([known.values[:earlier], track.values]),
                    np.concatenate([known.rows[:earlier], track.rows]),
                )
            valued = mine[~np.isnan(track.values[:, : len(self.layout.columns)]).any(1)]
            self._count(
                f"rows of {self.own_layout.file} later than the last value here, not used",
                name,
                int((theirs > valued[-1]).sum()) if len(valued) else 0,
            )
        if joined:
            say(
                f"rows of {self.own_layout.file} before those of {self.path.name}, joined as their past: "
                f"{sum(joined.values())} of {len(joined)} series"
            )

    def _fewer(self, runs: dict[str, tuple[str, Track, np.ndarray, Run]], step: int) -> None:
        """As many steps to forecast as every series has its known covariates of, where that is fewer."""
        assert self.names is not None
        needed = [name for name in self.names.known if name not in self.unused]
        if not needed:
            return
        least: tuple[int, str] | None = None
        for name, (_, _, count, run) in runs.items():
            ahead = count[run.places[-1]] + step * np.arange(1, self.steps + 1)
            row = np.minimum(np.searchsorted(count, ahead), len(count) - 1)
            # A row whose cell is empty is an error, which reading it says.
            lacking = np.flatnonzero(count[row] != ahead)
            own = int(lacking[0]) if len(lacking) else self.steps
            if least is None or own < least[0]:
                least = own, name
        if least is not None and 0 < least[0] < self.steps:
            say(
                f"steps ahead: {least[0]} and not {self.steps}; {', '.join(needed)} of {least[1]!r} is known no further"
            )
            self.steps = least[0]

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

        layout = self.own_layout
        if layout.time is None:
            return None
        with suppress(UserError):
            return panels.read(find(self.raw, layout.file), self._wide(layout), lambda value: None)
        say(f"{layout.file} is not in {self.raw} any more: pasts and steps are those of {self.path.name} alone")
        return None

    def _wide(self, own: Layout) -> Layout:
        """The columns of values, and then of covariates by step, as channels of one series a key."""
        from seqlab.data.panels import Layout

        if self.names is None:
            return own
        columns = [*own.columns, *(name for name in self.names.stepwise if name not in self.absent)]
        return Layout(own.file, own.time, own.key, columns, True, own.form, own.dialect)

    @cached_property
    def absent(self) -> list[str]:
        """Covariates that the model does not need, and that this table does not have."""
        from seqlab.data.readers import Dialect, read_table

        dialect = Dialect.of(self.path, self.layout.dialect)
        first = ((name, next(read_table(self.path, [], [name], dialect), (0, []))) for name in self.unused)
        return [name for name, (_, cells) in first if not cells]

    def _keys(self) -> dict[str, dict[str, str]]:
        """The cells that together name each series, where they are of several columns."""
        from seqlab.data.readers import Dialect, read_table

        columns = self.layout.key
        if len(columns) < 2 or (len(self.layout.columns) > 1 and not self.layout.together):
            return {}
        rows = read_table(self.path, columns, (), Dialect.of(self.path, self.layout.dialect))
        return {"/".join(cells): dict(zip(columns, cells, strict=True)) for _, cells in rows}

    def _static(self) -> dict[str, dict[str, str]]:
        """The static covariates of each series as they are written. Raises UserError where there are two of one."""
        from seqlab.data.readers import Dialect, place, read_table

        assert self.names is not None
        columns = [name for name in self.names.static if name not in self.absent]
        found: dict[str, dict[str, str]] = {}
        dialect = Dialect.of(self.path, self.layout.dialect)
        keys = len(self.layout.key)
        for row, cells in read_table(self.path, [*self.layout.key, *columns], (), dialect) if columns else ():
            [name] = self._wide(self.layout).names(cells[:keys])
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


def _placed(own: Panel, panel: Panel) -> dict[str, Track]:
    """The series of the domain's own table, at the times of another panel, which has them all."""
    places = {text: i for i, text in enumerate(panel.texts)}
    there = np.array([places[text] for text in own.texts], np.int64)
    return {name: replace(track, at=there[track.at]) for name, track in own.tracks.items()}


def _stamps(panel: Panel, at: np.ndarray, run: Run, spacing: CalendarStep | None, offset: bool) -> list[Any]:
    """The time of each step of a run, of those that no row has too."""
    from seqlab.data import stamps

    read = stamps.recorded(panel.times, at, offset)
    found: list[Any] = []
    missing = 0
    for place, recorded in zip(run.places.tolist(), run.recorded.tolist(), strict=True):
        missing = 0 if recorded else missing + 1
        if recorded or spacing is None:
            found.append(read[place])
        else:
            found.append(stamps.following(panel.times, int(at[place]), spacing, missing, offset)[-1])
    return found


def say(what: str) -> None:
    print(f"seqlab: {what}", file=sys.stderr)
