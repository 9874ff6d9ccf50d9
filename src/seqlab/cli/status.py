"""What would run, and what ran last, without running anything."""

from __future__ import annotations

import os
from collections import Counter

from seqlab.cli import freshness
from seqlab.cli.compose import CELLS, remembered
from seqlab.cli.places import ROOT, SUITES
from seqlab.cli.repro import current, workspace_of


def status(overrides: list[str]) -> None:
    """Of the suite that the overrides name, or of the checkout's own."""
    workspace = workspace_of(overrides)
    os.chdir(workspace.home)
    kept = remembered(workspace.home / CELLS)
    experiment = current(workspace)
    print(f"suite {experiment.suite.name} in {os.path.relpath(workspace.home, ROOT)}")
    if kept.get("overrides"):
        print(f"remembers the overrides {' '.join(kept['overrides'])} (seqlab compose --reset forgets them)")
    own_files = [item["path"] for item in (kept.get("files") or {}).values()]
    if freshness.is_fresh(workspace, own_files):
        print("all stages are up to date")
    else:
        from seqlab.executors import dvc
        from seqlab.executors.graph import Graph
        from seqlab.executors.local import in_child

        with dvc.opened() as pipeline:
            graph = Graph({name: before for name, before in pipeline.before.items() if name != "compose"})
            changed = in_child(lambda: {name for name in graph.before if pipeline.dirty(name)})
        waiting = graph.followers(changed)
        if not waiting:
            print("all stages are up to date")
        else:
            counts = Counter(name.split("@")[0] for name in graph.before if name in waiting)
            verbs = ", ".join(f"{number} {verb}" for verb, number in counts.items())
            print(f"{len(waiting)} of {len(graph.before)} stages would run: {verbs}")
            print(f"changed themselves: {', '.join(sorted(changed)[:8])}{' …' if len(changed) > 8 else ''}")
    others = sorted(path.name for path in (ROOT / SUITES).glob("*") if (path / CELLS).exists())
    if others:
        print(f"other suites here: {', '.join(others)} (results in {SUITES}/NAME/reports)")
