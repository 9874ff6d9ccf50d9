"""What dvc.lock claims of a stage, that these inputs, values and code gave these bits; and what a name stands for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqlab.artifacts import read_json, sha256
from seqlab.cli.compose import CELLS, CODE, PARAMS
from seqlab.cli.git import git
from seqlab.cli.results import LEADERBOARD, leaderboard
from seqlab.cli.trees import at, changes
from seqlab.errors import UserError
from seqlab.executors.dvc import LOCK_FILE, Cache, locked
from seqlab.schema import close
from seqlab.yaml_files import parsed

TRAINING = ("scratch", "finetune", "mixture")
RUN = re.compile(r"[0-9a-f]{32}")
OLDER = 50  # commits of dvc.lock that are looked through for what an older run wrote


@dataclass(frozen=True)
class Claim:
    """stage: as dvc.yaml names it. entry: of dvc.lock. commit: the run's own, where one is known."""

    stage: str
    entry: Mapping[str, Any]
    commit: str | None = None

    @property
    def key(self) -> str:
        """Its script and what it works on, such as `finetune strings/rnn/full/0`."""
        words = self.entry["cmd"].split()[1:]
        return " ".join((Path(words[0]).stem, *words[1:]))

    @property
    def inputs(self) -> list[dict[str, Any]]:
        return list(self.entry.get("deps", []))

    @property
    def outputs(self) -> list[dict[str, Any]]:
        return list(self.entry.get("outs", []))

    @property
    def code(self) -> dict[str, str]:
        """Fingerprints by their key in code.json."""
        return dict(self.entry.get("params", {}).get(CODE, {}))

    def changed_values(self, read: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Each value that is another one in `read` (params.yaml and cells.json as trees), in words."""
        lines = []
        for file in (PARAMS, CELLS):
            for key, value in self.entry.get("params", {}).get(file, {}).items():
                found = changes({key: value}, {key: at(read[file], key)})
                lines += [f"{name}: recorded {recorded}, there {now}" for name, (recorded, now) in found.items()]
        return lines


@dataclass(frozen=True)
class Row:
    """What is verified as one: a row of the leaderboard, a cell, or a stage. claims: in the order in which they ran."""

    name: str
    claims: tuple[Claim, ...] = field(repr=False)


class Book:
    """The claims of a workspace, and the names by which a user knows them."""

    def __init__(self, home: Path):
        self.home = home
        self.stages = locked(home / LOCK_FILE)
        self.made_by = {out["path"]: name for name in self.stages for out in self.claim(name).outputs}

    def claim(self, stage: str, commit: str | None = None) -> Claim:
        return Claim(stage, self.stages[stage], commit)

    def chain(self, stage: str) -> tuple[Claim, ...]:
        """A stage after those that made the models it reads, data apart, which is an input."""
        found: dict[str, Claim] = {}

        def visit(name: str) -> None:
            for dep in self.stages[name].get("deps", []):
                if dep["path"].startswith("models/") and (before := self.made_by.get(dep["path"])) is not None:
                    visit(before)
            found.setdefault(name, self.claim(name))

        visit(stage)
        return tuple(found.values())

    def of_cells(self, labels: Iterable[str], name: str) -> Row:
        claims = {claim.stage: claim for label in labels for claim in self.chain(f"evaluate@{label}")}
        return Row(name, tuple(claims.values()))

    def row(self, asked: str) -> Row:
        """A stage's name, a cell's label, or a row of the leaderboard, by its number or as DOMAIN/FAMILY/STRATEGY.

        Raises UserError for anything else.
        """
        if asked in self.stages:
            if not self.claim(asked).outputs:
                raise UserError(f"{asked}: dvc.lock holds no output of it, so there is nothing to compare")
            return Row(asked, self.chain(asked))
        label = asked.replace("/", "-")
        if re.fullmatch(r".*-\d+", label) and f"evaluate@{label}" not in self.stages:
            label = re.sub(r"-(\d+)$", r"-s\1", label)
        if f"evaluate@{label}" in self.stages:
            return self.of_cells([label], label)
        rows = self.rows()
        if asked.isdecimal() and 0 < int(asked) <= len(rows):
            return rows[int(asked) - 1]
        if found := [row for row in rows if asked in (row.name, *_shorter(row.name))]:
            return Row(asked, tuple({claim.stage: claim for row in found for claim in row.claims}.values()))
        known = [name.partition("@")[2] for name in self.stages if name.startswith("evaluate@")]
        meant = close(label, known) or next(iter(known), "nothing: no stage was evaluated yet")
        where = f"a run, a cell of {self.home / LOCK_FILE}, nor a row of {LEADERBOARD}"
        raise UserError(f"{asked!r}: neither {where}; did you mean {meant}?")

    def rows(self) -> list[Row]:
        """Those of the leaderboard, in its order. Raises UserError where it is missing."""
        lines = leaderboard(self.home)
        if lines is None:
            raise UserError(f"{self.home / LEADERBOARD}: missing; seqlab repro writes it")
        return [row for line in lines if (row := self._row(line)) is not None]

    def _row(self, line: Mapping[str, str]) -> Row | None:
        """None where no stage of this workspace made it, such as a row that was brought from elsewhere."""
        domain, task, family, strategy = (line[key] for key in ("domain", "task", "family", "strategy"))
        name = f"{domain}/{task}/{family}/{strategy}"
        beginning = f"evaluate@{domain}-{family}-{strategy}-s"
        labels = [
            stage.partition("@")[2] for stage in self.stages if re.fullmatch(re.escape(beginning) + r"\d+", stage)
        ]
        if labels:
            return self.of_cells(labels, name)
        controls = f"controls@{domain}"
        return Row(name, (self.claim(controls),)) if controls in self.stages else None

    def of_run(self, run: str, tags: Mapping[str, str], cache: Cache) -> Row:
        """What a run of MLflow, by its tags, wrote: as dvc.lock has it now, or had it in one of the last commits.

        Raises UserError where it was none of the pipeline's, or no dvc.lock knows its outputs.
        """
        names = [name for name in _stages_of(tags) if name in self.stages]
        if not names:
            what = f"{tags.get('phase', 'no stage')} {tags.get('mlflow.runName', '')}".strip()
            raise UserError(
                f"run {run!r}: {what}: no stage of {self.home / LOCK_FILE} is that; its note says how it ran"
            )
        if tags.get("mlflow.source.git.dirty") == "true":
            print(f"run {run}: its files had changes that are in no commit; they may show as a difference of code")
        commit = tags.get("mlflow.source.git.commit")
        wanted = {value for key, value in tags.items() if key.startswith("output.")}
        for stages in (self.stages, *older(self.home, names[0])):
            entry = stages.get(names[0])
            if entry is not None and wanted & {_sha256(cache, out) for out in Claim("", entry).outputs}:
                return Row(run, (Claim(names[0], entry, commit),))
        raise UserError(
            f"run {run!r}: what it wrote is in none of the last {OLDER} versions of {self.home / LOCK_FILE}"
        )


def _shorter(name: str) -> tuple[str, ...]:
    domain, _, family, strategy = name.split("/")
    return f"{domain}/{family}/{strategy}", f"{domain}-{family}-{strategy}"


def _stages_of(tags: Mapping[str, str]) -> list[str]:
    domain, family, seed = (tags.get(key, "") for key in ("domain", "family", "seed"))
    cell = f"{domain}-{family}-{tags.get('strategy', '')}-s{seed}"
    return {
        "pretrain": [f"pretrain@{domain}-{family}-s{seed}"],
        "finetune": [f"{group}@{cell}" for group in TRAINING],
        "evaluate": [f"evaluate@{cell}"],
        "prepare": [f"prepare@{domain}"],
        "controls": [f"controls@{domain}"],
    }.get(tags.get("phase", ""), [])


def older(home: Path, stage: str) -> Iterable[dict[str, Any]]:
    """The stages of earlier versions of dvc.lock, newest first."""
    for commit in git(home, "log", f"-{OLDER}", "--format=%H", "--", LOCK_FILE).split():
        text = git(home, "show", f"{commit}:./{LOCK_FILE}")
        if stage in text:
            yield parsed(text).get("stages", {})


def _sha256(cache: Cache, out: dict[str, Any]) -> str | None:
    """The hash by which a run is tagged with an output; None where the cache does not have all of it."""
    try:
        files = cache.files(out)
    except UserError:
        return None
    if not all(cache.file(md5).is_file() for md5 in files.values()):
        return None
    if list(files) == [""]:
        return sha256(cache.file(files[""]))
    if "meta.json" in files:  # of prepared data, taken when it was written
        return str(read_json(cache.file(files["meta.json"]))["sha256"])
    digest = hashlib.sha256()
    for name in sorted(files, key=lambda name: Path(name).parts):
        digest.update(name.encode() + b"\0" + cache.file(files[name]).read_bytes())
    return digest.hexdigest()
