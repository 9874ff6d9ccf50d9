"""Forecasting as a task of its own, for families that have no density of the next step: the next step's sequences."""

from __future__ import annotations

from typing import Any

from seqlab.data.prepared import SOURCE, TARGET, Meta, Prepared
from seqlab.data.sequences import Sequences
from seqlab.settings import Budget
from seqlab.training.task import TrainedTask


class Train(TrainedTask):
    def data(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return prepared.split(TARGET, split)

    def source(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return prepared.split(SOURCE, split)

    def possible(self, meta: Meta) -> bool:
        return "next_step" in meta.tasks

    def validation_loss(self, model: Any, valid: Sequences) -> None:
        """What has no density has no loss in nats; its fit's report says what it chose by."""
        return
