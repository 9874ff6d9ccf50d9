"""Compose conf/ into params.yaml, and the suite's lists into cells.yaml, which dvc.yaml loops over.

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
from stage import ROOT, compose, errors_in_one_line, flat

from seqlab.artifacts import write_text
from seqlab.config import Cell, Experiment, experiment, read_params
from seqlab.errors import UserError

HEADER = "# Written by pipelines/compose.py from conf/; edit conf/ instead.\n"


def composed(arguments: list[str]) -> None:
    """Write params.yaml and cells.yaml. Raises UserError naming the key that is wrong."""
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
    if stale:
        raise UserError(
            "the suite's list of cells has changed; params.yaml and cells.yaml are new: run `dvc repro` once more"
        )


def layout(checked: Experiment) -> dict[str, Any]:
    """What each group of stages in dvc.yaml loops over."""
    code = {
        family.name: {"family": family.name, "file": family.component.file, "fit": family.fit}
        for family in checked.families.values()
    }
    trainings, alone, started, tuned = {}, {}, {}, {}
    for cell in checked.cells():
        item = {"domain": cell.domain, **code[cell.family], "strategy": cell.strategy, "arm": cell.arm}
        tuned[str(cell)] = item | {"seed": cell.seed}
        start = start_of(checked, cell)
        if start is None:
            alone[str(cell)] = tuned[str(cell)]
        else:
            started[str(cell)] = tuned[str(cell)] | {"start": start}
        if checked.strategies[cell.strategy].init == "pretrained":
            name = f"{cell.domain}-{cell.family}-s{cell.seed}"
            trainings[name] = {"domain": cell.domain, **code[cell.family], "seed": cell.seed}
    return {
        "domains": {name: {"file": found.prepare.file} for name, found in checked.domains.items()},
        "pretrain": trainings,
        "scratch": alone,
        "finetune": started,
        "cells": tuned,
    }


def start_of(checked: Experiment, cell: Cell) -> str | None:
    """The model that a cell's training reads: its teacher's, the source's or a user's own; None without any."""
    strategy = checked.strategies[cell.strategy]
    if strategy.teacher is not None:
        return f"models/{replace(cell, strategy=strategy.teacher).path}"
    if strategy.init == "pretrained":
        return f"models/{cell.domain}/{cell.family}/pretrain/{cell.seed}"
    return None if strategy.init == "scratch" else strategy.init


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
