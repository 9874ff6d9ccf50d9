"""Hydra, DVC and MLflow as one thing, on the real commands: a small copy of this checkout with a user's own data."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from seqlab import config
from seqlab.cli import repro
from seqlab.cli.composing import compose

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("conf", "pipelines", "src", "dvc.yaml", ".dvcignore", ".gitignore", "MLproject", "python_env.yaml")
pytestmark = pytest.mark.slow

SUITE = """\
# @package _global_
defaults:
  - /domain@domains.strings: strings
  - /family@families.markov: markov
  - /family@families.rnn: rnn
  - /strategy@strategies.scratch: scratch
  - /strategy@strategies.full: full
  - _self_
suite: {name: small, seeds: [0], steps: 0.005, positions: null, examples: null, replicates: 100, retrained: [],
  fractions: [1.0], parts: []}
"""
WORDS = ("the film is a good bad long short story of love war light dark and in with no some").split()  # noqa: SIM905
PATIENCE = 120.0  # seconds until what should happen at once has not happened


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    line: str


class Lab:
    """A small checkout of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC", "PYTEST"))}
        self.env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        self.env |= {"PYTHONPATH": str(folder / "src")}
        self.env |= {f"GIT_{who}_{what}": "seqlab" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *command: str) -> subprocess.Popen[str]:
        """As a shell does: in a group of its own, which Ctrl-C reaches as a whole."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )

    def at_work(self) -> list[str]:
        """The command lines of processes that a repro here has started and that are still there."""
        # Whoever sends what was recorded to MLflow is meant to outlive what recorded it.
        return [process.line for process in self.processes() if "seqlab.tracking" not in process.line]

    def processes(self) -> list[Process]:
        """What was started here and is still there."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment, words = ((folder / name).read_bytes() for name in ("environ", "cmdline"))
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile, or is somebody else's
                continue
            if stat[0] != "Z" and f"PYTHONPATH={self.folder / 'src'}".encode() in environment:
                line = words.replace(b"\0", b" ").decode(errors="replace")
                found.append(Process(int(folder.name), int(stat[1]), line))
        return found

    @contextmanager
    def dvc(self) -> Iterator[Repo]:
        """DVC in this process: to start its command takes longer than most of what it is asked."""
        with chdir(self.folder), Repo() as repo:
            yield repo

    def stages(self) -> set[str]:
        """What DVC would run, after composing."""
        self.run(sys.executable, "pipelines/compose.py")
        with self.dvc() as repo:
            return set(repo.status()) - {"compose"}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def append(self, file: str, text: str) -> None:
        with open(self.folder / file, "a") as stream:
            stream.write(text)

    def read(self, file: str) -> bytes:
        return (self.folder / file).read_bytes()

    def model(self, *parts: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.folder.joinpath("models", *parts, "model.json").read_text())
        return found


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, lab.folder / part)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))) for _ in range(900)]
    own = lab.folder / "own"
    own.mkdir()
    (own / "source.txt").write_text("\n".join(texts[:600]))
    lines = [f"{'positive' if 'good' in text else 'negative'},{text}" for text in texts[600:]]
    (own / "target.csv").write_text("\n".join(["label,text", *lines]))
    domain = yaml.safe_load((lab.folder / "conf/domain/strings.yaml").read_text())
    for name, file in (("source", "source.txt"), ("target", "target.csv")):
        domain["archives"][name] = {"registry": "file", "path": f"own/{file}", "licence": "own"}
    (lab.folder / "conf/domain/strings.yaml").write_text(yaml.safe_dump(domain, sort_keys=False))
    (lab.folder / "conf/suite/default.yaml").write_text(SUITE)
    lab.edit("conf/family/rnn.yaml", "hidden_size: 256", "hidden_size: 8")
    lab.run("git", "init", "-q")
    lab.run("dvc", "init", "-q")
    lab.run("dvc", "config", "hydra.enabled", "true")
    lab.run("seqlab", "repro")
    lab.run("git", "add", "-A")
    lab.run("git", "commit", "-qm", "small")
    yield lab
    lab.run(sys.executable, "-m", "seqlab.tracking", ".seqlab/tracking", "--flush", "--timeout", "60")


