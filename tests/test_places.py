"""Places that are worse than a developer's: full, read-only, foreign, jumping in time, and without MLflow.

Each ends well or in one line; what stood there before still does, and each point of a run arrives exactly once.
"""

from __future__ import annotations

import http.server
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_tracking
import yaml
from test_pipeline import PARTS
from test_tracking import ROOT, begin, deliver, points, runs
from test_training import rnn, run, same, symbols, weights

from seqlab.artifacts import read_tensors, write_json, write_tensors, write_text
from seqlab.cli.places import Workspace
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.executors.dvc import LockFile
from seqlab.scratch import replacing
from seqlab.tracking import flush, kept, redirect

pytestmark = pytest.mark.slow
repository = test_tracking.repository
CHECKOUT = Path(__file__).resolve().parent.parent
SPACE = Space("symbols", 9)


@contextmanager
def full(size: int = 4096) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: as on a full disk, under another error number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# A full disk, at each kind of write.


def lock_of(path: Path, text: str) -> None:
    """dvc.lock with one entry, as a repro writes it."""
    repo = SimpleNamespace(root_dir=str(path.parent), lock=threading.Lock(), index=SimpleNamespace(stages=[]))
    with LockFile(repo) as lock:
        lock.add({"stage": {"cmd": text}})


def sequences(path: Path, text: str) -> None:
    with replacing(path) as made:
        Sequences.from_arrays([np.frombuffer(text.encode(), np.uint8).astype(np.int64)]).save(made)


