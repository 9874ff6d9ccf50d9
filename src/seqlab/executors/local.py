"""Stages side by side on this machine, each in a child of this process, imports paid once in warm processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seqlab.errors import Interrupted, UserError
from seqlab.executors.base import Finished, Submitted
from seqlab.executors.handover import RUNNER, SUPPORTED
from seqlab.executors.warm import GRACE, MODULES, Warm
from seqlab.training.resume import die_with_parent

CONTEXT: Any = multiprocessing.get_context("fork")
ENDING = (signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Child:
    """A process that sends what its function returns, or ends without sending anything."""

    process: Any
    result: Connection


class Local:
    """work: brings a stage up to date, and returns what dvc.lock shall say of it. slots: stages at a time. logs: a file
    a stage goes there. fit_of: how the family of a stage is fitted, which says what is imported ahead; None: nothing
    is, and the stage starts by itself. warm: processes that outlive this, and are for whoever gave them to end; None:
    its own.
    """

    def __init__(
        self,
        work: Callable[[str], dict[str, Any]],
        slots: int,
        fit_of: Callable[[str], str | None],
        logs: Path,
        warm: Warm | None = None,
    ):
        self.work, self.slots, self.fit_of, self.logs = work, slots, fit_of, logs
        self.warm, self.borrowed = warm or Warm(), warm is not None
        self.children: dict[str, Child] = {}

    def __enter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        gc.freeze()  # see warm.main
        return self

    def submit(self, name: str) -> Submitted:
        fit = self.fit_of(name) if SUPPORTED else None
        environment = self.warm.environment(MODULES[fit]) if fit else {}

        def work() -> dict[str, Any]:
            # A group of its own: it ends as a whole, and an interrupt from the keyboard reaches the parent first.
            os.setsid()
            die_with_parent()
            # DVC waits for its command, which is asked to end as well and may want to keep what it did.
            signal.signal(signal.SIGTERM, lambda *_: None)
            self.warm.leave()
            os.environ.update(environment)
            log = self.log(name)
            for stream, path, mode in ((0, Path(os.devnull), "rb"), (1, log, "wb"), (2, log, "ab")):
                with open(path, mode) as file:
                    os.dup2(file.fileno(), stream)
            return self.work(name)

        with held() as release:
            self.children[name] = start(work, release)
        return Submitted(name, time.monotonic())

    def wait(self, running: Sequence[Submitted], patience: float | None = None) -> list[Finished]:
        by_result = {self.children[one.name].result: one for one in running}
        ready = wait(list(by_result), patience)
        return [self._finished(by_result[result]) for result in ready if isinstance(result, Connection)]

    def _finished(self, one: Submitted) -> Finished:
        child = self.children.pop(one.name)
        try:
            entry = child.result.recv()
        except EOFError:
            entry = None
        child.process.join()
        return Finished(one, entry, self.log(one.name))

    def end(self, name: str) -> None:
        """Ask a stage to end, if it still runs: it is then finished without an entry."""
        if name in self.children:
            with suppress(ProcessLookupError):
                os.killpg(self.children[name].process.pid, signal.SIGTERM)

    def log(self, name: str) -> Path:
        return self.logs / f"{name.replace('/', '_')}.log"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every stage that still runs, and the warm processes if they are its own."""
        for signum, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
            for child in self.children.values():
                with suppress(ProcessLookupError):
                    os.killpg(child.process.pid, signum)
            deadline = None if patience is None else time.monotonic() + patience
            for child in self.children.values():
                child.process.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        self.children.clear()
        if not self.borrowed:
            self.warm.__exit__()


@contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Have what ends a wait wait itself, until the block ends or calls what it is given.

    Raised in the callbacks of a fork it is lost, or leaves a lock of theirs as it should not be; raised right after, it
    leaves a child that nobody knows of. A mask would not do: it is a thread's, and another one takes the signal.
    """
    caught: list[int] = []
    before = {number: signal.signal(number, lambda found, _: caught.append(found)) for number in ENDING}

    def release() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        while caught:
            signal.raise_signal(caught.pop())

    try:
        yield release
    finally:
        release()


def start(function: Callable[[], Any], release: Callable[[], None]) -> Child:
    """A child that sends what the function returns, and sends nothing if it fails. Called in a block of `held`, which
    the child leaves by `release`. Commands of stages find the interpreter that runs here by its name.
    """
    result, sender = CONTEXT.Pipe(duplex=False)

    def work() -> None:
        # What asks it to end before the function has its own way to hear of that is nothing to tell anybody.
        with suppress(Interrupted):
            release()
            os.environ[RUNNER] = str(os.getpid())
            os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
            sender.send(function())

    process = CONTEXT.Process(target=work)
    process.start()
    sender.close()
    return Child(process, result)


def in_child(function: Callable[[], Any]) -> Any:
    """The result of a function that opens DVC's data bases, which a later child must not share.

    Raises UserError when it failed, after what it said. What interrupts the waiting ends the child, which would go on
    holding DVC's locks.
    """
    with held() as release:
        child = start(function, release)
        try:
            release()
            return child.result.recv()
        except EOFError:
            raise UserError("what failed is said above") from None
        except BaseException:
            child.process.kill()
            raise
        finally:
            child.process.join()
