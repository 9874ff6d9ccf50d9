"""What every domain's prepare step writes, and the rules that keep its splits apart."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seqlab.artifacts import write_json
from seqlab.data.prepared import LABELLED, SOURCE, TARGET, Meta
from seqlab.data.readers import Dialect, place, read_lines, read_table
from seqlab.data.scale import standardisation
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.errors import UserError


class DomainRecipe(Protocol):
    """How raw files become arrays. Its constructor takes keyword-only parameters, whose values live in conf/domain.

    Its class states what it makes, as literals that seqlab.config reads from the source: its `kind` and, where that
    bounds how far ahead can be forecast, `scored`, the names of the parameters that say how many steps of a held-out
    sequence are scored, the first less the others.
    """

    kind: str  # of its sequences: "symbols" | "vectors" | "pairs"

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Read the unpacked archives (`raw`, a folder by archive name) and write sets and meta.json to `out`."""


def write_meta(out: Path, meta: Meta) -> None:
    """meta.json, with the sizes of the sets that were written under `out`. Raises UserError when a split is empty."""
    counts: dict[str, dict[str, int]] = {}
    for name in (SOURCE, TARGET, LABELLED):
        for split in SPLITS:
            if not (out / name / split / "offsets.npy").exists():
                continue
            found = Sequences.load(out / name / split)
            if not len(found):
                raise UserError(
                    f"{out.name}: no sequence is left for {name}/{split}; removed: {meta.removed or 'nothing'}"
                )
            counts.setdefault(name, {})[split] = len(found)
            counts[name][f"{split}_steps"] = len(found.values)
    values: dict[str, Any] = asdict(meta) | {"counts": counts}
    write_json(out / "meta.json", values)


def split_of(content: str | bytes, valid: float, test: float) -> str:
    """The split of a content by its hash: equal contents never part, whatever the order or the rest of the data."""
    data = content.encode() if isinstance(content, str) else content
    share = int.from_bytes(hashlib.sha256(data).digest()[:8], "big") / 2**64
    return "test" if share < test else "valid" if share < test + valid else "train"


def stratified(contents: list[np.ndarray], labels: list[str], share: float) -> np.ndarray:
    """(S,) bool: about `share` of each class, at least one and never all of it, by the hash of the contents."""
    order = [hashlib.sha256(np.ascontiguousarray(values).data).digest() for values in contents]
    taken = np.zeros(len(contents), bool)
    for label in sorted(set(labels)):
        members = sorted((i for i, own in enumerate(labels) if own == label), key=order.__getitem__)
        taken[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    return taken


def windows(values: np.ndarray, size: int, stride: int) -> list[np.ndarray]:
    """Every stretch of `size` steps that ends a multiple of `stride` before the last step, in order of time."""
    return [values[end - size : end] for end in range(len(values), size - 1, -stride)][::-1]


def split_in_time(
    values: np.ndarray, *, context: int, window: int, stride: int, valid: int, test: int
) -> dict[str, list[np.ndarray]] | None:
    """Windows of context + window steps: train, every `stride`; then `valid`, then `test` windows, each to be scored on
    its last `window` steps, which no other window shares. A held-out window's context may reach into the split before.

    None when the values do not suffice for one training window.
    """
    size, ends = context + window, len(values) - test * window
    train = windows(values[: max(0, ends - valid * window)], size, stride)
    if not train:
        return None
    held = {"valid": windows(values[:ends], size, window)[-valid:]} if valid else {}
    return {"train": train} | held | ({"test": windows(values, size, window)[-test:]} if test else {})


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation (C,) of the steps of one training split; what does not vary keeps its unit."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, train: Iterable[np.ndarray], level: float | None = None) -> Scaler:
        """level: of the values' size, where they have a unit in common; None: each channel's own."""
        return cls(*standardisation(np.concatenate(list(train)).astype(np.float64), level))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.asarray((values - self.mean) / self.deviation, np.float32)

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "deviation": self.deviation}


def classes_of(classes: list[str], labels: dict[str, list[str]]) -> list[str]:
    """The classes that occur in train, in the order of `classes`.

    Raises UserError when another split has more, or when there is one class: every answer would be right.
    """
    known = set(labels["train"])
    for split, found in labels.items():
        if only := sorted(set(found) - known):
            raise UserError(f"label {only[0]!r} occurs in {split} only; every class needs an example in train")
    if len(known) == 1:
        raise UserError(f"labels: every example is {min(known)!r}; expected at least two classes, or no labels")
    return [name for name in classes if name in known]


