"""Files of results: whole or not there, equal bytes for equal content, and no pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` that takes its name only when the block ends well.

    The block may make the sibling a file or a folder. Raises UserError when the disk is full; whatever stood under
    `path` is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    made, old = scratch / "new" / path.name, scratch / "old"
    made.parent.mkdir()
    try:
        yield made
        try:
            if path.is_dir():
                # A folder cannot be replaced in one call: the old one steps aside first, and comes back if need be.
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
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
