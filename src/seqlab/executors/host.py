"""A process that runs stages for another one, which has threads and so must not fork.

It loads DVC once, keeps the imports of stages warm, and ends with whoever started it: the link's end means that.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from seqlab.errors import UserError
from seqlab.executors.base import Submitted
from seqlab.executors.dvc import Stages, brought, cleared, lock_repo, of_remote, one_by_one, push_of, reproduced
from seqlab.executors.local import Local
from seqlab.scratch import replacing

SLOTS = sys.maxsize  # whoever asks counts them
IDLE = 120.0  # seconds without a stage after which the process ends: whoever asked may have been killed


@dataclass(frozen=True)
class Request:
    """A stage to bring up to date. entry: what dvc.lock says of it so far. fit: as of `Local`."""

    name: str
    entry: dict[str, Any] | None
    fit: str | None
    force: bool
    pull: bool
    travel: Travel | None = None


@dataclass(frozen=True)
class Travel:
    """Of a stage whose inputs and outputs go through DVC's remote.

    before: what dvc.lock says of the stages whose outputs it reads; None: they are here. files: with its command and
    values, written first. fetch: it ran elsewhere, and its outputs are brought here.
    """

    before: dict[str, dict[str, Any]] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    fetch: bool = False


@dataclass(frozen=True)
class Reply:
    """As `base.Finished`."""

    name: str
    entry: dict[str, Any] | None
    log: str
    said: str | None = None  # what the log holds, where it is on another disk


class UnfitError(Exception):
    """A worker cannot run stages of a run. The message says why, in one line."""


class LostError(Exception):
    """The process that ran a stage has ended before the stage did."""


class Host:
    """The other end: starts the process. home: the workspace. source: of the library that it runs. logs: as `Local`."""

    def __init__(self, home: Path, source: Path, logs: Path):
        self.link, there = Pipe()
        command = [sys.executable, "-m", __name__, str(there.fileno()), str(logs)]
        self.process = subprocess.Popen(
            command, cwd=home, env=with_source(source), stdin=subprocess.DEVNULL, pass_fds=[there.fileno()]
        )
        there.close()
        self.waiting: dict[str, Future[Reply]] = {}
        self.mutex = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def run(self, request: Request) -> Future[Reply]:
        """The future raises LostError when the process ends before the stage does."""
        future: Future[Reply] = Future()
        with self.mutex:
            if self.link.closed:
                future.set_exception(LostError(request.name))
                return future
            self.waiting[request.name] = future
            try:
                self.link.send(request)
            except OSError:
                del self.waiting[request.name]
                future.set_exception(LostError(request.name))
        return future

    def end(self, name: str) -> None:
        """Ask a stage to end."""
        with self.mutex, suppress(OSError):  # it has ended already
            if name in self.waiting:
                self.link.send(name)

    def close(self) -> None:
        """End the process and what it runs."""
        with self.mutex, suppress(OSError):  # it has ended already
            self.link.send(None)
        self.process.wait()

    @property
    def gone(self) -> bool:
        return self.process.poll() is not None or self.link.closed

    def _listen(self) -> None:
        try:
            while True:
                reply: Reply = self.link.recv()
                with self.mutex:
                    future = self.waiting.pop(reply.name, None)
                if future is not None:
                    future.set_result(reply)
        except (EOFError, OSError):
            with self.mutex:
                lost, self.waiting = self.waiting, {}
                self.link.close()
            for name, future in lost.items():
                future.set_exception(LostError(name))


def with_source(source: Path) -> dict[str, str]:
    """This process's environment, with a library's source first on the path."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(source), *filter(None, [os.environ.get("PYTHONPATH")])])}


def travelled(stages: Stages, stage: Any, request: Request, travel: Travel) -> dict[str, Any]:
    """Bring inputs here, run it, and send outputs away; or bring outputs here."""
    if travel.fetch:
        brought([stage])
        stage.repo.stage_cache.save(stage)  # as if it had run here
        return {}
    if travel.before is not None:
        before = [stages.stage(name, entry) for name, entry in travel.before.items()]
        brought(before)
        cleared(stage, before)
    entry = reproduced(stage, request.force, request.pull)
    with lock_repo(stage.repo), of_remote(stage.repo):
        push_of(stage)
    return entry


def serve(link: Connection, logs: Path) -> None:
    """Run what is asked for until the link ends."""
    requests: dict[str, tuple[Request, Any]] = {}
    running: dict[str, Submitted] = {}

    def work(name: str) -> dict[str, Any]:
        link.close()
        request, stage = requests[name]
        if request.travel is not None:
            try:
                return travelled(stages, stage, request, request.travel)
            except UserError as error:
                sys.exit(f"seqlab: {error}")
        return reproduced(stage, request.force, request.pull)

    with one_by_one() as stages, Local(work, SLOTS, lambda name: requests[name][0].fit, logs) as local:
        while True:
            results = [child.result for child in local.children.values()]
            ready = wait([link, *results], None if results else IDLE)
            if not ready:
                return
            if link in ready:
                try:
                    message = link.recv()
                except (EOFError, OSError):
                    return
                if message is None:
                    return
                if isinstance(message, str):
                    local.end(message)
                else:
                    if message.travel is not None and message.travel.files:
                        take(stages, message.travel.files)
                    requests[message.name] = message, stages.stage(message.name, message.entry)
                    running[message.name] = local.submit(message.name)
            if any(result in ready for result in results):
                for done in local.wait(list(running.values())):
                    del running[done.stage.name]
                    link.send(Reply(done.stage.name, done.entry, str(done.log)))


def take(stages: Stages, files: Mapping[str, bytes]) -> None:
    """Write files that are others than those here, by which DVC knows the stages."""
    changed = False
    for name, content in files.items():
        path = Path(name)
        if not path.exists() or path.read_bytes() != content:
            with replacing(path) as made:
                made.write_bytes(content)
            changed = True
    if changed:
        stages.read()


def main(link: int, logs: Path) -> None:
    # An interrupt from the keyboard reaches everybody; this process ends after what it runs. A scheduler's signal too.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)
    serve(Connection(link), logs)


if __name__ == "__main__":
    # What it answers is known by the name of this module, whichever program asked.
    importlib.import_module("seqlab.executors.host").main(int(sys.argv[1]), Path(sys.argv[2]))
