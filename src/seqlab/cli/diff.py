"""What differs between two runs, two cells or two workspaces: configuration, data, code and result, and nothing else.

A run is what MLflow kept of it, a cell what dvc.lock and the leaderboard say of it, a workspace what it is composed of
and what its leaderboard holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab.cli.claims import TRAINING
from seqlab.cli.compose import CODE, PARAMS
from seqlab.cli.places import ROOT, SUITES, Workspace
from seqlab.cli.results import leaderboard
from seqlab.cli.trees import ABSENT, flat, short
from seqlab.config import Experiment, experiment, read_params
from seqlab.errors import UserError
from seqlab.executors.dvc import LOCK_FILE, check_lock

PARTS = ("config", "data", "code", "result")
MOST = 20  # lines of a part that are written out
EXECUTION = ("tracking", "execution")  # sections of values that change no result
OWN = re.compile(r"^(input|output)\.|^mlflow\.source\.git\.(commit|dirty)$")


@dataclass(frozen=True)
class Side:
    """One of the two, each part flat."""

    kind: str
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    code: Mapping[str, Any]
    result: Mapping[str, Any]


def diff(one: str, other: str, everything: bool = False) -> None:
    """Print it. Raises UserError for what is neither, and for two of different kinds."""
    sides = side_of(one), side_of(other)
    if sides[0].kind != sides[1].kind:
        raise UserError(f"{one} is a {sides[0].kind} and {other} a {sides[1].kind}; expected two of one kind")
    for part in PARTS:
        lines = list(lines_of(getattr(sides[0], part), getattr(sides[1], part)))
        shown = lines if everything else lines[:MOST]
        print(f"{part}: the same" if not lines else f"{part}:")
        for line in shown:
            print(f"  {line}")
        if len(lines) > len(shown):
            print(f"  and {len(lines) - len(shown)} more (--all shows them)")


def lines_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two flat trees; of numbers, by how much."""
    for key in dict.fromkeys([*old, *new]):
        one, two = old.get(key, ABSENT), new.get(key, ABSENT)
        if one == two:
            continue
        numbers = [value for value in (one, two) if isinstance(value, float)]
        by = f" ({two - one:+.3g})" if len(numbers) == 2 else ""
        yield f"{key}: {written(one)} → {written(two)}{by}"


def written(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else short(value)


def side_of(word: str) -> Side:
    """Raises UserError naming what was looked for."""
    for home in (Path(word), ROOT / SUITES / word):
        if (home / PARAMS).is_file():
            return of_workspace(home)
    if word.count("/") >= 2:
        return of_cell(Workspace.current(), word)
    if re.fullmatch(r"[0-9a-f]{6,32}", word):
        return of_run(word)
    raise UserError(
        f"{word!r}: neither a run (six or more hexadecimal digits), a cell such as strings/rnn/full/0, nor a workspace"
        f" (a folder with {PARAMS}, or a suite below {SUITES}/)"
    )


def of_workspace(home: Path) -> Side:
    tree = read_params(home / PARAMS)
    checked = experiment(tree)
    stages = check_lock(home / LOCK_FILE)
    data = {
        entry["path"]: entry["md5"]
        for name, stage in stages.items()
        if name.startswith("prepare@")
        for entry in stage.get("outs", ())
    }
    config = {key: value for key, value in flat(tree).items() if key.partition(".")[0] not in EXECUTION}
    code = flat(read_params(home / CODE)) if (home / CODE).exists() else {}
    return Side("workspace", config, data, code, headline(home, checked))


def headline(home: Path, checked: Experiment) -> dict[str, float]:
    """The headline value of every system."""
    headlines = {name: domain.evaluate.headline for name, domain in checked.domains.items()}
    return {
        f"{line['domain']} {line['task']} {line['family']} {line['strategy']}": float(line["value"])
        for line in leaderboard(home) or ()
        if headlines.get(line["domain"], {}).get(line["task"]) == line["metric"]
    }


def of_cell(workspace: Workspace, label: str) -> Side:
    """What it was trained and judged with last; its own names stand as DOMAIN, FAMILY and STRATEGY in its keys."""
    domain, family, strategy, seed = [*label.split("/"), ""][:4]
    stages = check_lock(workspace.home / LOCK_FILE)
    cell = f"{domain}-{family}-{strategy}-s{seed}"
    training = next((stages[f"{verb}@{cell}"] for verb in TRAINING if f"{verb}@{cell}" in stages), None)
    if training is None:
        raise UserError(
            f"cell {label}: {workspace.home / LOCK_FILE} has no training of it; expected DOMAIN/FAMILY/STRATEGY/SEED"
        )
    names = {domain: "DOMAIN", family: "FAMILY", strategy: "STRATEGY"}
    parts = {"train": training} | ({"evaluate": stages[f"evaluate@{cell}"]} if f"evaluate@{cell}" in stages else {})
    config: dict[str, Any] = {}
    code: dict[str, Any] = {}
    for verb, stage in parts.items():
        for file, values in stage.get("params", {}).items():
            for key, value in values.items():
                if file == CODE:
                    code[verb] = value
                else:
                    config |= flat({unnamed(key, names): value})
    data = {unnamed(entry["path"], names): entry["md5"] for entry in training.get("deps", ())}
    result = {
        f"{line['task']} {line['metric']}": float(line["value"])
        for line in leaderboard(workspace.home) or ()
        if (line["domain"], line["family"], line["strategy"]) == (domain, family, strategy)
    }
    return Side("cell", config, data, code, result)


def unnamed(key: str, names: Mapping[str, str]) -> str:
    """families.rnn.hidden_size → families.FAMILY.hidden_size; so with the parts of a path."""
    return "".join(names.get(part, part) for part in re.split(r"([./])", key))


def of_run(word: str) -> Side:
    """A run of MLflow, by the beginning of its id, or of the key that seqlab gave it."""
    from seqlab.tracking.upload import read_run

    workspace = Workspace.current()
    uri = read_params(workspace.home / PARAMS)["tracking"]["uri"]
    run = read_run(uri, ROOT, word)
    tags = {key: value for key, value in run.tags.items() if OWN.match(key)}
    metrics = {key: value for key, value in run.metrics.items() if not key.startswith("system/")}
    return Side(
        "run",
        {key: value for key, value in run.params.items() if key.partition(".")[0] not in EXECUTION},
        {key: value for key, value in tags.items() if key.startswith("input.")},
        {key.removeprefix("mlflow.source."): value for key, value in tags.items() if key.startswith("mlflow.")},
        {key: value for key, value in tags.items() if key.startswith("output.")} | metrics,
    )
