"""A run as its stage sees it: every event becomes a line of a local file, and nothing waits for MLflow.

    system = System("default", "strings", "rnn", "full")
    with Run(root, tracking, experiment="strings", name="rnn·full·s0 finetune", system=system, ...) as run:
        run.metrics({"train/loss": 1.2}, step=10)
        run.artifact(folder / "model.safetensors", "model")

The uploader (`seqlab.tracking.upload`) follows the file and feeds MLflow. A process that is killed leaves its journal,
which says so by having no end; the same key takes the run up again.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal, Self, SupportsFloat

from seqlab.errors import Interrupted
from seqlab.execution import Tracking
from seqlab.tracking.names import KIND, NOTE, STAGE
from seqlab.tracking.spool import absolute_uri, announcement, ensure_uploader, home, identity
from seqlab.tracking.systems import Note, Sweep, System
from seqlab.tracking.views import View

log = logging.getLogger(__name__)

_continued: set[str] = set()
"""Runs of `mlflow run` that a run of this process has taken up already."""


class Run:
    """One MLflow run, kept in a local journal.

    Never raises on account of tracking: what cannot be written is reported once through `logging` and left out.

    root: folder of the journals, relative to the repository.
    experiment: the part of the experiment's name after the prefix.
    tags, params: strings by name, values of any JSON-able type; params is the flattened configuration.
    config_text: the resolved configuration as YAML, kept as config.yaml.
    inputs: data sets by name: `path`, `sha256` and whatever else describes them.
    links: keys of the runs that this one builds on, by the part they play ("pretrain").
    key: the run's key; that of a killed run takes it up again.
    system: whose run is the parent; None: none.
    note: what the run says of itself.
    kind: what it is, a tag to filter by.
    """

    def __init__(
        self,
        root: Path,
        tracking: Tracking,
        *,
        experiment: str,
        name: str,
        tags: Mapping[str, Any],
        params: Mapping[str, Any],
        config_text: str | None = None,
        inputs: Mapping[str, Mapping[str, Any]] | None = None,
        links: Mapping[str, str] | None = None,
        key: str | None = None,
        system: System | Sweep | None = None,
        note: Note | None = None,
        kind: Literal["stage", "comparison"] = STAGE,
    ) -> None:
        self.key = key or uuid.uuid4().hex
        self._home = home(Path.cwd())
        self._root = self._home / root
        self._interval = tracking.system_interval
        self._write_lock = threading.Lock()
        self._torn = False
        self._troubled = False
        self._descriptor: int | None = None
        self._closing = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="system metrics", daemon=True)
        # Inside `mlflow run` the run exists already, at the URI in the environment.
        project_run = os.environ.get("MLFLOW_RUN_ID")
        uri = os.environ.get("MLFLOW_TRACKING_URI", tracking.uri) if project_run else tracking.uri
        self._start: dict[str, Any] = {
            "uri": absolute_uri(uri, self._home),
            "experiment": f"{tracking.prefix}/{experiment}",
            "name": name,
            "tags": {KIND: kind, **_origin(tracking.results), **_input_hashes(inputs or {}), **tags},
            "params": dict(params),
            "config": config_text,
            "inputs": {k: dict(v) for k, v in (inputs or {}).items()},
            "links": dict(links or {}),
            "note": None if note is None else note.text,
            **_project(project_run),
        }
        self._prefix = tracking.prefix
        self._system = system

    def __enter__(self) -> Self:
        try:
            self._descriptor = self._take()
            parent = {} if self._system is None else {"system": self._event_of(self._system)}
            self._write("start", **self._start, **parent)
            ensure_uploader(self._root, self._home)
        except OSError as error:
            self._trouble(error)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._sampler.join()
        try:
            self.metrics(_peaks())
        except (OSError, RuntimeError) as trouble:  # a broken CUDA context answers nothing
            self._trouble(trouble)
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self._write("end", status="FINISHED")
        else:
            status = "KILLED" if isinstance(error, (KeyboardInterrupt, Interrupted)) else "FAILED"
            self._write("end", status=status, error=f"{type(error).__name__}: {error}".rstrip(": "))
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._announce()

    def metrics(self, values: Mapping[str, SupportsFloat], step: int | None = None) -> None:
        """Log values at a step; without one each value comes after the last of its name.

        A run that was taken up again may log steps it had logged before: the first of them stays.
        """
        if values:
            self._write("metrics", step=step, values={name: float(value) for name, value in values.items()})

    def tags(self, values: Mapping[str, Any]) -> None:
        """Set tags, such as the hashes of outputs."""
        self._write("tags", values=dict(values))

    def note(self, text: str) -> None:
        """Put `text` (Markdown), such as a verdict, above what the run says of itself."""
        self._write("note", text=text)

    def system(self, system: System, values: Mapping[str, SupportsFloat], note: Note | None = None) -> None:
        """Log what a comparison found of a system, on that system's own run, which is the parent of its stages.

        Each comparison adds a point to every metric; the newest is what tables and charts show.
        """
        try:
            event = self._event_of(system)
        except OSError as error:
            self._trouble(error)
        else:
            numbers = {name: float(value) for name, value in values.items()}
            self._write("system", system=event, values=numbers, note=None if note is None else note.text)

    def experiment(self, domain: str, view: View, description: str) -> None:
        """Give the experiment of a domain a view of its systems, and a description (Markdown), such as a verdict."""
        name, value = view.tag(time.time_ns() // 1_000_000)
        tags = {name: value, NOTE: description}
        self._write("experiment", experiment=f"{self._prefix}/{domain}", suite=view.suite, tags=tags)

    def artifact(self, path: Path, to: str = "") -> None:
        """Keep a file or a folder under `to`, as it is now: it may be overwritten afterwards."""
        try:
            place = self._place()
            if path.is_dir():
                shutil.copytree(path, place / path.name)
            else:
                shutil.copyfile(path, place / path.name)
        except OSError as error:
            self._trouble(error)
        else:
            self._write("artifact", files=place.name, to=to)

    def text(self, text: str, to: str) -> None:
        """Keep a text as the file `to`."""
        folder, _, name = to.rpartition("/")
        try:
            place = self._place()
            (place / name).write_text(text, encoding="utf-8")
        except OSError as error:
            self._trouble(error)
        else:
            self._write("artifact", files=place.name, to=folder)

    def model(self, folder: Path, name: str, answer: str, tags: Mapping[str, Any]) -> None:
        """Keep a system's folder and register it as a version of `name`, with the alias `best`.

        folder: as `seqlab.load` takes it. answer: the question that it is registered for, such as "forecast". tags: of
        the version, such as family and score.
        """
        try:
            place = self._place()
            shutil.copytree(folder, place / "model")
        except OSError as error:
            self._trouble(error)
        else:
            self._write("model", files=place.name, name=name, answer=answer, tags=dict(tags))

    def _event_of(self, system: System | Sweep) -> dict[str, Any]:
        event = system.event(identity(self._root))
        return event | {"experiment": f"{self._prefix}/{event['experiment']}"}

    def _announce(self) -> None:
        """Say once that MLflow is away, and once that it has everything again."""
        try:
            line = announcement(self._root)
        except OSError as error:
            self._trouble(error)
        else:
            if line is not None:
                log.warning(line)

    def _place(self) -> Path:
        place = self._root / "journals" / self.key / "files" / uuid.uuid4().hex
        place.mkdir(parents=True)
        return place

    def _take(self) -> int:
        """Open the journal and lock it for as long as this process lives."""
        deadline = time.monotonic() + 1.0
        while True:
            path = self._root / "journals" / self.key / "events.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
            except FileNotFoundError:
                continue  # the uploader removed the folder of a delivered run between the two calls
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    break
            except BlockingIOError:
                # The uploader holds it for an instant at a time; a living writer for good.
                if time.monotonic() > deadline:
                    log.warning("tracking: another process still writes run %s, so a new run begins", self.key)
                    self.key = uuid.uuid4().hex
            os.close(descriptor)
            time.sleep(0.01)
        size = os.fstat(descriptor).st_size
        self._torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        return descriptor

    def _write(self, event: str, **fields: Any) -> None:
        line = json.dumps({"event": event, "time": time.time_ns() // 1_000_000, **fields}, default=str).encode() + b"\n"
        with self._write_lock:
            if self._descriptor is None:
                return
            if self._torn:
                line = b"\n" + line
            try:
                self._torn = os.write(self._descriptor, line) < len(line)
            except OSError as error:
                self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        if not self._troubled:
            log.warning("tracking: %s is incomplete: %s", self._start["name"], error)
        self._troubled = True

    def _sample(self) -> None:
        """The sampler's thread: system metrics at intervals and once more when the run closes."""
        import psutil

        try:
            self._sample_system(psutil)
        except (OSError, RuntimeError, psutil.Error) as error:  # a sandbox without /proc, a broken CUDA context
            self._trouble(error)

    def _sample_system(self, psutil: ModuleType) -> None:
        """The names are those of MLflow's own monitors, so its page of system metrics shows them."""
        psutil.cpu_percent()
        before = psutil.net_io_counters()
        closing = False
        while not closing:
            closing = self._closing.wait(self._interval)
            memory = psutil.virtual_memory()
            disk = psutil.disk_usage(str(self._home))
            values = {
                "system/cpu_utilization_percentage": psutil.cpu_percent(),
                "system/system_memory_usage_megabytes": memory.used / 1e6,
                "system/system_memory_usage_percentage": memory.percent,
                "system/disk_usage_percentage": disk.percent,
                "system/disk_available_megabytes": disk.free / 1e6,
            }
            now = psutil.net_io_counters()
            if before and now:  # None on a machine without a network interface
                values["system/network_receive_megabytes"] = (now.bytes_recv - before.bytes_recv) / 1e6
                values["system/network_transmit_megabytes"] = (now.bytes_sent - before.bytes_sent) / 1e6
            self.metrics(values | _gpu_memory())