@dataclass(frozen=True)
class LabelledSeries:
    """A `.ts` file of the UEA and UCR archive: sequences (T, C) float64, their labels, and all classes declared."""

    file: str
    sequences: list[np.ndarray]
    labels: list[str]
    classes: list[str]

    @property
    def channels(self) -> int:
        return int(self.sequences[0].shape[1])


# aeon, the library of the format, asks for numba before 0.64, and does not install beside ours.
def read_ts(path: Path) -> LabelledSeries:
    """Read a `.ts` file: channels part by colons, steps by commas, the label comes last.

    Raises UserError naming file and line: channels of unequal length or another number of them than before, a sequence
    of fewer than 2 steps, a value that is missing or no finite number, a class that the header does not declare.
    """
    classes: list[str] = []
    sequences: list[np.ndarray] = []
    labels: list[str] = []
    reading = False
    for number, line in read_lines(path):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("@"):
            word, *rest = text.split()
            reading = reading or word.lower() == "@data"
            if word.lower() == "@classlabel":
                classes = rest[1:]
            continue
        where = f"{path.name}, line {number}"
        if not reading:
            raise UserError(f"{where}: {text[:20]!r} stands before @data; expected a line that begins with # or @")
        *channels, label = text.split(":")
        if label not in classes:
            raise UserError(f"{where}: label {label!r}; @classLabel declares {', '.join(classes) or 'none'}")
        values = [_numbers(cells, f"{where}, channel {i}") for i, cells in enumerate(channels, 1)]
        if len({len(channel) for channel in values}) > 1:
            raise UserError(f"{where}: channels of unequal length: {', '.join(str(len(one)) for one in values)} steps")
        if sequences and len(values) != sequences[0].shape[1]:
            raise UserError(f"{where}: {len(values)} channels, the sequences before have {sequences[0].shape[1]}")
        steps = len(values[0]) if values else 0
        if steps < 2:
            raise UserError(f"{where}: a sequence of {steps} steps; expected at least 2")
        sequences.append(np.array(values).T)
        labels.append(label)
    if not sequences:
        raise UserError(f"{path.name}: no sequence after @data")
    return LabelledSeries(path.name, sequences, labels, classes)


def _numbers(cells: str, where: str) -> list[float]:
    values = []
    for cell in cells.split(",") if cells.strip() else []:
        try:
            values.append(float(cell))
        except ValueError:
            raise UserError(f"{where}: {cell!r} is not a number") from None
        if not math.isfinite(values[-1]):
            raise UserError(f"{where}: {cell!r} is not finite")
    return values


def find(root: Path, name: str) -> Path:
    """The file called `name` under a raw folder, or the raw file itself. Raises UserError when it is not there."""
    found = [root] if root.is_file() and root.name == name else sorted(root.rglob(name))
    if not found:
        raise UserError(f"{name}: not among the files of the archive ({root})")
    return found[0]


def labelled_files(
    files: list[Path], root: Path, labels: str | dict[str, Any] | None, removed: Counter[str]
) -> Iterator[tuple[Path, str | None]]:
    """Files with their classes: by "folder", by a table {file, name, label}, or None.

    Raises UserError when a file lies in no folder of its own, or when a table names none of the files.
    """
    if labels is None or labels == "folder":
        for path in files:
            if labels and path.parent == root:
                raise UserError(f"{path.name}: in no folder that could name its class; expected CLASS/{path.name}")
            yield path, path.relative_to(root).parts[0] if labels else None
        return
    if not isinstance(labels, dict) or {*labels} - {"dialect"} != {"file", "name", "label"}:
        raise UserError(f"labels: found {labels!r}, expected folder, null, or the keys file, name and label")
    table = find(root, labels["file"])
    named: dict[str, str] = {}
    for row, (name, own) in read_table(
        table, [labels["name"], labels["label"]], (), Dialect.of(table, labels.get("dialect"))
    ):
        if named.setdefault(name, own.strip()) != own.strip():
            raise UserError(f"{place(table, row, labels['label'])}: {own!r}, and {named[name]!r} before of {name!r}")
    called = {path: (path.relative_to(root).as_posix(), path.name, path.stem) for path in files}
    found = {path: next((named[name] for name in names if named.get(name)), None) for path, names in called.items()}
    if not any(found.values()):
        raise UserError(
            f"{table.name}, column {labels['name']}: names none of {len(files)} files; expected such as {files[0].name}"
        )
    for path, label in found.items():
        if label is None:
            removed["files without a label"] += 1
        else:
            yield path, label
