"""What every domain's prepare step writes, and the rules that keep its splits apart."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from seqlab.artifacts import read_json, write_json
from seqlab.data.sequences import SPLITS, Sequences, Space
from seqlab.errors import UserError

# The sets of a prepared domain, each with the splits train, valid and test.
SOURCE, TARGET, LABELLED = "source", "target", "labelled"


class DomainRecipe(Protocol):
    """How raw files become arrays. Its constructor takes keyword-only parameters, whose values live in conf/domain."""

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Read the unpacked archives (`raw`, a folder by archive name) and write sets and meta.json to `out`."""


@dataclass(frozen=True)
class Meta:
    """What a prepared domain is."""

    kind: str  # "symbols" | "vectors"
    size: int  # symbols of the alphabet, or channels
    tasks: list[str]
    classes: list[str]  # of the classify task
    transform: str = "none"  # of the raw values, before standardisation
    characters: bool = False  # symbols are UTF-8 bytes: bits are reported per character
    removed: dict[str, int] = field(default_factory=dict)  # what cleaning dropped, and how many
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # sequences and steps of each set and split
    sha256: str = ""  # of everything beside this file

    @property
    def space(self) -> Space:
        return Space(self.kind, self.size)


@dataclass(frozen=True)
class Prepared:
    """A prepared domain on disk; sets are memory-mapped when asked for."""

    folder: Path
    meta: Meta

    @classmethod
    def open(cls, folder: Path) -> Prepared:
        """Raises UserError when the domain was not prepared."""
        return cls(folder, Meta(**read_json(folder / "meta.json")))

    def split(self, name: str, split: str) -> Sequences:
        """One split of the set `name` (source, target or labelled)."""
        return Sequences.load(self.folder / name / split)


def task_set(task: str) -> str:
    """The set that a task on the target reads."""
    return LABELLED if task == "classify" else TARGET


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
