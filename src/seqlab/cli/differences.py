"""The first thing in which two results differ: a file, and in it a step, a tensor or a row."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import read_array, read_json, read_tensors
from seqlab.cli.trees import ABSENT


def first_difference(recorded: Mapping[str, Path], here: Mapping[str, Path]) -> str | None:
    """Where two sets of files, by relative name, first differ in words; None: they are the same to the bit.

    Reports come first, since they hold the curves: the first step at which a training went another way says more than
    its last weights.
    """
    for name in sorted(recorded.keys() | here.keys(), key=lambda name: (not name.endswith(".json"), name)):
        if name not in here:
            return f"{name}: missing here"
        if name not in recorded:
            return f"{name}: not among what was recorded"
        if recorded[name].read_bytes() != here[name].read_bytes():
            return f"{name}: {_inside(recorded[name], here[name], Path(name).suffix)}"
    return None


def _inside(recorded: Path, here: Path, suffix: str) -> str:
    """Where two files of one kind differ. A file that cannot be read as its kind is compared byte by byte."""
    compare = KINDS.get(suffix)
    found = None
    if compare is not None:
        try:
            found = compare(recorded, here)
        except Exception:  # a damaged file; each reader raises its own
            found = None
    return found or _bytes(recorded, here)


def _bytes(recorded: Path, here: Path) -> str:
    old, new = recorded.read_bytes(), here.read_bytes()
    at = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    if at == min(len(old), len(new)):
        return f"recorded {len(old):,} bytes, here {len(new):,}"
    return f"byte {at:,}: recorded {old[at]}, here {new[at]}"


def _json(recorded: Path, here: Path) -> str | None:
    old, new = leaves(read_json(recorded)), leaves(read_json(here))
    at = next((key for key in (*old, *new) if old.get(key, ABSENT) != new.get(key, ABSENT)), None)
    if at is None:
        return None
    values = f"recorded {old.get(at, ABSENT)}, here {new.get(at, ABSENT)}"
    curve, _, key = at.rpartition(".")
    step = new.get(f"{curve}.step", old.get(f"{curve}.step"))
    return f"step {step}, {key}: {values}" if step is not None else f"{at}: {values}"


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Values of nested JSON by their path. Curves, in the order of their steps, stand before what follows from them."""
    if isinstance(tree, list):
        tree = {str(number): part for number, part in enumerate(tree)}
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = sorted(tree.items(), key=lambda item: not _holds_curves(item[1], item[0]))
    return {path: leaf for key, part in parts for path, leaf in leaves(part, f"{prefix}.{key}".lstrip(".")).items()}


def _holds_curves(part: Any, key: str) -> bool:
    return key == "curves" or (
        isinstance(part, dict) and any(_holds_curves(value, name) for name, value in part.items())
    )


def _tensors(recorded: Path, here: Path) -> str | None:
    old, new = read_tensors(recorded), read_tensors(here)
    if old.keys() != new.keys():
        return f"tensors that one of them lacks: {', '.join(sorted(old.keys() ^ new.keys()))}"
    found = ((name, _array(old[name], new[name])) for name in old)
    return next((f"tensor {name}{where}" for name, where in found if where is not None), None)


def _array(old: np.ndarray, new: np.ndarray) -> str | None:
    """The first element that differs, as `[3, 5]: recorded 0.1, here 0.2`, and how many do. NaN equals itself."""
    if old.shape != new.shape or old.dtype != new.dtype:
        return f": recorded {old.dtype} {old.shape}, here {new.dtype} {new.shape}"
    odd = _words(old) != _words(new)
    if not odd.any():
        return None
    index = np.unravel_index(int(odd.reshape(-1).argmax()), old.shape)
    place = f"[{', '.join(map(str, index))}]" if index else ""
    return f"{place}: recorded {old[index]!s}, here {new[index]!s} ({int(odd.sum()):,} of {old.size:,} differ)"


def _words(array: np.ndarray) -> np.ndarray:
    """Its bits, as whole numbers."""
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return array


def _npy(recorded: Path, here: Path) -> str | None:
    found = _array(read_array(recorded, mapped=False), read_array(here, mapped=False))
    return None if found is None else f"element {found}"


def _table(recorded: Path, here: Path) -> str | None:
    import pyarrow.parquet as pq

    old, new = pq.read_table(recorded), pq.read_table(here)
    if old.schema.names != new.schema.names or old.num_rows != new.num_rows:
        return f"recorded {old.num_rows} rows of {old.schema.names}, here {new.num_rows} of {new.schema.names}"
    columns = {name: (old[name].to_pylist(), new[name].to_pylist()) for name in old.schema.names}
    for row in range(old.num_rows):
        for name, (before, now) in columns.items():
            if before[row] != now[row] and not (before[row] != before[row] and now[row] != now[row]):
                return f"row {row}, {name}: recorded {before[row]}, here {now[row]}"
    return None


KINDS: dict[str, Callable[[Path, Path], str | None]] = {
    ".json": _json,
    ".safetensors": _tensors,
    ".npy": _npy,
    ".parquet": _table,
}


def largest_difference(recorded: Mapping[str, Path], here: Mapping[str, Path]) -> float:
    """The largest relative difference of a number in the reports of both: how far apart two trainings ended.

    0.01 where the losses of one lie within a percent of the other's; 0 where there is no report.
    """
    worst = 0.0
    for name in recorded.keys() & here.keys():
        if not name.endswith("report.json"):
            continue
        old, new = (leaves(json.loads(path.read_text(encoding="utf-8"))) for path in (recorded[name], here[name]))
        for key in old.keys() & new.keys():
            a, b = old[key], new[key]
            if (
                "loss" in key
                and isinstance(a, float)
                and isinstance(b, float)
                and math.isfinite(a)
                and math.isfinite(b)
            ):
                worst = max(worst, abs(a - b) / max(abs(a), abs(b), 1e-12))
    return worst
