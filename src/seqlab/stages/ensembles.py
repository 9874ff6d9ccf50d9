"""The ensembles of a comparison: of every table of forecasts or classes, from what its evaluations kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab.artifacts import write_text
from seqlab.cells import Cell
from seqlab.evaluation import ensemble, kept, leaderboard, metrics
from seqlab.evaluation.ensemble import Selection
from seqlab.evaluation.leaderboard import ENSEMBLE, Entry, MeanCost
from seqlab.evaluation.metrics import CLASSIFY, FORECAST, names_of
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import Evaluation
from seqlab.evaluation.transfer import Key

MEDIAN, SELECTED = "median", "selected"  # names of the two, where families have theirs
COLUMNS = ("domain", "task", "ensemble", "seed", "up_to_step", "system", "weight", "valid_loss", "best_valid_loss")


@dataclass(frozen=True)
class Ensemble:
    """A system joined from others of its table. weights: of each, by group of steps, the last step naming it; of
    classes there is the one group 0. selections: what validation said, of the selected one.
    """

    entry: Entry
    task: str
    weights: Mapping[int, Mapping[str, float]]
    selections: Mapping[int, Selection]

    @property
    def members(self) -> list[str]:
        """Systems with a weight in any group."""
        return sorted({name for own in self.weights.values() for name in own})

    def told(self) -> str:
        """Its members, for people."""
        parts = []
        for end, own in self.weights.items():
            where = f"up to step {end}: " if end else ""
            equal = len(set(own.values())) == 1 and len(own) > 2
            names = sorted(own, key=lambda name: (-own[name], name))
            shares = ", ".join(names) + " alike" if equal else ", ".join(f"{name} {own[name]:.2g}" for name in names)
            parts.append(where + shares)
        return f"{self.entry.family} · {ENSEMBLE}, seed {self.entry.seed}, of {'; '.join(parts)}."


def build(
    cells: Iterable[Cell], domains: Mapping[str, Evaluation], entries: Sequence[Entry], scored: Path, rounds: int
) -> list[Ensemble]:
    """Of every table of forecasts and of classes, and every seed, the median of all systems and the selected one.

    cells: that may be members. entries: of these, whose sizes and costs are added up. rounds: of the selection. A
    family that has one seed alone is in the ensembles of every seed. Raises UserError when members were judged on
    different examples.
    """
    found = []
    cells = list(cells)
    for domain, settings in domains.items():
        own = [cell for cell in cells if cell.domain == domain]
        for task in (task for task in (FORECAST, CLASSIFY) if task in settings.headline):
            for seed in sorted({cell.seed for cell in own}):
                members = {leaderboard.named(cell.family, cell.strategy): cell for cell in _of_seed(own, seed)}
                join = _forecasts if task == FORECAST else _classes
                made = join({name: scored / cell.path / task for name, cell in members.items()}, settings, rounds)
                for name, (scores, weights, selections) in made.items():
                    chosen = {one for group in weights.values() for one in group}
                    parts = [_of(entries, members[one], task) for one in sorted(chosen)]
                    entry = Entry(domain, name, ENSEMBLE, seed, scores, **_sums(parts))
                    found.append(Ensemble(entry, task, weights, selections))
    return found


Joined = tuple[Scores, Mapping[int, Mapping[str, float]], Mapping[int, Selection]]


def _forecasts(folders: Mapping[str, Path], settings: Any, rounds: int) -> dict[str, Joined]:
    read = {name: kept.forecasts_of(folder) for name, folder in folders.items()}
    members = {name: own for name, own in read.items() if own is not None}
    if len(members) < 2:
        return {}
    valid, test = ({name: getattr(own, part) for name, own in members.items()} for part in ("valid", "test"))
    first = next(iter(members.values())).first
    selections = ensemble.select_forecasts(valid, first, settings.horizons, rounds)
    joined = {MEDIAN: ensemble.median_forecast(test), SELECTED: ensemble.weighted_forecast(test, selections)}
    scores = {name: metrics.forecast_scores(own, settings.horizons) for name, own in joined.items()}
    alike = {max(settings.horizons): dict.fromkeys(members, 1 / len(members))}
    weights = {end: one.weights for end, one in selections.items()}
    return {MEDIAN: (scores[MEDIAN], alike, {}), SELECTED: (scores[SELECTED], weights, selections)}


def _classes(folders: Mapping[str, Path], settings: Any, rounds: int) -> dict[str, Joined]:
    from seqlab.evaluation import scores

    read = {name: kept.answers_of(folder) for name, folder in folders.items()}
    valid = {name: own for name, own in read.items() if own is not None}
    if len(valid) < 2:
        return {}
    test = {name: scores.read(folders[name].parent).predictions[CLASSIFY] for name in valid}
    selection = ensemble.select_classes(valid, rounds)
    middle, chosen = ensemble.median_classes(test), ensemble.weighted_classes(test, selection.weights)
    alike = {0: dict.fromkeys(valid, 1 / len(valid))}
    return {
        MEDIAN: (Scores(predictions={CLASSIFY: middle}), alike, {}),
        SELECTED: (Scores(predictions={CLASSIFY: chosen}), {0: selection.weights}, {0: selection}),
    }


def _of_seed(cells: Sequence[Cell], seed: int) -> list[Cell]:
    """Of every family and strategy the cell of this seed, or its only one."""
    systems: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        systems.setdefault((cell.family, cell.strategy), []).append(cell)
    chosen = [own[0] if len(own) == 1 else next((c for c in own if c.seed == seed), None) for own in systems.values()]
    return [cell for cell in chosen if cell is not None]


def _of(entries: Sequence[Entry], cell: Cell, task: str) -> Entry:
    """The entry of a cell's model that answers a table."""
    names = cell.domain, cell.family, cell.strategy, cell.seed
    own = [one for one in entries if (one.domain, one.family, one.strategy, one.seed) == names]
    return next(one for one in own if any(table == task for table, _ in names_of(one.scores)))


