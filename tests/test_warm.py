"""A stage in a warm process is as one in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from seqlab import config
from seqlab.cli.repro import warmed
from seqlab.errors import UserError
from seqlab.executors.handover import RUNNER, SUPPORTED, VARIABLE
from seqlab.executors.local import Local, in_child
from seqlab.executors.warm import MODULES, SRC, Warm

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="forks with process files, which Linux has")

SCRIPT = """\
import sys
sys.path.insert(0, {src!r})
from seqlab.executors.handover import hand_over
hand_over()
import os, time
print(sys.argv[1:], os.getcwd(), sys.stdin.read(), os.environ["OWN"], flush=True)
print("said", file=sys.stderr)
if "wait" in sys.argv:
    open("pid", "w").write(str(os.getpid()))
    time.sleep(60)
sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(src=SRC))
    return path


def run(script: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=script.parent,
        env={**os.environ, **environment, "OWN": "own"},
        input="typed",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_gets_what_a_process_of_its_own_gets(script: Path) -> None:
    alone = run(script, {}, "a b", "3")
    with Warm() as warm:
        handed = run(script, warm.environment(("wave",)), "a b", "3")
    assert (handed.returncode, handed.stdout, handed.stderr) == (alone.returncode, alone.stdout, alone.stderr)
    assert (alone.returncode, alone.stderr) == (3, "said\n")


def test_imports_are_paid_once(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text(f"open({str(tmp_path / 'imports')!r}, 'a').write('x')\n")
    script.write_text(script.read_text().replace("import os, time", "import os, time, slow"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Warm() as warm:
        environment = warm.environment(("slow",))
        assert [run(script, environment, "0").returncode for _ in range(3)] == [0, 0, 0]
    assert (tmp_path / "imports").read_text() == "x"


def test_what_every_stage_would_do_again_is_done_once(script: Path) -> None:
    script.write_text(
        script.read_text().replace(
            "import os, time",
            "import os, time\nfrom seqlab import config\nfrom seqlab.cli import environment, runs\n"
            "done = config._of_content, environment.libraries, runs.code_hash\n"
            "print([one.cache_info().currsize for one in done], 'cffi' in sys.modules)",
        )
    )
    assert run(script, {}, "0").stdout.startswith("[0, 0, 0] False")
    with Warm() as warm:
        assert run(script, warm.environment(MODULES["closed_form"]), "0").stdout.startswith("[1, 1, 1] True")


def test_what_is_shared_is_left_out_of_collections(script: Path) -> None:
    script.write_text(
        script.read_text().replace("import os, time", "import gc, os, time\nprint(gc.get_freeze_count())")
    )
    alone = run(script, {}, "0")
    with Warm() as warm:
        handed = run(script, warm.environment(("wave",)), "0")
    assert int(alone.stdout.split()[0]) < int(handed.stdout.split()[0])


def test_handlers_of_what_was_imported_ahead_are_not_the_stages(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "handlers.py").write_text("import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\n")
    shown = "import os, time, signal\nprint(*(signal.getsignal(n) for n in (15, signal.SIGINT, signal.SIGPIPE)))"
    script.write_text(script.read_text().replace("import os, time", shown))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Warm() as warm:
        handed = run(script, warm.environment(("handlers",)), "0")
    assert handed.stdout == run(script, {}, "0").stdout


def test_without_a_warm_process_it_runs_by_itself(script: Path, tmp_path: Path) -> None:
    assert run(script, {VARIABLE: str(tmp_path / "nobody")}, "4").returncode == 4


def test_an_executor_ends_its_own_warm_processes_and_no_others(tmp_path: Path) -> None:
    with Warm() as warm:
        warm.environment(("json",))
        with Local(lambda _: {}, 1, lambda _: None, tmp_path, warm):
            pass
        assert [process.poll() for process in warm.processes] == [None]
    with Local(lambda _: {}, 1, lambda _: None, tmp_path) as local:
        local.warm.environment(("json",))
    assert [process.poll() for process in local.warm.processes] == [0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["the one who waits is killed", "the repro ends"])
def test_nothing_is_left_running(script: Path, how: str) -> None:
    warm = Warm()
    environment = {**os.environ, **warm.environment(("json",)), "OWN": "own"}
    command = [sys.executable, script, "wait", "0"]
    with subprocess.Popen(command, cwd=script.parent, env=environment, stdin=subprocess.DEVNULL) as waiting:
        until((script.parent / "pid").exists)
        until(lambda: bool((script.parent / "pid").read_text()))
        pid = int((script.parent / "pid").read_text())
        assert pid != waiting.pid
        if how == "the repro ends":
            warm.__exit__()
        else:
            waiting.send_signal(signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists())
        assert waiting.wait(30) != 0
    warm.__exit__()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_every_way_of_fitting_has_a_warm_process():
    yamls = (Path(__file__).parents[1] / "conf/family").glob("*.yaml")
    found = [config.family(path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))) for path in yamls]
    assert {family.fit for family in found} == set(MODULES)


def test_a_probe_finds_imported_what_it_opens() -> None:
    """Models of every kind of family that its domain has."""
    root = Path(__file__).parents[1]
    experiment = config.experiment(config.read_params(root / "params.yaml"))
    assert warmed(experiment, "python pipelines/probe.py series") == "mixture"
    assert warmed(experiment, "python pipelines/evaluate.py series/arima/scratch/0") == "closed_form"
    alone = {"domains": ["series"], "families": ["arima"], "strategies": ["scratch"], "fractions": [1.0]}
    local = replace(experiment, suite=replace(experiment.suite, parts=[alone]))
    assert warmed(local, "python pipelines/probe.py series") == "closed_form"


def test_what_a_stage_calls_python_is_what_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)  # as where the command was given by its path
    assert in_child(lambda: shutil.which("python")) == str(Path(sys.executable).with_name("python"))


def test_what_fails_in_a_child_is_an_error_of_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="what failed is said above"):
        in_child(lambda: sys.exit("the reason"))
    assert "the reason" in capfd.readouterr().err


