"""What changes a network's bits: kernels, threads, hash seed, locale, time zone; and what trainer.portable costs.

    python bench/dispatch.py                      every family under every setting, as a table
    python bench/dispatch.py --only rnn lstm      of these families
    python bench/dispatch.py --size 32            narrower than shipped, for a machine that is busy
    python bench/dispatch.py --train rnn          a line of JSON: the hash of its weights after a few steps

Each setting is an environment of a process of its own, in which each gradient family of conf/ is trained with its
shipped values for a few steps. Threads are the configuration's (trainer.threads), whatever a shell says.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from seqlab.instructions import FIXED, OTHERS, fix

CONF = Path(__file__).parents[1] / "conf/family"
NAMES = tuple(path.stem for path in sorted(CONF.glob("*.yaml")) if "\noptimizer:" in path.read_text(encoding="utf-8"))
SYMBOLS, STEPS, TIMED = 64, 3, 10
THREADS = "SEQLAB_BENCH_THREADS"
CAPPED = {
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"},
}
SETTINGS: dict[str, dict[str, str]] = {
    "as it is": {},
    "again": {},
    **CAPPED,
    "2 threads": {THREADS: "2"},
    "hash seed": {"PYTHONHASHSEED": "7"},
    "C locale": {"LC_ALL": "C"},
    "time zone": {"TZ": "Asia/Seoul"},
    "portable": fix({}),
    "portable, 2 threads": fix({THREADS: "2"}),
}


def train(name: str, size: int | None, timed: bool) -> dict[str, Any]:
    """Weights' hash after STEPS and, where asked for, seconds of TIMED. size: of hidden layers; None: as shipped."""
    bits, _ = trained_for(name, size, STEPS)
    return {"bits": bits, "seconds": trained_for(name, size, TIMED)[1] if timed else None}


def trained_for(name: str, size: int | None, steps: int) -> tuple[str, float]:
    import numpy as np

    from seqlab.data.pairs import Pairs
    from seqlab.data.sequences import Sequences
    from seqlab.families.saved import Recipe
    from seqlab.settings import Budget, Optimizer, Strategy, TrainerSettings
    from seqlab.training.gradient.train import train as gradient
    from seqlab.training.job import Job
    from seqlab.training.resume import Checkpoint

    parameters = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    target, optimizer = parameters.pop("_target_"), parameters.pop("optimizer")
    sizes = {key: size for key in parameters if key in ("hidden_size", "attention_size", "feedforward_size")}
    parameters |= sizes if size is not None else {}
    translates = name.startswith("seq2seq")
    draw = np.random.default_rng(0)

    def texts(count: int) -> Sequences:
        return Sequences.from_arrays([draw.integers(4, SYMBOLS, draw.integers(16, 48)) for _ in range(count)])

    train, valid = ((Pairs(texts(n), texts(n)) if translates else texts(n)) for n in (32, 8))
    threads = 1 if FIXED.items() <= os.environ.items() else int(os.environ.get(THREADS, "1"))
    trainer = TrainerSettings("cpu", 1, 1, "auto", "32-true", threads, compile=False, max_steps=None)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trained = gradient(Job(
            recipe=Recipe(target, parameters, "gradient", "pairs" if translates else "symbols", SYMBOLS, None),
            task="translate" if translates else "next_step", train=train, valid=valid, prepared=Path("nowhere"),
            members={}, start=None, teacher=None, objective=None, strategy=Strategy("scratch", 1.0),
            budget=Budget(steps=steps, tokens=512, evaluations=1), optimizer=Optimizer(**optimizer), trainer=trainer,
            seed=5, checkpoint=Checkpoint(Path(folder), 1e9), log=lambda *_: None,
        ))  # fmt: skip
    seconds = time.perf_counter() - began
    parts = (np.ascontiguousarray(trained.tensors[name]).tobytes() for name in sorted(trained.tensors))
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12], seconds


def measured(
    names: tuple[str, ...], size: int | None, setting: dict[str, str], timed: bool = False
) -> dict[str, dict[str, Any]]:
    """By family, in a process of the setting's environment."""
    options = [*([] if size is None else ["--size", str(size)]), *(["--timed"] if timed else [])]
    own = {name: value for name, value in os.environ.items() if name not in (*FIXED, *OTHERS, THREADS)}
    done = subprocess.run(
        [sys.executable, __file__, "--train", *names, *options],
        env=own | setting,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", metavar="FAMILY", choices=NAMES)
    parser.add_argument("--only", nargs="+", metavar="FAMILY", choices=NAMES, default=NAMES)
    parser.add_argument("--size", type=int, metavar="N")
    parser.add_argument("--timed", action="store_true", help="with --train: seconds of more steps, too")
    asked = parser.parse_args()
    if asked.train:
        print(json.dumps({name: train(name, asked.size, asked.timed) for name in asked.train}))
        return
    results = {
        setting: measured(tuple(asked.only), asked.size, values, setting in ("as it is", "portable"))
        for setting, values in SETTINGS.items()
    }
    base, portable = results["as it is"], results["portable"]
    print("| family | " + " | ".join(list(results)[1:]) + " | portable costs |")
    print("|:--|" + ":--|" * len(results))
    for name in asked.only:
        same = ["same" if results[s][name]["bits"] == base[name]["bits"] else results[s][name]["bits"] for s in results]
        print(f"| {name} | " + " | ".join(same[1:]) + f" | ×{portable[name]['seconds'] / base[name]['seconds']:.2f} |")


if __name__ == "__main__":
    main()
