"""What a comparison of systems sends to MLflow: a few numbers a system on its own run, views, notes, a table.

All rows of a leaderboard are a table among the run's files. Metrics are the headline metrics alone, under names that do
not hold a system's or a domain's name, so that a chart has families and controls side by side.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from seqlab.evaluation.leaderboard import ENSEMBLE, OUTSIDE, Entry, MeanCost, Row
from seqlab.evaluation.metrics import label_of, metric_of, value_of
from seqlab.tracking import names
from seqlab.tracking.journal import Run
from seqlab.tracking.systems import Note, System
from seqlab.tracking.views import View

Headlines = Mapping[str, Mapping[str, str]]
"""By domain, the metric that ranks each task."""
Key = tuple[str, str, str, str, str]
"""Domain, task, family, strategy and metric."""

TABLE = "headline.csv"
SPREAD = "interval"
COLUMNS = ("domain", "task", "metric", "system", "value", "low", "high", "deviation", "seeds", "examples", "seconds")
COST_COLUMNS = {
    "cost/seconds": "of training, over all its tasks, mean over seeds; as measured, so it differs from run to run",
    "cost/peak_memory_mb": "peak memory of training, the largest of its tasks",
    "cost/train_flops": "floating-point operations of training, over all its tasks, mean over seeds",
    "cost/parameters": "numbers that were estimated, the most of its tasks",
}


def spread_names(task: str, metric: str) -> list[str]:
    """What the ends of a score's interval, and its deviation, are called: apart from the scores, which charts show."""
    return [names.clean(f"{SPREAD}/{task}_{metric}_{end}") for end in ("low", "high", "std")]


def deviations(cells: Iterable[Entry], headlines: Headlines) -> dict[Key, float]:
    """Standard deviation over seeds (n - 1) of every headline score that more than one seed has."""
    found: dict[Key, list[float]] = {}
    for cell in cells:
        tasks = {task for task, _ in (*cell.scores.ratios, *cell.scores.statistics)} | set(cell.scores.predictions)
        for task, metric in headlines.get(cell.domain, {}).items():
            if task in tasks:
                key = cell.domain, task, cell.family, cell.strategy, metric
                found.setdefault(key, []).append(value_of(cell.scores, task, metric))
    return {key: statistics.stdev(values) for key, values in found.items() if len(values) > 1}


@dataclass(frozen=True)
class Leaderboard:
    """What a comparison found. rows: by table, best first. costs: by domain, task, family and strategy.

    verdicts: of each domain, Markdown. rerun: the command that makes a system again.
    """

    suite: str
    rows: Sequence[Row]
    headlines: Headlines
    costs: Mapping[tuple[str, str, str, str], MeanCost]
    deviations: Mapping[Key, float]
    verdicts: Mapping[str, str]
    rerun: Callable[[System], str]

    @cached_property
    def rows_of_systems(self) -> dict[tuple[str, str, str], list[Row]]:
        """By domain, family and strategy."""
        found: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.domain, row.family, row.strategy), []).append(row)
        return found

    @cached_property
    def headline_rows(self) -> dict[str, list[Row]]:
        """By domain."""
        found: dict[str, list[Row]] = {domain: [] for domain in self.headlines}
        for row in self.rows:
            if self.headlines.get(row.domain, {}).get(row.task) == row.metric:
                found[row.domain].append(row)
        return found

    def system(self, row: Row) -> System:
        return System(self.suite, row.domain, row.family, row.strategy, row.control)

    def cost_of(self, system: System) -> dict[str, float]:
        """`cost/seconds` and what else is known."""
        whose = system.domain, system.family, system.strategy
        rows = self.rows_of_systems.get(whose, [])
        sizes = [row.parameters for row in rows if row.parameters is not None]
        # Tasks that one model answers have one training, and repeat its figures.
        spent = {
            (cost.seconds, cost.peak_memory_mb)
            for (domain, _, *own), cost in self.costs.items()
            if (domain, *own) == whose
        }
        flops = {(row.parameters, row.train_flops) for row in rows if row.train_flops is not None}
        values = {}
        if spent:
            values["seconds"] = sum(seconds for seconds, _ in spent)
            values["peak_memory_mb"] = max(peak for _, peak in spent)
        if flops:
            values["train_flops"] = sum(one for _, one in flops)
        if sizes:
            values["parameters"] = max(sizes)
        return {names.cost(name): value for name, value in values.items()}

    def scores_of(self, row: Row) -> dict[str, float]:
        """A headline score with its interval over seeds and examples and its spread over seeds, where there is one."""
        key = row.domain, row.task, row.family, row.strategy, row.metric
        values = row.value, row.low, row.high, self.deviations.get(key, math.nan)
        named = zip((names.score(row.task, row.metric), *spread_names(row.task, row.metric)), values, strict=True)
        return {name: value for name, value in named if math.isfinite(value)}

    def columns(self, domain: str) -> dict[str, str]:
        """What the metrics of a system mean, for people."""
        found = {}
        for task, metric in self.headlines[domain].items():
            better = metric_of(metric).better
            direction = f"{better} is better" if isinstance(better, str) else f"closer to {better:g} is better"
            found[names.score(task, metric)] = f"{label_of(metric)} on test, mean over seeds; {direction}"
        ends = {f"{SPREAD}/…_low, …_high": "95% interval over seeds and examples", f"{SPREAD}/…_std": "over seeds"}
        return found | ends | COST_COLUMNS


