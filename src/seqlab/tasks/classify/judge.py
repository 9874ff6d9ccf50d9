"""Classification: the whole answer for every labelled test sequence."""

from __future__ import annotations

from typing import Any

from seqlab.data.prepared import LABELLED
from seqlab.evaluation import judge
from seqlab.evaluation.kept import Kept
from seqlab.evaluation.metrics import CLASSIFY
from seqlab.tasks.judging import Judged, JudgedTask, Test


class Judge(JudgedTask):
    models = ("classify",)

    def judge(self, model: Any, test: Test) -> Judged:
        found = judge.classes(model, test.sequences(LABELLED))
        if test.order == "shuffled":
            return Judged(found)
        valid = judge.classes(model, test.sequences(LABELLED, "valid"))
        return Judged(found, kept=Kept(answers=valid.predictions[CLASSIFY]))
