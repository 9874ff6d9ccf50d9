"""Trainings by hand over every combination of values, each kept under a name that follows from what it is.

A job is known by its stage, its values, its code and the files of a user's own that it reads: what was finished is not
run again, whichever sweep asked for it first, and what failed or is missing is. Models are ranked by their loss on
validation, never on the test, which chooses nothing.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab.artifacts import read_json
from seqlab.cli import fingerprint
from seqlab.cli.composing import combinations, composed
from seqlab.cli.places import ROOT, SWEEP, Workspace, one_at_a_time
from seqlab.cli.repro import slots_of, warmable
from seqlab.cli.runs import content_hash
from seqlab.cli.stage import RESULT
from seqlab.cli.verbs import VERBS, own
from seqlab.cli.work import CellWork, from_overrides
from seqlab.errors import UserError
from seqlab.executors.base import Submitted
from seqlab.executors.graph import Graph, Schedule
from seqlab.executors.local import Local
from seqlab.executors.running import went_through
from seqlab.scratch import replacing

FOLDER = Path("outputs/sweeps")
EXECUTION = ("execution", "tracking")  # sections that change no result


@dataclass(frozen=True)
class Job:
    """One combination. words: its overrides. swept: the values that tell it from the others, by key."""

    name: str
    words: tuple[str, ...]
    swept: dict[str, str]
    work: CellWork

    @property
    def folder(self) -> Path:
        return FOLDER / "jobs" / self.name

    @property
    def done(self) -> bool:
        return (self.folder / RESULT).exists()

    @property
    def said(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.swept.items()) or "the only one"


def sweep(verb: str, overrides: Sequence[str], jobs: int | None, keep_going: bool) -> None:
    """Run what is missing, then show all. Raises UserError naming the jobs that failed."""
    os.chdir(ROOT)
    all_jobs = jobs_of(verb, list(overrides))
    name = digest([verb, *sorted(job.name for job in all_jobs)])
    missing = {job.name: job for job in all_jobs if not job.done}
    print(f"seqlab: sweep {name}: {len(missing)} of {len(all_jobs)} jobs to run", flush=True)
    failed: dict[str, Path] = {}
    if missing:

        def fit_of(job: str) -> str | None:
            work = missing[job].work
            return work.family.fit if warmable(work.trainer) else None

        def work(job: str) -> dict[str, Any]:
            return ran(verb, missing[job], name)

        schedule = Schedule(Graph(dict.fromkeys(missing, ())), set(missing))
        slots = slots_of(all_jobs[0].work.execution, jobs)
        with Local(work, slots, fit_of, FOLDER / name / "logs") as executor:
            failed, _ = went_through(schedule, executor, lambda _: None, Told(missing), keep_going)
    path = FOLDER / name / "table.csv"
    show(verb, all_jobs, failed, path)
    if failed:
        logs = "; ".join(f"{missing[job].said} ({log})" for job, log in failed.items())
        raise UserError(f"{len(failed)} of {len(all_jobs)} jobs failed: {logs}; the same command runs them again")


def jobs_of(verb: str, overrides: list[str]) -> list[Job]:
    """Every combination, checked before the first one runs. Raises UserError naming a wrong key, value or word."""
    found: dict[str, Job] = {}
    for words, swept in combinations(overrides):
        tree, choices = composed("cell", list(words))
        job = named(verb, words, swept, tree, choices)
        found.setdefault(job.name, job)  # the same value twice is one job
    return list(found.values())


def named(verb: str, words: tuple[str, ...], swept: dict[str, str], tree: dict[str, Any], names: dict[str, str]) -> Job:
    work = from_overrides(verb, tree, names, FOLDER, VERBS[verb].needs, Workspace(ROOT))
    assert isinstance(work, CellWork)  # as are those of the verbs that this is for
    files = [own(archive).path for archive in work.domain.archives.values() if archive.registry == "file"]
    models = [*work.members.values(), work.start, work.teacher]
    identity = [
        verb,
        work.label,
        {key: part for key, part in tree.items() if key not in EXECUTION},
        fingerprint.fingerprint(fingerprint.by_hand(work.domain, work.family, work.strategy, work.objective)),
        {str(path): content_hash(Path(path)) for path in (*files, *models) if path and Path(path).exists()},
    ]
    return Job(digest(identity), words, swept, work)


def digest(identity: Any) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def ran(verb: str, job: Job, name: str) -> dict[str, Any]:
    """Run it as typed by hand, in the process that this is called in. Raises SystemExit where it fails."""
    command = [sys.executable, str(ROOT / f"pipelines/{verb}.py"), *job.words, f"hydra.run.dir={job.folder}"]
    with one_at_a_time(job.folder):
        status = 0 if job.done else subprocess.run(command, env=os.environ | {SWEEP: name}, check=False).returncode
    if status:
        sys.exit(status)
    return {}


@dataclass
class Told:
    """A line a job."""

    jobs: dict[str, Job]
    ended: int = 0

    def finished(self, stage: Submitted) -> None:
        self._say(stage, f"{time.monotonic() - stage.started:.1f} s")

    def failed(self, stage: Submitted, log: Path, lost: set[str]) -> None:
        lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
        self._say(stage, f"failed: {lines[-1] if lines else 'without a word'}")

    def interrupted(self, running: int) -> None:
        print(f"\nseqlab: interrupted; ending {running} jobs", file=sys.stderr)

    def _say(self, stage: Submitted, how: str) -> None:
        self.ended += 1
        print(f"[{self.ended}/{len(self.jobs)}] {self.jobs[stage.name].said} {how}", flush=True)


def show(verb: str, jobs: Sequence[Job], failed: dict[str, Path], path: Path) -> None:
    """The table of all, best first, printed and as a .csv file."""
    rows = []
    for job in jobs:
        value = read_json(job.folder / RESULT)["value"] if job.done else None
        state = "done" if job.done else "failed" if job.name in failed else "not run"
        rows.append({**job.swept, "loss": value, "state": state, "folder": str(job.folder)})
    rows.sort(key=lambda row: (row["state"] != "done", row["loss"] is None, row["loss"] or 0.0))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as made, open(made, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shown = [
        [f"{value:.4f}" if isinstance(value, float) else str(value or "") for value in row.values()] for row in rows
    ]
    lines = [list(rows[0]), *shown]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    print(f"{verb}, by the loss on validation in nats:")
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"seqlab: {path} has the table")