@pytest.mark.parametrize("through", ["seqlab", "DVC"])
def test_a_stage_ends_with_what_brings_it_up_to_date_though_a_shell_stands_between(
    through: str, script: Path, tmp_path: Path
) -> None:
    runner = "import os, subprocess; os.environ['OWN'] = ''; os.environ['DVC_STAGE'] = 'stage'\n"
    runner += f"os.environ[{RUNNER!r}] = str(os.getpid())\n" if through == "seqlab" else ""
    runner += f"subprocess.run('{sys.executable} {script} wait 0; true', shell=True)"
    with subprocess.Popen([sys.executable, "-c", runner], cwd=tmp_path, stdin=subprocess.DEVNULL) as process:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        stage = int((tmp_path / "pid").read_text())
        process.kill()
    status = Path(f"/proc/{stage}/stat")
    until(lambda: not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z")


ENDING = """\
import atexit, threading
atexit.register(print, "asked for at the end")
threading.Thread(target=lambda: (time.sleep(0.2), print("a thread's"))).start()
"""


@pytest.mark.parametrize("end", ["sys.exit()", "sys.exit(3)", "sys.exit(300)", "sys.exit('a reason')", "1 / 0", "pass"])
def test_it_ends_as_a_process_of_its_own_ends(script: Path, end: str) -> None:
    lines = script.read_text().rpartition("sys.exit")[0]
    script.write_text(f"{lines}{ENDING}{end}\n")
    alone = run(script, {}, "0")
    with Warm() as warm:
        handed = run(script, warm.environment(("wave",)), "0")
    assert (handed.returncode, handed.stdout) == (alone.returncode, alone.stdout)
    # A traceback begins with the frames of whoever runs the script.
    assert handed.stderr.splitlines()[-1:] == alone.stderr.splitlines()[-1:]
    assert "asked for at the end" in alone.stdout


def test_its_end_leaves_what_is_shared_alone(script: Path) -> None:
    """Taking modules apart writes to, and so copies, the memory of the warm process: far more than a stage needs."""
    with Warm() as warm:
        environment = warm.environment(MODULES["closed_form"])
        assert run(script, environment, "0").returncode == 0
        process = Path(f"/proc/{warm.processes[0].pid}")
        # Pages that children have touched first, by proc(5); and those that are there.
        touched = int((process / "stat").read_text().rpartition(")")[2].split()[8])
        resident = int((process / "statm").read_text().split()[1])
    assert 0 < touched < resident / 10
