"""What the program consists of: pinned with hashes, with licences, and no network but for named archives."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


licences = loaded("licences")


def installed() -> bool:
    try:
        return all(version(name).split("+")[0] == wanted for name, wanted in licences.pins().items())
    except PackageNotFoundError:
        return False


def test_every_requirement_is_pinned_and_every_pin_is_locked() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text[text.index("dependencies = [") : text.index("[tool.setuptools.dynamic]")]
    wanted = dict(re.findall(r'^ +"([\w.-]+)==([^"]+)"', section, re.MULTILINE))
    loose = re.findall(r'^ +"((?!seqlab)[^"=]+)"', section, re.MULTILINE)
    pins = {licences.normal(name): number for name, number in licences.pins().items()}
    locked = licences.locked()
    assert len(wanted) > 20
    assert not loose
    assert {name: pins[licences.normal(name)] for name in wanted} == wanted
    assert locked.keys() == pins.keys() - {"torch"}
    assert all(locked.values())


@pytest.mark.skipif(not installed(), reason="other versions are installed than are pinned")
def test_the_generated_files_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "docs/licences.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_bill_of_materials_has_all_of_it() -> None:
    tree = json.loads((ROOT / "docs/sbom.json").read_text(encoding="utf-8"))
    assert (tree["bomFormat"], tree["specVersion"]) == ("CycloneDX", "1.6")
    references = [part["bom-ref"] for part in tree["components"]]
    assert len(references) == len(set(references))
    libraries = {part["name"]: part for part in tree["components"] if part["type"] == "library"}
    assert libraries.keys() == {licences.normal(name) for name in licences.pins()}
    data = {part["hashes"][0]["content"]: part for part in tree["components"] if part["type"] == "data"}
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "conf/domain").glob("*.yaml"))
    assert data.keys() == set(re.findall(r"sha256: ([0-9a-f]{64})", text))
    assert all(part["licenses"] for part in tree["components"])


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"License-Expression": "MIT OR Apache-2.0", "License": "whatever"}, "MIT OR Apache-2.0"),
        ({"Classifier": ["License :: OSI Approved :: MIT License"], "License": "MIT license text"}, "MIT"),
        ({"Classifier": ["License :: OSI Approved :: BSD License"], "License": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"Classifier": ["License :: OSI Approved :: BSD License"], "License": "Copyright\nall of it"}, "BSD License"),
        ({"License": "3-Clause BSD License"}, "BSD-3-Clause"),
        ({"License": "=====\nCopyright"}, "not stated"),
        ({}, "not stated"),
    ],
)
def test_a_licence_is_as_exact_as_the_package_states_it(about: dict[str, object], expected: str) -> None:
    class Metadata(dict[str, object]):
        def get_all(self, name: str) -> object:
            return self.get(name)

    assert licences.licence(Metadata(about)) == expected


# No network


WATCH = """
import os, sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.sendto"):
        address = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments
    else:
        return
    # At its import urllib3 looks whether this machine has IPv6 by an address of its own.
    own = event == "socket.bind" and address[0] in ("127.0.0.1", "::1")
    if isinstance(address, tuple) and not own:
        with open(os.environ["SEEN"], "a") as file:
            file.write(f"{event} {address!r} by {sys.argv[0]}\\n")
        raise ConnectionError(f"{event} {address!r}: this test allows no network")

sys.addaudithook(hook)
"""

# From prepared arrays to a tracked, evaluated model of each kind.
STAGES = """
import sys
from pathlib import Path
import numpy as np
from seqlab.data.sequences import Sequences
from seqlab.evaluation import scores
from seqlab.families import loading, saved
from seqlab.families.base import Use
from seqlab.families.saved import Recipe
from seqlab.settings import Budget, Optimizer, Strategy, TrainerSettings
from seqlab.tracking import Run, Tracking
from seqlab.training import job
from seqlab.training.resume import Checkpoint

folder = Path(sys.argv[1])
draw = np.random.default_rng(0)
for name, count in (("train", 40), ("valid", 10), ("test", 10)):
    rows = [draw.integers(0, 9, draw.integers(5, 30)).astype(np.uint8) for _ in range(count)]
    Sequences.from_arrays(rows).save(folder / name)
train, valid, test = (Sequences.load(folder / name) for name in ("train", "valid", "test"))
trainer = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
rnn = dict(hidden_size=8, layers=1, dropout=0.0, truncation=None, density="gaussian")
markov = dict(concentrations=[1.0], prior_weights=[0.0])
tracking = Tracking(uri=f"sqlite:///{folder}/mlflow.db", prefix="seqlab", system_interval=60.0, results=[])
for recipe in (
    Recipe("seqlab.families.rnn.RNN", rnn, "gradient", "symbols", 9, None),
    Recipe("seqlab.families.markov.Markov", markov, "closed_form", "symbols", 9, None),
):
    about = dict(experiment="none", name=recipe.fit, tags={}, params=recipe.parameters)
    with Run(folder / "tracking", tracking, **about) as run:
        trained = job.run(job.Job(
            recipe=recipe, task="next_step", train=train, valid=valid, prepared=folder, members={}, start=None,
            teacher=None, objective=None, strategy=Strategy("scratch", 1.0),
            budget=Budget(steps=3, tokens=200, evaluations=1),
            optimizer=Optimizer(
                learning_rate=1e-2, weight_decay=0.1, betas=[0.9, 0.99], clip=1.0, warmup=0.2, floor=0.1
            ),
            trainer=trainer, seed=5, checkpoint=Checkpoint(folder / "checkpoint", 1e9), log=lambda *_: None,
        ))
        saved.save(folder / recipe.fit, recipe, trained.tensors)
        model = loading.load(folder / recipe.fit, Use(trainer))
        batch = test.longest()
        loss = -model.log_prob(batch.x, batch.mask).sum(1)
        ratio = scores.Ratio(np.arange(1), loss, np.ones(1))
        scores.write(scores.Scores({("next_step", "nll"): ratio}), folder / "scores" / recipe.fit)
        assert ("next_step", "nll") in scores.read(folder / "scores" / recipe.fit).ratios
        run.metrics({"nll": float(loss[0])})
        run.artifact(folder / recipe.fit, "model")
print("done")
"""


def watched(folder: Path) -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(WATCH)
    path = [str(folder), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "SEEN": str(folder / "seen")}


def test_the_watch_forbids_the_network(tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=watched(tmp_path), capture_output=True, text=True, check=False
    )
    assert "this test allows no network" in done.stderr
    assert "socket.getaddrinfo" in (tmp_path / "seen").read_text()


@pytest.mark.slow
def test_from_arrays_to_a_tracked_score_nothing_opens_a_socket(tmp_path: Path) -> None:
    environment = {key: value for key, value in watched(tmp_path).items() if not key.startswith("MLFLOW")}
    command = [sys.executable, "-c", STAGES, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr
    # What waits is delivered to a data base in this folder, by a process of its own that imports mlflow.
    command = [sys.executable, "-m", "seqlab.tracking", str(tmp_path / "tracking"), "--flush", "--timeout", "120"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "seen").exists(), (tmp_path / "seen").read_text()
