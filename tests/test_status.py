"""What would run, said also while somebody runs it: nothing is waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_dvc import workspace
from test_why import now, with_value, without_a_model

from seqlab.cli import status
from seqlab.cli.places import Workspace
from seqlab.cli.score import command_of
from seqlab.cli.status import from_dvc, from_lock, tell
from seqlab.cli.why import Now, differs
from seqlab.executors import dvc

__all__ = ["now"]  # a fixture
HOLDS = """
import pathlib, sys, time
from seqlab.cli.places import Workspace
with Workspace(pathlib.Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def at_work(home: Path) -> Iterator[int]:
    """Somebody else holds the workspace; yields the process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.stdin.close()


def test_who_is_at_work_is_seen_without_taking_the_lock(tmp_path: Path) -> None:
    home = Workspace(tmp_path)
    assert home.at_work() is None
    with at_work(tmp_path) as pid:
        assert home.at_work() == f"process {pid}"
    assert home.at_work() is None
    (tmp_path / ".seqlab/lock").write_text(str(os.getpid()))  # as it is left, and the number taken by another since
    assert home.at_work() is None
    with home.locked():
        assert home.at_work() is None


@pytest.mark.parametrize(
    ("change", "changed", "waiting"),
    [
        (lambda now: now, set(), set()),
        (with_value, {"finetune@a-rnn"}, {"finetune@a-rnn", "compare"}),
        (without_a_model, {"finetune@a-rnn", "compare"}, {"finetune@a-rnn", "compare"}),
    ],
)
def test_the_lock_file_alone_says_what_would_run(
    change: Any,
    changed: set[str],
    waiting: set[str],
    now: Now,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(status.Now, "of", lambda _: change(now))
    graph, found = from_lock(Workspace(now.home))
    assert graph.before == {"prepare@a": set(), "finetune@a-rnn": {"prepare@a"}, "compare": {"finetune@a-rnn"}}
    assert (found, graph.followers(found)) == (changed, waiting)
    tell(graph, found)
    said = capsys.readouterr().out
    assert said.startswith("2 of 3 stages would run: 1 finetune, 1 compare\n" if changed else "all stages are up to")


def test_a_file_that_is_written_meanwhile_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    monkeypatch.setattr(os, "walk", lambda top: [(top, [], ["gone"])])
    assert differs(tmp_path, {"md5": "x.dir", "size": 1, "nfiles": 1}) == "is being written"


def test_who_runs_dvc_itself_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = workspace(tmp_path / "lab")
    monkeypatch.chdir(home)
    other = os.getppid()
    locks = {"write": {str(home / "last.txt"): {"pid": other, "cmd": "dvc repro"}}, "read": {}}
    (home / ".dvc/tmp").mkdir(exist_ok=True)
    (home / ".dvc/tmp/rwlock").write_text(json.dumps(locks))
    began = time.monotonic()
    with pytest.raises(dvc.Busy) as found:
        from_dvc()
    assert time.monotonic() - began < dvc.LEAVING
    assert str(found.value) == f"{home}: process {other} is at work here; wait for it, or end it"


def test_the_command_is_of_the_workspace(tmp_path: Path) -> None:
    only = "stage=controls domain=power"
    assert command_of(Workspace(status.ROOT), "default", "power")(only) == f"seqlab repro --only {only}"
    assert command_of(Workspace(tmp_path), "quick", "power")(only) == f"seqlab repro suite=quick --only {only}"
    assert command_of(Workspace(tmp_path), "power", "power")(only) == "seqlab compare power"