class Unrecorded(Run):
    """The run of a process that leaves reporting to another, such as a further rank of a distributed training."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def metrics(self, values: Mapping[str, SupportsFloat], step: int | None = None) -> None:
        pass

    def tags(self, values: Mapping[str, Any]) -> None:
        pass

    def artifact(self, path: Path, to: str = "") -> None:
        pass

    def text(self, text: str, to: str) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def system(self, system: System, values: Mapping[str, SupportsFloat], note: Note | None = None) -> None:
        pass

    def experiment(self, domain: str, view: View, description: str) -> None:
        pass

    def model(self, folder: Path, name: str, answer: str, tags: Mapping[str, Any]) -> None:
        pass


def _cuda() -> Any:
    """torch.cuda where this process uses it: neither importing torch nor waking a device is tracking's business."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_initialized() else None


def _gpu_memory() -> dict[str, float]:
    """Memory in use on each device, all processes together."""
    cuda = _cuda()
    values = {}
    for device in range(cuda.device_count() if cuda else 0):
        free, total = cuda.mem_get_info(device)
        values[f"system/gpu_{device}_memory_usage_megabytes"] = (total - free) / 1e6
        values[f"system/gpu_{device}_memory_usage_percentage"] = 100 * (total - free) / total
    return values


def _peaks() -> dict[str, float]:
    """Peak memory of this process, and of its tensors on each device, in megabytes."""
    values = {"system/process_peak_memory_megabytes": _peak_resident() / 1e6}
    cuda = _cuda()
    for device in range(cuda.device_count() if cuda else 0):
        values[f"system/gpu_{device}_peak_memory_megabytes"] = cuda.max_memory_allocated(device) / 1e6
    return values


