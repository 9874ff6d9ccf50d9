"""Bring every stage of a suite up to date, independent ones side by side.

The results, and dvc.lock, are those of plain `dvc repro`, which does the same, later.
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import config, instructions
from seqlab.artifacts import read_json, write_json
from seqlab.cli import freshness
from seqlab.cli.compose import CELLS, PARAMS, composed, remembered
from seqlab.cli.composing import compose
from seqlab.cli.places import ROOT, SUITES, Workspace
from seqlab.cli.results import LEADERBOARD
from seqlab.config import Experiment, read_params
from seqlab.errors import UserError
from seqlab.execution import Execution, Resources, Where
from seqlab.executors.dvc import LOCK_FILE
from seqlab.executors.handover import SUPPORTED
from seqlab.executors.warm import MODULES, Warm
from seqlab.schema import hint
from seqlab.settings import TrainerSettings

if TYPE_CHECKING:
    from seqlab.executors.base import Executor, Submitted
    from seqlab.executors.dvc import Pipeline

DURATIONS = "durations.json"
SEED = re.compile(r"-s\d+$")  # at the end of a stage's name
ATTRIBUTES = ("domain", "family", "seed", "stage", "strategy")  # of stages, that --only asks for
TAIL = 30  # lines of a failed stage's output that are shown, where it has no one line that says why
OWN = "seqlab: "  # before what a command says of bad input, in one line
LATEST = 16  # stages by which the time left follows how busy the machine is
RESTORED = 0.2  # of what it took when it ran: a stage that is faster came from the cache, and says nothing of others


@dataclass(frozen=True)
class Options:
    """executor, address, jobs: None: as conf/execution says. only: attributes of the stages that are asked for.

    turns: in place of them, the stages themselves, those of an earlier turn first. pull: what others pushed to DVC's
    remote is not computed again.
    """

    overrides: list[str]
    executor: Where | None = None
    address: str | None = None
    jobs: int | None = None
    force: bool = False
    keep_going: bool = False
    pull: bool = False
    no_shared_disk: bool = False
    only: dict[str, str] = field(default_factory=dict)
    turns: tuple[frozenset[str], ...] = ()

    @property
    def partial(self) -> bool:
        return bool(self.only or self.turns)


class StagesFailed(UserError):
    """Stages of a run failed, which its text names. failed: their logs."""

    def __init__(self, text: str, failed: dict[str, Path]):
        super().__init__(text)
        self.failed = failed


def repro(options: Options) -> None:
    """Raises StagesFailed naming the stages that failed."""
    if options.force and options.pull:
        raise UserError("--force runs every stage, --pull fetches what was run: one of them")
    for key, value in options.only.items():
        if key not in ATTRIBUTES:
            raise UserError(f"--only {key}={value}: unknown key{hint(key, ATTRIBUTES)}")
    if not (options.force or options.partial) and nothing_changed(options.overrides):
        print("seqlab: all stages are up to date")
        return
    workspace = workspace_of(options.overrides)
    os.chdir(workspace.home)
    with workspace.locked(), Warm() as warm:
        experiment = composed(workspace, options.overrides)
        # What prepares data, and what trains most of the families.
        begin(warm, workspace, experiment, options, ["closed_form", "gradient"])
        own_files = own_files_of(remembered(workspace.home / CELLS))
        freshness.forget(workspace)
        whole = run(workspace, experiment, options, warm)
        if whole:
            freshness.keep(workspace, own_files)


def begin(
    warm: Warm, workspace: Workspace, experiment: Experiment, options: Options, fits: Iterable[str]
) -> None:  # fmt: skip
    """Have imported, while DVC loads, what stages of families that are fitted so will find imported, where nothing ran
    before and they are sure to run here."""
    if (workspace.home / LOCK_FILE).exists() or not SUPPORTED or not warmable(experiment.trainer):
        return
    if execution_of(experiment, options).executor == "local":
        for fit in dict.fromkeys(fits):
            warm.environment(MODULES[fit])


def nothing_changed(overrides: list[str]) -> bool:
    """Whether the workspace that these overrides name was composed of them, and every file is as it was left then."""
    named = [word.partition("=")[2] for word in overrides if word.startswith(("suite=", "suite.name="))]
    suite = named[-1] if named else None
    workspace = Workspace(ROOT if suite is None else ROOT / SUITES / suite)
    if not (workspace.home / CELLS).exists():
        return False
    kept = remembered(workspace.home / CELLS)
    return overrides in ([], kept.get("overrides")) and freshness.is_fresh(workspace, own_files_of(kept))


def own_files_of(cells: dict[str, Any]) -> list[str]:
    return [item["path"] for item in (cells.get("files") or {}).values()]


def workspace_of(overrides: Sequence[str]) -> Workspace:
    """The checkout for the suite that conf/ names, a workspace of its own for every other suite."""
    own = compose("config", [])["suite"]["name"]
    asked = compose("config", list(overrides))["suite"]["name"] if overrides and overrides != ["--reset"] else own
    return Workspace(ROOT) if asked == own else Workspace.of(asked)


def run(
    workspace: Workspace,
    experiment: Experiment,
    options: Options,
    warm: Warm | None = None,
    failures: dict[str, Path] | None = None,
    look: Callable[[Collection[str], Collection[str]], None] | None = None,
) -> bool:
    """Run what is not up to date; whether then everything is. Raises StagesFailed.

    warm: processes of the caller's, for several runs. failures: of the runs before, the stages that failed with their
    logs, of which the caller tells: what follows from them is left alone, and those that fail here join them. look: is
    called now and then, at once when a stage has finished, with those that are left and those that failed or follow
    from what did.
    """
    from seqlab.executors import dvc
    from seqlab.executors.graph import Graph, Schedule
    from seqlab.executors.local import in_child
    from seqlab.executors.running import went_through

    if workspace.home != ROOT:
        dvc.share_config(ROOT, workspace.home)
    with dvc.opened() as pipeline, dvc.LockFile(pipeline.repo) as lock:
        graph = Graph({name: before for name, before in pipeline.before.items() if name != "compose"})
        # Everything follows from its files, but what they say may not have changed for a stage: first it, then a look.
        if "compose" in pipeline.stages:
            lock.add(in_child(lambda: pipeline.composed(options.force)))
        wanted = set().union(*options.turns) or selected(experiment, graph, options.only)
        candidates = graph.needed(wanted) if options.partial else set(graph.before)
        if options.pull and (fault := in_child(lambda: said(lambda: pipeline.pull(candidates)))):
            raise UserError(fault)
        changed = set(wanted)
        if not options.force:
            changed = in_child(lambda: {name for name in graph.before if name in candidates and pipeline.dirty(name)})
        waiting = graph.followers(changed) & candidates
        if not waiting:
            if failures is None:
                what = "what was asked for is" if options.partial else "all stages are"
                print(f"seqlab: {what} up to date")
            return not options.partial
        lost = graph.followers(failures or ())
        waiting -= lost
        if not waiting:
            return False
        if experiment.trainer.portable:
            instructions.for_children()
        slots = slots_of(experiment.execution, options.jobs)
        told = Progress(workspace, len(waiting), len(graph.before), slots, waiting, alike(workspace, experiment))
        told.at_once = options.keep_going and failures is None
        told.failures = {} if failures is None else failures
        told.lost, told.look = lost & candidates, look
        if not options.turns:  # else the caller shows them
            told.results = results(candidates, {name: pipeline.outputs(name) for name in waiting})
        schedule = Schedule(graph, set(waiting), options.turns)
        execution = execution_of(experiment, options)
        if execution.executor != "local" and not execution.shared_disk:
            ready = graph.needed(waiting) - waiting
            if fault := in_child(lambda: said(lambda: pipeline.push(ready))):
                raise UserError(fault)
        with executor_of(workspace, experiment, options, execution, pipeline, slots, warm) as executor:
            waited = None if look is None else told.waited
            failed, left = went_through(schedule, executor, lock.add, told, options.keep_going, waited)
        if failed:
            raise StagesFailed(summary(failed, left, told, options.keep_going), failed)
    told.end()
    return not options.partial


def results(candidates: Collection[str], outputs: Mapping[str, Collection[str]]) -> str:
    """In words where the results of a run are: the leaderboard where it brought that up to date.

    candidates: the stages that are up to date when it ends. outputs: by stage that it runs, paths below the workspace.
    """
    if "compare" in candidates:
        return f"{os.path.relpath(LEADERBOARD.with_suffix('.md').absolute(), ROOT)} has the results"
    tops: dict[str, list[str]] = {}
    for path in (path for paths in outputs.values() for path in paths):
        tops.setdefault(Path(path).parts[0], []).append(path)
    named = sorted(os.path.relpath(Path(os.path.commonpath(paths)).absolute(), ROOT) for paths in tops.values())
    where = f"{' and '.join(filter(None, (', '.join(named[:-1]), *named[-1:])))}" if named else "MLflow alone"
    return f"results in {where}; `seqlab ui` shows the runs"


def said(function: Callable[[], None]) -> str | None:
    """The error of a user that it ends in, if any: what one process can tell another."""
    try:
        function()
    except UserError as error:
        return str(error)
    return None


def summary(failed: dict[str, Path], lost: set[str], told: Progress, keep_going: bool) -> str:
    if len(failed) == 1 and not keep_going:
        [(name, log)] = failed.items()
        return f"stage {name} failed{why_of(log)}; {os.path.relpath(log)} has all of its output"
    them = "it" if len(failed) == 1 else "them"
    verb = "follows" if len(lost) == 1 else "follow"
    follow = f"; {stages(len(lost))} that {verb} from {them} did not run" if lost else ""
    return f"{in_words(failed, told.explained)}{follow}; {told.done} of {told.total} are done"


def in_words(failed: Mapping[str, Path], explained: Collection[str] = ()) -> str:
    """How many stages failed, and each with its log and, where that was not explained before, the reason."""
    each = (
        f"{name}{'' if name in explained else why_of(log)} ({os.path.relpath(log)})" for name, log in failed.items()
    )
    return f"{stages(len(failed))} failed: {', '.join(each)}"


def stages(count: int) -> str:
    return "1 stage" if count == 1 else f"{count} stages"


def why_of(log: Path) -> str:
    """The reason of a failure behind a colon, where it is one line."""
    reason = reason_of(log)
    return "" if reason is None else f": {reason}"


def reason_of(log: Path) -> str | None:
    """The line in which a stage that failed said why, where that is all there is to know; None of a bug, or a kill."""
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    lines = [line for line in lines if line.strip()]
    if len(lines) == 1:  # DVC's own, which did not come to run the stage
        return lines[0]
    if len(lines) > 1 and lines[-1].startswith("failed to run: ") and lines[-2].startswith(OWN):
        return lines[-2].removeprefix(OWN)
    return None


def selected(experiment: Experiment, graph: Any, only: dict[str, str]) -> set[str]:
    """The stages that have all the attributes asked for. Raises UserError for what no stage has."""
    if not only:
        return set(graph.before)
    attributes = stages_of(experiment)
    for key, value in only.items():
        if value not in (values := {part[key] for part in attributes.values() if key in part}):
            raise UserError(f"--only {key}={value}: no stage has it{hint(value, values)}")
    found = {
        name for name in graph.before if all(attributes.get(name, {}).get(key) == value for key, value in only.items())
    }
    if not found:
        raise UserError(f"--only {' '.join(f'{k}={v}' for k, v in only.items())}: no stage has all of these")
    return found


def stages_of(experiment: Experiment) -> dict[str, dict[str, str]]:
    """What tells stages from each other, by their names in dvc.yaml."""
    found: dict[str, dict[str, str]] = {}
    for name, domain in experiment.domains.items():
        for verb in ("acquire", "prepare", "controls", "draw", "probe"):
            found[f"{verb}@{name}"] = {"stage": verb, "domain": name}
        for archive in domain.archives:  # of a domain with a user's own files
            for group in ("packages", "files"):
                found[f"{group}@{name}-{archive}"] = {"stage": "acquire", "domain": name}
    for cell in experiment.cells():
        own = {"domain": cell.domain, "family": cell.family, "seed": str(cell.seed)}
        found[f"pretrain@{cell.domain}-{cell.family}-s{cell.seed}"] = {"stage": "pretrain", **own}
        for verb in ("scratch", "finetune", "mixture", "evaluate"):
            found[f"{verb}@{cell}"] = {"stage": verb, **own, "strategy": cell.strategy}
    for family in experiment.diagnosed():
        found[f"diagnose@{family}"] = {"stage": "diagnose", "family": family}
    return found | {
        "diagnostics@memory": {"stage": "diagnostics"},
        "compare": {"stage": "compare"},
        "report": {"stage": "report"},
    }


def slots_of(execution: Execution, asked: int | None) -> int:
    """Stages at a time: as asked, or as conf/execution says, or as many as this process may use cores."""
    return asked or execution.jobs or len(os.sched_getaffinity(0))


def execution_of(experiment: Experiment, options: Options) -> Execution:
    """As conf/execution and the command say."""
    own = experiment.execution
    return replace(
        own,
        executor=options.executor or own.executor,
        address=options.address or own.address,
        shared_disk=own.shared_disk and not options.no_shared_disk,
    )


def executor_of(
    workspace: Workspace,
    experiment: Experiment,
    options: Options,
    execution: Execution,
    pipeline: Pipeline,
    slots: int,
    warm: Warm | None = None,
) -> Executor:
    """Where the stages of a run go."""
    logs, force, pull = workspace.private / "logs", options.force, options.pull

    def fit_of(name: str) -> str | None:
        return warmed(experiment, pipeline.command(name))

    if execution.executor == "local":
        from seqlab.executors.local import Local

        return Local(lambda name: pipeline.reproduced(name, force, pull), slots, fit_of, logs, warm)
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise UserError(f"executor {execution.executor}: needs `pip install 'seqlab[cluster]'`") from None
    from seqlab.executors.cluster import Cluster

    def resources_of(name: str) -> Resources:
        found: Resources = getattr(execution.resources, fitted(experiment, pipeline.command(name)) or "other")
        return found

    return Cluster(pipeline, execution, slots, force, pull, fit_of, resources_of, workspace.home, logs)


def fitted(experiment: Experiment, command: str) -> str | None:
    """How the family of a stage's command is fitted; None where it has none."""
    label = command.rsplit(maxsplit=1)[-1]
    family = next((name for name in label.split("/") if name in experiment.families), None)
    return experiment.families[family].fit if family else None


