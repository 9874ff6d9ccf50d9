"""Files of results: whole or not there, equal bytes for equal content, and no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.errors import UserError
from seqlab.scratch import replacing

LONGEST_TEXT = 1 << 28
"""Bytes of a file that is read as a whole: the largest, a lexicon, has a hundredth of them."""


def write_text(path: Path, text: str) -> None:
    """Write whole or not at all, UTF-8."""
    with replacing(path) as made:
        made.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Canonical JSON: sorted keys, two spaces, a final newline. NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing, is not JSON, or is deeper or longer than anything written here."""
    check_file(path, LONGEST_TEXT)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of UTF-8
        raise UserError(f"{path}: not JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: not JSON that can be read: it is too deeply nested") from None


def check_file(path: Path, most: int) -> None:
    """Raises UserError when `path` is missing, is no regular file or has over `most` bytes.

    A link is what it points to; a pipe or a device may have no end.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: missing") from None
    except OSError as error:  # a link to itself, a name that is too long
        raise UserError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: not a regular file")
    if found.st_size > most:
        raise UserError(f"{path}: {found.st_size:,} bytes; expected at most {most:,}")


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Arrays as safetensors, ordered by name, so that equal arrays give equal bytes."""
    from safetensors.numpy import save

    ordered = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    with replacing(path) as made:
        made.write_bytes(save(ordered))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Raises UserError when the file is missing, is not safetensors, or is larger than this machine's memory."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    check_file(path, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))  # what a file with holes claims to hold
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file: {error}") from None
    except (AttributeError, KeyError, MemoryError, TypeError, ValueError) as error:  # a type that NumPy lacks; its size
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: not a safetensors file of this program: {reason}") from None


def read_array(path: Path, mapped: bool) -> np.ndarray:
    """Numbers of an `.npy` file; mapped: left on the disk until they are used.

    Raises UserError when the file is missing, is anything else, or is shorter than its header promises.
    """
    check_file(path, 1 << 62)
    try:
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # what noise in a header raises is of many kinds
        raise UserError(f"{path}: not a readable array: {' '.join(str(error).split())[:200]}") from None
    # np.load opens an archive of arrays as well.
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        kind = str(getattr(found, "dtype", "an archive"))[:80]
        raise UserError(f"{path}: not a readable array: expected numbers, found {kind}")
    return found


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
