"""What every domain's prepare step leaves: sets of sequences, and what they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from seqlab.artifacts import read_json, read_tensors
from seqlab.data.sequences import Sequences, Space

# The sets of a prepared domain, each with the splits train, valid and test.
SOURCE, TARGET, LABELLED = "source", "target", "labelled"
# Where symbols are characters: these, by symbol. Where labels can be read: the target's test texts as pairs of what is
# labelled and what its labels say.
ALPHABET, TEXTS = "alphabet.txt", "texts.jsonl"


@dataclass(frozen=True)
class Meta:
    """What a prepared domain is."""

    kind: str  # "symbols" | "vectors" | "pairs"
    size: int  # symbols of the alphabet, or channels
    tasks: list[str]
    classes: list[str]  # of sequences (classify), or of positions (label)
    transform: str = "none"  # of the raw values, before standardisation: "log1p", or "log_return" between neighbours
    characters: bool = False  # symbols are UTF-8 bytes: bits are reported per character
    frame: list[int] = field(default_factory=list)  # height and width, where projection.safetensors makes pictures
    removed: dict[str, int] = field(default_factory=dict)  # what cleaning dropped or put right, and how many
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # sequences and steps of each set and split
    sha256: str = ""  # of everything beside this file

    @property
    def space(self) -> Space:
        return Space(self.kind, self.size)

    @property
    def cleaning(self) -> str:
        """What was dropped or put right, in a line: "t.csv: duplicate 2, t.csv: steps cut off at a gap 51"."""
        return ", ".join(f"{what} {count}" for what, count in sorted(self.removed.items()))


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

    def frames(self, values: np.ndarray) -> np.ndarray:
        """(T, H, W): the pictures that the target's vectors (T, C) stand for."""
        projection = read_tensors(self.folder / "projection.safetensors")
        frames = projection["origin"] + values @ projection["axes"]
        return np.asarray(frames.reshape(len(values), *self.meta.frame))
