"""`dvc repro` with independent stages side by side: compose, then every stage that is not up to date.

    python pipelines/repro.py                      the suite that conf/ names
    python pipelines/repro.py suite=quick          another one (see pipelines/compose.py)
    python pipelines/repro.py --jobs 1 --force     one stage at a time, whether or not it is up to date

DVC runs one stage at a time, and reads and writes the whole of dvc.lock around each. Here DVC is loaded once; a child
of this process brings each stage that is ready up to date by DVC's own `Stage.reproduce`, under DVC's own locks; and
what dvc.lock says of the finished ones is written every few seconds. The results, and dvc.lock, are those of plain
`dvc repro`, which does the same, later.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, reduce
from multiprocessing.connection import Connection, wait
from operator import getitem
from pathlib import Path
from typing import Any, cast

from warm import SUPPORTED, Warm
from compose import composed
from stage import PRIVATE, ROOT, errors_in_one_line

from seqlab import config
from seqlab.config import Experiment
from seqlab.errors import UserError

CONTEXT: Any = multiprocessing.get_context("fork")
TAIL = 30  # lines of a failed stage's output that are shown
POLLING = 0.01  # seconds between looks whether DVC's lock is free; DVC's own half a second is a stage's work
LOCKING = 20.0  # seconds between writes of dvc.lock
# What stages import that takes long, by the kind of family they work on.
LIGHT = ("evaluate", "compare", "fitting", "numba", "matplotlib.pyplot", "scipy.stats", "pyarrow.parquet", "pandas")
MODULES = {
    "closed_form": (*LIGHT, "seqlab.families.closed_form", "seqlab.training.closed_form.train"),
    "gradient": (*LIGHT, "seqlab.families.gradient", "seqlab.training.gradient.train"),
    "rules": (*LIGHT, "spacy", "kiwipiepy", "seqlab.training.rules.train"),
}


@dataclass
class Running:
    """A stage that a child of this process brings up to date."""

    name: str
    process: Any
    result: Connection  # of dvc.lock's entry, or closed without one
    started: float


class LockFile:
    """dvc.lock, written in batches: DVC reads and writes the whole of it for each stage, which takes seconds."""

    def __init__(self, repo: Any):
        self.repo = repo
        self.entries: dict[str, Any] = {}
        self.written = time.monotonic()

    def __enter__(self) -> LockFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.write()

    def add(self, entry: dict[str, Any]) -> None:
        self.entries |= entry
        if time.monotonic() - self.written > LOCKING:
            self.write()

    def write(self) -> None:
        from dvc.dvcfile import LOCK_FILE
        from dvc.utils.serialize import modify_yaml

        if self.entries:
            with self.repo.lock, modify_yaml(LOCK_FILE) as text:
                text.setdefault("schema", "2.0")
                text.setdefault("stages", {}).update(self.entries)
        self.entries, self.written = {}, time.monotonic()


def repro(overrides: list[str], jobs: int, force: bool) -> None:
    """Bring every stage up to date. Raises UserError naming the first stage that failed."""
    from dvc.repo import Repo

    composed(overrides)
    experiment: Experiment = config.experiment(config.read_params(Path("params.yaml")))
    with Repo(_wait_for_lock=True) as repo, LockFile(repo) as lock, Warm() as warm:
        look_often(repo.lock)
        read_once(repo.fs)
        stages = {stage.addressing: stage for stage in repo.index.stages}
        graph = {name: {b.addressing for b in repo.index.graph.successors(s)} for name, s in stages.items()}
        compose = stages.pop("compose")
        # Everything follows from its files, but what they say may not have changed for a stage: first it, then a look.
        lock.add(in_child(lambda: reproduced(compose, force)))
        for before in graph.values():
            before.discard("compose")
        changed = set(stages) if force else in_child(lambda: {name for name, stage in stages.items() if dirty(stage)})
        waiting = followers(graph, changed)
        if not waiting:
            print("seqlab: all stages are up to date")
            return
        total, done, began = len(waiting), 0, time.monotonic()
        print(f"seqlab: {total} of {len(stages)} stages to run, {jobs} at a time")
        gc.freeze()  # see warm.main
        running: list[Running] = []
        while waiting or running:
            for name in ready(graph, waiting, {one.name for one in running}):
                if len(running) == jobs:
                    break
                waiting.discard(name)
                running.append(start(stages[name], force, warm, experiment))
            arrived = wait([one.result for one in running])
            for one in [one for one in running if one.result in arrived]:
                running.remove(one)
                try:
                    lock.add(result_of(one))
                except EOFError:
                    for other in running:  # they are let finish, and kept unless they fail too
                        with suppress(EOFError):
                            lock.add(result_of(other))
                    log = log_of(one.name)
                    print("\n".join(log.read_text("utf-8", "replace").splitlines()[-TAIL:]), file=sys.stderr)
                    raise UserError(f"stage {one.name} failed; {log} has all of its output") from None
                done += 1
                now = time.monotonic()
                left = (now - began) / done * (total - done) / 60
                count = f"[{done:{len(str(total))}}/{total}]"
                print(f"{count} {one.name} {now - one.started:.1f} s, about {left:.1f} min left", flush=True)
    print(
        f"seqlab: {total} stages in {(time.monotonic() - began) / 60:.1f} min; reports/leaderboard.md has the results"
    )


def look_often(lock: Any) -> None:
    """Have whoever waits for DVC's lock take it soon after it is free."""
    from dvc.lock import Lock, LockError

    def take() -> None:
        while True:
            try:
                return lock._do_lock()
            except LockError:
                time.sleep(POLLING)

    if isinstance(lock, Lock):  # hard links, DVC's other kind, look by themselves
        lock.lock = take


