"""What a training cost, measured: tracked beside the results, never among hashed outputs."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from functools import cache

import numpy as np

CHANGES_NO_BIT = True  # of any result: no stage is run again for an edit here

EDGE, PRODUCTS = 512, 8  # of the square matrices whose product is timed, and how often


@dataclass(frozen=True)
class Cost:
    """seconds: wall time of the whole training. Rates: validation excluded from the time, padding from the count.

    product_share: of the arithmetic that the device does in a large matrix product at that precision, measured there
    and then: the model FLOPs utilisation of Chowdhery et al. (2022), beside what can be had and not what is advertised.
    """

    seconds: float
    sequences_per_second: float
    symbols_per_second: float
    peak_memory_mb: float  # of the process; on a GPU, of what was allocated there
    flops_per_second: float  # by the estimate of `Trained.flops`; 0 where there is none
    product_share: float


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


@cache
def product_rate() -> float:
    """FLOP/s of NumPy's product of two large float64 matrices on this process's threads, the best of several."""
    a = np.linspace(-1, 1, EDGE * EDGE).reshape(EDGE, EDGE)
    best = float("inf")
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2.0 * EDGE**3 / best
