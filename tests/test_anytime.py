"""A comparison under a time limit: cheap waves first, tables of what is finished, and the same command goes on."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqlab.cli import anytime
from seqlab.cli.anytime import TimeUp, Told, finished, limited, needed, seconds_of, waves, within
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.repro import Options, StagesFailed, begin
from seqlab.config import Experiment, experiment, read_params
from seqlab.errors import UserError
from seqlab.executors import dvc, local
from seqlab.executors.dvc import LOCK_FILE
from seqlab.executors.warm import MODULES


@pytest.fixture(scope="module")
def shipped() -> Experiment:
    return experiment(read_params(ROOT / "params.yaml"))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["10", "m", "0s", "-1m", "ten minutes", ""])
def test_what_is_no_time_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"expected a time such as 90s, 10m or 1\.5h"):
        seconds_of(text)


def test_waves_have_every_family_once_closed_forms_first_and_mixtures_last(shipped: Experiment) -> None:
    found = waves(shipped)
    names = [name for wave in found for name in wave]
    assert sorted(names) == sorted({cell.family for cell in shipped.cells()})
    fits = [shipped.families[name].fit for name in names]
    first_trained = next(i for i, fit in enumerate(fits) if fit not in ("closed_form", "rules"))
    assert all(fit not in ("closed_form", "rules") for fit in fits[first_trained:])
    assert all(names.index(member) < i for i, name in enumerate(names) for member in shipped.families[name].members)
    assert len(found[0]) == anytime.CHEAP


def test_a_wave_asks_for_its_evaluations_and_their_controls(shipped: Experiment) -> None:
    options = within(Options(["suite=own"], 2), shipped, [["markov"], ["ar"]])
    assert len(options.turns) == 2
    for family, names in zip(("markov", "ar"), options.turns, strict=True):
        assert {name.partition("@")[0] for name in names} == {"evaluate", "controls"}
        assert all(f"-{family}-" in name for name in names if name.startswith("evaluate"))
    assert options.partial
    assert options.keep_going
    assert not within(options, shipped, []).partial


def soon(seconds: float) -> AbstractContextManager[None]:
    end = time.monotonic() + seconds
    return limited(lambda: end)


def test_a_limit_ends_what_waits_and_no_more() -> None:
    began = time.monotonic()
    with pytest.raises(TimeUp), limited(lambda: began + 0.05):
        time.sleep(30)
    with pytest.raises(TimeUp), limited(lambda: began):  # which has passed
        time.sleep(30)
    with soon(0.05):
        pass
    time.sleep(0.1)
    assert time.monotonic() - began < 15


def test_a_limit_may_become_a_later_one() -> None:
    began, ends = time.monotonic(), [time.monotonic() + 0.05]

    def until() -> float:
        if time.monotonic() > ends[0]:  # when it rings
            ends[0] = began + 0.4
        return ends[0]

    with pytest.raises(TimeUp), limited(until):
        time.sleep(30)
    assert 0.4 <= time.monotonic() - began < 15


class Deaf:
    def __del__(self) -> None:
        time.sleep(0.1)  # what is raised here goes nowhere


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_limit_that_was_not_heard_rings_again_and_disturbs_no_unwinding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anytime, "AGAIN", 0.05)
    unwound = []

    def deaf_at_first() -> None:
        deaf = Deaf()
        del deaf
        try:
            time.sleep(30)
        finally:
            time.sleep(0.2)
            unwound.append(True)

    with pytest.raises(TimeUp), soon(0.05):
        deaf_at_first()
    assert unwound


def test_a_limit_waits_for_the_end_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.3)\nWHOLE = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(anytime, "AGAIN", 0.05)

    def work() -> None:
        import_module("slow_to_import")
        time.sleep(30)

    with pytest.raises(TimeUp), soon(0.05):
        work()
    assert import_module("slow_to_import").WHOLE


@pytest.mark.parametrize("late", [0.0, 0.2], ids=["while it waits", "within the fork"])
def test_a_ring_ends_the_child(monkeypatch: pytest.MonkeyPatch, late: float) -> None:
    start, begun = local.start, []

    def started(function: Any, release: Any) -> local.Child:
        begun.append(start(function, release))
        time.sleep(late)
        return begun[0]

    monkeypatch.setattr(local, "start", started)
    done = threading.Event()
    other = threading.Thread(target=done.wait)  # which may take the signal, whatever this thread has masked
    other.start()
    with pytest.raises(TimeUp), soon(0.1):
        local.in_child(lambda: time.sleep(60))
    done.set()
    other.join()
    assert [child.process.exitcode for child in begun] == [-signal.SIGKILL]


@pytest.fixture
def told(shipped: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With a comparison that is only counted."""
    made = Told(Workspace(tmp_path), shipped, time.monotonic(), 600)
    calls: list[int] = []
    monkeypatch.setattr(local, "in_child", lambda function: function())
    monkeypatch.setattr(anytime, "compare", lambda _, cells: calls.append(len(cells)))
    monkeypatch.setattr(anytime, "verdict", lambda: ("Best is markov.", ["Not applicable: tfidf (no texts)."]))
    monkeypatch.setattr(anytime, "write_page", lambda *_: tmp_path / "reports/index.html")
    monkeypatch.setattr(anytime, "COMPARING", ())
    made.calls = calls  # type: ignore[attr-defined]
    return made


