"""Many stages: what an executor adds to each, and how the driver behaves as the graph grows.

    python bench/scale.py                       1,000 stages that sleep a second on 16 workers, through each executor
    python bench/scale.py --stages 200 --workers 8 --executors dask
    python bench/scale.py --graphs 1000 10000   reading the graph and writing dvc.lock

Stages that sleep need few cores. Efficiency is the time that the stages sleep, shared by the workers, over the time of
the run; the driver's CPU is that of its process, the scheduler within it included, and of nobody else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from seqlab import config
from seqlab.executors import dvc
from seqlab.executors.base import Executor, Submitted
from seqlab.executors.cluster import Cluster
from seqlab.executors.graph import Graph, Schedule
from seqlab.executors.local import Local
from seqlab.executors.running import went_through

ROOT = Path(__file__).resolve().parents[1]


class Silent:
    """Told how a run goes, and says only what fails."""

    def finished(self, stage: Submitted) -> None:
        pass

    def failed(self, stage: Submitted, log: Path, lost: set[str]) -> None:
        print(f"{stage.name}: {log.read_text()}")

    def interrupted(self, running: int) -> None:
        pass


@contextmanager
def workspace(stages: int, command: str) -> Iterator[Path]:
    """Current folder: a pipeline of stages that read one file and write a small one each."""
    with tempfile.TemporaryDirectory(prefix="seqlab-scale-") as name:
        folder = Path(name)
        every = {"foreach": list(range(stages)), "do": {
            "cmd": f"{command} && echo ${{item}} > ${{item}}.txt", "deps": ["values.txt"], "outs": ["${item}.txt"],
        }}  # fmt: skip
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"each": every}}))
        (folder / "values.txt").write_text("1")
        (folder / ".seqlab").mkdir()
        Repo.init(str(folder), no_scm=True).close()
        with chdir(folder):
            yield folder


def executor_of(name: str, pipeline: dvc.Pipeline, workers: int, folder: Path) -> Executor:
    if name == "local":
        return Local(lambda stage: pipeline.reproduced(stage, False), workers, lambda _: None, folder / "logs")
    tree = yaml.safe_load((ROOT / "conf/execution/local.yaml").read_text())
    execution = replace(config.execution(tree), executor="dask")
    resources = replace(execution.resources.other, memory=0.0)
    return Cluster(
        pipeline, execution, workers, False, False, lambda _: None, lambda _: resources, folder, folder / "logs"
    )


def sleeping(name: str, stages: int, workers: int) -> str:
    """A row: executor, seconds, efficiency, overhead a stage and the driver's CPU a stage."""
    with workspace(stages, "sleep 1") as folder, dvc.opened() as pipeline, dvc.LockFile(pipeline.repo) as lock:
        graph = Graph(pipeline.before)
        start = time.perf_counter()
        with executor_of(name, pipeline, workers, folder) as executor:
            began, cpu = time.perf_counter(), time.process_time()
            failed, _ = went_through(Schedule(graph, set(graph.before)), executor, lock.add, Silent(), True)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        ideal = stages / workers
        overhead = (seconds - ideal) * workers / stages
    return (
        f"| {name} | {began - start:.1f} | {seconds:.1f} | {ideal / seconds:.0%} | {overhead:.3f} | {cpu / stages:.4f} "
        f"| {len(failed)} |"
    )


def entry(name: str) -> dict[str, Any]:
    """As dvc.lock has it of such a stage."""
    path = f"{name.partition('@')[2]}.txt"
    known = {"hash": "md5", "md5": "0" * 32, "size": 2}
    return {"cmd": "true", "deps": [{"path": "values.txt", **known}], "outs": [{"path": path, **known}]}


def growing(stages: int) -> str:
    """A row: seconds of CPU to read the graph, to write dvc.lock of all its stages, and to choose their order."""
    with workspace(stages, "true"):
        begun = time.process_time()
        with dvc.opened() as pipeline:
            read = time.process_time()
            lock = dvc.LockFile(pipeline.repo)
            lock.entries = {name: entry(name) for name in pipeline.stages}
            lock.write()
            written = time.process_time()
            graph = Graph(pipeline.before)
            schedule = Schedule(graph, set(graph.before))
            while (name := schedule.next()) is not None:
                schedule.finish(name)
            ordered = time.process_time()
    return f"| {stages:,} | {read - begun:.1f} | {written - read:.1f} | {ordered - written:.2f} |"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--stages", type=int, default=1000)
    words.add_argument("--workers", type=int, default=16)
    words.add_argument("--executors", nargs="+", default=["local", "dask"])
    words.add_argument("--graphs", type=int, nargs="+", help="numbers of stages; then nothing is run")
    given = words.parse_args()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    if given.graphs:
        print(
            "| stages | reading the graph, CPU s | writing dvc.lock, CPU s | order, CPU s |\n|--:|--:|--:|--:|",
            flush=True,
        )
        for stages in given.graphs:
            print(growing(stages), flush=True)
        return
    print(f"{given.stages:,} stages that sleep 1 s on {given.workers} workers")
    print("| executor | start, s | run, s | efficiency | overhead a stage, s | driver's CPU a stage, s | failed |")
    print("|:--|--:|--:|--:|--:|--:|--:|", flush=True)
    for name in given.executors:
        print(sleeping(name, given.stages, given.workers), flush=True)


if __name__ == "__main__":
    main()
