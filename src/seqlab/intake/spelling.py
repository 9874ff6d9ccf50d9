"""Parts of a domain's file that every kind of own data has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqlab.data.readers import Dialect
from seqlab.errors import UserError
from seqlab.intake.proposal import Hints
from seqlab.intake.roles import LABEL
from seqlab.intake.sniff import Sample, sample

UNSTATED = "not stated"


def archive(path: Path, hints: Hints, members: list[str] | None = None) -> dict[str, Any]:
    """A file or folder of one's own, through the one door for raw files."""
    own = {"registry": "file", "path": str(path), "sha256": None, "licence": hints.licence or UNSTATED}
    return own | {"members": members or []}


def dialect_of(path: Path, found: Sample) -> dict[str, str] | None:
    """How a table is written, where its name does not promise just that."""
    if found.dialect is None or found.dialect == Dialect.of(path, None):
        return None
    dialect = found.dialect
    return {
        "delimiter": dialect.delimiter,
        "decimal": dialect.decimal,
        "thousands": dialect.thousands,
        "encoding": dialect.encoding,
    }


def scratch(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The sections of training where there is no source. A task without `start` begins with what the strategy says."""
    full = {task: budget | {"start": budget.get("start", "source"), "learning_rate_factor": 1.0}
            for task, budget in tasks.items()}  # fmt: skip
    return {"pretrain": None, "finetune": full}


def table_of_labels(path: Path, files: list[Path], tables: list[Path], hints: Hints) -> dict[str, Any] | None:
    """The table in a folder, and its columns, that names files and their classes; None where there is none.

    Raises UserError when a table was named that does not.
    """
    names = {name for file in files for name in (file.relative_to(path).as_posix(), file.name, file.stem)}
    for table in tables:
        if hints.label is not None and hints.label in (table.name, str(table)):
            tables = [table]
    for table in tables:
        found = sample(table)
        naming = [c for c in found.columns.values() if sum(cell in names for cell in c.known) >= 0.5 * len(c.known) > 0]
        others = [c for c in found.columns.values() if c not in naming and 1 <= c.distinct <= max(2, len(c.known) // 2)]
        if hints.label in found.columns:
            others = [found.columns[hints.label]]
        if naming and others:
            spelt = dialect_of(table, found)
            label = next((c for c in others if LABEL.search(c.name.casefold())), others[0])
            return {"file": table.name, "name": naming[0].name, "label": label.name} | (
                {} if spelt is None else {"dialect": spelt}
            )
    if hints.label is not None and tables and any(hints.label in (t.name, str(t)) for t in tables):
        raise UserError(f"{hints.label}: no column names the files of {path.name}; expected such as {files[0].name!r}")
    return None
