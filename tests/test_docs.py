"""What the documentation shows is what this version produced."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_tables_are_those_of_the_reports_and_of_conf() -> None:
    command = [sys.executable, "docs/tables.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_test_sets_of_translation_share_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    assert spec is not None
    assert spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    columns = ("domain", "task", "metric", "family", "strategy", "value", "control", "best", "beats_control")
    lines = [
        ("translation", task, "chrf++", family, strategy, value, str(family == "copy").lower(), "false", "true")
        for task in ("in_domain", "held_out", "everyday")
        for family, strategy, value in (
            ("rule_based", "full", 31),
            ("rule_based", "scratch", 29),
            ("copy", "control", 5),
        )
    ]
    (tmp_path / "reports").mkdir()
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    with open(tmp_path / "reports/leaderboard.csv", "w", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *lines])
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    header, _, row, control = tables.results("reports").splitlines()
    assert header == "| translate | in domain<br>chrf++ | held out<br>chrf++ | everyday<br>chrf++ |"
    assert row == "| rule_based | 31.000 (29.000) | 31.000 (29.000) | 31.000 (29.000) |"
    assert control.count("copy") == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
