"""Forecasting as a task of its own: for families that have no density of the next step, the next step's sequences; for
networks, the same, looked at many steps ahead."""

from __future__ import annotations

from typing import Any, ClassVar

from seqlab.data.ahead import Ahead
from seqlab.data.prepared import SOURCE, TARGET, Meta, Prepared
from seqlab.data.sequences import Sequences
from seqlab.settings import Budget
from seqlab.tasks.forecast.settings import TrainingBudget
from seqlab.training.task import TrainedTask


class Train(TrainedTask):
    # What is built around any family of these kinds that has a next step, by how it is fitted, where a domain asks for
    # it. Read from the source, as what a family's class states.
    heads: ClassVar[dict[str, str]] = {"gradient": "seqlab.tasks.forecast.gradient.forecaster"}
    kinds = ("vectors",)

    def data(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        sequences = prepared.split(TARGET, split)
        if not isinstance(budget, TrainingBudget):
            return sequences
        return Ahead.of(sequences, budget.look)

    def source(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return prepared.split(SOURCE, split)

    def possible(self, meta: Meta) -> bool:
        return "next_step" in meta.tasks

    def around(self, fit: str) -> str | None:
        return self.heads.get(fit)

    def validation_loss(self, model: Any, valid: Sequences) -> None:
        """What has no density has no loss in nats; its fit's report says what it chose by."""
        return
