"""Denoising: monolingual text on both sides, the source noised, for whatever translates."""

from __future__ import annotations

from seqlab.data.pairs import Denoising
from seqlab.data.prepared import Prepared
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.settings import Budget, SourceBudget
from seqlab.tasks.translate import train


class Train(train.Train):
    def source(self, prepared: Prepared, split: str, budget: Budget) -> Denoising:
        if not isinstance(budget, SourceBudget) or budget.noise is None:
            raise UserError("pretrain.noise: missing; a domain of pairs is pretrained by denoising")
        return Denoising(Sequences.load(prepared.folder / "tokens/monolingual" / split), budget.noise)
