"""What a comparison asks of a task that has a report of its own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from seqlab.evaluation.leaderboard import Entry, Row
from seqlab.evaluation.settings import Evaluation


class Report(Protocol):
    """The module tasks/NAME/report.py."""

    def markdown(
        self,
        domain: str,
        entries: Sequence[Entry],
        speeds: Mapping[tuple[str, str, str], float],
        settings: Evaluation,
        replicates: int,
    ) -> str:
        """A page of a domain. speeds: examples a second by (table, family, strategy)."""

    def draw(self, domain: str, rows: Sequence[Row], settings: Evaluation, folder: Path) -> None:
        """Its pictures, in a folder."""


def report_of(task: str) -> Report | None:
    """None where the task has none."""
    module = f"seqlab.tasks.{task}.report"
    try:
        return cast(Report, importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None
