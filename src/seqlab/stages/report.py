"""One page of a comparison that holds all it shows: reports/index.html. What it quotes of cost and runs is measured,
so it is hashed nowhere, and nothing follows from it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from seqlab.artifacts import read_json, write_text
from seqlab.evaluation import across, leaderboard, pictures_across
from seqlab.evaluation.leaderboard import OUTSIDE, MeanCost, Row
from seqlab.evaluation.metrics import label_of
from seqlab.evaluation.transfer import Key
from seqlab.page import content, render
from seqlab.page.content import Content, Origin, Picture, Section, Text


@dataclass(frozen=True, kw_only=True)
class Behind:
    """What stands behind the numbers. origins: by domain, then FAMILY/STRATEGY. about: what made them, by name.

    before: the text of an earlier leaderboard.csv, None without one; named: which that is.
    """

    origins: Mapping[str, Mapping[str, Origin]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    before: str | None = None
    named: str = "the last report"


def report(reports: Path, drawn: Path, headlines: content.Headlines, behind: Behind, title: str) -> Content:
    """Write index.html into `reports`, the folder that `compare` wrote. drawn: pictures of cells, a folder a domain.

    Raises UserError naming the file of `compare` that is missing.
    """
    rows = leaderboard.read_csv(reports / "leaderboard.csv")
    verdicts = read_json(reports / "verdicts.json")
    costs = leaderboard.read_costs(reports / "cost.csv")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sections = [
            section(domain, task, metric, rows, costs, verdicts, reports, drawn, behind, folder)
            for domain, metrics in headlines.items()
            for task, metric in metrics.items()
            if any(row.table == (domain, task, metric) for row in rows)
        ]
        taken = [picture.path for one in sections for picture in one.pictures]
        made = Content(
            title,
            behind.about,
            sections,
            list(content.others(reports / "pictures", taken)),
            content.changed(
                behind.before,
                (reports / "leaderboard.csv").read_text(encoding="utf-8"),
                behind.named,
                headlines,
            ),
            lacking(headlines, sections),
        )
        write_text(reports / "index.html", render.render(made))
    return made


def lacking(headlines: content.Headlines, sections: Sequence[Section]) -> list[str]:
    """What the page has no section of, and which section has no picture of answers."""
    have = {(one.domain, one.task) for one in sections}
    absent = [f"{domain} {task}" for domain, tasks in headlines.items() for task in tasks if (domain, task) not in have]
    return [f"Nothing was scored on: {', '.join(absent)}."] if absent else []


def section(
    domain: str,
    task: str,
    metric: str,
    rows: Sequence[Row],
    costs: Mapping[Key, MeanCost],
    verdicts: Mapping[str, Mapping[str, str]],
    reports: Path,
    drawn: Path,
    behind: Behind,
    folder: Path,
) -> Section:
    """One headline table with its pictures, and those of its best family's answers. folder: for what is drawn here."""
    table = [row for row in rows if row.table == (domain, task, metric)]
    own = [row for row in rows if (row.domain, row.task) == (domain, task)]
    pictures, texts = list(content.pictures_of(reports / "pictures", domain, task)), list[Text]()
    if not any(picture.path.stem.endswith("-cost") for picture in pictures):
        pictures += bought(table, costs, folder)
    for row in answering(table):
        cell = drawn / domain / row.family / row.strategy
        for seed in sorted(cell.iterdir(), key=lambda path: int(path.name))[:1] if cell.exists() else ():
            known = {picture.title.partition(": ")[2] for picture in pictures}
            found = content.shown_of(seed, task, row.system)
            pictures += [picture for picture in found if picture.title.partition(": ")[2] not in known]
            texts += [] if texts else list(content.texts_of(seed, task, row.system))
    return Section(
        anchor=f"{domain}-{task}",
        domain=domain,
        task=task,
        verdict=verdicts.get(domain, {}).get(task, ""),
        table=content.leaderboard(table, costs, behind.origins.get(domain, {})),
        metrics=content.every_metric(own, [row.system for row in table]),
        pictures=pictures,
        texts=texts,
    )


def answering(table: Sequence[Row]) -> list[Row]:
    """The best family, whose answers are shown, and after it the best that may show more: the one that attends."""
    families = [row for row in table if not row.control and row.strategy != OUTSIDE]
    return families[:1] + [row for row in families[1:] if row.family == "transformer"][:1]


def bought(table: Sequence[Row], costs: Mapping[Key, MeanCost], folder: Path) -> list[Picture]:
    """Quality against cost: drawn here, since seconds are measured and no picture of `compare` may follow from them."""
    domain, task, metric = table[0].table
    seconds = {key[2:]: cost.seconds for key, cost in costs.items() if key[:2] == (domain, task)}
    offers = across.offers(table, seconds)
    if len(offers) < 2:
        return []
    path = folder / f"{domain}-{task}-cost.png"
    name = f"{domain}: {task.replace('_', ' ')}"
    pictures_across.pareto(offers, metric, "seconds of training", name, path)
    told = f"{label_of(metric)} against seconds of training; the table has both."
    return [Picture(path, f"{name.replace(':', ',')}: quality against cost", told)]