@pytest.fixture
def clean(lab: Lab) -> Iterator[Lab]:
    """The checkout as it was committed, before and after."""
    yield lab
    lab.run("git", "checkout", "-q", ".")
    with lab.dvc() as repo:
        repo.checkout(force=True)


def of_rnn(stage: str) -> bool:
    """Whether a stage works on the family rnn alone."""
    return "-rnn-" in stage or stage == "diagnose@rnn"


def ran(said: str) -> set[str]:
    """The stages that a repro brought up to date, by its lines."""
    return {line.split("]")[1].split()[0] for line in said.splitlines() if line.startswith("[")}


def one_of_each_kind(stages: Collection[str]) -> list[str]:
    """Of a closed form for scratch, of a network for what else has a family."""
    found: dict[str, str] = {}
    for stage in sorted(stages, key=lambda name: of_rnn(name) == name.startswith("scratch")):
        found.setdefault(stage.partition("@")[0], stage)
    return [stage for stage in stages if stage in found.values()]


def test_stages_side_by_side_give_the_bits_of_dvc_repro_and_run_once(clean: Lab) -> None:
    before = clean.read("dvc.lock")
    assert "Running stage" not in clean.run("dvc", "repro")
    assert "all stages are up to date" in clean.run("seqlab", "repro")
    chosen = one_of_each_kind(yaml.safe_load(before)["stages"])
    said = clean.run("dvc", "repro", "-f", "-s", *chosen)
    assert [stage for stage in chosen if f"Running stage '{stage}'" not in said] == []
    assert clean.read("dvc.lock") == before
    assert "all stages are up to date" in clean.run(sys.executable, "pipelines/repro.py")


@pytest.mark.long
def test_all_stages_side_by_side_give_the_bits_of_dvc_repro(clean: Lab) -> None:
    before = clean.read("dvc.lock")
    clean.run("dvc", "repro", "-f")
    assert clean.read("dvc.lock") == before


def test_what_was_asked_for_runs_with_what_it_needs_and_nothing_else(clean: Lab) -> None:
    asked = ("--only", "stage=evaluate", "family=rnn", "strategy=scratch")
    assert "what was asked for is up to date" in clean.run("seqlab", "repro", *asked)
    clean.edit("conf/family/rnn.yaml", "hidden_size: 8", "hidden_size: 7")
    assert ran(clean.run("seqlab", "repro", *asked)) == {
        "scratch@strings-rnn-scratch-s0",
        "evaluate@strings-rnn-scratch-s0",
    }
    assert clean.model("strings", "rnn", "scratch", "0", "next_step")["parameters"]["hidden_size"] == 7
    assert clean.model("strings", "rnn", "full", "0", "next_step")["parameters"]["hidden_size"] == 8
    # The rest is as stale as it was.
    assert clean.stages() >= {"finetune@strings-rnn-full-s0", "compare"}
    forced = ran(clean.run("seqlab", "repro", "--force", "--only", "stage=evaluate", "family=markov"))
    assert forced == {"evaluate@strings-markov-scratch-s0", "evaluate@strings-markov-full-s0"}
    said = clean.run("seqlab", "repro", "--only", "family=rn", fails=True)
    assert "--only family=rn: no stage has it; did you mean 'rnn'?" in said


def test_stages_have_the_attributes_that_may_be_asked_for() -> None:
    stages = repro.stages_of(config.experiment(compose("config", [])))
    assert {key for attributes in stages.values() for key in attributes} == set(repro.ATTRIBUTES)


def test_a_stage_that_fails_loses_nothing(clean: Lab) -> None:
    before = clean.read("dvc.lock")
    clean.edit("conf/domain/strings.yaml", "own/target.csv", "own/missing.csv")
    said = clean.run("seqlab", "repro", fails=True)
    assert "seqlab: stage files@strings-target failed" in said
    assert "own/missing.csv" in said
    assert "Traceback" not in said
    assert "File " not in said
    clean.run("git", "checkout", "-q", "conf")
    clean.run("seqlab", "repro")
    assert clean.read("dvc.lock") == before