def test_a_table_is_made_whenever_cells_have_joined(
    told: Any, shipped: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = shipped.cells()
    reached: list[Any] = []
    monkeypatch.setattr(anytime, "finished", lambda *_: (list(reached), []))
    told.table()
    assert "no cell is finished after 0 s" in capsys.readouterr().out
    assert told.until() == pytest.approx(told.began + anytime.FIRST)
    told.early = True
    assert told.until() == told.end_at - anytime.ENDING
    reached += cells[:3]
    told.table()
    told.table()  # nothing new
    reached += cells[3:5]
    told.table()
    assert told.calls == [3, 5]
    said = capsys.readouterr().out
    assert f"5 of {len(cells)} cells after 0 s" in said
    assert said.count("Best is markov.") == 2
    assert "Not applicable" not in said
    told.end()
    said = capsys.readouterr().out
    assert "reports/index.html shows what there is" in said
    assert said.endswith("\n\nNot applicable: tfidf (no texts).\n\nBest is markov.\n")
    assert f"not reached: {cells[5].family} · {cells[5].arm}" in said
    assert "The same command goes on from here." in said


def test_tables_are_made_beside_the_stages_that_run(
    told: Any, shipped: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, go = shipped.cells(), tmp_path / "go"
    by_wave = [{n for c in cells if c.family in wave for n in needed(c)} for wave in waves(shipped)]
    left = set().union(*by_wave)

    def compare(_: Workspace, reached: list[Any]) -> None:
        while not go.exists():
            time.sleep(0.01)
        (tmp_path / "made").write_text(str(len(reached)))

    monkeypatch.setattr(anytime, "compare", compare)
    with told.watching():
        told.look(left, set())
        assert told.making is None, "the first wave is not finished"
        left -= by_wave[0]
        lost = {next(name for name in by_wave[0] if name.startswith("evaluate"))}
        told.look(left, lost)
        first = [cell for cell in cells if cell.family in waves(shipped)[0] and needed(cell).isdisjoint(lost)]
        assert told.making.cells == first
        assert told.until() == told.last, "it needs no other"
        left -= by_wave[1]
        told.look(left, lost)
        assert told.shown == [], "one at a time"
        go.touch()
        told.making.child.process.join()
        told.look(left, lost)
        assert told.shown == first
        assert f"{len(first)} of {len(cells)} cells after " in capsys.readouterr().out
        assert told.making is None, "so soon there is no other one"
        told.took = 0.0
        told.look(left, lost)
        second = told.making.cells
    assert told.shown == second, "what was begun is finished"
    assert (tmp_path / "made").read_text() == str(len(second))
    assert len(second) > len(first)


def test_a_table_is_given_up_where_the_run_ends_early_and_begun_no_more_where_one_failed(
    told: Any, shipped: Experiment, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(anytime, "compare", lambda *_: time.sleep(60))
    begun = []

    def ended_early() -> None:
        with told.watching():
            told.look(set(), set())
            begun.append(told.making.child.process)
            raise TimeUp

    with pytest.raises(TimeUp):
        ended_early()
    assert begun[0].exitcode == -signal.SIGKILL
    assert told.making is None

    def failing(*_: Any) -> None:
        raise UserError("no leaderboard")

    monkeypatch.setattr(anytime, "compare", failing)
    with told.watching():
        told.look(set(), set())
    told.look(set(), set())
    assert told.making is None
    assert told.shown == []
    assert "no leaderboard" in capfd.readouterr().err


def test_what_a_domain_is_not_for_is_said_once_and_the_verdict_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    also = "Not applicable: tfidf (the family models symbols, the domain has vectors)."
    tables = f"## own\n\n**next step.** Best is ar. {also}\n\n**forecast.** Best is ets. {also}"
    (tmp_path / "reports/leaderboard.md").write_text(f"One seed.\n\n{tables}\n\n### own next step\n\n| a |\n")
    anytime.print_verdict()
    decided = "One seed.\n\n## own\n\n**next step.** Best is ar.\n\n**forecast.** Best is ets."
    assert capsys.readouterr().out == f"\n{also}\n\n{decided}\n"


def test_at_the_end_a_verdict_is_not_said_twice(
    told: Any, shipped: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(anytime, "finished", lambda *_: (shipped.cells()[:3], []))
    told.end_at = time.monotonic() - 1
    told.table()
    told.end()
    assert capsys.readouterr().out.count("Best is markov.") == 1


def test_a_limit_that_reaches_no_cell_is_a_line_and_no_success(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anytime, "finished", lambda *_: ([], []))
    told.table()
    with pytest.raises(UserError, match=r"none of \d+ cells is finished; the same command goes on from here") as found:
        told.end()
    assert "\n" not in str(found.value)


def test_what_failed_is_told_with_its_reason_and_is_not_called_unreached(
    told: Any, shipped: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = shipped.cells()
    monkeypatch.setattr(anytime, "finished", lambda *_: (cells[:3], cells[3:4]))
    log = tmp_path / "x.log"
    log.write_text("> python x\nseqlab: too few\nfailed to run: python x, exited with 2\n")
    told.failures["scratch@x"] = log
    told.table()
    failed = re.escape(f"1 stage failed: scratch@x: too few ({os.path.relpath(log)}); without scores: ")
    with pytest.raises(StagesFailed, match=failed + f"{cells[3].family} · {cells[3].arm}$"):
        told.end()
    assert f"not reached: {cells[4].family} · {cells[4].arm}" in capsys.readouterr().out
    monkeypatch.setattr(anytime, "finished", lambda *_: ([], cells))
    told.shown = []
    told.table()
    assert capsys.readouterr().out == ""
    with pytest.raises(StagesFailed, match=r"without scores: every cell$"):
        told.end()


def test_cells_without_scores_because_of_a_failure_are_told_from_those_to_come(
    shipped: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = shipped.cells()[:3]
    done, failed, late = (f"evaluate@{cell}" for cell in cells)
    before = {f"controls@{cells[0].domain}": set(), done: set(), "scratch": set(), failed: {"scratch"}, late: set()}
    pipeline = SimpleNamespace(before=before, dirty={"scratch", failed, late}.__contains__)
    monkeypatch.setattr(dvc, "opened", lambda: nullcontext(pipeline))
    found = finished(SimpleNamespace(cells=lambda: cells), ["scratch"])  # type: ignore[arg-type]
    assert found == (cells[:1], cells[1:2])


def test_the_last_table_has_its_time_kept_free(told: Any) -> None:
    told.took, told.early = 10.0, True
    assert told.until() == pytest.approx(told.end_at - 12.0 - anytime.ENDING)
    short = Told(told.workspace, told.experiment, 0.0, 60.0)
    assert short.until() == pytest.approx(anytime.FIRST)
    short.early = True
    assert short.until() == pytest.approx(60.0 - 60.0 * anytime.ENDING_SHARE)
    assert not told.over
    told.end_at = time.monotonic() + 11.0
    assert told.over


class Asked:
    """Of a Warm, what it was asked to import."""

    def __init__(self) -> None:
        self.modules: list[tuple[str, ...]] = []

    def environment(self, modules: tuple[str, ...]) -> dict[str, str]:
        self.modules.append(modules)
        return {}


def test_imports_begin_early_where_nothing_ran_before(shipped: Experiment, tmp_path: Path) -> None:
    asked: Any = Asked()
    fits, here = ["closed_form", "gradient", "closed_form"], Options([])
    begin(asked, Workspace(tmp_path), shipped, here, fits)
    assert asked.modules == [MODULES["closed_form"], MODULES["gradient"]]
    on_gpu = replace(shipped, trainer=replace(shipped.trainer, accelerator="gpu"))
    begin(asked, Workspace(tmp_path), on_gpu, here, fits)
    begin(asked, Workspace(tmp_path), shipped, Options([], executor="dask"), fits)
    (tmp_path / LOCK_FILE).touch()
    begin(asked, Workspace(tmp_path), shipped, here, fits)
    assert len(asked.modules) == 2, "on a GPU nothing is forked, a worker imports itself, a first run left all it made"


def test_what_a_cell_needs_is_in_the_pipeline(shipped: Experiment) -> None:
    from seqlab.cli.listed import listed

    stages = listed(ROOT / "dvc.yaml", read_params(ROOT / "cells.json"))
    cell = shipped.cells()[0]
    assert needed(cell) <= stages.keys()
    assert needed(replace(cell, seed=99)) - stages.keys() == {f"evaluate@{replace(cell, seed=99)}"}
