"""What is on the page, as plain values: verdicts, tables, pictures, texts, what changed, and what is behind a row."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from seqlab.evaluation.leaderboard import CONTROL, OUTSIDE, MeanCost, Row
from seqlab.evaluation.metrics import label_of, metric_of, order_of
from seqlab.evaluation.transfer import Key

Headlines = Mapping[str, Mapping[str, str]]  # by domain, the metric that ranks each task


@dataclass(frozen=True)
class Value:
    """A cell of a table. sort: what it is sorted by; None stands last, whatever the direction. bounds: its interval."""

    text: str
    sort: float | str | None
    bounds: str = ""


@dataclass(frozen=True)
class Origin:
    """What is behind a row. runs: keys of tracked runs, by what they did. commands: what makes it again.

    verified: how it came out when it was made again, when and where.
    """

    runs: Sequence[tuple[str, str]]
    commands: Sequence[str]
    verified: Sequence[str] = ()


@dataclass(frozen=True)
class Line:
    """kind: of the system, which its looks follow."""

    name: str
    kind: Literal["best", "family", "control", "outside"]
    values: Sequence[Value]
    origin: Origin | None = None


@dataclass(frozen=True)
class Table:
    """columns: without the first, which names the line. sorted: the column that it is sorted by, and how."""

    caption: str
    columns: Sequence[str]
    lines: Sequence[Line]
    first: str = "system"
    sorted: tuple[int, Literal["ascending", "descending"]] | None = None


@dataclass(frozen=True)
class Picture:
    """A file. drawn: lines on white, which may be turned dark; otherwise what it shows has tones of its own."""

    path: Path
    title: str
    alt: str
    drawn: bool = True


@dataclass(frozen=True)
class Text:
    """What a system wrote. html: whether the file is a page of its own."""

    path: Path
    title: str

    @property
    def html(self) -> bool:
        return self.path.suffix == ".html"


@dataclass(frozen=True)
class Section:
    """One task of one domain. name: of both, for people; anchor: what links to it."""

    anchor: str
    domain: str
    task: str
    verdict: str
    table: Table
    metrics: Table
    pictures: Sequence[Picture]
    texts: Sequence[Text]

    @property
    def name(self) -> str:
        return f"{self.domain}: {self.task.replace('_', ' ')}"


@dataclass(frozen=True)
class Change:
    """What differs from an earlier report. said: in a sentence. table: None where nothing does."""

    said: str
    table: Table | None = None


@dataclass(frozen=True)
class Content:
    """about: what made the page, by name. across: pictures of no single task."""

    title: str
    about: Mapping[str, str]
    sections: Sequence[Section]
    across: Sequence[Picture]
    change: Change
    missing: Sequence[str] = field(default_factory=list)

    @property
    def domains(self) -> dict[str, list[Section]]:
        found: dict[str, list[Section]] = {}
        for section in self.sections:
            found.setdefault(section.domain, []).append(section)
        return found


# Tables


def leaderboard(table: Sequence[Row], costs: Mapping[Key, MeanCost], origins: Mapping[str, Origin]) -> Table:
    """The headline metric of one table's rows, best first. origins: by FAMILY/STRATEGY."""
    metric = table[0].metric
    columns = [f"{label_of(metric)} [95%]", "behind the best", "p", "gain over scratch", "gain over best control"]
    columns += ["seconds", "peak MB", "parameters"]
    lines = []
    for row in table:
        behind = None if row.difference_from_best is None else 0.0 - row.difference_from_best
        ends = (None, None) if behind is None else (0.0 - (row.difference_high or 0), 0.0 - (row.difference_low or 0))
        moved = row.gain_over_scratch is not None and not row.from_scratch
        cost = costs.get((row.domain, row.task, row.family, row.strategy))
        values = [
            number(row.value, row.low, row.high),
            number(behind, *ends),
            probability(row.p_holm),
            number(row.gain_over_scratch, row.gain_low, row.gain_high, signed=True) if moved else number(None),
            number(row.gain_over_control, row.control_low, row.control_high, signed=True),
            number(None if cost is None else cost.seconds),
            number(None if cost is None else cost.peak_memory_mb),
            count(row.parameters),
        ]
        lines.append(Line(row.system, kind_of(row), values, origins.get(f"{row.family}/{row.strategy}")))
    better = metric_of(metric).better
    direction = f"{better} is better" if isinstance(better, str) else f"closer to {better:g} is better"
    caption = (
        f"{table[0].domain}, {table[0].task.replace('_', ' ')}: {label_of(metric)} on {table[0].examples} examples"
    )
    # A metric with a target is not sorted by its value.
    order: tuple[int, Literal["ascending", "descending"]] | None = {
        "lower": (0, "ascending"), "higher": (0, "descending"),
    }.get(str(better))  # type: ignore[assignment]  # fmt: skip
    seeds = max(row.seeds for row in table)
    return Table(f"{caption}, {seeds} seed{'s' * (seeds > 1)}; {direction}.", columns, lines, sorted=order)


