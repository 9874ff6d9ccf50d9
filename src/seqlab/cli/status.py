"""What would run, and what ran last, without running anything."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from seqlab.cli import freshness
from seqlab.cli.compose import CELLS, remembered
from seqlab.cli.places import ROOT, SUITES, Workspace
from seqlab.cli.repro import current, workspace_of
from seqlab.cli.why import Now, reasons
from seqlab.executors.dvc import LOCK_FILE
from seqlab.executors.graph import Graph


def status(overrides: list[str]) -> None:
    """Of the suite that the overrides name, or of the checkout's own. Nothing is waited for, and no lock is held."""
    workspace = workspace_of(overrides)
    os.chdir(workspace.home)
    kept = remembered(workspace.home / CELLS)
    experiment = current(workspace)
    print(f"suite {experiment.suite.name} in {os.path.relpath(workspace.home, ROOT)}")
    if kept.get("overrides"):
        print(f"remembers the overrides {' '.join(kept['overrides'])} (seqlab compose --reset forgets them)")
    own_files = [item["path"] for item in (kept.get("files") or {}).values()]
    if (who := workspace.at_work()) is not None:
        print(f"{who} is at work here; what follows is from {LOCK_FILE}, which it writes now and then")
        tell(*from_lock(workspace))
    elif freshness.is_fresh(workspace, own_files):
        print("all stages are up to date")
    else:
        tell(*from_dvc())
    others = sorted(path.name for path in (ROOT / SUITES).glob("*") if (path / CELLS).exists())
    if others:
        print(f"other suites here: {', '.join(others)} (results in {SUITES}/NAME/reports)")


def tell(graph: Graph, changed: set[str]) -> None:
    waiting = graph.followers(changed)
    if not waiting:
        print("all stages are up to date")
        return
    counts = Counter(name.split("@")[0] for name in graph.before if name in waiting)
    verbs = ", ".join(f"{number} {verb}" for verb, number in counts.items())
    print(f"{len(waiting)} of {len(graph.before)} stages would run: {verbs}")
    print(f"changed themselves: {', '.join(sorted(changed)[:8])}{' …' if len(changed) > 8 else ''}")


def from_dvc() -> tuple[Graph, set[str]]:
    """The stages, and those that changed themselves. Raises Busy where a plain `dvc repro` is at work."""
    from seqlab.executors import dvc
    from seqlab.executors.local import in_child

    def changed() -> set[str] | str:
        try:
            return {name for name in graph.before if pipeline.dirty(name, patience=0.0)}
        except dvc.Busy as error:
            return str(error)

    with dvc.opened() as pipeline:
        graph = Graph({name: before for name, before in pipeline.before.items() if name != "compose"})
        found = in_child(changed)
    if isinstance(found, str):
        raise dvc.Busy(found)
    return graph, found


def from_lock(workspace: Workspace) -> tuple[Graph, set[str]]:
    """As `from_dvc`, without DVC, whose locks are those of whoever runs stages here."""
    now = Now.of(workspace)
    made: dict[str, set[str]] = {}
    for out, name in now.makers.items():
        for path in (out, *map(str, Path(out).parents)):
            made.setdefault(path, set()).add(name)
    stages = {name: stage for name, stage in now.stages.items() if name != "compose"}
    graph = Graph({
        name: {other for path in stage.inputs for other in made.get(path, ())} for name, stage in stages.items()
    })  # fmt: skip
    return graph, {name for name in stages if next(reasons(now, name), None) is not None}
