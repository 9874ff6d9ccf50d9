"""Systems across tasks: skill and win rate against one baseline, average ranks, and quality against cost.

* Skill score: 1 - the geometric mean over tasks of a system's error relative to the baseline's, each kept within
  BOUNDS; win rate: the share of tasks on which it is ahead, ties counting a half; as in fev (Shchur et al. 2025). The
  skill's interval is the bootstrap's over tasks, or of few tasks the exact one of `significance`; that of the win rate
  is Clopper and Pearson's (1934), since resamples of nothing but wins have no spread.
* Average ranks with Friedman's test and Nemenyi's critical difference (Demšar 2006).
* Pareto front: the systems than which none is both better and cheaper.

An error is what a headline metric leaves to be gained, on a scale of ratios: the metric itself where lower is better,
the exponential of a likelihood of densities (which has no zero), what is missing to the best value where higher is
better. A system that saw a task's data elsewhere is marked, and the task is left out of its aggregates; so is one that
it does not apply to. Ranks are of the systems that have every task, and on tasks that none of them saw.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqlab.artifacts import write_text
from seqlab.errors import UserError
from seqlab.evaluation.leaderboard import Row, csv_text, field
from seqlab.evaluation.metrics import metric_of
from seqlab.evaluation.significance import ALPHA, compared, leave_one_out, resampled_sums

BOUNDS = 0.01, 100.0  # of a relative error: one task where the baseline fails is not to decide everything
BEST = {"chrf++": 100.0, "bleu": 100.0}  # of metrics of which higher is better; of the others, shares, 1


@dataclass(frozen=True)
class Result:
    """A system's error on one task, at least 0. seen: the system saw this task's data elsewhere."""

    system: str
    task: str
    error: float
    seen: bool = False


@dataclass(frozen=True)
class Skill:
    """A system against the baseline over `tasks` tasks, with 95% intervals over tasks. left_out: tasks it has seen."""

    system: str
    tasks: int
    skill: float
    skill_low: float
    skill_high: float
    wins: float
    wins_low: float
    wins_high: float
    left_out: list[str]


@dataclass(frozen=True)
class Ranks:
    """Average ranks, the best system first, over `tasks` tasks.

    p: Friedman's, of "all are alike". critical: the least difference of two average ranks that is significant at ALPHA.
    alike: (first, last) positions of the largest groups that no such difference parts. left_out: systems without every
    task, and tasks that one of the ranked systems has seen.
    """

    systems: list[str]
    ranks: list[float]
    tasks: int
    p: float
    critical: float
    alike: list[tuple[int, int]]
    left_out: list[str]


@dataclass(frozen=True)
class Offer:
    """What a system gives and takes on one task. cost: FLOPs or seconds. front: on the Pareto front."""

    system: str
    value: float
    cost: float
    control: bool
    front: bool


def error_of(metric: str, value: float) -> float:
    """What is left to be gained, at least 0: the smaller, the better."""
    name = metric.partition("@")[0]
    better = metric_of(metric).better
    if isinstance(better, float):
        return abs(value - better)
    if better == "higher":
        return max(0.0, BEST.get(name, 1.0) - value)
    return math.exp(value) if name == "nll" else value


def results(
    rows: Sequence[Row], headlines: Mapping[str, Mapping[str, str]], seen: Collection[tuple[str, str]] = ()
) -> list[Result]:
    """Of every headline table; a task is called DOMAIN TASK. seen: (system, domain) pairs that are not new to it."""
    return [
        Result(
            row.system, f"{row.domain} {row.task}", error_of(row.metric, row.value), (row.system, row.domain) in seen
        )
        for row in rows
        if headlines.get(row.domain, {}).get(row.task) == row.metric
    ]


def skills(found: Sequence[Result], baseline: str, replicates: int, seed: int) -> list[Skill]:
    """Of every system but the baseline, those of most tasks first, of them the most skilful.

    Only tasks of the baseline count. Raises UserError when there is no such system.
    """
    reference = {one.task: one.error for one in found if one.system == baseline and not one.seen}
    if not reference:
        named = ", ".join(sorted({one.system for one in found}))
        raise UserError(f"baseline {baseline!r}: no such system; expected one of {named}")
    tasks = sorted(reference)
    counts = resampled_sums(np.eye(len(tasks)), replicates, seed)  # the same resampled tasks for every system
    skilled = []
    for system in sorted({one.system for one in found} - {baseline}):
        own = {one.task: one.error for one in found if one.system == system and not one.seen and one.task in reference}
        if not own:
            continue
        present = np.array([task in own for task in tasks])
        relative = np.array([_relative(own[task], reference[task]) if task in own else 1.0 for task in tasks])
        logs = np.log(relative) * present
        wins = ((relative < 1) + 0.5 * (relative == 1)) * present
        drawn = counts @ present
        some = drawn > 0  # a resample may have none of its tasks
        left_out = leave_one_out(np.stack([logs, present], axis=1)[present], lambda sums: sums[..., 0] / sums[..., 1])
        mean = compared(float(logs.sum() / len(own)), (counts @ logs)[some] / drawn[some], left_out)
        skilled.append(
            Skill(
                system,
                len(own),
                1 - math.exp(logs.sum() / len(own)),
                1 - math.exp(mean.high),
                1 - math.exp(mean.low),
                float(wins.sum() / len(own)),
                *_share_interval(float(wins.sum()), len(own)),
                sorted(one.task for one in found if one.system == system and one.seen),
            )
        )
    return sorted(skilled, key=lambda one: (-one.tasks, -one.skill))


def _share_interval(hits: float, size: int) -> tuple[float, float]:
    """Clopper and Pearson's 95% interval of hits / size."""
    from scipy.special import betaincinv

    low = float(betaincinv(hits, size - hits + 1, ALPHA / 2)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, size - hits, 1 - ALPHA / 2)) if hits < size else 1.0
    return low, high


