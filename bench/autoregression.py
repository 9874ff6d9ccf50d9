"""AR(8) with a constant on panels of 200 steps, one thread: microseconds a series, ours and its peers turn by turn.

    python bench/autoregression.py

Peers that loop over series run on a few of them and are scaled. The floor is the time to read the panel once.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from statsmodels.tsa.ar_model import AutoReg

from seqlab.data.sequences import Sequences
from seqlab.families.closed_form.autoregression import fit_each

ORDER, STEPS = 8, 200


def panel(series: int) -> Sequences:
    """Random walks seen in noise, float32 as prepared data are."""
    rng = np.random.default_rng(0)
    walk = 0.3 * rng.standard_normal((series, STEPS), np.float32).cumsum(axis=1)
    values = walk + rng.standard_normal((series, STEPS), np.float32)
    return Sequences(values.reshape(-1, 1), np.arange(series + 1) * STEPS)


def autoreg(data: Sequences) -> np.ndarray:
    return np.array([AutoReg(series[:, 0].astype(np.float64), ORDER).fit().params for series in data])


def lstsq(data: Sequences) -> np.ndarray:
    found = []
    for series in data:
        windows = np.lib.stride_tricks.sliding_window_view(series[:, 0].astype(np.float64), ORDER + 1)[:, ::-1]
        design = np.concatenate([np.ones((len(windows), 1)), windows[:, 1:]], axis=1)
        found.append(np.linalg.lstsq(design, windows[:, 0], rcond=None)[0])
    return np.array(found)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    few = panel(300)
    found = fit_each(few, ORDER).coefficients
    print(f"largest difference from AutoReg's coefficients: {np.abs(found - autoreg(few)).max():.1e}")
    print(f"{'series':>8} {'method':<22} {'µs a series':>12} {'times ours':>11}")
    for series in arguments.series:
        data = panel(series)
        methods: dict[str, tuple[Callable[[], object], int]] = {
            "fit_each": (partial(fit_each, data, ORDER), series),
            "numpy lstsq loop": (partial(lstsq, few), len(few)),
            "statsmodels AutoReg": (partial(autoreg, few), len(few)),
            "floor: read once": (data.values.sum, series),
        }
        turns: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(arguments.rounds):
            for name, (call, count) in methods.items():
                turns[name].append(seconds(call) / count * 1e6)
        # The best turn: other processes on the machine only ever add time.
        best = {name: min(times) for name, times in turns.items()}
        for name, micros in best.items():
            print(f"{series:>8} {name:<22} {micros:>12.3f} {micros / best['fit_each']:>11.2f}")


if __name__ == "__main__":
    main()
