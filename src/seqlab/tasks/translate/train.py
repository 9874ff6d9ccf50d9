"""Translation: pairs of subwords. A system of rules reads the pairs as texts and validates nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqlab.data.pairs import Pairs
from seqlab.data.prepared import Prepared
from seqlab.data.sequences import Sequences
from seqlab.data.vocabulary import NAME as VOCABULARY
from seqlab.errors import UserError
from seqlab.settings import Budget
from seqlab.training.task import TrainedTask


class Train(TrainedTask):
    def data(self, prepared: Prepared, split: str, budget: Budget) -> Pairs:
        tokens = prepared.folder / "tokens" / split
        return Pairs(Sequences.load(tokens / "source"), Sequences.load(tokens / "target"))

    def files(self, prepared: Prepared) -> Mapping[str, Path]:
        return {VOCABULARY: prepared.folder / VOCABULARY}

    def validation_loss(self, model: Any, valid: Pairs) -> float:
        raise UserError("translate: no family in closed form translates")
