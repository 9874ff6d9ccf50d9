"""Signals by which people and schedulers end a process, and what is made of each.

Ctrl-C sends SIGINT, a closed terminal SIGHUP; kill, Slurm, PBS, HTCondor and Kubernetes SIGTERM; Slurm's --signal and
Grid Engine's -notify SIGUSR1 and SIGUSR2, LSF's run limit SIGUSR2; a limit of CPU time SIGXCPU.

    with heeded("the same command begins anew"):     the first signal raises Interrupted where the program stands
        with noted() as request:                     here it is noted, for a training that ends between two steps;
            ...                                      the second one raises
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from seqlab.errors import Interrupted

CHANGES_NO_BIT = True  # of any result: no stage is run again for an edit here

SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)


class Request:
    """The first signal that came, None before. `note`: how to go on, as far as anyone knows."""

    def __init__(self, note: str) -> None:
        self.number: int | None = None
        self.note = note

    def take(self, number: int, _: FrameType | None) -> None:
        """A handler. A second signal does not wait for what the first one asked for."""
        if self.number is not None:
            raise Interrupted(number, self.note)
        self.number = number

    def raise_at_once(self, number: int, _: FrameType | None) -> None:
        """A handler. What a first signal unwinds, a tracked run's end included, no further one disturbs."""
        if not isinstance(sys.exception(), Interrupted):
            raise Interrupted(number, self.note)

    def install(self) -> None:
        """Take the signals again, from whoever has put handlers of its own in place meanwhile."""
        _install(self.take)


@contextmanager
def heeded(note: str) -> Iterator[None]:
    """Raise Interrupted, with `note`, where the program stands when a signal comes."""
    with _restored():
        _install(Request(note).raise_at_once)
        yield


@contextmanager
def noted(note: str) -> Iterator[Request]:
    """Leave it to the block when to end; raise Interrupted at its end if it has not done so."""
    request = Request(note)
    with _restored():
        request.install()
        yield request
    if request.number is not None:
        raise Interrupted(request.number, request.note)


def _install(handler: Any) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # which alone may set handlers
    for number in SIGNALS:
        # Ignored by whoever started the process (nohup, a job in the background): it stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


@contextmanager
def _restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
