"""Next step: symbols by their shares alone; vectors as independent values, or as a walk."""

from __future__ import annotations

from collections.abc import Mapping

from seqlab.data.prepared import TARGET
from seqlab.evaluation import conformal, judge
from seqlab.evaluation import controls as made
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Test

SMOOTHING = 0.5  # added to each symbol's count


def controls(test: Test) -> Mapping[str, Scores]:
    meta, sequences = test.prepared.meta, test.sequences(TARGET)
    predictors = made.next_step(test.prepared.split(TARGET, "train"), meta.space, SMOOTHING)
    if meta.space.symbols:
        return {name: judge.next_symbols(one, meta, sequences) for name, one in predictors.items()}
    valid = test.sequences(TARGET, "valid")
    return {name: conformal.next_vectors(one, valid, sequences, name)[0] for name, one in predictors.items()}
