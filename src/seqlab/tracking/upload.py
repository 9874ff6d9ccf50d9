"""Feed MLflow from the journals. The only module of seqlab that imports mlflow, beside those that serve models.

A point reaches MLflow once: the offset up to which a journal was delivered is saved after each batch, and a batch that
is sent again because the uploader died in between carries the same timestamps, which makes it the same rows of MLflow's
primary key (run, metric, step, timestamp, value). What a run that was taken up again logs a second time, with other
timestamps, is left out by its steps.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as database
from sqlalchemy.exc import SQLAlchemyError

from seqlab.artifacts import sha256
from seqlab.errors import UserError
from seqlab.tracking.names import NOTE, clean
from seqlab.tracking.spool import Delivery, Journal, absolute_uri, journals, read_status, uploader_lock, write_json
from seqlab.tracking.views import TRAINING, run_address, runs_address

log = logging.getLogger(__name__)

# The uploader itself tries again: ten tries inside MLflow would hold up the other stores for three minutes.
database.MAX_RETRY_COUNT = 0

POLL_SECONDS = 2.0
"""Between two looks at the journals: how far curves lag behind training."""
LONGEST_PAUSE = 60.0
"""Seconds between two tries of a store that does not answer, after doubling from POLL_SECONDS."""

# MLflow's limits.
METRICS_PER_BATCH = 1000
ENTRIES_PER_BATCH = 100
LONGEST_PARAM = 6000
LONGEST_TAG = 8000
LONGEST_DIGEST = 36

REFUSALS = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
"""MLflow's answers about one run. Any other error is about the store, and every run of that store waits."""

KEY_TAG = "seqlab.key"
PARENT = "mlflow.parentRunId"
SERVED = "served"  # the artifacts that hold registered models
BEST = "best"  # the alias of the version that the newest comparison found best

T = TypeVar("T")


class Delivered(NamedTuple):
    """A line of runs.jsonl: where a run went, and what is needed to link to it or to take it up again."""

    key: str
    uri: str
    run_id: str
    experiment_id: str
    name: str
    steps: dict[str, int]


@dataclass
class Pause:
    """A store that did not answer is left alone until `until` (time.monotonic)."""

    until: float
    seconds: float


@dataclass
class Points:
    """Points on their way, and the offset of the journal that they reach up to."""

    metrics: list[Metric] = field(default_factory=list)
    after: int = 0


