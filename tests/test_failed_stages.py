"""What a person is told of a stage that failed: one line where that says why, once, and the end of its log else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from seqlab.cli.places import Workspace
from seqlab.cli.repro import Progress, reason_of, summary
from seqlab.executors.base import Submitted

OWN = "Running stage 'x':\n> python x\nseqlab: rows are missing\nfailed to run: python x, exited with 2\n"
BUG = "> python x\nTraceback (most recent call last):\nKeyError: 'a'\nfailed to run: python x, exited with 1"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (OWN, "rows are missing"),
        ("a.csv: missing; files@x reads it\n", "a.csv: missing; files@x reads it"),
        (BUG, None),
        ("> python x\nseqlab: goes on\nKilled\nfailed to run: python x, exited with -9\n", None),
        ("", None),
    ],
)
def test_the_reason_is_the_line_that_a_command_ends_with(text: str, reason: str | None, tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert reason_of(log) is None
    log.write_text(text)
    assert reason_of(log) == reason


@pytest.mark.parametrize(("at_once", "others"), [(False, True), (True, True), (True, False)])
def test_a_reason_is_said_once(
    at_once: bool, others: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "x.log"
    log.write_text(OWN)
    stages = {"x", "follows", *(["other"] if others else [])}
    told = Progress(Workspace(tmp_path), len(stages), len(stages), 2, stages)
    told.at_once = at_once
    told.failed(Submitted("x", time.monotonic()), log, {"follows"})
    said = capsys.readouterr().err
    assert said == ("seqlab: stage x failed: rows are missing\n" if at_once and others else "")
    said += summary({"x": log}, {"follows"}, told, at_once)
    assert said.count("rows are missing") == 1
    assert "x.log" in said
    assert told.failures == {"x": log}
    if at_once:
        assert said.endswith(f"(x.log); 1 stage that follows from it did not run; 0 of {len(stages)} are done")


def test_the_end_of_a_log_is_shown_where_no_line_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x.log"
    log.write_text(BUG)
    told = Progress(Workspace(tmp_path), 1, 1, 1, {"x"})
    told.failed(Submitted("x", time.monotonic()), log, set())
    assert capsys.readouterr().err == f"seqlab: stage x failed:\n{BUG}\n"
