"""Compare every cell of a suite: leaderboard, pictures, DVC's metrics and plots, and a report a task that has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from seqlab.artifacts import read_json, write_json, write_text
from seqlab.cells import Cell
from seqlab.errors import UserError
from seqlab.evaluation import across, leaderboard, order, pictures, pictures_across, scores, seeds, transfer, verdict
from seqlab.evaluation.across import Aggregate, Result
from seqlab.evaluation.leaderboard import Entry, MeanCost, Row
from seqlab.evaluation.order import Worth
from seqlab.evaluation.settings import Comparing, Evaluation, PairEvaluation
from seqlab.evaluation.transfer import Key, Point, Spent
from seqlab.scratch import replacing
from seqlab.settings import Strategy
from seqlab.stages import ensembles
from seqlab.tasks.forecast.ways import sentence, way
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

    members: of a family that is made of others. threads: of a training. unfit: by domain, families that it is not
    for, and why. stretches: by domain, test examples a series where they are several. left_out: strategy, where, and
    the reason, of what the suite names and has no meaning.
    """

    cells: Sequence[Cell]
    domains: Mapping[str, Evaluation]
    judges: Mapping[str, str]
    judged: Mapping[str, Sequence[str]]
    strategies: Mapping[str, Strategy]
    replicates: int
    comparing: Comparing
    threads: int = 1
    unfit: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    stretches: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[tuple[str, str, str]] = ()
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)

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
    members = [c for c in comparison.cells if c.fraction == 1.0 and c.strategy not in shuffling]
    joined = ensembles.build(members, comparison.domains, whole, scored, comparison.comparing.rounds)
    ensembles.write_csv(joined, out / "ensembles.csv")
    whole += [one.entry for one in joined]
    rows = leaderboard.build(whole, replicates, seed=0)
    compared = [(entry, fraction) for entry, fraction in entries if entry.strategy in comparison.strategies]
    points, curves = transfer.build(compared, headlines, controls, trainings, replicates, seed=0)
    transfer.write_points(points, out / "transfer.csv")
    transfer.write_curves(curves, out / "transfer_summary.csv")
    leaderboard.write_csv(rows, out / "leaderboard.csv")
    leaderboard.write_metrics(rows, headlines, out / "metrics")
    leaderboard.write_plots(rows, headlines, out / "plots")
    baseline = leaderboard.named(comparison.comparing.baseline, leaderboard.SCRATCH)
    aggregates = across.aggregates(results(rows, headlines), baseline, replicates, seed=0)
    across.write_csv(aggregates, out / "across.csv")
    write_text(out / "across.md", across.markdown(aggregates, baseline))
    draw(comparison, rows, points, worths, aggregates, baseline, out / "pictures")
    costs = leaderboard.read_costs(out / "cost.csv")
    costs |= {key: cost.over(costs.get(key, cost)) for key, cost in read_costs(comparison, measured).items()}
    costs |= ensembles.costs(joined, costs)
    draw_seconds(comparison, rows, costs, out / "pareto")
    leaderboard.write_costs(costs, out / "cost.csv")
    decisions = decided(comparison, rows, whole, costs, points, ways_of(comparison, models))
    write_json(out / "verdicts.json", decisions)
    verdicts = {domain: told_of(made) for domain, made in decisions.items()}
    told = "".join(f"## {domain}\n\n{verdict}\n\n" for domain, verdict in verdicts.items())
    head = f"{seeds.told(counted(comparison.cells))}\n"
    table = leaderboard.markdown(rows, headlines, costs, ensembles.notes(joined))
    text = "\n".join(filter(None, (head, told, table, order.markdown(worths))))
    write_text(out / "leaderboard.md", text)
    own_costs = {key: cost for key, cost in costs.items() if key[3] in comparison.strategies}  # not another suite's
    seconds = {key: (cost.seconds, cost.pretraining_seconds) for key, cost in own_costs.items()}
    pairs = transfer.markdown(points, curves, seconds, list(comparison.left_out))
    write_text(out / "transfer.md", f"{head}\n{pairs}")
    for domain, tasks in comparison.judged.items():
        own = [entry for entry in whole if entry.domain == domain]
        for report in filter(None, map(report_of, tasks)):
            speeds = {
                key[1:]: cost.sentences_per_second
                for key, cost in own_costs.items()
                if key[0] == domain and cost.sentences_per_second is not None
            }
            page = report.markdown(domain, own, speeds, comparison.domains[domain], replicates)
            few = seeds.told(counted([cell for cell in comparison.cells if cell.domain == domain]))
            write_text(out / f"{domain}.md", f"{page.rstrip()}\n\n{few}\n")
    return Compared(rows, whole, costs, verdicts, text)


