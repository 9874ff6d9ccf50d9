"""Forecasts with what is known besides: the families that use covariates learn from the target and theirs."""

from __future__ import annotations

from typing import Any, ClassVar

from seqlab.data.beside import FOLDER, NAMES, Accompanied
from seqlab.data.prepared import Meta, Prepared
from seqlab.settings import Budget
from seqlab.training.task import TrainedTask


class Train(TrainedTask):
    # What is built around a family, by how it is fitted; around which families alone, and the roles that each uses.
    heads: ClassVar[dict[str, str]] = {"closed_form": "seqlab.tasks.covariates.closed_form.forecaster"}
    families: ClassVar[dict[str, tuple[str, ...]]] = {
        "seqlab.families.gbdt.GBDT": ("known", "past", "static"),
        "seqlab.families.arima.ARIMA": ("known",),
    }
    kinds = ("vectors",)
    instead_of = "forecast"  # who is trained for this is not trained for that, and answers its table

    def data(self, prepared: Prepared, split: str, budget: Budget) -> Accompanied:
        return Accompanied.open(prepared, split)

    def possible(self, meta: Meta) -> bool:
        return "next_step" in meta.tasks

    def around(self, fit: str) -> str | None:
        return self.heads.get(fit)

    def files(self, prepared: Prepared) -> dict[str, Any]:
        """What the columns are called, and the levels of those of words."""
        return {NAMES: prepared.folder / FOLDER / NAMES}

    def validation_loss(self, model: Any, valid: Accompanied) -> None:
        """What has no density has no loss in nats; its fit's report says what it chose by."""
        return
