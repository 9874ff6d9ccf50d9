"""Compose conf/ into params.yaml and the suite's lists into cells.json, which dvc.yaml loops over; hash the code.

    python pipelines/compose.py                     conf/ as it stands, with the overrides of the last composition
    python pipelines/compose.py suite=quick         with these overrides, until the next such call
    python pipelines/compose.py --reset             without any

DVC runs it as its first stage. Inside `dvc exp run` DVC has composed params.yaml already, with the experiment's own
overrides; these are then laid over what the workspace remembers.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from seqlab import config
from seqlab.artifacts import write_text
from seqlab.cells import Cell
from seqlab.cli import fingerprint
from seqlab.cli.composing import compose
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.trees import changes, merged
from seqlab.config import Domain, Experiment, experiment, read_params
from seqlab.errors import UserError

# Of each stage DVC reads every file of values that it names, and JSON in a hundredth of YAML's time. params.yaml is the
# one that DVC itself composes for an experiment.
PARAMS, CELLS, CODE = "params.yaml", "cells.json", "code.json"
RESET = "--reset"


def composed(workspace: Workspace, arguments: list[str]) -> Experiment:
    """Write params.yaml, cells.json and code.json of a workspace, and return what they say.

    Raises UserError naming the key that is wrong; nothing is written then.
    """
    params, cells, code = (workspace.home / name for name in (PARAMS, CELLS, CODE))
    before = remembered(cells)
    in_experiment = "DVC_EXP_NAME" in os.environ
    if in_experiment:
        overrides = before.get("overrides", [])
        tree = experimental(read_params(params), overrides)
    else:
        overrides = [] if arguments == [RESET] else arguments or before.get("overrides", [])
        tree = compose("config", overrides)
        # What changes nothing is not worth remembering: `suite=default` is a reset.
        if overrides and tree == compose("config", []):
            overrides = []
    checked = experiment(tree)
    after = {"overrides": overrides, **layout(checked, workspace.home)}
    # DVC read cells.json before it ran this stage, so what it runs now is still the list of before.
    stale = bool(before) and "DVC_STAGE" in os.environ
    stale = stale and any(before.get(k) != v for k, v in after.items() if k != "overrides")
    if stale and in_experiment:
        raise UserError(
            "the experiment changes the list of cells; run `python pipelines/compose.py` with that override first"
        )
    report_changes(read_params(params) if params.exists() and before else {}, tree)
    text = yaml.dump(tree, sort_keys=False, allow_unicode=True)
    write_changed(params, text)
    write_changed(cells, as_json(after))
    write_changed(code, as_json(fingerprint.code(checked)))
    fingerprint.keep_notes(checked, workspace.home)
    if stale:
        raise UserError(
            "the suite's list of cells has changed; params.yaml and cells.json are new: run `dvc repro` once more"
        )
    return checked


def remembered(cells: Path) -> dict[str, Any]:
    """What the last composition wrote, its overrides among it; nothing where there is none or it is damaged."""
    if not cells.exists():
        return {}
    try:
        return read_params(cells)
    except UserError as error:
        print(f"compose: {error}; overrides that it remembered are lost")
        return {}


def experimental(tree: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """What DVC composed from conf/ for an experiment, with the workspace's remembered overrides below its own."""
    if not overrides:
        return tree
    return merged(compose("config", overrides), changes(compose("config", []), tree))


def as_json(tree: dict[str, Any]) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False) + "\n"


def write_changed(path: Path, text: str) -> None:
    """An equal file keeps its time, by which DVC knows that it did not change."""
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)


def layout(checked: Experiment, home: Path) -> dict[str, Any]:
    """What each group of stages in dvc.yaml loops over. home: the workspace's folder."""
    trainings: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    started: dict[str, Any] = {}
    mixed: dict[str, Any] = {}
    tuned: dict[str, Any] = {}
    for cell in checked.cells():
        family = checked.families[cell.family]
        item = {
            "domain": cell.domain,
            "family": cell.family,
            "strategy": cell.strategy,
            "arm": cell.arm,
            "seed": cell.seed,
            "fit": family.fit,
        }
        start = start_of(checked, cell)
        tuned[str(cell)] = item
        if family.members:
            if len(family.members) != 2:
                raise UserError(f"families.{cell.family}.members: expected two, which is what dvc.yaml has places for")
            first, second = (f"models/{replace(cell, family=name).path}" for name in family.members)
            mixed[str(cell)] = item | {"first": first, "second": second}
        elif start is None:
            alone[str(cell)] = item
        else:
            started[str(cell)] = item | {"start": start}
        if checked.strategies[cell.strategy].init == "pretrained" and not family.members:
            name = f"{cell.domain}-{cell.family}-s{cell.seed}"
            source = {"domain": cell.domain, "family": cell.family, "seed": cell.seed, "fit": family.fit}
            trainings[name] = source
    own = {name: own_files(checked.domains[name], home) for name in checked.domains}
    whole: dict[str, Any] = {name: {} for name, files in own.items() if not files}
    return {
        "acquire": whole,
        "packages": {
            f"{name}-{key}": {"domain": name, "archive": key}
            for name in checked.domains
            if name not in whole
            for key, archive in checked.domains[name].archives.items()
            if archive.registry != "file"
        },
        "files": {
            f"{name}-{key}": {"domain": name, "archive": key, "path": path}
            for name, files in own.items()
            for key, path in files.items()
        },
        "domains": {name: {} for name in checked.domains},
        "pretrain": trainings,
        "scratch": alone,
        "finetune": started,
        "mixture": mixed,
        "cells": tuned,
        # What a domain gives the constructors of families: values, as those of the families' own sections are.
        "bound": {
            domain: {
                family: config.bound(checked.domains[domain], checked.families[family])
                for family in dict.fromkeys(cell.family for cell in checked.cells() if cell.domain == domain)
            }
            for domain in checked.domains
        },
        # What a domain's drawing goes through: a value, so that a cell that joins or leaves is drawn or not.
        "drawn_cells": {
            name: [cell.path for cell in checked.cells() if cell.domain == name] for name in checked.domains
        },
        "diagnose": {name: {"family": name} for name in checked.diagnosed()},
        # One stage that draws what those found, or none.
        "drawn": {"memory": {"families": checked.diagnosed()}} if checked.diagnosed() else {},
    }


def own_files(domain: Domain, home: Path) -> dict[str, str]:
    """A user's own local files of a domain, by archive: their content is what DVC looks at."""
    found = {}
    for key, archive in domain.archives.items():
        if archive.registry == "file" and "://" not in archive.path:
            path = ROOT / archive.path
            found[key] = os.path.relpath(path, home) if path.is_relative_to(ROOT) else str(path)
    return found


def start_of(checked: Experiment, cell: Cell) -> str | None:
    """The model that a cell's training reads: its teacher's, the source's or a user's own; None without any."""
    strategy = checked.strategies[cell.strategy]
    if strategy.teacher is not None:
        return f"models/{replace(cell, strategy=strategy.teacher).path}"
    if strategy.init == "pretrained":
        return f"models/{cell.source}"
    return None if strategy.init == "scratch" else strategy.init


def report_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Say which values change: an experiment's override that conf/ does not have is not dropped in silence."""
    changed = changes(before, after) if before else {}
    for key, (old, new) in list(changed.items())[:10]:
        print(f"compose: {key}: {old} → {new}")
    if len(changed) > 10:
        print(f"compose: and {len(changed) - 10} more values")
