"""A process that has imported what stages import, and forks itself for each stage that is handed over to it.

Importing torch and Lightning takes five seconds, which is more than most stages work. A repro starts such a process and
names its socket in SEQLAB_WARM for the stages it runs. Each script of a stage calls `handover.hand_over` first: the
script, its arguments, environment, working folder and standard streams go to the warm process, and its child does the
work. Where DVC itself runs the stages (`dvc repro`, `dvc exp run`), the first that trains or evaluates starts a warm
process for those that follow, which ends with DVC. The results are those of a process of its own. Linux only: elsewhere
stages start by themselves.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from seqlab.executors.handover import FORKED, SIZE, STREAMS, VARIABLE, dvc_process

GRACE = 3.0  # seconds that a stage has to keep what it did, when it is asked to end
FORKS = "prepare_forks"  # a function of a module that is imported ahead: does what each stage would do again
SRC = str(Path(__file__).resolve().parents[2])  # of this checkout, whatever is installed

# What stages import that takes long, by the way that the family they work on is fitted.
LIGHT = (
    "seqlab.cli.stage",
    "seqlab.stages.evaluate",
    "seqlab.stages.draw",
    "seqlab.stages.compare",
    "seqlab.stages.finetune",
    "numba",
    "matplotlib.pyplot",
    "scipy.stats",
    "pyarrow.parquet",
    "pyarrow.pandas_compat",
    "pandas",
    "psutil",
    "safetensors.numpy",
    "threadpoolctl",
)
CLOSED_FORM = (
    *LIGHT,
    "seqlab.families.closed_form.bayes",
    "lightgbm",
    "sklearn.linear_model",
    "sklearn.feature_extraction.text",
    "statsforecast.arima",
)
MODULES = {
    "closed_form": (*CLOSED_FORM, "seqlab.training.closed_form.train"),
    "gradient": (*LIGHT, "seqlab.families.gradient", "seqlab.families.seq2seq", "seqlab.training.gradient.train"),
    # Whose members may be of either kind.
    "mixture": (*CLOSED_FORM, "seqlab.families.gradient", "seqlab.training.mixture.train"),
    "rules": (*LIGHT, "spacy", "kiwipiepy", "seqlab.training.rules.train"),
}


def door_of_dvc() -> str | None:
    """The socket of the warm process for the stage that DVC runs here; None where none is worth it."""
    if (fit := fit_of_stage()) is None:
        return None
    folder = Path(tempfile.gettempdir()) / f"seqlab-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        return None  # somebody else's
    dvc = dvc_process()
    path = folder / f"{dvc}-{fit}"
    if not path.exists():
        with socket.socket(socket.AF_UNIX) as door:
            try:
                life = os.pidfd_open(dvc)
                door.bind(str(path))
            except OSError:  # DVC has ended, or another stage was first
                return str(path)
            door.listen()
            log = open(os.devnull, "wb")  # noqa: SIM115
            subprocess.Popen(
                [sys.executable, "-m", __name__, str(door.fileno()), *MODULES[fit]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[door.fileno(), life],
                env=os.environ | {"PYTHONPATH": SRC, LIFE: f"{life} {path}"},
                start_new_session=True,
            )
            os.close(life)
    return str(path)


LIFE = "SEQLAB_LIFE"  # the process file of the DVC that a warm process ends with, and its socket


def fit_of_stage() -> str | None:
    """How the family of this stage is fitted, where the stage trains or evaluates on a CPU; else None."""
    import yaml

    from seqlab.yaml_files import parsed

    parts = sys.argv[-1].split("/")
    if Path(sys.argv[0]).stem not in ("pretrain", "finetune", "evaluate") or len(parts) < 3:
        return None
    with suppress(OSError, yaml.YAMLError, KeyError, TypeError):
        tree = parsed(Path("params.yaml").read_text("utf-8"))
        trainer = tree["trainer"]
        # Of a portable training every process has to begin with variables that DVC's does not have.
        if (
            trainer["accelerator"] == "cpu"
            and not trainer["portable"]
            and trainer["devices"] * trainer["num_nodes"] == 1
        ):
            family = tree["families"][parts[1]]
            return "gradient" if "optimizer" in family else "mixture" if "members" in family else "closed_form"
    return None


class Warm:
    """The warm processes of a repro, one for each list of modules, each started when the first stage needs it."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="seqlab-")
        self.doors: dict[tuple[str, ...], str] = {}
        self.processes: list[subprocess.Popen[bytes]] = []

    def environment(self, modules: tuple[str, ...]) -> dict[str, str]:
        """What a stage that imports `modules` needs in its environment."""
        if modules not in self.doors:
            path = self.doors[modules] = f"{self.folder.name}/{len(self.doors)}"
            # A stage that comes before the imports are done waits at the door.
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(path)
                door.listen()
                command = [sys.executable, "-m", __name__, str(door.fileno()), *modules]
                path_of_code = os.pathsep.join([SRC, *filter(None, [os.environ.get("PYTHONPATH")])])
                self.processes.append(
                    subprocess.Popen(
                        command,
                        stdin=subprocess.PIPE,
                        pass_fds=[door.fileno()],
                        env=os.environ | {"PYTHONPATH": path_of_code},
                    )
                )
        return {VARIABLE: self.doors[modules]}

    def leave(self) -> None:
        """Close this process's ends of the pipes: called in every child, so that the parent's end is the last."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *exception: object) -> None:
        """End the processes and every stage they run."""
        self.leave()
        for process in self.processes:
            process.wait()
        self.folder.cleanup()


class Stages:
    """The stages that were handed over and have not ended: a link, a child and its process file each."""

    def __init__(self, door: socket.socket):
        self.selector = selectors.DefaultSelector()
        self.door = door
        self.selector.register(self.door, selectors.EVENT_READ)
        # The process that started this one holds the other end of its standard input, and closes it by ending; or a
        # process file says when DVC has ended.
        life, _, path = os.environ.get(LIFE, f"{sys.stdin.fileno()}").partition(" ")
        self.life, self.path = int(life), Path(path) if path else None
        self.selector.register(self.life, selectors.EVENT_READ)
        self.children: dict[int, tuple[socket.socket, int]] = {}  # by process file
        self.asked: dict[int, float] = {}  # when those that were asked to end are killed, by process

    def serve(self) -> dict[str, Any]:
        """Fork for each request until standard input closes. Returns only in a child: what it shall become."""
        while True:
            for key, _ in self.selector.select(self.overdue()):
                if key.fileobj is self.door:
                    link, _ = self.door.accept()
                    if request := self.fork(link):
                        return request
                elif key.fileobj == self.life:
                    for _, pid in self.children.values():
                        os.kill(pid, signal.SIGKILL)
                    if self.path is not None:
                        self.path.unlink(missing_ok=True)
                    sys.exit(0)
                elif isinstance(key.fileobj, socket.socket):  # whoever waited for the stage is gone, or asks it to end
                    self.selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGTERM)
                    self.asked[key.data] = time.monotonic() + GRACE
                else:
                    self.ended(key.fd)

    def overdue(self) -> float | None:
        """Kill what was asked to end long ago; the seconds until the next one is due."""
        now = time.monotonic()
        for pid, deadline in list(self.asked.items()):
            if deadline <= now:
                os.kill(pid, signal.SIGKILL)
                del self.asked[pid]
        return min(self.asked.values()) - now if self.asked else None

    def fork(self, link: socket.socket) -> dict[str, Any] | None:
        """Start a child for a request. Returns the request in the child, None in the parent."""
        request, streams = receive(link)
        pid = os.fork()
        if pid == 0:
            self.selector.close()
            self.door.close()
            for process, (other, _) in self.children.items():
                os.close(process)
                other.close()
            link.close()
            for target, stream in enumerate(streams):
                os.dup2(stream, target)
                os.close(stream)
            return request
        for stream in streams:
            os.close(stream)
        process = os.pidfd_open(pid)
        self.children[process] = link, pid
        self.selector.register(process, selectors.EVENT_READ)
        self.selector.register(link, selectors.EVENT_READ, pid)
        return None

    def ended(self, process: int) -> None:
        """Tell whoever waits how the child ended, as a shell would."""
        link, pid = self.children.pop(process)
        self.asked.pop(pid, None)
        self.selector.unregister(process)
        os.close(process)
        if link in self.selector.get_map():
            self.selector.unregister(link)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with link, suppress(BrokenPipeError):  # nobody may be waiting any more
            link.sendall(str(code if code >= 0 else 128 - code).encode())


def receive(link: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and its standard streams."""
    size, streams, _, _ = socket.recv_fds(link, SIZE, STREAMS)
    with link.makefile("rb") as reader:
        request: dict[str, Any] = json.loads(reader.read(int.from_bytes(size, "big")))
    return request, streams


