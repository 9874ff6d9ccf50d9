"""One set of instructions and one order of every sum, on whatever x86-64 processor: what trainer.portable asks for.

Libraries choose kernels by the processor's vendor and instructions, and kernels of other widths add in another order. A
library decides when it is loaded or first used, so its variables have to stand in the environment with which a process
is started: a process that was started without them starts its program again.

Nothing is imported here that is not imported already.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seqlab.errors import UserError

CHANGES_NO_BIT = True  # by an edit of what is not FIXED: no stage imports it; trainer.portable is in their parameters

# AVX2 with FMA, which every x86-64 server processor since 2015 has. MKL knows vendors: only COMPATIBLE is alike on all.
FIXED = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_ENABLE_CPU_FEATURES": "X86_V3",
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe,+popcnt",
}
# What would say otherwise.
OTHERS = ("MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "DNNL_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES")

_begun = {name: os.environ.get(name) for name in (*FIXED, *OTHERS)}
"""As this process was started: a warm process hands its own libraries, and so these, to its children."""


_folder = Path.cwd()
STARTED = "SEQLAB_PORTABLE"  # set where a process has begun again, so that it does so once


def is_fixed() -> bool:
    return _begun == FIXED | dict.fromkeys(OTHERS)


def fix(environment: dict[str, str]) -> dict[str, str]:
    """The environment with which a process computes alike everywhere."""
    return {name: value for name, value in environment.items() if name not in OTHERS} | FIXED


def for_children() -> None:
    """Have whatever this process starts compute alike everywhere."""
    found = fix(dict(os.environ))
    os.environ.clear()
    os.environ.update(found)


def fixed(command: list[str]) -> None:
    """Start `command` in place of this process unless it began so.

    command: this process's own, whose first word is a script or `-m`. Raises UserError where the processor has not the
    instructions, or something takes the variables away as often as they are set.
    """
    if is_fixed():
        return
    if STARTED in os.environ:
        odd = [name for name, value in _begun.items() if value != FIXED.get(name)]
        raise UserError(f"trainer.portable: {', '.join(odd)}: changed where Python starts, such as in sitecustomize")
    if not has_them():
        raise UserError("trainer.portable: this processor lacks AVX2 or FMA; no other set of instructions is offered")
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(_folder)
    os.execve(sys.executable, [sys.executable, *command], fix(dict(os.environ)) | {STARTED: "1"})


def has_them() -> bool:
    import platform

    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:  # not Linux: the libraries will say it
        return True
    return {"avx2", "fma"} <= set(flags)
