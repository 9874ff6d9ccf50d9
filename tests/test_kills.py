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
from dataclasses import dataclass
from pathlib import Path

import pytest
from small import small
from test_pipeline import PATIENCE, Lab

KINDS = ("driver", "DVC", "warm", "stage", "tracking")
RESULTS = ("dvc.lock", "reports/leaderboard.csv", "reports/transfer.csv")
MADE = ("dvc.lock", "data", "models", "scores", "shown", "pictures", "reports", ".dvc/cache", ".dvc/tmp")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    line: str


def processes(lab: Lab) -> list[Process]:
    """What a run in the lab's checkout has started and is still there, itself included."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment, words = ((folder / name).read_bytes() for name in ("environ", "cmdline"))
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
        if stat[0] != "Z" and f"PYTHONPATH={lab.folder / 'src'}".encode() in environment.split(b"\0"):
            found.append(Process(int(folder.name), int(stat[1]), words.replace(b"\0", b" ").decode(errors="replace")))
    return found


def of_kind(kind: str, driver: int, running: list[Process]) -> list[Process]:
    """DVC is a child of the driver that brings one stage up to date; a stage a child of a warm process, or a script."""
    warm = {p.pid for p in running if "seqlab.executors.warm" in p.line and p.parent == driver}
    return [
        p
        for p in running
        if {
            "driver": p.pid == driver,
            "DVC": p.parent == driver and "repro" in p.line,
            "warm": p.pid in warm,
            "stage": p.parent in warm or "pipelines/" in p.line,
            "tracking": "seqlab.tracking" in p.line,
        }[kind]
    ]


def disturbed(lab: Lab, kind: str, after: float, rng: random.Random) -> bool:
    """Run `seqlab repro` and kill one process of a kind, `after` seconds or more; whether there was one to kill."""
    with subprocess.Popen(
        ["seqlab", "repro"], cwd=lab.folder, env=lab.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:
        time.sleep(after)
        killed = False
        while run.poll() is None and not killed:
            for process in rng.sample(found := of_kind(kind, run.pid, processes(lab)), len(found))[:1]:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                    killed = True
            time.sleep(0.01)
        run.wait()
    return killed


def finished(lab: Lab) -> dict[str, bytes]:
    """Run the same command to its end. What it leaves, held against what must not be there."""
    lab.run("seqlab", "repro")
    assert "all stages are up to date" in lab.run("seqlab", "repro")  # no stale lock, nothing half done
    lab.run(sys.executable, "-m", "seqlab.tracking", ".seqlab/tracking", "--flush", "--timeout", "120")
    deadline = time.monotonic() + PATIENCE
    while left := [p.line for p in processes(lab) if "seqlab.tracking" not in p.line]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    with sqlite3.connect(lab.folder / "mlflow.db") as store:
        running = store.execute("SELECT name FROM runs WHERE status = 'RUNNING'").fetchall()
        twice = store.execute(
            "SELECT run_uuid, key, step, COUNT(*) FROM metrics GROUP BY run_uuid, key, step HAVING COUNT(*) > 1"
        ).fetchall()
    assert running == []
    assert twice == []
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
@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes where Linux lists them")
def test_a_run_in_which_each_kind_of_process_was_killed_ends_in_the_same_bits(lab: Lab) -> None:
    began = time.monotonic()
    expected = finished(lab)
    took = time.monotonic() - began
    emptied(lab)
    rng = random.Random(0)
    killed = sum(disturbed(lab, kind, rng.uniform(0, took / 8), rng) for kind in rng.sample(KINDS, len(KINDS)))
    assert killed >= 3  # later ones may find that all was done
    assert finished(lab) == expected