def test_keep_going_runs_what_is_independent_and_lists_every_failure(clean: Lab) -> None:
    for name in ("source.txt", "target.csv"):
        clean.edit("conf/domain/strings.yaml", f"own/{name}", f"own/missing-{name}")
    shutil.rmtree(clean.folder / "diagnostics/rnn")
    said = clean.run("seqlab", "repro", "--keep-going", fails=True)
    assert ran(said) == {"diagnose@rnn", "diagnostics@memory"}
    last = said.splitlines()[-1]
    assert last.startswith("seqlab: 2 stages failed: ")
    for name in ("source", "target"):
        assert f"files@strings-{name} (.seqlab/logs/files@strings-{name}.log)" in last
        log = clean.read(f".seqlab/logs/files@strings-{name}.log").decode()
        assert f"own/missing-{name}" in log
    count = len(yaml.safe_load(clean.read("dvc.lock"))["stages"]) - 1  # all but compose
    assert f"; {count - 4} stages that follow from them did not run; 2 of {count} are done" in last


def test_another_suite_stands_beside_the_checkouts_own(clean: Lab) -> None:
    before = clean.read("dvc.lock")
    said = clean.run("seqlab", "repro", "suite.name=second", "suite.replicates=50")
    assert "compare" in ran(said)
    assert clean.run("git", "status", "--porcelain") == ""
    assert clean.read("dvc.lock") == before
    assert clean.read("suites/second/reports/leaderboard.csv") != clean.read("reports/leaderboard.csv")
    # What both have in common was trained once.
    folders = [clean.folder / top / "models/strings" for top in (".", "suites/second")]
    models = [sorted(path.read_bytes() for path in one.rglob("model.safetensors")) for one in folders]
    assert models[0]
    assert models[0] == models[1]
    assert "all stages are up to date" in clean.run("seqlab", "repro")
    assert "all stages are up to date" in clean.run("seqlab", "repro", "suite.name=second", "suite.replicates=50")
    assert "other suites here: second" in clean.run("seqlab", "status")


# Files of the library whose code runs while a stage's function does, and that its fingerprint does not have.
RUNS = """
import importlib, json, os, sys, threading
from pathlib import Path
import lightning.pytorch, matplotlib.pyplot, numba, pandas, pyarrow.parquet, scipy.stats, torch
from seqlab.cli import fingerprint
from seqlab.cli.places import Workspace
from seqlab.cli.repro import current
from seqlab.cli.verbs import VERBS
from seqlab.cli.work import from_pipeline

here = Workspace.current()
roots = fingerprint.roots(current(here))

def check(verb, label, key):
    ran = set()
    def note(frame, event, argument):
        ran.add(frame.f_code.co_filename)
    stage = importlib.import_module(f"seqlab.stages.{verb}")
    whole = getattr(stage, verb)
    def watched(*arguments, **options):
        threading.setprofile(note)
        sys.setprofile(note)
        try:
            return whole(*arguments, **options)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
    setattr(stage, verb, watched)
    VERBS[verb].run(from_pipeline(verb, label, VERBS[verb].needs, here))
    own = {Path(name) for name in ran if name.startswith(f"{fingerprint.SRC}/") and name.endswith(".py")}
    known = fingerprint.closure(*roots[key])
    counted = {path for path in own if not fingerprint.changes_no_bit(path) and not fingerprint.only_words(path)}
    return sorted(str(path.relative_to(fingerprint.SRC)) for path in counted - known), len(own & known)

found = {}
for line in sys.argv[1:]:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, json.dumps(check(*line.split())).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        found[line] = json.loads(answer.read())
    os.waitpid(child, 0)
print("JSON" + json.dumps(found))
"""
# Called back: a stage tells its watch what it finds, and whoever watches is no part of what it does.
WATCHES = ("seqlab/tracking/", "seqlab/cli/runs.py")