def warmed(experiment: Experiment, command: str) -> str | None:
    """As `fitted`, which says what its warm process has imported; None where there can be none.

    A probe opens models of all kinds, as mixtures do.
    """
    if not warmable(experiment.trainer):
        return None
    if "pipelines/probe.py" in command:
        domain = command.rsplit(maxsplit=1)[-1]
        opened = {experiment.families[cell.family].fit for cell in experiment.cells() if cell.domain == domain}
        return "closed_form" if opened == {"closed_form"} else "mixture"
    return fitted(experiment, command) or "closed_form"


def warmable(trainer: TrainerSettings) -> bool:
    """A GPU's context does not survive a fork, and a launcher of several processes starts the script anew."""
    return trainer.accelerator == "cpu" and trainer.devices * trainer.num_nodes == 1


def durations(workspace: Workspace) -> dict[str, float]:
    """Seconds that each stage took when it last ran there."""
    path = workspace.private / DURATIONS
    with suppress(UserError):
        return dict(read_json(path)) if path.exists() else {}
    return {}


def alike(workspace: Workspace, experiment: Experiment) -> dict[str, float]:
    """What stages took in the checkout, for a suite that trains as long as the checkout's own; else nothing."""
    own = Workspace(ROOT)
    if workspace == own or not (own.home / PARAMS).exists():
        return {}
    return durations(own) if read_params(own.home / PARAMS)["suite"]["steps"] == experiment.suite.steps else {}


