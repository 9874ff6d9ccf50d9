"""The configuration's number of threads gives the bits, whatever the shell says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab.threads import COUNTS, EXCEPTIONS

# Sizes at which OpenBLAS and MKL share the work out: with two threads some of these sums have other last bits, which of
# them is up to the processor's kernels.
FITS = """
import hashlib, json, sys
from pathlib import Path
from seqlab.threads import pin
when = sys.argv[1]
if when == "before":
    pin(1)
import numpy as np
from seqlab.data.sequences import Sequences
from seqlab.families.saved import Recipe
from seqlab.training.closed_form.train import train as closed_form
from seqlab.settings import Budget, Optimizer, Strategy, TrainerSettings
from seqlab.training.job import Job
from seqlab.training.resume import Checkpoint

draw = np.random.default_rng(0)
rows = [draw.standard_normal((200, 24)).astype(np.float32).cumsum(0) / 10 for _ in range(16)]
data = Sequences.from_arrays(rows[:12]), Sequences.from_arrays(rows[12:])
trainer = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
scratch = Strategy("scratch", 1.0)
if when == "never":
    # What the library does of itself, undone.
    from seqlab.training.closed_form import train as module
    module.pin = lambda threads: None

def digest(trained):
    parts = (np.ascontiguousarray(trained.tensors[name]).tobytes() for name in sorted(trained.tensors))
    return hashlib.sha256(b"".join(parts)).hexdigest()

def job(target, parameters, fit):
    return Job(
        recipe=Recipe(target, parameters, fit, "vectors", 24, None), task="next_step", train=data[0], valid=data[1],
        prepared=Path("nowhere"), members={}, start=None, teacher=None, objective=None, strategy=scratch,
        budget=Budget(steps=3, tokens=2000, evaluations=1),
        optimizer=Optimizer(learning_rate=1e-2, weight_decay=0.1, betas=[0.9, 0.99], clip=1.0, warmup=0.2, floor=0.1),
        trainer=trainer, seed=5, checkpoint=Checkpoint(Path(sys.argv[2]) / str(when), 1e9), log=lambda *_: None,
    )

def closed(name, **parameters):
    return digest(closed_form(job(name, parameters, "closed_form")))

def network():
    from seqlab.training.gradient.train import train as gradient
    parameters = dict(hidden_size=96, layers=1, dropout=0.0, truncation=None, density="gaussian")
    return digest(gradient(job("seqlab.families.rnn.RNN", parameters, "gradient")))

print(json.dumps({"rnn": network()} if sys.argv[3] == "network" else {
    "ar": closed("seqlab.families.ar.AR", orders=[2], lags=[1, 8], criterion="valid", prior_weights=[0.0]),
    "latent_ar": closed(
        "seqlab.families.latent_ar.LatentAR", states=[4], restarts=1, seed=0, pseudo_count=0.01, block=65536,
        state_sizes=[24], passes=2, tolerance=1e-3, prior_weights=[0.0],
    ),
}))
"""

SHELLS: dict[str, dict[str, str]] = {
    "nothing": {},
    "one": dict.fromkeys(COUNTS, "1"),
    "two": dict.fromkeys(COUNTS, "2"),
    "two of OpenMP": {"OMP_NUM_THREADS": "2"},
    "two of OpenBLAS": {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"},
}


def fits(folder: Path, shell: dict[str, str], when: str, what: str = "closed") -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in (*COUNTS, *EXCEPTIONS)} | shell
    command = [sys.executable, "-c", FITS, when, str(folder), what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return fits(tmp_path_factory.mktemp("expected"), SHELLS["one"], "before")


@pytest.mark.slow
@pytest.mark.parametrize("shell", [pytest.param(shell, id=name) for name, shell in SHELLS.items()])
def test_the_shell_changes_no_bit_of_a_closed_form(
    tmp_path: Path, expected: dict[str, str], shell: dict[str, str]
) -> None:
    # The libraries are imported first, under the shell's numbers.
    assert fits(tmp_path, shell, "after") == expected


@pytest.mark.slow
def test_the_shell_changes_no_bit_of_a_network(tmp_path: Path) -> None:
    one, two = (fits(tmp_path / name, SHELLS[name], "after", "network") for name in ("one", "two"))
    assert one == two


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core computes as one thread does")
def test_left_alone_it_would(tmp_path: Path, expected: dict[str, str]) -> None:
    found = fits(tmp_path, SHELLS["two"], "never")
    assert found != expected


PINNED = """
import json, os, sys
from seqlab.threads import COUNTS, EXCEPTIONS, pin
heavy = sorted({"numpy", "torch", "threadpoolctl", "numba"} & set(sys.modules))
pin(1)
still = sorted({"numpy", "torch", "threadpoolctl", "numba"} & set(sys.modules)) == heavy
import numpy, scipy.linalg, torch, threadpoolctl
pin(2)
print(json.dumps({
    "heavy": heavy, "still": still, "torch": torch.get_num_threads(),
    "pools": sorted({pool["num_threads"] for pool in threadpoolctl.threadpool_info()}),
    "environment": sorted({os.environ.get(name, "") for name in COUNTS}),
    "exceptions": [name for name in EXCEPTIONS if name in os.environ],
}))
"""


@pytest.mark.slow
def test_every_library_takes_the_number() -> None:
    shell = dict.fromkeys((*COUNTS, *EXCEPTIONS), "1")
    done = subprocess.run(
        [sys.executable, "-c", PINNED], env=os.environ | shell, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {
        "heavy": [], "still": True, "torch": 2, "pools": [2], "environment": ["2"], "exceptions": [],
    }  # fmt: skip
