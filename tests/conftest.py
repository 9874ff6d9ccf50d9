"""One thread: two OpenMP threads that share a core with other processes are many times slower than one.

And no deadlines: how long an example takes says how busy the machine is.
"""

from hypothesis import settings

from seqlab.threads import pin

# Before NumPy, torch and numba are first imported.
pin(1)
settings.register_profile("seqlab", deadline=None)
settings.load_profile("seqlab")
