"""Forecasts from elsewhere: what there is to forecast, and the tables that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.data.prepared import TARGET
from seqlab.errors import UserError
from seqlab.evaluation import outside
from seqlab.evaluation.outside import Foreign
from seqlab.tasks.judging import Test

if TYPE_CHECKING:
    import pyarrow as pa


def ask(test: Test) -> Mapping[str, pa.Table]:
    sequences = test.sequences(TARGET)
    asked = outside.cutoffs(sequences, _forecasting(test).settings)
    return {"history": outside.history(sequences, test.prepared.meta), "cutoffs": asked}


def read(path: Path, test: Test) -> list[Foreign]:
    return outside.forecasts(path, test.sequences(TARGET), test.prepared.meta, _forecasting(test).settings)


def _forecasting(test: Test) -> Test:
    """Raises UserError where the domain asks for no forecasts."""
    if not getattr(test.settings, "horizons", []):
        raise UserError(f"domain {test.domain}: it asks for no forecasts (domain.evaluate.horizons)")
    return test
