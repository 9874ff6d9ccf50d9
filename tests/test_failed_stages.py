"""What a person is told at the end of a run: of a stage that failed in one line where that says why, once, and by the
end of its log else; and where the results are of what ran."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.repro import Progress, reason_of, results, summary
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


def test_the_leaderboard_is_named_where_it_was_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    cell = ["models/series/rnn/full/0"], ["scores/series/rnn/full/0", "shown/series/rnn/full/0"]
    ran = {"finetune@x": cell[0], "evaluate@x": cell[1], "evaluate@y": ["scores/series/rnn/scratch/0"]}
    assert results({*ran, "compare"}, ran) == "reports/leaderboard.md has the results"
    where = "models/series/rnn/full/0, scores/series/rnn and shown/series/rnn/full/0"
    assert results(set(ran), ran) == f"results in {where}; `seqlab ui` shows the runs"
    assert results({"probe@x"}, {"probe@x": ["reports/probe/x.json"]}).startswith("results in reports/probe/x.json; ")
    assert results({"report"}, {"report": []}).startswith("results in MLflow alone; ")
    monkeypatch.chdir(ROOT / "src")  # as a workspace below the checkout
    assert results({"evaluate@x"}, {"evaluate@x": cell[1]}).startswith("results in src/scores/series/rnn/full/0 and ")
