"""A comparison with an answer whenever it stops: cheap cells first, a leaderboard of what is finished after each wave.

Every stage is the pipeline's own, run by `repro`: what a wave made is up to date for the next one, and for the same
command typed again. A table of some of the cells is made by the stage `compare` itself, on those cells; once all are
there, DVC runs that stage as it runs any other.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import FrameType

from seqlab.cells import Cell
from seqlab.cli.behind import write_page
from seqlab.cli.compose import composed
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.repro import Options, StagesFailed, current, in_words, repro, run, warmable, workspace_of
from seqlab.config import Experiment
from seqlab.errors import UserError
from seqlab.executors.dvc import LOCK_FILE
from seqlab.executors.warm import MODULES, SUPPORTED, Warm

FIRST = 45.0  # seconds until a table is made of what there is, the cheapest wave finished or not
# Seconds until it rings once more: what is raised in a destructor is lost.
AGAIN = 0.5
CHEAP = 5  # families of the first wave
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
        begin(warm, workspace, experiment)
        told = Told(workspace, experiment, began, seconds)
        for wave in (*waves(experiment), None):
            while True:
                try:
                    with limited(told.until(first=not told.shown)):
                        run(workspace, experiment, within(options, experiment, wave), warm, told.failures)
                except TimeUp:
                    told.table()
                    if told.over:
                        told.end()
                        return
                    continue
                except StagesFailed:  # of which the end tells
                    pass
                break
            if wave is not None:
                told.table()
            if len(told.lost) == len(experiment.cells()):
                break
        told.end()


def begin(warm: Warm, workspace: Workspace, experiment: Experiment) -> None:
    """Have imported what the first wave needs while DVC loads, where nothing ran before and it is sure to be needed."""
    if (workspace.home / LOCK_FILE).exists() or not SUPPORTED or not warmable(experiment.trainer):
        return
    for fit in dict.fromkeys(experiment.families[name].fit for name in waves(experiment)[0]):
        warm.environment(MODULES[fit])


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


def within(options: Options, experiment: Experiment, wave: Sequence[str] | None) -> Options:
    """The evaluations of a wave's cells, and the controls that they are held against; None: every stage."""
    cells = [cell for cell in experiment.cells() if wave is not None and cell.family in wave]
    names = frozenset(name for cell in cells for name in needed(cell))
    return replace(options, keep_going=True, names=names)


def needed(cell: Cell) -> set[str]:
    """The stages whose scores a table has of a cell."""
    return {f"evaluate@{cell}", f"controls@{cell.domain}"}


@contextmanager
def limited(until: float) -> Iterator[None]:
    """Raise TimeUp within the block at a moment of the monotonic clock; at once where that has passed.

    Within an import it waits for the end of that: half a package would stay behind, and the next use of it would fail.
    """

    def ring(number: int, frame: FrameType | None) -> None:
        # What the first one unwinds, no further one disturbs.
        if not isinstance(sys.exception(), TimeUp) and not importing(frame):
            raise TimeUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, until - time.monotonic()), AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") != "importlib._bootstrap":
        frame = frame.f_back
    return frame is not None


class Told:
    """What a person hears: a table whenever there is a new one, and at the end what failed and what was not reached.

    A table takes time too: the last one's is kept free for the one at the end. failures: the stages that failed, with
    their logs; lost: the cells without them.
    """

    def __init__(self, workspace: Workspace, experiment: Experiment, began: float, seconds: float):
        self.workspace, self.experiment = workspace, experiment
        self.began, self.end_at = began, began + seconds
        self.shown: list[Cell] = []
        self.lost: list[Cell] = []
        self.failures: dict[str, Path] = {}
        self.took = 0.0

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.end_at - 1.2 * self.took

    def until(self, first: bool) -> float:
        end = self.end_at - 1.2 * self.took
        return min(end, self.began + FIRST) if first and time.monotonic() < self.began + FIRST else end

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
        for module in COMPARING:  # once, and not in every table's child
            import_module(module)
        in_child(lambda: compare(self.workspace, reached))
        self.shown = reached
        self.took = time.monotonic() - began
        cells = len(self.experiment.cells())
        print(f"\nseqlab: {len(reached)} of {cells} cells after {time.monotonic() - self.began:.0f} s", flush=True)
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
