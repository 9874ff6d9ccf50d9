"""The time left of a run, from what its stages took before and how long they take now."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from seqlab.artifacts import write_json
from seqlab.cli.places import Workspace
from seqlab.cli.repro import DURATIONS, Progress
from seqlab.executors.base import Submitted

STAGES = {f"evaluate@{i}" for i in range(10)}


def left(said: str) -> float:
    return float(re.findall(r"about ([\d.]+) min left", said)[-1])


def begun(folder: Path, known: dict[str, float]) -> Progress:
    workspace = Workspace(folder)
    workspace.private.mkdir()
    write_json(workspace.private / DURATIONS, known)
    return Progress(workspace, len(STAGES), len(STAGES), 2, STAGES)


def ended(told: Progress, name: str, seconds: float) -> None:
    told.finished(Submitted(name, time.monotonic() - seconds))


@pytest.mark.parametrize(("seconds", "expected"), [(60, 4.0), (240, 16.0), (30, 2.0)])
def test_it_follows_how_long_the_latest_stages_take(
    seconds: float, expected: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = begun(tmp_path, dict.fromkeys(STAGES, 60.0))
    for i in range(2):
        ended(told, f"evaluate@{i}", seconds)
    assert left(capsys.readouterr().out) == pytest.approx(expected, rel=0.03)


def test_stages_that_come_from_the_cache_say_nothing_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = begun(tmp_path, dict.fromkeys(STAGES, 60.0))
    for i in range(4):
        ended(told, f"evaluate@{i}", 0.1)
    assert left(capsys.readouterr().out) == pytest.approx(3.0, rel=0.03)


def test_without_anything_known_it_is_the_mean_of_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = begun(tmp_path, {})
    for i in range(2):
        ended(told, f"evaluate@{i}", 30 * (i + 1))
    said = capsys.readouterr().out
    assert left(said) == pytest.approx(3.0, rel=0.03)
    assert said.strip().endswith("(a guess)")
