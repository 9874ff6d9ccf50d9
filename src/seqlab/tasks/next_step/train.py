"""Next step: the target's sequences, or the source's, and -log P of each position given those before it."""

from __future__ import annotations

from typing import Any

from seqlab.data.prepared import SOURCE, TARGET, Prepared
from seqlab.data.sequences import Sequences
from seqlab.settings import Budget
from seqlab.training.task import TrainedTask

TOKENS = 1 << 16  # positions in a batch of validation


class Train(TrainedTask):
    def data(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return prepared.split(TARGET, split)

    def source(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return prepared.split(SOURCE, split)

    def validation_loss(self, model: Any, valid: Sequences) -> float:
        """Of scored positions: per symbol, or per step and channel."""
        total, number = 0.0, 0
        for _, batch in valid.batches(TOKENS):
            total -= float(model.log_prob(batch.x, batch.mask)[batch.scored].sum())
            number += int(batch.scored.sum())
        return total / number / (1 if valid.symbols else valid.values.shape[1])