def become(request: dict[str, Any]) -> None:
    """Run the script of a request as if this process had been started for it."""
    for number in signal.valid_signals():
        # Handlers go with their program; what is ignored, as by nohup, stays so.
        if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.environ.clear()
    os.environ.update(request["env"])
    os.environ.pop(VARIABLE, None)
    os.environ[FORKED] = "1"
    os.chdir(request["cwd"])
    sys.argv[:] = request["argv"]
    sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


def end_with(function: Callable[[], None]) -> NoReturn:
    """Call it and end this process, as the end of a script does but for taking every module apart: that writes to,
    and so copies, all memory shared with the warm process, which took more time than most stages beside their work.
    """
    status = 1
    try:
        try:
            function()
            status = 0
        except SystemExit as error:
            status = status_of(error.code)
        except BaseException as error:
            status = 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            sys.excepthook(type(error), error, error.__traceback__)
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(status)


def status_of(code: object) -> int:
    """What Python ends with where sys.exit was given this."""
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def main(door: int, modules: Sequence[str]) -> None:
    """Import `modules`, then serve stages on the listening socket `door`."""
    # An interrupt from the keyboard reaches stages and their parent alike; this process ends after them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for found in [importlib.import_module(module) for module in modules]:
        getattr(found, FORKS, lambda: None)()
    # A collection, such as at the end of every child, would write to, and so copy, all memory shared with this process.
    gc.freeze()
    request = Stages(socket.socket(fileno=door)).serve()
    end_with(lambda: become(request))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
