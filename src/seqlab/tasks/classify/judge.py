"""Classification: the whole answer for every labelled test sequence."""

from __future__ import annotations

from typing import Any

from seqlab.data.prepared import LABELLED
from seqlab.evaluation import judge
from seqlab.tasks.judging import Judged, JudgedTask, Test


class Judge(JudgedTask):
    models = ("classify",)

    def judge(self, model: Any, test: Test) -> Judged:
        return Judged(judge.classes(model, test.sequences(LABELLED)))
