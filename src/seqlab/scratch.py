"""Folders for what is not finished yet: outside everything that a result depends on, gone with whoever made them.

In a workspace they lie under its .seqlab/tmp, elsewhere beside what they are for. A folder is held by a flock, which
the kernel drops when its process dies, however it dies; the next process removes what nobody holds.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from seqlab.errors import UserError

CHANGES_NO_BIT = True  # of any result: no stage is run again for an edit here

WORKSPACE = (".dvc", ".seqlab")  # folders by which one is known
TEMPORARY = (".seqlab", "tmp")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a user's share of it, or what a shell's ulimit allows
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h

_swept: set[tuple[Path, str]] = set()
"""Places, and beginnings of names, of which this process has removed what others left."""


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """An empty folder from which `path`, whose parent exists, can be renamed into place; removed at the end."""
    place, names = _place(path), f".{path.name}."
    place.mkdir(parents=True, exist_ok=True)
    made, lock = _made(place, names)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def exchange(one: Path, other: Path) -> bool:
    """Have two names trade places, in one step; whether that could be done (Linux, and not on every file system)."""
    with suppress(AttributeError, OSError):
        call = ctypes.CDLL(None, use_errno=True).renameat2
        return not call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    return False


def _place(path: Path) -> Path:
    """Where scratch folders for `path` lie: no rename crosses a mount, not even within a file system."""
    parent = path.parent.absolute()
    for folder in (parent, *parent.parents):
        if any((folder / name).is_dir() for name in WORKSPACE):
            return folder.joinpath(*TEMPORARY) if _mount(folder) == _mount(parent) else parent
    return parent


def _mount(folder: Path) -> Path:
    """The mount point that a folder lies on."""
    real = folder.resolve()
    return next(part for part in (real, *real.parents) if str(part) in _mounts() or part == part.parent)


@cache
def _mounts() -> frozenset[str]:
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # not Linux
        return frozenset()
    # White space and backslashes of a path are written in octal.
    return frozenset(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), line.split(" ")[4]) for line in lines)


def _made(place: Path, names: str) -> tuple[Path, int]:
    """A new folder in `place`, and a descriptor that holds it. names: with what its own name begins."""
    held = os.open(place, os.O_RDONLY)
    try:
        # Between its making and its holding a folder would look like one that was left.
        if (place, names) in _swept:
            _flock(held, fcntl.LOCK_SH)
        else:
            _flock(held, fcntl.LOCK_EX)
            _sweep(place, names)
        made = Path(tempfile.mkdtemp(prefix=names, dir=place))
        lock = os.open(made, os.O_RDONLY)
        _flock(lock, fcntl.LOCK_SH)
    finally:
        os.close(held)
    return made, lock


def _sweep(place: Path, names: str) -> None:
    """Remove what nobody holds: of .seqlab/tmp all, elsewhere, where others' files lie too, what is named so."""
    mine = re.compile(r".*" if place.parts[-2:] == TEMPORARY else re.escape(names) + r"[a-z0-9_]{8}", re.DOTALL)
    for left in place.iterdir():
        if mine.fullmatch(left.name) and left.is_dir() and not left.is_symlink():
            _remove_if_left(left)
    _swept.add((place, names))


def _remove_if_left(folder: Path) -> None:
    with suppress(FileNotFoundError, PermissionError):  # another process was first, or it is another user's
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # held, or this file system knows no locks
            pass
        finally:
            os.close(lock)


def _flock(descriptor: int, how: int) -> None:
    try:
        fcntl.flock(descriptor, how)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):
            raise


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
        if error.errno in FULL:
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
