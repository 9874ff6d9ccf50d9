"""Files of results: whole or not there, equal bytes for equal content, and no pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.errors import UserError
from seqlab.scratch import exchange, scratch

LONGEST_TEXT = 1 << 28
"""Bytes of a file that is read as a whole: the largest, a lexicon, has a hundredth of them."""
DEEPEST = 100
"""Levels of nested YAML."""
MERGE_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


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
    """Raises UserError when the file is missing, is not JSON, or is deeper or longer than anything written here."""
    check_file(path, LONGEST_TEXT)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON, or of UTF-8
        raise UserError(f"{path}: not JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: not JSON that can be read: it is too deeply nested") from None


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file: no tags that build objects, and no aliases that multiply.

    Raises UserError naming the line when the file is missing, is not YAML or holds the marks of a merge; and when its
    values are more, or deeper, than the file is worth.
    """
    import yaml

    check_file(path, LONGEST_TEXT)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith(MERGE_MARKS):
                raise UserError(f"{path}, line {number}: {line.split()[0]} of an unfinished merge; choose one side")
        if not _shallow(text, loader):  # libyaml descends without a look at the stack, which ends the process
            raise UserError(f"{path}: not YAML that can be read: it is nested more than {DEEPEST} deep")
        found = yaml.load(text, Loader=loader)
    except ValueError as error:  # of UTF-8, or of a date
        raise UserError(f"{path}: not YAML: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    # An alias is one object at many places: whoever walks the tree meets it as often as it is named.
    waiting, met = [found], 0
    while waiting:
        part = waiting.pop()
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        met += 1
        if met > len(text):
            raise UserError(f"{path}: its aliases stand for more values than the file has letters")
    return found


def _shallow(text: str, loader: Any) -> bool:
    """Whether YAML is nested at most DEEPEST deep: seen from its signs where they are few, else from its events."""
    import yaml

    signs = (
        text.count("[") + text.count("{") + max((len(s) - len(s.lstrip(" -?")) for s in text.splitlines()), default=0)
    )
    if signs <= DEEPEST:
        return True
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return False
    return True


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