def every_metric(rows: Sequence[Row], names: Sequence[str]) -> Table:
    """Every metric of one task. rows: of that task. names: systems in order."""
    metrics = sorted({row.metric for row in rows}, key=order_of)
    known = {(row.system, row.metric): row for row in rows}
    lines = []
    for name in names:
        own = [known.get((name, metric)) for metric in metrics]
        kind = next(kind_of(row) for row in own if row is not None)
        values = [number(None) if row is None else number(row.value, row.low, row.high) for row in own]
        lines.append(Line(name, "family" if kind == "best" else kind, values))
    caption = f"{rows[0].domain}, {rows[0].task.replace('_', ' ')}: every metric, with its 95% interval."
    return Table(caption, [metric.replace("_", " ") for metric in metrics], lines)


def kind_of(row: Row) -> Literal["best", "family", "control", "outside"]:
    if row.strategy == CONTROL:
        return "control"
    return "outside" if row.strategy == OUTSIDE else "best" if row.best else "family"


def number(value: float | None, low: float | None = None, high: float | None = None, signed: bool = False) -> Value:
    """Four digits, with an interval where it has two ends."""
    if value is None or math.isnan(value):
        return Value("–", None)
    text = f"{value:+.3g}" if signed else f"{float(f'{value:.4g}'):,}" if abs(value) >= 1e4 else f"{value:.4g}"
    ends = (low, high)
    known = None not in ends and all(abs(end) < float("inf") for end in ends if end is not None)
    return Value(text, value, f"[{low:.4g}, {high:.4g}]" if known else "[too few]" if None not in ends else "")


def probability(p: float | None) -> Value:
    return Value("–", None) if p is None else Value("<0.001" if p < 0.001 else f"{p:.3f}", p)


def count(value: float | None) -> Value:
    return Value("–", None) if value is None else Value(f"{value:,.0f}", value)


# Changes


def headline_values(text: str, headlines: Headlines) -> dict[tuple[str, str, str], str]:
    """Of leaderboard.csv, of this version or of an earlier one: by domain, task and system, the headline value."""
    found = {}
    for line in csv.DictReader(io.StringIO(text)):
        if headlines.get(line["domain"], {}).get(line["task"]) == line["metric"]:
            control = line["strategy"] == CONTROL
            system = line["family"].replace("_", " ") if control else f"{line['family']} · {line['strategy']}"
            found[line["domain"], line["task"], system] = line["value"]
    return found