class Uploader:
    """Delivers the journals under `root`; the caller holds the uploader's lock.

    `run` works until nothing is left to do; `deliver_all` is one pass.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._clients: dict[str, MlflowClient] = {}
        self._experiments: dict[tuple[str, str], str] = {}
        self._systems: dict[tuple[str, str], str] = {}
        self._pauses: dict[str, Pause] = {}
        self._refused: dict[str, int] = {}
        """Size of a journal when MLflow refused it: it is tried again when it has grown, or by the next uploader."""
        self._status = read_status(root)
        self._runs = {(run.key, run.uri): run for run in self._read_runs()}
        self._woken = self._wake_time()
        self._tidy()

    def run(self, idle: float, lock: int) -> None:
        """Deliver until there is nothing to do for `idle` seconds, then let go of `lock`."""
        while True:
            last_busy = time.monotonic()
            while (busy := self.deliver_all()) or time.monotonic() - last_busy < idle:
                if busy:
                    last_busy = time.monotonic()
                self._sleep()
            os.close(lock)
            # A stage that found the lock held began its journal before, so it is seen now.
            if not self._work_left():
                return
            again = uploader_lock(self.root)
            if again is None:
                return
            lock = again

    def deliver_all(self) -> bool:
        """One pass over all journals, oldest first. True while a run is being written or could still be delivered."""
        if self._wake_time() > self._woken:
            self._woken = self._wake_time()
            self._pauses.clear()
            self._refused.clear()
        for journal in journals(self.root):
            with contextlib.suppress(FileNotFoundError):
                if self._due(journal):
                    self._try(journal)
        present = {journal.key: self._uri(journal) for journal in journals(self.root)}
        self._status["refused"] = {k: v for k, v in self._status["refused"].items() if k in present}
        self._status["unreachable"] = {k: v for k, v in self._status["unreachable"].items() if k in present.values()}
        write_json(self.root / "status.json", self._status)
        return self._work_left()

    def _work_left(self) -> bool:
        for journal in journals(self.root):
            with journal.abandoned() as ended:
                if not ended or (self._uri(journal) not in self._pauses and journal.key not in self._refused):
                    return True
        return False

    def _due(self, journal: Journal) -> bool:
        pause = self._pauses.get(self._uri(journal))
        return (pause is None or time.monotonic() >= pause.until) and self._refused.get(journal.key) != journal.size()

    def _uri(self, journal: Journal) -> str:
        first = journal.first()
        assert first is not None, journal
        return journal.state().uri or first["uri"]

    def _try(self, journal: Journal) -> None:
        uri, size = self._uri(journal), journal.size()
        try:
            self._deliver(journal, uri)
        except Exception as error:
            # Whatever it is, the other runs go on, this one is kept, and the reason is there to be read.
            self._systems.clear()  # one of them may have been deleted
            reason = {"error": f"{type(error).__name__}: {error}".splitlines()[0], "time": time.time()}
            if _about_the_store(error):
                pause = self._pauses.get(uri)
                seconds = min(2 * pause.seconds, LONGEST_PAUSE) if pause else POLL_SECONDS
                self._pauses[uri] = Pause(time.monotonic() + seconds, seconds)
                self._status["unreachable"][uri] = reason
                log.warning("%s: %s", uri, error)
            else:
                self._refused[journal.key] = size
                self._status["refused"][journal.key] = reason
                log.exception("%s", journal.folder)
        else:
            self._pauses.pop(uri, None)
            self._refused.pop(journal.key, None)
            self._status["unreachable"].pop(uri, None)
            self._status["refused"].pop(journal.key, None)

    def _deliver(self, journal: Journal, uri: str) -> None:
        """Bring MLflow up to the journal's end; close the run and remove the journal once its writer is gone."""
        client = self._client(uri)
        state = journal.state()
        with journal.abandoned() as ended:
            size = journal.size()
        batch = Points(after=state.offset)
        for event, after in journal.events(state.offset):
            if event["event"] == "metrics":
                batch.metrics += _points(event, state)
                batch.after = after
                if len(batch.metrics) >= METRICS_PER_BATCH:
                    self._send(client, journal, state, batch)
                continue
            self._send(client, journal, state, batch)
            self._apply(client, uri, journal, state, event)
            state.offset = after
            journal.save(state)
            batch.after = after
        self._send(client, journal, state, batch)
        if ended:
            self._close(client, uri, journal, state, size)

    def _apply(
        self, client: MlflowClient, uri: str, journal: Journal, state: Delivery, event: Mapping[str, Any]
    ) -> None:
        """Do what one event says. Doing it again, after a death before the offset was saved, changes nothing."""
        match event["event"]:
            case "start":
                self._start(client, uri, journal, state, event)
            case "tags":
                _log_tags(client, _run_id(state), event["values"])
            case "note":
                self._note(client, state, event["text"])
            case "system":
                self._compared(client, uri, state, event)
            case "experiment":
                self._describe(client, uri, state, event)
            case "artifact":
                files = journal.folder / "files" / event["files"]
                if not files.is_dir():  # log_artifacts would take it for an empty folder
                    raise FileNotFoundError(f"{files}: an artifact is missing")
                client.log_artifacts(_run_id(state), str(files), artifact_path=event["to"] or None)
            case "model":
                _register(client, _run_id(state), journal.folder / "files" / event["files"], event)
            case "end":
                _end(client, state, event["status"], event["time"], event.get("error"))

    def _send(self, client: MlflowClient, journal: Journal, state: Delivery, batch: Points) -> None:
        if batch.after == state.offset:
            return
        for metrics in _slices(batch.metrics, METRICS_PER_BATCH):
            client.log_batch(_run_id(state), metrics=metrics)
        batch.metrics.clear()
        state.offset = batch.after
        journal.save(state)

    def _start(
        self, client: MlflowClient, uri: str, journal: Journal, state: Delivery, event: Mapping[str, Any]
    ) -> None:
        """Create the run, or take it up again, and log what is known at its start."""
        known = self._runs.get((journal.key, uri))
        if state.run_id is None and known is not None:
            state.run_id, state.experiment_id, state.steps = known.run_id, known.experiment_id, dict(known.steps)
        if state.run_id is None:
            self._create(client, uri, journal, state, event)
        state.name, state.status, state.floor = event["name"], None, dict(state.steps)
        run_id = _run_id(state)
        client.update_run(run_id, status="RUNNING", name=event["name"])
        run = client.get_run(run_id)
        state.experiment_id = run.info.experiment_id
        tags = {KEY_TAG: journal.key, **event["tags"]}
        if event.get("run_id") == run_id:
            # `mlflow run` has said where the program comes from.
            tags = {name: value for name, value in tags.items() if name not in run.data.tags}
        if "parent" in event:
            tags[PARENT] = event["parent"]
        elif "system" in event and event.get("run_id") != run_id:
            state.parent_id = tags[PARENT] = self._system(client, uri, event["system"], event["time"])
        links, lines = self._links(uri, event["links"])
        if note := "\n\n".join(filter(None, (event.get("note"), lines))):
            tags[NOTE] = note
        _log_tags(client, run_id, tags | links)
        _log_params(client, run_id, event["params"], run.data.params)
        if event["config"] is not None:
            client.log_text(run_id, event["config"], "config.yaml")
        if event["inputs"]:
            client.log_inputs(run_id, datasets=[_dataset(name, value) for name, value in event["inputs"].items()])
        self._remember(journal, uri, state)

    def _create(
        self, client: MlflowClient, uri: str, journal: Journal, state: Delivery, event: Mapping[str, Any]
    ) -> None:
        if "run_id" in event and _exists(client, event["run_id"]):
            state.run_id = event["run_id"]
            return
        experiment = self._experiment(client, uri, event["experiment"])
        if state.asked:
            found = client.search_runs([experiment], filter_string=f"tags.`{KEY_TAG}` = '{journal.key}'", max_results=1)
            state.run_id = found[0].info.run_id if found else None
        if state.run_id is None:
            state.asked = True
            journal.save(state)
            run = client.create_run(
                experiment, start_time=event["time"], tags={KEY_TAG: journal.key}, run_name=event["name"]
            )
            state.run_id = run.info.run_id
        journal.save(state)

    def _close(self, client: MlflowClient, uri: str, journal: Journal, state: Delivery, size: int) -> None:
        """End the run of a dead writer and remove the journal, unless somebody has taken the run up meanwhile."""
        if state.run_id is not None and state.status is None:
            last = max(event["time"] for event, _ in journal.events())
            _end(client, state, "KILLED", last, "the process died without a word (killed, or out of memory)")
            journal.save(state)
        with journal.abandoned() as ended:
            if ended and journal.size() == size:
                if state.run_id is not None:
                    self._remember(journal, uri, state)
                # Out of the way in one step: half a folder would mislead whoever takes the run up.
                journal.path.parent.rename(aside := self.root / "delivered" / journal.key)
                Journal(aside).remove()

    def _system(self, client: MlflowClient, uri: str, system: Mapping[str, Any], time: int) -> str:
        """The run of a system: the one that carries its key, or a new one.

        Looked for in MLflow and not in runs.jsonl: a reader may have deleted it.
        """
        if (system["key"], uri) not in self._systems:
            experiment = self._experiment(client, uri, system["experiment"])
            found = client.search_runs([experiment], f"tags.`{KEY_TAG}` = '{system['key']}'", max_results=1)
            tags = {KEY_TAG: system["key"], **system["tags"]}
            run = found[0] if found else client.create_run(experiment, time, tags, system["name"])
            self._systems[system["key"], uri] = run.info.run_id
        return self._systems[system["key"], uri]

    def _compared(self, client: MlflowClient, uri: str, state: Delivery, event: Mapping[str, Any]) -> None:
        """What a comparison found of a system. Every point is of step 0: MLflow draws bars of such metrics."""
        run_id = self._system(client, uri, event["system"], event["time"])
        points = [Metric(clean(name), value, event["time"], 0) for name, value in event["values"].items()]
        client.log_batch(run_id, metrics=points)
        experiment = self._experiment(client, uri, event["system"]["experiment"])
        link = f"* compared by [{state.name}]({run_address(_experiment_id(state), _run_id(state))})"
        charts = f"* [beside the other systems]({runs_address(experiment, event['system']['tags']['suite'], True)})"
        note = "\n\n".join(filter(None, (event["note"], f"{link}\n{charts}")))
        _log_tags(client, run_id, {NOTE: note, "link.compare": _run_id(state)})
        client.set_terminated(run_id, "FINISHED", event["time"])

    def _describe(self, client: MlflowClient, uri: str, state: Delivery, event: Mapping[str, Any]) -> None:
        """Tags of an experiment, its description with the addresses of its table and its charts."""
        experiment = self._experiment(client, uri, event["experiment"])
        lines = [
            f"* [{text}]({runs_address(experiment, event['suite'], charts)})"
            for text, charts in (("all systems, as a table", False), ("all systems, as charts", True))
        ]
        lines.append(f"* compared by [{state.name}]({run_address(_experiment_id(state), _run_id(state))})")
        for name, value in event["tags"].items():
            text = f"{value}\n\n" + "\n".join(lines) if name == NOTE else value
            client.set_experiment_tag(experiment, name, text)
        table, charts = (runs_address(experiment, event["suite"], charts) for charts in (False, True))
        self._below(client, state, f"* {event['experiment']}: [table]({table}), [charts]({charts})")

    def _note(self, client: MlflowClient, state: Delivery, text: str) -> None:
        """Put `text` above the run's description. What is sent again stands there already."""
        before = client.get_run(_run_id(state)).data.tags.get(NOTE, "")
        if not before.startswith(text):
            _log_tags(client, _run_id(state), {NOTE: f"{text}\n\n{before}".strip()})

    def _below(self, client: MlflowClient, state: Delivery, line: str) -> None:
        """Put a line below the run's description, once."""
        before = client.get_run(_run_id(state)).data.tags.get(NOTE, "")
        if line not in before:
            gap = "\n" if before.rpartition("\n")[2].startswith("* ") else "\n\n"
            _log_tags(client, _run_id(state), {NOTE: f"{before}{gap}{line}".strip()})

    def _links(self, uri: str, links: Mapping[str, str]) -> tuple[dict[str, str], str]:
        """Tags that name the runs this one builds on, and Markdown from which they can be clicked."""
        tags, lines = {}, []
        for role, key in links.items():
            tags[f"link.{role}.key"] = key
            target = self._runs.get((key, uri))
            if target is not None:
                tags[f"link.{role}"] = target.run_id
                lines.append(f"* {role}: [{target.name}]({run_address(target.experiment_id, target.run_id)})")
        return tags, "\n".join(lines)

    def _client(self, uri: str) -> MlflowClient:
        if uri not in self._clients:
            # Beside a SQLite file MLflow keeps artifacts in ./mlruns: where `mlflow ui`, started there, looks.
            folder = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else self.root
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.chdir(folder):
                self._clients[uri] = MlflowClient(tracking_uri=uri)
        return self._clients[uri]

    def _experiment(self, client: MlflowClient, uri: str, name: str) -> str:
        if (uri, name) not in self._experiments:
            found = client.get_experiment_by_name(name)
            if found is None:
                try:
                    created = client.create_experiment(name, tags=TRAINING)
                except MlflowException as error:
                    # Another repository on the same server was quicker.
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = client.get_experiment_by_name(name)
            self._experiments[uri, name] = created if found is None else found.experiment_id
        return self._experiments[uri, name]

    def _read_runs(self) -> Iterator[Delivered]:
        with contextlib.suppress(FileNotFoundError), open(self.root / "runs.jsonl", "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError):  # a line whose writer was killed
                    yield Delivered(**json.loads(line))

    def _remember(self, journal: Journal, uri: str, state: Delivery) -> None:
        assert state.experiment_id is not None
        run = Delivered(journal.key, uri, _run_id(state), state.experiment_id, state.name, dict(state.steps))
        if self._runs.get((journal.key, uri)) != run:
            with open(self.root / "runs.jsonl", "ab") as file:
                file.write(b"\n" * bool(file.tell()) + json.dumps(run._asdict()).encode())
            self._runs[journal.key, uri] = run

    def _tidy(self) -> None:
        """Finish removing what an earlier uploader was removing when it died."""
        aside = self.root / "delivered"
        aside.mkdir(parents=True, exist_ok=True)
        for folder in aside.iterdir():
            Journal(folder).remove()

    def _wake_time(self) -> float:
        try:
            return (self.root / "wake").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def _sleep(self) -> None:
        """Until the next look at the journals; `flush` wakes it."""
        end = time.monotonic() + POLL_SECONDS
        while time.monotonic() < end and self._wake_time() == self._woken:
            time.sleep(0.1)


def _about_the_store(error: Exception) -> bool:
    """Whether every run of the same store would meet it: no answer, a locked or full disk, another version."""
    if isinstance(error, MlflowException):
        return error.error_code not in REFUSALS
    return isinstance(error, (OSError, SQLAlchemyError)) and not isinstance(error, FileNotFoundError)


def _run_id(state: Delivery) -> str:
    if state.run_id is None:
        raise ValueError("an event comes before the run's start")
    return state.run_id


def _experiment_id(state: Delivery) -> str:
    if state.experiment_id is None:
        raise ValueError("an event comes before the run's start")
    return state.experiment_id


class Read(NamedTuple):
    """What a store keeps of a run."""

    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, float]


