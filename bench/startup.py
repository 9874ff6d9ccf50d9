"""What a stage costs beyond its work, and what a `dvc repro` with nothing to do costs.

    python bench/startup.py [--rounds 3]

Runs stages of the pipeline that have run before, in turn, and prints the median wall time of the whole process and what
of it its record does not call training. Equal inputs give equal bits, so that the pipeline's outputs stay as they are.
 Goals: 1.5 s beyond the work for a closed-form family, 7 s for a gradient one, 3 s for a no-op `dvc repro`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = [
    ("finetune", "strings/markov/full/0"),
    ("finetune", "series/ar/full/0"),
    ("evaluate", "series/markov/full/0"),
    ("finetune", "series/rnn/full/0"),
    ("evaluate", "strings/rnn/full/0"),
]


def wall(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - began


def training(verb: str, cell: str) -> float:
    record = json.loads((ROOT / ".seqlab/records" / verb / f"{cell}.json").read_text())
    return float(sum(cost["seconds"] for cost in record["cost"].values()))


def main() -> None:
    parser = argparse.ArgumentParser(description="start-up of stages and of dvc")
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    walls: dict[tuple[str, str], list[float]] = {}
    beyond: dict[tuple[str, str], list[float]] = {}
    nothing: list[float] = []
    for _ in range(rounds):
        for verb, cell in STAGES:
            seconds = wall([sys.executable, f"pipelines/{verb}.py", cell])
            walls.setdefault((verb, cell), []).append(seconds)
            beyond.setdefault((verb, cell), []).append(seconds - training(verb, cell))
        nothing.append(wall(["dvc", "repro"]))
    print(f"{'stage':34} {'wall s':>7} {'beyond training s':>18}")
    for key, seconds_of in walls.items():
        print(f"{' '.join(key):34} {statistics.median(seconds_of):7.2f} {statistics.median(beyond[key]):18.2f}")
    print(f"{'dvc repro, nothing to do':34} {statistics.median(nothing):7.2f}")


if __name__ == "__main__":
    main()
