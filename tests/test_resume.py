"""A killed training goes on to the same bits; a folder has one writer; a stage does not outlive its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from seqlab.errors import UserError
from seqlab.training.gradient.checkpoints import get_generators, set_generators
from seqlab.training.resume import finish, writing

# One fresh interpreter pays for the imports, and forks a process for each training.
TRAININGS = """
import hashlib, json, os, signal, sys, time
from pathlib import Path
import numpy as np, torch
from seqlab.data.sequences import Sequences, Space
from seqlab.families.rnn import RNN
from seqlab.training.gradient.batches import Stream
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.resume import Checkpoint
from seqlab.settings import Budget, Optimizer, TrainerSettings

torch.set_num_threads(1)
folder, steps = Path(sys.argv[1]), 23
draw = np.random.default_rng(0)
# An epoch has 8 batches.
data = [Sequences.from_arrays([draw.integers(0, 9, draw.integers(5, 30)) for _ in range(n)]) for n in (40, 10)]
assert len(Stream(data[0], 150, 5).epoch(0)) == 8

def train(name, kill_at=None, pause=0.0):
    torch.manual_seed(1)
    model = RNN(Space("symbols", 9), None, hidden_size=8, layers=2, dropout=0.3, truncation=None, density="gaussian")
    seen = []
    def log(metrics, step):
        seen.append(step)
        time.sleep(pause)
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    report, cost = fit(
        model, loss_of("next_step"), *data,
        budget=Budget(steps=steps, tokens=150, evaluations=steps),
        optimizer=Optimizer(learning_rate=1e-2, weight_decay=0.1, betas=[0.9, 0.99], clip=1.0, warmup=0.2, floor=0.1),
        trainer=TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None),
        seed=5, checkpoint=Checkpoint(folder / name, 0.0), log=log,
    )
    weights = b"".join(part.numpy().tobytes() for part in model.state_dict().values())
    result = {"sha": hashlib.sha256(weights).hexdigest(), "report": repr(report), "seen": seen, "sum": cost.seconds}
    (folder / f"{name}.json").write_text(json.dumps(result))

def forked(name, wait=True, **options):
    child = os.fork()
    if not child:
        try:
            train(name, **options)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] if wait else child

forked("whole")
for name, kill_at in json.loads(sys.argv[2]).items():
    assert forked(name, kill_at=kill_at) == signal.SIGKILL
    forked(name)

# And at whatever moment the signal happens to come.
child = forked("signal", wait=False, pause=0.02)
while not (folder / "signal" / "resume.ckpt").exists():
    time.sleep(0.001)
time.sleep(0.1)
os.kill(child, signal.SIGKILL)
assert os.waitpid(child, 0)[1] == signal.SIGKILL
forked("signal")
"""


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_bits(tmp_path: Path) -> None:
    # Killed in the first step, within an epoch, at an epoch's last and first steps, and at the end.
    kills = {"first": 1, "middle": 11, "last_of_epoch": 16, "first_of_epoch": 17, "end": 23}
    command = [sys.executable, "-c", TRAININGS, str(tmp_path), json.dumps(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    whole = results.pop("whole")
    assert whole["seen"] == list(range(24))
    assert set(results) == {*kills, "signal"}
    for name, result in results.items():
        assert (result["sha"], result["report"]) == (whole["sha"], whole["report"]), name
    for name, kill_at in kills.items():
        # The kill came after the step and before its checkpoint; the step before was the last that was kept.
        assert results[name]["seen"] == list(range(0 if kill_at == 1 else kill_at, 24)), name
    assert results["signal"]["seen"][0] > 0
    assert "Warning" not in done.stderr
    assert "💡" not in done.stderr + done.stdout


def test_global_generators_continue() -> None:
    state = get_generators()
    first = (torch.rand(3).tolist(), np.random.normal(size=3).tolist())  # noqa: NPY002
    set_generators(state)
    assert (torch.rand(3).tolist(), np.random.normal(size=3).tolist()) == first  # noqa: NPY002


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with writing(folder), pytest.raises(UserError, match=f"process {os.getpid()} is training here"), writing(folder):
        pass
    with writing(folder):
        pass
    finish(folder)
    assert not folder.exists()
    finish(folder)


def test_a_removed_folder_does_not_lend_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with writing(folder):
        finish(folder)
        with writing(folder), pytest.raises(UserError), writing(folder):
            pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a signal of the Linux kernel")
def test_a_stage_ends_with_its_parent() -> None:
    stage = (
        "from seqlab.training.resume import die_with_parent; import os, time; "
        "die_with_parent(); print(os.getpid(), flush=True); time.sleep(60)"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stage!r}])"
    parent = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(child)


def alive(process: int) -> bool:
    """Whether it runs; a process that ended but that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
