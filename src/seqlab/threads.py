"""One number of threads for all arithmetic of a process, whatever its environment says.

The order in which a sum is taken, and so its last bits, depends on how many threads share it. The number is the
configuration's (trainer.threads): OMP_NUM_THREADS=2 in somebody's shell must change no result.

Nothing is imported here that is not imported already, so that a command may call `pin` first of all.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

# Read when NumPy, SciPy, numba and torch are first imported; OpenBLAS's and MKL's own go before OpenMP's.
COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# By these a library may take fewer than it was given, or others in a part of it.
EXCEPTIONS = ("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "OMP_TEAMS_THREAD_LIMIT", "MKL_DYNAMIC", "MKL_DOMAIN_NUM_THREADS")


def pin(threads: int) -> None:
    """Have every library compute in `threads` threads: those imported already, and those that are imported later.

    For the whole process, and for what it starts. Call it before a model is built: its first weights are arithmetic
    too.
    """
    os.environ.update(dict.fromkeys(COUNTS, str(threads)))
    for name in EXCEPTIONS:
        os.environ.pop(name, None)
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        # Holds without a `with`: nothing here restores what was before.
        threadpool_limits(limits=threads)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
        with suppress(RuntimeError):  # between operations: torch takes it once, before it works, and it moves no bit
            torch.set_num_interop_threads(threads)
