"""One thread: two OpenMP threads that share a core with other processes are many times slower than one."""

from seqlab.threads import pin

# Before NumPy, torch and numba are first imported.
pin(1)
