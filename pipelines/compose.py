"""Compose conf/ into params.yaml and the suite's lists into cells.yaml, which dvc.yaml loops over; hash the code.

    python pipelines/compose.py                     conf/ as it stands, with the overrides of the last composition
    python pipelines/compose.py suite=quick         with these overrides, until the next such call
    python pipelines/compose.py --reset             without any

DVC runs it as its first stage. Inside `dvc exp run` DVC has composed params.yaml already, with the experiment's own
overrides; then it is only checked.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from fingerprint import PIPELINES, SRC, fingerprint
from stage import ROOT, compose, errors_in_one_line, flat

from seqlab.artifacts import write_text
from seqlab.config import Cell, Experiment, experiment, read_params
from seqlab.errors import UserError

HEADER = "# Written by pipelines/compose.py from conf/; edit conf/ instead.\n"
CODE_HEADER = "# Written by pipelines/compose.py: a hash of all the code that each stage runs.\n"


def composed(arguments: list[str]) -> None:
    """Write params.yaml, cells.yaml and code.yaml. Raises UserError naming the key that is wrong."""
    params, cells = Path("params.yaml"), Path("cells.yaml")
    before = read_params(cells) if cells.exists() else {}
    in_experiment = "DVC_EXP_NAME" in os.environ
    if in_experiment:
        overrides = before.get("overrides", [])
        tree = read_params(params)
    else:
        overrides = arguments or before.get("overrides", [])
        if arguments == ["--reset"]:
            overrides = []
        tree, text = compose("config", overrides)
        # What changes nothing is not worth remembering: `suite=default` is a reset.
        if overrides and tree == compose("config", [])[0]:
            overrides = []
    checked = experiment(tree)
    after = {"overrides": overrides, **layout(checked)}
    # DVC read cells.yaml before it ran this stage, so what it runs now is still the list of before.
    stale = (
        bool(before)
        and "DVC_STAGE" in os.environ
        and any(before.get(k) != v for k, v in after.items() if k != "overrides")
    )
    if stale and in_experiment:
        raise UserError(
            "the experiment changes the list of cells; run `python pipelines/compose.py` with that override first"
        )
    if not in_experiment:
        report_changes(read_params(params) if params.exists() else {}, tree)
        write_text(params, text)
        write_text(cells, HEADER + yaml.dump(after, sort_keys=False, default_flow_style=None, width=160))
    write_text(Path("code.yaml"), CODE_HEADER + yaml.dump(code(checked), sort_keys=False))
    if stale:
        raise UserError(
            "the suite's list of cells has changed; params.yaml and cells.yaml are new: run `dvc repro` once more"
        )


def layout(checked: Experiment) -> dict[str, Any]:
    """What each group of stages in dvc.yaml loops over."""
    trainings, alone, started, tuned = {}, {}, {}, {}
    for cell in checked.cells():
        item = {
            "domain": cell.domain,
            "family": cell.family,
            "strategy": cell.strategy,
            "arm": cell.arm,
            "seed": cell.seed,
        }
        start = start_of(checked, cell)
        tuned[str(cell)] = item
        # Copies, which YAML writes out: of one object it would write references.
        if start is None:
            alone[str(cell)] = {**item}
        else:
            started[str(cell)] = item | {"start": start}
        if checked.strategies[cell.strategy].init == "pretrained":
            name = f"{cell.domain}-{cell.family}-s{cell.seed}"
            trainings[name] = {"domain": cell.domain, "family": cell.family, "seed": cell.seed}
    return {
        "pretrain": trainings,
        "scratch": alone,
        "finetune": started,
        "cells": tuned,
        "diagnose": {name: {"family": name} for name in checked.diagnosed()},
        # One stage that draws what those found, or none.
        "drawn": {"memory": checked.diagnosed()} if checked.diagnosed() else {},
    }


def start_of(checked: Experiment, cell: Cell) -> str | None:
    """The model that a cell's training reads: its teacher's, the source's or a user's own; None without any."""
    strategy = checked.strategies[cell.strategy]
    if strategy.teacher is not None:
        return f"models/{replace(cell, strategy=strategy.teacher).path}"
    if strategy.init == "pretrained":
        return f"models/{cell.domain}/{cell.family}/pretrain/{cell.seed}"
    return None if strategy.init == "scratch" else strategy.init


def code(checked: Experiment) -> dict[str, Any]:
    """The fingerprint of each kind of stage: of its script, and of what that finds by name at run time."""

    def of(verb: str, *found: str) -> str:
        return fingerprint(PIPELINES / f"{verb}.py", *(SRC / "seqlab" / file for file in found))

    families = {
        family.name: (f"families/{family.component.file}.py", f"families/{family.kit}/__init__.py", family.fit)
        for family in checked.families.values()
    }
    return {
        **{verb: of(verb) for verb in ("acquire", "controls", "compare", "diagnostics")},
        "prepare": {
            name: of("prepare", f"data/domains/{domain.prepare.file}.py") for name, domain in checked.domains.items()
        },
        **{
            verb: {name: of(verb, *files, f"training/{fit}/train.py") for name, (*files, fit) in families.items()}
            for verb in ("pretrain", "finetune")
        },
        "diagnose": {name: of("diagnose", *families[name][:-1]) for name in checked.diagnosed()},
        "evaluate": {name: of("evaluate", *files) for name, (*files, _) in families.items()},
    }


def report_changes(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Say which values change: an experiment's override that conf/ does not have is not dropped in silence."""
    old, new = flat(before), flat(after)
    changed = [key for key in (*old, *(k for k in new if k not in old)) if old.get(key) != new.get(key)]
    for key in changed[:10] if before else []:
        print(f"compose: {key}: {old.get(key, 'absent')} → {new.get(key, 'absent')}")
    if len(changed) > 10 and before:
        print(f"compose: and {len(changed) - 10} more values")


if __name__ == "__main__":
    os.chdir(ROOT)
    errors_in_one_line(lambda: composed(sys.argv[1:]))
