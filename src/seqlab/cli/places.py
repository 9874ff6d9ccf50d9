"""Where things are: this checkout, the workspaces of its suites, and what stages read and write in them.

A workspace is a folder in which DVC works: params.yaml, cells.json, code.json, dvc.yaml and dvc.lock, data, models,
scores and reports. The checkout itself is the workspace of the suite that conf/ names; every other suite has one of
its own below suites/, which shares the checkout's cache: so suites stand side by side, and no other suite touches the
committed results.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from seqlab.artifacts import write_text
from seqlab.cells import Cell
from seqlab.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
SUITES = "suites"
REPORTS = Path("reports")  # of a workspace
ENDING = 10.0  # seconds until what a killed command had started has kept what it did, and ended
LINKED = ("conf", "pipelines", "src", "dvc.yaml", ".dvcignore")


def rank_of(environment: Mapping[str, str]) -> int:
    """0, or a number of its own for each further process of a training, by what torchrun or Lightning tells it.

    Lightning starts the script again for each further device of a node, and is itself started on each node.
    """
    if "LOCAL_RANK" not in environment and "NODE_RANK" not in environment:
        return 0
    of_node = 1000 * int(environment.get("NODE_RANK", "0")) + int(environment.get("LOCAL_RANK", "0"))
    return int(environment.get("RANK", of_node))


RANK = rank_of(os.environ)  # such a process trains, but keeps and reports nothing


@dataclass(frozen=True)
class Workspace:
    """home: its folder, absolute."""

    home: Path

    @classmethod
    def current(cls) -> Workspace:
        """Where this process works: the current folder if that is one, else the checkout."""
        here = Path.cwd()
        return cls(here if here != ROOT and (here / "dvc.yaml").exists() else ROOT)

    @classmethod
    def of(cls, suite: str) -> Workspace:
        """That of a suite which is not the checkout's own, made where it does not exist yet."""
        home = ROOT / SUITES / suite
        (home / ".dvc").mkdir(parents=True, exist_ok=True)
        for name in LINKED:
            link = home / name
            if (ROOT / name).exists() and not link.is_symlink():
                link.symlink_to(os.path.relpath(ROOT / name, home))
        config = "[core]\n    no_scm = true\n    analytics = false\n    autostage = false\n"
        config += f"[cache]\n    dir = {os.path.relpath(ROOT / '.dvc/cache', home / '.dvc')}\n"
        if not (home / ".dvc/config").exists():
            write_text(home / ".dvc/config", config)
        return cls(home)

    @property
    def name(self) -> str:
        return self.home.name if self.home != ROOT else "the checkout"

    @property
    def private(self) -> Path:
        """What belongs to no version: records, logs, checkpoints."""
        # A queued experiment shares it with the workspace it came from.
        return Path(os.environ.get("DVC_ROOT", self.home)) / ".seqlab"

    def record(self, verb: str, label: str) -> Path:
        """Where an execution notes its run and measured cost, outside everything that is hashed."""
        return self.private / "records" / verb / f"{label}.json"

    def at_work(self) -> str | None:
        """Who composes or runs here at this moment, such as "process 12"; None where it is nobody else."""
        import fcntl

        path = self.home / ".seqlab/lock"
        if os.environ.get(HOLDING) == str(self.home) or not path.exists():
            return None
        with open(path, encoding="utf-8") as file:
            pid = file.read().strip()
            # Of one that has ended the lock is not even looked at, which could keep it from another for a moment.
            if not pid or not _runs(int(pid)):
                return None
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"process {pid}"
        return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one who composes and runs here. Raises UserError naming who else does.

        What this process starts while it holds the lock may compose as well. What a killed one has started holds it
        until it has ended, which is waited for.
        """
        if os.environ.get(HOLDING) == str(self.home):
            yield
            return
        path = self.home / ".seqlab/lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+", encoding="utf-8") as file:
            deadline = time.monotonic() + ENDING
            while not _taken(file):
                file.seek(0)
                pid = file.read().strip()
                if not pid or _runs(int(pid)) or time.monotonic() > deadline:
                    who = f"process {pid}" if pid else "another process"
                    raise UserError(f"{self.home}: {who} is at work here; wait for it, or end it")
                time.sleep(0.05)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            os.environ[HOLDING] = str(self.home)
            try:
                yield
            finally:
                del os.environ[HOLDING]


def _taken(file: IO[str]) -> bool:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _runs(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


SWEEP = "SEQLAB_SWEEP"  # the name of the sweep that a stage by hand is a job of
HOLDING = "SEQLAB_HOLDING"  # the workspace whose lock an ancestor of this process holds


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until nobody else is in a block of the same folder, which is made."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Places:
    """What a stage reads and writes, relative to the workspace. The pipeline's own places, or those below `out`."""

    out: Path | None = None

    def raw(self, domain: str) -> Path:
        return self._top("data/raw") / domain

    def prepared(self, domain: str) -> Path:
        return self._top("data/prepared") / domain

    def source(self, cell: Cell) -> Path:
        return self._top("models") / cell.source

    def model(self, cell: Cell) -> Path:
        return self._top("models") / cell.path

    def scores(self, cell: Cell) -> Path:
        return self._top("scores") / cell.path

    def shown(self, cell: Cell) -> Path:
        return self._top("shown") / cell.path

    def controls(self, domain: str) -> Path:
        return self._top("scores") / domain / "controls"

    def pictures(self, domain: str) -> Path:
        return self._top("pictures") / domain

    def _top(self, name: str) -> Path:
        return Path(name) if self.out is None else self.out / name


PIPELINE = Places()


def of_rank(path: Path) -> Path:
    """Where this process writes what the first of its training's writes to `path`: its own, which nobody keeps."""
    return path if RANK == 0 else Path(".seqlab/ranks") / str(RANK) / path.relative_to(path.anchor)
