"""Classification: the labelled sequences, and -log P of each one's class."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlab.data.prepared import LABELLED, Prepared
from seqlab.data.sequences import Sequences
from seqlab.settings import Budget
from seqlab.training.task import TrainedTask

TOKENS = 1 << 16  # positions in a batch of validation


class Train(TrainedTask):
    def data(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return prepared.split(LABELLED, split)

    def classes(self, prepared: Prepared) -> int:
        return len(prepared.meta.classes)

    def validation_loss(self, model: Any, valid: Sequences) -> float:
        """Mean cross-entropy, per sequence."""
        total = 0.0
        for _, batch in valid.batches(TOKENS):
            assert batch.labels is not None  # which fitting a classifier checks
            log_probs = model.class_log_prob(batch.x, batch.mask)
            total -= float(np.take_along_axis(log_probs, batch.labels[:, None], 1).sum())
        return total / len(valid)
