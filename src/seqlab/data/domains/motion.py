"""Motion: accelerometer and gyroscope of a wrist. Source and target by subject; which exercise is done."""

from __future__ import annotations

import hashlib
import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge
from numpy.lib import format as npy

from seqlab.artifacts import write_tensors
from seqlab.data.domains.base import Scaler, classes_of, find, read_ts, stratified, windows, write_meta
from seqlab.data.prepared import LABELLED, SOURCE, TARGET, Meta
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.errors import UserError
from seqlab.settings import Count, Natural, ProperFraction

FILE = "watch_dataset.npy"
FIELDS = {"X": "the recordings", "y": "their exercises", "y_labels": "names", "subject": "who moves"}


class Motion:
    """Exercises recorded by a watch, by subject: `source` (train, valid) and `target` (train, valid, test) say how many
    subjects a split has; which ones follows from their names alone (`deal`), and no subject is in two.

    A training recording gives all its windows, one after another; a held-out one gives its middle window alone, because
    windows of one recording are no independent examples. Each set is standardised by its own training windows; the
    target's scaler is kept in scaler.safetensors. Held-out next steps are scored from `context` on.
    """

    kind = "vectors"
    scored = ("window", "context")

    def __init__(
        self, *, source: dict[str, Count], target: dict[str, Count], window: Annotated[int, Ge(2)], context: Natural
    ) -> None:
        self.source, self.target, self.window, self.context = source, target, window, context

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source, target and labelled sets. Raises UserError naming the recording or the subject."""
        recordings = read_watch(find(raw["watch"], FILE))
        dealt = deal({"source": self.source, "target": self.target}, recordings.subjects)
        removed: Counter[str] = Counter()
        write_source(recordings, dealt["source"], self.window, out, removed)
        cuts: dict[str, list[np.ndarray]] = {}
        labels: dict[str, list[str]] = {}
        for split, subjects in dealt["target"].items():
            cuts[split], labels[split] = cut(recordings, subjects, self.window, split != "train", removed)
        classes = classes_of(recordings.names, labels)
        write_target(cuts, labels, classes, self.context, out)
        write_meta(out, meta(recordings.channels, classes, removed))


class SmallMotion:
    """The same source, all of it, averaged over `averaged` samples to the target's rate; the target is a small data set
    in `.ts` files with its published train and test split, validation carved out of train, `valid` of each class.
    """

    kind = "vectors"

    def __init__(
        self,
        *,
        source: dict[str, Count],
        averaged: Count,
        train: str,
        test: str,
        valid: ProperFraction,
        window: Annotated[int, Ge(2)],
        context: Natural,
    ) -> None:
        self.source, self.averaged, self.train, self.test = source, averaged, train, test
        self.valid, self.window, self.context = valid, window, context

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source, target and labelled sets. Raises UserError naming file and line, recording or subject."""
        train, test = (read_ts(find(raw["small"], name)) for name in (self.train, self.test))
        recordings = read_watch(find(raw["watch"], FILE)).averaged(self.averaged)
        for file, channels in ((test.file, test.channels), (FILE, recordings.channels)):
            if channels != train.channels:
                raise UserError(f"{file}: {channels} channels, {train.file} has {train.channels}")
        dealt = deal({"source": self.source}, recordings.subjects)
        removed: Counter[str] = Counter()
        write_source(recordings, dealt["source"], self.window, out, removed)
        held = stratified(train.sequences, train.labels, self.valid)
        rows = {"train": np.flatnonzero(~held), "valid": np.flatnonzero(held)}
        cuts = {split: [train.sequences[i] for i in at] for split, at in rows.items()} | {"test": test.sequences}
        labels = {split: [train.labels[i] for i in at] for split, at in rows.items()} | {"test": test.labels}
        classes = classes_of(train.classes, labels)
        write_target(cuts, labels, classes, self.context, out)
        write_meta(out, meta(train.channels, classes, removed))


