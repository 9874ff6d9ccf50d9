"""What a table says, decided once: the best system, what it cannot be told apart from, what it beats and at what cost.

The rows hold the tests (leaderboard); the scores of each example say how small a difference this test set could have
shown, so that "not distinguishable" is read as what it is. Whether more data would help is read off the nested shares
of the target where the best system was trained on some.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from seqlab.evaluation import significance
from seqlab.evaluation.leaderboard import OUTSIDE, Entry, MeanCost, Row
from seqlab.evaluation.metrics import features_of, label_of, metric_of, names_of
from seqlab.evaluation.significance import ALPHA
from seqlab.evaluation.transfer import Point


@dataclass(frozen=True)
class Ahead:
    """By how much the best system is ahead of another, positive whatever the metric, with its 95% interval."""

    system: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Growth:
    """What the last share of the target brought: the metric's gain from `share` of it to all, positive is better."""

    share: float
    gain: float
    helps: bool  # whether the gain is more than the test set can tell from none


@dataclass(frozen=True)
class Verdict:
    """One table's.

    tied: not significantly behind the best, nearest first. beaten: significantly behind, nearest first; both as they
    stand after Holm's correction. opponent: the best control, or the best family where a control is best. detectable:
    the least true difference from the best's nearest rival that a paired test on these examples finds in four cases of
    five; None where there is no rival. least_p: the least that a p of this table could be. small: the best is not
    significantly ahead of its opponent, and the test set could not have shown the difference that was seen; needed:
    examples that could. core_seconds: of the best system's training and judging, peak_mb: of its training, None where
    unknown. cheapest: of the best and its equals, with its core seconds. growth: None without nested shares.
    not_applicable: systems that the table lacks, and why. outside: systems from elsewhere and their values, which
    decide nothing.
    """

    domain: str
    task: str
    metric: str
    best: str
    control: bool
    value: float
    low: float
    high: float
    examples: int
    seeds: int
    tied: list[str]
    beaten: list[Ahead]
    opponent: Ahead | None
    detectable: float | None
    least_p: float
    small: bool
    needed: float | None
    core_seconds: float | None
    peak_mb: float | None
    cheapest: tuple[str, float] | None
    growth: Growth | None
    not_applicable: list[tuple[str, str]]
    outside: list[tuple[str, float]]

    @property
    def too_few(self) -> bool:
        """Whether there are too few examples for any difference of this table to be significant."""
        return self.least_p > ALPHA


def verdict(
    table: Sequence[Row],
    cells: Sequence[Entry],
    costs: Mapping[tuple[str, str, str, str], MeanCost],
    threads: int,
    points: Sequence[Point] = (),
    not_applicable: Sequence[tuple[str, str]] = (),
) -> Verdict:
    """Of one table's rows, best first, at least one.

    cells: with the scores of each example, of this domain or more. costs: by (domain, table, family, strategy).
    threads: of a training, so that its seconds become core seconds. points: of the transfer report, for the nested
    shares.
    """
    best = next(row for row in table if row.best)
    outside = [row for row in table if row.strategy == OUTSIDE and row is not best]
    others = [row for row in table if row is not best and row not in outside]
    tied = [row for row in others if row.p_holm is None or row.p_holm >= ALPHA]
    beaten = [row for row in others if row.p_holm is not None and row.p_holm < ALPHA]
    opponent = next((row for row in others if row.control != best.control), None)
    detectable = _detectable(best, others[0], cells) if others else None
    small, needed = False, None
    if opponent is not None and opponent in tied and best.examples:
        lead, error = abs(opponent.difference_from_best or 0.0), _error(best, opponent, cells)
        small = lead < significance.detectable(error, best.examples)
        needed = significance.examples_needed(lead, error, best.examples) if small else None
    own = _cost(best, costs)
    known = [(row, cost) for row in (best, *tied) if (cost := _cost(row, costs)) is not None]
    cheapest = min(known, key=lambda pair: _spent(pair[1])) if known else None
    return Verdict(
        domain=best.domain,
        task=best.task,
        metric=best.metric,
        best=best.system,
        control=best.control,
        value=best.value,
        low=best.low,
        high=best.high,
        examples=best.examples,
        seeds=best.seeds,
        tied=[row.system for row in tied],
        beaten=[_ahead(row) for row in beaten],
        opponent=None if opponent is None else _ahead(opponent),
        detectable=detectable,
        least_p=significance.least_p(best.examples, len(table) - 1),
        small=small,
        needed=needed,
        core_seconds=None if own is None else _spent(own) * threads,
        peak_mb=None if own is None else own.peak_memory_mb,
        cheapest=None if cheapest is None else (cheapest[0].system, _spent(cheapest[1]) * threads),
        growth=_growth(best, points, detectable),
        not_applicable=list(not_applicable),
        outside=[(row.system, row.value) for row in outside],
    )


def _ahead(row: Row) -> Ahead:
    # A row says how far it is from the best, at most 0: the sign turns, and the ends of the interval change places.
    parts = (row.difference_from_best, row.difference_high, row.difference_low)
    return Ahead(row.system, *(0.0 - (part or 0.0) for part in parts))


def _detectable(best: Row, rival: Row, cells: Sequence[Entry]) -> float:
    return significance.detectable(_error(best, rival, cells), best.examples)


