"""What a card runs again and again, recorded as CUDA graphs: all kernels of one go at one launch.

Small models' kernels are hundreds and short, and their launches take the processor many times as long as the card takes
to run them. A record runs the same kernels in the same order, and so to the same bits.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Found = TypeVar("Found")


class Graphs:
    """Records of one CUDA device that are repeated one after another, never two at once."""

    def __init__(self) -> None:
        # Of one stream and one pool: what one needs in passing lies where that of the last one lay.
        self.stream = torch.cuda.Stream()
        self.pool = torch.cuda.graph_pool_handle()

    def as_written(self, run: Callable[[], Found]) -> Found:
        """Once, on the stream that records: libraries keep a workspace a stream, and prepare kernels at first sight."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            found = run()
        current.wait_stream(self.stream)
        return found

    def record(self, run: Callable[[], Found]) -> tuple[torch.cuda.CUDAGraph, Found]:
        """Nothing is computed yet: the graph's `replay` does, from and to the same addresses each time.

        run: has run as written before; it looks at no value, and draws from CUDA's own generator alone.
        """
        graph = torch.cuda.CUDAGraph()
        # Errors of this thread alone: another one may speak to the card meanwhile.
        with (
            uncollected(),
            torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"),
        ):
            found = run()
        return graph, found


@contextmanager
def uncollected() -> Iterator[None]:
    """Without a search for cycles: graphs of a training that was broken off, let go of meanwhile, end the recording."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
