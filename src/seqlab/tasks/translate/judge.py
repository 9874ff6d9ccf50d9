"""Translation: the scores of three test sets, how fast each was translated, and how some of it came about."""

from __future__ import annotations

import time
from typing import Any

from seqlab.data.text_pairs import TextPairs, tests_of
from seqlab.evaluation import translation
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Judged, JudgedTask, Shown, Test


class Judge(JudgedTask):
    models = ("translate",)
    tables = ("in_domain", "held_out", "everyday")

    def judge(self, model: Any, test: Test) -> Judged:
        scorers = translation.Scorers.of(test.settings.tokenize)
        scores, speeds, texts = Scores(), {}, {}
        for table, file in tests_of(test.prepared.meta).items():
            pairs = test.first(TextPairs.load(test.prepared.folder / f"pairs/{file}.jsonl"))
            asked = model.in_register(test.settings.registers[table])
            began = time.perf_counter()
            made = asked.translated(pairs.sources)
            speeds[table] = {"sentences_per_second": len(pairs) / (time.perf_counter() - began)}
            scores |= translation.scores(table, made.translations, pairs, scorers)
            scores |= translation.unknown(table, made.unknown())
            chosen = translation.sampled(len(pairs), test.settings.samples)
            texts[f"explanations/{table}.html"] = made.explained(chosen)
        return Judged(scores, Shown(texts=texts), speeds)