def read_run(uri: str, root: Path, word: str) -> Read:
    """The run whose id, or whose key, begins with `word`. root: where a relative SQLite file lies.

    Raises UserError where no run has it, or several have.
    """
    client = MlflowClient(tracking_uri=absolute_uri(uri, root))
    experiments = [one.experiment_id for one in client.search_experiments()]
    found: dict[str, Any] = {}
    for what in ("attributes.run_id", f"tags.`{KEY_TAG}`"):
        for run in client.search_runs(experiments, f"{what} LIKE '{word}%'", max_results=2):
            found[run.info.run_id] = run.data
    if len(found) != 1:
        many = f"several runs have it: {', '.join(found)}" if found else "no run has it"
        raise UserError(f"run {word}: {many}, in {uri}")
    [data] = found.values()
    return Read(dict(data.params), dict(data.tags), dict(data.metrics))


def _exists(client: MlflowClient, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _points(event: Mapping[str, Any], state: Delivery) -> list[Metric]:
    """The event's points but those that the run logged before it was taken up again; keeps count of the steps."""
    points = []
    for raw, value in event["values"].items():
        name = clean(raw)
        last = state.steps.get(name, -1)
        step = last + 1 if event["step"] is None else event["step"]
        if step > state.floor.get(name, -1):
            points.append(Metric(name, value, event["time"], step))
            state.steps[name] = max(last, step)
    return points


def _log_tags(client: MlflowClient, run_id: str, tags: Mapping[str, Any]) -> None:
    entries = [RunTag(clean(name), str(value)[:LONGEST_TAG]) for name, value in tags.items()]
    for part in _slices(entries, ENTRIES_PER_BATCH):
        client.log_batch(run_id, tags=part)


def _log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any], logged: Mapping[str, str]) -> None:
    """Params cannot be changed: those that the run has (from `mlflow run`, or from before it was killed) stay."""
    entries = []
    for raw, value in params.items():
        name, text = clean(raw), str(value)
        if name in logged:
            continue
        if len(text) > LONGEST_PARAM:
            client.log_text(run_id, text, f"params/{name}.txt")
            text = f"({len(text)} characters: see config.yaml or params/{name}.txt)"
        entries.append(Param(name, text))
    for part in _slices(entries, ENTRIES_PER_BATCH):
        client.log_batch(run_id, params=part)


