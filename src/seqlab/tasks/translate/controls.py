"""Translation: a copy of the source, and each word on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from seqlab.data.pairs import TextPairs, tests_of
from seqlab.evaluation import translation
from seqlab.evaluation.controls import WordForWord
from seqlab.evaluation.scores import Scores
from seqlab.tasks.judging import Test


def controls(test: Test) -> Mapping[str, Scores]:
    train = TextPairs.load(test.prepared.folder / "pairs/train.jsonl")
    systems: dict[str, Callable[[list[str]], list[str]]] = {
        "copy": list[str],
        "word_for_word": WordForWord(train).translate,
    }
    scorers = translation.Scorers.of(test.settings.tokenize)
    found: dict[str, Scores] = {}
    for table, file in tests_of(test.prepared.meta).items():
        pairs = test.first(TextPairs.load(test.prepared.folder / f"pairs/{file}.jsonl"))
        for name, translate in systems.items():
            made = translation.scores(table, translate(pairs.sources), pairs, scorers)
            found[name] = found.get(name, Scores()) | made
        # Beside the copies, so that a report finds all that it shows among the scores.
        signatures = list(scorers.signatures(pairs).values())
        references = [" / ".join(references) for references in pairs.references]
        found["copy"] |= Scores(texts={f"{table}:references": references, f"{table}:signatures": signatures})
    return found
