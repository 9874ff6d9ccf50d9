"""What a source is worth: each strategy against its control on nested shares of the target, and what that costs.

A point is one (domain, task, headline metric, family, strategy, fraction). It is compared with its control (scratch,
unless the strategy names another) on the same fraction, seeds and resampled examples; p-values are Holm-corrected over
all points of the same table and fraction. All gains are signed so that positive is better.

A curve joins the points of one strategy. Its area is the mean gain over the logarithm of the fraction; `reached` is the
fraction, interpolated on that scale, at which it comes up to its control on the whole target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np

from seqlab.artifacts import write_text
from seqlab.evaluation import significance
from seqlab.evaluation.leaderboard import Entry, Resampled, compared, csv_text, field, systems
from seqlab.evaluation.metrics import label_of, metric_of, names_of
from seqlab.evaluation.significance import ALPHA

Key = tuple[str, str, str, str]  # domain, task, family, strategy


@dataclass(frozen=True)
class Point:
    """A strategy on one fraction. gain and what follows are None for a control."""

    domain: str
    task: str
    metric: str
    family: str
    strategy: str
    fraction: float
    seeds: int
    value: float
    low: float
    high: float
    control: str
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    p_holm: float | None

    @property
    def verdict(self) -> str:
        """helps, hurts (negative transfer), or nothing where it is not decided."""
        if self.gain is None or self.p_holm is None or self.p_holm >= ALPHA:
            return ""
        return "helps" if self.gain > 0 else "hurts"


@dataclass(frozen=True)
class Curve:
    """A strategy over all its fractions. area: None with fewer than two. reached: None where it never comes up to that,
    or where the control was not tried on the whole target.

    saved_steps: how many steps sooner than its control it reaches the control's best validation loss, on the largest
    common fraction; break_even: target tasks after which the FLOPs of those steps have paid for pretraining; None where
    nothing is saved or, in closed form, nothing is counted.
    """

    domain: str
    task: str
    metric: str
    family: str
    strategy: str
    control: str
    area: float | None
    area_low: float | None
    area_high: float | None
    reached: float | None
    steps: float | None
    flops: float | None
    pretrain_steps: float | None
    pretrain_flops: float | None
    saved_steps: float | None
    break_even: float | None


@dataclass(frozen=True)
class Spent:
    """What one cell's task took. curve: (step, validation loss) of every validation; empty in closed form."""

    steps: int
    flops: float | None
    pretrain_steps: int
    pretrain_flops: float | None
    curve: list[tuple[int, float]]


Trainings = Mapping[tuple[Key, float], Sequence[Spent]]  # by fraction, in order of the seeds


def build(
    cells: Sequence[tuple[Entry, float]],
    headlines: Mapping[str, Mapping[str, str]],
    controls: Mapping[str, str],
    trainings: Trainings,
    replicates: int,
    seed: int,
) -> tuple[list[Point], list[Curve]]:
    """Points and curves of all cells, each given with its fraction. controls: of the strategies that name one."""
    points, curves = [], []
    for domain, tasks in headlines.items():
        for task, metric in tasks.items():
            own = [
                (cell, share)
                for cell, share in cells
                if cell.domain == domain and (task, metric) in names_of(cell.scores)
            ]
            shares: dict[tuple[str, str], dict[float, Resampled]] = {}
            # The fraction is part of the system's name, so that all of them share the resampled examples.
            named = [_renamed(cell, share) for cell, share in own]
            for system in systems(domain, task, {metric: named}, replicates, seed).get(metric, []) if named else ():
                strategy, _, share = system.strategy.rpartition("@")
                shares.setdefault((system.family, strategy), {})[float(share)] = system
            points += _points((domain, task, metric), shares, controls)
            curves += _curves((domain, task, metric), shares, controls, trainings)
    return points, curves


def _renamed(cell: Entry, share: float) -> Entry:
    return Entry(cell.domain, cell.family, f"{cell.strategy}@{share:g}", cell.seed, cell.scores)