def _relative(error: float, reference: float) -> float:
    if error == reference:
        return 1.0
    low, high = BOUNDS
    return high if reference == 0 else min(max(error / reference, low), high)


def ranks(found: Sequence[Result]) -> Ranks | None:
    """Of the systems that have every task; None with fewer than three systems or two tasks."""
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    every = sorted({one.task for one in found})
    errors: dict[str, dict[str, float]] = {}
    for one in found:
        errors.setdefault(one.system, {})[one.task] = one.error
    systems = sorted(system for system, own in errors.items() if len(own) == len(every))
    seen = {one.task for one in found if one.seen and one.system in systems}
    tasks = [task for task in every if task not in seen]
    if len(systems) < 3 or len(tasks) < 2:
        return None
    table = np.array([[errors[system][task] for system in systems] for task in tasks])
    mean = rankdata(table, axis=1).mean(0)
    order = np.argsort(mean, kind="stable")
    size = len(systems)
    # The studentised range over the square root of two (Demšar 2006, section 3.2.2).
    quantile = float(studentized_range.ppf(1 - ALPHA, size, np.inf)) / math.sqrt(2)
    critical = quantile * math.sqrt(size * (size + 1) / (6 * len(tasks)))
    p = 1.0 if (table == table[:, :1]).all() else float(friedmanchisquare(*table.T).pvalue)
    return Ranks(
        systems=[systems[k] for k in order],
        ranks=mean[order].tolist(),
        tasks=len(tasks),
        p=p,
        critical=critical,
        alike=_alike(mean[order], critical),
        left_out=sorted(set(errors) - set(systems)) + sorted(seen),
    )


def _alike(mean: np.ndarray, critical: float) -> list[tuple[int, int]]:
    """The largest runs of two or more rising ranks that span no more than the critical difference."""
    ends = np.searchsorted(mean, mean + critical, side="right") - 1
    return [
        (first, int(last)) for first, last in enumerate(ends) if last > first and (first == 0 or last > ends[first - 1])
    ]


def offers(table: Sequence[Row], costs: Mapping[tuple[str, str], float]) -> list[Offer]:
    """Of one table's rows whose cost is known, the cheapest first. costs: of (family, strategy)."""
    known = [(row, costs[row.family, row.strategy]) for row in table if (row.family, row.strategy) in costs]
    if not known:
        return []
    loss = metric_of(known[0][0].metric).loss
    front = pareto(np.array([[cost, loss(row.value)] for row, cost in known]))
    found = [
        Offer(row.system, row.value, cost, row.control, bool(on)) for (row, cost), on in zip(known, front, strict=True)
    ]
    return sorted(found, key=lambda one: (one.cost, one.system))