def record(run: Run, made: Leaderboard) -> None:
    """Send a comparison: to the run of every system, to the experiment of every domain, and to `run` itself."""
    lines: list[Sequence[object]] = [COLUMNS]
    for domain in made.headlines:
        rows = made.headline_rows[domain]
        found: dict[System, list[Row]] = {}
        for row in rows:
            found.setdefault(made.system(row), []).append(row)
        costs = {system: made.cost_of(system) for system in found}
        for system, own in found.items():
            values = {name: value for row in own for name, value in made.scores_of(row).items()}
            run.system(system, values | costs[system], note(made, system, own))
        lines += [line(made, row, costs[made.system(row)]) for row in rows]
        if rows:
            describe(run, made, domain)
    run.text(_csv(lines), TABLE)
    run.note("\n\n".join(f"### {domain}\n\n{text}" for domain, text in made.verdicts.items()))


def describe(run: Run, made: Leaderboard, domain: str) -> None:
    """The best score of each table on the run, and the domain's view and verdict on its experiment."""
    rows = made.headline_rows[domain]
    first = {(row.task, row.metric): row.value for row in rows if row.best}
    tables = [table for table in made.headlines[domain].items() if table in first]
    run.metrics({f"{domain}/{task}/{metric}": first[task, metric] for task, metric in tables})
    scores = [names.score(task, metric) for task, metric in tables]
    seconds = names.cost("seconds")
    lower = metric_of(tables[0][1]).better == "lower"
    others = [name for table in tables for name in spread_names(*table)] + list(COST_COLUMNS)[1:]
    view = View(made.suite, [*scores, seconds], lower, [(seconds, one) for one in scores], others)
    run.experiment(domain, view, made.verdicts.get(domain, ""))


def note(made: Leaderboard, system: System, rows: Sequence[Row]) -> Note:
    """The description of a system's run."""
    if system.control:
        what = f"The control {system.name} on {system.domain}: what a family must beat."
    elif system.strategy == OUTSIDE:
        what = f"{system.family} on {system.domain}, trained elsewhere: a mark to aim at, and no control."
    elif system.strategy == ENSEMBLE:
        what = f"The ensemble {system.family} on {system.domain}, of the systems that the leaderboard names."
    else:
        what = (
            f"The family {system.family} on {system.domain}, by the strategy {system.strategy}, in the suite "
            f"{system.suite}. The runs below it are its stages, for each seed."
        )
    places = []
    for row in rows:
        table = [other for other in made.headline_rows[row.domain] if other.task == row.task]
        place = next(i for i, other in enumerate(table, 1) if other is row)
        interval = f" [{row.low:.4g}, {row.high:.4g}]" if math.isfinite(row.low) else ""
        places.append(f"{row.task} {label_of(row.metric)} {row.value:.4g}{interval}, place {place} of {len(table)}")
    return Note(what, "; ".join(places) + ".", made.rerun(system), made.columns(system.domain))


def line(made: Leaderboard, row: Row, cost: Mapping[str, float]) -> tuple[object, ...]:
    deviation = made.deviations.get((row.domain, row.task, row.family, row.strategy, row.metric))
    numbers = (row.value, row.low, row.high, deviation)
    short = [f"{number:.8g}" if number is not None and math.isfinite(number) else "" for number in numbers]
    seconds = cost.get(names.cost("seconds"))
    spent = "" if seconds is None else f"{seconds:.4g}"
    name = made.system(row).name
    return row.domain, row.task, row.metric, name, *short, row.seeds, row.examples, spent


def _csv(lines: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


ANSWERS = {"next_step": "score", "forecast": "forecast", "classify": "classify", "label": "label"}
"""What a model that is judged by a task is asked for; any other task is one of translation."""


@dataclass(frozen=True)
class Winner:
    """The best family of a table. answer: what it is registered for, and asked."""

    row: Row
    answer: str

    def name(self, prefix: str) -> str:
        return f"{prefix}-{self.row.domain}-{self.answer}"

    @property
    def tags(self) -> dict[str, str]:
        return {
            "domain": self.row.domain,
            "family": self.row.family,
            "strategy": self.row.strategy,
            names.score(self.row.task, self.row.metric): f"{self.row.value:.6g}",
        }


def winners(rows: Sequence[Row], headlines: Headlines) -> list[Winner]:
    """The best family, no control, nothing from elsewhere and no ensemble, of every headline table.

    Of several tables of translation the first.
    """
    found: dict[tuple[str, str], Winner] = {}
    for domain, metrics in headlines.items():
        for task, metric in metrics.items():
            answer = ANSWERS.get(task, "translate")
            table = (row for row in rows if (row.domain, row.task, row.metric) == (domain, task, metric))
            best = next((row for row in table if not row.control and row.strategy not in (OUTSIDE, ENSEMBLE)), None)
            if best is not None:
                found.setdefault((domain, answer), Winner(best, answer))
    return list(found.values())