def _peak_resident() -> int:
    """Bytes."""
    with contextlib.suppress(FileNotFoundError), open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    # Second choice: where there is /proc, this maximum includes the parent that the process was forked from.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _project(run_id: str | None) -> dict[str, str]:
    """How a run relates to the one that `mlflow run` made.

    The stage that `mlflow run` started continues it. Under `mlflow run -e main` many stages share the environment, as
    do the jobs of a multirun: each is then a child.
    """
    if run_id is None:
        return {}
    if "DVC_STAGE" in os.environ or run_id in _continued:
        return {"parent": run_id}
    _continued.add(run_id)
    return {"run_id": run_id}


def _origin(results: list[str]) -> dict[str, str]:
    """Tags that say who ran what: user, program, commit, and whether tracked files differ from it."""
    tags = {
        "mlflow.user": _user(),
        "mlflow.source.name": sys.argv[0] or "python",
        "mlflow.source.type": "LOCAL",
    }
    # One call: the header has the commit, any further line is a change. Untracked files do not count, as in
    # `git describe --dirty`: looking for them walks the data.
    exclude = [f":(exclude,top){path}" for path in results]
    command = ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", ":/", *exclude]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=2, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return tags  # no git, or not a repository: the run has no commit
    header = {line.split()[1]: line.split()[2] for line in found if line.startswith("# ")}
    if header["branch.oid"] == "(initial)":
        return tags
    return tags | {
        "mlflow.source.git.commit": header["branch.oid"],
        "mlflow.source.git.branch": header["branch.head"],
        "mlflow.source.git.dirty": str(any(not line.startswith("# ") for line in found)).lower(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # a container's user without a name


def _input_hashes(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {f"input.{name}.sha256": value["sha256"] for name, value in inputs.items() if "sha256" in value}
