"""The comparison of all cells: one row a (domain, task, family, strategy, metric), and the files it is shown in.

Every row is compared three times on the same resampled examples, each time within its table (domain, task, metric), and
each kind of comparison is Holm-corrected over its table:

* with the best system of the table, controls included: `difference_from_best`, `p_holm`
* with the same family and seeds trained from scratch: `gain_over_scratch`, `gain_p_holm`
* with the best control of the table: `gain_over_control`, `control_p_holm`, `beats_control`

All differences are signed so that positive is better whatever the metric's direction; for a coverage, better is closer
to its nominal level. The best system and the best control are those of the test scores themselves, so the comparison
with the control is against the hardest of them. A system from elsewhere is quoted beside and never the best: what it
was trained on is not what the others were.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from seqlab import artifacts, scratch
from seqlab.errors import UserError
from seqlab.evaluation import kinds, seeds, significance
from seqlab.evaluation.metrics import Metric, features_of, label_of, metric_of, names_of, order_of
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.significance import ALPHA, least_p

CONTROL = "control"  # the strategy of a control's cell
OUTSIDE = kinds.OUTSIDE
ENSEMBLE = kinds.ENSEMBLE
SCRATCH = "scratch"


@dataclass(frozen=True)
class Entry:
    """One evaluated model. A control has strategy CONTROL and its own name as family, a system from elsewhere has
    strategy OUTSIDE, and one that joins others ENSEMBLE.
    """

    domain: str
    family: str
    strategy: str
    seed: int
    scores: Scores
    parameters: int | None = None
    train_steps: int | None = None
    train_flops: float | None = None
    pretrain_steps: int | None = None
    pretrain_flops: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard; None is an empty field.

    seeds: how many; with 1 the interval speaks of examples alone. between_seeds: standard deviation of the value from
    seed to seed, and seed_share: the share of the mean's variance that comes from the seeds; None of one seed.
    examples: how many were resampled. value: mean over seeds; low, high: its 95% interval. control: whether the row is
    a control. best: whether it leads its table. parameters, train_steps, train_flops and those of pretraining (0
    without any): means over seeds.
    """

    domain: str
    task: str
    family: str
    strategy: str
    seeds: int
    metric: str
    value: float
    low: float
    high: float
    control: bool
    gain_over_scratch: float | None
    gain_low: float | None
    gain_high: float | None
    p_holm: float | None
    parameters: float | None
    train_steps: float | None
    train_flops: float | None
    examples: int
    best: bool
    difference_from_best: float | None
    difference_low: float | None
    difference_high: float | None
    gain_p_holm: float | None
    best_control: str | None
    gain_over_control: float | None
    control_low: float | None
    control_high: float | None
    control_p_holm: float | None
    beats_control: bool | None
    pretrain_steps: float | None
    pretrain_flops: float | None
    between_seeds: float | None
    seed_share: float | None

    @property
    def table(self) -> tuple[str, str, str]:
        return self.domain, self.task, self.metric

    @property
    def from_scratch(self) -> bool:
        return self.strategy == SCRATCH

    @property
    def system(self) -> str:
        """A name for people."""
        return system_name(self)


# A signed difference, the ends of its interval, and its corrected p-value.
Gain = tuple[float | None, float | None, float | None, float | None]
NOTHING: Gain = (None, None, None, None)
COLUMNS = tuple(column.name for column in fields(Row))


@dataclass(frozen=True)
class MeanCost:
    """What one (domain, task, family, strategy) took to train and to judge, means over seeds. It differs from run to
    run.

    judging_seconds: of answering validation and test; None where that was not measured. What learns nothing beforehand,
    a model fitted at each origin or a nearest neighbour, spends its time there. pretraining_seconds: of what it begins
    with. sentences_per_second: in judging, of tasks that answer with sentences.
    """

    seconds: float
    symbols_per_second: float
    peak_memory_mb: float
    judging_seconds: float | None = None
    pretraining_seconds: float | None = None
    sentences_per_second: float | None = None

    def over(self, other: MeanCost) -> MeanCost:
        """These figures, and of those that were not measured the other's."""
        own = ((getattr(self, column.name), getattr(other, column.name)) for column in fields(MeanCost))
        return MeanCost(*(there if there is not None else before for there, before in own))


