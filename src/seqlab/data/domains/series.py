"""Series: panels of time series, split in time on the target and by series on the source."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqlab.data import panels
from seqlab.data.domains.base import classes_of, find, split_of, write_meta
from seqlab.data.prepared import LABELLED, SOURCE, TARGET, Meta
from seqlab.data.scale import storing, varies
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.errors import UserError
from seqlab.settings import Count, Natural, ProperFraction

# Of a value that nothing transforms: the squares of a whole series then add up within float32.
LARGEST = 1e15


class Series:
    """Panels in long or wide format (panels.Layout). `source` may be empty: then there is a target alone.

    A series is its longest run of even steps (`steps`: "time", of the commonest distance in time; "rows", from one row
    to the next) without a gap in time or a missing value, except that the value before stands in for up to `carried`
    missing steps in a row: nothing later may. What is shorter than `min_length`, does not vary or equals a series
    before it (the target's come first) is dropped; so is, by name, a target series that does not vary before its
    held-out steps, because nothing tells how large one unit of it is. Of a target series, the last `longest` steps are
    kept (None: all). All that is cut, carried or dropped is counted. Of the held-out steps those that were carried are
    context, as `filled`, and nothing is scored on them.

    The held-out steps for testing are of one example a series, or where few series would tell little of several:
    `stretches` of equal length that follow one another, the first of which takes the steps that are left over. Those
    for validation are then cut in stretches of the same length, so that intervals rest on more than one of them.

    Values are transformed; each sequence carries its own standardisation, estimated before its first scored step.
    Values are stored in float32, or all in float64 where that would round away what varies.
    """

    kind = "vectors"
    scored = ("test_steps",)

    def __init__(
        self,
        *,
        source: list[dict[str, Any]],
        target: dict[str, Any],
        transform: Literal["none", "log1p"],
        steps: Literal["time", "rows"],
        carried: Natural,
        longest: Count | None,
        window: Count,
        min_length: Count,
        valid_steps: Count,
        test_steps: Count,
        stretches: Count,
        valid: ProperFraction,
        test: ProperFraction,
    ) -> None:
        self.source, self.target, self.transform = source, target, transform
        self.steps, self.carried, self.longest = steps, carried, longest
        self.window, self.min_length = window, min_length
        self.valid_steps, self.test_steps = valid_steps, test_steps
        self.valid, self.test = valid, test
        if stretches > test_steps:
            raise UserError(f"stretches: found {stretches}, expected at most {test_steps}, the test_steps")
        self.stretches = stretches

    @property
    def classes(self) -> list[str]:
        """The names of the source's files: panels of one file are of one class."""
        return list(dict.fromkeys(Path(panel["file"]).stem for panel in self.source))

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write target, and source and labelled sets where there is a source. Raises UserError naming file, row and
        column.
        """
        removed: Counter[str] = Counter()
        root, seen = raw["panels"], set[bytes]()
        target, recorded = self._panel(root, self.target, removed, seen)
        channels = next(iter(target.values())).shape[1]
        self._write_target(target, recorded, out, removed)
        sources = [self._panel(root, spec, removed, seen)[0] for spec in self.source]
        for spec, panel in zip(self.source, sources, strict=True):
            if (found := next(iter(panel.values())).shape[1]) != channels:
                raise UserError(f"{spec['file']}: {found} channels, {self.target['file']} has {channels}")
        if sources:
            self._write_source(sources, out, removed)
        labelled = (out / LABELLED).exists()
        write_meta(
            out,
            Meta(
                kind="vectors",
                size=channels,
                tasks=["next_step", "classify"] if labelled else ["next_step"],
                classes=self.classes if labelled else [],
                transform=self.transform,
                removed=dict(+removed),
            ),
        )

    def _write_target(
        self, panel: dict[str, np.ndarray], recorded: dict[str, np.ndarray], out: Path, removed: Counter[str]
    ) -> dict[str, list[str]]:
        """Split in time. Valid and test sequences carry their past as context; steps from `first` on are scored, but
        for those that were not recorded. By split, the series that each sequence is of.
        """
        held, file = self.valid_steps + self.test_steps, self.target["file"]
        long_enough = {name: y for name, y in panel.items() if len(y) >= held + self.min_length}
        if self.longest is not None:
            if self.longest < held + self.min_length:
                raise UserError(
                    f"longest: found {self.longest}, expected at least {held + self.min_length} "
                    "(min_length + valid_steps + test_steps)"
                )
            shortened = {name: y[-self.longest :] for name, y in long_enough.items()}
            lost = sum(len(y) - len(shortened[name]) for name, y in long_enough.items())
            removed[f"{file}: steps before the last {self.longest} of a series"] += lost
            long_enough = shortened
        if not long_enough:
            longest = max(map(len, panel.values()))
            raise UserError(
                f"{file}: no series is long enough: the longest has {longest} steps, "
                f"{held + self.min_length} are needed (min_length + valid_steps + test_steps)"
            )
        if short := len(panel) - len(long_enough):
            removed[f"{file}: too short to hold steps out"] += short
        series = {name: y for name, y in long_enough.items() if varies(y[: len(y) - held]).all()}
        for name in long_enough.keys() - series.keys():
            removed[f"{file}: {name}: does not vary before its held-out steps"] += 1
        if not series:
            raise UserError(
                f"{file}: no series is left: none of {len(long_enough)} varies in every channel before its held-out "
                f"steps, {next(iter(long_enough))!r} for one"
            )
        filled = {name: ~recorded[name][-len(y) :] for name, y in series.items()}
        removed[f"{file}: held-out steps carried over a gap, and not scored"] += sum(
            int(own[-held:].sum()) for own in filled.values()
        )
        dtype = storing(y[: len(y) - held] for y in series.values())
        # Of each sequence: how many steps of its series come after it, and of those how many from its first scored one.
        every = self.test_steps // self.stretches
        checked = max(1, self.valid_steps // every) if self.stretches > 1 else 1
        cuts = {
            "train": [(held, held)],
            "valid": _stretches(self.test_steps, self.valid_steps, checked),
            "test": _stretches(0, self.test_steps, self.stretches),
        }
        written = {}
        for split, own in cuts.items():
            chosen = [(name, after, first) for name in series for after, first in own]
            kept = [series[name][: len(series[name]) - after] for name, after, _ in chosen]
            starts = np.array([len(series[name]) - first for name, _, first in chosen])
            scored = {} if split == "train" else {"first": starts}
            there = [filled[name][: len(y)] for (name, _, _), y in zip(chosen, kept, strict=True)]
            if scored and any(one[start:].any() for one, start in zip(there, starts, strict=True)):
                scored["filled"] = np.concatenate(there)
            _standardised(kept, starts, dtype, **scored).save(out / TARGET / split)
            written[split] = [name for name, _, _ in chosen]
        return written

    def _write_source(self, sources: list[dict[str, np.ndarray]], out: Path, removed: Counter[str]) -> None:
        """Split by series: pretraining sees the train split alone, and the panel is the label to recognise."""
        windows: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        newest: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        labels: dict[str, list[int]] = {split: [] for split in SPLITS}
        for panel, spec in zip(sources, self.source, strict=True):
            label = self.classes.index(Path(spec["file"]).stem)
            for name, y in panel.items():
                split = split_of(f"{spec['file']}/{name}", self.valid, self.test)
                # Windows are aligned at the end, so that the newest values are never in the short rest.
                cuts = [y[max(0, end - self.window) : end] for end in range(len(y), 0, -self.window)]
                long_enough = [cut for cut in cuts if len(cut) >= self.min_length]
                kept = [cut for cut in long_enough if varies(cut).all()]
                removed[f"{spec['file']}: steps before the first window"] += len(y) - sum(map(len, long_enough))
                removed[f"{spec['file']}: windows that do not vary"] += len(long_enough) - len(kept)
                windows[split] += kept
                # One labelled window a series: a test of significance means something for independent examples alone.
                newest[split] += kept[:1]
                labels[split] += [label] * len(kept[:1])
        for split in SPLITS:
            if not windows[split]:
                raise UserError(f"source: no series falls into the {split} split; give more series or a larger share")
        dtype = storing(windows["train"])
        for split in SPLITS:
            ends = np.array([len(y) for y in windows[split]])
            _standardised(windows[split], ends, dtype).save(out / SOURCE / split)
        # What comes from one file is one class, and nothing to be told apart.
        if len(self.classes) > 1:
            classes_of(self.classes, {split: [self.classes[i] for i in found] for split, found in labels.items()})
            for split in SPLITS:
                ends = np.array([len(y) for y in newest[split]])
                _standardised(newest[split], ends, dtype, labels=np.array(labels[split])).save(out / LABELLED / split)

    def _panel(
        self, root: Path, spec: dict[str, Any], removed: Counter[str], seen: set[bytes]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Every usable series of a panel by name: (T, C) float64, transformed; and which steps of it were recorded,
        (T,) bool. seen: hashes of those before.
        """
        layout = panels.Layout.of(spec, "domain series")
        path, file = find(root, layout.file), layout.file
        panel = panels.read(path, layout, self._unfit)
        counts, spacing = panel.counts()
        step = spacing.step
        if self.steps == "rows":
            counts, step = [np.arange(len(own)) for own in counts], 1
        found: Counter[str] = panel.mended
        kept: dict[str, np.ndarray] = {}
        recorded: dict[str, np.ndarray] = {}
        for (name, track), own in zip(panel.tracks.items(), counts, strict=True):
            run, there, cut, carried = panels.longest_run(own, track.values, step, self.carried)
            found["steps cut off at a gap"] += cut
            found["steps carried over a gap"] += carried
            if len(run) < self.min_length:
                found["shorter than min_length"] += 1
                continue
            y = np.log1p(run) if self.transform == "log1p" else run
            if not varies(y).any():
                found["constant"] += 1
            elif (digest := hashlib.sha256(y.astype(storing([y])).tobytes()).digest()) in seen:
                found["duplicate"] += 1
            else:
                seen.add(digest)
                kept[name], recorded[name] = y, there
        removed.update({f"{file}: {what}": count for what, count in found.items() if count})
        if not kept:
            counted = ", ".join(f"{what} {count}" for what, count in found.items() if count)
            raise UserError(
                f"{path.name}: no usable series: none of {len(panel.tracks)} has {self.min_length} even steps "
                f"({spacing.words}) without a gap, varies and is new; {counted or 'there is no row'}"
            )
        return kept, recorded

    def _unfit(self, value: float) -> str | None:
        if self.transform == "log1p" and value <= -1:
            return "has no log1p; set transform to none"
        if self.transform == "none" and abs(value) > LARGEST:
            return f"is beyond {LARGEST:g}; set transform to log1p, or take a greater unit"
        return None


def _stretches(after: int, steps: int, count: int) -> list[tuple[int, int]]:
    """Of so many steps that end `after` steps before a series' end, `count` stretches in order of time: how many steps
    come after each, and of those and its own how many. What does not divide evenly is the first one's."""
    every = steps // count
    ends = [after + every * k for k in range(count - 1, -1, -1)]
    return [(end, after + steps if k == 0 else end + every) for k, end in enumerate(ends)]


def _standardised(
    series: list[np.ndarray], before: np.ndarray, dtype: type[np.float32] | type[np.float64], **optional: np.ndarray
) -> Sequences:
    """Sequences with mean and standard deviation of each series' values before the step `before`."""
    stored = [y.astype(dtype) for y in series]
    past = [y[:end] for y, end in zip(stored, before, strict=True)]
    centre, scale = np.stack([y.mean(0) for y in past]), np.stack([y.std(0) for y in past])
    return Sequences.from_arrays(stored, centre=centre, scale=np.where(scale > 0, scale, 1).astype(dtype), **optional)
