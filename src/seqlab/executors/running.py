"""A run: stages in order through an executor, each result noted as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from seqlab.errors import Interrupted
from seqlab.executors.base import Executor, Submitted
from seqlab.executors.graph import Schedule

WHILE = 0.5  # seconds


class Told(Protocol):
    """Whoever is told how a run goes."""

    def finished(self, stage: Submitted) -> None: ...

    def failed(self, stage: Submitted, log: Path, lost: set[str]) -> None:
        """lost: the stages that follow from it, which cannot run."""

    def interrupted(self, running: int) -> None: ...


def went_through(
    schedule: Schedule,
    executor: Executor,
    keep: Callable[[dict[str, Any]], None],
    told: Told,
    keep_going: bool,
    waited: Callable[[], None] | None = None,
) -> tuple[dict[str, Path], set[str]]:
    """Run all that waits. The stages that failed with their logs, and those that could not run because of them.

    keep: is given the entry of each that finished, as soon as it is there. waited: is called whenever nothing finished
    for a while.
    """
    failed: dict[str, Path] = {}
    lost: set[str] = set()
    running: list[Submitted] = []
    try:
        while True:
            slots = executor.slots
            while len(running) < slots and (name := schedule.next()) is not None:
                running.append(executor.submit(name))
            if not running:
                return failed, lost
            finished = executor.wait(running, None if waited is None else WHILE)
            if waited is not None and not finished:
                waited()
            for done in finished:
                running.remove(done.stage)
                if done.entry is None:
                    failed[done.stage.name] = done.log
                    follow = schedule.fail(done.stage.name)
                    lost |= follow
                    told.failed(done.stage, done.log, follow)
                    if not keep_going:
                        # What runs is let finish, and kept; nothing new begins.
                        schedule.stop()
                    continue
                keep(done.entry)
                schedule.finish(done.stage.name)
                told.finished(done.stage)
    except Interrupted:
        told.interrupted(len(running))
        raise
