"""Where, when and how often: values of execution. None of them can change a bit of a result, and none is hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from seqlab.settings import Count, NonNegative, Positive


@dataclass(frozen=True)
class Execution:
    """conf/execution: how a repro goes through its stages."""

    executor: Literal["local"]
    jobs: Count | None  # stages at a time; null: as many as there are cores
    checkpoint_seconds: NonNegative  # between checkpoints from which a killed training resumes


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """conf/tracking/*.yaml."""

    uri: str
    """Where MLflow keeps runs; a relative SQLite path starts at the repository."""
    prefix: str
    """Experiments are called PREFIX/DOMAIN."""
    system_interval: Positive
    """Seconds between two samples of system metrics."""
    results: list[str]
    """Files that running rewrites; they do not make the working tree dirty."""
