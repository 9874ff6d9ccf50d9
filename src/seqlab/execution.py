"""Where, when and how often: values of execution. None of them can change a bit of a result, and none is hashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from seqlab.settings import Count, NonNegative, Positive

Where: TypeAlias = Literal["local", "dask", "slurm"]


@dataclass(frozen=True)
class Resources:
    """What a stage takes of a worker: cores, GB, cards."""

    cpu: Positive
    memory: NonNegative
    gpu: NonNegative


@dataclass(frozen=True)
class ResourcesByFit:
    """By the way that the family of a stage is fitted. other: of no family."""

    closed_form: Resources
    gradient: Resources
    mixture: Resources
    rules: Resources
    other: Resources


@dataclass(frozen=True)
class Execution:
    """conf/execution: how a repro goes through its stages."""

    executor: Where
    jobs: Count | None  # stages at a time on this machine; null: as many as there are cores
    checkpoint_seconds: NonNegative  # between checkpoints from which a killed training resumes
    address: str | None  # of a scheduler that runs already; null: one is started, and ended
    shared_disk: bool  # whether workers see this workspace; else inputs and outputs go through DVC's remote
    resources: ResourcesByFit


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