def read_once(files: Any) -> None:
    """Have DVC parse a file of values once, and not for every stage that depends on some of them."""
    from dvc.dependency import param

    @cache
    def parsed(path: str, changed: int) -> Any:
        return param.load_path(path, files)

    def values(fs: Any, path: str, keys: list[str] | None = None, flatten: bool = False) -> dict[str, Any]:
        if not (keys and flatten):
            return cast(dict[str, Any], whole(fs, path, keys, flatten))
        tree, found = parsed(path, Path(path).stat().st_mtime_ns), {}
        for key in keys:
            with suppress(KeyError, TypeError):  # DVC names those that are missing
                found[key] = deepcopy(reduce(getitem, key.split("."), tree))
        return found

    whole, param.read_param_file = param.read_param_file, values


def followers(graph: dict[str, set[str]], changed: set[str]) -> set[str]:
    """The changed stages and all that follow from them."""
    found = changed & set(graph)
    while more := {stage for stage, before in graph.items() if stage not in found and before & found}:
        found |= more
    return found


def ready(graph: dict[str, set[str]], waiting: set[str], running: set[str]) -> Iterator[str]:
    """Waiting stages with nothing unfinished before them, those that most others wait for first."""
    unfinished = waiting | running
    free = [stage for stage in waiting if not ancestors(graph, stage) & unfinished]
    needed = {stage: sum(stage in graph[other] for other in waiting) for stage in free}
    return iter(sorted(free, key=lambda stage: (-needed[stage], list(graph).index(stage))))


def ancestors(graph: dict[str, set[str]], stage: str) -> set[str]:
    found: set[str] = set()
    front = set(graph[stage])
    while front:
        found |= front
        front = {before for one in front for before in graph[one]} - found
    return found


def start(stage: Any, force: bool, warm: Warm, experiment: Experiment) -> Running:
    """Bring a stage up to date in a child of this process, its output in a log."""
    needed = modules(experiment, stage.cmd)
    environment = warm.environment(needed) if needed else {}

    def work() -> dict[str, Any]:
        warm.leave()
        os.environ.update(environment)
        log = log_of(stage.addressing)
        log.parent.mkdir(parents=True, exist_ok=True)
        for stream, path, mode in ((0, Path(os.devnull), "rb"), (1, log, "wb"), (2, log, "ab")):
            with open(path, mode) as file:
                os.dup2(file.fileno(), stream)
        return reproduced(stage, force)

    process, result = child(work)
    return Running(stage.addressing, process, result, time.monotonic())


def modules(experiment: Experiment, command: str) -> tuple[str, ...] | None:
    """What a stage's warm process has imported; None for a stage that starts by itself."""
    # A GPU's context does not survive a fork, and a launcher of several processes starts the script anew.
    trainer = experiment.trainer
    if not SUPPORTED or trainer.accelerator != "cpu" or trainer.devices * trainer.num_nodes > 1:
        return None
    label = command.rsplit(maxsplit=1)[-1]
    family = next((name for name in label.split("/") if name in experiment.families), None)
    return MODULES[experiment.families[family].fit if family else "closed_form"]


def dirty(stage: Any) -> bool:
    """Whether DVC sees a change of a stage's command, values, inputs or outputs."""
    with stage.repo.lock:
        return bool(stage.status())


def reproduced(stage: Any, force: bool) -> dict[str, Any]:
    """Do what `dvc repro --single-item` does; what dvc.lock shall say of the stage, nothing where it says so already.

    Raises SystemExit with DVC's words when the command fails.
    """
    from dvc.exceptions import DvcException
    from dvc.stage.serialize import to_lockfile

    try:
        with stage.repo.lock:
            done = stage.reproduce(force=force)
    except DvcException as error:
        sys.exit(str(error))
    entry: dict[str, Any] = to_lockfile(stage) if done else {}
    return entry


def in_child(function: Callable[[], Any]) -> Any:
    """The result of a function that opens DVC's data bases, which a later child must not share."""
    process, result = child(function)
    found = result.recv()
    process.join()
    return found


def child(function: Callable[[], Any]) -> tuple[Any, Connection]:
    """Start a child that sends what the function returns, and sends nothing if it fails."""
    result, sender = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=lambda: sender.send(function()))
    process.start()
    sender.close()
    return process, result


def result_of(one: Running) -> dict[str, Any]:
    """What dvc.lock shall say of a stage. Raises EOFError when it failed."""
    entry: dict[str, Any] = one.result.recv()
    one.process.join()
    return entry


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