class Progress:
    """A line a stage, with the time that is left, from what each stage took when it last ran here, or its like, and how
    much longer or shorter the latest ones take now.

    durations.json keeps seconds by stage. alike: those of another workspace, for stages that never ran in this one; for
    a seed that never ran, the first one's.
    """

    def __init__(
        self,
        workspace: Workspace,
        total: int,
        stages: int,
        slots: int,
        waiting: set[str],
        alike: dict[str, float] | None = None,
    ):
        self.path = workspace.private / DURATIONS
        # Whether a failure is told when it happens and not at the end, and those that were so; and all with their logs.
        self.at_once, self.explained, self.failures = False, list[str](), dict[str, Path]()
        self.results = ""  # where they are, in words
        self.lost = set[str]()  # failed, or followed from what did
        self.look: Callable[[Collection[str], Collection[str]], None] | None = None
        self.known, like = durations(workspace), alike or {}
        first = {name: like.get(name) or like.get(SEED.sub("-s0", name)) for name in waiting}
        self.alike = {name: seconds for name, seconds in first.items() if seconds}
        self.total, self.slots, self.done, self.left = total, slots, 0, set(waiting)
        self.seen: dict[str, list[float]] = {}
        self.latest: deque[tuple[float, float]] = deque(maxlen=LATEST)  # seconds as known before, and as found now
        self.began = time.monotonic()
        left = f", {self.remaining()}" if self.alike else ""
        print(f"seqlab: {total} of {stages} stages to run, {slots} at a time{left}", flush=True)

    def finished(self, stage: Submitted) -> None:
        seconds = time.monotonic() - stage.started
        self.done += 1
        self.left.discard(stage.name)
        before = self.known.get(stage.name, self.alike.get(stage.name, 0.0))
        if before and seconds > RESTORED * before:
            self.latest.append((before, seconds))
        self.known[stage.name] = round(seconds, 2)
        self.seen.setdefault(stage.name.split("@")[0], []).append(seconds)
        count = f"[{self.done:{len(str(self.total))}}/{self.total}]"
        print(f"{count} {stage.name} {seconds:.1f} s, {self.remaining()}", flush=True)
        write_json(self.path, self.known)
        self.waited()

    def waited(self) -> None:
        if self.look is not None:
            self.look(self.left, self.lost)

    def failed(self, stage: Submitted, log: Path, lost: set[str]) -> None:
        """What is one line is said once: here where others still run or wait, else with how the run ended."""
        self.left -= {stage.name, *lost}
        self.lost |= {stage.name, *lost}
        self.failures[stage.name] = log
        if (reason := reason_of(log)) is None:
            lines = log.read_text("utf-8", "replace").splitlines()[-TAIL:] if log.exists() else []
            print("\n".join([f"seqlab: stage {stage.name} failed:", *lines]), file=sys.stderr, flush=True)
        elif self.at_once and self.left:
            self.explained.append(stage.name)
            print(f"seqlab: stage {stage.name} failed: {reason}", file=sys.stderr, flush=True)

    def interrupted(self, running: int) -> None:
        print(f"\nseqlab: interrupted; ending {running} stages, {self.done} of {self.total} are done", file=sys.stderr)

    def remaining(self) -> str:
        if not self.left:
            return "the last one"
        everything = [seconds for part in self.seen.values() for seconds in part]
        typical = {verb: statistics.fmean(part) for verb, part in self.seen.items()}
        known = self.alike | self.known
        mean = statistics.fmean(everything or known.values())
        sure = sum(name in known for name in self.left)
        before, now = map(sum, zip(*self.latest, strict=True)) if self.latest else (1.0, 1.0)
        seconds = sum(
            known[name] * now / before if name in known else typical.get(name.split("@")[0], mean) for name in self.left
        )
        minutes = seconds / min(self.slots, len(self.left)) / 60
        # A guess is called one where most of what is left was never seen.
        return f"about {minutes:.1f} min left" + ("" if sure * 2 > len(self.left) else " (a guess)")

    def end(self) -> None:
        minutes = (time.monotonic() - self.began) / 60
        print(f"seqlab: {stages(self.total)} in {minutes:.1f} min{'; ' if self.results else ''}{self.results}")


def current(workspace: Workspace) -> Experiment:
    """What a workspace is composed of. Raises UserError where it is not."""
    return config.experiment(read_params(workspace.home / PARAMS))
