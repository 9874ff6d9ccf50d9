"""Freed memory: kept for the next block, or given back and cleared again."""

import subprocess
import sys

import pytest

BLOCK = 40 << 20  # bytes: more than glibc ever keeps by itself
SCRIPT = f"""
import resource
{{keep}}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray({BLOCK})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(faults() for _ in range(4)))
"""


def faults(keep: str) -> list[int]:
    """Of each of four equal blocks, one freed before the next."""
    made = subprocess.run([sys.executable, "-c", SCRIPT.format(keep=keep)], capture_output=True, text=True, check=True)
    return [int(word) for word in made.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="what is asked for is glibc's")
def test_what_was_freed_is_not_cleared_by_the_kernel_again() -> None:
    first, *later = faults("from seqlab.heap import keep_freed; keep_freed()")
    assert max(later) < first / 10
    first, *later = faults("")
    assert max(later) > first / 2
