"""Classes from elsewhere: what there is to classify, and the tables that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.data.prepared import LABELLED
from seqlab.errors import UserError
from seqlab.evaluation import outside
from seqlab.evaluation.outside import Foreign
from seqlab.tasks.judging import Test

if TYPE_CHECKING:
    import pyarrow as pa


def ask(test: Test) -> Mapping[str, pa.Table]:
    prepared = _classifying(test).prepared
    splits = {split: prepared.split(LABELLED, split) for split in ("train", "valid")}
    splits["test"] = test.sequences(LABELLED)
    return {"examples": outside.examples(splits, prepared.meta.classes, prepared.meta.characters)}


def read(path: Path, test: Test) -> list[Foreign]:
    return [outside.classes(path, _classifying(test).sequences(LABELLED), test.prepared.meta.classes)]


def _classifying(test: Test) -> Test:
    """Raises UserError where the domain's sequences have no classes."""
    if "classify" not in test.prepared.meta.tasks:
        raise UserError(f"domain {test.domain}: its sequences carry no classes")
    return test
