"""Write the tables that stand in the documentation from what owns their content.

    python docs/tables.py            rewrite them
    python docs/tables.py --check    say whether one is out of date (status 1)

README.md gets the headline results of reports/leaderboard.csv; docs/data.md gets the archives of conf/domain;
docs/seeds.md, docs/transfer.md and docs/translation.md get theirs of docs/results, which `make repro SUITE=...` has
written once.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


def domain(path: Path) -> dict[str, Any]:
    """A domain's yaml, with what it takes over from another."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in tree.pop("defaults", []):
        if name != "_self_":
            base = domain(path.with_stem(name))
            tree = base | tree | {"archives": base["archives"] | tree["archives"]}
    return tree


def read(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader((ROOT / path).read_text(encoding="utf-8").splitlines()))


def headlines(rows: list[dict[str, str]]) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Domain, task and rows of every headline table that has any."""
    for path in sorted((ROOT / "conf/domain").glob("*.yaml")):
        for task, metric in domain(path)["evaluate"]["headline"].items():
            if table := [r for r in rows if (r["domain"], r["task"], r["metric"]) == (path.stem, task, metric)]:
                yield path.stem, task, table


def results(reports: str) -> str:
    """A table a task: a line a family, a column a domain; the value tuned from the source, and that from scratch."""
    rows = read(f"{reports}/leaderboard.csv")
    columns: dict[str, dict[str, list[dict[str, str]]]] = {}  # by task and domain, or test set
    for name, task, table in headlines(rows):
        # The test sets of translation are columns of one table: one model answers them all.
        pairs = "decoding" in domain(ROOT / f"conf/domain/{name}.yaml")["evaluate"]
        title, column = ("translate", task) if pairs else (task, name)
        columns.setdefault(title, {})[column] = table
    return "\n\n".join(one_task(task, tables) for task, tables in columns.items())


def one_task(task: str, tables: dict[str, list[dict[str, str]]]) -> str:
    order = {row["family"]: row["strategy"] for table in tables.values() for row in table if row["control"] != "true"}
    heads = [
        f"{domain.replace('_', ' ')}<br>{table[0]['metric'].replace('_', ' ')}" for domain, table in tables.items()
    ]
    lines = [f"| {task.replace('_', ' ')} | {' | '.join(heads)} |", f"|:--|{'--:|' * len(tables)}"]
    for name, strategy in order.items():
        label = f"{name}, {strategy}" if strategy in ("ensemble", "outside") else name
        lines.append(f"| {label} | {' | '.join(cell(table, name) for table in tables.values())} |")
    controls = [next(row for row in table if row["control"] == "true") for table in tables.values()]
    best = [f"{float(row['value']):.3f}<br>{row['family'].replace('_', ' ')}" for row in controls]
    return "\n".join([*lines, f"| *best control* | {' | '.join(best)} |"])


def cell(table: list[dict[str, str]], family: str) -> str:
    """`full (scratch)`, or the one value of an ensemble; the one that leads the table in bold; a dagger unless one
    significantly beats the control. What was trained elsewhere, and so is compared with nothing, is in italics.
    """
    own = {row["strategy"]: row for row in table if row["family"] == family and row["control"] != "true"}
    if not own:
        return "–"
    values = {name: f"{float(row['value']):.3f}" for name, row in sorted(own.items())}
    if "outside" in values:
        return f"*{values['outside']}*"
    if "scratch" in values:
        values["scratch"] = f"({values['scratch']})"
    text = " ".join(f"**{v}**" if own[name]["best"] == "true" else v for name, v in values.items())
    return text if any(row["beats_control"] == "true" for row in own.values()) else f"{text} †"


def little_data(reports: str) -> str:
    """A line a domain and task: what `full` gains over scratch with a tenth of the target, a column a family."""
    rows = [r for r in read(f"{reports}/transfer.csv") if (r["fraction"], r["strategy"]) == ("0.1", "full")]
    families = list(dict.fromkeys(row["family"] for row in rows))
    lines = [f"| | metric | {' | '.join(families)} |", f"|:--|:--|{'--:|' * len(families)}"]
    for name in dict.fromkeys((row["domain"], row["task"], row["metric"]) for row in rows):
        found = {r["family"]: r for r in rows if (r["domain"], r["task"], r["metric"]) == name}
        cells = [gain(found[family]) if family in found else "–" for family in families]
        lines.append(f"| {name[0]}: {name[1].replace('_', ' ')} | {name[2].replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gain(row: dict[str, str]) -> str:
    """With its interval; bold where it is significant after Holm's correction over its table."""
    value, low, high = (float(row[name]) for name in ("gain", "gain_low", "gain_high"))
    number = f"{value:+.3g}" if abs(value) > 1e-12 else "0"
    text = f"**{number}**" if float(row["p_holm"]) < 0.05 else number
    return f"{text} [{low:.2g}, {high:.2g}]"


