"""What a comparison left in a workspace, read without the library that made it."""

from __future__ import annotations

import csv
from pathlib import Path

from seqlab.artifacts import LONGEST_TEXT, check_file

LEADERBOARD = Path("reports/leaderboard.csv")


def leaderboard(home: Path) -> list[dict[str, str]] | None:
    """The lines of a workspace's leaderboard, in its order; None where there is none. Raises UserError for no file."""
    path = home / LEADERBOARD
    if not path.exists():
        return None
    check_file(path, LONGEST_TEXT)
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