def changed(before: str | None, now: str, named: str, headlines: Headlines) -> Change:
    """What differs of the headline values. before, now: texts of leaderboard.csv; named: what the earlier one is."""
    if before is None:
        return Change("There is no earlier report to compare this one with.")
    old, new = headline_values(before, headlines), headline_values(now, headlines)
    both = [key for key in new if key in old]
    moved = [key for key in both if old[key] != new[key]]
    joined, left = [key for key in new if key not in old], [key for key in old if key not in new]
    said = (
        f"Against {named}: {len(moved)} of {len(both)} headline values differ, {len(joined)} joined, {len(left)} left."
    )
    lines = [Line(where(key), "family", values_of(key, old, new, headlines)) for key in (*moved, *joined, *left)]
    columns = ["system", "then", "now", "better by"]
    return Change(
        said, Table(f"Headline values that differ from {named}.", columns, lines, first="table") if lines else None
    )


def where(key: tuple[str, str, str]) -> str:
    return f"{key[0]}: {key[1].replace('_', ' ')}"


def values_of(
    key: tuple[str, str, str],
    old: Mapping[tuple[str, str, str], str],
    new: Mapping[tuple[str, str, str], str],
    headlines: Headlines,
) -> list[Value]:
    loss = metric_of(headlines[key[0]][key[1]]).loss
    then, now = (float(part[key]) if key in part else None for part in (old, new))
    gain = None if then is None or now is None else float(loss(then) - loss(now))
    return [Value(key[2], key[2]), number(then), number(now), number(gain, signed=True)]


# Pictures and texts

SUFFIXES = {
    "": ("the leaderboard", "Each system's value with its 95% interval, best on top; the table has the numbers."),
    "-transfer": ("what the source brings", "Each family's gain over the same family from scratch, with its interval."),
    "-labels": ("over shares of the target", "The value over the share of the target's training examples."),
    "-lengths": ("by length", "The value of each system by the length of the sequences."),
    "-cost": ("quality against cost", "Each system's value against its seconds of training, with the front."),
}  # fmt: skip
# By task, what evaluation showed of a cell: file, title, what a reader is told who sees none, whether it is drawn.
SHOWN = {
    "forecast": (
        ("forecasts.png", "forecasts against the truth", "Medians and intervals beside what came.", True),
        ("frames.png", "films against what was sampled", "Rows of frames: of the test set, and as sampled.", False),
    ),
    "next_step": (
        ("calibration.png", "calibration of its density", "How often the truth falls into intervals.", True),
        ("attention-*.png", "attention", "Weights by layer and head, from each position to those before it.", False),
    ),
    "classify": (
        ("reliability.png", "calibration of its classes", "Accuracy against confidence.", True),
        ("confusion.png", "confusion", "True classes in rows, guessed ones in columns.", False),
    ),
}  # fmt: skip
WRITTEN = {
    "next_step": (("continuations.md", "what it writes on"),),
    "label": (("spaces.html", "texts as it spaces them"),),
}


def pictures_of(folder: Path, domain: str, task: str) -> Iterator[Picture]:
    """What `compare` drew of one table."""
    for suffix, (title, alt) in SUFFIXES.items():
        if (path := folder / f"{domain}-{task}{suffix}.png").exists():
            yield Picture(path, f"{domain}, {task.replace('_', ' ')}: {title}", alt)


def others(folder: Path, taken: Sequence[Path]) -> Iterator[Picture]:
    """What `compare` drew of no single table."""
    for path in sorted(folder.glob("*.png")):
        if path not in taken:
            title = path.stem.replace("_", " ").replace("-", " ")
            yield Picture(path, title, f"Across tasks: {title}, as its own labels say.")


def shown_of(folder: Path, task: str, system: str) -> Iterator[Picture]:
    """What `draw` drew of one cell's answers. folder: of the cell."""
    for name, title, alt, drawn in SHOWN.get(task, ()):
        for path in sorted(folder.glob(name))[:1]:
            yield Picture(path, f"{system}: {title}", alt, drawn)


def texts_of(folder: Path, task: str, system: str) -> Iterator[Text]:
    """What one cell's model wrote."""
    for name, title in (*WRITTEN.get(task, ()), (f"explanations/{task}.html", "how it translates")):
        if (path := folder / name).exists():
            yield Text(path, f"{system}: {title}")
