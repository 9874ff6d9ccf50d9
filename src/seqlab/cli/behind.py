"""What is behind the numbers of a report: runs and commands of its rows, what was verified, the report before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from seqlab import __version__
from seqlab.artifacts import read_json
from seqlab.cli.git import git
from seqlab.cli.places import REPORTS, ROOT, Workspace
from seqlab.config import Experiment
from seqlab.evaluation.leaderboard import CONTROL
from seqlab.page.content import Origin

VERIFIED = REPORTS / "verified.json"


def write_page(workspace: Workspace, experiment: Experiment) -> Path:
    """The comparison as one page, from what `compare` and `draw` wrote, with all that is known here of its numbers."""
    from seqlab.stages.report import Behind, report

    earlier = committed(workspace, REPORTS / "leaderboard.csv")
    known = verified(workspace)
    report(
        workspace.home / REPORTS,
        workspace.home / "pictures",
        {name: domain.evaluate.headline for name, domain in experiment.domains.items()},
        Behind(
            origins=origins(workspace, experiment, {stage: said for stage, (_, said) in known.items()}),
            about=about(experiment.suite.name, [outcome for outcome, _ in known.values()]),
            before=None if earlier is None else earlier[1],
            named="" if earlier is None else f"the committed report ({earlier[0]})",
        ),
        title=f"seqlab: suite {experiment.suite.name}",
    )
    return workspace.home / REPORTS / "index.html"


def verified(workspace: Workspace) -> dict[str, tuple[str, str]]:
    """By the stage that scores a row: the outcome of the last time that the row was made again, and all that is known.

    In words: how it ended, when, and on which machine.
    """
    path, found = workspace.home / VERIFIED, {}
    for entry in read_json(path) if path.exists() else []:
        said = "same bits" if entry["outcome"] == "same" else f"{entry['outcome']}: {entry['first']}"
        where = f" on {entry['where']['processor']} ({entry['where']['machine']})" if entry["where"] else ""
        for stage in (one["stage"] for one in entry["stages"]):
            if stage.startswith(("evaluate@", "controls@")):
                found[stage] = entry["outcome"], f"{said}, {entry['when'][:16].replace('T', ' ')} UTC{where}"
    return found


def origins(workspace: Workspace, experiment: Experiment, verified: Mapping[str, str]) -> dict[str, dict[str, Origin]]:
    """By domain, then FAMILY/STRATEGY: the keys of the runs that made a row here, and the commands that make it again.

    Of what came from the cache or from another machine there is no run here. verified: what is said of it, by stage.
    """
    found: dict[str, dict[str, Origin]] = {}
    for cell in experiment.cells():
        if cell.fraction == 1.0:
            made = origin(workspace, cell.path, ("finetune", "evaluate"))
            before = found.setdefault(cell.domain, {}).get(f"{cell.family}/{cell.strategy}", Origin([], []))
            said = verified.get(f"evaluate@{cell}")
            proofs = [*before.verified, *([f"seed {cell.seed}: {said}"] if said else [])]
            both = Origin([*before.runs, *made.runs], [*before.commands, *made.commands], proofs)
            found[cell.domain][f"{cell.family}/{cell.strategy}"] = both
    for domain, known in found.items():
        said = verified.get(f"controls@{domain}")
        made = replace(origin(workspace, domain, ("controls",)), verified=[said] if said else [])
        controls = workspace.home / "scores" / domain / "controls"
        if controls.is_dir():
            known |= {f"{folder.name}/{CONTROL}": made for folder in controls.iterdir()}
    return found


def origin(workspace: Workspace, label: str, verbs: tuple[str, ...]) -> Origin:
    records = {verb: workspace.record(verb, label) for verb in verbs}
    runs = [(verb, str(read_json(path)["run"])) for verb, path in records.items() if path.exists()]
    return Origin(runs, [f"seqlab run {verb} {label}" for verb in verbs])


def about(suite: str, outcomes: Sequence[str] = ()) -> dict[str, str]:
    """What made a page, and when: a page says how it was measured, so it need not be equal to another's bytes.

    outcomes: of the systems that were made again.
    """
    found = {"suite": suite, "seqlab": __version__}
    if commit := git(ROOT, "describe", "--always", "--dirty", "--abbrev=12"):
        found["commit"] = commit
    if outcomes:
        found["made again"] = f"{len(outcomes)} systems, {outcomes.count('same')} to the same bits"
    return found | {"written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}


def committed(workspace: Workspace, path: Path) -> tuple[str, str] | None:
    """What the last commit says of a file of a workspace: which commit last changed it, and its text; None without."""
    if not workspace.home.is_relative_to(ROOT):
        return None
    name = (workspace.home / path).relative_to(ROOT).as_posix()
    text, commit = git(ROOT, "show", f"HEAD:{name}"), git(ROOT, "log", "-1", "--format=%h of %as", "HEAD", "--", name)
    return (commit, text) if text and commit else None
