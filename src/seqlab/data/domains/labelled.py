"""Labelled: sequences of one's own, from a table, `.ts` files, recordings or films, with labels or without."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import write_tensors
from seqlab.data import panels
from seqlab.data.domains.base import (
    Scaler,
    classes_of,
    find,
    labelled_files,
    read_ts,
    split_of,
    stratified,
    windows,
    write_meta,
)
from seqlab.data.domains.speech import lpc_cepstra, read_wav
from seqlab.data.domains.video import principal_components, read_clip
from seqlab.data.prepared import LABELLED, TARGET, Meta
from seqlab.data.readers import Dialect, place, read_table
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.settings import Count, Natural, ProperFraction


@dataclass(frozen=True)
class Example:
    """One sequence as it was read: its name, (T, C) float64 values, its class, and its split where a file says so."""

    name: str
    values: np.ndarray
    label: str | None
    split: str | None = None


class Labelled:
    """Sequences of unequal length. `data` says where they are and how they are read, by its `format`:

    * table: `file` with a row a step, `id` columns that name a sequence, `time` (None: in order of rows), `channels`,
      and `label` (None: there is none), which is one and the same in all rows of a sequence
    * ts: `train` and `test` (None: it is carved out of train), which may be an archive of its own, `test`
    * wav: recordings as LPC cepstra: `rate` in Hz, `frame` and `shift` in samples, `order`, and `labels`
    * video: films as projections of their grey frames on principal axes of training frames: `size`, `components`,
      `labels`

    `labels` of files are "folder" (the name of a file's folder), a table {file, name, label}, or None. There is no
    source. Where no split is published, `test` and then `valid` of each class are held out by the hash of the content.
    A training sequence gives all its windows, a held-out one its middle window alone (`window` None: all are whole).
    Equal contents are taken once. Held-out next steps are scored from `context` on. All is standardised by training
    steps.
    """

    kind = "vectors"
    scored = ("window", "context")

    def __init__(
        self,
        *,
        data: dict[str, Any],
        classes: list[str],
        window: Count | None,
        context: Natural,
        valid: ProperFraction,
        test: ProperFraction,
    ) -> None:
        self.data, self.window, self.context = data, window, context
        self.classes = [unicodedata.normalize("NFC", name) for name in classes]
        self.valid, self.test = valid, test

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write target, and labelled sets where there are labels. Raises UserError naming file and row."""
        removed: Counter[str] = Counter()
        examples = list(self._distinct(read(self.data, raw, removed), removed))
        labelled = [one for one in examples if one.label is not None]
        if labelled and len(labelled) < len(examples):
            removed["sequences without a label"] += len(examples) - len(labelled)
            examples = labelled
        if not examples:
            raise UserError(f"{raw['data'].name}: no sequence is left; removed: {dict(removed) or 'nothing'}")
        splits = self._split(examples)
        cuts = {split: self._cut(found, split, removed) for split, found in splits.items()}
        frames: list[int] = []
        if self.data["format"] == "video":
            frames = [self.data["size"]] * 2
            cuts = _projected(cuts, self.data["components"], out)
        classes = self._write(cuts, out, bool(labelled))
        channels = cuts["train"][0][0].shape[1]
        tasks = ["next_step", "classify"] if labelled else ["next_step"]
        write_meta(out, Meta("vectors", channels, tasks, classes, frame=frames, removed=dict(+removed)))

    def _distinct(self, examples: Iterator[Example], removed: Counter[str]) -> Iterator[Example]:
        """Those whose content is new, each of a known class, of as many channels as the first, and of two steps."""
        seen: set[bytes] = set()
        channels: int | None = None
        for one in examples:
            channels = channels or one.values.shape[1]
            if one.values.shape[1] != channels:
                raise UserError(f"{one.name}: {one.values.shape[1]} channels, the sequences before have {channels}")
            if one.label is not None and unicodedata.normalize("NFC", one.label) not in self.classes:
                raise UserError(f"{one.name}: label {one.label!r}; expected one of {', '.join(self.classes)}")
            if len(one.values) < 2:
                removed["sequences of fewer than 2 steps"] += 1
            elif (digest := hashlib.sha256(np.ascontiguousarray(one.values).data).digest()) in seen:
                removed["duplicate"] += 1
            else:
                seen.add(digest)
                yield one

    def _split(self, examples: list[Example]) -> dict[str, list[Example]]:
        rest = [one for one in examples if one.split != "test"]
        test = [one for one in examples if one.split == "test"]
        if not test:
            rest, test = self._held_out(rest, self.test)
        # The share is of all that was not published as a test.
        train, valid = self._held_out(rest, min(1.0, self.valid * (len(rest) + len(test)) / len(rest)))
        return {"train": train, "valid": valid, "test": test}

    def _held_out(self, examples: list[Example], share: float) -> tuple[list[Example], list[Example]]:
        """What stays, and about `share` of each class, by the hash of the contents."""
        contents = [one.values for one in examples]
        if examples and examples[0].label is not None:
            taken = stratified(contents, [str(one.label) for one in examples], share)
        else:
            taken = np.array([split_of(values.tobytes(), 0, share) == "test" for values in contents])
        return (
            [one for one, held in zip(examples, taken, strict=True) if not held],
            [one for one, held in zip(examples, taken, strict=True) if held],
        )

    def _cut(self, examples: list[Example], split: str, removed: Counter[str]) -> list[tuple[np.ndarray, str | None]]:
        cuts = []
        for one in examples:
            if self.window is None or len(one.values) <= self.window:
                cuts.append((one.values, one.label))
                continue
            start = (len(one.values) - self.window) // 2
            middle = [one.values[start : start + self.window]]
            found = windows(one.values, self.window, self.window) if split == "train" else middle
            removed[f"{split}: steps outside the windows"] += len(one.values) - len(found) * self.window
            cuts += [(values, one.label) for values in found]
        return cuts

    def _write(self, cuts: dict[str, list[tuple[np.ndarray, str | None]]], out: Path, labelled: bool) -> list[str]:
        """The sets, and the scaler. Returns the classes."""
        if empty := [split for split, found in cuts.items() if not found]:
            raise UserError(f"{out.name}: no sequence is left for {empty[0]}; give more, or a larger share")
        scaler = Scaler.fit(values for values, _ in cuts["train"])
        labels = {split: [str(label) for _, label in found] for split, found in cuts.items()}
        classes = classes_of(self.classes, labels) if labelled else []
        for split, found in cuts.items():
            if split != "train" and (shortest := min(len(values) for values, _ in found)) <= self.context:
                raise UserError(
                    f"{split}: a sequence of {shortest} steps leaves nothing to score after {self.context} of context"
                )
            scaled = Sequences.from_arrays([scaler(values) for values, _ in found])
            first = np.full(len(found), self.context) if self.context and split != "train" else None
            Sequences(scaled.values, scaled.offsets, first=first).save(out / TARGET / split)
            if labelled:
                places = np.array([classes.index(unicodedata.normalize("NFC", name)) for name in labels[split]])
                Sequences(scaled.values, scaled.offsets, labels=places).save(out / LABELLED / split)
        write_tensors(out / "scaler.safetensors", scaler.tensors)
        return classes


def _projected(
    cuts: dict[str, list[tuple[np.ndarray, str | None]]], count: int, out: Path
) -> dict[str, list[tuple[np.ndarray, str | None]]]:
    """Frames as their projections; projection.safetensors, of standardised ones, makes frames of them again."""
    mean, axes = principal_components([[values for values, _ in cuts["train"]]], count)
    projected = {split: [((values - mean) @ axes.T, label) for values, label in found] for split, found in cuts.items()}
    scaler = Scaler.fit(values for values, _ in projected["train"])
    tensors = {"origin": mean + scaler.mean @ axes, "axes": scaler.deviation[:, None] * axes}
    write_tensors(out / "projection.safetensors", tensors)
    return projected


# Reading


def read(data: dict[str, Any], raw: dict[str, Path], removed: Counter[str]) -> Iterator[Example]:
    """Every sequence that a section `data` describes. raw: folders or files of archives, of which `data` is one."""
    form = data.get("format")
    if form not in READERS:
        raise UserError(f"data.format: found {form!r}, expected one of {', '.join(sorted(READERS))}")
    reader, required, optional = READERS[form]
    if wrong := {*required} - {*data} | {*data} - {"format", *required, *optional}:
        keys = ", ".join(["format", *required])
        raise UserError(f"data.{min(wrong)}: expected of the format {form} the keys {keys}, found {', '.join(data)}")
    for key in ("rate", "frame", "shift", "order", "size", "components"):
        if key in data and not (isinstance(data[key], int) and data[key] >= 1):
            raise UserError(f"data.{key}: found {data[key]!r}, expected a whole number of at least 1")
    return reader(data, raw, removed)


def _from_table(data: dict[str, Any], raw: dict[str, Path], removed: Counter[str]) -> Iterator[Example]:
    path, label = find(raw["data"], data["file"]), data["label"]
    layout = panels.Layout(
        file=data["file"],
        time=data["time"],
        key=data["id"],
        columns=data["channels"],
        together=True,
        form=data.get("time_format"),
        dialect=data.get("dialect"),
    )
    panel = panels.read(path, layout, lambda value: None)
    removed.update(panel.mended)
    labels = {} if label is None else _labels_of_rows(path, data["id"], label, layout.dialect)
    for name, track in panel.tracks.items():
        known = ~np.isnan(track.values).any(1)
        removed["steps without a value"] += int((~known).sum())
        yield Example(f"{path.name}, sequence {name}", track.values[known], labels.get(name))


def _labels_of_rows(path: Path, key: list[str], label: str, dialect: dict[str, Any] | None) -> dict[str, str]:
    """The class of each sequence. Raises UserError naming a row whose label is another one's."""
    found: dict[str, str] = {}
    for row, (*cells, text) in read_table(path, [*key, label], (), Dialect.of(path, dialect)):
        name, own = "/".join(cells), text.strip()
        if own and found.setdefault(name, own) != own:
            raise UserError(
                f"{place(path, row, label)}: {own!r}, and {found[name]!r} before in the sequence {name!r}; "
                "expected one label a sequence"
            )
    return found


def _from_ts(data: dict[str, Any], raw: dict[str, Path], removed: Counter[str]) -> Iterator[Example]:
    for split in ("train", "test"):
        if data[split] is None:
            continue
        found = read_ts(find(raw.get(split, raw["data"]), data[split]))
        for number, (values, label) in enumerate(zip(found.sequences, found.labels, strict=True), 1):
            yield Example(f"{found.file}, sequence {number}", values, label, split if split == "test" else None)


def _from_wav(data: dict[str, Any], raw: dict[str, Path], removed: Counter[str]) -> Iterator[Example]:
    frame, shift = data["frame"], data["shift"]
    for path, label in _files(raw["data"], (".wav",), data["labels"], removed):
        signal = read_wav(path, data["rate"])
        if len(signal) < frame + shift:
            removed["recordings shorter than two frames"] += 1
            continue
        yield Example(path.name, lpc_cepstra(signal, frame=frame, shift=shift, order=data["order"]), label)


def _from_video(data: dict[str, Any], raw: dict[str, Path], removed: Counter[str]) -> Iterator[Example]:
    for path, label in _files(raw["data"], FILMS, data["labels"], removed):
        yield Example(path.name, read_clip(path, data["size"]).astype(np.float64), label)


FILMS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".mpg", ".mpeg", ".m4v")
READERS = {
    "table": (_from_table, ("file", "id", "time", "channels", "label"), ("dialect", "time_format")),
    "ts": (_from_ts, ("train", "test"), ()),
    "wav": (_from_wav, ("labels", "rate", "frame", "shift", "order"), ()),
    "video": (_from_video, ("labels", "size", "components"), ()),
}


def _files(
    root: Path, suffixes: tuple[str, ...], labels: str | dict[str, Any] | None, removed: Counter[str]
) -> Iterator[tuple[Path, str | None]]:
    """Files below `root` in order of their names, and the class of each."""
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    if not files:
        raise UserError(f"{root.name}: no file that ends in {' or '.join(suffixes)}")
    yield from labelled_files(files, root, labels, removed)
