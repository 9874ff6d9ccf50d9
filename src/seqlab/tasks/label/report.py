"""The comparison of a domain's labellers for people: every metric, what each system sees, and F1 by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seqlab.evaluation import metrics, pictures
from seqlab.evaluation.leaderboard import Entry, Row, system_name
from seqlab.evaluation.metrics import label_of, order_of
from seqlab.evaluation.settings import Evaluation
from seqlab.tasks.label.judge import LABEL, group_names

SIGHT = (
    "What a system sees of a sequence: gradient families whose body is causal (mlp, rnn, lstm, gru) decide on a"
    " position when they have read it, from it and what came before, the mlp from it alone; the Transformer looks both"
    " ways; models in closed form weigh labellings of the whole sequence, so they look both ways as well; controls and"
    " systems from outside read the whole sequence."
)
OUTSIDE = "A system marked `outside` was trained elsewhere, on other and far more texts: a mark to aim at, no control."


def markdown(
    domain: str,
    entries: Sequence[Entry],
    speeds: Mapping[tuple[str, str, str], float],
    settings: Evaluation,
    replicates: int,
) -> str:
    """Where there are several seeds, values are the first's; the leaderboard has means and intervals."""
    metric = settings.headline[LABEL]
    first = {(one.family, one.strategy): one for one in sorted(entries, key=lambda one: -one.seed)}
    ranked = sorted(
        (one for one in first.values() if (LABEL, metric) in metrics.names_of(one.scores)),
        key=lambda one: metrics.metric_of(metric).loss(metrics.value_of(one.scores, LABEL, metric)),
    )
    found = {name for one in ranked for task, name in metrics.names_of(one.scores) if task == LABEL}
    names = sorted(found, key=order_of)
    lines = [["", *(name.replace("_", " ") for name in names)], [":--", *["--:"] * len(names)]]
    for one in ranked:
        own = set(metrics.names_of(one.scores))
        values = [f"{metrics.value_of(one.scores, LABEL, n):.4g}" if (LABEL, n) in own else "–" for n in names]
        lines.append([system_name(one), *values])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    picture = f"![{label_of(metric)} by length](pictures/{domain}-{LABEL}-lengths.png)"
    return "\n\n".join([f"# {domain}", table, SIGHT, OUTSIDE, picture]) + "\n"


def draw(domain: str, rows: Sequence[Row], settings: Evaluation, folder: Path) -> None:
    """How systems fare with longer sequences."""
    tables = {}
    for name in group_names():
        if own := [row for row in rows if row.table == (domain, LABEL, f"f1@{name}")]:
            tables[name] = own
    if tables:
        pictures.lengths(tables, folder / f"{domain}-{LABEL}-lengths.png", "positions of the sequence (sequences)")
