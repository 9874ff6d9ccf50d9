"""Every private contract with DVC: what executors/dvc.py changes in DVC must not change what DVC finds or writes."""

from __future__ import annotations

import inspect
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc import rwlock
from dvc.config import Config
from dvc.data_cloud import DataCloud
from dvc.dependency import param
from dvc.exceptions import DvcException
from dvc.lock import Lock, LockError
from dvc.repo import Repo, lock_repo
from dvc.stage import PipelineStage
from dvc.stage.cache import StageCache
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dump_yaml, parse_yaml_for_update
from dvc_objects.fs import LocalFileSystem
from remotes import Remote

from seqlab import scratch
from seqlab.cli.failing import errors_in_one_line
from seqlab.errors import UserError
from seqlab.executors import dvc
from seqlab.executors.local import in_child, start

VALUES = """
steps: 1.0
empty: {}
none: null
domains:
  strings: {classes: [a, b], valid: 0.1}
"""
KEYS = [
    "steps",
    "empty",
    "none",
    "domains",
    "domains.strings.valid",
    "domains.strings.classes",
    "steps.more",
    "absent.a",
]


@pytest.fixture(autouse=True)
def own_reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    """DVC's own reader of values, which is put back after a test that replaced it."""
    own = param.read_param_file
    monkeypatch.setattr(param, "read_param_file", own)
    return own


@pytest.fixture
def readers(own_reader: Any) -> tuple[Any, Any]:
    """DVC's own reader of values, and the one that parses a file once."""
    dvc.read_once(LocalFileSystem())
    return own_reader, param.read_param_file


