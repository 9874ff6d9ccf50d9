"""Every private contract with DVC in one place: its graph, one stage brought up to date, and its lock file.

DVC runs one stage at a time, and reads and writes the whole of dvc.lock around each. Here it is loaded once; stages are
brought up to date by DVC's own `Stage.reproduce`, under DVC's own locks; and what dvc.lock says of those that finished
is written every few seconds, under a temporary name that takes the place of the old file when it is whole.

tests/test_dvc.py holds each of these contracts, and fails by name when DVC changes one.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import io
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from copy import deepcopy
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, TypeVar, cast

from seqlab.errors import UserError
from seqlab.scratch import replacing
from seqlab.yaml_files import parsed

Found = TypeVar("Found")

PIPELINE_FILE, LOCK_FILE = "dvc.yaml", "dvc.lock"
COMPOSE = "compose"  # the stage that writes what dvc.yaml loops over
POLLING = 0.001  # seconds between looks whether DVC's lock is free; DVC's own half a second is a stage's work
HELD = 0.1  # seconds between tries to have files that another command's stage holds,
LEAVING = 30.0  # and until those of a killed command have let go
WRITING = 20.0  # seconds between writes of dvc.lock, and, of a large one,
WRITTEN = 20.0  # the times that writing it took
LATE = ("dvc.rwlock", "dvc_data.hashfile.status", "fsspec.implementations.memory")  # what DVC imports to run a stage


class Pipeline:
    """DVC's graph of the workspace in the current folder. Raises UserError when DVC cannot read it."""

    def __init__(self, repo: Any):
        self.repo = repo
        prepare_forks(repo)
        self.stages: dict[str, Any] = {stage.addressing: stage for stage in repo.index.stages}
        graph = repo.index.graph
        self.before = {
            name: {other.addressing for other in graph.successors(stage)} for name, stage in self.stages.items()
        }

    def command(self, name: str) -> str:
        return str(self.stages[name].cmd)

    def outputs(self, name: str) -> list[str]:
        """The paths of what a stage writes, below the workspace."""
        return [os.path.relpath(out.fs_path, self.repo.root_dir) for out in self.stages[name].outs]

    def dirty(self, name: str, patience: float | None = None) -> bool:
        """Whether DVC sees a change of a stage's command, values, inputs or outputs.

        Raises SystemExit with DVC's words where it cannot tell. patience: seconds after which Busy is raised where
        another command's stage holds them; None: LEAVING, and SystemExit here too.
        """
        from dvc.exceptions import DvcException

        stage = self.stages[name]

        def changed() -> bool:
            with stage.repo.lock:
                return bool(stage.status())

        try:
            return unhindered(changed, patience)
        except Busy as error:
            if patience is not None:
                raise
            sys.exit(str(error))
        except DvcException as error:
            sys.exit(str(error))

    def reproduced(self, name: str, force: bool, pull: bool = False) -> dict[str, Any]:
        """As `reproduced` below."""
        return reproduced(self.stages[name], force, pull)

    def composed(self, force: bool) -> dict[str, Any]:
        """As `reproduced` of the stage that composes, in a child: DVC's own words of how it goes are no user's."""
        logging.getLogger("dvc").setLevel(logging.WARNING)
        return self.reproduced(COMPOSE, force)

    def pull(self, names: Iterable[str]) -> None:
        """Fetch what others pushed: all their runs, and the data of stages that lack nothing but what dvc.lock names.

        What the remote does not have is left to run. Raises UserError where there is no remote or it does not answer.
        """
        with lock_repo(self.repo), of_remote(self.repo):
            self.repo.cloud.get_remote()  # whether there is one, in DVC's plainest words
            self.repo.stage_cache.pull(None)
            stages = [self.stages[name] for name in names if self._lacks_data_alone(name)]
            objects: set[Any] = set()
            for stage in stages:
                objects.update(*stage.get_used_objs().values())
            self.repo.cloud.pull(objects)
            for stage in stages:
                stage.checkout(allow_missing=True)

    def _lacks_data_alone(self, name: str) -> bool:
        stage, before = self.stages[name], [self.stages[other] for other in self.before[name]]
        return bool(stage.changed()) and not stage.changed(allow_missing=True, upstream=before)

    def feeding(self, name: str) -> set[str]:
        """The stages whose outputs a stage reads, beside its values."""
        files = [dep.fs_path for dep in self.stages[name].deps if not _is_values(dep)]
        return {
            other
            for other in self.before[name]
            if any(_overlap(file, out.fs_path) for file in files for out in self.stages[other].outs)
        }

    def travels(self, name: str) -> bool:
        """Whether a stage can run on another disk: all that it writes is in DVC's cache, and all that it reads too."""
        stage, made = self.stages[name], [out for other in self.feeding(name) for out in self.stages[other].outs]
        return all(out.use_cache for out in (*stage.outs, *made)) and all(
            _is_values(dep) or any(_overlap(dep.fs_path, out.fs_path) for out in made) for dep in stage.deps
        )

    def values(self, name: str) -> dict[str, bytes]:
        """The files that hold a stage's command and values, by their paths."""
        paths = {Path(dep.fs_path) for dep in self.stages[name].deps if _is_values(dep)}
        paths |= {Path(out.fs_path) for out in (self.stages[COMPOSE].outs if COMPOSE in self.stages else ())}
        paths.add(Path(self.repo.root_dir) / PIPELINE_FILE)
        return {os.path.relpath(path, self.repo.root_dir): path.read_bytes() for path in paths if path.exists()}

    def push(self, names: Iterable[str]) -> None:
        """Send the outputs of stages that are up to date to DVC's remote. Raises UserError as `pull`."""
        with lock_repo(self.repo), of_remote(self.repo):
            for name in names:
                push_of(self.stages[name])

    def entries(self) -> dict[str, Any]:
        """What dvc.lock says, by stage, as DVC reads it."""
        from dvc.dvcfile import ProjectFile

        found: dict[str, Any] = ProjectFile(self.repo, PIPELINE_FILE).lockfile_contents.get("stages", {})
        return found