def by_seed(reports: str) -> str:
    """A line a headline table, a column a network: the mean over its seeds and their standard deviation, tuned from the
    source, and from scratch in brackets."""
    rows = [row for row in read(f"{reports}/leaderboard.csv") if row["control"] != "true" and int(row["seeds"]) > 1]
    rows = [row for row in rows if row["strategy"] in ("full", "scratch")]
    families = list(dict.fromkeys(row["family"] for row in rows))
    lines = [f"| | metric | {' | '.join(families)} |", f"|:--|:--|{'--:|' * len(families)}"]
    for name, task, table in headlines(rows):
        own = {(row["family"], row["strategy"]): with_spread(row) for row in table}
        cells = [both(own.get((family, "full")), own.get((family, "scratch"))) for family in families]
        words = (f"{name}: {task}".replace("_", " "), table[0]["metric"].replace("_", " "))
        lines.append(f"| {' | '.join([*words, *cells])} |")
    return "\n".join(lines)


def with_spread(row: dict[str, str]) -> str:
    """Bold where the row leads its table; without a spread where examples are too few for any interval."""
    text = f"{float(row['value']):.3f}"
    if row["between_seeds"]:
        text += f" ± {float(row['between_seeds']):.2g}"
    return f"**{text}**" if row["best"] == "true" else text


def both(full: str | None, scratch: str | None) -> str:
    return " ".join(filter(None, (full, scratch and f"({scratch})"))) or "–"


def sources() -> str:
    """One line an archive."""
    lines = ["| domain | archive | package | version | licence | SHA-256 |", "|:--|:--|:--|:--|:--|:--|"]
    for path in sorted((ROOT / "conf/domain").glob("*.yaml")):
        for name, one in domain(path)["archives"].items():
            package = f"{one['package']} ({one['registry']})"
            line = (path.stem, name, package, one["version"], one["licence"], f"`{one['sha256'][:16]}…`")
            lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def filled(text: str, name: str, table: str) -> str:
    """`text` with what stands between the marks of `name` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    if not re.search(pattern, text, re.DOTALL):
        raise SystemExit(f"no marks <!-- {name} --> … <!-- /{name} -->")
    return re.sub(pattern, lambda match: match[1] + table + "\n" + match[2], text, flags=re.DOTALL)


def main() -> int:
    stale = []
    for file, name, table in (
        ("README.md", "results", results("reports")),
        ("docs/data.md", "sources", sources()),
        ("docs/seeds.md", "seeds", by_seed("docs/results/seeds")),
        ("docs/transfer.md", "gains", little_data("docs/results/transfer")),
        ("docs/translation.md", "results", results("docs/results/translation")),
        ("docs/translation.md", "gains", little_data("docs/results/translation")),
    ):
        path = ROOT / file
        before = path.read_text(encoding="utf-8")
        after = filled(before, name, table)
        if after != before:
            stale.append(file)
            if "--check" not in sys.argv:
                path.write_text(after, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"out of date: {', '.join(stale)}; run python docs/tables.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