def results(rows: Sequence[Row], headlines: Mapping[str, Mapping[str, str]]) -> list[Result]:
    """Of every headline table, without controls; what was trained elsewhere may have seen any data there is."""
    own = [row for row in rows if not row.control]
    seen = {(row.system, row.domain) for row in own if row.strategy == leaderboard.OUTSIDE}
    return across.results(own, headlines, seen)


def counted(cells: Sequence[Cell]) -> dict[str, int]:
    """By system, its seeds."""
    return dict(Counter(f"{cell.domain}/{cell.family}/{cell.arm}" for cell in cells))


def decided(
    comparison: Comparison,
    rows: Sequence[Row],
    entries: Sequence[Entry],
    costs: Mapping[Key, MeanCost],
    points: Sequence[Point],
    ways: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, str]]:
    """By domain and task, what each headline table decides. ways: in which its networks forecast, by system.

    It quotes measured cost, so it is hashed nowhere.
    """

    def also(made: verdict.Verdict) -> Iterator[str]:
        _, at, steps = made.metric.partition("@")
        for row in rows:
            if at and row.table == (made.domain, made.task, f"coverage80@{steps}") and row.system == made.best:
                yield f"Its 80% intervals hold {row.value:.0%} [{row.low:.0%}, {row.high:.0%}] of what came."
        if (stretches := comparison.stretches.get(made.domain, 1)) > 1:
            yield (
                f"Of each series {stretches} stretches in a row are examples: intervals and p-values take them for "
                "independent, which they nearly are."
            )
        if made.task == "forecast" and made.domain in ways:
            yield sentence(ways[made.domain])

    found: dict[str, dict[str, str]] = {domain: {} for domain in comparison.headlines}
    for domain, task, table in headline_tables(comparison, rows):
        own = [entry for entry in entries if entry.domain == domain]
        made = verdict.verdict(table, own, costs, comparison.threads, points, comparison.unfit.get(domain, ()))
        found[domain][task] = verdict.sentences(made, list(also(made)))
    return found


