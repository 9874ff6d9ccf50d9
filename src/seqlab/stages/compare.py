"""Compare every cell of a suite: leaderboard, pictures, DVC's metrics and plots, and a report a task that has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from seqlab.artifacts import read_json, write_json, write_text
from seqlab.cells import Cell
from seqlab.evaluation import leaderboard, order, pictures, scores, transfer, verdict
from seqlab.evaluation.leaderboard import Entry, MeanCost, Row
from seqlab.evaluation.order import Worth
from seqlab.evaluation.settings import Evaluation
from seqlab.evaluation.transfer import Key, Point, Spent
from seqlab.scratch import replacing
from seqlab.settings import Strategy
from seqlab.tasks.judging import answered
from seqlab.tasks.reporting import report_of

Costs = Mapping[str, Mapping[str, float]]  # by task, what training or judging took


@dataclass(frozen=True)
class Measured:
    """What ran here took, by a cell's path: it differs from run to run, and what quotes it is hashed nowhere."""

    trainings: Mapping[str, Costs] = field(default_factory=dict)
    pretrainings: Mapping[str, Costs] = field(default_factory=dict)
    evaluations: Mapping[str, Costs] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared. judges: the task that judges each table. judged: the tasks that judge each domain.

    threads: of a training. unfit: by domain, families that it is not for, and why. left_out: strategy, where, and the
    reason, of what the suite names and has no meaning.
    """

    cells: Sequence[Cell]
    domains: Mapping[str, Evaluation]
    judges: Mapping[str, str]
    judged: Mapping[str, Sequence[str]]
    strategies: Mapping[str, Strategy]
    replicates: int
    threads: int = 1
    unfit: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    left_out: Sequence[tuple[str, str, str]] = ()

    @property
    def headlines(self) -> dict[str, dict[str, str]]:
        """The metric that ranks each table, by domain."""
        return {name: evaluation.headline for name, evaluation in self.domains.items()}


@dataclass(frozen=True)
class Compared:
    """What compare found. text: the leaderboard. verdicts: by domain, what its tables decide, as Markdown."""

    rows: Sequence[Row]
    entries: Sequence[Entry]
    costs: Mapping[Key, MeanCost]
    verdicts: Mapping[str, str]
    text: str


def compare(
    comparison: Comparison, models: Path, scored: Path, out: Path, measured: Measured | None = None
) -> Compared:
    """Write the report of a comparison to `out`, a folder that others may write to as well."""
    measured = measured or Measured()
    headlines, replicates = comparison.headlines, comparison.replicates
    everything, trainings = read_cells(comparison, models, scored)
    controls = {name: one.control or leaderboard.SCRATCH for name, one in comparison.strategies.items()}
    shuffling = {name: controls[name] for name, one in comparison.strategies.items() if one.order == "shuffled"}
    worths = order.build(
        [entry for entry, fraction in everything if fraction == 1.0], shuffling, headlines, replicates, seed=0
    )
    order.write_csv(worths, out / "order.csv")
    # Their data are others than those of the tables.
    entries = [(entry, fraction) for entry, fraction in everything if entry.strategy not in shuffling]
    whole = [entry for entry, fraction in entries if fraction == 1.0]
    rows = leaderboard.build(whole, replicates, seed=0)
    compared = [(entry, fraction) for entry, fraction in entries if entry.strategy in comparison.strategies]
    points, curves = transfer.build(compared, headlines, controls, trainings, replicates, seed=0)
    transfer.write_points(points, out / "transfer.csv")
    transfer.write_curves(curves, out / "transfer_summary.csv")
    leaderboard.write_csv(rows, out / "leaderboard.csv")
    leaderboard.write_metrics(rows, headlines, out / "metrics")
    leaderboard.write_plots(rows, headlines, out / "plots")
    draw(comparison, rows, points, worths, out / "pictures")
    costs = leaderboard.read_costs(out / "cost.csv") | read_costs(comparison, models, measured)
    leaderboard.write_costs(costs, out / "cost.csv")
    decisions = decided(comparison, rows, whole, costs, points)
    write_json(out / "verdicts.json", decisions)
    verdicts = {domain: told_of(made) for domain, made in decisions.items()}
    told = "".join(f"## {domain}\n\n{verdict}\n\n" for domain, verdict in verdicts.items())
    text = "\n".join(filter(None, (told, leaderboard.markdown(rows, headlines, costs), order.markdown(worths))))
    write_text(out / "leaderboard.md", text)
    seconds = read_seconds(comparison, costs, measured)
    write_text(out / "transfer.md", transfer.markdown(points, curves, seconds, list(comparison.left_out)))
    for domain, tasks in comparison.judged.items():
        own = [entry for entry in whole if entry.domain == domain]
        for report in filter(None, map(report_of, tasks)):
            speeds = read_speeds(comparison, domain, measured)
            write_text(
                out / f"{domain}.md", report.markdown(domain, own, speeds, comparison.domains[domain], replicates)
            )
    return Compared(rows, whole, costs, verdicts, text)


def decided(
    comparison: Comparison,
    rows: Sequence[Row],
    entries: Sequence[Entry],
    costs: Mapping[Key, MeanCost],
    points: Sequence[Point],
) -> dict[str, dict[str, str]]:
    """By domain and task, what each headline table decides. It quotes measured cost, so it is hashed nowhere."""
    found: dict[str, dict[str, str]] = {}
    for domain, metrics in comparison.headlines.items():
        own = [entry for entry in entries if entry.domain == domain]
        found[domain] = {}
        for task, metric in metrics.items():
            if table := [row for row in rows if row.table == (domain, task, metric)]:
                made = verdict.verdict(table, own, costs, comparison.threads, points, comparison.unfit.get(domain, ()))
                found[domain][task] = verdict.sentences(made)
    return found


def told_of(decisions: Mapping[str, str]) -> str:
    """Markdown of one domain's decisions, by task."""
    return "\n\n".join(f"**{task.replace('_', ' ')}.** {sentences}" for task, sentences in decisions.items())