WRITES: dict[str, tuple[str, Callable[[Path, str], None]]] = {
    "arrays": ("train", sequences),
    "tensors": ("model.safetensors", lambda path, text: write_tensors(path, {"x": np.frombuffer(text.encode(), "u1")})),
    "reports": ("report.json", write_json),
    "values": ("params.yaml", write_text),
    "dvc.lock": ("dvc.lock", lock_of),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_leaves_the_old_file_and_one_line(
    tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, write = WRITES[what]
    write(tmp_path / name, "short")
    before = contents(tmp_path)
    with full(), pytest.raises(UserError, match=f"{name}: not written, the disk is full") as error:
        write(tmp_path / name, "long" * 4096)
    assert "\n" not in str(error.value)
    assert contents(tmp_path) == before
    assert capfd.readouterr() == ("", "")
    write(tmp_path / name, "long" * 4096)
    assert contents(tmp_path) != before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_on_a_full_disk_a_training_goes_on_without_checkpoints_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = symbols(40, 0), symbols(10, 1)
    undisturbed, disturbed = rnn(SPACE), rnn(SPACE)
    run(undisturbed, *data, tmp_path / "a")
    with full(2000):
        run(disturbed, *data, tmp_path / "b", seconds=0.0)
    assert same(weights(undisturbed), weights(disturbed))
    said = [line for line in capsys.readouterr().err.splitlines() if "no checkpoint of step" in line]
    assert len(said) == 1
    assert not list((tmp_path / "b").rglob("resume.*"))


def test_a_full_disk_under_mlflows_database_delays_delivery_and_repeats_nothing(repository: Path) -> None:
    with begin() as run:
        run.metrics({"train/loss": 1.0}, step=0)
    with full():
        deliver()
        assert len(kept(ROOT)) == 1
    deliver()
    (seen,) = runs()
    assert (seen.info.status, points(seen, "train/loss")) == ("FINISHED", [(0, 1.0)])


def test_a_journal_that_cannot_grow_costs_points_and_no_training(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begin() as run:
        run.metrics({"train/loss": 1.0}, step=0)
        with full(os.fstat(run._descriptor or 0).st_size):
            run.metrics({"train/loss": 2.0}, step=1)
        run.metrics({"train/loss": 3.0}, step=2)
    assert len(caplog.records) == 1
    deliver()
    (seen,) = runs()
    assert points(seen, "train/loss") == [(0, 1.0), (2, 3.0)]


# MLflow away, slow, hanging, answering 500, locked, forgetting that it answered; and a clock that jumps.


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that is there and of no use."""

    hangs = False

    def answer(self) -> None:
        if self.hangs:
            time.sleep(3)
        with suppress(OSError):  # nobody waits any more
            self.send_error(500)

    do_GET = do_POST = answer

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Hanging(Refusing):
    hangs = True


@pytest.mark.parametrize("handler", [None, Refusing, Hanging], ids=["away", "500", "hanging"])
def test_a_server_of_no_use_holds_nobody_up_and_gets_everything_later(
    repository: Path, monkeypatch: pytest.MonkeyPatch, handler: type[Refusing] | None
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler or Refusing) as server:
        uri = f"http://127.0.0.1:{server.server_port}"
        if handler is None:
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        with begin(uri) as run:
            for step in range(3):
                run.metrics({"train/loss": float(step)}, step=step)
        deliver()
        assert [one.uri for one in kept(ROOT)] == [uri]
        if handler is not None:
            server.shutdown()
    redirect(ROOT, "sqlite:///mlflow.db", timeout=10)
    deliver()
    (seen,) = runs()
    assert points(seen, "train/loss") == [(step, float(step)) for step in range(3)]
    assert flush(ROOT, timeout=0) == []


def test_a_slow_store_and_one_whose_answer_is_lost_get_each_point_once(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_batch, calls = test_tracking.upload.MlflowClient.log_batch, []

    def slow(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        time.sleep(0.1)
        log_batch(*arguments, **options)
        if len(calls) == 1:
            raise test_tracking.upload.MlflowException("the answer was lost")

    monkeypatch.setattr(test_tracking.upload.MlflowClient, "log_batch", slow)
    with begin() as run:
        run.metrics({"train/loss": 1.0}, step=0)
    deliver()
    deliver()
    (seen,) = runs()
    assert len(calls) > 1
    assert (seen.info.status, points(seen, "train/loss")) == ("FINISHED", [(0, 1.0)])


def test_a_locked_database_is_waited_for(repository: Path) -> None:
    with begin() as run:
        run.metrics({"train/loss": 1.0}, step=0)
    other = sqlite3.connect(repository / "mlflow.db", check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    threading.Timer(0.5, other.rollback).start()
    deliver()
    deliver()
    other.close()
    (seen,) = runs()
    assert (seen.info.status, points(seen, "train/loss")) == ("FINISHED", [(0, 1.0)])


def test_a_clock_that_jumps_back_loses_and_repeats_no_point(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns
    with monkeypatch.context() as clock, begin() as run:
        run.metrics({"train/loss": 1.0}, step=0)
        clock.setattr(time, "time_ns", lambda: now() - 86_400 * 10**9)
        run.metrics({"train/loss": 2.0}, step=1)
        clock.setattr(time, "time_ns", lambda: now() + 86_400 * 10**9)
        run.metrics({"train/loss": 3.0}, step=2)
    deliver()
    (seen,) = runs()
    assert (seen.info.status, points(seen, "train/loss")) == ("FINISHED", [(0, 1.0), (1, 2.0), (2, 3.0)])


# Two at once, and folders of others.


def test_the_second_of_two_runs_in_one_workspace_says_who_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    with workspace.locked():
        monkeypatch.delenv("SEQLAB_HOLDING")  # as in a process that no holder started
        with pytest.raises(UserError, match=f"process {os.getpid()} is at work here"), workspace.locked():
            pass
        monkeypatch.setenv("SEQLAB_HOLDING", str(tmp_path))
    with workspace.locked():
        pass


def test_a_lock_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        with Workspace(tmp_path).locked():
            os.write(writer, b"x")
            signal.pause()
        os._exit(0)
    os.read(reader, 1)
    with pytest.raises(UserError, match="is at work here"), Workspace(tmp_path).locked():
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with Workspace(tmp_path).locked():
        pass


def test_what_a_killed_holder_has_started_is_waited_for(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        with Workspace(tmp_path).locked():
            if os.fork() == 0:  # with the lock's file still open
                os.write(writer, b"x")
                time.sleep(0.5)
                os._exit(0)
            signal.pause()
    os.read(reader, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    begun = time.monotonic()
    with Workspace(tmp_path).locked():
        assert time.monotonic() - begun > 0.1


def composed(folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Compose in a checkout at `folder`."""
    changed = options.pop("changed", {})
    env = {k: v for k, v in os.environ.items() if k not in changed and not k.startswith(("SEQLAB", "DVC"))}
    env |= {"PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1", **{k: v for k, v in changed.items() if v is not None}}
    command = [sys.executable, "pipelines/compose.py"]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, **options)


def checkout(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for part in PARTS:
        source = CHECKOUT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    return folder


# What a shell, a user and a path may do all at once.
SHELL: dict[str, str | None] = {"HOME": None, "XDG_CACHE_HOME": None, "LC_ALL": "C", "LANG": "C", "TZ": "Asia/Seoul"}
SHELL |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "7"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return made_in(checkout(tmp_path_factory.mktemp("plain") / "lab"))


def made_in(folder: Path, **options: Any) -> dict[str, bytes]:
    done = composed(folder, **options)
    assert done.returncode == 0, done.stderr
    return {name: (folder / name).read_bytes() for name in ("params.yaml", "cells.json", "code.json")}


def test_no_home_a_c_locale_another_time_zone_a_umask_blanks_and_hangul_change_nothing(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    assert made_in(checkout(tmp_path / "내 실험 1 (새)"), changed=SHELL, umask=0o077) == expected


def test_a_symlinked_checkout_is_the_checkout(tmp_path: Path, expected: dict[str, bytes]) -> None:
    (tmp_path / "link").symlink_to(checkout(tmp_path / "lab"))
    assert made_in(tmp_path / "link") == expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_another_users_folder_is_one_line_and_ones_own_is_as_good_as_roots(expected: dict[str, bytes]) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as place:  # pytest's own are for one user alone
        Path(place).chmod(0o755)
        folder = checkout(Path(place) / "lab")
        try:
            done = composed(folder, user=nobody, group=nobody, changed={"HOME": None})
        except PermissionError:
            pytest.skip("another user may not start this interpreter")
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "no permission to write or read there" in done.stderr
        for path in (folder, *folder.rglob("*")):
            os.chown(path, nobody, nobody)
        assert made_in(folder, user=nobody, group=nobody, changed={"HOME": None}, umask=0o077) == expected


def test_weights_are_read_from_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {"x": np.arange(3)})
    (tmp_path / "model.safetensors").chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        np.testing.assert_array_equal(read_tensors(tmp_path / "model.safetensors")["x"], np.arange(3))
    finally:
        tmp_path.chmod(0o755)


# The network.

FORBIDDEN = """
import socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(f"{event} {arguments[1:2]} is forbidden")
sys.addaudithook(refuse)
import runpy
sys.argv = sys.argv[1:]
sys.path.insert(0, "pipelines")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_composing_and_preparing_ones_own_file_open_no_socket(tmp_path: Path) -> None:
    """Compose, and prepare a user's own file by hand, with every connection of the process refused."""
    folder = checkout(tmp_path / "lab")
    (folder / "own").mkdir()
    (folder / "own/source.txt").write_text("\n".join(f"a good film of war number {n}" for n in range(60)))
    rows = [f"{'positive' if n % 2 else 'negative'},a good film number {n}" for n in range(60)]
    (folder / "own/target.csv").write_text("\n".join(["label,text", *rows]))
    domain = yaml.safe_load((folder / "conf/domain/strings.yaml").read_text(encoding="utf-8"))
    for name, file in (("source", "source.txt"), ("target", "target.csv")):
        domain["archives"][name] = {"registry": "file", "path": f"own/{file}", "licence": "own"}
    (folder / "conf/domain/own.yaml").write_text(yaml.safe_dump(domain, sort_keys=False))

    env = {k: v for k, v in os.environ.items() if not k.startswith(("SEQLAB", "DVC"))} | {"PYTHONPATH": "src"}

    def alone(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", FORBIDDEN, *words]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)

    made = [alone("pipelines/compose.py"), alone("pipelines/prepare.py", "domain=own")]
    assert [done.returncode for done in made] == [0, 0], made[-1].stderr