@dataclass(frozen=True)
class Resampled:
    """One row's numbers before it is compared.

    replicates: (B,) values of the metric on the resampled examples. left_out: (E,) values without each example, empty
    where there are enough examples for the bootstrap. features: (S, E, D) of each seed's examples.
    """

    family: str
    strategy: str
    cells: Sequence[Entry]
    value: float
    replicates: np.ndarray
    left_out: np.ndarray
    features: np.ndarray

    @property
    def control(self) -> bool:
        return self.strategy == CONTROL


# Rows


def build(cells: Sequence[Entry], replicates: int, seed: int) -> list[Row]:
    """Rows by domain, task and metric, best first.

    replicates: of the bootstrap. Raises UserError when two cells of a table were scored on different examples, or a
    cell is there twice.
    """
    members: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.domain, cell.family, cell.strategy, cell.seed)):
        for task, metric in names_of(cell.scores):
            members.setdefault((cell.domain, task), {}).setdefault(metric, []).append(cell)
    rows = []
    for (domain, task), by_metric in sorted(members.items()):
        tables = systems(domain, task, by_metric, replicates, seed)
        for metric in sorted(tables, key=order_of):
            rows += _compared(domain, task, metric, tables[metric])
    return rows


def systems(
    domain: str, task: str, by_metric: Mapping[str, list[Entry]], replicates: int, seed: int
) -> dict[str, list[Resampled]]:
    """The systems of each metric of one task. Metrics on the same examples share the draws, and one matrix product."""
    groups: dict[bytes, list[tuple[str, np.ndarray]]] = {}
    for metric, cells in by_metric.items():
        examples, first = features_of(cells[0].scores, task, metric)
        features = np.empty((len(examples), len(cells), first.shape[1]))
        for k, cell in enumerate(cells):
            found, part = features_of(cell.scores, task, metric)
            if not np.array_equal(found, examples) or part.shape != first.shape:
                raise UserError(
                    f"{_name(cell)}: {task} {metric} has {len(found)} examples, {_name(cells[0])} has {len(examples)},"
                    " and they are not the same; evaluate both again on the same data"
                )
            features[:, k] = part
        groups.setdefault(examples.tobytes(), []).append((metric, features))

    tables: dict[str, list[Resampled]] = {}
    draw_seed = artifacts.seed_of(seed, domain, task)
    for group in groups.values():
        flat = [features.reshape(len(features), -1) for _, features in group]
        sums = significance.resampled_sums(np.concatenate(flat, axis=1), replicates, draw_seed)
        edges = np.cumsum([part.shape[1] for part in flat])[:-1]
        for (metric, features), drawn in zip(group, np.split(sums, edges, axis=1), strict=True):
            reduce = metric_of(metric).reduce
            points = reduce(features.sum(0))
            values = reduce(drawn.reshape(replicates, *features.shape[1:]))
            left_out = significance.leave_one_out(features, reduce)
            tables[metric] = _over_seeds(by_metric[metric], features, points, values, left_out, draw_seed)
    return tables


def _over_seeds(
    cells: Sequence[Entry],
    features: np.ndarray,
    points: np.ndarray,
    values: np.ndarray,
    left_out: np.ndarray,
    seed: int,
) -> list[Resampled]:
    """Join the seeds of each system.

    features: (E, cells, D); points: (cells,); values: (B, cells); left_out: (E or 0, cells).
    """
    columns: dict[tuple[str, str], list[int]] = {}
    for k, cell in enumerate(cells):
        columns.setdefault((cell.family, cell.strategy), []).append(k)
    systems = []
    for (family, strategy), own in columns.items():
        numbers = [cells[k].seed for k in own]
        if len(set(numbers)) < len(numbers):
            raise UserError(f"{_name(cells[own[0]])}: two cells with one name; expected one for each seed")
        weights = significance.seed_weights(numbers, len(values), seed)
        drawn = (values[:, own] * weights).sum(1)
        without = left_out[:, own].mean(1)
        named, mean = [cells[k] for k in own], float(points[own].mean())
        each = features[:, own].transpose(1, 0, 2)
        systems.append(Resampled(family, strategy, named, mean, drawn, without, each))
    return systems