def read_cells(
    comparison: Comparison, models: Path, scored: Path
) -> tuple[list[tuple[Entry, float]], dict[tuple[Key, float], list[Spent]]]:
    """The scores of every cell, control and peer, with its share of the target, and how each was trained."""
    entries: list[tuple[Entry, float]] = []
    trainings: dict[tuple[Key, float], list[Spent]] = {}
    for cell in comparison.cells:
        report = read_json(models / cell.path / "report.json")
        found = scores.read(scored / cell.path)
        source = pretraining(comparison, cell, models)
        tables = answered(comparison.domains[cell.domain].headline, report, comparison.judges)
        for task, details in report.items():
            own = found.of(*(table for table, model in tables.items() if model == task))
            names = (cell.domain, cell.family, cell.strategy, cell.seed)
            size = details["parameters"], details["steps"], details["flops"]
            entries.append((Entry(*names, own, *size, *source), cell.fraction))
            curve = [(point["step"], point["valid_loss"]) for point in details["details"].get("curves", [])]
            for table in (table for table, model in tables.items() if model == task):
                key = cell.domain, table, cell.family, cell.strategy
                trainings.setdefault((key, cell.fraction), []).append(Spent(*size[1:], *source, curve))
    for domain in comparison.domains:
        for folder in sorted((scored / domain / "controls").iterdir()):
            outside = folder.name == leaderboard.OUTSIDE
            strategy = leaderboard.OUTSIDE if outside else leaderboard.CONTROL
            for one in sorted(folder.iterdir()) if outside else [folder]:
                entries.append((Entry(domain, one.name, strategy, 0, scores.read(one)), 1.0))
    return entries, trainings


