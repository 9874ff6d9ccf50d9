"""Whether anything at all changed since the last run that found or left everything up to date.

Names, sizes, times and inodes of every file that the pipeline reads or wrote, as git's index and DVC's own state keep
them. DVC needs seconds to load its graph before it can say that nothing is to be done; this needs a tenth.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from seqlab.artifacts import write_text
from seqlab.cli.places import Workspace

OWN = ("dvc.yaml", "dvc.lock", "params.yaml", "cells.json", "code.json", ".dvcignore")
CODE = ("conf", "pipelines", "src/seqlab")
MADE = ("data", "models", "scores", "shown", "pictures", "diagnostics")
# Of the reports, what DVC knows: the rest quotes measured cost and is nobody's output.
REPORTS = ("leaderboard.csv", "transfer.csv", "transfer_summary.csv", "order.csv", "pictures", "metrics", "plots")
SKIPPED = {"__pycache__"}


def stamp(workspace: Workspace, own_files: list[str]) -> str:
    """A hash of what is there. own_files: a user's files, beside or outside the checkout."""
    digest = hashlib.sha256()
    home = workspace.home
    paths = [*OWN, *CODE, *MADE, *(f"reports/{name}" for name in REPORTS), "reports/diagnostics", *own_files]
    for path in paths:
        for name, state in _files(home / path):
            digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\0{state.st_ino}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below a path, in order; a path that is not there is one of its own kind."""
    try:
        state = path.stat()
    except OSError:
        yield f"{path} is absent", os.stat_result((0,) * 10)
        return
    if not path.is_dir():
        yield str(path), state
        return
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if entry.is_dir() and entry.name not in SKIPPED:
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield entry.path, entry.stat()


def is_fresh(workspace: Workspace, own_files: list[str]) -> bool:
    kept = workspace.home / ".seqlab/fresh"
    return kept.exists() and kept.read_text(encoding="utf-8") == stamp(workspace, own_files)


def keep(workspace: Workspace, own_files: list[str]) -> None:
    """Remember that everything is up to date as it is now."""
    write_text(workspace.home / ".seqlab/fresh", stamp(workspace, own_files))


def forget(workspace: Workspace) -> None:
    (workspace.home / ".seqlab/fresh").unlink(missing_ok=True)
