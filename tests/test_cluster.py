"""Stages on workers: the bytes that DVC writes, whatever is killed, and nothing left running by any ending."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from dvc.repo import Repo
from remotes import Remote

ROOT = Path(__file__).parents[1]
PATIENCE = 900.0  # seconds until what should happen at once has not happened, on a machine with other work
MARK = "SEQLAB_TEST_CLUSTER"

pytestmark = pytest.mark.slow
pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

# What reads no stage's outputs runs where the command is, what follows in the worker's own folder.
FAR = """
stages:
  first: {cmd: pwd >> ran && cp seed.txt first.txt, deps: [seed.txt], outs: [first.txt]}
  each:
    foreach: [a, b]
    do:
      cmd: pwd >> ran && mkdir -p out/${item} && cp first.txt out/${item}/
      deps: [first.txt]
      outs: ["out/${item}"]
  all: {cmd: pwd >> ran && find out -type f | sort > all.txt, deps: [out], outs: [all.txt]}
  last: {cmd: pwd >> ran && cat all.txt > last.txt, deps: [all.txt], outs: [last.txt: {cache: false}]}
"""
STAGES = """
stages:
  first: {cmd: echo 1 > first.txt, outs: [first.txt]}
  each:
    foreach: [a, b, c, d]
    do:
      cmd: sleep 0.3 && mkdir -p out/${item} && cp first.txt out/${item}/ && echo ${item} >> ran
      deps: [first.txt]
      outs: ["out/${item}"]
  last: {cmd: cat out/*/* > last.txt, deps: [out/a, out/b, out/c, out/d], outs: [last.txt: {cache: false}]}
"""
# Keeps what it did when it is asked to end.
LONG = """
stages:
  long: {cmd: "trap 'echo kept > kept; exit 1' TERM; touch begun; while :; do sleep 0.05; done", outs: [long.txt]}
"""
DRIVER = """
import sys
from dataclasses import replace
from pathlib import Path
import yaml
from seqlab import config
from seqlab.cli.failing import errors_in_one_line
from seqlab.execution import Resources
from seqlab.executors import dvc
from seqlab.executors.cluster import Cluster
from seqlab.executors.graph import Graph, Schedule
from seqlab.executors.running import went_through

class Told:
    def finished(self, stage): print("finished", stage.name, flush=True)
    def failed(self, stage, log, lost): print("failed", stage.name, log.read_text(), flush=True)
    def interrupted(self, running): print("interrupted", running, flush=True)

def run():
    root, gpu, address = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    tree = yaml.safe_load((root / "conf/execution/local.yaml").read_text())
    execution = replace(config.execution(tree), executor="dask", address=address or None, shared_disk=not address)
    with dvc.opened() as pipeline, dvc.LockFile(pipeline.repo) as lock:
        graph = Graph(pipeline.before)
        resources = Resources(cpu=1, memory=0.1, gpu=gpu)
        here, no, own = Path.cwd(), lambda _: None, lambda _: resources
        with Cluster(pipeline, execution, 2, False, False, no, own, here, here / "logs") as executor:
            went_through(Schedule(graph, set(graph.before)), executor, lock.add, Told(), False)

errors_in_one_line(run)
"""
# The worker ends after a stage, and before its result was fetched.
BEREFT = """
finished = Cluster._finished
def killing(cluster, one, future):
    Cluster._finished = finished
    cluster.workers.kill()
    cluster.workers.wait()
    return finished(cluster, one, future)
Cluster._finished = killing
"""
# The first worker ends before it has joined.
LATE = """
start = Cluster._start_workers
def killing(cluster):
    Cluster._start_workers = start
    start(cluster)
    cluster.workers.kill()
Cluster._start_workers = killing
"""


class Run:
    """A driver in a workspace of its own, and whatever it started."""

    def __init__(self, folder: Path, stages: str, gpu: float = 0.0, address: str = "", driver: str = DRIVER):
        self.folder, self.mark = folder, f"{MARK}={folder}"
        if not folder.exists():
            workspace(folder, stages)
        (folder / ".seqlab").mkdir()
        environment = {**os.environ, MARK: str(folder), "PYTHONPATH": str(ROOT / "src")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", driver, str(ROOT), str(gpu), address],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def pids(self, word: str = "") -> list[int]:
        """Processes of this run whose command line has a word."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environment, words = ((process / name).read_bytes() for name in ("environ", "cmdline"))
            except OSError:  # it has ended meanwhile, or is somebody else's
                continue
            if self.mark.encode() in environment.split(b"\0") and word.encode() in words:
                found.append(int(process.name))
        return found

    def ended(self) -> str:
        """What it said."""
        said, _ = self.process.communicate(timeout=PATIENCE)
        until(lambda: not self.pids())
        return said


def workspace(folder: Path, stages: str) -> None:
    folder.mkdir()
    (folder / "dvc.yaml").write_text(stages)
    Repo.init(str(folder), no_scm=True).close()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_that_is_killed_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "cluster", STAGES)
    ran = run.folder / "ran"
    until(lambda: run.process.poll() is not None or ran.exists())
    [worker] = run.pids("seqlab.executors.worker")
    os.kill(worker, signal.SIGKILL)
    said = run.ended()
    assert run.process.returncode == 0, said
    assert "its worker was lost; it runs again" in said
    assert {line.split()[1] for line in said.splitlines() if line.startswith("finished")} == {
        "first",
        "last",
        *(f"each@{item}" for item in "abcd"),
    }
    workspace(tmp_path / "alone", STAGES)
    monkeypatch.chdir(tmp_path / "alone")
    with Repo() as repo:
        repo.reproduce()
    assert (run.folder / "dvc.lock").read_bytes() == Path("dvc.lock").read_bytes()
    with Repo(str(run.folder)) as repo:
        assert not repo.status()
    assert not list(run.folder.rglob("certificates*"))


@pytest.mark.parametrize("killing", [LATE, BEREFT], ids=["before it has joined", "with a result"])
def test_what_goes_with_a_worker_is_made_again(killing: str, tmp_path: Path) -> None:
    run = Run(tmp_path / "cluster", STAGES, driver=DRIVER.replace("\ndef run", killing + "\ndef run"))
    said = run.ended()
    assert run.process.returncode == 0, said
    assert (run.folder / "last.txt").read_text() == "1\n" * 4
    with Repo(str(run.folder)) as repo:
        assert not repo.status()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_driver_that_is_asked_to_end_or_killed_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    run = Run(tmp_path / "cluster", LONG)
    until(lambda: run.process.poll() is not None or (run.folder / "begun").exists())
    run.process.send_signal(number)
    said = run.ended()
    # Whoever asks gets the stage's own ending; a driver's death asks as well.
    assert (run.folder / "kept").exists(), said
    if number == signal.SIGTERM:
        assert run.process.returncode == 128 + number
        assert "interrupted 1" in said
        assert said.splitlines()[-1].startswith("seqlab: ended by SIGTERM")
    else:
        assert run.process.returncode == -number


def test_what_no_worker_has_is_one_line(tmp_path: Path) -> None:
    run = Run(tmp_path / "cluster", STAGES, gpu=9000.0)
    said = run.ended()
    assert run.process.returncode == 2
    assert said.splitlines()[-1].startswith("seqlab: stage first takes 1 cores, 0.1 GB, 9000 cards")
    assert "and no worker has that" in said


def use(remote: Remote, folder: Path) -> None:
    with Repo(str(folder)) as repo, repo.config.edit() as config:
        config["remote"] = {"both": remote}
        config["core"]["remote"] = "both"


@contextmanager
def far_worker(folder: Path) -> Iterator[str]:
    """The address of a scheduler of one's own, that one worker with a clone of its own has joined."""
    workspace(folder, FAR)
    (folder / ".seqlab").mkdir()
    (folder / "src").symlink_to(ROOT / "src")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    file = folder.parent / "scheduler.json"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    scheduler += ["--no-dashboard", "--scheduler-file", str(file)]
    with ExitStack() as ending:

        def begin(command: list[str]) -> None:
            process = subprocess.Popen(command, env=environment, start_new_session=True)
            ending.callback(process.wait)
            ending.callback(process.terminate)

        begin(scheduler)
        until(file.exists)
        address: str = json.loads(file.read_text())["address"]
        worker = [sys.executable, "-m", "seqlab.executors.worker", address, "--cores", "2"]
        begin([*worker, "--workspace", str(folder)])
        yield address


def test_workers_without_a_shared_disk_write_the_bytes_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Remote
) -> None:
    here, alone, far = (tmp_path / name for name in ("here", "alone", "far"))
    for folder in (here, alone):
        workspace(folder, FAR)
        (folder / "seed.txt").write_text("1")
    use(remote, here)
    with far_worker(far) as address:
        use(remote, far)
        (far / "out/left").mkdir(parents=True)
        (far / "out/left/by another run").touch()
        run = Run(here, FAR, address=address)
        said = run.ended()
    assert run.process.returncode == 0, said
    assert (far / "ran").read_text().split() == [str(far)] * 3
    assert (here / "ran").read_text().split() == [str(here)] * 2
    monkeypatch.chdir(alone)
    with Repo() as repo:
        repo.reproduce()
    assert (here / "dvc.lock").read_bytes() == (alone / "dvc.lock").read_bytes()
    assert (here / "last.txt").read_text() == "out/a/first.txt\nout/b/first.txt\n"
    with Repo(str(here)) as repo:
        assert not repo.status()
