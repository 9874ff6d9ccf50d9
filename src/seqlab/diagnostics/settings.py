"""What the diagnostics of memory do, as configured."""

from __future__ import annotations

from dataclasses import dataclass

from seqlab.settings import Count, Natural, Positive


@dataclass(frozen=True)
class Diagnostics:
    """How far families remember: gradient norms by lag, and tasks of memory at growing horizons."""

    families: list[str]
    hidden_size: Count
    lags: Count  # steps back of the gradient norms
    truncation: Count  # of truncated back-propagation, in steps
    batch: Count
    horizons: list[Count]  # steps
    steps: Count  # most steps of a training
    learning_rate: Positive
    clip: Positive
    solved: Positive  # held-out loss, as a share of the least one without memory
    seed: Natural
