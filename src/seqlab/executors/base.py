"""What an executor is: submit a stage, wait for one of those that run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self


@dataclass(frozen=True)
class Submitted:
    """A stage that runs. name: its address in dvc.yaml. started: on the monotonic clock."""

    name: str
    started: float


@dataclass(frozen=True)
class Finished:
    """entry: what dvc.lock shall say of it; {} where it says so already; None where it failed. log: its output."""

    stage: Submitted
    entry: dict[str, Any] | None
    log: Path


class Executor(Protocol):
    """Runs stages somewhere. What it starts ends with it, however it ends."""

    @property
    def slots(self) -> int:
        """Stages at a time."""

    def submit(self, name: str) -> Submitted:
        """Start a stage, whose inputs are all up to date."""

    def wait(self, running: Sequence[Submitted], patience: float | None = None) -> list[Finished]:
        """Those that have finished, in any order: at least one, or after so many seconds none."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
