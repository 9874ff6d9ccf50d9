"""Whatever is killed, whenever: the same command again ends in the same bits, and nothing is left over.

bench/kills.py does the same a hundred times.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from small import small
from test_pipeline import PATIENCE, Lab, Process

KINDS = {
    "local": ("driver", "DVC", "warm", "stage", "tracking"),
    "dask": ("driver", "worker", "host", "node", "DVC", "warm", "stage", "tracking"),
}
"""By executor. A node is a worker and all that runs below it."""
RESULTS = ("dvc.lock", "reports/leaderboard.csv", "reports/transfer.csv")
MADE = ("dvc.lock", "data", "models", "scores", "shown", "pictures", "reports", ".dvc/cache", ".dvc/tmp")


def of_kind(kind: str, driver: int, running: list[Process]) -> list[Process]:
    """DVC is a child that brings one stage up to date: of the driver, or of a worker's host; a stage a child of a warm
    process, or a script.
    """
    hosts = {p.pid for p in running if "seqlab.executors.host" in p.line and p.parent not in (1, driver)}
    hosts -= {p.pid for p in running if p.parent in hosts}  # which are forked, and have its line
    warm = {p.pid for p in running if "seqlab.executors.warm" in p.line and p.parent in {driver, *hosts}}
    worker = lambda p: "seqlab.executors.worker" in p.line and p.parent == driver  # noqa: E731
    return [
        p
        for p in running
        if {
            "driver": p.pid == driver,
            "worker": worker(p),
            "node": worker(p),
            "host": p.pid in hosts,
            "DVC": (p.parent == driver and "repro" in p.line) or (p.parent in hosts and "executors.host" in p.line),
            "warm": p.pid in warm,
            "stage": p.parent in warm or "pipelines/" in p.line,
            "tracking": "seqlab.tracking" in p.line,
        }[kind]
    ]


def below(top: Process, running: list[Process]) -> list[Process]:
    return [top, *(p for child in running if child.parent == top.pid for p in below(child, running))]


def disturbed(lab: Lab, kind: str, after: float, rng: random.Random, executor: str = "local") -> bool:
    """Run `seqlab repro` and kill one process of a kind, `after` seconds or more; whether there was one to kill."""
    with subprocess.Popen(
        command(executor), cwd=lab.folder, env=lab.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        time.sleep(after)
        killed = False
        while run.poll() is None and not killed:
            running = lab.processes()
            for process in rng.sample(found := of_kind(kind, run.pid, running), len(found))[:1]:
                for one in below(process, running) if kind == "node" else [process]:
                    with suppress(ProcessLookupError):
                        os.kill(one.pid, signal.SIGKILL)
                        killed = True
            time.sleep(0.01)
        run.wait()
    return killed


def command(executor: str) -> list[str]:
    return ["seqlab", "repro", "--executor", executor]


def finished(lab: Lab, executor: str = "local") -> dict[str, bytes]:
    """Run the same command to its end. What it leaves, held against what must not be there."""
    lab.run(*command(executor))
    assert "all stages are up to date" in lab.run("seqlab", "repro")  # no stale lock, nothing half done
    lab.run(sys.executable, "-m", "seqlab.tracking", ".seqlab/tracking", "--flush", "--timeout", "120")
    deadline = time.monotonic() + PATIENCE
    while left := [p.line for p in lab.processes() if "seqlab.tracking" not in p.line]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    with sqlite3.connect(lab.folder / "mlflow.db") as store:
        running = store.execute("SELECT name FROM runs WHERE status = 'RUNNING'").fetchall()
        points = store.execute(
            "SELECT run_uuid, key, step, COUNT(*) FROM metrics GROUP BY run_uuid, key, step"
        ).fetchall()
        systems = {run for (run,) in store.execute("SELECT run_uuid FROM tags WHERE key = 'link.compare'")}
        [(comparisons,)] = store.execute("SELECT COUNT(*) FROM tags WHERE key = 'phase' AND value = 'compare'")
    assert running == []
    assert comparisons
    # Each comparison adds its own point to what it says of a system.
    assert [one for one in points if one[3] > (comparisons if one[0] in systems else 1)] == []
    assert list((lab.folder / ".seqlab/tmp").glob("*")) == []
    return {name: lab.read(name) for name in RESULTS}


def emptied(lab: Lab) -> None:
    """As it was before anything ran, but for what MLflow has."""
    for name in MADE:
        path = lab.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in ("records", "checkpoints", "fresh"):
        path = lab.folder / ".seqlab" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return small(tmp_path / "lab", "markov")


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes where Linux lists them")
def test_a_run_in_which_a_process_of_any_kind_was_killed_ends_in_the_same_bits(lab: Lab) -> None:
    began = time.monotonic()
    expected = finished(lab)
    took = time.monotonic() - began
    rng = random.Random(0)
    killed = []
    for kind in KINDS["local"]:
        emptied(lab)
        if disturbed(lab, kind, rng.uniform(0, took / 8), rng):
            killed.append(kind)
        assert finished(lab) == expected, kind
    assert len(killed) >= 3, killed  # some live shorter than it takes to find them
