"""The tracked run of an execution, its record, and the checkpoints that it would resume from."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlab.artifacts import read_json, sha256, write_json
from seqlab.cli.places import RANK, ROOT, Workspace
from seqlab.cli.trees import flat
from seqlab.cli.work import CellWork, DomainWork, FamilyWork, Work
from seqlab.tracking import Run, Tracking, Unrecorded
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
    name = f"{work.verb} {(work.label or work.suite).replace('/', '·')}"
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
    )


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
    )


def finished(work: Work, run: Run, cost: Mapping[str, Mapping[str, float]], outputs: Mapping[str, Path]) -> None:
    """Note the run and what each of its tasks cost, and tag it with the hashes of what it wrote."""
    if RANK:
        return
    run.tags({f"output.{name}": content_hash(path) for name, path in outputs.items()})
    if not work.by_hand:
        write_json(work.workspace.record(work.verb, work.label or "suite"), {
            "run": run.key, "suite": work.suite, "cost": {task: dict(part) for task, part in cost.items()}
        })  # fmt: skip


def cost_of(workspace: Workspace, verb: str, label: str) -> dict[str, dict[str, float]]:
    """What an execution noted; nothing where it did not run here."""
    record = workspace.record(verb, label)
    found: dict[str, dict[str, float]] = read_json(record)["cost"] if record.exists() else {}
    return found


def checkpoint_of(work: Work, inputs: Mapping[str, Path]) -> tuple[Checkpoint, str]:
    """Where a training with these inputs, values and code resumes, and the key of the run that it then continues."""
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "src").rglob("*.py")))).hexdigest()
    what = [work.verb, work.label, work.tree, {k: content_hash(v) for k, v in inputs.items()}, code]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    folder = work.workspace.private / "checkpoints" / digest[:32]
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "run.json"
    if not note.exists():
        write_json(note, {"run": uuid.uuid4().hex})
    elif any(folder.rglob("resume.ckpt")):
        print(f"{work.verb} {work.label}: resumes where an earlier one was ended", flush=True)
    return Checkpoint(folder, work.execution.checkpoint_seconds), str(read_json(note)["run"])


def hashed(inputs: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {name: {"path": str(path), "sha256": content_hash(path)} for name, path in inputs.items() if path.exists()}


def content_hash(path: Path) -> str:
    """SHA-256 of a file or folder; that of a prepared domain was taken when it was written."""
    meta = path / "meta.json"
    return str(read_json(meta)["sha256"]) if meta.exists() else sha256(path)