def pareto(points: np.ndarray) -> np.ndarray:
    """(N,) bool of points (N, D), less being better: whether no other is at least as good in all and better in one."""
    dominated = [((points <= one).all(1) & (points < one).any(1)).any() for one in points]
    return ~np.array(dominated, bool)


# A comparison's


ALL = "all"


@dataclass(frozen=True)
class Aggregate:
    """Of one group of tasks: those of one table over its domains, or all. skills: empty where the baseline has none of
    the group's tasks.
    """

    group: str
    tasks: list[str]
    skills: list[Skill]
    ranks: Ranks | None


def aggregates(found: Sequence[Result], baseline: str, replicates: int, seed: int) -> list[Aggregate]:
    """Of all tasks, and of each table that has several domains: one of a single task is its leaderboard."""
    groups = {ALL: list(found)}
    for one in found:
        groups.setdefault(one.task.split(" ", 1)[1], []).append(one)
    made = []
    for group, own in groups.items():
        tasks = sorted({one.task for one in own})
        if len(tasks) < 2:
            continue
        known = any(one.system == baseline and not one.seen for one in own)
        skilled = skills(own, baseline, replicates, seed) if known else []
        made.append(Aggregate(group, tasks, skilled, ranks(own)))
    return made


COLUMNS = ("group", "system", "tasks", *("skill", "skill_low", "skill_high", "wins", "wins_low", "wins_high"), "rank")


def write_csv(found: Sequence[Aggregate], path: Path) -> None:
    """A line a group and system; rank is empty where a system lacks a task of its group, skill where the baseline does,
    and the bounds of an interval where there are too few tasks for one.
    """
    lines = []
    for one in found:
        rank = {} if one.ranks is None else dict(zip(one.ranks.systems, one.ranks.ranks, strict=True))
        skilled = {own.system: own for own in one.skills}
        for system in dict.fromkeys([*skilled, *rank]):
            own = skilled.get(system)
            numbers = [None if own is None else getattr(own, name) for name in COLUMNS[2:-1]]
            finite = [None if value is None or not math.isfinite(value) else value for value in numbers]
            lines.append([field(value) for value in (one.group, system, *finite, rank.get(system))])
    write_text(path, csv_text(COLUMNS, lines))


def markdown(found: Sequence[Aggregate], baseline: str) -> str:
    """A table for each group of tasks, in the order of `skills`, with what its test of ranks says."""
    parts = [
        f"Skill is 1 - the geometric mean over tasks of the error relative to {baseline}, a win an error below its;"
        " intervals are over tasks, so of few tasks they are wide or none, and systems of other tasks are not to be"
        " compared: those of most tasks stand first. Rank is the average over the tasks of the"
        " group, of the systems that have them all. Controls stand in the tables alone; systems marked `outside` saw"
        " data elsewhere and are left out."
    ]
    for one in found:
        rank = {} if one.ranks is None else dict(zip(one.ranks.systems, one.ranks.ranks, strict=True))
        lines = ["| system | tasks | skill [95%] | win rate [95%] | average rank |", "|:--|--:|--:|--:|--:|"]
        for own in one.skills:
            skill = f"{own.skill:+.3f}{_bounds(own.skill_low, own.skill_high)}"
            wins = f"{own.wins:.2f}{_bounds(own.wins_low, own.wins_high)}"
            mean = f"{rank[own.system]:.2f}" if own.system in rank else "–"
            lines.append(f"| {own.system} | {own.tasks} | {skill} | {wins} | {mean} |")
        if not one.skills:
            lines = [f"No skill: {baseline} has none of these tasks."]
        told = f"Tasks: {', '.join(one.tasks)}."
        if one.ranks is not None:
            told += (
                f" Friedman's p that all {len(one.ranks.systems)} ranked systems are alike is {one.ranks.p:.2g} over"
                f" {one.ranks.tasks} tasks; two average ranks differ significantly from {one.ranks.critical:.2f} on."
            )
        else:
            told += " No ranks: fewer than three systems have all of them."
        parts.append(f"## {one.group.replace('_', ' ')}\n\n" + "\n".join(lines) + f"\n\n{told}")
    return "# Across tasks\n\n" + "\n\n".join(parts) + "\n"


def _bounds(low: float, high: float) -> str:
    return f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) and math.isfinite(high) else " [too few]"