def _compared(domain: str, task: str, name: str, systems: list[Resampled]) -> list[Row]:
    metric = metric_of(name)
    systems = sorted(systems, key=lambda system: metric.loss(system.value))
    controls = [system for system in systems if system.control]
    families = [system for system in systems if not system.control]
    scratch = {system.family: system for system in families if system.strategy == SCRATCH}

    best = next((system for system in systems if system.strategy != OUTSIDE), systems[0])
    behind = _gains(metric, [(system, best) for system in systems if system is not best])
    transferred = [one for one in families if one.strategy != SCRATCH and one.family in scratch]
    gains = _gains(metric, [(system, scratch[system.family]) for system in transferred])
    # A scratch row is its own reference: its gain is zero by definition, and no hypothesis.
    gains |= {id(system): (0.0, 0.0, 0.0, None) for system in scratch.values()}
    against = _gains(metric, [(system, controls[0]) for system in families]) if controls else {}

    rows = []
    for system in systems:
        over_seeds = spread(metric, system)
        alone = over_seeds or significance.compared(system.value, system.replicates, system.left_out)
        difference, difference_low, difference_high, p_holm = behind.get(id(system), NOTHING)
        gain, gain_low, gain_high, gain_p_holm = gains.get(id(system), NOTHING)
        over, over_low, over_high, over_p = against.get(id(system), NOTHING)
        rows.append(
            Row(
                domain=domain,
                task=task,
                family=system.family,
                strategy=system.strategy,
                seeds=len(system.cells),
                metric=name,
                value=system.value,
                low=alone.low,
                high=alone.high,
                control=system.control,
                gain_over_scratch=gain,
                gain_low=gain_low,
                gain_high=gain_high,
                p_holm=p_holm,
                parameters=_mean(cell.parameters for cell in system.cells),
                train_steps=_mean(cell.train_steps for cell in system.cells),
                train_flops=_mean(cell.train_flops for cell in system.cells),
                examples=len(features_of(system.cells[0].scores, task, name)[0]),
                best=system is best,
                difference_from_best=difference,
                difference_low=difference_low,
                difference_high=difference_high,
                gain_p_holm=gain_p_holm,
                best_control=controls[0].family if controls else None,
                gain_over_control=over,
                control_low=over_low,
                control_high=over_high,
                control_p_holm=over_p,
                beats_control=None if over is None or over_p is None else over > 0 and over_p < ALPHA,
                pretrain_steps=_mean(cell.pretrain_steps for cell in system.cells),
                pretrain_flops=_mean(cell.pretrain_flops for cell in system.cells),
                between_seeds=None if over_seeds is None else over_seeds.between,
                seed_share=None if over_seeds is None else over_seeds.share,
            )
        )
    return rows


def _gains(metric: Metric, pairs: list[tuple[Resampled, Resampled]]) -> dict[int, Gain]:
    """How much less each first system loses than its second, Holm-corrected over all pairs; by id of the first."""
    found = [compared(metric, system, reference) for system, reference in pairs]
    adjusted = significance.holm([one.p for one in found])
    return {
        id(system): (one.difference, one.low, one.high, p)
        for (system, _), one, p in zip(pairs, found, adjusted, strict=True)
    }


def compared(metric: Metric, system: Resampled, reference: Resampled) -> significance.PairedDifference:
    """How much less `system` loses than `reference`, on the same examples; over seeds too where either has several."""
    loss = metric.loss
    if crossed(system) or crossed(reference):
        return seeds.difference(
            system.features, reference.features, _straight(metric, system), _straight(metric, reference)
        )
    return significance.compared(
        loss(reference.value) - loss(system.value),
        loss(reference.replicates) - loss(system.replicates),
        loss(reference.left_out) - loss(system.left_out),
    )


def _straight(metric: Metric, system: Resampled) -> Callable[[np.ndarray], np.ndarray]:
    """The loss of sums; how far from a nominal level, straight on through it, on the side where the system's mean is:
    what is folded there has another mean over seeds than the mean's own distance.
    """
    nominal = metric.better
    if isinstance(nominal, float):
        side = 1.0 if system.value >= nominal else -1.0
        return lambda sums: side * (metric.reduce(sums) - nominal)
    return lambda sums: metric.loss(metric.reduce(sums))


