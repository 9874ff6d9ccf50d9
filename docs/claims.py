"""Check that every sentence of README's "What it found" says what the leaderboard says.

    python docs/claims.py            name the sentences that do not (status 1)

A sentence there is a list item, and a comment behind it names what it rests on:

    - On text counts lead at 1.867 bits. <!-- strings/next_step/bits_per_character: best naive/full; behind gru/full -->

Before the colon stands a table (domain/task/metric), of another committed suite as `seeds:domain/task/metric`; behind
it what is said of its rows (family/strategy), as far as RELATIONS knows. Several tables are parted by `|`. Every number
with a decimal point must be a figure of a named row, as rounded there.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ITEM = re.compile(r"^- (.*?)(?:<!-- (.*?) -->)?$", re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+\.\d+(?![\w.]*\w)")
SIGNIFICANT = 0.05

Row = dict[str, str]


def significant(row: Row, key: str) -> bool:
    return bool(row[key]) and float(row[key]) < SIGNIFICANT


def gain(row: Row) -> float:
    return float(row["gain_over_scratch"] or "nan")


RELATIONS: dict[str, Callable[[Row], bool]] = {
    "best": lambda row: row["best"] == "true",
    "level": lambda row: row["best"] != "true" and not significant(row, "p_holm"),  # with the best
    "behind": lambda row: row["best"] != "true" and significant(row, "p_holm"),  # the best, significantly
    "beats": lambda row: row["beats_control"] == "true",  # the best control, significantly
    "fails": lambda row: row["beats_control"] != "true",
    "gains": lambda row: gain(row) > 0 and significant(row, "gain_p_holm"),  # from the source, over scratch
    "loses": lambda row: gain(row) < 0 and significant(row, "gain_p_holm"),
    "same": lambda row: not significant(row, "gain_p_holm"),
    "row": lambda row: True,  # quoted
}
FIGURES = (
    "value", "low", "high", "difference_from_best", "difference_low", "difference_high",
    "gain_over_scratch", "gain_low", "gain_high", "gain_over_control", "control_low", "control_high",
)  # fmt: skip


def table(name: str) -> dict[str, Row]:
    """The rows of one table by family/strategy. Raises ValueError where there is no such table."""
    suite, _, path = name.rpartition(":")
    file = ROOT / (f"docs/results/{suite}" if suite else "reports") / "leaderboard.csv"
    domain, task, metric = path.split("/", 2)
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    own = [r for r in rows if (r["domain"], r["task"], r["metric"]) == (domain, task, metric)]
    if not own:
        raise ValueError(f"{name}: no such table in {file.relative_to(ROOT)}")
    return {f"{row['family']}/{row['strategy']}": row for row in own}


def named(basis: str) -> list[tuple[str, str, Row]]:
    """What a comment says: relation, row's name, row."""
    found = []
    for part in basis.split("|"):
        # The metric's own name may hold colons no more than a family's does.
        name, _, said = part.strip().rpartition(": ")
        rows = table(name)
        for one in said.split(";"):
            relation, _, labels = one.strip().partition(" ")
            if relation not in RELATIONS:
                raise ValueError(f"{relation!r}: none of {', '.join(RELATIONS)}")
            for label in labels.split(", "):
                if label not in rows:
                    raise ValueError(f"{name}: no row {label}")
                found.append((relation, label, rows[label]))
    return found


def faults(item: str) -> list[str]:
    """What is wrong with one sentence."""
    match = ITEM.match(" ".join(item.split()))
    assert match is not None
    text, basis = match[1], match[2]
    start = f"{text[:60]}…"
    if not basis:
        return [f"{start}: rests on nothing"]
    try:
        rows = named(basis)
    except ValueError as error:
        return [f"{start}: {error}"]
    wrong = [f"{start}: {label} is not {relation!r}" for relation, label, row in rows if not RELATIONS[relation](row)]
    for number in NUMBER.findall(text):
        digits = len(number.split(".")[1])
        shown = number.replace("−", "-").lstrip("+")
        if not any(row[key] and f"{float(row[key]):.{digits}f}" == shown for _, _, row in rows for key in FIGURES):
            wrong.append(f"{start}: {number} is no figure of its rows")
    return wrong


def items(page: str) -> list[str]:
    """The list items between the marks `found`."""
    match = re.search(r"<!-- found -->\n(.*?)<!-- /found -->", page, re.DOTALL)
    if match is None:
        raise SystemExit("README.md: no marks <!-- found --> … <!-- /found -->")
    return [f"- {item.strip()}" for item in re.split(r"^- ", match[1], flags=re.MULTILINE) if item.strip()]


def main() -> int:
    wrong = [line for item in items((ROOT / "README.md").read_text(encoding="utf-8")) for line in faults(item)]
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
