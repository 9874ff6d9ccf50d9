"""What a device gave and could give, beside a training's result."""

from __future__ import annotations

import time
from functools import cache

import torch

from seqlab.cost import peak_memory_mb as resident_mb

CHANGES_NO_BIT = True

# How often a product is timed; the first ones wake libraries and clocks.
PRODUCTS = 8


def peak_memory_mb(device: torch.device) -> float:
    """MB (10^6 bytes): on CUDA of what was allocated there since `claim`, elsewhere of the process."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else resident_mb()


@cache
def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large square matrix product, the best of several: what this device can do at most, as it is now.

    Draws no random number. With the process's threads at the first call, which is when it is measured.
    """
    edge = 8192 if device.type == "cuda" else 512
    # Neither zeros nor equal numbers, which a card multiplies at higher clocks than it does numbers that differ.
    a = torch.linspace(-1, 1, edge * edge, device=device).view(edge, edge).to(dtype)
    best = float("inf")
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        torch.mm(a, a)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2.0 * edge**3 / best
