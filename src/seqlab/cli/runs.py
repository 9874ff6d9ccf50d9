"""The tracked run of an execution, its record, and the checkpoints that it would resume from."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from seqlab.artifacts import read_json, sha256, write_json
from seqlab.cli import environment
from seqlab.cli.places import RANK, ROOT, SWEEP, Workspace
from seqlab.cli.trees import flat
from seqlab.cli.work import CellWork, DomainWork, FamilyWork, Work
from seqlab.errors import UserError
from seqlab.tracking import Note, Run, Sweep, System, Tracking, Unrecorded
from seqlab.tracking.names import COMPARISON, STAGE
from seqlab.training.resume import Checkpoint

TRACKED = Path(".seqlab/tracking")  # journals, below the checkout, whatever the workspace


def run_of(
    work: Work, inputs: Mapping[str, Path], follows: Mapping[str, str] | None = None, key: str | None = None
) -> Run:
    """inputs: what it reads. follows: the labels of earlier verbs that it builds on. key: of a run to continue."""
    tags: dict[str, Any] = {"phase": work.verb, "suite": work.suite}
    archives: dict[str, Any] = {}
    experiment = "diagnostics" if work.verb in ("diagnose", "diagnostics") else "leaderboard"
    if isinstance(work, DomainWork):
        experiment = tags["domain"] = work.domain.name
        archives = {
            f"archive {a.name}": {
                "path": f"{a.registry} {a.package} {a.version} {a.file}",
                "sha256": a.sha256 or "unpinned",
            }
            for a in work.domain.archives.values()
        }
    if isinstance(work, FamilyWork):
        tags["family"] = work.family.name
    if isinstance(work, CellWork):
        tags |= {"family": work.family.name, "seed": work.cell.seed}
        if work.verb != "pretrain":
            tags["strategy"] = work.cell.arm
    name = f"{(work.label or work.suite).replace('/', '·')} {work.verb}"
    system: System | Sweep | None = None
    if isinstance(work, CellWork) and work.verb != "pretrain":
        name = f"{work.family.name}·{work.cell.arm}·s{work.cell.seed} {work.verb}"
        system = System(work.suite, work.domain.name, work.family.name, work.cell.arm)
    if sweep := os.environ.get(SWEEP):
        experiment, system = "sweeps", Sweep(sweep, work.verb)
    return new_run(
        work.workspace,
        work.tracking,
        experiment=experiment,
        name=name,
        tags=tags,
        tree=work.tree,
        inputs=hashed(inputs) | archives,
        follows=follows or {},
        key=key,
        system=system,
        note=note_of(work),
        kind=COMPARISON if work.verb == "compare" else STAGE,
    )


def note_of(work: Work) -> Note:
    """What a person who finds the run should know first."""
    means = {
        "acquire": "Raw files, checked by hash; nothing was learned yet.",
        "prepare": "Arrays and splits that every family sees alike.",
        "pretrain": "What the family learned on the large source, before the target.",
        "finetune": "The model of this cell. Its curves are of training; what counts is evaluate's scores.",
        "evaluate": "Scores on the test split, each example's kept, so that any two systems can be compared in pairs.",
        "controls": "What every family must beat on the same test examples.",
        "draw": "Pictures of each cell's answers.",
        "probe": "Leaks and invariances of a domain's data and models; anything found is a failure.",
        "diagnose": "How far a recurrent family remembers.",
        "diagnostics": "Pictures of what diagnose found.",
        "report": "The comparison as one page: verdicts, tables, pictures, and what is behind every number.",
        "compare": "The leaderboard: which system is best, what it cannot be told apart from, and what it costs.",
    }
    what = f"{work.verb} of {work.label}, suite {work.suite}" if work.label else f"{work.verb}, suite {work.suite}"
    rerun = f"seqlab run {work.verb} {work.label}".rstrip() if not work.by_hand else f"seqlab run {work.verb} …"
    return Note(what, means[work.verb], rerun)


def new_run(
    workspace: Workspace,
    tracking: Tracking,
    *,
    experiment: str,
    name: str,
    tags: Mapping[str, Any],
    tree: Mapping[str, Any],
    inputs: Mapping[str, Any],
    follows: Mapping[str, str],
    key: str | None = None,
    system: System | Sweep | None = None,
    note: Note | None = None,
    kind: Literal["stage", "comparison"] = STAGE,
) -> Run:
    """A tracked run with the resolved configuration `tree`, linked to the latest runs of the stages it follows."""
    import yaml

    records = {verb: workspace.record(verb, label) for verb, label in follows.items()}
    return (Unrecorded if RANK else Run)(
        TRACKED,
        tracking,
        experiment=experiment,
        name=name,
        tags=tags,
        params=flat(dict(tree)),
        config_text=yaml.dump(dict(tree), sort_keys=False, allow_unicode=True),
        inputs=inputs,
        links={verb: read_json(record)["run"] for verb, record in records.items() if record.exists()},
        key=key,
        system=system,
        note=note,
        kind=kind,
    )


def finished(work: Work, run: Run, cost: Mapping[str, Mapping[str, float]], outputs: Mapping[str, Path]) -> None:
    """Note the run and what each of its tasks cost, and tag it with the hashes of what it wrote."""
    if RANK:
        return
    where = environment.environment()
    run.text(json.dumps(where, indent=2, sort_keys=True), "environment.json")
    run.tags({f"output.{name}": content_hash(path) for name, path in outputs.items()})
    run.tags({"machine": environment.named(where), "dispatch": environment.in_words(where)})
    if not work.by_hand:
        write_json(work.workspace.record(work.verb, work.label or "suite"), {
            "run": run.key,
            "suite": work.suite,
            "cost": {task: dict(part) for task, part in cost.items()},
            "environment": where,
        })  # fmt: skip


def environments_of(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Where each stage that ran here was computed, by verb and label."""
    top = workspace.private / "records"
    found = {path.relative_to(top).with_suffix(""): read_json(path).get("environment") for path in top.rglob("*.json")}
    return {f"{path.parts[0]} {'/'.join(path.parts[1:])}": where for path, where in sorted(found.items()) if where}


