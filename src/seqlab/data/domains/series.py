"""Series: panels of univariate time series, split in time on the target and by series on the source."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqlab.data.domains.base import LABELLED, SOURCE, TARGET, Meta, classes_of, find, split_of, write_meta
from seqlab.data.readers import read_table
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.errors import UserError

MONTHS = {
    name: i
    for i, name in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])
}
PANEL_KEYS = ("file", "time", "value", "key")
# Of a value that nothing transforms: the squares of a whole series then add up within float32.
LARGEST = 1e15


class Series:
    """Panels in long format: one CSV with a column of times, one of values and the columns that name a series.

    A series is its longest run without a gap in time or a missing value; what is shorter than `min_length`, constant or
    equal to a series before it (the target's come first) is dropped and counted. Values are transformed; each sequence
    carries its own standardisation, estimated before its first scored step.
    """

    kind = "vectors"

    def __init__(
        self,
        *,
        source: list[dict],
        target: dict,
        transform: Literal["none", "log1p"],
        window: int,
        min_length: int,
        valid_steps: int,
        test_steps: int,
        valid: float,
        test: float,
    ) -> None:
        self.source, self.target, self.transform = source, target, transform
        self.window, self.min_length = window, min_length
        self.valid_steps, self.test_steps = valid_steps, test_steps
        self.valid, self.test = valid, test

    @property
    def classes(self) -> list[str]:
        """The names of the source panels."""
        return [Path(panel["file"]).stem for panel in self.source]

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source, target and labelled sets. Raises UserError naming file, row and column."""
        removed: Counter[str] = Counter()
        root, seen = raw["panels"], set[bytes]()
        self._write_target(self._panel(root, self.target, removed, seen), out)
        self._write_source([self._panel(root, panel, removed, seen) for panel in self.source], out)
        write_meta(
            out,
            Meta(
                kind="vectors",
                size=1,
                tasks=["next_step", "classify"],
                classes=self.classes,
                transform=self.transform,
                removed=dict(removed),
            ),
        )

    def _write_target(self, panel: dict[str, np.ndarray], out: Path) -> None:
        """Split in time. Valid and test sequences carry their past as context; steps from `first` on are scored."""
        held = self.valid_steps + self.test_steps
        series = [y for y in panel.values() if len(y) >= held + self.min_length]
        if not series:
            longest = max(map(len, panel.values()))
            raise UserError(
                f"{self.target['file']}: no series is long enough: the longest has {longest} steps, "
                f"{held + self.min_length} are needed (min_length + valid_steps + test_steps)"
            )
        for split, after, first in (
            ("train", held, held),
            ("valid", self.test_steps, held),
            ("test", 0, self.test_steps),
        ):
            kept = [y[: len(y) - after] for y in series]
            starts = np.array([len(y) - first for y in series])
            scored = {} if split == "train" else {"first": starts}
            _standardised(kept, starts, **scored).save(out / TARGET / split)

    def _write_source(self, panels: list[dict[str, np.ndarray]], out: Path) -> None:
        """Split by series: pretraining sees the train split alone, and the panel is the label to recognise."""
        windows: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        newest: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        labels: dict[str, list[int]] = {split: [] for split in SPLITS}
        for label, (panel, spec) in enumerate(zip(panels, self.source, strict=True)):
            for name, y in panel.items():
                split = split_of(f"{spec['file']}/{name}", self.valid, self.test)
                # Windows are aligned at the end, so that the newest values are never in the short rest.
                cuts = [y[max(0, end - self.window) : end] for end in range(len(y), 0, -self.window)]
                kept = [cut for cut in cuts if len(cut) >= self.min_length and np.ptp(cut) > 0]
                windows[split] += kept
                # One labelled window a series: a test of significance means something for independent examples alone.
                newest[split] += kept[:1]
                labels[split] += [label] * len(kept[:1])
        classes_of(self.classes, {split: [self.classes[label] for label in found] for split, found in labels.items()})
        for split in SPLITS:
            if not windows[split]:
                raise UserError(f"source: no series falls into the {split} split; give more series or a larger share")
            ends = np.array([len(y) for y in windows[split]])
            _standardised(windows[split], ends).save(out / SOURCE / split)
            ends = np.array([len(y) for y in newest[split]])
            _standardised(newest[split], ends, labels=np.array(labels[split])).save(out / LABELLED / split)

    def _panel(
        self, root: Path, spec: dict[str, Any], removed: Counter[str], seen: set[bytes]
    ) -> dict[str, np.ndarray]:
        """Every usable series of a panel by name: (T, 1) float32, transformed. seen: hashes of those before."""
        if set(spec) != set(PANEL_KEYS):
            raise UserError(
                f"domain series, panel {spec.get('file', spec)}: expected the keys {', '.join(PANEL_KEYS)}, "
                f"found {', '.join(spec)}"
            )
        file = find(root, spec["file"])
        dated: dict[str, list[tuple[int | datetime, float]]] = {}
        for name, time, value in self._rows(file, spec):
            dated.setdefault(name, []).append((time, value))
        count = _counted({time for points in dated.values() for time, _ in points})
        series = {name: [(count(time), value) for time, value in points] for name, points in dated.items()}
        steps: Counter[int] = Counter()
        for points in series.values():
            for (before, _), (after, _) in itertools.pairwise(points):
                steps[after - before] += 1
        step = steps.most_common(1)[0][0] if steps else 1
        kept: dict[str, np.ndarray] = {}
        for name, points in series.items():
            run = _longest_run(points, step)
            y = (np.log1p(run) if self.transform == "log1p" else run).astype(np.float32)[:, None]
            if len(y) < self.min_length:
                removed[f"{spec['file']}: shorter than min_length"] += 1
            elif np.ptp(run) == 0:
                removed[f"{spec['file']}: constant"] += 1
            elif (digest := hashlib.sha256(y.data).digest()) in seen:
                removed[f"{spec['file']}: duplicate"] += 1
            else:
                seen.add(digest)
                kept[name] = y
        if not kept:
            raise UserError(
                f"{file.name}: no usable series: none has {self.min_length} steps without a gap, varies and is new"
            )
        return kept

    def _rows(self, file: Path, spec: dict[str, Any]) -> Iterator[tuple[str, int | datetime, float]]:
        """(series name, time, value) of each row; a missing value is NaN."""
        newest: dict[str, Any] = {}
        for where, (time, value, *key) in read_table(file, [spec["time"], spec["value"], *spec["key"]], []):
            name = "/".join(key)
            at: Any = _time(time, f"{where}, column {spec['time']}")
            before = newest.get(name, at)
            if type(at) is not type(before) or (name in newest and at <= before):
                raise UserError(
                    f"{where}, column {spec['time']}: {time!r} does not come after the time before it "
                    f"of the series {name!r}"
                )
            newest[name] = at
            yield name, at, self._value(value, f"{where}, column {spec['value']}")

    def _value(self, cell: str, where: str) -> float:
        if cell in ("", "NA"):
            return math.nan
        try:
            value = float(cell)
        except ValueError:
            raise UserError(f"{where}: {cell!r} is not a number") from None
        if not math.isfinite(value):
            raise UserError(f"{where}: {cell!r} is not finite; leave the cell empty where a value is missing")
        if self.transform == "log1p" and value <= -1:
            raise UserError(f"{where}: {cell} has no log1p; set transform to none")
        if self.transform == "none" and abs(value) > LARGEST:
            raise UserError(f"{where}: {cell} is beyond {LARGEST:g}; set transform to log1p, or take a greater unit")
        return value


def _time(text: str, where: str) -> int | datetime:
    """Months of "1982 Apr", quarters of "1998 Q1", a plain integer as it is, or the moment of an ISO date."""
    if match := re.fullmatch(r"(\d{4}) ([A-Z][a-z]{2})", text):
        if match[2] in MONTHS:
            return int(match[1]) * 12 + MONTHS[match[2]]
    elif match := re.fullmatch(r"(\d{4}) Q([1-4])", text):
        return int(match[1]) * 4 + int(match[2]) - 1
    elif re.fullmatch(r"-?\d+", text):
        return int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        except ValueError:
            pass
    raise UserError(f"{where}: {text!r} is no time; expected '1982 Apr', '1998 Q1', an ISO date or an integer")


def _counted(times: set[int | datetime]) -> Callable[[int | datetime], int]:
    """What counts the steps of a panel's times: months where all dates are one day of a month or its last, or seconds.

    Months and years differ in their seconds, and are steps of one length to whoever records by them.
    """
    dates = [time for time in times if isinstance(time, datetime)]
    midnight = all((date.hour, date.minute, date.second, date.microsecond) == (0, 0, 0, 0) for date in dates)
    last = all((date + timedelta(days=1)).day == 1 for date in dates)
    by_month = midnight and (last or len({date.day for date in dates}) == 1)

    def count(time: int | datetime) -> int:
        if isinstance(time, int):
            return time
        return time.year * 12 + time.month - 1 if by_month else int(time.timestamp())

    return count


def _longest_run(points: list[tuple[int, float]], step: int) -> np.ndarray:
    """The longest stretch (the latest of equals) of evenly spaced values that are all there."""
    times = np.array([time for time, _ in points])
    values = np.array([value for _, value in points])
    known = ~np.isnan(values)
    # A break stands before i when i or its predecessor is missing, or when time jumps.
    breaks = np.flatnonzero(~(known[1:] & known[:-1]) | (np.diff(times) != step)) + 1
    runs = [run for run in np.split(values, breaks) if not np.isnan(run).any()]
    return max(reversed(runs), key=len) if runs else np.empty(0)


def _standardised(series: list[np.ndarray], before: np.ndarray, **optional: np.ndarray) -> Sequences:
    """Sequences with mean and standard deviation of each series' values before the step `before`."""
    past = [y[:end] for y, end in zip(series, before, strict=True)]
    centre = np.stack([y.mean(0) for y in past]).astype(np.float32)
    spread = np.stack([y.std(0) for y in past])
    return Sequences.from_arrays(
        series, centre=centre, scale=np.where(spread > 0, spread, 1).astype(np.float32), **optional
    )