def test_values_are_those_that_dvc_reads(tmp_path: Path, readers: tuple[Any, Any]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(VALUES)
    own, once = (lambda *a, r=r: r(LocalFileSystem(), str(path), *a) for r in readers)
    for keys in (KEYS, KEYS[:1], []):
        assert once(keys, True) == own(keys, True)
    assert list(once(KEYS, True)) == list(own(KEYS, True))
    assert once() == own()
    assert (
        once(["domains.strings"])
        == own(["domains.strings"])
        == {"domains": {"strings": {"classes": ["a", "b"], "valid": 0.1}}}
    )


def test_a_changed_file_is_read_again(tmp_path: Path, readers: tuple[Any, Any]) -> None:
    path = tmp_path / "params.yaml"
    for i, value in enumerate((1, 2)):
        path.write_text(f"steps: {value}")
        os.utime(path, ns=(i, i))
        assert readers[1](LocalFileSystem(), str(path), ["steps"], True) == {"steps": value}


def test_a_stage_that_changes_its_values_changes_no_other_stage_s(tmp_path: Path, readers: tuple[Any, Any]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(VALUES)
    read = lambda: readers[1](LocalFileSystem(), str(path), ["domains"], True)["domains"]["strings"]  # noqa: E731
    read()["valid"] = 0.5
    assert read()["valid"] == 0.1


def test_whoever_waits_for_dvcs_lock_looks_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, wanted = Lock(str(tmp_path / "lock")), Lock(str(tmp_path / "lock"), wait=True)
    dvc.look_often(wanted)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            held.unlock()

    monkeypatch.setattr(dvc.time, "sleep", sleep)
    held.lock()
    with wanted:
        assert wanted.is_locked
    assert pauses == [dvc.POLLING] * 3


@pytest.fixture
def own_rwlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's own lock of files, which is put back after a test that replaced it."""
    monkeypatch.setattr(rwlock, "rwlock", getattr(rwlock.rwlock, "of_all", rwlock.rwlock))


@pytest.mark.usefixtures("own_rwlock")
def test_a_stage_names_its_files_to_others_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    edits = []
    edit = rwlock._edit_rwlock
    monkeypatch.setattr(rwlock, "_edit_rwlock", lambda *given: edits.append(given) or edit(*given))
    with dvc.opened() as pipeline:
        edits.clear()
        for _ in range(2):
            dvc.lock_files_once()
        assert pipeline.reproduced("compose", False)
        assert len(edits) == 2  # as it begins, and when it has ended
        assert not any(json.loads(Path(".dvc/tmp/rwlock").read_text()).values())


@pytest.mark.usefixtures("own_rwlock")
def test_files_that_another_process_works_on_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    monkeypatch.setattr(dvc, "LEAVING", 0.3)
    with dvc.opened() as pipeline:
        [out] = pipeline.stages["compose"].outs
        other = {"pid": os.getppid(), "cmd": "another"}
        Path(".dvc/tmp/rwlock").write_text(json.dumps({"read": {}, "write": {out.fs_path: other}}))
        with pytest.raises(SystemExit, match=f"{os.getppid()}.*another|another.*{os.getppid()}"):
            pipeline.reproduced("compose", False)


@pytest.mark.usefixtures("own_rwlock")
@pytest.mark.parametrize("left", ["", '{"read": {'])
def test_a_file_of_locks_that_a_kill_left_half_written_is_begun_anew(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    with dvc.opened() as pipeline:
        for step in (lambda: pipeline.dirty("compose"), lambda: pipeline.reproduced("compose", False)):
            Path(".dvc/tmp/rwlock").write_text(left)
            assert step()
            assert not any(json.loads(Path(".dvc/tmp/rwlock").read_text()).values())


@pytest.mark.usefixtures("own_rwlock")
def test_locks_of_files_that_a_killed_process_left_are_removed_without_a_word_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    monkeypatch.setattr(logging.getLogger("dvc"), "propagate", True)
    killed = subprocess.Popen(["true"])
    killed.wait()
    file, left = Path(".dvc/tmp/rwlock"), {"pid": killed.pid, "cmd": "killed"}
    other = {"pid": os.getppid(), "cmd": "another"}
    with dvc.opened() as pipeline:
        [out] = pipeline.stages["compose"].outs
        file.write_text(
            json.dumps({"write": {out.fs_path: left, "/elsewhere": other}, "read": {"/read": [left, other]}})
        )
        assert pipeline.reproduced("compose", False)
        assert json.loads(file.read_text()) == {"write": {"/elsewhere": other}, "read": {"/read": [other]}}
        for form in ({"write": {"/one": 3}}, {"read": {"/one": {"pid": 3}}}, {"other": 1}):
            file.write_text(json.dumps(form))
            dvc.mend_rwlock(".dvc/tmp")
            assert json.loads(file.read_text()) == form  # which DVC names
    assert "had been killed" not in caplog.text


def test_what_others_wrote_to_the_lock_file_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    with dvc.opened() as pipeline:
        lock, others = dvc.LockFile(pipeline.repo), dvc.LockFile(pipeline.repo)
        for one, name in ((lock, "compose"), (others, "each@first"), (lock, "last")):
            one.add({name: {"cmd": name}})
            one.write()
        assert list(dvc.locked(Path("dvc.lock"))) == ["compose", "each@first", "last"]


# ------------------------------------------------------------------------------------------- what is private to DVC


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (PipelineStage.reproduce, ["self", "interactive", "**kwargs"]),  # which hold force and pull
        (PipelineStage.changed, ["self", "allow_missing", "upstream"]),
        (PipelineStage.get_used_objs, ["self", "*args", "**kwargs"]),
        (PipelineStage.checkout, ["self", "allow_missing", "**kwargs"]),
        (StageCache.pull, ["self", "remote", "odb"]),
        (DataCloud.pull, ["self", "objs", "jobs", "remote", "odb"]),
        (lock_repo, ["repo"]),
        (PipelineStage.status, ["self", "check_updates", "filter_info"]),
        (to_lockfile, ["stage", "**kwargs"]),
        (param.read_param_file, ["fs", "path", "key_paths", "flatten", "**load_kwargs"]),
        (param.load_path, ["fs_path", "fs", "**kwargs"]),
        (dump_yaml, ["path", "data", "fs", "**kwargs"]),
        (parse_yaml_for_update, ["text", "path"]),
        (rwlock.rwlock, ["tmp_dir", "fs", "cmd", "read", "write", "hardlink"]),
        (Lock.lock, ["self"]),
        (Lock._do_lock, ["self"]),
    ],
    ids=lambda one: getattr(one, "__qualname__", ""),
)
def test_dvcs_functions_take_what_they_did(function: Callable[..., Any], names: list[str]) -> None:
    found = inspect.signature(function).parameters.values()
    stars = {inspect.Parameter.VAR_KEYWORD: "**", inspect.Parameter.VAR_POSITIONAL: "*"}
    assert [f"{stars.get(one.kind, '')}{one.name}" for one in found] == names


def test_dvcs_functions_use_what_is_replaced() -> None:
    assert "_wait_for_lock" in inspect.signature(Repo).parameters
    # By name from their modules, so that a replacement is what DVC itself calls.
    for function, name in (
        (param.ParamsDependency.read_params, "read_param_file"),
        (Lock.lock, "_do_lock"),
        (Lock.__enter__, "lock"),
        (inspect.unwrap(PipelineStage.reproduce), "run"),
    ):
        assert name in function.__code__.co_names
    assert issubclass(LockError, DvcException)


# What YAML writes in more ways than one, and what it would take for something else.
STAGES = """
stages:
  compose: {cmd: cp values.yaml made.yaml, deps: [values.yaml], outs: [made.yaml]}
  each:
    foreach: {first: 1, second: 2}
    do:
      cmd: mkdir -p out/${key} && cp made.yaml "out/${key}/a b.yaml"
      params: [values.yaml: [rate, none, empty, list, tree, words]]
      deps: [made.yaml]
      outs: ["out/${key}"]
  last: {cmd: cat out/*/* > last.txt, deps: [out/first, out/second], outs: [last.txt: {cache: false}]}
"""
PARAMETERS = {"rate": 0.001, "none": None, "empty": {}, "list": [1, 2.0, "1e3", "yes", "\u00e9\u6587"]} | {
    "tree": {"a": {"b": [True, "a: b #c"]}},
    "words": "several " * 30,
}


def workspace(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "values.yaml").write_text(yaml.safe_dump(PARAMETERS, allow_unicode=True))
    Repo.init(str(folder), no_scm=True).close()
    return folder


ORDER = ("compose", "each@first", "each@second", "last")  # of DVC


def by_executor(order: Sequence[str] = ORDER) -> list[str]:
    """Bring all up to date as an executor does; the stages that ran."""
    ran = []
    with dvc.opened() as pipeline, dvc.LockFile(pipeline.repo) as lock:
        for name in order:
            if entry := pipeline.reproduced(name, False):
                lock.add(entry)
                ran.append(name)
    return ran


def by_dvc() -> list[str]:
    with Repo() as repo:
        return [stage.addressing for stage in repo.reproduce()]


def test_the_lock_file_has_the_bytes_that_dvc_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {workspace(tmp_path / run.__name__): run for run in (by_dvc, by_executor)}
    for values in (PARAMETERS, PARAMETERS | {"list": ["other"]}, PARAMETERS):
        found = {}
        for folder, run in folders.items():
            monkeypatch.chdir(folder)
            (folder / "values.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
            found[run] = run(), (folder / "dvc.lock").read_bytes()
        assert found[by_executor] == found[by_dvc]
    with Repo(tmp_path / "by_executor") as repo:
        assert not repo.status()


def test_which_stage_finished_first_is_in_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name, order in (("one", ORDER), ("other", ("compose", "each@second", "each@first", "last"))):
        monkeypatch.chdir(workspace(tmp_path / name))
        (tmp_path / name / "values.yaml").write_text(yaml.safe_dump(PARAMETERS, allow_unicode=True))
        assert by_executor(order) == list(order)
        found.append(Path("dvc.lock").read_bytes())
    assert found[0] == found[1]


def test_values_in_the_lock_file_are_those_that_dvc_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    numbers = [1e-07, 1e20, -2.5e-300, 1.0, 0, -17, float("inf")]
    texts = [
        "1e-07",
        "no",
        "on",
        "12:30",
        "1_000",
        "0o17",
        "017",
        "0x1F",
        ".5",
        "~",
        "",
        "<<",
        "null",
        "true",
        "2026-11-27",
    ]
    values = PARAMETERS | {"list": [*numbers, *texts, None, True, False]}
    dump_yaml("values.yaml", values)
    assert by_executor() == list(ORDER)
    read = dvc.locked(Path("dvc.lock"))["each@first"]["params"]["values.yaml"]
    assert read["list"] == values["list"]
    assert [type(one) for one in read["list"]] == [type(one) for one in values["list"]]


def test_dvcs_graph_is_of_what_stands_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    with dvc.opened() as pipeline:
        assert isinstance(pipeline.repo.lock, Lock)
        both = {"each@first", "each@second"}
        each = {name: {"compose"} for name in both}
        assert pipeline.before == {"compose": set(), **each, "last": both}
        assert pipeline.command("compose") == "cp values.yaml made.yaml"
        assert pipeline.dirty("compose")
        [entry] = pipeline.reproduced("compose", False).values()
        assert entry["cmd"] == "cp values.yaml made.yaml"


# ------------------------------------------------------------------------------------------ what others have pushed

# Every stage notes that it ran, beside the workspaces.
SHARED = """
stages:
  first: {cmd: echo first >> ../ran && cp values.yaml first.txt, deps: [values.yaml], outs: [first.txt]}
  second: {cmd: echo second >> ../ran && mkdir out && cp first.txt out, deps: [first.txt], outs: [out]}
  last: {cmd: echo last >> ../ran && cat out/* > last.txt, deps: [out], outs: [last.txt: {cache: false}]}
"""


def shared(folder: Path, remote: Remote) -> Path:
    """A workspace with a cache of its own, and a remote that others have too."""
    folder.mkdir()
    (folder / "dvc.yaml").write_text(SHARED)
    (folder / "values.yaml").write_text("rate: 1")
    with Repo.init(str(folder), no_scm=True) as repo, repo.config.edit() as config:
        config["remote"] = {"both": remote}
        config["core"]["remote"] = "both"
    return folder


def pulled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages whose commands ran, when what others pushed was fetched."""
    monkeypatch.chdir(folder)
    ran = folder.parent / "ran"
    ran.unlink(missing_ok=True)
    with dvc.opened() as pipeline, dvc.LockFile(pipeline.repo) as lock:
        in_child(lambda: pipeline.pull(("first", "second", "last")))
        for name in ("first", "second", "last"):
            if in_child(partial(pipeline.dirty, name)):
                lock.add(in_child(partial(pipeline.reproduced, name, False, pull=True)))
    return ran.read_text().split() if ran.exists() else []


@pytest.mark.slow
def test_what_others_have_pushed_is_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: Remote
) -> None:
    one, other, third = (shared(tmp_path / name, remote) for name in ("one", "other", "third"))
    assert pulled(one, monkeypatch) == ["first", "second", "last"]

    def push() -> None:
        with Repo() as repo:
            repo.push(run_cache=True)

    in_child(push)  # threads of a remote would stay
    # Without a dvc.lock, by the runs of the same command, values and inputs; `last` keeps nothing in DVC's cache.
    assert pulled(other, monkeypatch) == ["last"]
    assert Path("dvc.lock").read_bytes() == (one / "dvc.lock").read_bytes()
    # With one, by what it names, and without a run.
    for name in ("dvc.lock", "last.txt"):
        (third / name).write_bytes((one / name).read_bytes())
    assert pulled(third, monkeypatch) == []
    assert (third / "out/first.txt").read_text() == "rate: 1"
    with Repo() as repo:
        assert not repo.status()
    # What changed is computed, and only that.
    (third / "values.yaml").write_text("rate: 2")
    assert pulled(third, monkeypatch) == ["first", "second", "last"]


@pytest.mark.slow
def test_what_a_remote_has_lost_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (shared(tmp_path / name, {"url": str(tmp_path / "remote")}) for name in ("one", "other"))
    pulled(one, monkeypatch)
    with Repo() as repo:
        repo.push(run_cache=True)
        [out] = repo.index.stages[0].outs
    for path in (tmp_path / "remote/files").rglob(out.hash_info.value[2:]):
        path.unlink()
    assert pulled(other, monkeypatch) == ["first", "last"]
    assert Path("dvc.lock").read_bytes() == (one / "dvc.lock").read_bytes()


def test_without_a_remote_or_behind_a_dead_one_pulling_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    with dvc.opened() as pipeline, pytest.raises(UserError, match="DVC has no remote to pull from"):
        pipeline.pull(())
    monkeypatch.chdir(shared(tmp_path / "dead", {"url": "http://127.0.0.1:9/"}))
    with dvc.opened() as pipeline, pytest.raises(UserError, match="DVC's remote both"):
        pipeline.pull(("first",))


@pytest.mark.parametrize("cache", [None, "elsewhere"])
def test_a_suite_has_the_cache_and_the_remotes_of_the_checkout(cache: str | None, tmp_path: Path) -> None:
    one = shared(tmp_path / "one", {"url": str(tmp_path / "remote")})
    if cache is not None:
        with Config(str(one / ".dvc")).edit("local") as config:
            config["cache"] = {"dir": str(tmp_path / cache), "type": "symlink,copy"}
    other = workspace(tmp_path / "other")
    for _ in range(2):
        dvc.share_config(one, other)
        written = (other / ".dvc/config.local").stat()
        with Repo(str(one)) as repo, Repo(str(other)) as suite:
            assert suite.cloud.get_remote().path == str(tmp_path / "remote")
            assert suite.cache.local.path == repo.cache.local.path
            assert suite.config["cache"].get("type") == repo.config["cache"].get("type")
    # What is shared already is not written again.
    assert (other / ".dvc/config.local").stat() == written


# --------------------------------------------------------------------------------------------- whatever goes wrong


@pytest.mark.usefixtures("own_rwlock")
def test_a_stage_waits_for_what_a_killed_command_had_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    with subprocess.Popen(["sleep", "30"]) as other:
        held = {str(Path("made.yaml").absolute()): {"pid": other.pid, "cmd": "a stage of a command that was killed"}}
        Path(".dvc/tmp").mkdir(exist_ok=True)
        Path(".dvc/tmp/rwlock").write_text(json.dumps({"read": {}, "write": held}))
        threading.Timer(1, lambda: (other.kill(), other.wait())).start()
        began = time.monotonic()
        with dvc.opened() as pipeline:
            assert pipeline.dirty("compose")
            assert pipeline.reproduced("compose", False)
        assert time.monotonic() - began > 0.8


@pytest.mark.slow
def test_whenever_a_writer_is_killed_the_lock_file_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    path, calls = Path(dvc.LOCK_FILE), 0

    def write(word: str, counted: Callable[..., None] | None = None) -> None:
        lock = dvc.LockFile(repo)
        lock.add({f"stage@{i}": {"cmd": word, "outs": [{"path": word, "size": i}]} for i in range(5)})
        sys.setprofile(counted)  # called whenever a function is, or returns
        lock.write()
        sys.setprofile(None)

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    def killed(at: int) -> None:
        def kill(*_: object) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)

        write("new", kill)

    with Repo() as repo:
        for word in ("old", "new", "old"):  # the first of each kind loads what takes steps of its own
            write(word)
        old, found = path.read_bytes(), []
        write("new", count)
        new, last, calls = path.read_bytes(), calls, 0
        # Now and then in the whole of it, and at nearly every step of its end, where one file takes the other's place.
        for moment in (*range(1, last, last // 8), *range(last - 60, last, 2)):
            path.write_bytes(old)
            child = start(partial(killed, moment), lambda: None)
            child.process.join()
            assert child.process.exitcode == -signal.SIGKILL
            found.append(path.read_bytes())
        assert set(found) == {old, new}
        # What was not finished lies apart; the next process takes DVC's lock, writes, and removes it.
        assert set(Path().rglob("dvc.lock")) > {path}
        monkeypatch.setattr(scratch, "_swept", set())
        write("old")
        assert path.read_bytes() == old
    assert set(Path().rglob("dvc.lock")) == {path}


WHOLE = "schema: '2.0'\nstages:\n  compose:\n    cmd: cp\n"
CONFLICT = f"schema: '2.0'\n<<<<<<< HEAD\n{WHOLE[14:]}=======\nstages: {{}}\n>>>>>>> other\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CONFLICT, "line 2: a merge conflict"),
        ("", "no stages"),
        (WHOLE[:31], "no stages"),
        (WHOLE + "    outs: [{path: a", "damaged, not YAML"),
        (b"\x00\xff\x13" * 50, "damaged"),
        ("- a list", "no stages"),
        ("stages: {compose: 3}", ""),
        (WHOLE + WHOLE[14:], ""),
    ],
    ids=["conflict", "empty", "cut", "cut in a value", "binary", "list", "no stage", "twice"],
)
def test_a_damaged_lock_file_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str | bytes, said: str
) -> None:
    monkeypatch.chdir(workspace(tmp_path / "lab"))
    data = content if isinstance(content, bytes) else content.encode()
    Path(dvc.LOCK_FILE).write_bytes(data)
    with pytest.raises(SystemExit) as ended:
        errors_in_one_line(lambda: dvc.opened().__enter__())
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "dvc.lock" in line
    assert said in line
    assert Path(dvc.LOCK_FILE).read_bytes() == data
