"""What an edit would rerun: for every file of the library and every key of params.yaml, its stages and trainings.

Computed from dvc.yaml and the imports. Stages whose inputs would turn out to be other bits follow, and are not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from seqlab import schema
from seqlab.cli import fingerprint
from seqlab.cli.compose import CELLS, CODE, PARAMS
from seqlab.cli.listed import listed
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.repro import current
from seqlab.cli.trees import flat
from seqlab.config import read_params
from seqlab.errors import UserError

TRAININGS = ("pretrain", "scratch", "finetune")


@dataclass(frozen=True)
class Blast:
    """The stages that an edit reruns, by name."""

    stages: frozenset[str]

    @property
    def trainings(self) -> int:
        return self._of(*TRAININGS)

    @property
    def evaluations(self) -> int:
        return self._of("evaluate")

    def _of(self, *groups: str) -> int:
        return sum(name.split("@")[0] in groups for name in self.stages)


def parameters(workspace: Workspace) -> dict[str, dict[str, list[str]]]:
    """By stage, the keys that dvc.yaml lists for it, by file."""
    found = listed(workspace.home / "dvc.yaml", read_params(workspace.home / CELLS))
    return {name: stage.values for name, stage in found.items()}


def of_files(workspace: Workspace) -> dict[str, Blast]:
    """By file of the library, from the code that each stage runs."""
    roots = fingerprint.roots(current(workspace))
    closures = {key: fingerprint.closure(*files) for key, files in roots.items()}
    by_code: dict[str, set[str]] = {}
    for stage, files in parameters(workspace).items():
        for key in files.get(CODE, ()):
            by_code.setdefault(key, set()).add(stage)
    found = {}
    for path in sorted((*schema.ROOT.rglob("*.py"), *(p for p in schema.ROOT.rglob("*") if _is_data(p)))):
        stages = {stage for key, files in closures.items() if path in files for stage in by_code.get(key, ())}
        found[str(path.relative_to(ROOT))] = Blast(frozenset(stages))
    return found


def _is_data(path: Path) -> bool:
    return re.fullmatch(fingerprint.DATA, path.name) is not None


def of_keys(workspace: Workspace) -> dict[str, Blast]:
    """By key of params.yaml, from what dvc.yaml lists."""
    listed: dict[str, set[str]] = {}
    for stage, files in parameters(workspace).items():
        for key in files.get(PARAMS, ()):
            listed.setdefault(key, set()).add(stage)
    found = {}
    for key in flat(read_params(workspace.home / PARAMS)):
        prefixes = (key[: match.start()] for match in re.finditer(r"\.|$", key))
        found[key] = Blast(frozenset(stage for prefix in prefixes for stage in listed.get(prefix, ())))
    # An interpolation in conf/ copies a value: whoever edits the one edits the other.
    for key, source in copied().items():
        for own, blast in list(found.items()):
            if own == key or own.startswith(f"{key}."):
                origin = source + own.removeprefix(key)
                if origin in found:
                    found[origin] = Blast(found[origin].stages | blast.stages)
                found.pop(own)
    return found


def copied() -> dict[str, str]:
    """The keys of conf/config.yaml's own sections that are copies, by interpolation, of other keys."""
    tree = yaml.safe_load((ROOT / "conf/config.yaml").read_text(encoding="utf-8"))
    found = {}
    for key, value in flat({name: part for name, part in tree.items() if name not in ("defaults", "hydra")}).items():
        if isinstance(value, str) and (match := re.fullmatch(r"\$\{([\w.]+)\}", value)):
            found[key] = match[1]
    return found


def blast(what: Iterable[str]) -> None:
    """Print the table. Raises UserError for what is neither a file nor a key."""
    workspace = Workspace.current()
    files, keys = of_files(workspace), of_keys(workspace)
    total = len(parameters(workspace)) - 1  # compose is no stage of the comparison
    asked = list(what)
    rows: dict[str, Blast] = {}
    for word in asked:
        path = str(Path(word).resolve().relative_to(ROOT)) if Path(word).exists() else word
        matching = {key: found for key, found in keys.items() if key == word or key.startswith(f"{word}.")}
        if path in files:
            rows[path] = files[path]
        elif matching:
            rows[word] = Blast(frozenset(stage for found in matching.values() for stage in found.stages))
        else:
            raise UserError(f"{word}: no file of the library and no key{schema.hint(word, (*files, *keys))}")
    shown = rows or files | keys
    width = max(map(len, shown))
    print(f"{'edit':{width}}  stages of {total}  trainings  evaluations")
    for name, found in shown.items():
        print(f"{name:{width}}  {len(found.stages):{len('stages of ') + len(str(total))}}", end="")
        print(f"  {found.trainings:9}  {found.evaluations:11}")
    if rows:
        for name, found in rows.items():
            stages = sorted(found.stages)
            print(f"{name}: {', '.join(stages[:12])}{f' and {len(stages) - 12} more' if len(stages) > 12 else ''}")
