"""From the data's own units to the numbers that a model sees, and back: what prepare did, kept beside the model.

Four ways, by what the prepared domain holds:

* a sequence is standardised by its own past (`centre` and `scale` beside the sequences): series, stocks
* all sequences are standardised by one training split (scaler.safetensors): motion, speech
* frames are projected and whitened (projection.safetensors): video
* symbols stay as they are; texts are UTF-8 bytes or, where there is an alphabet, its characters without spaces

Before that, values may have been transformed: log(1 + y), or the log return between neighbours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import read_json, read_tensors, write_json, write_tensors
from seqlab.data.prepared import ALPHABET, LABELLED, TARGET, Prepared
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError

FILE, TENSORS = "units.json", "units.safetensors"
SCALER, PROJECTION = "scaler.safetensors", "projection.safetensors"
CONSTANT = 1e-6  # of the largest value: a smaller deviation is rounding, and such a sequence keeps its unit
OWN, SET, FRAMES, NONE = "own past", "training set", "frames", "none"


@dataclass(frozen=True)
class Standardised:
    """A sequence as a model sees it. x: (T, C) float64; centre, scale: (C,) of its own past, or 0 and 1; last: (C,) the
    value before the first change of which x is made, where x are changes.
    """

    x: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    last: np.ndarray


@dataclass(frozen=True)
class Units:
    """kind, size, classes, transform, characters, frame: as in the prepared domain's Meta.

    by: what sequences are standardised by. context: the last steps that a model gets to see of a past, where it never
    saw more before what it had to predict; None: all. longest: of a training sequence, in positions. tensors: of the
    scaler, (C,) mean and deviation, or of the projection, (P,) origin and (C, P) axes. alphabet: the characters that
    symbols stand for, the first of them for all others; empty where symbols are bytes or no text.
    """

    kind: str
    size: int
    classes: list[str]
    transform: str
    characters: bool
    frame: list[int]
    by: str
    context: int | None
    longest: int
    tensors: dict[str, np.ndarray]
    alphabet: str = ""

    @classmethod
    def of(cls, prepared: Prepared) -> Units:
        """Those of a prepared domain."""
        meta, folder = prepared.meta, prepared.folder
        by, tensors, context, longest = NONE, {}, None, 0
        if meta.kind != "pairs":
            train = prepared.split(TARGET, "train")
            longest = int(train.lengths.max(initial=0))
            context = _context(train, prepared.split(TARGET, "test"))
            if (folder / LABELLED).exists() and meta.kind == "symbols":
                longest = max(longest, int(prepared.split(LABELLED, "train").lengths.max(initial=0)))
            if train.centre is not None:
                by = OWN
        for way, name in ((FRAMES, PROJECTION), (SET, SCALER)):
            if (folder / name).exists():
                by, tensors = way, read_tensors(folder / name)
        alphabet = (folder / ALPHABET).read_text(encoding="utf-8") if (folder / ALPHABET).exists() else ""
        own = {name: getattr(meta, name) for name in ("kind", "size", "classes", "transform", "characters", "frame")}
        return cls(**own, by=by, context=context, longest=longest, tensors=tensors, alphabet=alphabet)

    def save(self, folder: Path) -> None:
        """Write both files."""
        values = asdict(self)
        write_tensors(folder / TENSORS, values.pop("tensors"))
        write_json(folder / FILE, values)

    @classmethod
    def load(cls, folder: Path) -> Units:
        """Raises UserError when a file is missing, or is of another layout."""
        values: dict[str, Any] = read_json(folder / FILE)
        try:
            return cls(**values, tensors=read_tensors(folder / TENSORS))
        except TypeError:
            names = ", ".join(name for name in cls.__dataclass_fields__ if name != "tensors")
            raise UserError(f"{folder / FILE}: expected the keys {names}") from None

    @property
    def channels(self) -> int:
        """Numbers at each step of the data's own values."""
        return int(np.prod(self.frame)) if self.by == FRAMES else self.size

    def standardise(self, values: np.ndarray, name: str) -> Standardised:
        """(T, channels) in the data's units -> x (T or, of returns, T - 1, C).

        Raises UserError naming the sequence, and the row, when a value has no transform.
        """
        y = np.asarray(values, np.float64)
        last = y[-1] if len(y) else np.zeros(y.shape[1])
        if self.transform == "log1p":
            _refuse(y <= -1, y, name, "has no log(1 + y)")
            y = np.log1p(y)
        elif self.transform == "log_return":
            _refuse(y <= 0, y, name, "has no logarithm, so no return")
            y = np.diff(np.log(y), axis=0)
        if self.by == FRAMES:
            axes = self.tensors["axes"]
            return _as_is((y - self.tensors["origin"]) @ axes.T / (axes**2).sum(1), last)
        if self.by == SET:
            return _as_is((y - self.tensors["mean"]) / self.tensors["deviation"], last)
        if self.by == OWN:
            if not len(y):
                needed = 2 if self.transform == "log_return" else 1
                raise UserError(f"{name}: {len(values)} steps; expected {needed} or more")
            centre, spread = y.mean(0), y.std(0)
            scale = np.where(spread > CONSTANT * np.abs(y).max(0), spread, 1.0)
            return Standardised((y - centre) / scale, centre, scale, last)
        return _as_is(y, last)

    def restore(self, paths: np.ndarray, past: Standardised) -> np.ndarray:
        """Sample paths that follow `past`, (..., steps, C), in the data's units: (..., steps, channels) float64."""
        y = np.asarray(paths, np.float64) * past.scale + past.centre
        if self.by == FRAMES:
            y = self.tensors["origin"] + y @ self.tensors["axes"]
        elif self.by == SET:
            y = y * self.tensors["deviation"] + self.tensors["mean"]
        if self.transform == "log1p":
            return np.asarray(np.expm1(y))
        return np.asarray(past.last * np.exp(y.cumsum(-2)) if self.transform == "log_return" else y)

    def log_density(self, values: np.ndarray, log_prob: np.ndarray, seen: Standardised) -> np.ndarray:
        """(T,) log-densities of x in nats -> those of the data's values, by the change of variables.

        Of frames it stays the density of the projection, which has fewer numbers than a frame.
        """
        y = np.asarray(values, np.float64)
        found = log_prob - np.log(seen.scale).sum()
        if self.by == SET:
            found = found - np.log(self.tensors["deviation"]).sum()
        if self.transform == "log1p":
            return np.asarray(found - np.log1p(y).sum(1))
        return np.asarray(found - np.log(y[1:]).sum(1) if self.transform == "log_return" else found)


def _context(train: Sequences, test: Sequences) -> int | None:
    """Where all test sequences are scored from one place on that lies within every training sequence."""
    if test.first is None or not len(test) or train.symbols:
        return None
    first = np.unique(test.first).tolist()
    return int(first[0]) if len(first) == 1 and first[0] < train.lengths.min() else None


def _as_is(x: np.ndarray, last: np.ndarray) -> Standardised:
    return Standardised(x, np.zeros(x.shape[1]), np.ones(x.shape[1]), last)


def _refuse(bad: np.ndarray, y: np.ndarray, name: str, why: str) -> None:
    if bad.any():
        row, channel = np.argwhere(bad)[0]
        raise UserError(f"{name}, row {row + 1}: {y[row, channel]:g} {why}")
