"""The value of order: what a family loses on the next step when the positions within each sequence are shuffled.

The same family, seeds and budget, once on the data as they are and once on the data shuffled in training, validation
and test. Both are scored on the same examples, whose contents are equal, so the difference is paired over them: the
bits per character, or nats per step and channel, that the order alone is worth to that family. A family that keeps
nothing of the past has no use for it. P-values are Holm-corrected over the families of a domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from seqlab.artifacts import write_text
from seqlab.evaluation import leaderboard, significance
from seqlab.evaluation.leaderboard import Entry, Resampled, csv_text, field, systems
from seqlab.evaluation.metrics import NEXT, label_of, metric_of
from seqlab.evaluation.significance import ALPHA


@dataclass(frozen=True)
class Worth:
    """A family's value of order with its 95% interval: `shuffled` minus `ordered`, positive where order helps."""

    domain: str
    family: str
    metric: str
    seeds: int
    examples: int
    ordered: float
    shuffled: float
    value: float
    low: float
    high: float
    p_holm: float


def build(
    cells: Sequence[Entry],
    controls: Mapping[str, str],
    headlines: Mapping[str, Mapping[str, str]],
    replicates: int,
    seed: int,
) -> list[Worth]:
    """By domain, the largest value of order first.

    controls: of each strategy that shuffles, the one that has the same data in order; cells of others, domains without
    a next step, and what lacks its counterpart are left out. Raises UserError when two cells of a domain were scored on
    different examples.
    """
    kept = [
        cell
        for cell in cells
        if NEXT in headlines[cell.domain] and (cell.strategy in controls or cell.strategy in controls.values())
    ]
    found = []
    for domain in dict.fromkeys(cell.domain for cell in kept):
        metric = headlines[domain][NEXT]
        own = [cell for cell in kept if cell.domain == domain and (NEXT, metric) in cell.scores.ratios]
        both = {
            (one.family, one.strategy): one for one in systems(domain, NEXT, {metric: own}, replicates, seed)[metric]
        }
        pairs = [
            (both[family, control], system)
            for (family, strategy), system in both.items()
            if (control := controls.get(strategy)) and (family, control) in both
        ]
        found += _compared(domain, metric, pairs)
    return found


def _compared(domain: str, metric: str, pairs: Sequence[tuple[Resampled, Resampled]]) -> list[Worth]:
    compared = [leaderboard.compared(metric_of(metric), ordered, mixed) for ordered, mixed in pairs]
    adjusted = significance.holm([one.p for one in compared])
    found = [
        Worth(
            domain=domain,
            family=mixed.family,
            metric=metric,
            seeds=len(mixed.cells),
            examples=len(mixed.cells[0].scores.ratios[NEXT, metric].example),
            ordered=ordered.value,
            shuffled=mixed.value,
            value=one.difference,
            low=one.low,
            high=one.high,
            p_holm=p,
        )
        for (ordered, mixed), one, p in zip(pairs, compared, adjusted, strict=True)
    ]
    return sorted(found, key=lambda one: -one.value)


# Files


def write_csv(found: Sequence[Worth], path: Path) -> None:
    """One line a domain and family; the header alone where nothing was shuffled."""
    names = [column.name for column in fields(Worth)]
    write_text(path, csv_text(names, [[field(getattr(one, name)) for name in names] for one in found]))


def markdown(found: Sequence[Worth]) -> str:
    """A section of the leaderboard; nothing where nothing was shuffled."""
    if not found:
        return ""
    header = ["", "family", "in order", "shuffled", "value of order [95%]", "p"]
    lines = [header, [":--", ":--", *["--:"] * (len(header) - 2)]]
    for one in found:
        value = f"{one.value:+.3g} [{one.low:.3g}, {one.high:.3g}]"
        where = f"{one.domain} ({label_of(one.metric)})"
        p = "<0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}"
        strong = f"**{value}**" if one.p_holm < ALPHA else value
        lines.append([where, one.family, f"{one.ordered:.4g}", f"{one.shuffled:.4g}", strong, p])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = (
        "The next step from scratch, on the same data with the order of each sequence shuffled in training, validation"
        f" and test; paired over the same examples; **bold**: p < {ALPHA} after Holm's correction over a domain."
    )
    return f"### The value of order\n\n{table}\n\n- {note}\n"
