"""A comparison with an answer whenever it stops: cheap cells first, tables of what is finished beside the rest.

Every stage is the pipeline's own, run by `repro`: what was made is up to date for the same command typed again. A table
of some of the cells is made by the stage `compare` itself, on those cells and beside the stages that run; once all are
there, DVC runs that stage as it runs any other.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from seqlab.cells import Cell
from seqlab.cli.behind import write_page
from seqlab.cli.compose import composed
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.repro import Options, StagesFailed, begin, current, in_words, repro, run, workspace_of
from seqlab.config import Experiment
from seqlab.errors import UserError
from seqlab.executors.warm import Warm
from seqlab.training.resume import die_with_parent

if TYPE_CHECKING:
    from seqlab.executors.local import Child

FIRST = 45.0  # seconds until a table is made of what there is, the cheapest wave finished or not
# Seconds until it rings once more: what is raised in a destructor is lost.
AGAIN = 0.5
CHEAP = 5  # families of the first wave
ENDING = 10.0  # seconds of a limit that are kept for what stands beside the last table: DVC's look, the page
ENDING_SHARE = 0.06  # of a short limit
PAUSE = 5.0  # times what the last table took: so long there is no other one while stages run
# What a table is made with, and takes seconds to import.
COMPARING = ("seqlab.stages.compare", "matplotlib.pyplot", "scipy.stats", "pyarrow.parquet", "pandas")
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class TimeUp(BaseException):
    """A wave has had its time; what it finished is kept, and what runs is ended with its checkpoint."""


def seconds_of(text: str) -> float:
    """90s, 10m, 1.5h. Raises UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None or not float(match[1]):
        raise UserError(f"--time-limit {text}: expected a time such as 90s, 10m or 1.5h")
    return float(match[1]) * UNITS[match[2]]


def whole(options: Options) -> None:
    """Bring a suite up to date and say its verdict. Raises StagesFailed, after the verdict on all that is finished."""
    try:
        repro(options)
    except StagesFailed as error:
        workspace = workspace_of(options.overrides)
        with workspace.locked():
            told = Told(workspace, current(workspace), time.monotonic(), math.inf)
            told.failures = error.failed
            told.table()
            if told.shown:
                print_verdict()
        raise
    print_verdict()


def anytime(options: Options, seconds: float) -> None:
    """Bring a suite up to date as far as the time reaches.

    Raises StagesFailed naming the stages that failed, UserError where the time was too short for any cell.
    """
    began = time.monotonic()
    workspace = workspace_of(options.overrides)
    os.chdir(workspace.home)
    with workspace.locked(), Warm() as warm:
        experiment = composed(workspace, options.overrides)
        begin(warm, workspace, experiment, options, [experiment.families[name].fit for name in waves(experiment)[0]])
        told = Told(workspace, experiment, began, seconds)
        # First every cell, then what is made of all of them.
        for turns in (waves(experiment), []):
            while True:
                try:
                    with limited(told.until), told.watching():
                        run(workspace, experiment, within(options, experiment, turns), warm, told.failures, told.look)
                except TimeUp:
                    told.early = True
                    told.table()
                    if told.over:
                        told.end()
                        return
                    continue
                except StagesFailed:  # of which the end tells
                    pass
                break
            if turns:
                told.table()
            if len(told.lost) == len(experiment.cells()):
                break
        told.end()


def waves(experiment: Experiment) -> list[list[str]]:
    """Families, the cheap ones first, in the order of the suite: closed forms and rules, then each that is trained.

    A mixture comes after what it mixes.
    """
    here = list(dict.fromkeys(cell.family for cell in experiment.cells()))
    plain = [name for name in here if not experiment.families[name].members]
    quick = [name for name in plain if experiment.families[name].fit in ("closed_form", "rules")]
    slow = [[name] for name in here if name not in quick]
    slow.sort(key=lambda wave: bool(experiment.families[wave[0]].members))
    return [part for part in (quick[:CHEAP], quick[CHEAP:], *slow) if part]


def within(options: Options, experiment: Experiment, waves: Sequence[Sequence[str]]) -> Options:
    """The evaluations of each wave's cells in turn, and the controls that they are held against; of no wave: every
    stage."""
    cells = experiment.cells()
    turns = [{name for cell in cells if cell.family in wave for name in needed(cell)} for wave in waves]
    return replace(options, keep_going=True, turns=tuple(map(frozenset, turns)))


