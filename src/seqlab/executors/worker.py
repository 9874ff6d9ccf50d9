"""A worker of the executor `dask`: joins a scheduler, and runs stages in a process beside it.

    python -m seqlab.executors.worker tcp://head:8786 --cores 16 --memory 60 --gpus 1

One of these a node, whatever starts it (a shell, srun, a pod); it ends when the scheduler does. The workspace is where
it is for the one who asks, on a disk that both see; or, with `--workspace FOLDER`, in a clone of its own, whose
inputs and outputs go through DVC's remote (`execution.shared_disk=false`). Runs write there as they need to.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqlab.executors.host import Host, Reply, Request, UnfitError

LOOKING = 0.5  # seconds between looks whether anybody still wants the stage that runs
BYTES = 1e9  # of a gigabyte
SAID = 100_000  # characters of a log that travel


@dataclass(frozen=True)
class Place:
    """Where a run works. run: its own name, since another run may have other code. The folders are as of `Host`."""

    run: str
    home: Path
    source: Path
    logs: Path
    code: str | None = None  # of the library, where workers have a workspace and a library of their own


_hosts: dict[Place, Host] = {}
"""Of this worker, one for each run that has stages here."""
_mutex = threading.Lock()
_workspace: Path | None = None
"""Of this worker, where it has one of its own."""


def work(place: Place, request: Request, pause: float) -> Reply:
    """Bring a stage up to date, in a thread of a worker. pause: seconds to wait first.

    Raises LostError where the process that ran it was killed, UnfitError where this worker cannot do it.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    time.sleep(pause)
    host = host_of(place)
    future, asked = host.run(request), False
    while True:
        try:
            reply = future.result(LOOKING)
            return reply if place.code is None else replace(reply, said=_end_of(Path(reply.log)))
        except Late:
            if not asked and not wanted(worker, key):
                host.end(request.name)
                asked = True


def wanted(worker: Any, key: Any) -> bool:
    """Whether somebody still waits for a task."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state == "executing" and worker.status.name == "running"


def host_of(place: Place) -> Host:
    """The process that runs stages of a place, started where there is none; those of earlier runs end."""
    place = own_place(place)
    with _mutex:
        for other in [other for other in _hosts if other.home == place.home and other != place]:
            _hosts.pop(other).close()
        if place not in _hosts or _hosts[place].gone:
            _hosts[place] = Host(place.home, place.source, place.logs)
        return _hosts[place]


def own_place(place: Place) -> Place:
    """Where this worker works for a run. Raises UnfitError."""
    if place.code is None:
        return place
    node = socket.gethostname()
    if _workspace is None:
        raise UnfitError(f"the worker on {node} has no workspace of its own; start it with --workspace FOLDER, a clone")
    source = _workspace / "src"
    if code_of(source) != place.code:
        raise UnfitError(f"{_workspace} on {node}: its src/ is another than that of the run; bring both to one commit")
    return replace(place, home=_workspace, source=source, logs=_workspace / ".seqlab/logs")


def code_of(source: Path) -> str:
    """A hash of all code below a folder."""
    files = sorted(source.rglob("*.py"))
    parts = [f"{path.relative_to(source)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _end_of(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-SAID:] if log.exists() else ""


def leave(run: str) -> None:
    """End what a run has here."""
    with _mutex:
        for place in [place for place in _hosts if place.run == run]:
            _hosts.pop(place).close()


def security(file: Path | None) -> Any:
    """The certificates that a repro wrote for its own workers."""
    from distributed.security import Security

    return None if file is None else Security(require_encryption=True, **json.loads(file.read_text("utf-8")))


async def serve(address: str, cores: int, memory: float, gpus: float, certificates: Path | None) -> None:
    """Work for the scheduler at an address until it ends."""
    import dask
    from distributed import Worker

    still()
    # A stage may hold the interpreter long, and its memory is no part of this process.
    dask.config.set({"distributed.worker.memory.terminate": False, "distributed.worker.memory.pause": False})
    worker = await Worker(
        address,
        nthreads=cores,
        resources={"cpu": cores, "memory": memory, "gpu": gpus},
        memory_limit=0,
        dashboard=False,
        security=security(certificates),
        death_timeout=300,
    )
    await worker.finished()


def share_of_memory(cores: int) -> float:
    """GB of this machine, as its cores are shared."""
    import psutil

    share = min(1.0, cores / (os.cpu_count() or 1))
    return round(float(psutil.virtual_memory().total) / BYTES * share, 1)


def own_cores() -> int:
    """Those that Slurm gives to a task, or that this process may use."""
    return int(os.environ.get("SLURM_CPUS_PER_TASK", "0")) or len(os.sched_getaffinity(0))


def main(arguments: list[str] | None = None) -> None:
    words = argparse.ArgumentParser(prog="python -m seqlab.executors.worker", description=__doc__)
    words.formatter_class = argparse.RawDescriptionHelpFormatter
    words.add_argument("address", help="of the scheduler")
    words.add_argument("--cores", type=int, default=own_cores(), help="default: those it may use")
    words.add_argument("--memory", type=float, help="in GB; default: its cores' share of the machine's")
    cards = len(list(Path("/dev").glob("nvidia[0-9]*")))
    words.add_argument("--gpus", type=float, default=cards, help="default: those of the machine")
    words.add_argument("--certificates", type=Path, help="a file that the repro wrote")
    words.add_argument("--workspace", type=Path, help="a clone for this worker alone, where no disk is shared")
    given = words.parse_args(arguments)
    global _workspace  # noqa: PLW0603
    _workspace = None if given.workspace is None else given.workspace.resolve()
    memory = share_of_memory(given.cores) if given.memory is None else given.memory
    quiet(lambda: asyncio.run(serve(given.address, given.cores, memory, given.gpus, given.certificates)))


def quiet(function: Callable[[], Any]) -> None:
    """Run it, and end at once with what runs here: threads that wait for a stage would hold this process up."""
    try:
        function()
    finally:
        for host in _hosts.values():
            host.close()
        os._exit(0)


def still() -> None:
    """Keep what dask reports to itself: what is lost is said once, in words of stages."""
    import distributed  # noqa: F401

    for name in ("distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))):
        logging.getLogger(name).setLevel(logging.CRITICAL)


if __name__ == "__main__":
    # Tasks come by the name of this module, and must find its hosts.
    importlib.import_module("seqlab.executors.worker").main()
