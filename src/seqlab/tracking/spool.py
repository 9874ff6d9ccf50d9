"""The folder of journals that waits for MLflow: layout, locks, and the start of the one uploader.

    ROOT/journals/KEY/events.jsonl   what a run did, one JSON object a line; its writer holds a flock on it
    ROOT/journals/KEY/files/ID/...   artifacts, copied when they were logged
    ROOT/journals/KEY/state.json     how far MLflow has it (the uploader's)
    ROOT/runs.jsonl                  run key -> MLflow run, for links and for runs that are taken up again
    ROOT/status.json                 what stands in the way of delivery, by tracking URI and by run
    ROOT/identity                    what tells this repository's runs from another one's on the same server
    ROOT/away                        there while a person has been told that MLflow is away, and not yet that it is back
    ROOT/uploader.lock, .log         one uploader a folder: whoever holds the flock
    ROOT/wake                        touched to make the uploader try again at once

Whether a process lives is read from its flock, which the kernel drops when it dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

IDLE_SECONDS = 15.0
"""How long a background uploader waits for another run: starting one costs 2 s of CPU (importing mlflow)."""

FILES = re.compile(r"[0-9a-f]{32}")
"""The folder of an artifact, beside others of the journal."""

_started: list[subprocess.Popen[bytes]] = []
"""Uploaders started by this process. They outlive it; the reference keeps Popen from warning about that."""


class Kept(NamedTuple):
    """A run that MLflow does not have in full."""

    key: str
    name: str
    uri: str
    reason: str


@dataclass
class Delivery:
    """What MLflow has of a journal."""

    uri: str | None = None
    """Where it goes instead of the URI that its events name."""
    run_id: str | None = None
    experiment_id: str | None = None
    name: str = ""
    asked: bool = False
    """A run was asked for, so it may exist although no answer came."""
    offset: int = 0
    """Bytes of events.jsonl that MLflow has."""
    parent_id: str | None = None
    """The run of its system."""
    steps: dict[str, int] = field(default_factory=dict)
    """Highest step of each metric."""
    floor: dict[str, int] = field(default_factory=dict)
    """`steps` when the run was last taken up: what it logs again up to there is known already."""
    status: str | None = None
    """Set once the run has ended."""


class Event(NamedTuple):
    """One line of a journal and the offset at which the next one begins."""

    value: dict[str, Any]
    after: int


@dataclass(frozen=True)
class Journal:
    """One run's folder, as its reader sees it."""

    folder: Path

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        return self.folder / "events.jsonl"

    def events(self, offset: int = 0) -> Iterator[Event]:
        """Whole lines from `offset` on. A last line without its end is still being written, or never will be."""
        with open(self.path, "rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                # What a writer left when it was killed within a line, or when the disk was full, is not JSON; what no
                # writer wrote may be any JSON.
                with contextlib.suppress(ValueError, RecursionError):
                    if _is_event(value := json.loads(line)):
                        yield Event(value, offset)

    def first(self) -> dict[str, Any] | None:
        """The event that began the run, None before it is written."""
        try:
            event = next(self.events(), None)
        except FileNotFoundError:
            return None  # delivered and removed meanwhile
        return event.value if event and event.value["event"] == "start" else None

    def state(self) -> Delivery:
        try:
            return Delivery(**json.loads((self.folder / "state.json").read_bytes()))
        except FileNotFoundError:
            return Delivery()
        except (ValueError, TypeError, RecursionError):
            # The machine lost power before the file reached the disk. Delivering again from the start repeats nothing.
            return Delivery(asked=True)

    def save(self, state: Delivery) -> None:
        write_json(self.folder / "state.json", asdict(state))

    def size(self) -> int:
        return self.path.stat().st_size

    @contextlib.contextmanager
    def abandoned(self) -> Iterator[bool]:
        """Whether no writer holds the journal; none can take it up within the block."""
        with open(self.path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def remove(self) -> None:
        shutil.rmtree(self.folder)


def _is_event(value: Any) -> bool:
    """Whether a line says what happened and when, and names no file outside the journal's own."""
    if not isinstance(value, dict) or not isinstance(value.get("time"), (int, float)):
        return False
    if value.get("event") == "start":
        return isinstance(value.get("uri"), str) and isinstance(value.get("name"), str)
    if value.get("event") in ("artifact", "model"):
        return isinstance(value.get("files"), str) and FILES.fullmatch(value["files"]) is not None
    if value.get("event") == "system":
        return isinstance(value.get("system"), dict)
    if value.get("event") == "experiment":
        return isinstance(value.get("experiment"), str)
    return value.get("event") in ("metrics", "tags", "note", "end")


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_text(json.dumps(value))
    scratch.replace(path)


def journals(root: Path) -> list[Journal]:
    """Every journal that has begun, oldest first: a run that others link to comes before them."""
    begun = []
    for path in (root / "journals").glob("*/events.jsonl"):
        first = (journal := Journal(path.parent)).first()
        if first is not None:
            begun.append((first["time"], journal.key, journal))
    return [journal for _, _, journal in sorted(begun, key=lambda entry: entry[:2])]


def home(folder: Path) -> Path:
    """The repository that a folder's runs belong to.

    DVC runs queued experiments in throw-away copies under .dvc/tmp/exps, and a suite beside the committed one has a
    workspace under suites/; what they track belongs to the repository.
    """
    folder = folder.resolve()
    if folder.parent.name == "suites" and (folder / "pipelines").is_symlink():
        return folder.parents[1]
    for parent in folder.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return folder


def absolute_uri(uri: str, folder: Path) -> str:
    """A SQLite URI with a relative path means the folder's file; any other URI is left as it is."""
    relative = uri.removeprefix("sqlite:///")
    if relative == uri or relative.startswith("/"):
        return uri
    return f"sqlite:///{folder / relative}"


def read_status(root: Path) -> dict[str, dict[str, Any]]:
    """{"unreachable": {uri: {"error", "time"}}, "refused": {key: {"error", "time"}}}, as the last uploader left it."""
    status: dict[str, dict[str, Any]] = {"unreachable": {}, "refused": {}}
    with contextlib.suppress(FileNotFoundError, ValueError, RecursionError):
        found = json.loads((root / "status.json").read_bytes())
        if isinstance(found, dict):
            status |= {key: found[key] for key in status if isinstance(found.get(key), dict)}
    return status


def kept(root: Path) -> list[Kept]:
    """Ended runs (a killed one included) that MLflow does not have in full, oldest first."""
    status = read_status(root)
    found = []
    for journal in journals(root):
        try:
            with journal.abandoned() as ended:
                first = journal.first()
        except FileNotFoundError:
            continue  # delivered and removed meanwhile
        if not ended or first is None:
            continue
        uri = journal.state().uri or first["uri"]
        trouble = status["refused"].get(journal.key) or status["unreachable"].get(uri)
        found.append(Kept(journal.key, first["name"], uri, trouble["error"] if trouble else "not delivered yet"))
    return found


def notice(root: Path) -> str | None:
    """One line for a stage's last words when MLflow could not be reached, None when all is well."""
    status = read_status(root)
    waiting = kept(root)
    parts = []
    for trouble, runs in (
        ("refuses runs", [run for run in waiting if run.key in status["refused"]]),
        (
            "unreachable",
            [run for run in waiting if run.key not in status["refused"] and run.uri in status["unreachable"]],
        ),
    ):
        if runs:
            uris = ", ".join(sorted({run.uri for run in runs}))
            count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
            parts.append(f"MLflow {trouble} at {uris}: {count} kept under {root}, replayed by the next run")
    return "; ".join(parts) or None


def announcement(root: Path) -> str | None:
    """What a person is to hear now: that MLflow is away, once, or that it has everything again, once.

    However many processes ask, one of them is given the line.
    """
    away, line = root / "away", notice(root)
    if line is not None:
        try:
            with open(away, "x", encoding="utf-8") as file:
                file.write(json.dumps(sorted(_troubled(root))))
        except FileExistsError:
            return None
        return line
    # The uploader notes the end of a trouble at the end of a pass, when all that was kept has been delivered.
    if not away.exists() or _troubled(root):
        return None
    try:
        uris = ", ".join(json.loads(away.read_text(encoding="utf-8") or "[]"))
        away.unlink()
    except (FileNotFoundError, ValueError):
        return None  # another process says it, or is writing it
    return f"MLflow answers again{uris and f' at {uris}'}: every kept run is delivered"


def _troubled(root: Path) -> set[str]:
    """The URIs that do not answer, or refuse a run."""
    status, uris = read_status(root), {run.key: run.uri for run in kept(root)}
    return {*status["unreachable"], *(uris.get(key, "") for key in status["refused"])} - {""}


def identity(root: Path) -> str:
    """A name that no other repository has, made once."""
    path = root / "identity"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".identity.{uuid.uuid4().hex}")
        scratch.write_text(uuid.uuid4().hex)
        # The first of several wins, and none sees half a name.
        with contextlib.suppress(FileExistsError):
            os.link(scratch, path)
        scratch.unlink()
    return path.read_text()


def uploader_lock(root: Path) -> int | None:
    """A descriptor that holds the uploader's lock, None where another process holds it."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / "uploader.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def ensure_uploader(root: Path, folder: Path, idle: float | None = None) -> None:
    """Start an uploader in the background unless one runs; `folder` is its working directory.

    The lock is taken here and handed down as an open descriptor, so that two stages never start two. An uploader that
    is about to leave looks at the journals once more after it has let go: begin the journal before calling this.
    """
    lock = uploader_lock(root)
    if lock is None:
        return
    idle = IDLE_SECONDS if idle is None else idle
    command = [sys.executable, "-m", "seqlab.tracking", str(root), "--idle", str(idle), "--lock", str(lock)]
    # What belongs to the stage's own run must not reach the uploader, which serves all of them.
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")}
    try:
        with open(root / "uploader.log", "wb") as log:
            _started.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],
                    start_new_session=True,
                )
            )
    finally:
        os.close(lock)


def flush(root: Path, timeout: float) -> list[Kept]:
    """Wait until MLflow has every ended run and return those it does not have, each with the reason.

    Returns early when the uploader has tried since the call and could not. `timeout` is in seconds.
    """
    root = root.resolve()
    called = time.time()
    deadline = time.monotonic() + timeout
    root.mkdir(parents=True, exist_ok=True)
    (root / "wake").touch()
    while waiting := kept(root):
        if time.monotonic() > deadline:
            break
        status = read_status(root)
        tried = {uri for uri, trouble in status["unreachable"].items() if trouble["time"] > called}
        refused = {key for key, trouble in status["refused"].items() if trouble["time"] > called}
        if all(run.uri in tried or run.key in refused for run in waiting):
            break
        ensure_uploader(root, home(Path.cwd()), idle=0.0)
        time.sleep(0.05)
    return waiting


def redirect(root: Path, uri: str, timeout: float) -> None:
    """Send all kept runs, in full, to another tracking URI. Raises TimeoutError while an uploader does not leave."""
    deadline = time.monotonic() + timeout
    while (lock := uploader_lock(root)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{root}: an uploader is still at work after {timeout} s")
        time.sleep(0.05)
    try:
        uri = absolute_uri(uri, home(Path.cwd()))
        for journal in journals(root):
            if journal.state().uri != uri:
                journal.save(Delivery(uri=uri))
    finally:
        os.close(lock)
