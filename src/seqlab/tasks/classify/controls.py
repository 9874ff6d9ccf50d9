"""Classification: the classes' shares, and what is left of a sequence when its order is removed."""

from __future__ import annotations

from collections.abc import Mapping

from seqlab.data.prepared import LABELLED
from seqlab.evaluation import controls as made
from seqlab.evaluation import judge
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Test

RIDGES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]  # penalties from which the order-free control chooses on validation


def controls(test: Test) -> Mapping[str, Scores]:
    train, valid = (test.prepared.split(LABELLED, split) for split in ("train", "valid"))
    meta = test.prepared.meta
    classifiers = made.classifiers(train, valid, meta.space, RIDGES, characters=meta.characters)
    sequences = test.sequences(LABELLED)
    return {name: judge.classes(classifier, sequences) for name, classifier in classifiers.items()}
