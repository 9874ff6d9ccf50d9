"""Series with covariates: what is known ahead, what is measured beside, and what does not change within a series."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.data import panels
from seqlab.data.beside import FOLDER, NAMES, ROLES, Beside, Names, Own
from seqlab.data.domains.base import find
from seqlab.data.domains.series import Series
from seqlab.data.panels import Layout
from seqlab.data.prepared import TARGET
from seqlab.data.readers import MISSING, Dialect, place, read_table
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError


class AccompaniedSeries(Series):
    """`target` names columns under `known`, `past` and `static` as well (data.beside.Names); all else is as in Series.

    Covariates stand beside the target at its own times. One that is missing stays missing, and is counted; nothing is
    filled. A static column has numbers, or words, one value a series.
    """

    def _panel(
        self, root: Path, spec: dict[str, Any], removed: Counter[str], seen: set[bytes]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        plain, names = parted(spec)
        found = super()._panel(root, plain, removed, seen)
        if names.all:
            layout = Layout.of(plain, "domain series")
            covariates = Covariates.read(find(root, layout.file), layout, names)
            self.names = covariates.names
            self.found = covariates.of_runs(self.steps, self.carried)
        return found

    def _write_target(
        self, panel: dict[str, np.ndarray], recorded: dict[str, np.ndarray], out: Path, removed: Counter[str]
    ) -> dict[str, list[str]]:
        """The target as it is, and the covariates of the series that are left of it."""
        _, names = parted(self.target)
        if not names.all:
            raise UserError(f"{self.target['file']}: target names no covariate under {', '.join(ROLES)}")
        written = super()._write_target(panel, recorded, out, removed)
        lengths = {split: Sequences.load(out / TARGET / split).lengths for split in written}
        # The last test sequence of a series has all of its steps.
        kept = dict(zip(written["test"], lengths["test"].tolist(), strict=True))
        beside = {name: self.found[name].tail(length) for name, length in kept.items()}
        whole = Beside.of_each(list(beside.values()))
        for role in ("known", "past"):
            for column, missing in zip(getattr(names, role), np.isnan(getattr(whole, role)).sum(0), strict=True):
                removed[f"{self.target['file']}: missing values of the covariate {column}, left missing"] += int(
                    missing
                )
        for split, series in written.items():
            own = Beside.of_each([beside[name] for name in series])
            own.cut(lengths[split]).save(out / FOLDER / f"{split}.safetensors")
        self.names.write(out / FOLDER / NAMES)
        return written


def parted(spec: dict[str, Any]) -> tuple[dict[str, Any], Names]:
    """A panel's keys without its covariates, and these."""
    plain = {key: value for key, value in spec.items() if key not in ROLES}
    known, past, static = (list(spec.get(role) or []) for role in ROLES)
    return plain, Names(known, past, static)


class Covariates:
    """Of all series of a table. panel: values, then known, then past, as channels of one series a key. static: (Q,)
    codes by series. names: with the levels that were found.
    """

    def __init__(self, panel: panels.Panel, layout: Layout, static: dict[str, np.ndarray], names: Names):
        self.panel, self.layout, self.static, self.names = panel, layout, static, names

    @classmethod
    def read(cls, path: Path, layout: Layout, names: Names) -> Covariates:
        """Raises UserError naming file, row and column: no number, a static column that changes within a series; and
        what `panels.read` raises.
        """
        columns = [*layout.columns, *names.stepwise]
        if twice := [name for name, count in Counter([*columns, *names.static]).items() if count > 1]:
            raise UserError(f"{path.name}: column {twice[0]!r} has two roles; expected one")
        wide = Layout(layout.file, layout.time, layout.key, columns, True, layout.form, layout.dialect)
        panel = panels.read(path, wide, lambda value: None)
        static, levels = _static(path, wide, names.static)
        return cls(panel, layout, static, Names(names.known, names.past, names.static, levels))

    def of_runs(self, steps: str, carried: int) -> dict[str, Own]:
        """By the name of each series, at the steps of the run that the recipe takes of it (`panels.longest_run`)."""
        counts, spacing = self.panel.counts()
        step = spacing.step
        if steps == "rows":
            counts, step = [np.arange(len(own)) for own in counts], 1
        found = {}
        for (base, track), own in zip(self.panel.tracks.items(), counts, strict=True):
            names = self.layout.names([base] if self.layout.key else [])
            width = len(self.layout.columns)
            parts = [slice(0, width)] if self.layout.together else [slice(i, i + 1) for i in range(width)]
            for name, part in zip(names, parts, strict=True):
                # The number of its row goes through as one more channel.
                numbered = np.column_stack([track.values[:, part], np.arange(len(own))])
                run, recorded, _, _ = panels.longest_run(own, numbered, step, carried)
                rows = run[:, -1].astype(np.int64)
                filled = np.arange(len(run)) - np.maximum.accumulate(np.where(recorded, np.arange(len(run)), 0))
                known, past = self._at(track, own, own[rows] + step * filled)
                found[name] = Own(known, past, self.static[base])
        return found

    def _at(self, track: panels.Track, counts: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Known and past at the counts `wanted`, NaN where the table has no such row."""
        row = np.minimum(np.searchsorted(counts, wanted), len(counts) - 1)
        beside = track.values[row, len(self.layout.columns) :]
        beside = np.where((counts[row] == wanted)[:, None], beside, np.nan)
        first = len(self.names.known)
        return beside[:, :first], beside[:, first:]


def _static(path: Path, layout: Layout, columns: list[str]) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """The static columns of each series as numbers, and the levels of those that are words."""
    dialect = Dialect.of(path, layout.dialect)
    cells: dict[str, list[str]] = {}
    wanted = [*layout.key, *columns]
    first: dict[str, int] = {}
    for row, found in read_table(path, wanted, (), dialect) if columns else ():
        [name] = layout.names(found[: len(layout.key)])
        own = [cell.strip() for cell in found[len(layout.key) :]]
        known = cells.setdefault(name, own)
        first.setdefault(name, row)
        if known != own:
            i = next(i for i, (one, other) in enumerate(zip(known, own, strict=True)) if one != other)
            raise UserError(
                f"{place(path, row, columns[i])}: {own[i]!r}, and {known[i]!r} in row {first[name]} of the series "
                f"{name!r}; expected one value a series, or name the column under known or past"
            )
    levels: dict[str, list[str]] = {}
    codes: dict[str, dict[str, float]] = {}
    for i, column in enumerate(columns):
        values = sorted({own[i] for own in cells.values()} - set(MISSING))
        if all(_is_number(dialect, value) for value in values):
            codes[column] = {value: dialect.number(value, path, 0, column) for value in values}
        else:
            levels[column] = values
            codes[column] = {value: float(code) for code, value in enumerate(values)}
    found_of = {
        name: np.array([codes[c].get(cell, np.nan) for c, cell in zip(columns, own, strict=True)], np.float64)
        for name, own in cells.items()
    }
    return (found_of if columns else _Nothing()), levels


class _Nothing(dict[str, np.ndarray]):
    """Of every series, no static covariate."""

    def __missing__(self, name: str) -> np.ndarray:
        return np.empty(0)


def _is_number(dialect: Dialect, cell: str) -> bool:
    try:
        return bool(np.isfinite(dialect.number(cell, Path(), 0, "")))
    except UserError:
        return False