def needed(cell: Cell) -> set[str]:
    """The stages whose scores a table has of a cell."""
    return {f"evaluate@{cell}", f"controls@{cell.domain}"}


@contextmanager
def limited(until: Callable[[], float]) -> Iterator[None]:
    """Raise TimeUp within the block at a moment of the monotonic clock, which may become a later one; at once where it
    has passed.

    Within an import it waits for the end of that: half a package would stay behind, and the next use of it would fail.
    """

    def arm() -> None:
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, until() - time.monotonic()), AGAIN)

    def ring(number: int, frame: FrameType | None) -> None:
        if until() > time.monotonic():
            arm()
        # What the first one unwinds, no further one disturbs.
        elif not isinstance(sys.exception(), TimeUp) and not importing(frame):
            raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    arm()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None


@dataclass(frozen=True)
class Making:
    """A table of cells that a child makes, and when it was begun."""

    cells: list[Cell]
    child: Child
    began: float


class Told:
    """What a person hears: a table whenever there is a new one, and at the end what failed and what was not reached.

    A table takes time too: the last one's is kept free for the one at the end, and stages that run are not made to wait
    for any. failures: the stages that failed, with their logs; lost: the cells without them.
    """

    def __init__(self, workspace: Workspace, experiment: Experiment, began: float, seconds: float):
        self.workspace, self.experiment = workspace, experiment
        self.began, self.end_at = began, began + seconds
        self.ending = min(ENDING, ENDING_SHARE * seconds) if math.isfinite(seconds) else 0.0
        self.shown: list[Cell] = []
        self.lost: list[Cell] = []
        self.failures: dict[str, Path] = {}
        self.took = 0.0  # seconds, by the last table
        self.ready = began  # when that was there
        self.making: Making | None = None
        self.early = False  # whether a table was tried for though the first wave was not finished
        self.broken = False  # whether one that was begun beside the stages failed

    @property
    def last(self) -> float:
        """When the stages that run are to end, so that the last table and the page are there in time."""
        return self.end_at - 1.2 * self.took - self.ending

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.last

    def until(self) -> float:
        """When the stages that run are to end: for the first table, if none is there or begun, or for the last."""
        return self.last if self.shown or self.making or self.early else min(self.last, self.began + FIRST)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A table that is begun within the block is finished with it; given up where the block is left by an error."""
        try:
            yield
            if self.making is not None:
                self.made()
        finally:
            if self.making is not None:
                self.making.child.process.kill()
                self.making.child.process.join()
                self.making = None

    def look(self, waiting: Collection[str], lost: Collection[str]) -> None:
        """Begin a table of the cells that are finished, or show the one that is made, if it is time for either.

        waiting: stages that are to run or do; lost: that failed, or follow from what did.
        """
        if self.making is not None and self.making.child.result.poll():
            self.made()
        if self.making is not None or self.broken:
            return
        if self.shown and time.monotonic() - self.ready < PAUSE * self.took:
            return
        settled = [cell for cell in self.experiment.cells() if needed(cell).isdisjoint(waiting)]
        reached = [cell for cell in settled if needed(cell).isdisjoint(lost)]
        first = waves(self.experiment)[0]
        due = self.shown or all(cell in settled for cell in self.experiment.cells() if cell.family in first)
        if due and len(reached) > len(self.shown):
            self.make(reached)

    def make(self, reached: list[Cell]) -> None:
        """Begin a table of these cells."""
        from seqlab.executors.local import held, start

        def work() -> bool:
            os.setsid()  # an interrupt from the keyboard reaches the parent alone, which ends this
            die_with_parent()
            compare(self.workspace, reached)
            return True

        began = time.monotonic()
        import_comparing()
        with held() as release:
            self.making = Making(reached, start(work, release), began)

    def made(self) -> None:
        """Show the table that was begun. One that failed has said why, and fails at the end once more: no other is
        begun until then."""
        assert self.making is not None
        making = self.making
        try:
            making.child.result.recv()
        except EOFError:
            self.broken = True
        making.child.process.join()
        self.making = None
        if not self.broken:
            self.show(making.cells, making.began)

    def table(self) -> None:
        """Of the cells that are finished; nothing where they are those of the last one."""
        from seqlab.executors.local import in_child

        began = time.monotonic()
        reached: list[Cell]
        reached, self.lost = in_child(lambda: finished(self.experiment, self.failures))
        if not reached and not self.over and len(self.lost) < len(self.experiment.cells()):
            print(f"seqlab: no cell is finished after {began - self.began:.0f} s", flush=True)
        if reached == self.shown or not reached:
            return
        import_comparing()
        in_child(lambda: compare(self.workspace, reached))
        self.show(reached, began)

    def show(self, reached: list[Cell], began: float) -> None:
        """Say what a table decides that was begun at a moment and is there now."""
        self.shown, self.ready = reached, time.monotonic()
        self.took = self.ready - began
        cells = len(self.experiment.cells())
        print(f"\nseqlab: {len(reached)} of {cells} cells after {self.ready - self.began:.0f} s", flush=True)
        if not self.over and math.isfinite(self.end_at):  # else the end says it
            print(verdict()[0], flush=True)

    def end(self) -> None:
        """The last words are the verdict. Raises StagesFailed, or UserError where no cell is finished."""
        from seqlab.executors.local import in_child

        left = [cell for cell in self.experiment.cells() if cell not in self.shown and cell not in self.lost]
        if not self.shown and not self.failures:
            raise UserError(
                f"the time is up and none of {len(left)} cells is finished; the same command goes on from here, and a "
                "longer --time-limit reaches further"
            )
        if left:
            print(f"seqlab: the time is up; not reached: {arms(left)}. The same command goes on from here.", flush=True)
        if self.shown:
            if left or self.failures:  # so that the stage that writes the page did not run
                where = in_child(lambda: write_page(self.workspace, self.experiment))
                print(f"seqlab: {os.path.relpath(where, ROOT)} shows what there is", flush=True)
            print_verdict()
        if self.failures:
            every = len(self.lost) == len(self.experiment.cells())
            without = f"; without scores: {'every cell' if every else arms(self.lost)}" if self.lost else ""
            raise StagesFailed(f"{in_words(self.failures)}{without}", self.failures)


def arms(cells: Sequence[Cell]) -> str:
    return ", ".join(dict.fromkeys(f"{cell.family} · {cell.arm}" for cell in cells))


def finished(experiment: Experiment, failures: Iterable[str]) -> tuple[list[Cell], list[Cell]]:
    """The cells whose scores are up to date with all that they follow from, the controls of their domain with them; and
    those that have none because of stages that failed."""
    from seqlab.executors import dvc
    from seqlab.executors.graph import Graph

    with dvc.opened() as pipeline:
        graph = Graph({name: before for name, before in pipeline.before.items() if name != "compose"})
        wanted = {cell: needed(cell) for cell in experiment.cells()}
        asked = graph.needed(name for names in wanted.values() for name in names)
        waiting = graph.followers(name for name in asked if pipeline.dirty(name))
        lost = graph.followers(failures)
        return (
            [cell for cell, names in wanted.items() if not names & waiting],
            [cell for cell, names in wanted.items() if names & waiting & lost],
        )


def import_comparing() -> None:
    """Once, and not in every table's child."""
    for module in COMPARING:
        import_module(module)


def compare(workspace: Workspace, cells: Sequence[Cell]) -> None:
    """The stage `compare` on some of its cells, heard by nobody."""
    from seqlab.cli.verbs import compared
    from seqlab.cli.work import SUITE, SuiteWork, from_pipeline

    work = from_pipeline("compare", "", SUITE, workspace)
    assert isinstance(work, SuiteWork)
    compared(work, cells)


NOT_APPLICABLE = re.compile(r" (Not applicable: .*\.)$", re.MULTILINE)  # the end of what is said of a table


def verdict() -> tuple[str, list[str]]:
    """What the newest leaderboard of the current workspace decides; and what it is not of, each line once."""
    text = Path("reports/leaderboard.md").read_text(encoding="utf-8").partition("\n### ")[0]
    return NOT_APPLICABLE.sub("", text), list(dict.fromkeys(NOT_APPLICABLE.findall(text)))


def print_verdict() -> None:
    decided, not_applicable = verdict()
    print("\n".join(["", *not_applicable, "", decided.strip()]), flush=True)
