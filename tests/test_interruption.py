"""Signals that ask a process to end: status 128 + signal, one line how to go on, a checkpoint, a run that is KILLED."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seqlab.errors import Interrupted
from seqlab.training.interruption import SIGNALS, heeded, noted

NAMES = [number.name for number in SIGNALS]

# One fresh interpreter pays for the imports, and forks a process for each case. A process ends as a command does.
FORKS = """
import hashlib, json, os, signal, sys, time
from pathlib import Path
import numpy as np, torch
import lightning.pytorch as pl
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import Interrupted
from seqlab.families.ar import AR
from seqlab.families.rnn import RNN
from seqlab.tracking import Run, Tracking
from seqlab.tracking import journal
from seqlab.training.gradient.fit import fit
from seqlab.training.interruption import heeded
from seqlab.settings import Budget, Optimizer, TrainerSettings
from seqlab.training.gradient.loss import loss_of
from seqlab.training.resume import Checkpoint

journal.ensure_uploader = lambda *_: None
torch.set_num_threads(1)
folder, steps = Path(sys.argv[1]), 12
os.chdir(folder)
draw = np.random.default_rng(0)
data = [Sequences.from_arrays([draw.integers(0, 9, draw.integers(5, 30)) for _ in range(n)]) for n in (40, 10)]
SPACE = Space("symbols", 9)

def train(name, number, at, twice=False):
    torch.manual_seed(1)
    model = RNN(SPACE, None, hidden_size=8, layers=1, dropout=0.3, truncation=None, density="gaussian")
    seen = []
    def log(metrics, step):
        seen.append(step)
        if step == at:
            os.kill(os.getpid(), number)
            if twice:
                os.kill(os.getpid(), number)
    report, _ = fit(
        model, loss_of("next_step"), *data,
        budget=Budget(steps=steps, tokens=150, evaluations=steps),
        optimizer=Optimizer(learning_rate=1e-2, weight_decay=0.1, betas=[0.9, 0.99], clip=1.0, warmup=0.2, floor=0.1),
        trainer=TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None),
        seed=5, checkpoint=Checkpoint(folder / name, 1e9), log=log,
    )
    weights = b"".join(part.numpy().tobytes() for part in model.state_dict().values())
    (folder / f"{name}.json").write_text(json.dumps([hashlib.sha256(weights).hexdigest(), repr(report), seen]))

def early(name, number, at):
    # While Lightning's own handlers are in place, and not yet ours.
    register = pl.trainer.connectors.signal_connector._SignalConnector.register_signal_handlers
    def registered(self):
        register(self)
        os.kill(os.getpid(), number)
    pl.trainer.connectors.signal_connector._SignalConnector.register_signal_handlers = registered
    train(name, number, None)

def count(name, number, at):
    model = AR(SPACE, orders=[2], lags=[1], criterion="valid", prior_weights=[0.0])
    fitting = model.model.fit
    def fitted(*arguments):
        found = fitting(*arguments)
        os.kill(os.getpid(), number)
        return found
    model.model.fit = fitted
    model.fit(*data)
    (folder / name).write_text("fitted")

def command(function, name, *arguments, **options):
    tracking = Tracking(uri="sqlite:///none.db", prefix="seqlab", system_interval=60.0, results=[])
    try:
        with heeded("the same command begins anew"):
            with Run(Path("tracking"), tracking, experiment="e", name=name, tags={}, params={}, key=name):
                function(name, *arguments, **options)
    except Interrupted as ended:
        (folder / f"{name}.txt").write_text(f"{ended}")
        return ended.status
    return 0

def forked(function, name, *arguments, **options):
    child = os.fork()
    if not child:
        status = 99
        try:
            status = command(function, name, *arguments, **options)
        except SystemExit as error:
            status = error.code or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

statuses = {"whole": forked(train, "whole", 0, None)}
for name in sys.argv[2].split(","):
    number = signal.Signals[name]
    statuses[f"train{name}"] = forked(train, f"train{name}", number, 5)
    statuses[f"again{name}"] = forked(train, f"train{name}", number, None)
    statuses[f"count{name}"] = forked(count, f"count{name}", number, None)
