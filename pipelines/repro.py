"""`dvc repro` with independent stages side by side: compose, then every stage that is not up to date.

    python pipelines/repro.py                      the suite that conf/ names
    python pipelines/repro.py suite=quick          another one (see pipelines/compose.py)
    python pipelines/repro.py --jobs 1 --force     one stage at a time, whether or not it is up to date

DVC runs one stage at a time. What is safe, and is done here: in topological order, one `dvc repro --single-item` for
each stage that is ready, waiting for DVC's lock, never two with overlapping targets. The results are those of plain
`dvc repro`, which does the same, later.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from compose import composed
from stage import PRIVATE, ROOT, errors_in_one_line

from seqlab.errors import UserError

TAIL = 30  # lines of a failed stage's output that are shown


def repro(overrides: list[str], jobs: int, force: bool) -> None:
    """Bring every stage up to date. Raises UserError naming the first stage that failed."""
    composed(overrides)
    if not force and not status():
        print("seqlab: all stages are up to date")
        return
    graph = dependencies()
    waiting = set(graph) if force else dirty(graph, status())
    total, done, started = len(waiting), 0, time.monotonic()
    print(f"seqlab: {total} of {len(graph)} stages to run, {jobs} at a time")
    running: dict[Future[float], str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while waiting or running:
            for stage in ready(graph, waiting, set(running.values())):
                if len(running) == jobs:
                    break
                waiting.discard(stage)
                running[pool.submit(run_stage, stage, force)] = stage
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                stage = running.pop(future)
                try:
                    seconds = future.result()
                except subprocess.CalledProcessError as error:
                    waiting.clear()
                    for other in wait(running).done:
                        running.pop(other)
                    raise UserError(
                        f"stage {stage} failed (status {error.returncode}); {log_of(stage)} has all of its output"
                    ) from None
                done += 1
                left = (time.monotonic() - started) / done * (total - done)
                print(
                    f"[{done:{len(str(total))}}/{total}] {stage} {seconds:.1f} s, about {left / 60:.1f} min left",
                    flush=True,
                )
    print(
        f"seqlab: {total} stages in {(time.monotonic() - started) / 60:.1f} min; reports/leaderboard.md has the results"
    )


def status() -> dict[str, Any]:
    """What is not up to date, by stage, as DVC sees it."""
    done = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"dvc status: {done.stderr.strip() or done.stdout.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def dependencies() -> dict[str, set[str]]:
    """The stages that each stage waits for."""
    from dvc.repo import Repo

    with Repo() as repo:
        graph = repo.index.graph
        return {stage.addressing: {before.addressing for before in graph.successors(stage)} for stage in graph}


def dirty(graph: dict[str, set[str]], changed: dict[str, Any]) -> set[str]:
    """The changed stages and all that follow from them."""
    found = set(changed) & set(graph)
    while more := {stage for stage, before in graph.items() if stage not in found and before & found}:
        found |= more
    return found


def ready(graph: dict[str, set[str]], waiting: set[str], running: set[str]) -> Iterator[str]:
    """Waiting stages with nothing unfinished before them, those that most others wait for first."""
    unfinished = waiting | running
    free = [stage for stage in waiting if not ancestors(graph, stage) & unfinished]
    followers = {stage: sum(stage in graph[other] for other in waiting) for stage in free}
    return iter(sorted(free, key=lambda stage: (-followers[stage], list(graph).index(stage))))


def ancestors(graph: dict[str, set[str]], stage: str) -> set[str]:
    found: set[str] = set()
    front = set(graph[stage])
    while front:
        found |= front
        front = {before for one in front for before in graph[one]} - found
    return found


def run_stage(stage: str, force: bool) -> float:
    """Run one stage under DVC, its output in a log; seconds. Raises CalledProcessError when it failed."""
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", stage] + (["--force"] if force else [])
    started = time.monotonic()
    log = log_of(stage)
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        print("\n".join(log.read_text(encoding="utf-8").splitlines()[-TAIL:]), file=sys.stderr)
        done.check_returncode()
    return time.monotonic() - started


def log_of(stage: str) -> Path:
    return PRIVATE / "logs" / f"{stage.replace('/', '_')}.log"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="dvc repro, independent stages side by side")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides of conf/config.yaml, such as suite=quick")
    parser.add_argument(
        "--jobs", type=int, default=len(os.sched_getaffinity(0)), help="stages at a time (default: cores)"
    )
    parser.add_argument("--force", action="store_true", help="run every stage, up to date or not")
    given = parser.parse_args()
    os.chdir(ROOT)
    errors_in_one_line(lambda: repro(given.overrides, max(1, given.jobs), given.force))