def pretraining(comparison: Comparison, cell: Cell, models: Path) -> tuple[int, float | None]:
    """Steps and FLOPs behind what a cell starts from: none from scratch; of a student, those of its teacher."""
    strategy = comparison.strategies[cell.strategy]
    if strategy.teacher is not None:
        teacher = replace(cell, strategy=strategy.teacher)
        own = read_json(models / teacher.path / "report.json").values()
        steps, flops = pretraining(comparison, teacher, models)
        known = [flops, *(one["flops"] for one in own)]
        return steps + sum(one["steps"] for one in own), None if None in known else sum(known)
    if strategy.init != "pretrained":
        return 0, 0.0
    [only] = read_json(models / cell.source / "report.json").values()  # named after what was predicted
    return only["steps"], only["flops"]


def draw(
    comparison: Comparison, rows: Sequence[Row], points: Sequence[Point], worths: Sequence[Worth], folder: Path
) -> None:
    """A picture of each headline table, of what transfer brings, of that over shares of the target, and of order."""
    with replacing(folder) as made:
        made.mkdir()
        for domain, metrics in comparison.headlines.items():
            for task, metric in metrics.items():
                table = [row for row in rows if row.table == (domain, task, metric)]
                if not table:  # nobody was scored on it
                    continue
                pictures.leaderboard(table, made / f"{domain}-{task}.png")
                if any(row.gain_over_scratch is not None and not row.from_scratch for row in table):
                    pictures.gains(table, made / f"{domain}-{task}-transfer.png")
                curves = [point for point in points if (point.domain, point.task) == (domain, task)]
                if len({point.fraction for point in curves}) > 1:
                    pictures.label_curves(curves, made / f"{domain}-{task}-labels.png")
            for report in filter(None, map(report_of, comparison.judged[domain])):
                report.draw(domain, rows, comparison.domains[domain], made)
        if worths:
            pictures.order(worths, made / "order.png")


def read_costs(comparison: Comparison, models: Path, measured: Measured) -> dict[Key, MeanCost]:
    """Means over seeds of what training took, by table; a cell that was restored instead of run keeps its old line."""
    found: dict[Key, list[Mapping[str, float]]] = {}
    for cell in [cell for cell in comparison.cells if cell.fraction == 1.0]:
        costs = measured.trainings.get(cell.path, {})
        headline = comparison.domains[cell.domain].headline
        for table, model in answered(headline, costs, comparison.judges).items():
            found.setdefault((cell.domain, table, cell.family, cell.strategy), []).append(costs[model])
    return {
        key: MeanCost(*(sum(cost[column.name] for cost in costs) / len(costs) for column in fields(MeanCost)))
        for key, costs in found.items()
    }


def read_seconds(
    comparison: Comparison, costs: Mapping[Key, MeanCost], measured: Measured
) -> dict[Key, tuple[float | None, float | None]]:
    """Seconds on the whole target and of pretraining, means over seeds, of what ran here."""
    found: dict[Key, tuple[float | None, float | None]] = {}
    for (domain, table, family, strategy), cost in costs.items():
        if strategy not in comparison.strategies:  # of another suite
            continue
        seconds = []
        if comparison.strategies[strategy].init == "pretrained":
            sources = {cell.source for cell in comparison.cells if (cell.domain, cell.family) == (domain, family)}
            seconds = [c["seconds"] for s in sorted(sources) for c in measured.pretrainings.get(s, {}).values()]
        found[domain, table, family, strategy] = cost.seconds, sum(seconds) / len(seconds) if seconds else None
    return found


def read_speeds(comparison: Comparison, domain: str, measured: Measured) -> dict[tuple[str, str, str], float]:
    """Sentences a second by (table, family, strategy), of the first seed."""
    found: dict[tuple[str, str, str], float] = {}
    for cell in comparison.cells:
        if cell.domain == domain and cell.fraction == 1.0:
            for table, cost in measured.evaluations.get(cell.path, {}).items():
                if "sentences_per_second" in cost:
                    found.setdefault((table, cell.family, cell.strategy), cost["sentences_per_second"])
    return found