for name, at in (("first", 0), ("last", steps)):
    statuses[name] = forked(train, name, signal.SIGTERM, at)
    statuses[f"again{name}"] = forked(train, name, signal.SIGTERM, None)
statuses["twice"] = forked(train, "twice", signal.SIGTERM, 5, twice=True)
statuses["early"] = forked(early, "early", signal.SIGTERM, None)
(folder / "statuses.json").write_text(json.dumps(statuses))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    command = [sys.executable, "-c", FORKS, str(folder), ",".join(NAMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def statuses(place: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((place / "statuses.json").read_text())
    return found


def end(place: Path, name: str) -> str:
    """What the last line of a run's journal says of it."""
    lines = (place / "tracking/journals" / name / "events.jsonl").read_text().splitlines()
    return str(json.loads(lines[-1])["status"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_training_ends_with_a_checkpoint_and_goes_on_to_the_same_bits(place: Path, name: str) -> None:
    assert statuses(place)[f"train{name}"] == 128 + signal.Signals[name]
    said = (place / f"train{name}.txt").read_text()
    assert said == f"ended by {name}; step 5 of 12 is kept, and the same command goes on there"
    assert statuses(place)[f"again{name}"] == 0
    weights, report, seen = json.loads((place / f"train{name}.json").read_text())
    assert seen[0] == 6
    assert [weights, report] == json.loads((place / "whole.json").read_text())[:2]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_closed_form_ends_with_the_status_and_one_line(place: Path, name: str) -> None:
    assert statuses(place)[f"count{name}"] == 128 + signal.Signals[name]
    assert (place / f"count{name}.txt").read_text() == f"ended by {name}; the same command begins anew"
    assert not (place / f"count{name}").exists()
    assert end(place, f"count{name}") == "KILLED"


@pytest.mark.slow
def test_a_run_that_a_signal_ended_is_killed_and_the_next_one_finishes_it(place: Path) -> None:
    assert end(place, "twice") == "KILLED"
    assert end(place, "trainSIGTERM") == "FINISHED"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "last"])
def test_a_signal_in_the_first_or_the_last_validation_loses_nothing(place: Path, name: str) -> None:
    assert statuses(place)[name] == 128 + signal.SIGTERM
    assert statuses(place)[f"again{name}"] == 0
    assert json.loads((place / f"{name}.json").read_text())[:2] == json.loads((place / "whole.json").read_text())[:2]


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_the_step(place: Path) -> None:
    assert statuses(place)["twice"] == 128 + signal.SIGTERM
    assert (place / "twice.txt").read_text() == "ended by SIGTERM; the same command begins anew"
    assert not (place / "twice/resume.ckpt").exists()


@pytest.mark.slow
def test_what_lightning_makes_of_a_signal_is_no_success(place: Path) -> None:
    assert statuses(place)["early"] == 128 + signal.SIGTERM
    assert end(place, "early") == "KILLED"


# The handlers themselves


@pytest.mark.parametrize("number", SIGNALS, ids=NAMES)
def test_handlers_are_restored(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in SIGNALS]
    with pytest.raises(Interrupted) as ended, heeded("outer"):
        os.kill(os.getpid(), number)
    assert (ended.value.number, ended.value.note, ended.value.status) == (number, "outer", 128 + number)
    with pytest.raises(Interrupted, match=f"ended by {number.name}; inner"), heeded("outer"), noted("inner"):
        os.kill(os.getpid(), number)
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_a_signal_that_was_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heeded("outer"), noted("inner") as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_a_signal_unwinds_no_other_one_disturbs() -> None:
    done = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            done.append("unwound")

    with pytest.raises(Interrupted, match="SIGTERM"), heeded("outer"):
        work()
    assert done == ["unwound"]


def test_handling_errors_does_not_hold_a_signal_up() -> None:
    assert not issubclass(Interrupted, Exception)
    assert not issubclass(Interrupted, KeyboardInterrupt)