def crossed(system: Resampled) -> bool:
    """Whether its seeds are a second factor: there are several, and more examples than an exact test takes."""
    return len(system.cells) > 1 and not len(system.left_out)


def spread(metric: Metric, system: Resampled) -> seeds.Spread | None:
    """Its mean and interval over seeds and examples, where it has several seeds."""
    return seeds.spread(system.features, metric.reduce) if crossed(system) else None


@dataclass(frozen=True)
class Pair:
    """Two systems of a table, the better one first. p is Holm-corrected over all pairs of the table."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float


def pairs(cells: Sequence[Entry], task: str, metric: str, replicates: int, seed: int) -> list[Pair]:
    """Every two systems of one domain's table, on the same resamples as the leaderboard's rows."""
    members = sorted(
        (cell for cell in cells if (task, metric) in names_of(cell.scores)),
        key=lambda cell: (cell.family, cell.strategy, cell.seed),
    )
    rivals = systems(members[0].domain, task, {metric: members}, replicates, seed)[metric]
    judged = metric_of(metric)
    rivals.sort(key=lambda system: judged.loss(system.value))
    both = list(itertools.combinations(rivals, 2))
    found = [compared(judged, one, other) for one, other in both]
    corrected = significance.holm([one.p for one in found])
    return [
        Pair(system_name(one), system_name(other), made.difference, made.low, made.high, p)
        for (one, other), made, p in zip(both, found, corrected, strict=True)
    ]


def system_name(system: Entry | Row | Resampled) -> str:
    return named(system.family, system.strategy)


def named(family: str, strategy: str) -> str:
    """A name for people."""
    return family.replace("_", " ") if strategy == CONTROL else f"{family} · {strategy}"


def _mean(values: Any) -> float | None:
    """Mean over seeds of what every seed has."""
    values = list(values)
    return None if any(value is None for value in values) else sum(values) / len(values)


def _name(cell: Entry) -> str:
    return f"{cell.domain} {cell.family} {cell.strategy} seed {cell.seed}"


# Files


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Eight significant digits, `true` and `false`, empty for None: equal rows give equal bytes."""
    artifacts.write_text(path, csv_text(COLUMNS, [[field(getattr(row, name)) for name in COLUMNS] for row in rows]))


def read_csv(path: Path) -> list[Row]:
    """What `write_csv` wrote. Raises UserError where the file is missing or has other columns."""
    artifacts.check_file(path, artifacts.LONGEST_TEXT)
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        if tuple(lines.fieldnames or ()) != COLUMNS:
            raise UserError(f"{path}: its columns are not those of this version; run `seqlab repro` to write it anew")
        return [Row(**{one.name: _read(line[one.name], str(one.type)) for one in fields(Row)}) for line in lines]


def _read(text: str, kind: str) -> Any:
    if text == "" and kind.endswith(" | None"):
        return None
    kinds: Mapping[str, Any] = {"str": str, "int": int, "float": float, "bool": "true".__eq__}
    return kinds[kind.removesuffix(" | None")](text)


def write_metrics(rows: Sequence[Row], headlines: Mapping[str, Mapping[str, str]], folder: Path) -> None:
    """DOMAIN-TASK-METRIC.json of each headline, the value of every system: `dvc metrics show` makes a line of each."""
    with scratch.replacing(folder) as made:
        made.mkdir()
        for domain, metrics in headlines.items():
            for task, metric in metrics.items():
                tree: dict[str, Any] = {}
                for row in rows:
                    if row.table == (domain, task, metric):
                        tree.setdefault(row.family, {})[row.strategy] = float(field(row.value))
                artifacts.write_json(made / f"{domain}-{task}-{metric}.json", tree)


def write_plots(rows: Sequence[Row], headlines: Mapping[str, Mapping[str, str]], folder: Path) -> None:
    """DOMAIN-TASK.csv with the headline metric of each system, best first, for `dvc plots`."""
    with scratch.replacing(folder) as made:
        made.mkdir()
        for domain, task, metric in _headline_tables(rows, headlines):
            table = [row for row in rows if row.table == (domain, task, metric)]
            lines = [[row.system, *(field(value) for value in (row.value, row.low, row.high))] for row in table]
            (made / f"{domain}-{task}.csv").write_text(
                csv_text(("system", metric, "low", "high"), lines), encoding="utf-8"
            )


