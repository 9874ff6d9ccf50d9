"""Pictures across tasks: skill and win rate, critical difference, quality against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seqlab.evaluation.across import Offer, Ranks, Skill
from seqlab.evaluation.metrics import label_of
from seqlab.evaluation.pictures import BLUE, GREY, VERMILION, _bars, _better, _figure


def skills(found: Sequence[Skill], baseline: str, group: str, path: Path) -> None:
    """Skill score and win rate of each system against the baseline with 95% intervals over tasks, the best on top."""
    with _figure(path, 7.2, 1.3 + 0.27 * len(found)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, name, neutral, ends in (
            (left, "skill score", 0.0, ("skill", "skill_low", "skill_high")),
            (right, "win rate", 0.5, ("wins", "wins_low", "wins_high")),
        ):
            values, low, high = (np.array([getattr(one, end) for one in found]) for end in ends)
            axes.axvline(neutral, color="black", linewidth=1)
            for y in range(len(found)):
                colour, marker = (
                    (BLUE, "o") if low[y] > neutral else (VERMILION, "s") if high[y] < neutral else (GREY, "D")
                )
                # Too few tasks for an interval: the point alone.
                error = _bars(values[[y]], low[[y]], high[[y]]) if np.isfinite(low[y]) else None
                axes.errorbar(values[y], y, xerr=error, fmt=marker, color=colour, markersize=5, capsize=2)
            axes.set_xlabel(f"{name} against {baseline}")
            axes.grid(axis="y", visible=False)
        right.set_xlim(-0.03, 1.03)
        left.set_yticks(range(len(found)), [f"{one.system} ({one.tasks})" for one in found])
        left.set_ylim(len(found) - 0.4, -0.6)
        tasks = "all tasks" if group == "all" else f"the tasks {group.replace('_', ' ')}"
        figure.suptitle(f"Over {tasks} (how many in brackets); right is better; 95% intervals", fontsize=10)


def critical_difference(found: Ranks, path: Path) -> None:
    """Average ranks on a line, the best on the left, and bars over systems that no critical difference parts."""
    size = len(found.systems)
    half = (size + 1) // 2
    bars = len(found.alike)
    low, high = 1.0, float(size)
    depth = 0.16 * bars + 0.5  # of the lines' first corner below the axis
    with _figure(path, 7.2, 1.3 + 0.13 * bars + 0.22 * half) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.plot([low, high], [0, 0], color="black", linewidth=1)
        for tick in range(1, size + 1):
            axes.plot([tick, tick], [0, 0.12], color="black", linewidth=1)
            if size <= 12 or tick % 2 == 1:
                axes.text(tick, 0.2, f"{tick}", ha="center", va="bottom")
        axes.plot([low, low + found.critical], [0.95, 0.95], color=VERMILION, linewidth=2, solid_capstyle="butt")
        axes.text(low, 1.05, f"critical difference {found.critical:.2f}", color=VERMILION, va="bottom")
        for k, (name, rank) in enumerate(zip(found.systems, found.ranks, strict=True)):
            on_left = k < half
            line = -depth - 0.28 * (k if on_left else size - 1 - k)
            edge = low - 0.02 * (high - low) if on_left else high + 0.02 * (high - low)
            axes.plot([rank, rank, edge], [0, line, line], color=GREY, linewidth=0.8)
            text = f"{name}  {rank:.2f}" if on_left else f"{rank:.2f}  {name}"
            axes.annotate(
                text,
                (edge, line),
                xytext=(-3 if on_left else 3, 0),
                textcoords="offset points",
                ha="right" if on_left else "left",
                va="center",
                fontsize=8,
            )
        for k, (first, last) in enumerate(found.alike):
            height = -0.22 - 0.16 * k
            ends = found.ranks[first] - 0.01 * size, found.ranks[last] + 0.01 * size
            axes.plot(ends, [height, height], color=BLUE, linewidth=3, solid_capstyle="butt")
        axes.set_xlim(low - 0.55 * (high - low), high + 0.55 * (high - low))
        axes.set_ylim(-depth - 0.28 * (half - 1) - 0.2, 1.45)
        axes.set_title(
            f"Average rank over {found.tasks} tasks, Friedman p {found.p:.2g}; bars: not parted by Nemenyi's test"
        )


def pareto(found: Sequence[Offer], metric: str, cost: str, title: str, path: Path) -> None:
    """Quality against cost of one table's systems, its front drawn through and named.

    cost: what it is counted in, on a logarithmic axis; a cost of 0 stands at the axis's left end.
    """
    least = min((one.cost for one in found if one.cost > 0), default=1.0)
    with _figure(path, 7.2, 4.2) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        place = {one.system: max(one.cost, least / 3) for one in found}
        front = [one for one in found if one.front]
        for part, colour, marker, label in (
            ([one for one in found if not one.front and not one.control], GREY, "o", "family"),
            ([one for one in found if not one.front and one.control], GREY, "s", "control"),
            (front, BLUE, "D", "none is better and cheaper"),
        ):
            axes.plot(
                [place[one.system] for one in part],
                [one.value for one in part],
                marker,
                color=colour,
                markersize=5,
                markerfacecolor=colour if part is front else "white",
                label=label if part else None,
                zorder=3 if part is front else 2,
            )
        for one in found:
            if not one.front:
                where = place[one.system], one.value
                axes.annotate(one.system, where, xytext=(5, -2), textcoords="offset points", fontsize=6, color=GREY)
        axes.plot(
            [place[one.system] for one in front], [one.value for one in front], color=BLUE, drawstyle="steps-post"
        )
        for k, one in enumerate(front):
            axes.annotate(
                one.system,
                (place[one.system], one.value),
                xytext=(4, 7 if k % 2 == 0 else -11),
                textcoords="offset points",
                fontsize=8,
            )
        axes.margins(x=0.12, y=0.12)
        axes.set_xlabel(cost)
        axes.set_ylabel(f"{label_of(metric)}\n({_better(metric)})")
        axes.set_title(title)
        figure.legend(loc="outside upper right", ncols=3)
