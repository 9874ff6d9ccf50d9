"""Tracking: what a stage writes arrives in MLflow whole and once, whatever dies in between."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqlab.errors import UserError
from seqlab.tracking import (
    Note,
    Run,
    Sweep,
    System,
    Tracking,
    announcement,
    flush,
    journal,
    kept,
    notice,
    redirect,
    spool,
)
from seqlab.tracking.views import View

mlflow = pytest.importorskip("mlflow")
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Run as MlflowRun  # noqa: E402

from seqlab.tracking import upload  # noqa: E402

pytestmark = pytest.mark.slow

EXPERIMENT = "seqlab/strings"
ROOT = Path(".seqlab/tracking")


@pytest.fixture
def repository(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a store; no uploader starts by itself, requests fail at once."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setattr(journal, "ensure_uploader", lambda *_: None)
    return tmp_path


def tracking(uri: str = "sqlite:///mlflow.db") -> Tracking:
    return Tracking(uri=uri, prefix="seqlab", system_interval=60.0, results=["dvc.lock"])


def begin(uri: str = "sqlite:///mlflow.db", **changes: Any) -> Run:
    settings = {"experiment": "strings", "name": "finetune strings·rnn·full·s0", "tags": {}, "params": {}} | changes
    return Run(ROOT, tracking(uri), **settings)


def deliver() -> None:
    """What the background process does, in this one."""
    lock = spool.uploader_lock(ROOT)
    assert lock is not None
    try:
        upload.Uploader(ROOT.resolve()).run(idle=0.0, lock=lock)
    except BaseException:
        os.close(lock)
        raise


SYSTEM = System("default", "strings", "rnn", "full")


def client() -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db")


def runs(of: MlflowClient | None = None) -> list[MlflowRun]:
    of = of or client()
    experiment = of.get_experiment_by_name(EXPERIMENT)
    return [] if experiment is None else of.search_runs([experiment.experiment_id], order_by=["start_time ASC"])


def points(run: MlflowRun, name: str, of: MlflowClient | None = None) -> list[tuple[int, float]]:
    return sorted((p.step, p.value) for p in (of or client()).get_metric_history(run.info.run_id, name))


def in_process(code: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Run code that sees Run, tracking(uri) and ROOT, in a process of its own; its uploaders leave at once."""
    head = """
        import os, signal, sys, time
        from pathlib import Path
        from seqlab.tracking import Run, Tracking, journal, spool
        spool.IDLE_SECONDS = 0.0
        ROOT = Path(".seqlab/tracking")
        def begin(uri="sqlite:///mlflow.db", **changes):
            settings = Tracking(uri=uri, prefix="seqlab", system_interval=60.0, results=[])
            return Run(ROOT, settings, **({"experiment": "strings", "name": "run", "tags": {}, "params": {}} | changes))
        def begin_alone(*arguments, **changes):
            journal.ensure_uploader = lambda *_: None
            return begin(*arguments, **changes)
    """
    source = str(Path(spool.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(code)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": source, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def killed_writer(folder: Path, key: str) -> None:
    """A process that logs steps 0 to 9 and is killed within its next line."""
    process = in_process(
        f"""
        run = begin_alone(key={key!r}, params={{"lr": 0.1}}).__enter__()
        for step in range(10):
            run.metrics({{"train/loss": 10.0 - step}}, step=step)
        os.write(run._descriptor, b'{{"event": "metrics", "ti')
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        folder,
    )
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_round_trip(repository: Path) -> None:
    (repository / "model").mkdir()
    (repository / "model" / "weights.bin").write_bytes(b"first")
    with begin(name="pretrain strings·rnn·s0") as pretrain:
        pass
    with begin(
        tags={"domain": "strings", "seed": 0},
        params={"family.hidden_size": 96},
        config_text="family:\n  hidden_size: 96\n",
        inputs={"bible": {"path": "data/bible", "sha256": "ab" * 32, "sequences": 7, "context": "training"}},
        links={"pretrain": pretrain.key},
    ) as run:
        for step in range(2500):
            run.metrics({"train/loss": 1 / (step + 1)}, step=step)
        run.metrics({"valid/loss": math.nan}, step=3)
        run.metrics({"score": 1.0})
        run.metrics({"score": 2.0})
        run.artifact(repository / "model", "files")
        run.artifact(repository / "model" / "weights.bin")
        (repository / "model" / "weights.bin").write_bytes(b"overwritten")
        run.text("picture", "pictures/a/x.md")
        run.tags({"output.model.sha256": "cd" * 32})
    deliver()

    first, second = runs()
    data, info, here = second.data, second.info, client()
    assert (info.status, info.run_name) == ("FINISHED", "finetune strings·rnn·full·s0")
    assert info.start_time <= info.end_time
    assert points(second, "train/loss") == [(step, 1 / (step + 1)) for step in range(2500)]
    assert points(second, "score") == [(0, 1.0), (1, 2.0)]
    assert [step for step, value in points(second, "valid/loss") if math.isnan(value)] == [3]
    assert data.metrics["system/process_peak_memory_megabytes"] > 1
    assert 0 < data.metrics["system/system_memory_usage_percentage"] < 100
    assert data.params == {"family.hidden_size": "96"}
    assert mlflow.artifacts.load_text(f"{info.artifact_uri}/config.yaml") == "family:\n  hidden_size: 96\n"
    assert mlflow.artifacts.load_text(f"{info.artifact_uri}/files/model/weights.bin") == "first"
    assert mlflow.artifacts.load_text(f"{info.artifact_uri}/weights.bin") == "first"
    assert mlflow.artifacts.load_text(f"{info.artifact_uri}/pictures/a/x.md") == "picture"
    assert Path(info.artifact_uri.removeprefix("file://")).is_relative_to(repository / "mlruns")
    assert (data.tags["domain"], data.tags["seed"]) == ("strings", "0")
    assert data.tags["input.bible.sha256"] == "ab" * 32
    assert data.tags["output.model.sha256"] == "cd" * 32
    assert data.tags["link.pretrain"] == first.info.run_id
    assert f"runs/{first.info.run_id}" in data.tags["mlflow.note.content"]
    assert {"mlflow.user", "mlflow.source.name"} <= data.tags.keys()
    inputs = here.get_run(info.run_id).inputs
    assert inputs is not None
    (dataset,) = inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("bible", ("ab" * 32)[:36])
    assert json.loads(dataset.dataset.source) == {"uri": "data/bible"}
    assert json.loads(dataset.dataset.profile or "")["sequences"] == 7
    assert [(tag.key, tag.value) for tag in dataset.tags] == [("mlflow.data.context", "training")]
    assert kept(ROOT) == []
    assert list((ROOT / "journals").iterdir()) == []


def test_params_and_names_that_mlflow_does_not_take_as_they_are(repository: Path) -> None:
    params = {"betas[0]": 0.9, "empty": "", "none": None, "long": "x" * 7000}
    many = {f"many.{index}": index for index in range(150)}
    with begin(params=params | many, tags={f"tag {index}·": "y" * 9000 for index in range(120)}) as run:
        run.metrics({"loss (valid)·": math.inf}, step=0)
    deliver()
    (seen,) = runs()
    values = seen.data.params
    assert {name: value for name, value in values.items() if name.startswith("many.")} == {
        name: str(value) for name, value in many.items()
    }
    assert (values["betas_0_"], values["empty"], values["none"]) == ("0.9", "", "None")
    assert values["long"].startswith("(7000 characters")
    assert mlflow.artifacts.load_text(f"{seen.info.artifact_uri}/params/long.txt") == "x" * 7000
    assert seen.data.tags["tag 119_"] == "y" * 8000
    assert seen.data.metrics["loss _valid__"] > 1e300


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("data.csv: row 3: not a number"), "FAILED", "UserError: data.csv: row 3: not a number"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
        (SystemExit(2), "FAILED", "SystemExit: 2"),
        (SystemExit(0), "FINISHED", None),
    ],
)
def test_a_run_says_how_it_ended(repository: Path, error: BaseException, status: str, message: str | None) -> None:
    with pytest.raises(type(error)), begin():
        raise error
    deliver()
    (run,) = runs()
    assert (run.info.status, run.data.tags.get("error")) == (status, message)


def test_commit_and_whether_sources_differ(repository: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def origin() -> tuple[str, str]:
        with begin() as run:
            pass
        first = spool.Journal(ROOT / "journals" / run.key).first()
        assert first is not None
        return first["tags"]["mlflow.source.git.commit"], first["tags"]["mlflow.source.git.dirty"]

    git("init")
    (repository / "dvc.lock").write_text("1")
    (repository / "source.py").write_text("1")
    git("add", "dvc.lock", "source.py")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    (repository / "dvc.lock").write_text("rewritten by the run")
    assert origin() == (commit, "false")
    (repository / "source.py").write_text("2")
    assert origin() == (commit, "true")


@pytest.mark.parametrize("delivered", [True, False])
def test_a_killed_run_is_marked_and_taken_up_again(repository: Path, delivered: bool) -> None:
    killed_writer(repository, key="cell")
    if delivered:
        deliver()
        (run,) = runs()
        assert run.info.status == "KILLED"
        assert "died" in run.data.tags["error"]
        assert points(run, "train/loss") == [(step, 10.0 - step) for step in range(10)]
    with begin(key="cell", params={"lr": 0.1, "new": 1}) as again:
        for step in range(6, 15):  # the checkpoint was older than the last point
            again.metrics({"train/loss": 10.0 - step}, step=step)
    deliver()
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert points(run, "train/loss") == [(step, 10.0 - step) for step in range(15)]
    assert (run.data.params["lr"], run.data.params["new"]) == ("0.1", "1")
    assert [step for step, _ in points(run, "system/cpu_utilization_percentage")] == [0]


def test_a_living_run_is_neither_ended_nor_shared(repository: Path) -> None:
    with begin(key="cell") as run:
        run.metrics({"train/loss": 1.0}, step=0)
        uploader = upload.Uploader(ROOT.resolve())
        assert uploader.deliver_all()
        (seen,) = runs()
        assert seen.info.status == "RUNNING"
        assert seen.data.metrics["train/loss"] == 1.0
        with begin(key="cell") as other:
            assert other.key != run.key
    assert not uploader.deliver_all()
    assert [run.info.status for run in runs()] == ["FINISHED", "FINISHED"]


def test_a_dead_server_costs_the_writer_nothing_and_loses_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
    process = in_process(
        f"""
        seen = []
        sys.addaudithook(lambda event, _: seen.append(event) if event.startswith("socket.") else None)
        with begin_alone({uri!r}) as run:
            run.metrics({{"train/loss": 1.0}}, step=0)
        print(seen, [name for name in ("mlflow", "torch", "numpy", "hydra") if name in sys.modules])
        """,
        repository,
    )
    assert process.communicate()[0] == "[] []\n"
    assert process.returncode == 0
    assert notice(ROOT) is None, "nobody has tried yet"

    (waiting,) = flush(ROOT, timeout=60)
    assert waiting.uri == uri
    assert "127.0.0.1" in waiting.reason
    line = notice(ROOT)
    assert line is not None
    assert line.startswith(f"MLflow unreachable at {uri}: 1 run kept under ")
    assert "\n" not in line

    with begin():  # the other store is not affected
        pass
    deliver()
    assert len(runs()) == 1
    redirect(ROOT, "sqlite:///mlflow.db", timeout=10)
    deliver()
    assert [points(run, "train/loss") for run in runs()] == [[(0, 1.0)], []]
    assert flush(ROOT, timeout=0) == []
    assert notice(ROOT) is None


def test_two_writers_share_one_background_uploader(repository: Path) -> None:
    code = """
        with begin(name=sys.argv[0]) as run:
            for step in range(1200):
                run.metrics({"train/loss": float(step)}, step=step)
            ready = ROOT / "journals" / run.key / "ready"
            ready.touch()
            while len(list(ROOT.glob("journals/*/ready"))) < 2:
                time.sleep(0.01)
        print(len(spool._started))
    """
    writers = [in_process(code, repository) for _ in range(2)]
    assert sum(int(writer.communicate()[0]) for writer in writers) == 1
    assert flush(ROOT, timeout=60) == []
    assert [points(run, "train/loss") for run in runs()] == [[(step, float(step)) for step in range(1200)]] * 2


VIEW = View("default", ["next_step/bpc", "cost/seconds"], lower=True, scatters=[("cost/seconds", "next_step/bpc")])


def test_stages_stand_below_the_run_of_their_system(repository: Path) -> None:
    for seed in (0, 1):
        with begin(name=f"rnn·full·s{seed} finetune", system=SYSTEM, note=Note("a", "b", "c", {"d": "e"})):
            pass
    with pytest.raises(UserError), begin(name="rnn·full·s2 finetune", system=SYSTEM):
        raise UserError("out of data")
    deliver()
    found = {run.info.run_name: run for run in runs()}
    parent = found.pop("rnn·full")
    assert (
        parent.data.tags.items() >= {"kind": "system", "family": "rnn", "suite": "default", "control": "false"}.items()
    )
    assert parent.info.status == "FAILED", "as the last of its stages"
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert {run.data.tags["kind"] for run in found.values()} == {"stage"}
    assert len(found) == 3
    assert "| `d` | e |" in found["rnn·full·s0 finetune"].data.tags["mlflow.note.content"]

    client().delete_run(parent.info.run_id)
    with begin(name="rnn·full·s3 finetune", system=SYSTEM):
        pass
    deliver()
    (again,) = [run for run in runs() if run.info.run_name == "rnn·full"]
    assert again.info.run_id != parent.info.run_id


def test_repositories_of_one_server_keep_their_systems_apart(tmp_path: Path) -> None:
    first, second = spool.identity(tmp_path / "a"), spool.identity(tmp_path / "b")
    assert first == spool.identity(tmp_path / "a")
    assert SYSTEM.event(first)["key"] != SYSTEM.event(second)["key"]
    others = [
        System("quick", "strings", "rnn", "full"),
        System("default", "series", "rnn", "full"),
        System("default", "strings", "rnn", "scratch"),
        System("default", "strings", "gru", "full"),
    ]
    assert len({one.event(first)["key"] for one in (SYSTEM, *others)}) == 5


def test_the_jobs_of_a_sweep_have_one_parent(repository: Path) -> None:
    for seed in range(2):
        with begin(name=f"rnn·full·s{seed} finetune", system=Sweep("0123456789ab", "finetune")):
            pass
    deliver()
    here, found = client(), runs()
    [experiment] = [one for one in here.search_experiments() if one.name == "seqlab/sweeps"]
    [parent] = here.search_runs([experiment.experiment_id])
    assert parent.info.run_name == "sweep 0123456789ab finetune"
    assert [run.data.tags["mlflow.parentRunId"] for run in found] == [parent.info.run_id] * 2


def test_a_comparison_is_written_on_systems_experiments_and_its_own_run(repository: Path) -> None:
    for value in (2.0, 1.5):
        with begin(experiment="leaderboard", name="compare default", kind="comparison") as run:
            run.system(SYSTEM, {"next_step/mase@16": value}, Note("a", "b", "c"))
            run.note("**rnn** is best")
            run.experiment("strings", VIEW, "rnn is best")
    deliver()
    here = client()
    (system,) = runs()
    history = here.get_metric_history(system.info.run_id, "next_step/mase_16")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.timestamp)] == [
        (0, 2.0),
        (0, 1.5),
    ]
    assert system.data.metrics["next_step/mase_16"] == 1.5, "that of the newest comparison"
    leaderboard = here.get_experiment_by_name("seqlab/leaderboard")
    assert leaderboard is not None
    compared = here.search_runs([leaderboard.experiment_id], order_by=["start_time DESC"])[0]
    verdict, _, links = compared.data.tags["mlflow.note.content"].partition("\n\n")
    assert verdict == "**rnn** is best"
    assert links.startswith("* seqlab/strings: [table](#/experiments/")
    assert links.count("* ") == 1
    assert compared.data.tags["kind"] == "comparison"
    assert system.data.tags["link.compare"] == compared.info.run_id
    assert f"runs/{compared.info.run_id}?workflowType=machine_learning" in system.data.tags["mlflow.note.content"]
    experiment = here.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags["mlflow.note.content"].startswith(
        "rnn is best\n\n* [all systems, as a table](#/experiments/"
    )
    view = json.loads(json.loads(experiment.tags["mlflow.sharedViewState.families-default"])["state"])
    # The filter of the view finds the systems and none of the stages.
    assert [run.info.run_id for run in here.search_runs([experiment.experiment_id], view["searchFilter"])] == [
        system.info.run_id
    ]


def test_that_mlflow_is_away_is_said_once_and_that_it_is_back_once(
    repository: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "mlflow.db").rename(repository / "elsewhere")
    (repository / "mlflow.db").mkdir()  # no store can be opened there
    for _ in range(3):
        with begin():
            pass
        deliver()
    (said,) = [record.message for record in caplog.records if "MLflow" in record.message]
    assert said.startswith(f"MLflow unreachable at sqlite:///{repository}/mlflow.db: 2 runs kept under ")
    (repository / "mlflow.db").rmdir()
    (repository / "elsewhere").rename(repository / "mlflow.db")
    deliver()
    for _ in range(2):
        with begin():
            pass
    assert [record.message for record in caplog.records if "again" in record.message] == [
        f"MLflow answers again at sqlite:///{repository}/mlflow.db: every kept run is delivered"
    ]
    assert announcement(ROOT) is None
    assert len(runs()) == 3


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the uploader handles it."""


def test_an_uploader_killed_after_any_call_leaves_nothing_to_repeat(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["create_experiment", "create_run", "update_run", "log_batch", "log_inputs", "log_artifacts"]
    names += ["set_terminated", "set_experiment_tag"]
    calls = {name: getattr(MlflowClient, name) for name in names}
    left = math.inf

    def dying(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            answer = calls[name](*arguments, **named)
            left -= 1
            if left == 0:
                raise Killed
            return answer

        return call

    for name in calls:
        monkeypatch.setattr(MlflowClient, name, dying(name))
    monkeypatch.setattr(upload, "METRICS_PER_BATCH", 10)
    deaths = 0
    # Only the very first run creates the experiment, so the first call is deadly twice.
    for made, deadly in enumerate([1, *range(1, 100)], start=1):
        left = math.inf
        with begin(name=f"run {made}", params={"a": 1}, inputs={"bible": {"sha256": "ab"}}) as run:
            for step in range(25):
                run.metrics({"train/loss": float(step)}, step=step)
            run.metrics({"score": 1.0})
            run.text("x", "x.md")
            run.system(System("default", "strings", f"rnn {made}", "full"), {"next_step/bpc": 2.0})
            run.note("verdict")
            run.experiment("strings", VIEW, "verdict")
        left = deadly
        try:
            deliver()
        except Killed:
            killed = True
            left = math.inf
            deliver()
        else:
            killed = False
        found = {run.info.run_name: run for run in runs()}
        seen, system = found[f"run {made}"], found[f"rnn {made}·full"]
        description = seen.data.tags["mlflow.note.content"]
        assert (seen.info.status, description.count("verdict"), description.count("* ")) == ("FINISHED", 1, 1)
        assert (system.info.status, [value for _, value in points(system, "next_step/bpc")]) == ("FINISHED", [2.0])
        assert points(seen, "train/loss") == [(step, float(step)) for step in range(25)]
        assert points(seen, "score") == [(0, 1.0)]
        assert len(found) == len(runs()) == 2 * made
        deaths += killed
        if not killed:  # it was done before the deadly call: every call has had its turn
            break
    assert deaths >= len(calls)
    assert list((ROOT / "journals").iterdir()) == []


def test_a_run_that_mlflow_refuses_does_not_hold_up_the_others(repository: Path) -> None:
    with begin(name="broken") as broken:
        broken.text("x", "x.md")
    shutil.rmtree(ROOT / "journals" / broken.key / "files")
    with begin(name="sound"):
        pass
    deliver()
    (waiting,) = kept(ROOT)
    assert (waiting.name, waiting.key) == ("broken", broken.key)
    assert "FileNotFoundError" in waiting.reason
    assert (notice(ROOT) or "").startswith("MLflow refuses runs at sqlite:///")
    assert {run.info.run_name: run.info.status for run in runs()} == {"broken": "RUNNING", "sound": "FINISHED"}


def test_a_lost_state_file_repeats_nothing(repository: Path) -> None:
    with begin() as run:
        run.metrics({"train/loss": 1.0}, step=0)
        run.metrics({"score": 1.0})
        upload.Uploader(ROOT.resolve()).deliver_all()
        (ROOT / "journals" / run.key / "state.json").write_bytes(b"")
    deliver()
    (seen,) = runs()
    assert (seen.info.status, points(seen, "train/loss"), points(seen, "score")) == ("FINISHED", [(0, 1.0)], [(0, 1.0)])


def test_gpu_memory_is_read_only_where_the_stage_uses_the_gpu(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = SimpleNamespace(
        is_initialized=lambda: False,
        device_count=lambda: 1,
        mem_get_info=lambda device: (60_000_000, 80_000_000),
        max_memory_allocated=lambda device: 5_000_000,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with begin():
        pass
    cuda.is_initialized = lambda: True
    with begin():
        pass
    deliver()
    without, gpu = ({k: v for k, v in run.data.metrics.items() if "gpu" in k} for run in runs())
    assert without == {}
    assert gpu == {
        "system/gpu_0_memory_usage_megabytes": 20.0,
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_peak_memory_megabytes": 5.0,
    }


def test_a_full_disk_is_reported_once_and_stops_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = os.write
    with begin() as run:
        run.metrics({"train/loss": 0.0}, step=0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:9]))
            run.metrics({"train/loss": 1.0}, step=1)

            def full(descriptor: int, data: bytes) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(os, "write", full)
            run.metrics({"train/loss": 2.0}, step=2)
            run.metrics({"train/loss": 3.0}, step=3)
        run.metrics({"train/loss": 4.0}, step=4)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text
    deliver()
    (seen,) = runs()
    assert seen.info.status == "FINISHED"
    assert points(seen, "train/loss") == [(0, 0.0), (4, 4.0)]


def test_a_folder_that_cannot_be_written_stops_nothing(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    (repository / ".seqlab").write_text("a file where the folder should be")
    with begin() as run:
        run.metrics({"train/loss": 0.0}, step=0)
        run.text("x", "x.md")
        run.artifact(repository / "mlflow.db")
    assert len(caplog.records) == 1


def test_a_stage_of_mlflow_run_continues_its_run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = client()
    project = store.create_run("0", tags={"mlflow.source.type": "PROJECT"}, run_name="amused-newt-1")
    store.log_param(project.info.run_id, "family", "rnn")
    monkeypatch.setenv("MLFLOW_RUN_ID", project.info.run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository}/mlflow.db")
    with begin("http://127.0.0.1:1", params={"family": "seqlab.families.rnn.RNN", "lr": 0.1}) as first:
        first.metrics({"train/loss": 1.0}, step=0)
    with begin(name="the next job of a multirun"):
        pass
    monkeypatch.setenv("DVC_STAGE", "finetune@0")
    with begin(name="a stage of the pipeline"):
        pass
    deliver()
    seen = store.get_run(project.info.run_id)
    assert (seen.info.run_name, seen.info.status) == ("finetune strings·rnn·full·s0", "FINISHED")
    assert seen.data.metrics["train/loss"] == 1.0
    assert seen.data.params == {"family": "rnn", "lr": "0.1"}
    assert seen.data.tags["mlflow.source.type"] == "PROJECT"
    assert [run.info.run_name for run in runs()] == ["the next job of a multirun", "a stage of the pipeline"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs()} == {project.info.run_id}


def test_runs_of_a_queued_experiment_belong_to_the_repository(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    assert spool.home(copy) == tmp_path
    assert spool.home(tmp_path) == tmp_path
    assert spool.absolute_uri("sqlite:///mlflow.db", tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert spool.absolute_uri("sqlite:////a/mlflow.db", tmp_path) == "sqlite:////a/mlflow.db"
    assert spool.absolute_uri("http://a:5000", tmp_path) == "http://a:5000"


@pytest.fixture
def server(repository: Path) -> Iterator[str]:
    """A plain `mlflow server` started in the repository."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with open(repository / "server.log", "wb") as log:
        process = subprocess.Popen(command, cwd=repository, stdout=log, stderr=log, start_new_session=True)
    uri = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=1).close()
                break
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.1)
        else:
            pytest.fail((repository / "server.log").read_text())
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_receives_runs_and_shows_those_of_the_file(repository: Path, server: str) -> None:
    with begin() as local:
        local.text("local", "x.md")
    deliver()
    with begin(server, inputs={"bible": {"sha256": "ab"}}) as remote:
        remote.metrics({"train/loss": 1.0, "valid/loss": math.nan}, step=3)
        remote.text("remote", "pictures/x.md")
    assert flush(ROOT, timeout=60) == []
    here = MlflowClient(tracking_uri=server)
    by_key = {run.data.tags["seqlab.key"]: run for run in runs(here)}
    seen = by_key[remote.key]
    assert seen.info.status == "FINISHED"
    assert points(seen, "train/loss", here) == [(3, 1.0)]
    assert math.isnan(seen.data.metrics["valid/loss"])
    texts = [
        Path(here.download_artifacts(by_key[key].info.run_id, path, str(repository))).read_text()
        for key, path in ((local.key, "x.md"), (remote.key, "pictures/x.md"))
    ]
    assert texts == ["local", "remote"]