def headline_tables(comparison: Comparison, rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    """Domain, task and rows of every headline table on which somebody was scored."""
    for domain, metrics in comparison.headlines.items():
        for task, metric in metrics.items():
            if table := [row for row in rows if row.table == (domain, task, metric)]:
                yield domain, task, table


def ways_of(comparison: Comparison, models: Path) -> dict[str, dict[str, str]]:
    """By domain and system, the way in which a network forecasts, where it had a choice; of each seed."""
    several = len({cell.seed for cell in comparison.cells}) > 1
    found: dict[str, dict[str, str]] = {}
    for cell in [cell for cell in comparison.cells if cell.fraction == 1.0]:
        if (own := way(read_json(models / cell.path / "report.json"))) is not None:
            system = f"{cell.family} {cell.strategy}" + (f" (seed {cell.seed})" if several else "")
            found.setdefault(cell.domain, {})[system] = own
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
    # Rules translate, and what is induced for them is words: no arithmetic.
    counted = [name for name, one in comparison.domains.items() if not isinstance(one, PairEvaluation)]
    for cell in comparison.cells:
        report = read_json(models / cell.path / "report.json")
        found = scores.read(scored / cell.path)
        source = pretraining(comparison, cell, models)
        tables = answered(comparison.domains[cell.domain].headline, report, comparison.judges)
        for task, details in report.items():
            own = found.of(*(table for table, model in tables.items() if model == task))
            names = (cell.domain, cell.family, cell.strategy, cell.seed)
            size = details["parameters"], details["steps"], details["flops"]
            if size[2] is None and cell.domain in counted:
                raise UserError(
                    f"{models / cell.path / 'report.json'}: {task} has no count of FLOPs; write {cell.family}'s formula"
                )
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
    """Steps and FLOPs behind what a cell starts from: none from scratch; of a student, those of its teacher; of what is
    made of other families, those behind its members.
    """
    strategy = comparison.strategies[cell.strategy]
    if strategy.teacher is not None:
        teacher = replace(cell, strategy=strategy.teacher)
        own = read_json(models / teacher.path / "report.json").values()
        steps, flops = pretraining(comparison, teacher, models)
        known = [flops, *(one["flops"] for one in own)]
        return steps + sum(one["steps"] for one in own), None if None in known else sum(known)
    if members := comparison.members.get(cell.family):
        behind = [pretraining(comparison, replace(cell, family=name), models) for name in members]
        counted_flops = [flops for _, flops in behind if flops is not None]
        return sum(steps for steps, _ in behind), sum(counted_flops) if len(counted_flops) == len(behind) else None
    if strategy.init != "pretrained":
        return 0, 0.0
    [only] = read_json(models / cell.source / "report.json").values()  # named after what was predicted
    return only["steps"], only["flops"]


def draw(
    comparison: Comparison,
    rows: Sequence[Row],
    points: Sequence[Point],
    worths: Sequence[Worth],
    aggregates: Sequence[Aggregate],
    baseline: str,
    folder: Path,
) -> None:
    """A picture of each headline table, of its quality against FLOPs, of what transfer brings, of that over shares of
    the target, of order, and of each group of tasks."""
    with replacing(folder) as made:
        made.mkdir()
        for domain, task, table in headline_tables(comparison, rows):
            pictures.leaderboard(table, made / f"{domain}-{task}.png")
            if any(row.gain_over_scratch is not None and not row.from_scratch for row in table):
                pictures.gains(table, made / f"{domain}-{task}-transfer.png")
            pareto(table, flops(table), "training FLOPs, pretraining included", made / f"{domain}-{task}-flops.png")
            curves = [point for point in points if (point.domain, point.task) == (domain, task)]
            if len({point.fraction for point in curves}) > 1:
                pictures.label_curves(curves, made / f"{domain}-{task}-labels.png")
        for domain, tasks in comparison.judged.items():
            for report in filter(None, map(report_of, tasks)):
                report.draw(domain, rows, comparison.domains[domain], made)
        if worths:
            pictures.order(worths, made / "order.png")
        for one in aggregates:
            if one.skills:
                pictures_across.skills(one.skills, baseline, one.group, made / f"across-{one.group}-skill.png")
            if one.ranks is not None:
                pictures_across.critical_difference(one.ranks, made / f"across-{one.group}-ranks.png")


def draw_seconds(comparison: Comparison, rows: Sequence[Row], costs: Mapping[Key, MeanCost], folder: Path) -> None:
    """Quality against seconds, of every headline table: measured, so in a folder that nothing hashes."""
    with replacing(folder) as made:
        made.mkdir()
        for domain, task, table in headline_tables(comparison, rows):
            spent = {
                key[2:]: cost.seconds + cost.judging_seconds
                for key, cost in costs.items()
                if key[:2] == (domain, task) and cost.judging_seconds is not None
            }
            unit = "seconds of training on the target and of judging"
            pareto(table, spent, unit, made / f"{domain}-{task}-seconds.png")


def pareto(table: Sequence[Row], costs: Mapping[tuple[str, str], float], unit: str, path: Path) -> None:
    """Where the cost of two systems is known."""
    found = across.offers([row for row in table if row.strategy != leaderboard.OUTSIDE], costs)
    if len(found) > 1:
        title = f"{table[0].domain}: {table[0].task}, quality against cost"
        pictures_across.pareto(found, table[0].metric, unit, title, path)


def flops(table: Sequence[Row]) -> dict[tuple[str, str], float]:
    """Of training and of the pretraining behind it, by family and strategy, where both are counted."""
    return {
        (row.family, row.strategy): row.train_flops + row.pretrain_flops
        for row in table
        if row.train_flops is not None and row.pretrain_flops is not None
    }


def read_costs(comparison: Comparison, measured: Measured) -> dict[Key, MeanCost]:
    """Means over seeds of what training and judging took, by table, of what ran here."""
    found: dict[Key, list[MeanCost]] = {}
    for cell in [cell for cell in comparison.cells if cell.fraction == 1.0]:
        costs, judged = (part.get(cell.path, {}) for part in (measured.trainings, measured.evaluations))
        begins = comparison.strategies[cell.strategy].init == "pretrained"
        source = [own["seconds"] for own in measured.pretrainings.get(cell.source, {}).values()] if begins else []
        headline = comparison.domains[cell.domain].headline
        for table, model in answered(headline, costs, comparison.judges).items():
            own, answering = costs[model], judged.get(table, {})
            cost = MeanCost(
                own["seconds"],
                own["symbols_per_second"],
                own["peak_memory_mb"],
                answering.get("seconds"),
                sum(source) / len(source) if source else None,
                answering.get("sentences_per_second"),
            )
            found.setdefault((cell.domain, table, cell.family, cell.strategy), []).append(cost)
    return {key: leaderboard.mean_cost(costs) for key, costs in found.items()}
