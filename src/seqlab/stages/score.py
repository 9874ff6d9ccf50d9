"""Judge a model from elsewhere by its predictions: rows marked `outside`, in the paired tests of a domain's cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from seqlab.data.prepared import Prepared
from seqlab.errors import UserError
from seqlab.evaluation import leaderboard
from seqlab.evaluation.leaderboard import Entry, Row
from seqlab.evaluation.outside import Foreign
from seqlab.settings import named
from seqlab.stages import ensembles
from seqlab.stages.compare import Comparison, read_cells
from seqlab.tasks.judging import Test

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Judgement:
    """rows: of the task, all its metrics, best first. entries: what they are of, the ensembles of the cells among them.
    systems: those from elsewhere. lacking: cells without scores.
    """

    rows: Sequence[Row]
    entries: Sequence[Entry]
    systems: Sequence[Foreign]
    lacking: Sequence[str]


def _asking(task: str) -> Callable[[Test], Mapping[str, pa.Table]]:
    """tasks/NAME/outside.py: what a model from elsewhere is given, by the name of a table."""
    return cast("Callable[[Test], Mapping[str, pa.Table]]", named(f"seqlab.tasks.{task}.outside.ask"))


def _reading(task: str) -> Callable[[Path, Test], list[Foreign]]:
    """And the systems of a table of predictions."""
    return cast("Callable[[Path, Test], list[Foreign]]", named(f"seqlab.tasks.{task}.outside.read"))


def ask(
    prepared: Path, out: Path, *, domain: str, task: str, comparison: Comparison, examples: int | None
) -> list[str]:
    """Write the tables from which a model elsewhere predicts, NAME.parquet, and return their names."""
    import pyarrow.parquet as pq

    tables = _asking(task)(_test(prepared, domain, comparison, examples))
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, out / f"{name}.parquet")
    return list(tables)


def score(
    predictions: Path,
    prepared: Path,
    models: Path,
    scored: Path,
    *,
    domain: str,
    task: str,
    comparison: Comparison,
    examples: int | None,
    command: Callable[[str], str] = "seqlab repro --only {}".format,
) -> Judgement:
    """Compare the systems of a table with every cell of the domain that has scores, and with the cells' ensembles.

    command: in words, what runs the stages of these attributes. Raises UserError naming file and row of what is wrong
    with the table, and what is missing of the scores and makes it.
    """
    controls = scored / domain / "controls"
    if not controls.is_dir():
        if any((scored / cell.path).is_dir() for cell in comparison.cells if cell.domain == domain):
            only = command(f"stage=controls domain={domain}")
            raise UserError(f"{controls}: missing, against which every system is held; `{only}` makes them")
        raise UserError(f"{scored / domain}: no scores to compare with; `{command(f'domain={domain}')}` makes them")
    systems = _reading(task)(predictions, _test(prepared, domain, comparison, examples))
    kept = [name for name, one in comparison.strategies.items() if one.order == "kept"]
    own = [
        cell for cell in comparison.cells if cell.domain == domain and cell.strategy in kept and cell.fraction == 1.0
    ]
    known = [cell for cell in own if (scored / cell.path).is_dir() and (models / cell.path / "report.json").exists()]
    narrowed = replace(comparison, cells=known, domains={domain: comparison.domains[domain]})
    entries = [entry for entry, _ in read_cells(narrowed, models, scored)[0]]
    joined = ensembles.build(known, narrowed.domains, entries, scored, comparison.comparing.rounds)
    whole = [*entries, *(one.entry for one in joined)]
    table = [replace(entry, scores=entry.scores.of(task)) for entry in whole]
    table += [one.entry(domain) for one in systems]
    rows = leaderboard.build(table, comparison.replicates, seed=0)
    return Judgement(rows, table, systems, [cell.path for cell in own if cell not in known])


def _test(prepared: Path, domain: str, comparison: Comparison, examples: int | None) -> Test:
    settings = comparison.domains[domain]
    return Test(Prepared.open(prepared), settings, domain, name=domain, seed=0, examples=examples)