def cost_of(workspace: Workspace, verb: str, label: str) -> dict[str, dict[str, float]]:
    """What an execution noted; nothing where it did not run here."""
    record = workspace.record(verb, label)
    found: dict[str, dict[str, float]] = read_json(record)["cost"] if record.exists() else {}
    return found


def checkpoint_of(work: Work, inputs: Mapping[str, Path]) -> tuple[Checkpoint, str]:
    """Where a training with these inputs, values and code resumes, and the key of the run that it then continues."""
    what = [work.verb, work.label, work.tree, {k: content_hash(v) for k, v in inputs.items()}, code_hash()]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    folder = work.workspace.private / "checkpoints" / digest[:32]
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "run.json"
    if not readable(note):
        write_json(note, {"run": uuid.uuid4().hex})
    elif any(folder.rglob("resume.ckpt")):
        print(f"{work.verb} {work.label}: resumes where an earlier one was ended", flush=True)
    return Checkpoint(folder, work.execution.checkpoint_seconds), str(read_json(note)["run"])


@cache
def code_hash() -> str:
    """SHA-256 of the library's source, as this process found it."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "src").rglob("*.py")))).hexdigest()


def readable(note: Path) -> bool:
    """Whether the note of a run is there and whole: a loss of power may leave an empty one."""
    try:
        return "run" in read_json(note)
    except (UserError, TypeError):
        return False


def hashed(inputs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {name: {"path": str(path), "sha256": content_hash(path)} for name, path in inputs.items() if path.exists()}


def content_hash(path: Path) -> str:
    """SHA-256 of a file or folder; that of a prepared domain was taken when it was written."""
    meta = path / "meta.json"
    return str(read_json(meta)["sha256"]) if meta.exists() else sha256(path)