@dataclass(frozen=True)
class Recordings:
    """values: (T, C) float64 of each recording; exercise and subject of each; all exercises' names."""

    values: list[np.ndarray]
    exercises: list[str]
    subjects: list[int]
    names: list[str]

    @property
    def channels(self) -> int:
        return int(self.values[0].shape[1])

    def averaged(self, steps: int) -> Recordings:
        """Every `steps` samples become their mean; a shorter rest is dropped."""
        means = [v[: len(v) // steps * steps].reshape(-1, steps, v.shape[1]).mean(1) for v in self.values]
        return Recordings(means, self.exercises, self.subjects, self.names)


def meta(channels: int, classes: list[str], removed: Counter[str]) -> Meta:
    return Meta(kind="vectors", size=channels, tasks=["next_step", "classify"], classes=classes, removed=dict(removed))


def deal(counts: dict[str, dict[str, int]], subjects: list[int]) -> dict[str, dict[str, list[int]]]:
    """The subjects of each split of each set: all of them, in the order of the SHA-256 of their names, dealt to the
    splits in the order of `counts`. So no score and no look at the data can have moved a subject.

    Raises UserError when a split is missing, or when the counts do not add up to all subjects.
    """
    expected = {"source": SPLITS[:2], "target": SPLITS}
    names = sorted(set(subjects), key=lambda name: hashlib.sha256(str(name).encode()).digest())
    dealt: dict[str, dict[str, list[int]]] = {}
    used = 0
    for part, splits in counts.items():
        if set(splits) != set(expected[part]):
            raise UserError(f"{part}: found the splits {', '.join(splits)}, expected {', '.join(expected[part])}")
        for split in expected[part]:
            dealt.setdefault(part, {})[split] = names[used : used + splits[split]]
            used += splits[split]
    if used != len(names):
        raise UserError(f"{' and '.join(counts)}: the splits add up to {used} subjects; there are {len(names)}")
    return dealt


def cut(
    recordings: Recordings, subjects: list[int], window: int, middle: bool, removed: Counter[str]
) -> tuple[list[np.ndarray], list[str]]:
    """Windows of the subjects' recordings and their exercises; `middle`: one window a recording."""
    cuts, exercises = [], []
    for values, exercise, subject in zip(recordings.values, recordings.exercises, recordings.subjects, strict=True):
        if subject not in subjects:
            continue
        start = (len(values) - window) // 2
        if start < 0:
            removed["recording shorter than a window"] += 1
            continue
        found = [values[start : start + window]] if middle else windows(values, window, window)
        cuts += found
        exercises += [exercise] * len(found)
    if not cuts:
        longest = max(map(len, recordings.values))
        raise UserError(f"subjects {subjects}: no recording has {window} steps; the longest of all has {longest}")
    return cuts, exercises


def write_source(
    recordings: Recordings, splits: dict[str, list[int]], window: int, out: Path, removed: Counter[str]
) -> None:
    """Train and valid windows of the source's subjects."""
    cuts = {split: cut(recordings, subjects, window, False, removed)[0] for split, subjects in splits.items()}
    scaler = Scaler.fit(cuts["train"])
    for split, found in cuts.items():
        Sequences.from_arrays([scaler(one) for one in found]).save(out / SOURCE / split)


def write_target(
    cuts: dict[str, list[np.ndarray]], labels: dict[str, list[str]], classes: list[str], context: int, out: Path
) -> None:
    """The same sequences twice: for the next step (held-out ones scored from `context` on) and with labels."""
    scaler = Scaler.fit(cuts["train"])
    for split, found in cuts.items():
        if (shortest := min(map(len, found))) <= context:
            raise UserError(
                f"{split}: a sequence of {shortest} steps leaves nothing to score after {context} of context"
            )
        scaled = Sequences.from_arrays([scaler(one) for one in found])
        first = None if split == "train" else np.full(len(found), context)
        Sequences(scaled.values, scaled.offsets, first=first).save(out / TARGET / split)
        classes_at = np.array([classes.index(name) for name in labels[split]])
        Sequences(scaled.values, scaled.offsets, labels=classes_at).save(out / LABELLED / split)
    write_tensors(out / "scaler.safetensors", scaler.tensors)


def read_watch(file: Path) -> Recordings:
    """The recordings of seglearn's `.npy` file. Raises UserError naming the file, and the recording at fault."""
    fields = read_pickled(file)
    if not isinstance(fields, dict) or not set(FIELDS) <= set(fields):
        missing = [name for name in FIELDS if not isinstance(fields, dict) or name not in fields]
        raise UserError(f"{file.name}: no field {missing[0]!r} ({FIELDS[missing[0]]})")
    values, names = fields["X"], [str(name) for name in fields["y_labels"]]
    exercises, subjects = np.asarray(fields["y"]), np.asarray(fields["subject"])
    if not len(values) == len(exercises) == len(subjects):
        raise UserError(
            f"{file.name}: {len(values)} recordings, {len(exercises)} exercises, {len(subjects)} subjects; "
            "expected as many of each"
        )
    if not len(values):
        raise UserError(f"{file.name}: no recordings")
    for number, one in enumerate(values):
        where = f"{file.name}, recording {number}"
        if not isinstance(one, np.ndarray) or one.ndim != 2:
            raise UserError(f"{where}: expected an array of steps and channels, found {np.shape(one)}")
        if one.shape[1] != values[0].shape[1]:
            raise UserError(f"{where}: {one.shape[1]} channels, the recordings before have {values[0].shape[1]}")
        if len(one) < 2:
            raise UserError(f"{where}: {len(one)} steps; expected at least 2")
        if not np.isfinite(one).all():
            raise UserError(f"{where}, step {int(np.flatnonzero(~np.isfinite(one).all(1))[0])}: a value is not finite")
        if not 0 <= exercises[number] < len(names):
            raise UserError(f"{where}: exercise {exercises[number]}; there are names for 0 to {len(names) - 1}")
    return Recordings(
        [one.astype(np.float64) for one in values], [names[k] for k in exercises], subjects.tolist(), names
    )


def read_pickled(file: Path) -> Any:
    """The object in an `.npy` file of dtype object, shape (), rebuilt without running anything the file names.

    Such a file is a pickle, which could call any function. This one may name four things alone: the two that NumPy
    writes for an array, which are answered by `_blank` and by the class itself as a mere argument; np.dtype; and
    `_codecs.encode`, which Python 2's protocol uses for bytes, answered by `_bytes`. Raises UserError on any other.
    """
    with open(file, "rb") as opened:
        try:
            version = npy.read_magic(opened)
            shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(opened)
        except ValueError as error:
            raise UserError(f"{file.name}: not an .npy file: {error}") from None
        if shape != () or dtype != np.dtype(object):
            raise UserError(f"{file.name}: an array {shape} of {dtype}; expected one object")
        try:
            array = _ArraysOnly(opened).load()
        except pickle.UnpicklingError as error:
            raise UserError(f"{file.name}: refused: {error}") from None
        except (EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{file.name}: damaged: {error}") from None
    return array.item() if isinstance(array, np.ndarray) and array.shape == () else None


def _blank(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray:
    """What `numpy.core.multiarray._reconstruct` makes: an empty array, whose state the pickle then sets."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"an array of type {kind!r} and shape {shape}")
    return np.empty(0, np.int8)


def _bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode("latin1")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler of arrays of numbers, and of lists and dictionaries of them."""

    KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _blank,
        ("numpy._core.multiarray", "_reconstruct"): _blank,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return self.KNOWN[module, name]