class Stages:
    """Stages of the workspace in the current folder one by one, without their graph: what a worker needs."""

    def __init__(self, repo: Any):
        self.repo = repo
        prepare_forks(repo)
        self.read()

    def read(self) -> None:
        """What dvc.yaml says now."""
        from dvc.dvcfile import ProjectFile

        self.file = ProjectFile(self.repo, PIPELINE_FILE)

    def stage(self, name: str, entry: dict[str, Any] | None) -> Any:
        """As the graph has it. entry: what dvc.lock says of it so far."""
        from dvc.stage.loader import StageLoader

        resolved = self.file.resolver.resolve_one(name)
        return StageLoader.load_stage(self.file, name, resolved[name], entry)


def _is_values(dep: Any) -> bool:
    from dvc.dependency.param import ParamsDependency

    return isinstance(dep, ParamsDependency)


def _overlap(one: str, other: str) -> bool:
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def push_of(stage: Any) -> None:
    """Send what a stage has written to DVC's remote."""
    for objects in stage.get_used_objs().values():
        failed = stage.repo.cloud.push(objects).failed
        if failed:
            raise UserError(f"{len(failed)} objects of {stage.addressing} could not be sent")


def brought(stages: Iterable[Any]) -> None:
    """Fetch from DVC's remote what stages have written elsewhere, and put it in place. Raises UserError."""
    for stage in stages:
        with lock_repo(stage.repo), of_remote(stage.repo):
            if not stage.changed_outs():
                continue  # another stage may be reading them
            for objects in stage.get_used_objs().values():
                stage.repo.cloud.pull(objects)
            if lacking := stage.checkout(force=True).get("failed"):
                raise UserError(f"{', '.join(map(str, lacking))} of {stage.addressing}: not there")


def cleared(stage: Any, before: Iterable[Any]) -> None:
    """Remove from the folders that a stage reads whatever the stages before it did not write: other runs left it."""
    made = [Path(out.fs_path) for other in before for out in other.outs]
    for dep in stage.deps:
        top = Path(dep.fs_path)
        if not any(top.is_relative_to(one) for one in made):
            for path in top.rglob("*"):
                if not path.is_dir() and not any(path.is_relative_to(one) for one in made):
                    path.unlink()


