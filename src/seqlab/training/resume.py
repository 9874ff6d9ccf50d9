"""Surviving a kill: a folder from which a training resumes to the same bits, with one writer at a time.

No torch here, so that a launcher can use it before anything heavy is imported.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from seqlab.errors import UserError

CHANGES_NO_BIT = True  # of any result: no stage is run again for an edit here

PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Checkpoint:
    """Where a training keeps what a resumption needs, a folder of its own, and how often."""

    folder: Path
    seconds: float

    def of(self, name: str) -> Checkpoint:
        """That of one of several trainings."""
        return Checkpoint(self.folder / name, self.seconds)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make the folder and be its only writer until the block ends (a killed process's lock ends with it).

    Raises UserError when another process holds it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode() or "unknown"
            os.close(lock)
            raise UserError(f"{folder}: process {holder} is training here; wait for it, or end it") from None
        # The former writer may have removed the folder between our open and our lock: that file then locks nothing.
        try:
            if os.path.samestat(os.fstat(lock), (folder / "lock").stat()):
                break
        except FileNotFoundError:
            pass
        os.close(lock)
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def finish(folder: Path) -> None:
    """Remove what a resumption would need; call it when the training's outputs stand under their final names."""
    shutil.rmtree(folder, ignore_errors=True)


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends (Linux; elsewhere nothing happens).

    A killed `dvc` would otherwise leave its stage running as an orphan beside the next repro's.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        # It ended before the kernel knew.
        os.kill(os.getpid(), signal.SIGKILL)