def _points(
    table: tuple[str, str, str],
    shares: Mapping[tuple[str, str], Mapping[float, Resampled]],
    controls: Mapping[str, str],
) -> list[Point]:
    metric = metric_of(table[2])
    found: dict[tuple[str, str, float], significance.PairedDifference] = {}
    adjusted: dict[tuple[str, str, float], float] = {}
    for share in sorted({share for own in shares.values() for share in own}):
        for (family, strategy), own in shares.items():
            reference = shares.get((family, controls[strategy]), {}).get(share)
            if share in own and reference is not None and own[share] is not reference:
                found[family, strategy, share] = compared(metric, own[share], reference)
        keys = [key for key in found if key[2] == share]
        adjusted |= dict(zip(keys, significance.holm([found[key].p for key in keys]), strict=True))
    points = []
    for (family, strategy), own in sorted(shares.items()):
        for share, system in sorted(own.items()):
            one = found.get((family, strategy, share))
            alone = significance.compared(system.value, system.replicates, system.left_out)
            points.append(
                Point(
                    *table,
                    family=family,
                    strategy=strategy,
                    fraction=share,
                    seeds=len(system.cells),
                    value=system.value,
                    low=alone.low,
                    high=alone.high,
                    control=controls[strategy],
                    gain=None if one is None else one.difference,
                    gain_low=None if one is None else one.low,
                    gain_high=None if one is None else one.high,
                    p_holm=adjusted.get((family, strategy, share)),
                )
            )
    return points


def _curves(
    table: tuple[str, str, str],
    shares: Mapping[tuple[str, str], Mapping[float, Resampled]],
    controls: Mapping[str, str],
    trainings: Trainings,
) -> list[Curve]:
    domain, task, name = table
    loss = metric_of(name).loss
    curves = []
    for (family, strategy), own in sorted(shares.items()):
        control = controls[strategy]
        reference = shares.get((family, control), {})
        common = sorted(set(own) & set(reference))
        if strategy == control or not common:
            continue
        area = None
        if len(common) > 1:
            weights = log_weights(common)
            both = [(reference[share], own[share]) for share in common]
            gained = [loss(control.value) - loss(system.value) for control, system in both]
            drawn = np.stack([loss(control.replicates) - loss(system.replicates) for control, system in both])
            left_out = np.stack([loss(control.left_out) - loss(system.left_out) for control, system in both])
            area = significance.compared(float(weights @ gained), weights @ drawn, weights @ left_out)
        goal = loss(reference[1.0].value) if 1.0 in reference else -math.inf
        key, against = ((domain, task, family, who) for who in (strategy, control))
        took, took_control = (trainings[of, common[-1]] for of in (key, against))
        curves.append(
            Curve(
                *table,
                family=family,
                strategy=strategy,
                control=control,
                area=None if area is None else area.difference,
                area_low=None if area is None else area.low,
                area_high=None if area is None else area.high,
                reached=reached([(share, loss(own[share].value)) for share in sorted(own)], goal),
                steps=_mean([one.steps for one in took]),
                flops=_mean([one.flops for one in took]),
                pretrain_steps=_mean([one.pretrain_steps for one in took]),
                pretrain_flops=_mean([one.pretrain_flops for one in took]),
                saved_steps=(saved := saved_steps(took, took_control)),
                break_even=break_even(took, took_control, saved),
            )
        )
    return curves


def log_weights(shares: Sequence[float]) -> np.ndarray:
    """Weights of the trapezoidal mean over log(share); they sum to one."""
    x = np.log(shares)
    gaps = np.diff(x)
    weights = np.zeros(len(x))
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    weights /= weights.sum()
    return weights


def reached(curve: Sequence[tuple[float, float]], goal: float) -> float | None:
    """The least fraction at which the loss is `goal` or lower, between two fractions on a logarithmic scale."""
    if curve[0][1] <= goal:
        return curve[0][0]
    for (share, before), (after_share, after) in pairwise(curve):
        if after <= goal:
            way = (before - goal) / (before - after)
            return math.exp((1 - way) * math.log(share) + way * math.log(after_share))
    return None


