"""Translation: a copy of the source, and each word on its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from seqlab.data.text_pairs import TextPairs, tests_of
from seqlab.evaluation import translation
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


class WordForWord:
    """Each English word becomes the Korean word that it goes with most often, by Dice's coefficient, of those in the
    training pairs (Dice 1945; Smadja, McKeown and Hatzivassiloglou 1996); a word never seen is copied."""

    WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")

    def __init__(self, train: TextPairs):
        ours: Counter[str] = Counter()
        theirs: Counter[str] = Counter()
        together: dict[str, Counter[str]] = {}
        for source, references in zip(train.sources, train.references, strict=True):
            left, right = sorted(set(self.WORD.findall(source.lower()))), sorted(set(references[0].split()))
            ours.update(left)
            theirs.update(right)
            for word in left:
                together.setdefault(word, Counter()).update(right)
        self.lexicon = {
            word: min(found, key=lambda other: (-2 * found[other] / (ours[word] + theirs[other]), other))
            for word, found in together.items()
        }

    def translate(self, sources: Sequence[str]) -> list[str]:
        return [" ".join(self.lexicon.get(w.lower(), w) for w in self.WORD.findall(source)) for source in sources]
