"""What the documentation shows is what this version produced."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_reports_and_of_conf() -> None:
    command = [sys.executable, "docs/tables.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_test_sets_of_translation_share_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = script("tables")
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


def test_what_the_readme_says_it_found_stands_in_the_leaderboard() -> None:
    done = subprocess.run([sys.executable, "docs/claims.py"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("ETS leads at 1.234 [1.20, 1.30], rnn is behind. <!-- s/f/mase@16: best ets/full; behind rnn/full -->", None),
        ("The source gives rnn −0.150. <!-- s/f/mase@16: loses rnn/full -->", None),
        ("ETS and rnn do not differ. <!-- s/f/mase@16: level rnn/full -->", "rnn/full is not 'level'"),
        ("Rnn beats the control. <!-- s/f/mase@16: beats rnn/full -->", "rnn/full is not 'beats'"),
        ("ETS leads at 1.235. <!-- s/f/mase@16: best ets/full -->", "1.235 is no figure"),
        ("ETS leads. <!-- s/f/mase@64: best ets/full -->", "no such table"),
        ("GRU leads. <!-- s/f/mase@16: best gru/full -->", "no row gru/full"),
        ("ETS wins. <!-- s/f/mase@16: wins ets/full -->", "'wins': none of"),
        ("ETS leads.", "rests on nothing"),
    ],
)
def test_a_sentence_rests_on_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, item: str, fault: str | None
) -> None:
    claims = script("claims")
    columns = ["domain", "task", "metric", "family", "strategy", "best", "p_holm", "beats_control", "gain_p_holm"]
    rows = [
        dict(zip(columns, ("s", "f", "mase@16", "ets", "full", "true", "", "true", "1"), strict=True)),
        dict(zip(columns, ("s", "f", "mase@16", "rnn", "full", "false", "0.01", "false", "0.02"), strict=True)),
    ]
    figures = [{"value": "1.2341", "low": "1.2", "high": "1.3"}, {"value": "1.5", "gain_over_scratch": "-0.15"}]
    (tmp_path / "reports").mkdir()
    with open(tmp_path / "reports/leaderboard.csv", "w", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*columns, *claims.FIGURES], restval="")
        writer.writeheader()
        writer.writerows(row | own for row, own in zip(rows, figures, strict=True))
    monkeypatch.setattr(claims, "ROOT", tmp_path)
    found = claims.faults(f"- {item}")
    assert (not found) if fault is None else any(fault in line for line in found), found