def test_a_stage_runs_no_code_beyond_its_fingerprint(clean: Lab) -> None:
    stages = [
        "prepare strings prepare.strings",
        "controls strings controls.strings",
        "compare  compare",
        "report  report",
    ]
    for family in ("markov", "rnn"):
        stages.append(f"pretrain strings/{family}/0 pretrain.strings.{family}")
        for verb in ("finetune", "evaluate"):
            stages.append(f"{verb} strings/{family}/full/0 {verb}.strings.{family}.full")
    script = RUNS.replace("line.split()", "line.split(' ')")
    found = json.loads(clean.run(sys.executable, "-c", script, *stages).split("JSON")[-1].splitlines()[0])
    beyond = {stage: [file for file in files if not file.startswith(WATCHES)] for stage, (files, _) in found.items()}
    assert {stage: files for stage, files in beyond.items() if files} == {}
    assert len(found) == len(stages)
    assert all(known >= 2 for _, known in found.values())  # it did run


def test_an_edit_of_conf_reaches_exactly_the_stages_that_use_it(clean: Lab) -> None:
    rnn = {stage for stage in yaml.safe_load((clean.folder / "dvc.lock").read_text())["stages"] if of_rnn(stage)}
    trained = {stage for stage in rnn if not stage.startswith("evaluate")}
    assert clean.stages() == set()
    clean.edit("conf/family/rnn.yaml", "hidden_size: 8", "hidden_size: 8 # a comment")
    assert clean.stages() == set()
    clean.edit("conf/family/rnn.yaml", "hidden_size: 8", "hidden_size: 9")
    assert clean.stages() == trained
    clean.run("git", "checkout", "-q", ".")
    clean.edit("conf/domain/strings.yaml", "period: 1", "period: 2")
    every = {"evaluate@strings-markov-scratch-s0", "evaluate@strings-markov-full-s0"}
    every |= {stage for stage in rnn if stage.startswith("evaluate")}
    every |= {"controls@strings", "probe@strings", "compare", "report"}
    assert clean.stages() == every
    clean.run("git", "checkout", "-q", ".")
    clean.edit("conf/tracking/local.yaml", "system_interval: 10.0", "system_interval: 20.0")
    assert clean.stages() == set()


def test_an_edit_of_the_library_reaches_exactly_the_stages_that_import_it(clean: Lab) -> None:
    clean.append("src/seqlab/families/rnn.py", "\n# a comment\n")
    assert clean.stages() == set()
    clean.append("src/seqlab/families/rnn.py", "\nCHANGED = 1\n")
    stages = clean.stages()
    assert stages
    assert all(of_rnn(stage) for stage in stages - {"probe@strings"})
    clean.run("git", "checkout", "-q", ".")
    clean.append("src/seqlab/evaluation/leaderboard.py", "\nCHANGED = 1\n")
    assert clean.stages() == {"compare", "report"}


def test_a_family_that_joins_the_suite_stops_repro_once(clean: Lab) -> None:
    text = (clean.folder / "conf/family/markov.yaml").read_text()
    (clean.folder / "conf/family/other.yaml").write_text(text)
    clean.edit(
        "conf/suite/default.yaml",
        "  - /family@families.rnn",
        "  - /family@families.other: other\n  - /family@families.rnn",
    )
    said = clean.run("dvc", "repro", fails=True)
    assert "run `dvc repro` once more" in said
    clean.run("dvc", "repro", "evaluate@strings-other-full-s0")
    assert clean.model("strings", "other", "full", "0", "classify")["classes"] == 2
    (clean.folder / "conf/family/other.yaml").unlink()


def test_an_experiment_changes_one_family(clean: Lab) -> None:
    said = clean.run("dvc", "exp", "run", "-S", "families.markov.concentrations=[1.0]")
    stages = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}
    stages -= {"compose", "compare", "report", "draw@strings", "probe@strings", "diagnostics@memory"}
    assert stages
    assert all("-markov-" in stage for stage in stages)
    assert clean.model("strings", "markov", "full", "0", "next_step")["parameters"]["concentrations"] == [1.0]
    assert "lrr" in clean.run("dvc", "exp", "run", "-S", "families.rnn.lrr=1", fails=True)


