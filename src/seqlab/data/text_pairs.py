"""Pairs as texts: lines of a source and its references, and the test sets that are made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.data.prepared import Meta
from seqlab.errors import UserError

# The test sets of a domain of pairs, each a task of its own, and the files that hold them.
TESTS = {"in_domain": "test", "held_out": "held_out", "everyday": "everyday"}


def tests_of(meta: Meta) -> dict[str, str]:
    """Those that a domain's data have: a user's own pairs hold out no product."""
    return {table: file for table, file in TESTS.items() if file in meta.counts}


@dataclass(frozen=True)
class TextPairs:
    """A test set as texts: E sources, one or more references of each, and where each comes from."""

    sources: list[str]
    references: list[list[str]]
    origins: list[str]

    @classmethod
    def load(cls, path: Path) -> TextPairs:
        """Raises UserError when the file is missing or a line is no pair."""
        rows = read_pairs(path)
        if not rows:
            raise UserError(f"{path}: it is empty, expected at least one pair")
        sources, references, origins = ([row[name] for row in rows] for name in ("source", "references", "origin"))
        return cls(sources, references, origins)

    def __len__(self) -> int:
        return len(self.sources)

    def subset(self, indices: np.ndarray) -> TextPairs:
        return TextPairs(
            [self.sources[i] for i in indices],
            [self.references[i] for i in indices],
            [self.origins[i] for i in indices],
        )


def read_pairs(path: Path) -> list[dict[str, Any]]:
    """Lines of {"source", "references", ...}. Raises UserError naming the line that is something else."""
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path}: missing; run the prepare stage") from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            whole = isinstance(row["source"], str) and row["references"] and all(map(str.strip, row["references"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path.name}, line {number}: {error}; expected a source and its references") from None
        if not whole or not row["source"].strip():
            raise UserError(f"{path.name}, line {number}: an empty side; expected a source and its references")
        rows.append(row)
    return rows
