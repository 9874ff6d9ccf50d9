"""A checkpoint that cannot be gone on from is put aside, one line says so, and the training starts anew."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import BUDGET, rnn, run, symbols, transformer, weights

from seqlab.data.sequences import Space
from seqlab.training.gradient import checkpoints
from seqlab.training.gradient.fit import FitReport

SPACE = Space("symbols", 9)
EVERY_STEP = {
    "seconds": 0.0,
    "budget": replace(BUDGET, evaluations=BUDGET.steps),
}
DATA = symbols(40, 0), symbols(10, 1)


class Killed(Exception):
    """In place of a signal."""


class Payload:
    """What a pickle can do."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def train(folder: Path, kill_at: int | None = None) -> tuple[FitReport, dict[str, torch.Tensor], list[int]]:
    """What it did, its weights, and the steps of its validations."""
    seen: list[int] = []

    def log(_: dict[str, float], step: int) -> None:
        seen.append(step)
        if step == kill_at:
            raise Killed

    model = rnn(SPACE)
    return run(model, *DATA, folder, log=log, **EVERY_STEP), weights(model), seen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[FitReport, dict[str, torch.Tensor], list[int]]:
    return train(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves that ended at step 12."""
    folder = tmp_path_factory.mktemp("left")
    with pytest.raises(Killed):
        train(folder, kill_at=12)
    return folder


@pytest.fixture
def path(left: Path, tmp_path: Path) -> Path:
    """The checkpoint in a copy of it."""
    return Path(shutil.copytree(left, tmp_path / "killed")) / "resume.ckpt"


def overwritten(path: Path, change: Callable[[bytearray], Any]) -> None:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)


def flip_a_weight(path: Path) -> None:
    with zipfile.ZipFile(path) as parts:
        largest = max(parts.infolist(), key=lambda one: one.file_size)
    overwritten(
        path, lambda content: content.__setitem__(largest.header_offset + 600, content[largest.header_offset + 600] ^ 1)
    )


def of_another_training(path: Path) -> None:
    def killing(_: dict[str, float], step: int) -> None:
        if step == 2:
            raise Killed

    path.unlink()
    with pytest.raises(Killed):
        run(transformer(SPACE), *DATA, path.parent, log=killing, **EVERY_STEP)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut to a few bytes": lambda path: os.truncate(path, 7),
    "cut in the middle": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut at the end": lambda path: os.truncate(path, path.stat().st_size - 1),
    "zeros, as after a loss of power": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "zeros in the middle": lambda path: overwritten(path, lambda c: c.__setitem__(slice(5000, 9000), bytes(4000))),
    "one bit of a weight": flip_a_weight,
    "text": lambda path: path.write_text("step 12\n"),
    "an empty archive": lambda path: zipfile.ZipFile(path, "w").close(),
    "another object": lambda path: torch.save([1, 2], path),
    "weights alone": lambda path: torch.save({"state_dict": rnn(SPACE).state_dict()}, path),
    "of another training": of_another_training,
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Payload(path.with_name("run")))),
    "a pickle as torch writes it": lambda path: torch.save({"state_dict": Payload(path.with_name("run"))}, path),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_it_is_put_aside_and_the_training_starts_anew(
    path: Path, whole: tuple[Any, ...], capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any]
) -> None:
    damage(path)
    damaged = path.read_bytes()
    capsys.readouterr()
    report, found, seen = train(path.parent)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("seqlab: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"seqlab: {path}: ")
    assert lines[0].endswith("; put aside as resume.damaged, the training starts anew")
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert (report, seen) == (whole[0], whole[2])
    assert all(torch.equal(part, whole[1][name]) for name, part in found.items())
    assert not path.with_name("run").exists()


def test_a_whole_one_is_gone_on_from_without_a_word(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(path.parent)[2][0] == 12
    assert "seqlab" not in capsys.readouterr().err
    assert not path.with_suffix(".damaged").exists()


def test_it_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[tuple[str, str]] = []
    rename = Path.replace

    def replaced(self: Path, target: Path) -> Path:
        events.append(("rename", self.name))
        return rename(self, target)

    monkeypatch.setattr(checkpoints, "flush", lambda path: events.append(("flush", path.name)))
    monkeypatch.setattr(Path, "replace", replaced)
    with pytest.raises(Killed):
        train(tmp_path / "training", kill_at=3)
    once = [("flush", "resume.new"), ("rename", "resume.new"), ("flush", "training")]
    assert events == 2 * once
