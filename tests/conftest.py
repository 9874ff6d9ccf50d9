"""One thread: two OpenMP threads that share a core with other processes are many times slower than one."""

import os

# Read when torch and numba are first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
