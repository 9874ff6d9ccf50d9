"""A checkout of a few small stages, for tests that run, kill and verify them: one domain of texts, of its own data."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import yaml
from test_pipeline import PARTS, WORDS, Lab

ROOT = Path(__file__).resolve().parent.parent
SUITE = """\
# @package _global_
defaults:
  - /domain@domains.strings: strings
FAMILIES
  - /strategy@strategies.scratch: scratch
  - _self_
suite: {name: small, seeds: [0], steps: 0.005, positions: null, examples: null, replicates: 50,
  fractions: [1.0], parts: []}
"""


def small(folder: Path, *families: str) -> Lab:
    """Committed, with nothing run yet. families: none that is diagnosed; by counting alone, a run takes seconds."""
    chosen = "\n".join(f"  - /family@families.{name}: {name}" for name in families)
    suite = SUITE.replace("FAMILIES", chosen)
    folder.mkdir(parents=True, exist_ok=True)
    lab = Lab(folder)
    for part in PARTS:
        source = ROOT / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))) for _ in range(300)]
    (folder / "own").mkdir()
    (folder / "own/source.txt").write_text("\n".join(texts[:200]))
    lines = [f"{'positive' if 'good' in text else 'negative'},{text}" for text in texts[200:]]
    (folder / "own/target.csv").write_text("\n".join(["label,text", *lines]))
    domain = yaml.safe_load((folder / "conf/domain/strings.yaml").read_text())
    for name, file in (("source", "source.txt"), ("target", "target.csv")):
        domain["archives"][name] = {"registry": "file", "path": f"own/{file}", "licence": "own"}
    (folder / "conf/domain/strings.yaml").write_text(yaml.safe_dump(domain, sort_keys=False))
    (folder / "conf/suite/default.yaml").write_text(suite)
    lab.run("git", "init", "-q")
    lab.run("dvc", "init", "-q")
    lab.run("dvc", "config", "hydra.enabled", "true")
    lab.run(sys.executable, "pipelines/compose.py")
    commit(lab, "small")
    return lab


def commit(lab: Lab, message: str) -> None:
    lab.run("git", "add", "-A")
    lab.run("git", "commit", "-qm", message)
