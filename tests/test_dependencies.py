"""Walls between rooms, and stages that list exactly the code they run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from imports import ROOT, SRC, closure

HEAVY = {"hydra", "omegaconf", "mlflow", "dvc", "lightning"}
# Who may import what of the frameworks; every other file of src/ imports none.
ALLOWED = {
    "seqlab/tracking/upload.py": {"mlflow"},
    "seqlab/tracking/served.py": {"mlflow"},
    "seqlab/training/gradient/": {"lightning"},
}


def stages() -> list[tuple[str, dict]]:
    """Every stage of dvc.yaml, its loop written out with cells.yaml."""
    cells = yaml.safe_load((ROOT / "cells.yaml").read_text())
    found = []
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if "foreach" not in stage:
            found.append((name, stage))
            continue
        for key, item in cells[stage["foreach"].strip("${}")].items():
            text = yaml.dump(stage["do"]).replace("${key}", key)
            for field, value in item.items():
                text = text.replace(f"${{item.{field}}}", str(value))
            found.append((f"{name}@{key}", {**yaml.safe_load(text), "item": item}))
    return found


STAGES = stages()


@pytest.mark.parametrize(("name", "stage"), STAGES, ids=[name for name, _ in STAGES])
def test_a_stage_lists_the_code_it_runs_and_no_other(name: str, stage: dict) -> None:
    item = stage.get("item", {})
    entry = [ROOT / stage["cmd"].split()[1]]
    verb = name.split("@", maxsplit=1)[0]
    # What a stage finds by name at run time: its domain's recipe, its family, the way that family is fitted.
    if verb == "prepare":
        entry.append(SRC / f"seqlab/data/domains/{item['file']}.py")
    if "family" in item:
        entry.append(SRC / f"seqlab/families/{item['file']}.py")
        if verb != "evaluate":
            entry.append(SRC / f"seqlab/training/{item['fit']}/train.py")
    listed: set[Path] = set()
    for dep in stage["deps"]:
        path = ROOT / dep
        if dep.startswith(("src/", "pipelines/")):
            listed |= set(path.rglob("*.py")) if path.is_dir() else {path}
    words = {path for path in listed if path.name == "__init__.py"}
    needed = closure(*entry)
    assert listed - words == needed - words


@pytest.mark.parametrize("file", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_frameworks_stay_in_their_rooms(file: Path) -> None:
    place = str(file.relative_to(SRC))
    allowed = set().union(*(names for room, names in ALLOWED.items() if place.startswith(room)))
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found & HEAVY <= allowed
    if place.startswith(("seqlab/families/closed_form", "seqlab/training/closed_form", "seqlab/evaluation")):
        assert "torch" not in found