def _register(client: MlflowClient, run_id: str, files: Path, event: Mapping[str, Any]) -> None:
    """Make a served model of a system's folder and a version of its name of it, which gets the alias `best`.

    Where a version holds the same already, after a delivery that was cut off or when another comparison finds the same
    system best again, that version gets the alias.
    """
    name, digest = event["name"], sha256(files / "model")
    found = next((one for one in _versions(client, name) if one.tags.get("sha256") == digest), None)
    if found is None:
        from seqlab.serving import registry  # imports what models need: seconds

        with tempfile.TemporaryDirectory() as folder:
            registry.save(files / "model", event["answer"], Path(folder) / name)
            client.log_artifacts(run_id, folder, artifact_path=SERVED)
        with contextlib.suppress(MlflowException):
            client.create_registered_model(name)
        source = f"{client.get_run(run_id).info.artifact_uri}/{SERVED}/{name}"
        found = client.create_model_version(name, source, run_id, tags={"sha256": digest})
    for tag, value in event["tags"].items():
        client.set_model_version_tag(name, found.version, clean(tag), str(value)[:LONGEST_TAG])
    client.set_registered_model_alias(name, BEST, found.version)


def _versions(client: MlflowClient, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'"))


def _dataset(name: str, value: Mapping[str, Any]) -> DatasetInput:
    digest = str(value.get("sha256", ""))[:LONGEST_DIGEST] or "unknown"
    source = json.dumps({"uri": str(value.get("path", name))})
    rest = json.dumps({k: v for k, v in value.items() if k != "context"}, default=str)
    tags = [InputTag("mlflow.data.context", value["context"])] if "context" in value else []
    return DatasetInput(Dataset(name, digest, source_type="local", source=source, profile=rest), tags)


def _end(client: MlflowClient, state: Delivery, status: str, end_time: int, error: str | None) -> None:
    if error is not None:
        _log_tags(client, _run_id(state), {"error": error})
    client.set_terminated(_run_id(state), status, end_time)
    if state.parent_id is not None:
        # A system's run ends as the last of its stages did.
        client.set_terminated(state.parent_id, status, end_time)
    state.status = status


def _slices(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