def reproduced(stage: Any, force: bool, pull: bool = False) -> dict[str, Any]:
    """Do what `dvc repro --single-item` does; what dvc.lock shall say of it, nothing where it says so already.

    pull: with `--pull`: an earlier run of the same command, values and inputs is fetched from DVC's remote.
    Raises SystemExit with DVC's words when the command fails, or naming a file that it needs and that is not there.
    """
    from dvc.exceptions import DvcException
    from dvc.stage.serialize import to_lockfile

    def run() -> Any:
        # What pulls takes the lock once more, which only this way of taking it allows.
        with lock_repo(stage.repo) if pull else stage.repo.lock:
            return stage.reproduce(force=force, pull=pull)

    try:
        done = unhindered(run)
    except (DvcException, Busy) as error:
        sys.exit(str(error))
    except FileNotFoundError as error:  # which DVC lets through where it looks for an earlier result
        sys.exit(f"{error.filename}: missing; {stage.addressing} reads it")
    entry: dict[str, Any] = to_lockfile(stage) if done else {}
    return entry


class Busy(UserError):
    """Another command's stage holds a file that is needed."""


def unhindered(function: Callable[[], Found], patience: float | None = None) -> Found:
    """Its result, once no other command's stage holds a file that it needs: those of a killed one soon end.

    DVC refuses at once, before anything is done. It is asked anew without its lock, which such a stage needs to end.
    Raises Busy naming who holds it after so many seconds; None: LEAVING.
    """
    from dvc.lock import LockError

    deadline = time.monotonic() + (LEAVING if patience is None else patience)
    while True:
        try:
            return function()
        except LockError as error:
            if time.monotonic() > deadline:
                # DVC would have its file of locks removed by hand, under the feet of whoever is at work.
                pids = dict.fromkeys(re.findall(r"PID (\d+)", str(error)))
                who = f"process {', '.join(pids)}" if pids else "another command of DVC"
                raise Busy(f"{Path.cwd()}: {who} is at work here; wait for it, or end it") from None
        time.sleep(HELD)


def lock_repo(repo: Any) -> AbstractContextManager[None]:
    """DVC's lock, within which its own functions that take it may be called."""
    from dvc.repo import lock_repo

    found: AbstractContextManager[None] = lock_repo(repo)
    return found


@contextmanager
def of_remote(repo: Any) -> Iterator[None]:
    """Say in one line what goes wrong with a remote. Raises UserError."""
    from dvc.config import NoRemoteError

    try:
        yield
    except NoRemoteError:
        raise UserError(
            "DVC has no remote to pull from or push to; `dvc remote add -d NAME URL` names a folder, s3://… or ssh://…"
        ) from None
    except Exception as error:  # of whichever library speaks to it
        remote = repo.config["core"].get("remote")
        raise UserError(f"DVC's remote {remote}: {error or type(error).__name__}") from error


def share_config(home: Path, other: Path) -> None:
    """Give the workspace `other` the cache and the remotes of the one at `home`, where no version sees it."""
    from dvc.config import Config

    own, theirs = Config(str(home / ".dvc")), Config(str(other / ".dvc"))
    cache = {"dir": str(home / ".dvc/cache")} | dict(own["cache"])
    core = {"remote": own["core"]["remote"]} if "remote" in own["core"] else {}
    shared = {"cache": cache, "remote": dict(own["remote"]), "core": dict(theirs["core"]) | core}
    if any(dict(theirs[section]) != values for section, values in shared.items()):
        with theirs.edit("local") as edited:
            edited.update(shared | {"core": edited.get("core", {}) | core})