@pytest.mark.long
def test_queued_experiments_run_side_by_side(clean: Lab) -> None:
    clean.run("dvc", "exp", "run", "--queue", "-S", "families.rnn.hidden_size=4,6")
    clean.run("dvc", "queue", "start", "-j", "2")
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        status = clean.run("dvc", "queue", "status")
        if status.count("Success") >= 2 or "Failed" in status:
            break
        time.sleep(3)
    assert clean.run("dvc", "queue", "status").count("Success") == 2
    shown = csv.DictReader(clean.run("dvc", "exp", "show", "--csv").splitlines())
    assert {row["families.rnn.hidden_size"] for row in shown} >= {"4", "6"}
    clean.run("dvc", "queue", "stop")


def test_a_stage_by_hand_leaves_the_pipeline_alone(clean: Lab) -> None:
    python = sys.executable
    clean.run(python, "pipelines/finetune.py", "family=rnn", "domain=strings", "family.hidden_size=10", "steps=0.005")
    clean.run(python, "pipelines/finetune.py", "-m", "family=markov", "domain=strings", "seed=1,2", "steps=0.005")
    made = sorted((clean.folder / "outputs/finetune").rglob("full/*/next_step/model.json"))
    found = [json.loads(path.read_text()) for path in made]
    assert sum(one["parameters"].get("hidden_size") == 10 for one in found) == 1
    assert len(found) == 3
    assert clean.stages() == set()


def test_runs_are_in_mlflow(lab: Lab) -> None:
    lab.run(sys.executable, "-m", "seqlab.tracking", ".seqlab/tracking", "--flush", "--timeout", "120")
    script = """
import json, mlflow
client = mlflow.MlflowClient("sqlite:///mlflow.db")
found = {}
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        found.setdefault(run.data.tags.get("phase"), []).append({
            "experiment": experiment.name, "name": run.info.run_name, "status": run.info.status, "tags": run.data.tags,
            "params": run.data.params, "metrics": run.data.metrics, "inputs": len(run.inputs.dataset_inputs),
            "files": [f.path for f in client.list_artifacts(run.info.run_id)]})
print("JSON" + json.dumps(list(found.items())))
"""
    found = dict(json.loads(lab.run(sys.executable, "-c", script).split("JSON")[-1]))
    assert set(found) >= {
        "acquire",
        "prepare",
        "pretrain",
        "finetune",
        "evaluate",
        "controls",
        "draw",
        "compare",
        "report",
    }
    named = [run for run in found["finetune"] if run["name"] == "rnn·full·s0 finetune"]
    # Experiments and cells by hand have runs of the same name, with their own values.
    tuned = next(run for run in named if run["params"]["family.hidden_size"] == "8" and run["tags"]["suite"] == "small")
    assert tuned["experiment"] == "seqlab/strings"
    assert tuned["status"] == "FINISHED"
    assert {"family", "strategy", "seed", "suite", "domain"} <= set(tuned["tags"])
    assert tuned["metrics"]["next_step/symbols_per_second"] > 0
    assert "next_step/valid_loss" in tuned["metrics"]
    assert tuned["inputs"] >= 3
    assert "model" in tuned["files"]
    assert any(key.startswith("link.pretrain") for key in tuned["tags"])
    scored = next(run for run in found["evaluate"] if run["name"] == "rnn·full·s0 evaluate")
    assert scored["metrics"]["next_step/bits_per_character"] > 0
    assert "scores" in scored["files"]
    assert any("pictures" in run["files"] for run in found["draw"])
    compared = next(run for run in found["compare"] if run["status"] == "FINISHED")
    assert compared["experiment"] == "seqlab/leaderboard"
    assert {"leaderboard.csv", "leaderboard.md", "pictures"} <= set(compared["files"])
    systems = {run["name"]: run for run in found[None] if run["tags"]["suite"] == "small"}
    assert {"rnn·full", "rnn·scratch", "markov·full", "unigram", "majority"} <= set(systems)
    assert systems["rnn·full"]["metrics"]["next_step/bits_per_character"] > 0


