"""Kill stage, driver, warm process, tracking process and DVC at random moments; count how often the same bits come out.

    python bench/kills.py                       100 kills
    python bench/kills.py --kills 25 --seed 3   25 of them, at other moments
    python bench/kills.py --executor dask       100 kills of workers, their hosts and whole nodes as well

A small suite is run undisturbed once. Then it is begun again from nothing and one process is killed, of a kind and at a
moment drawn at random, until it has been killed as often as it had to be; after each the same command is given again,
and dvc.lock and the leaderboard are compared byte for byte.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

small = importlib.import_module("small").small
kills: Any = importlib.import_module("test_kills")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", nargs="+", default=["markov", "mlp"])
    parser.add_argument("--executor", choices=kills.KINDS, default="local")
    asked = parser.parse_args()
    kinds = kills.KINDS[asked.executor]
    rng = random.Random(asked.seed)
    done: Counter[str] = Counter()
    held = 0
    with tempfile.TemporaryDirectory() as folder:
        lab = small(Path(folder) / "lab", *asked.families)
        began = time.monotonic()
        expected = kills.finished(lab)
        took = time.monotonic() - began
        while done.total() < asked.kills:
            kills.emptied(lab)
            kind = kinds[done.total() % len(kinds)]
            if not kills.disturbed(lab, kind, rng.uniform(0, 0.8 * took), rng, asked.executor):
                continue  # it had ended before
            done[kind] += 1
            try:
                found = kills.finished(lab, asked.executor)
                same = found == expected
                for name in expected:
                    before, now = (one[name].decode().splitlines() for one in (expected, found))
                    print("\n".join([*difflib.unified_diff(before, now, name, name, n=1, lineterm="")][:40]), end="")
            except AssertionError as error:
                print(f"{kind}: {error}", flush=True)
                same = False
            held += same
            print(f"{done.total()}/{asked.kills} {kind}: {'the same bits' if same else 'NOT the same'}", flush=True)
    each = ", ".join(f"{number} {kind}" for kind, number in done.items())
    print(f"{held} of {done.total()} ended in the same bits ({each})")
    sys.exit(held != done.total())


if __name__ == "__main__":
    main()