def read_costs(path: Path) -> dict[tuple[str, str, str, str], MeanCost]:
    """What `write_costs` wrote, or nothing when there is no such file."""
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {
            (r["domain"], r["task"], r["family"], r["strategy"]): MeanCost(
                *(float(r[c.name]) if r.get(c.name) else None for c in fields(MeanCost))  # type: ignore[arg-type]
            )
            for r in csv.DictReader(file)
        }


def write_costs(costs: Mapping[tuple[str, str, str, str], MeanCost], path: Path) -> None:
    """One line a (domain, task, family, strategy). It stands outside everything that is hashed."""
    names = ("domain", "task", "family", "strategy", *(column.name for column in fields(MeanCost)))
    lines = [[*key, *(field(getattr(cost, name)) for name in names[4:])] for key, cost in sorted(costs.items())]
    artifacts.write_text(path, csv_text(names, lines))


def mean_cost(costs: Sequence[MeanCost]) -> MeanCost:
    """The mean of each figure that all of them have."""
    found = ([getattr(one, column.name) for one in costs] for column in fields(MeanCost))
    return MeanCost(*(_mean(values) for values in found))  # type: ignore[arg-type]


def csv_text(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *lines])
    return text.getvalue()


def field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.8g}" if isinstance(value, float) else str(value)


# For people


def markdown(
    rows: Sequence[Row],
    headlines: Mapping[str, Mapping[str, str]],
    costs: Mapping[tuple[str, str, str, str], MeanCost] | None = None,
    notes: Mapping[tuple[str, str], Sequence[str]] = MappingProxyType({}),
) -> str:
    """A table for each domain and task, sorted by its headline metric, with notes.

    Other metrics of the headline's horizon stand beside it, and the headline's other horizons; the CSV has all.
    headlines: for each domain, the metric that ranks each task. costs: what to put beside the scores; with them the
    text differs from run to run. notes: more of them, by domain and task.
    """
    parts = []
    for domain, task, metric in _headline_tables(rows, headlines):
        table = [row for row in rows if row.table == (domain, task, metric)]
        scored = {row.metric for row in rows if row.table[:2] == (domain, task)} - {metric}
        others = sorted((name for name in scored if _beside(name, metric)), key=order_of)
        values = {(row.family, row.strategy, row.metric): row.value for row in rows if row.table[:2] == (domain, task)}
        header = ["", f"{label_of(metric)} [95%]", "behind the best", "p", "gain over scratch"]
        several = any(row.seeds > 1 for row in table)
        header += ["seeds", "deviation"] if several else []
        header += [other.replace("_", " ") for other in others] + ["parameters", "steps", "FLOPs"]
        header += ["seconds", "symbols/s", "peak MB", "judging s"] if costs is not None else []
        lines = [header, [":--", *["--:"] * (len(header) - 1)]]
        for row in table:
            system = f"*{row.system}*" if row.control else row.system
            line = [f"**{system}**" if row.best else system, f"{_short(row.value)} {_interval(row.low, row.high)}"]
            if row.difference_from_best is None:
                line += ["–", "–"]
            else:
                # The column says how far behind, so its sign is turned, and the ends of the interval change places.
                behind = 0 - row.difference_from_best, 0 - (row.difference_high or 0), 0 - (row.difference_low or 0)
                line += [f"{_short(behind[0])} {_interval(*behind[1:])}", _p(row.p_holm)]
            own_gain = row.gain_over_scratch is not None and row.strategy != SCRATCH
            line.append(f"{row.gain_over_scratch:+.3g} {_interval(row.gain_low, row.gain_high)}" if own_gain else "–")
            line += ["–" if row.control else str(row.seeds), _short(row.between_seeds)] if several else []
            line += [_short(values.get((row.family, row.strategy, other))) for other in others]
            line += [_count(row.parameters), _count(row.train_steps), _count(row.train_flops)]
            if costs is not None:
                cost = costs.get((domain, task, row.family, row.strategy))
                line += ["–"] * 4 if cost is None else _cost_fields(cost)
            lines.append(line)
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        told = "\n".join(f"- {note}" for note in (*_notes(table, metric), *notes.get((domain, task), ())))
        parts.append(f"### {domain}: {task}\n\n{text}\n\n{told}\n")
    return "\n".join(parts)