@contextmanager
def opened() -> Iterator[Pipeline]:
    """The pipeline of the current folder. Raises UserError in one line where dvc.yaml or dvc.lock is damaged."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    check_lock(Path(LOCK_FILE))
    with Repo(_wait_for_lock=True) as repo:
        try:
            pipeline = Pipeline(repo)
        except DvcException as error:
            raise UserError(f"dvc.yaml: {' '.join(str(error).split())}") from None
        yield pipeline


@contextmanager
def one_by_one() -> Iterator[Stages]:
    """The stages of the current folder, for a worker."""
    from dvc.repo import Repo

    with Repo(_wait_for_lock=True) as repo:
        yield Stages(repo)


def md5(path: Path) -> str:
    """By which DVC knows a content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class Cache:
    """DVC's cache of contents, only read: files under their MD5, a folder as the list of its files'."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def of(cls, home: Path) -> Cache:
        """That of the repository at `home`, wherever its configuration has put it."""
        from dvc.repo import Repo

        with Repo(str(home)) as repo:
            return cls(Path(repo.cache.local.path))

    def file(self, md5: str) -> Path:
        return self.folder / md5[:2] / md5[2:]

    def files(self, entry: dict[str, Any]) -> dict[str, str]:
        """The MD5 of each file of an input or output of dvc.lock, by its path below the entry's; "" of a file itself.

        Raises UserError where the cache no longer has the list of a folder's files.
        """
        if not entry["md5"].endswith(".dir"):
            return {"": entry["md5"]}
        path = self.file(entry["md5"])
        if not path.is_file():
            raise UserError(
                f"{entry['path']}: its content {entry['md5']} is not in DVC's cache; `dvc pull` may have it"
            )
        return {part["relpath"]: part["md5"] for part in json.loads(path.read_text(encoding="utf-8"))}


def locked(path: Path) -> dict[str, dict[str, Any]]:
    """What a dvc.lock says of each stage: deps, params, outs. Raises UserError where it is missing or damaged."""
    if not path.exists():
        raise UserError(f"{path}: missing; seqlab repro writes it")
    return check_lock(path)


def check_lock(path: Path) -> dict[str, dict[str, Any]]:
    """Its stages. Raises UserError naming line and remedy where dvc.lock is empty, in conflict or no YAML."""
    if not path.exists():
        return {}
    import yaml

    remedy = f"`git checkout {path}` brings the committed one back; after `rm {path}` results are found in DVC's cache"
    text = path.read_text(encoding="utf-8", errors="replace")
    conflict = next(
        (n for n, line in enumerate(text.splitlines(), 1) if line.startswith(("<<<<<<< ", ">>>>>>> "))), None
    )
    if conflict is not None:
        raise UserError(f"{path}, line {conflict}: a merge conflict; {remedy}")
    try:
        tree = parsed(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{where}: damaged, not YAML; {remedy}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("stages"), dict):
        raise UserError(f"{path}: damaged, it has no stages; {remedy}")
    stages: dict[str, dict[str, Any]] = tree["stages"]
    return stages


class LockFile:
    """dvc.lock, written in batches and as a whole: whenever a process is killed, the file is the old or the new one.

    Stages stand in the order of dvc.yaml: which of several finished first, or before a kill, is in no byte.
    """

    def __init__(self, repo: Any):
        self.repo = repo
        self.entries: dict[str, Any] = {}
        self.text, self.tree = "", cast(dict[str, Any], {})  # the file as it was last seen
        self.written, self.pause = time.monotonic(), WRITING

    def __enter__(self) -> LockFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.write()

    def add(self, entry: dict[str, Any]) -> None:
        self.entries |= entry
        if time.monotonic() - self.written > self.pause:
            self.write()

    def write(self) -> None:
        from dvc.utils.serialize import dump_yaml, parse_yaml_for_update

        begun = time.monotonic()
        if self.entries:
            path = Path(self.repo.root_dir) / LOCK_FILE
            with self.repo.lock:
                text = path.read_text(encoding="utf-8") if path.exists() else ""
                if text != self.text:
                    self.tree = parse_yaml_for_update(text, str(path)) if text else {}
                self.tree.setdefault("schema", "2.0")
                stages = self.tree.setdefault("stages", {})
                stages.update(self.entries)
                order = {stage.addressing: number for number, stage in enumerate(self.repo.index.stages)}
                for name in sorted(stages, key=lambda name: order.get(name, len(order))):
                    stages[name] = stages.pop(name)
                with replacing(path) as made:
                    with redirect_stdout(io.StringIO()):  # on a full disk ruamel prints what it could not write
                        dump_yaml(str(made), self.tree)
                    with open(made, "rb") as file:
                        self.text = file.read().decode()
                        os.fsync(file.fileno())
        self.entries, self.written = {}, time.monotonic()
        self.pause = max(WRITING, WRITTEN * (self.written - begun))


def look_often(lock: Any) -> None:
    """Have whoever waits for DVC's lock take it soon after it is free, and all but the first wait without looking."""
    from dvc.lock import Lock, LockError

    def take() -> None:
        with open(queue, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            while True:
                try:
                    lock._do_lock()
                    return
                except LockError:
                    time.sleep(POLLING)

    queue = f"{lock.lockfile}.queue"

    if isinstance(lock, Lock):  # hard links, DVC's other kind, look by themselves
        lock.lock = take


def prepare_forks(repo: Any) -> None:
    """Do here, once, what each child that brings a stage up to date would do again."""
    look_often(repo.lock)
    read_once(repo.fs)
    lock_files_once()
    for module in LATE:
        importlib.import_module(module)


def lock_files_once() -> None:
    """Have a stage name the files that it works on once: in each step within the first they are its own already.

    Each time DVC rewrites its file of all locks of files, which was half of the time for which it holds its own lock.
    """
    from dvc import rwlock

    if hasattr(rwlock.rwlock, "of_all"):
        return
    reading: set[str] = set()
    writing: set[str] = set()

    @contextmanager
    def once(tmp: str, fs: Any, command: str, read: list[str], write: list[str], hardlink: bool) -> Iterator[None]:
        if set(write) <= writing and set(read) <= reading | writing:
            yield
            return
        more_read, more_written = set(read) - reading, set(write) - writing
        mend_rwlock(tmp, hardlink)
        with of_all(tmp, fs, command, read, write, hardlink):
            reading.update(more_read)
            writing.update(more_written)
            try:
                yield
            finally:
                reading.difference_update(more_read)
                writing.difference_update(more_written)

    of_all: Callable[..., AbstractContextManager[None]] = rwlock.rwlock
    once.of_all = of_all  # type: ignore[attr-defined]
    rwlock.rwlock = once


def mend_rwlock(tmp: str, hardlink: bool = False) -> None:
    """Take out of DVC's file of locks of files what killed processes left there: their locks, of which DVC would warn
    in words of its own; and all of it where one was killed as it wrote the file, which DVC would read no more."""
    from dvc.lock import make_lock
    from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

    path = Path(tmp) / RWLOCK_FILE

    def mended() -> str | None:
        """What it shall hold; None where it may stay as it is."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            return "{}"
        alive = _of_the_living(found)
        return None if alive == found else json.dumps(alive)

    if mended() is not None:  # or another process is writing it
        with make_lock(str(Path(tmp) / RWLOCK_LOCK), tmp_dir=tmp, hardlink_lock=hardlink, wait=True):
            if (text := mended()) is not None:
                with replacing(path) as made:
                    made.write_text(text, encoding="utf-8")


def _of_the_living(locks: dict[str, Any]) -> dict[str, Any]:
    """Locks of files without those of processes that have ended; of another form, for DVC to name, as they are."""
    from psutil import pid_exists

    try:
        write = {path: one for path, one in locks.get("write", {}).items() if pid_exists(int(one["pid"]))}
        read = {
            path: alive
            for path, several in locks.get("read", {}).items()
            if (alive := [one for one in several if pid_exists(int(one["pid"]))])
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        return locks
    return {key: {"write": write, "read": read}.get(key, part) for key, part in locks.items()}


def read_once(files: Any) -> None:
    """Have DVC parse a file of values once, and not for every stage that depends on some of them."""
    from dvc.dependency import param

    @cache
    def parsed(path: str, changed: int) -> Any:
        return param.load_path(path, files)

    def values(fs: Any, path: str, keys: list[str] | None = None, flatten: bool = False) -> dict[str, Any]:
        if not (keys and flatten):
            return cast(dict[str, Any], whole(fs, path, keys, flatten))
        tree, found = parsed(path, Path(path).stat().st_mtime_ns), {}
        for key in keys:
            with suppress(KeyError, TypeError):  # DVC names those that are missing
                found[key] = deepcopy(reduce(getitem, key.split("."), tree))
        return found

    whole: Callable[..., Any] = param.read_param_file
    param.read_param_file = values
