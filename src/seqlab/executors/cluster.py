"""Stages on many machines: Dask's scheduler, and on each node a worker that runs them as this machine would.

Without an address the scheduler lives in this process, and workers that it starts end with it: one here, or one on each
node of a Slurm allocation. A stage whose worker is lost runs again elsewhere, and resumes from its checkpoint.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from seqlab.errors import UserError
from seqlab.execution import Execution, Resources
from seqlab.executors.base import Finished, Submitted
from seqlab.executors.dvc import Pipeline
from seqlab.executors.host import Host, LostError, Reply, Request, Travel, UnfitError, with_source
from seqlab.executors.warm import GRACE
from seqlab.executors.worker import Place, code_of, leave, still, work

SOURCE = Path(__file__).resolve().parents[2]
JOINING = 300.0  # seconds until a worker must have joined
LOOKING = 1.0  # seconds between looks whether the workers that were started here still run
GATHERING = 10.0  # seconds until a result has come, where the worker that has it still runs
ATTEMPTS = 10  # of a stage whose workers are lost
PAUSE = GRACE + 2.0  # seconds after which what a lost worker ran has ended
LOCAL = "127.0.0.1"


class Cluster:
    """home: the workspace. logs, fit_of: as of `Local`. resources_of: what a stage takes of a worker.

    Raises UserError when no worker joins, or none has what a stage takes.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        execution: Execution,
        slots: int,
        force: bool,
        pull: bool,
        fit_of: Callable[[str], str | None],
        resources_of: Callable[[str], Resources],
        home: Path,
        logs: Path,
    ):
        self.execution, self.cores, self.force, self.pull = execution, slots, force, pull
        self.fit_of, self.resources_of = fit_of, resources_of
        self.entries = pipeline.entries()
        self.pipeline, self.home = pipeline, home
        # Where no disk is shared, what is read and written goes through DVC's remote, and a process here fetches it.
        self.code = None if execution.shared_disk else code_of(SOURCE)
        self.host: Host | None = None
        self.fetching: dict[
            str, Reply
        ] = {}  # what was done elsewhere, by stage, while its outputs are on their way here
        self.place = Place(uuid.uuid4().hex, home, SOURCE, logs, self.code)
        self.ended: SimpleQueue[tuple[Submitted, Any]] = SimpleQueue()
        self.futures: dict[str, Any] = {}
        self.lost: Counter[str] = Counter()
        self.workers: subprocess.Popen[bytes] | None = None
        self.restarted = 0
        self.known: dict[str, Any] = {}
        self.looked = -math.inf
        self.cluster: Any = None
        self.certificates = home / ".seqlab" / f"certificates-{self.place.run}.json"

    def __enter__(self) -> Self:
        from distributed import Client

        self.place.logs.mkdir(parents=True, exist_ok=True)
        still()
        if self.execution.address is None:
            self._start()
            self.client = Client(self.cluster)
        else:
            try:
                self.client = Client(self.execution.address, timeout=20)
            except OSError as error:
                raise UserError(
                    f"execution.address: no scheduler answers at {self.execution.address} ({error})"
                ) from None
        try:
            self._joined()
            # Whether a stage runs again is decided here, after what it left has ended.
            self.client.run_on_scheduler(_lose_at_once)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    @property
    def slots(self) -> int:
        """Stages at a time: as many as the workers have cores. It grows and shrinks with them."""
        return max(1, sum(int(worker["nthreads"]) for worker in self._known().values()))

    def submit(self, name: str) -> Submitted:
        one = Submitted(name, time.monotonic())
        self._send(one, 0.0)
        return one

    def wait(self, running: Sequence[Submitted], patience: float | None = None) -> list[Finished]:
        until = math.inf if patience is None else time.monotonic() + patience
        while True:
            try:
                one, future = self.ended.get(timeout=min(LOOKING, max(until - time.monotonic(), 0.0)))
            except Empty:
                self._look()
                if time.monotonic() >= until:
                    return []
                continue
            if self.futures.get(one.name) is future:
                del self.futures[one.name]
                if (found := self._finished(one, future)) is not None:
                    return [found]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every stage that still runs, and what was started here."""
        from distributed import Future

        with suppress(Exception):  # whatever has ended already
            if self.futures:
                self.client.cancel([one for one in self.futures.values() if isinstance(one, Future)], force=True)
                self.futures.clear()
            self.client.run(leave, self.place.run)
        if self.host is not None:
            self.host.close()
        with suppress(Exception):
            self.client.close()
        if self.cluster is not None:
            self.cluster.close()
        if self.workers is not None:  # which end with the scheduler
            for end in (self.workers.terminate, self.workers.kill):
                with suppress(subprocess.TimeoutExpired):
                    self.workers.wait(2 * GRACE)
                    break
                end()
            self.workers.wait()
        self.certificates.unlink(missing_ok=True)

    def _start(self) -> None:
        """The scheduler in this process, and its workers."""
        from distributed import LocalCluster
        from distributed.security import Security
        from distributed.utils import get_ip

        security = Security.temporary()
        keys = ("tls_ca_file", *(f"tls_{who}_{what}" for who in ("client", "worker") for what in ("key", "cert")))
        for left in self.certificates.parent.glob("certificates-*.json"):  # by a run that was killed
            left.unlink()
        descriptor = os.open(self.certificates, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({key: getattr(security, key) for key in keys}, file)
        slurm = self.execution.executor == "slurm"
        if slurm and "SLURM_JOB_ID" not in os.environ:
            raise UserError("executor slurm: not inside an allocation; sbatch or salloc starts one (docs/scale.md)")
        self.cluster = LocalCluster(
            n_workers=0,
            host=get_ip() if slurm else LOCAL,  # a node's own name may lead it to itself alone
            protocol="tls://",
            security=security,
            dashboard_address=f"{LOCAL}:0",  # which serves no more than whether it lives
            scheduler_kwargs={"dashboard": False},
            silence_logs=False,
        )
        self._start_workers()

    def _start_workers(self) -> None:
        command = [sys.executable, "-m", "seqlab.executors.worker", self.cluster.scheduler_address]
        command += ["--certificates", str(self.certificates)]
        if self.execution.executor == "slurm":
            if shutil.which("srun") is None:
                raise UserError("executor slurm: there is no srun here")
            # As many workers as the allocation has tasks, each with the cores of one.
            command = ["srun", "--kill-on-bad-exit=0", "--overlap", "--cpus-per-task", _cores_of_a_task(), *command]
        else:
            command += ["--cores", str(self.cores)]
        self.workers = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=with_source(SOURCE),
            start_new_session=True,  # an interrupt from the keyboard reaches this process first
        )

    def _joined(self) -> None:
        deadline = time.monotonic() + JOINING
        while True:
            try:
                self.client.wait_for_workers(1, timeout=LOOKING)
                return
            except TimeoutError:
                self._look()  # a worker may be killed before it has joined
                if time.monotonic() > deadline:
                    raise UserError(
                        f"no worker joined the scheduler in {JOINING:.0f} s; "
                        "`python -m seqlab.executors.worker ADDRESS` on each node starts one"
                    ) from None

    def _known(self) -> dict[str, Any]:
        """The workers, as they were a moment ago."""
        if time.monotonic() - self.looked > LOOKING:
            self.known, self.looked = self.client.scheduler_info(n_workers=-1)["workers"], time.monotonic()
        return self.known

    def _look(self) -> None:
        """Start workers again that were started here and have ended. Raises UserError where the scheduler has."""
        if self.execution.address is not None and self.client.status != "running":
            raise UserError(f"the scheduler at {self.execution.address} is gone; the same command goes on")
        if self.workers is not None and self.workers.poll() is not None:
            self.restarted += 1
            if self.restarted > ATTEMPTS:
                raise UserError(f"the workers ended {ATTEMPTS} times; the same command goes on")
            self._start_workers()

    def _send(self, one: Submitted, pause: float) -> None:
        wanted = vars(self.resources_of(one.name))
        workers = [worker["resources"] for worker in self._known().values()]
        if workers and not any(all(has.get(key, 0) >= n for key, n in wanted.items()) for has in workers):
            best = {key: max(has.get(key, 0) for has in workers) for key in wanted}
            raise UserError(
                f"stage {one.name} takes {_said(wanted)} (execution.resources), and no worker has that; "
                f"the most there is of each: {_said(best)}"
            )
        request = self._request(one.name)
        if self.code is not None and not self.pipeline.travels(one.name):
            self._expect(one, self._here().run(request))
            return
        future = self.client.submit(
            work,
            self.place,
            request,
            pause,
            key=f"{one.name}-{uuid.uuid4().hex}",
            resources={key: n for key, n in wanted.items() if n},
            pure=False,
        )
        self._expect(one, future)

    def _here(self) -> Host:
        """The process that does what must be done on this disk; it ends by itself when it has nothing to do."""
        if self.host is None or self.host.gone:
            self.host = Host(self.home, SOURCE, self.place.logs)
        return self.host

    def _expect(self, one: Submitted, future: Any) -> None:
        self.futures[one.name] = future
        future.add_done_callback(lambda ended: self.ended.put((one, ended)))

    def _request(self, name: str) -> Request:
        travel = None
        if self.code is not None:
            travel = Travel()
            if self.pipeline.travels(name):
                before = {other: self.entries[other] for other in self.pipeline.feeding(name)}
                travel = Travel(before, self.pipeline.values(name))
        return Request(name, self.entries.get(name), self.fit_of(name), self.force, self.pull, travel)

    def _finished(self, one: Submitted, future: Any) -> Finished | None:
        """None where it, or its result, was lost, and it runs again."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            reply: Reply = future.result(GATHERING)
        except TimeoutError:  # it went with its worker: the scheduler has it done again by the next one
            self._expect(one, future)
            self._look()
            return None
        except (LostError, KilledWorker):
            self.lost[one.name] += 1
            self.fetching.pop(one.name, None)
            print(f"seqlab: {one.name}: its worker was lost; it runs again", file=sys.stderr, flush=True)
            if self.lost[one.name] > ATTEMPTS:
                raise UserError(f"stage {one.name}: lost {ATTEMPTS} workers; the same command goes on") from None
            self._send(one, PAUSE)
            return None
        except UnfitError as error:
            raise UserError(str(error)) from None
        except FutureCancelledError:  # which nobody here has asked for
            raise UserError("the scheduler is gone, and its workers with it; the same command goes on") from None
        if one.name in self.fetching and reply.entry is not None:
            reply = self.fetching.pop(one.name)
        elif reply.said is not None and reply.entry is not None:
            self.entries |= reply.entry
            self.fetching[one.name] = reply
            fetch = Request(one.name, self.entries[one.name], None, False, False, Travel(fetch=True))
            self._expect(one, self._here().run(fetch))
            return None
        self.fetching.pop(one.name, None)
        self.entries |= reply.entry or {}
        log = Path(reply.log)
        if reply.said is not None:
            log = self.place.logs / log.name
            log.write_text(reply.said, encoding="utf-8")
        return Finished(one, reply.entry, log)


def _cores_of_a_task() -> str:
    return os.environ.get("SLURM_CPUS_PER_TASK", "1")


def _lose_at_once(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = 0


def _said(resources: dict[str, float]) -> str:
    units = {"cpu": "cores", "memory": "GB", "gpu": "cards"}
    return ", ".join(f"{math.trunc(n * 100) / 100:g} {units[key]}" for key, n in resources.items())
