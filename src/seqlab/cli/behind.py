"""What is behind the numbers of a report: runs and commands of its rows, the commit, and the report before it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from seqlab import __version__
from seqlab.artifacts import read_json
from seqlab.cli.git import git
from seqlab.cli.places import ROOT, Workspace
from seqlab.config import Experiment
from seqlab.evaluation.leaderboard import CONTROL
from seqlab.page.content import Origin


def origins(workspace: Workspace, experiment: Experiment) -> dict[str, dict[str, Origin]]:
    """By domain, then FAMILY/STRATEGY: the keys of the runs that made a row here, and the commands that make it again.

    Of what came from the cache or from another machine there is no run here.
    """
    found: dict[str, dict[str, Origin]] = {}
    for cell in experiment.cells():
        if cell.fraction == 1.0:
            made = origin(workspace, cell.path, ("finetune", "evaluate"))
            before = found.setdefault(cell.domain, {}).get(f"{cell.family}/{cell.strategy}", Origin([], []))
            both = Origin([*before.runs, *made.runs], [*before.commands, *made.commands])
            found[cell.domain][f"{cell.family}/{cell.strategy}"] = both
    for domain, known in found.items():
        made = origin(workspace, domain, ("controls",))
        controls = workspace.home / "scores" / domain / "controls"
        if controls.is_dir():
            known |= {f"{folder.name}/{CONTROL}": made for folder in controls.iterdir()}
    return found


def origin(workspace: Workspace, label: str, verbs: tuple[str, ...]) -> Origin:
    records = {verb: workspace.record(verb, label) for verb in verbs}
    runs = [(verb, str(read_json(path)["run"])) for verb, path in records.items() if path.exists()]
    return Origin(runs, [f"seqlab run {verb} {label}" for verb in verbs])


def about(suite: str) -> dict[str, str]:
    """What made a page, and when: a page says how it was measured, so it need not be equal to another's bytes."""
    found = {"suite": suite, "seqlab": __version__}
    if commit := git(ROOT, "describe", "--always", "--dirty", "--abbrev=12"):
        found["commit"] = commit
    return found | {"written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}


def committed(workspace: Workspace, path: Path) -> tuple[str, str] | None:
    """What the last commit says of a file of a workspace: which commit last changed it, and its text; None without."""
    if not workspace.home.is_relative_to(ROOT):
        return None
    name = (workspace.home / path).relative_to(ROOT).as_posix()
    text, commit = git(ROOT, "show", f"HEAD:{name}"), git(ROOT, "log", "-1", "--format=%h of %as", "HEAD", "--", name)
    return (commit, text) if text and commit else None