def saved_steps(took: Sequence[Spent], control: Sequence[Spent]) -> float | None:
    """Mean over seeds of how much sooner the control's best validation loss is reached; None where one never does."""
    saved = []
    for one, other in zip(took, control, strict=True):
        if not one.curve or not other.curve:
            return None
        best = min(loss for _, loss in other.curve)
        first = next((step for step, loss in one.curve if loss <= best), None)
        if first is None:
            return None
        saved.append(next(step for step, loss in other.curve if loss == best) - first)
    return sum(saved) / len(saved)


def break_even(took: Sequence[Spent], control: Sequence[Spent], saved: float | None) -> float | None:
    """Target tasks whose saved FLOPs equal those of pretraining, rounded up."""
    spent, flops = _mean([one.pretrain_flops for one in took]), _mean([one.flops for one in control])
    steps = _mean([one.steps for one in control])
    if not spent or not flops or not steps or saved is None or saved <= 0:
        return None
    return math.ceil(spent / (flops / steps * saved))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


# Files


def write_points(points: Sequence[Point], path: Path) -> None:
    """One line a point, with its verdict."""
    names = [column.name for column in fields(Point)]
    lines = [[*(field(getattr(point, name)) for name in names), point.verdict] for point in points]
    write_text(path, csv_text([*names, "verdict"], lines))


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """One line a curve."""
    names = [column.name for column in fields(Curve)]
    write_text(path, csv_text(names, [[field(getattr(curve, name)) for name in names] for curve in curves]))


def markdown(
    points: Sequence[Point],
    curves: Sequence[Curve],
    seconds: Mapping[Key, tuple[float | None, float | None]],
    left_out: Sequence[tuple[str, str, str]],
) -> str:
    """One table over all domains, what hurts, and where a strategy has no meaning.

    seconds: of training on the target and of pretraining, which differ from run to run. left_out: (strategy, where,
    reason).
    """
    shares = sorted({point.fraction for point in points})
    gains = {(p.domain, p.task, p.family, p.strategy, p.fraction): p for p in points}
    header = ["", *(f"gain at {share:.3g}" for share in shares), "area [95%]", "labels saved"]
    header += ["steps + pretraining", "FLOPs + pretraining", "seconds + pretraining", "pays after"]
    lines = [header, [":--", *["--:"] * (len(header) - 1)]]
    for curve in curves:
        key = curve.domain, curve.task, curve.family, curve.strategy
        against = "" if curve.control == "scratch" else f" against {curve.control}"
        name = f"{curve.domain} {curve.task} ({label_of(curve.metric)}): {curve.family} · {curve.strategy}{against}"
        line = [name, *(_gain(gains.get((*key, share))) for share in shares)]
        line.append("–" if curve.area is None else f"{curve.area:+.3g} [{curve.area_low:.3g}, {curve.area_high:.3g}]")
        line.append("–" if curve.reached is None else f"{1 - curve.reached:.0%}")
        line.append(_both(curve.steps, curve.pretrain_steps))
        line.append(_both(curve.flops, curve.pretrain_flops))
        line.append(_both(*seconds.get(key, (None, None))))
        line.append("–" if curve.break_even is None else f"{curve.break_even:,.0f} tasks")
        lines.append(line)
    text = ["\n".join("| " + " | ".join(line) + " |" for line in lines), ""]
    text.append(
        f"Gains over the control on the same share of the target; **bold**: p < {ALPHA} after Holm's correction."
    )
    hurt = [f"{p.domain} {p.task} {p.family} · {p.strategy} at {p.fraction:g}" for p in points if p.verdict == "hurts"]
    text.append(f"Negative transfer, significant: {', '.join(hurt) if hurt else 'none'}.")
    if left_out:
        text += ["", "Not applicable:", ""]
        text += [f"- {strategy}, {where}: {reason}" for strategy, where, reason in left_out]
    return "\n".join(text) + "\n"


def _gain(point: Point | None) -> str:
    if point is None or point.gain is None:
        return "–"
    text = f"{point.gain:+.3g}"
    return {"helps": f"**{text}**", "hurts": f"**{text}** (hurts)", "": text}[point.verdict]


def _both(target: float | None, pretraining: float | None) -> str:
    return " + ".join("–" if value is None else f"{value:.3g}" for value in (target, pretraining))
