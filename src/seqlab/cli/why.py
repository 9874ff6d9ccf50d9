"""Why a stage would run: what it ran with last, as dvc.lock keeps it, against what is there now.

Values are composed from conf/ as it stands and code is read from the sources: an edit is seen before any composition.
DVC is not loaded. An input or output of many files is looked at by their number and size, not by content: what a same
number of bytes hides, `seqlab status` finds.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab import schema
from seqlab.cli import fingerprint
from seqlab.cli.compose import CELLS, CODE, PARAMS, layout, remembered
from seqlab.cli.composing import compose
from seqlab.cli.listed import Listed, listed
from seqlab.cli.places import Workspace
from seqlab.cli.trees import ABSENT, at, differences
from seqlab.config import Experiment, experiment
from seqlab.errors import UserError
from seqlab.executors.dvc import LOCK_FILE, check_lock, md5

MOST, NEAREST = 12, 3  # reasons that are written out: of the stage asked for; stages before it, and of each of them


@dataclass(frozen=True)
class Now:
    """What a workspace is made of at this moment, and what dvc.lock says it was.

    values: by file, what stages read; code: by key of code.json, the files that a stage begins with.
    """

    home: Path
    stages: Mapping[str, Listed]
    values: Mapping[str, Mapping[str, Any]]
    code: Mapping[str, list[Path]]
    before: Mapping[str, Any]

    @classmethod
    def of(cls, workspace: Workspace) -> Now:
        overrides = remembered(workspace.home / CELLS).get("overrides", [])
        tree = compose("config", overrides)
        checked: Experiment = experiment(tree)
        cells = layout(checked, workspace.home)
        stages = listed(workspace.home / "dvc.yaml", cells)
        return cls(
            workspace.home,
            stages,
            {PARAMS: tree, CELLS: cells},
            fingerprint.roots(checked),
            check_lock(workspace.home / LOCK_FILE),
        )

    def value(self, file: str, key: str) -> Any:
        if file == CODE:
            return fingerprint.fingerprint(self.code[key]) if key in self.code else ABSENT
        return at(self.values[file], key)

    @property
    def makers(self) -> dict[str, str]:
        """By path, the stage whose output it is."""
        return {path: name for name, stage in self.stages.items() for path in stage.outputs}


def why(words: list[str]) -> None:
    """Print it. words: a stage as DVC names it, or a verb and a label. Raises UserError for what is no stage."""
    workspace = Workspace.current()
    now = Now.of(workspace)
    name = named(words, now.stages)
    own = list(reasons(now, name))
    earlier = {other: found for other in before(now, name) if (found := list(reasons(now, other)))}
    if not own and not earlier:
        print(f"{name}: nothing changed since it ran last")
        return
    own = own or ["nothing of its own"]
    for line in told(name, own[:MOST], len(own)):
        print(line)
    for other, found in list(earlier.items())[:NEAREST]:
        for line in told(f"before it, {other}", found[:NEAREST], len(found)):
            print(line)
    if rest := list(earlier)[NEAREST:]:
        counts = Counter(other.split("@")[0] for other in rest)
        print(f"and before it {len(rest)} more: {', '.join(f'{n} {verb}' for verb, n in counts.items())}")


def told(name: str, shown: list[str], of: int) -> Iterator[str]:
    yield f"{name}:"
    yield from (f"  {line}" for line in shown)
    if of > len(shown):
        yield f"  and {of - len(shown)} more"


def named(words: list[str], stages: Mapping[str, Listed]) -> str:
    """The stage that `finetune@strings-rnn-full-s0`, `finetune strings/rnn/full/0` or `compare` means."""
    if len(words) == 1 and words[0] in stages:
        return words[0]
    wanted = " ".join(words)
    for name, stage in stages.items():
        if re.sub(r"^python pipelines/(\w+)\.py", r"\1", stage.command) == wanted:
            return name
    raise UserError(f"stage {wanted!r}: there is none in this suite{schema.hint('@'.join(words), stages)}")


def before(now: Now, name: str) -> list[str]:
    """The stages that a stage follows from, the nearest first."""
    makers, found, front = now.makers, dict[str, None](), [name]
    while front:
        for path in now.stages[front.pop(0)].inputs:
            below = (maker for out, maker in makers.items() if out == path or Path(path) in Path(out).parents)
            for maker in dict.fromkeys(below):
                if maker not in found:
                    found[maker] = None
                    front.append(maker)
    return list(found)


def reasons(now: Now, name: str) -> Iterator[str]:
    """What of a stage itself is other than when it ran last, a line each."""
    if name not in now.before:
        yield "it never ran"
        return
    stage, kept = now.stages[name], now.before[name]
    if stage.command != kept["cmd"]:
        yield f"command  {kept['cmd']} → {stage.command}"
    yield from value_reasons(now, stage, kept.get("params", {}))
    yield from path_reasons(now, stage.inputs, kept.get("deps", []), "input")
    yield from path_reasons(now, stage.outputs, kept.get("outs", []), "output")


def value_reasons(now: Now, stage: Listed, kept: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for file in dict.fromkeys([*stage.values, *kept]):
        keys, old = stage.values.get(file, []), kept.get(file, {})
        for key in dict.fromkeys([*keys, *old]):
            new = now.value(file, key) if key in keys else ABSENT
            then = old.get(key, ABSENT)
            if new == then:
                continue
            if file == CODE and key in keys:
                yield from (f"code     {line}" for line in code_reasons(now, key, then))
                continue
            yield from (f"value    {line}" for line in differences(then, new, key))


def code_reasons(now: Now, key: str, then: Any) -> Iterator[str]:
    """The files by which the code of a stage differs, where its earlier files were noted here."""
    old = fingerprint.noted(now.home, str(then))
    if old is None or key not in now.code:
        yield f"{key} differs; which files it had then is not known here"
        return
    new = fingerprint.files_of(now.code[key])
    changed = [path for path in new if old.get(path) != new[path]]
    yield from (f"{path} {'changed' if path in old else 'joined'}" for path in changed)
    if not changed:
        yield f"{key} has fewer files than it had"


def path_reasons(now: Now, paths: Iterable[str], kept: Iterable[Mapping[str, Any]], kind: str) -> Iterator[str]:
    old = {entry["path"]: entry for entry in kept}
    makers = now.makers
    for path in dict.fromkeys([*paths, *old]):
        if path not in old or path not in paths:
            yield f"{kind:8} {path} {'joined' if path not in old else 'left'}"
            continue
        made = next((e for e in now.before.get(makers.get(path, ""), {}).get("outs", ()) if e["path"] == path), None)
        if kind == "input" and made is not None:
            if made["md5"] != old[path]["md5"]:
                yield f"{kind:8} {path} was made anew by {makers[path]}"
        elif line := differs(now.home / path, old[path]):
            yield f"{kind:8} {path} {line}"


def differs(path: Path, kept: Mapping[str, Any]) -> str | None:
    """How a file or folder is seen to differ from what dvc.lock says of it; None where it is not."""
    try:
        return _differs(path, kept)
    except FileNotFoundError:  # it was there a moment ago
        return "is being written"


def _differs(path: Path, kept: Mapping[str, Any]) -> str | None:
    if not path.exists():
        return "is missing"
    if path.is_file():
        return None if md5(path) == kept["md5"] else "has other content"
    sizes = [(Path(top) / name).stat().st_size for top, _, names in os.walk(path) for name in names]
    if len(sizes) != kept.get("nfiles", len(sizes)):
        return f"has {len(sizes):,} files, had {kept['nfiles']:,}"
    return None if sum(sizes) == kept["size"] else f"has {sum(sizes):,} bytes, had {kept['size']:,}"
