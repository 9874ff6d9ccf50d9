"""What dvc.yaml says of every stage, its loops written out: command, inputs, values, outputs. DVC is not loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from seqlab.cli.compose import PARAMS


@dataclass(frozen=True)
class Listed:
    """A stage. values: the keys that it depends on, by file."""

    command: str
    inputs: list[str]
    values: dict[str, list[str]]
    outputs: list[str]


def listed(pipeline: Path, cells: Mapping[str, Any]) -> dict[str, Listed]:
    """By stage. pipeline: dvc.yaml; cells: the lists that it loops over."""
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8"))["stages"]
    found = {}
    for name, stage in stages.items():
        if "foreach" not in stage:
            found[name] = _listed(stage, {})
            continue
        for key, item in (cells[re.sub(r"[${}]", "", stage["foreach"])] or {}).items():
            found[f"{name}@{key}"] = _listed(stage["do"], {"key": key, "item": item})
    return found


def _listed(stage: Mapping[str, Any], context: Mapping[str, Any]) -> Listed:
    files: dict[str, list[str]] = {}
    for entry in stage.get("params", []):
        for file, keys in (entry if isinstance(entry, dict) else {PARAMS: [entry]}).items():
            files.setdefault(file, []).extend(_written(key, context) for key in keys)
    outputs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    paths = [path for out in outputs for path in (out if isinstance(out, dict) else [out])]
    return Listed(
        _written(stage["cmd"], context),
        [_written(path, context) for path in stage.get("deps", [])],
        files,
        [_written(path, context) for path in paths],
    )


def _written(text: str, context: Mapping[str, Any]) -> str:
    return re.sub(r"\$\{([^}]+)\}", lambda m: str(reduce(getitem, m[1].split("."), context)), text)