def _beside(name: str, headline: str) -> bool:
    return any(
        own == other for own, other in zip(name.partition("@"), headline.partition("@"), strict=True) if own != "@"
    )


def _headline_tables(rows: Sequence[Row], headlines: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str, str]]:
    """The (domain, task, headline metric) of every table. Raises UserError when one is not named or was not scored."""
    tables = []
    present = {row.table for row in rows}
    for domain, task in sorted({row.table[:2] for row in rows}):
        metric = headlines.get(domain, {}).get(task)
        if metric is None or (domain, task, metric) not in present:
            scored = sorted((one[2] for one in present if one[:2] == (domain, task)), key=order_of)
            raise UserError(f"headline metric of {domain} {task} is {metric!r}; expected one of {', '.join(scored)}")
        tables.append((domain, task, metric))
    return tables


def _notes(table: list[Row], metric: str) -> list[str]:
    notes = []
    best = next(row for row in table if row.best)
    families = [row for row in table if not row.control]
    outside = [row for row in table if row.strategy == OUTSIDE and row is not best]
    target = metric_of(metric).better
    better: Literal["lower", "higher"] | str = target if isinstance(target, str) else f"closer to {target:g}"
    notes.append(f"{best.examples} examples; {better} is better; controls in italics; p is Holm-corrected here.")
    tied = [row.system for row in table if row.p_holm is not None and row.p_holm >= ALPHA and row not in outside]
    least = least_p(best.examples, len(table) - 1)
    if least > ALPHA and len(table) > 1:
        notes.append(f"Too few examples to tell any two systems apart: no p can be below {least:.3g} here.")
    elif len(table) > 1:
        others = "all others that learned here" if outside else "all others"
        rest = f"not distinguishable from it: {', '.join(tied)}" if tied else f"{others} are significantly worse"
        notes.append(f"Best: {best.system}; {rest}.")
    if outside:
        told = ", ".join(f"{row.system} {_short(row.value)}" for row in outside)
        notes.append(f"Quoted beside, since it was trained elsewhere: {told}.")
    control = best.best_control
    if control is not None:
        name = control.replace("_", " ")
        lost = [row.system for row in families if (row.gain_over_control or 0) <= 0]
        unsure = [row.system for row in families if (row.gain_over_control or 0) > 0 and not row.beats_control]
        if lost:
            notes.append(f"Do not beat the best control ({name}): {', '.join(lost)}.")
        if unsure:
            notes.append(f"Ahead of the best control ({name}), but not significantly: {', '.join(unsure)}.")
        if families and not lost and not unsure:
            notes.append(f"All families beat the best control ({name}).")
    for verdict, sign in (("helps", 1), ("hurts (negative transfer)", -1)):
        sure = [row for row in families if row.gain_p_holm is not None and row.gain_p_holm < ALPHA]
        if moved := [row.system for row in sure if (row.gain_over_scratch or 0) * sign > 0]:
            notes.append(f"Transfer {verdict}: {', '.join(moved)}.")
    if several := [row for row in families if row.between_seeds is not None]:
        counts = " or ".join(map(str, sorted({row.seeds for row in several})))
        notes.append(
            f"Mean and interval over {counts} seeds and all examples: {', '.join(row.system for row in several)}."
        )
    if single := [row.system for row in families if row.seeds == 1]:
        whose = "every system" if len(single) == len(families) else ", ".join(single)
        notes.append(f"One seed, so the interval speaks of examples and not of training: {whose}.")
    return notes


def _cost_fields(cost: MeanCost) -> list[str]:
    memory, judging = _short(cost.peak_memory_mb), _short(cost.judging_seconds)
    return [_short(cost.seconds), _count(cost.symbols_per_second), memory, judging]


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _interval(low: float | None, high: float | None) -> str:
    if low is not None and np.isinf(low):
        return "[too few]"
    return f"[{_short(low)}, {_short(high)}]"


def _p(value: float | None) -> str:
    return "–" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _count(value: float | None) -> str:
    """1,234 or 5.6e+09."""
    return "–" if value is None else f"{value:,.0f}" if value < 1e7 else f"{value:.2g}"