SIZES = ("parameters", "train_steps", "train_flops", "pretrain_steps", "pretrain_flops")


def _sums(entries: Sequence[Entry]) -> dict[str, Any]:
    """What all of them have and took together; None where one of them does not say."""
    sizes = {name: [getattr(one, name) for one in entries] for name in SIZES}
    return {name: None if None in own else sum(own) for name, own in sizes.items()}


def costs(found: Sequence[Ensemble], known: Mapping[Key, MeanCost]) -> dict[Key, MeanCost]:
    """Of the ensembles whose members' costs are all known: their sums, means over seeds."""
    made: dict[Key, list[MeanCost]] = {}
    for one in found:
        place = one.entry.domain, one.task
        own = {leaderboard.named(*key[2:]): cost for key, cost in known.items() if key[:2] == place}
        if all(name in own for name in one.members):
            parts = [own[name] for name in one.members]
            made.setdefault((*place, one.entry.family, ENSEMBLE), []).append(ensemble.cost(parts))
    return {key: leaderboard.mean_cost(parts) for key, parts in made.items()}


def notes(found: Sequence[Ensemble]) -> dict[tuple[str, str], list[str]]:
    """The members of each ensemble, by domain and task."""
    told: dict[tuple[str, str], list[str]] = {}
    for one in found:
        told.setdefault((one.entry.domain, one.task), []).append(one.told())
    return told


def write_csv(found: Sequence[Ensemble], path: Path) -> None:
    """A line a member and group of steps, with the validation loss of the selection and of the best single system."""
    lines = []
    for one in found:
        for end, own in one.weights.items():
            chosen = one.selections.get(end)
            losses = (None, None) if chosen is None else (chosen.loss, chosen.best_loss)
            for system, weight in sorted(own.items()):
                entry = one.entry
                values = (entry.domain, one.task, entry.family, entry.seed, end or None, system, weight, *losses)
                lines.append([leaderboard.field(value) for value in values])
    write_text(path, leaderboard.csv_text(COLUMNS, lines))