def test_mlflow_run(clean: Lab) -> None:
    clean.run(
        "mlflow", "run", ".", "--env-manager", "local", "-e", "finetune",
        "-P", "family=rnn", "-P", "domain=strings", "-P", "overrides=trainer.max_steps=3 family.hidden_size=5",
    )  # fmt: skip
    made = max(
        (clean.folder / "outputs/finetune").rglob("rnn/full/0/report.json"), key=lambda path: path.stat().st_mtime
    )
    assert json.loads(made.read_text())["next_step"]["steps"] == 3


def test_a_killed_stage_resumes_to_the_same_bits(clean: Lab) -> None:
    model = clean.folder / "models/strings/rnn/scratch/0/next_step/model.safetensors"
    clean.edit("params.yaml", "checkpoint_seconds: 15.0", "checkpoint_seconds: 0.0")
    clean.edit("params.yaml", "steps: 0.005", "steps: 0.2")
    command = [sys.executable, "pipelines/finetune.py", "strings/rnn/scratch/0"]
    clean.run(*command)
    whole = model.read_bytes()
    process = clean.start(*command)
    checkpoints = clean.folder / ".seqlab/checkpoints"
    until(lambda: process.poll() is not None or list(checkpoints.rglob("resume.ckpt")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(checkpoints.rglob("resume.ckpt"))
    assert model.read_bytes() == whole  # what stood there before the killed run is still there
    model.unlink()
    clean.run(*command)
    assert model.read_bytes() == whole
    assert not list(checkpoints.rglob("resume.ckpt"))


def test_a_dead_server_delays_nothing(clean: Lab) -> None:
    clean.edit("params.yaml", "uri: sqlite:///mlflow.db", "uri: http://127.0.0.1:9")
    clean.run(sys.executable, "pipelines/finetune.py", "strings/markov/full/0")
    kept = list((clean.folder / ".seqlab/tracking/journals").iterdir())
    assert kept
    flush = [sys.executable, "-m", "seqlab.tracking", ".seqlab/tracking", "--flush"]
    clean.run(*flush, "--uri", "sqlite:///mlflow.db", "--timeout", "60")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_every_stage_and_the_same_command_goes_on(clean: Lab, number: signal.Signals) -> None:
    name = number.name.lower()
    command = ["seqlab", "repro", f"suite.name={name}", f"suite.seeds=[{int(number)}]", "suite.steps=0.2"]
    command += ["execution.checkpoint_seconds=0.0", "--only", "family=rnn", "strategy=scratch", "stage=scratch"]
    workspace = clean.folder / "suites" / name
    process = clean.start(*command)
    until(lambda: process.poll() is not None or list((workspace / ".seqlab/checkpoints").rglob("resume.ckpt")))
    assert process.poll() is None
    # The keyboard's interrupt reaches the whole group, a scheduler's signal the process that it started.
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number, said
    assert clean.at_work() == []
    assert "seqlab: interrupted; ending 1 stages" in said
    assert said.splitlines()[-1] == f"seqlab: ended by {number.name}; the same command goes on where this one stopped"
    assert "Traceback" not in said
    finished = clean.run(*command)
    label = f"scratch@strings-rnn-scratch-s{int(number)}"
    assert ran(finished) == {label}  # what was done before is not done again
    assert "resumes where an earlier one was ended" in (workspace / f".seqlab/logs/{label}.log").read_text()


def test_a_repro_that_is_killed_leaves_nothing_running_and_a_whole_lock_file(clean: Lab) -> None:
    before = clean.read("dvc.lock")
    process = clean.start("seqlab", "repro", "--force")
    assert process.stdout is not None
    said = ""
    while len(ran(said)) < 4 and (line := process.stdout.readline()):
        said += line
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    until(lambda: not clean.at_work())
    stages = yaml.safe_load(clean.read("dvc.lock"))["stages"]
    assert set(stages) == set(yaml.safe_load(before)["stages"])
    clean.run("seqlab", "repro")
    assert clean.read("dvc.lock") == before
    assert clean.stages() == set()
