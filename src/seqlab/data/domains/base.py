"""What every domain's prepare step writes, and the rules that keep its splits apart."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seqlab.artifacts import write_json
from seqlab.data.prepared import LABELLED, SOURCE, TARGET, Meta
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.errors import UserError


class DomainRecipe(Protocol):
    """How raw files become arrays. Its constructor takes keyword-only parameters, whose values live in conf/domain.

    Its class states what it makes, as literals that seqlab.config reads from the source.
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
    """Mean and standard deviation (C,) of the steps of one training split; a constant channel keeps its unit."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, train: Iterable[np.ndarray]) -> Scaler:
        values = np.concatenate(list(train)).astype(np.float64)
        deviation = values.std(0)
        return cls(values.mean(0), np.where(deviation > 0, deviation, 1))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.mean) / self.deviation).astype(np.float32)

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "deviation": self.deviation}


def classes_of(classes: list[str], labels: dict[str, list[str]]) -> list[str]:
    """The classes that occur in train, in the order of `classes`. Raises UserError when another split has more."""
    known = set(labels["train"])
    for split, found in labels.items():
        if only := sorted(set(found) - known):
            raise UserError(f"label {only[0]!r} occurs in {split} only; every class needs an example in train")
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
        return self.sequences[0].shape[1]


def read_ts(path: Path) -> LabelledSeries:
    """Read a `.ts` file: channels part by colons, steps by commas, the label comes last.

    Raises UserError naming file and line: channels of unequal length or another number of them than before, a sequence
    of fewer than 2 steps, a value that is missing or no finite number, a class that the header does not declare.
    """
    classes: list[str] = []
    sequences: list[np.ndarray] = []
    labels: list[str] = []
    reading = False
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}, byte {error.start + 1}: not UTF-8") from None
    for number, line in enumerate(lines, 1):
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
