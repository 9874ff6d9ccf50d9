"""Write the tables that stand in the documentation from what owns their content.

    python docs/tables.py            rewrite them
    python docs/tables.py --check    say whether one is out of date (status 1)

README.md gets the headline results of reports/leaderboard.csv; docs/data.md gets the archives of conf/domain.
"""

from __future__ import annotations

import csv
import re
import sys
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


def results() -> str:
    """One line a domain, task and system: the headline metric, its interval and what transfer brought."""
    rows = list(csv.DictReader((ROOT / "reports/leaderboard.csv").read_text(encoding="utf-8").splitlines()))
    lines = []
    for path in sorted((ROOT / "conf/domain").glob("*.yaml")):
        for task, metric in domain(path)["evaluate"]["headline"].items():
            table = [r for r in rows if (r["domain"], r["task"], r["metric"]) == (path.stem, task, metric)]
            if not table:
                continue
            lines += [f"\n**{path.stem}, {task.replace('_', ' ')}** ({metric.replace('_', ' ')})\n"]
            lines += ["| | value | 95% interval | gain over scratch |", "|:--|--:|:--:|:--:|"]
            for row in table:
                control = row["control"] == "true"
                name = f"*{row['family'].replace('_', ' ')}*" if control else f"{row['family']} · {row['strategy']}"
                gain = "–"
                if row["gain_over_scratch"] and row["strategy"] != "scratch":
                    low, value, high = (float(row[k]) for k in ("gain_low", "gain_over_scratch", "gain_high"))
                    gain = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
                value, low, high = (float(row[k]) for k in ("value", "low", "high"))
                lines.append(f"| {name} | {value:.3f} | {low:.3f} to {high:.3f} | {gain} |")
    return "\n".join(lines).strip()


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
    for file, name, table in (("README.md", "results", results()), ("docs/data.md", "sources", sources())):
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
