"""Files of results: whole or not there, equal bytes for equal content, and no pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.errors import UserError
from seqlab.scratch import exchange, scratch


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that takes the name `path` only when the block ends well.

    The block may make it a file or a folder; it lies where nothing depends on it (see `seqlab.scratch`). Raises
    UserError when the disk is full; whatever stood under `path` is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch(path) as place:
            made, old = place / "new" / path.name, place / "old"
            made.parent.mkdir()
            yield made
            if path.is_dir() and exchange(made, path):
                return  # what it was goes with the scratch folder
            try:
                if path.is_dir():
                    # Two calls where the system has no single one: the old folder comes back if need be.
                    os.replace(path, old)
                os.replace(made, path)
            except BaseException:  # an interrupt between the two calls included
                if old.exists() and not path.exists():
                    os.replace(old, path)
                raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"{path}: not written, the disk is full ({error.strerror}); nothing earlier was lost"
            ) from None
        raise


def flush(path: Path) -> None:
    """Have a file, or what a folder says of its names, on the disk before anything that follows (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all, UTF-8."""
    with replacing(path) as made:
        made.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Canonical JSON: sorted keys, two spaces, a final newline. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise UserError(f"{path}: not JSON: {error}") from None


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Arrays as safetensors, ordered by name, so that equal arrays give equal bytes."""
    from safetensors.numpy import save

    ordered = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    with replacing(path) as made:
        made.write_bytes(save(ordered))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Raises UserError when the file is missing or is not safetensors."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from None


def sha256(path: Path) -> str:
    """Hash of a file, or of a folder's relative names and contents in sorted order."""
    digest = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(str(part.relative_to(path)).encode() + b"\0")
        with open(part, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def seed_of(*parts: object) -> int:
    """A 63-bit seed from names and numbers (suite seed, cell, purpose): never from the clock, equal everywhere."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8], "big") >> 1
