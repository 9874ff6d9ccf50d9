"""What a training cost, measured: tracked beside the results, never among hashed outputs."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """seconds: wall time of the whole training. Rates: validation excluded from the time, padding from the count."""

    seconds: float
    sequences_per_second: float
    symbols_per_second: float
    peak_memory_mb: float  # of the process; on a GPU, of what was allocated there


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6
