"""Labelling: sequences whose positions are marked, on the target and the source, and -log P of each position's mark."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlab.data.prepared import SOURCE, TARGET, Prepared
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.settings import Budget
from seqlab.training.task import TrainedTask

TOKENS = 1 << 16  # positions in a batch of validation
# What is built around a family, by how it is fitted.
AROUND = {
    "gradient": "seqlab.tasks.label.gradient.labeller",
    "closed_form": "seqlab.tasks.label.closed_form.Labeller",
}


class Train(TrainedTask):
    def data(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return marked(prepared, TARGET, split)

    def source(self, prepared: Prepared, split: str, budget: Budget) -> Sequences:
        return marked(prepared, SOURCE, split)

    def classes(self, prepared: Prepared) -> int:
        return len(prepared.meta.classes)

    def around(self, fit: str) -> str:
        return AROUND[fit]

    def validation_loss(self, model: Any, valid: Sequences) -> float:
        """Mean over scored positions of -log P(mark | the whole sequence)."""
        total, number = 0.0, 0
        for _, batch in valid.batches(TOKENS):
            assert batch.marks is not None  # which `marked` checks
            log_probs = np.take_along_axis(model.label_log_prob(batch.x, batch.mask), batch.marks[..., None], 2)
            total -= float(log_probs[batch.scored].sum())
            number += int(batch.scored.sum())
        return total / number


def marked(prepared: Prepared, name: str, split: str) -> Sequences:
    """One split of a set whose positions have classes. Raises UserError where they have none."""
    found = prepared.split(name, split)
    if found.marks is None:
        raise UserError(f"{prepared.folder / name / split}: no marks.npy; labelling needs a class for each position")
    return found
