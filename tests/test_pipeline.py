"""Hydra, DVC and MLflow as one thing, on the real scripts: a small copy of this repository with a user's own data."""

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
from pathlib import Path

import pytest
import yaml
from fingerprint import PIPELINES, SRC, closure, modules

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("conf", "pipelines", "src", "dvc.yaml", ".dvcignore", ".gitignore", "MLproject", "python_env.yaml")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

SUITE = """\
# @package _global_
defaults:
  - /domain@domains.strings: strings
  - /family@families.markov: markov
  - /family@families.rnn: rnn
  - /strategy@strategies.scratch: scratch
  - /strategy@strategies.full: full
  - _self_
suite: {name: small, seeds: [0], steps: 0.005, positions: null, examples: null, replicates: 100,
  fractions: [1.0], parts: []}
"""
WORDS = ("the film is a good bad long short story of love war light dark and in with no some").split()  # noqa: SIM905


class Lab:
    """A small repository of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC", "PYTEST"))}
        self.env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
        self.env |= {f"GIT_{who}_{what}": "seqlab" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def stages(self) -> set[str]:
        """What DVC would run, after composing."""
        self.run(sys.executable, "pipelines/compose.py")
        return set(json.loads(self.run("dvc", "status", "--json").splitlines()[-1])) - {"compose"}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def model(self, *parts: str) -> dict:
        return json.loads(self.folder.joinpath("models", *parts, "model.json").read_text())


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
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
        domain["archives"][name] = {"registry": "file", "path": f"{own}/{file}", "licence": "own"}
    (lab.folder / "conf/domain/strings.yaml").write_text(yaml.safe_dump(domain, sort_keys=False))
    (lab.folder / "conf/suite/default.yaml").write_text(SUITE)
    lab.edit("conf/family/rnn.yaml", "hidden_size: 256", "hidden_size: 8")
    lab.run("git", "init", "-q")
    lab.run("dvc", "init", "-q")
    lab.run("dvc", "config", "hydra.enabled", "true")
    # The first plain repro composes, sees that DVC has read no list of cells yet, and says so.
    lab.run(sys.executable, "pipelines/compose.py")
    lab.run("dvc", "repro")
    lab.run("git", "add", "-A")
    lab.run("git", "commit", "-qm", "small")
    yield lab
    lab.run(sys.executable, "-m", "seqlab.tracking", ".seqlab/tracking", "--flush", "--timeout", "60")


@pytest.fixture
def clean(lab: Lab):
    """The repository as it was committed, before and after."""
    yield lab
    lab.run("git", "checkout", "-q", ".")
    lab.run("dvc", "checkout", "-q", "--force")


def of_rnn(stage: str) -> bool:
    """Whether a stage works on the family rnn alone."""
    return "-rnn-" in stage or stage == "diagnose@rnn"


def test_nothing_runs_twice_and_equal_inputs_give_equal_bits(clean: Lab) -> None:
    assert "Running stage" not in clean.run("dvc", "repro")
    before = (clean.folder / "dvc.lock").read_bytes()
    clean.run("dvc", "repro", "-f")
    assert (clean.folder / "dvc.lock").read_bytes() == before


def test_side_by_side_gives_the_same_bits(clean: Lab) -> None:
    before = (clean.folder / "dvc.lock").read_bytes()
    assert "all stages are up to date" in clean.run(sys.executable, "pipelines/repro.py")
    clean.run(sys.executable, "pipelines/repro.py", "--force")
    assert (clean.folder / "dvc.lock").read_bytes() == before


def test_a_stage_that_fails_loses_nothing(clean: Lab) -> None:
    before = (clean.folder / "dvc.lock").read_bytes()
    clean.edit("conf/domain/strings.yaml", "own/target.csv", "own/missing.csv")
    said = clean.run(sys.executable, "pipelines/repro.py", fails=True)
    assert "seqlab: stage acquire@strings failed" in said
    assert "own/missing.csv" in said
    assert "Traceback" not in said
    clean.run("git", "checkout", "-q", "conf")
    clean.run(sys.executable, "pipelines/repro.py")
    assert (clean.folder / "dvc.lock").read_bytes() == before


def test_a_stage_imports_nothing_beyond_its_fingerprint(clean: Lab) -> None:
    stages = {"finetune": ["strategy=scratch", "trainer.max_steps=1"], "evaluate": []}
    for family, fit in (("markov", "closed_form"), ("rnn", "gradient")):
        files = [SRC / f"seqlab/families/{family}.py", SRC / f"seqlab/families/{fit}/__init__.py"]
        for verb, overrides in stages.items():
            script = f"pipelines/{verb}.py"
            said = clean.run(
                sys.executable, "-X", "importtime", script, "domain=strings", f"family={family}", *overrides
            )
            names = {line.split("|")[-1].strip() for line in said.splitlines() if line.startswith("import time:")}
            own = {name for name in names if name.startswith("seqlab.") or (PIPELINES / f"{name}.py").is_file()}
            # What is found by name, as the family is, importlib loads without telling; its file is a root anyway.
            assert {"stage", "seqlab.config", f"seqlab.families.{fit}"} <= own
            trains = [SRC / f"seqlab/training/{fit}/train.py"] if verb == "finetune" else []
            known = closure(PIPELINES / f"{verb}.py", *files, *trains)
            loaded = {path for name in own for path in (modules(name) or [PIPELINES / f"{name}.py"])}
            assert {path for path in loaded if path.name != "__init__.py"} <= known


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
    every |= {stage for stage in rnn if stage.startswith("evaluate")} | {"controls@strings", "compare"}
    assert clean.stages() == every
    clean.run("git", "checkout", "-q", ".")
    clean.edit("conf/tracking/local.yaml", "system_interval: 10.0", "system_interval: 20.0")
    assert clean.stages() == set()


def test_an_edit_of_the_library_reaches_exactly_the_stages_that_import_it(clean: Lab) -> None:
    with open(clean.folder / "src/seqlab/families/rnn.py", "a") as file:
        file.write("\n# changed\n")
    stages = clean.stages()
    assert stages
    assert all(of_rnn(stage) for stage in stages)
    clean.run("git", "checkout", "-q", ".")
    with open(clean.folder / "src/seqlab/evaluation/leaderboard.py", "a") as file:
        file.write("\n# changed\n")
    assert clean.stages() == {"compare"}


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
    clean.run("dvc", "repro")
    assert clean.model("strings", "other", "full", "0", "classify")["classes"] == 2
    (clean.folder / "conf/family/other.yaml").unlink()


def test_an_experiment_changes_one_family(clean: Lab) -> None:
    said = clean.run("dvc", "exp", "run", "-S", "families.rnn.hidden_size=12")
    ran = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}
    ran -= {"compose", "compare", "diagnostics@memory"}
    assert ran
    assert all(of_rnn(stage) for stage in ran)
    assert clean.model("strings", "rnn", "full", "0", "next_step")["parameters"]["hidden_size"] == 12
    assert "lrr" in clean.run("dvc", "exp", "run", "-S", "families.rnn.lrr=1", fails=True)


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
    assert (
        lab.run(sys.executable, "-m", "seqlab.tracking", ".seqlab/tracking", "--flush", "--timeout", "120") is not None
    )
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
print("JSON" + json.dumps(found))
"""
    found = json.loads(lab.run(sys.executable, "-c", script).split("JSON")[-1])
    assert set(found) >= {"acquire", "prepare", "pretrain", "finetune", "evaluate", "controls", "compare"}
    named = [run for run in found["finetune"] if run["name"] == "finetune strings·rnn·full·0"]
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
    scored = next(run for run in found["evaluate"] if run["name"] == "evaluate strings·rnn·full·0")
    assert scored["metrics"]["test/next_step/bits_per_character"] > 0
    assert "pictures" in scored["files"]
    compared = found["compare"][0]
    assert {"leaderboard.csv", "leaderboard.md", "pictures"} <= set(compared["files"])


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
    process = subprocess.Popen(command, cwd=clean.folder, env=clean.env, stderr=subprocess.PIPE, text=True)
    checkpoints = clean.folder / ".seqlab/checkpoints"
    while process.poll() is None and not list(checkpoints.rglob("resume.ckpt")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
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