def _error(best: Row, rival: Row, cells: Sequence[Entry]) -> float:
    """Standard error of the paired difference of two rows, means over their seeds, over the examples."""
    metric = metric_of(best.metric)
    parts = [_features(row, cells) for row in (best, rival)]
    seeds = len(parts[0])

    def difference(sums: np.ndarray) -> np.ndarray:
        values = metric.reduce(sums)
        return np.asarray(metric.loss(values[..., seeds:].mean(-1)) - metric.loss(values[..., :seeds].mean(-1)))

    return significance.standard_error(difference, np.concatenate(parts).transpose(1, 0, 2))


def _features(row: Row, cells: Sequence[Entry]) -> np.ndarray:
    """(seeds, examples, D). A system has an entry a model, and each holds the scores of that model's tables alone."""
    own = [c for c in cells if (c.domain, c.family, c.strategy) == (row.domain, row.family, row.strategy)]
    having = [c.scores for c in own if (row.task, row.metric) in names_of(c.scores)]
    return np.stack([features_of(scores, row.task, row.metric)[1] for scores in having])


def _cost(row: Row, costs: Mapping[tuple[str, str, str, str], MeanCost]) -> MeanCost | None:
    return costs.get((row.domain, row.task, row.family, row.strategy))


def _spent(cost: MeanCost) -> float:
    """Seconds of training and of judging, where what is fitted at each origin spends its time."""
    return cost.seconds + (cost.judging_seconds or 0.0)


def _growth(best: Row, points: Sequence[Point], detectable: float | None) -> Growth | None:
    key = (best.domain, best.task, best.metric, best.family, best.strategy)
    own = sorted(
        (p for p in points if (p.domain, p.task, p.metric, p.family, p.strategy) == key), key=lambda p: p.fraction
    )
    if len(own) < 2 or own[-1].fraction != 1.0:
        return None
    loss = metric_of(best.metric).loss
    gain = loss(own[-2].value) - loss(own[-1].value)
    return Growth(own[-2].fraction, gain, gain > (detectable or 0.0))


# For people


def sentences(found: Verdict, also: Sequence[str] = ()) -> str:
    """Two or three plain sentences, and one for each warning. also: what else there is to say, before what is not
    applicable."""
    lines = [_first(found)]
    if found.too_few:
        lines.append(
            f"{_examples(found)} {'is' if found.examples == 1 else 'are'} too few to tell: no difference can have a p "
            f"below {found.least_p:.3g}."
        )
    else:
        lines += [line for line in (_ties(found), _wins(found)) if line]
        if found.small and found.opponent is not None:
            more = "" if found.needed is None or not np.isfinite(found.needed) else f" {found.needed:,.0f} examples"
            lines.append(
                f"The test set is small: a difference like the one from {found.opponent.system},"
                f" {found.opponent.difference:.3g}, needs{more or ' more examples than can be named'}."
            )
    if found.growth is not None:
        verb = "would help" if found.growth.helps else "shows no sign of helping"
        lines.append(f"More data {verb}: from {found.growth.share:.0%} to all of it brought {found.growth.gain:+.3g}.")
    if found.outside:
        told = ", ".join(f"{name} with {value:.4g}" for name, value in found.outside)
        lines.append(f"Quoted beside and not compared, since it was trained elsewhere: {told}.")
    lines += also
    if found.not_applicable:
        by_reason: dict[str, list[str]] = defaultdict(list)
        for name, why in found.not_applicable:
            by_reason[why].append(name)
        lines.append(
            "Not applicable: " + "; ".join(f"{_listed(names)} ({why})" for why, names in by_reason.items()) + "."
        )
    return " ".join(lines)


def _first(found: Verdict) -> str:
    where = _examples(found) + (", one seed" if found.seeds == 1 and not found.control else "")
    bounds = f" [{found.low:.4g}, {found.high:.4g}]" if np.isfinite(found.low) else ""
    text = f"Best in {label_of(found.metric)} is {found.best}, {found.value:.4g}{bounds} ({where})"
    if found.core_seconds is not None and found.peak_mb is not None:
        text += (
            f", for {_amount(found.core_seconds)} core seconds of training and judging and {_amount(found.peak_mb)} MB"
        )
    return text + "."


def _examples(found: Verdict) -> str:
    return f"{found.examples} example{'' if found.examples == 1 else 's'}"


def _ties(found: Verdict) -> str:
    if not found.tied:
        return ""
    text = f"It cannot be told apart from {_listed(found.tied)}"
    if found.detectable == 0:
        text += "; the nearest has the same score on every example"
    elif found.detectable is not None and np.isfinite(found.detectable):
        text += f"; from the nearest, a true difference of {found.detectable:.3g} would have been found in 4 of 5 cases"
    if found.cheapest is not None and found.cheapest[0] != found.best:
        text += f"; the cheapest of them is {found.cheapest[0]} ({_amount(found.cheapest[1])} core seconds)"
    return text + "."


def _wins(found: Verdict) -> str:
    if not found.beaten:
        return "It beats nothing significantly." if found.tied else ""
    nearest = found.beaten[0]
    shown = found.opponent if found.opponent in found.beaten else nearest
    assert shown is not None
    text = f"It beats {shown.system} by {shown.difference:.3g} [{shown.low:.3g}, {shown.high:.3g}]"
    rest = len(found.beaten) - 1
    others = f" and {rest} more" if found.tied else " and all others"
    return text + (others if rest else "") + "."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _amount(value: float) -> str:
    """Three digits: 0.05, 10.5, 1,230."""
    return f"{float(f'{value:.3g}'):,g}"
