"""A file of one's own, to an answer: the three commands, on a copy of this repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("conf", "pipelines", "src", "dvc.yaml", ".dvcignore", ".gitignore")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with nothing in it but code and configuration."""
    folder = tmp_path_factory.mktemp("own")
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    return folder


def run(folder: Path, *command: str, fails: bool = False) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "DVC", "PYTEST"))}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_a_series_that_is_too_short_for_some_families_is_compared_without_them(checkout: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(100, 5, 20).round(2)
    table = pd.DataFrame({"day": pd.date_range("2026-01-01", periods=20).strftime("%Y-%m-%d"), "value": values})
    path = tmp_path / "short.csv"
    table.to_csv(path, index=False)
    assert "unfit.gbdt" in run(checkout, "seqlab", "add", str(path))
    part = "[{domains: [short], families: [naive, markov, nlinear, gbdt], strategies: [scratch], fractions: [1.0]}]"
    words = [f"suite.parts={part}", "suite.replicates=200"]
    said = run(checkout, "seqlab", "compare", "short", "--time-limit", "20m", *words)
    assert "seqlab: 2 of 2 cells after" in said
    assert "nlinear (too few steps: validation needs 20 values" in said
    assert "failed" not in said
    assert "not reached" not in said

    yaml = checkout / "conf/domain/short.yaml"
    yaml.write_text(re.sub(r"  nlinear: .*\n", "", yaml.read_text(encoding="utf-8")), encoding="utf-8")
    said = run(checkout, "seqlab", "compare", "short", *words, fails=True)  # under a limit: test_anytime.py
    last = said.splitlines()[-1]
    assert last.startswith("seqlab: 1 stage failed: scratch@short-nlinear-scratch-s0: too few sequences of the ")
    assert "(.seqlab/logs/scratch@short-nlinear-scratch-s0.log)" in last
    assert said.count("too few sequences") == 1
    assert "seqlab: 2 of 3 cells after" in said
    assert "Best in MASE" in said
    assert "not reached" not in said
    path.unlink()
    said = run(checkout, "seqlab", "compare", "short", *words, fails=True)
    assert said.count(f"{path}: missing") == 1


def test_two_hourly_series_with_a_missing_value_and_a_korean_header(checkout: Path, tmp_path: Path) -> None:
    hours = pd.date_range("2026-01-01", periods=24 * 21, freq="h")
    rng = np.random.default_rng(0)
    day = 10 + 5 * np.sin(2 * np.pi * hours.hour / 24)
    table = pd.DataFrame(
        {"시각": np.tile(hours.strftime("%Y-%m-%d %H:%M"), 2), "지점": np.repeat(["가", "나"], len(hours))}
    )
    table["매출"] = np.concatenate([day, 2 * day]) + rng.normal(0, 0.5, len(table))
    table.loc[100, "매출"] = None
    path = tmp_path / "매출.csv"
    table.to_csv(path, index=False)
    before = path.read_bytes()

    said = run(checkout, "seqlab", "add", str(path), "--name", "sales")
    assert "conf/domain/sales.yaml" in said
    assert path.read_bytes() == before

    part = "[{domains: [sales], families: [markov, theta, nlinear], strategies: [scratch], fractions: [1.0]}]"
    words = [f"suite.parts={part}", "suite.steps=0.02", "suite.replicates=200"]
    said = run(checkout, "seqlab", "compare", "sales", *words, "--time-limit", "20m")
    assert "seqlab: 3 of 3 cells after" in said
    assert "**forecast.** Best in MASE" in said
    page = (checkout / "suites/sales/reports/index.html").read_text(encoding="utf-8")
    assert "Best in MASE" in page
    assert "seqlab run finetune sales/theta/scratch/0" in page
    workspace = checkout / "suites/sales"
    assert "nothing changed since it ran last" in run(workspace, "seqlab", "why", "evaluate", "sales/theta/scratch/0")

    out = tmp_path / "out.parquet"
    table.ffill().to_csv(tmp_path / "new.csv", index=False)
    run(checkout, "seqlab", "predict", "sales", str(tmp_path / "new.csv"), "--steps", "5", "-o", str(out))
    found = pd.read_parquet(out)
    assert found.id.unique().tolist() == ["가", "나"]
    assert len(found) == 10
    assert (found["0.1"] <= found["0.9"]).all()
    assert found.time.min() == pd.Timestamp("2026-01-22 00:00")
    assert abs(found["mean"].mean() - 15) < 5
