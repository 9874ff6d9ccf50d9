"""Scores of translations, as sums over sentences that give the corpus scores of any resample.

chrF++ (Popović 2017) and BLEU (Papineni et al. 2002) as sacreBLEU counts them (Post 2018): its n-gram counts of each
sentence are kept, and `metrics` computes its corpus scores from their sums, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import Any, Literal, NamedTuple

import numpy as np

from seqlab.data.text_pairs import TextPairs
from seqlab.evaluation.metrics import BLEU, CHRF, metric_of
from seqlab.evaluation.scores import Ratio, Scores, Statistics

# Lower ends of the length buckets, in words of the source.
BUCKETS = (1, 6, 11, 21)
GOOD = 80.0  # chrF++ of a sentence that counts as translated
Tokenize = Literal["char", "ko-mecab"]


class Scorers(NamedTuple):
    """sacreBLEU's two metrics with the settings of every table."""

    chrf: Any
    bleu: Any

    @classmethod
    def of(cls, tokenize: Tokenize) -> Scorers:
        from sacrebleu.metrics.bleu import BLEU as SacreBLEU
        from sacrebleu.metrics.chrf import CHRF as SacreCHRF

        return cls(SacreCHRF(word_order=2), SacreBLEU(tokenize=tokenize))

    def signatures(self, test: TextPairs) -> dict[str, str]:
        """What must stand beside a score for it to be comparable."""
        columns = streams(test)
        found = {}
        for name, scorer in ((CHRF, self.chrf), (BLEU, self.bleu)):
            scorer.corpus_score([references[0] for references in test.references], columns)
            found[name] = str(scorer.get_signature())
        return found


def streams(test: TextPairs) -> list[list[str | None]]:
    """References as sacreBLEU wants them: the first of every sentence, the second of every sentence or None, ..."""
    return [list(column) for column in zip_longest(*test.references)]


def scores(task: str, translations: Sequence[str], test: TextPairs, scorers: Scorers) -> Scores:
    """Of one system's translations of a test set.

    chrf++ and bleu, on all sentences, on each bucket of source lengths and on what is kept for testing alone; exact:
    equal to a reference; accepted: exact, or chrF++ of at least 80.
    """
    columns = streams(test)
    example = np.arange(len(test))
    groups = {"": np.ones(len(test), bool), **groups_of(test)}
    statistics = {}
    for name, scorer in ((CHRF, scorers.chrf), (BLEU, scorers.bleu)):
        counts = np.array(scorer._extract_corpus_statistics(list(translations), columns), np.float64)
        for suffix, chosen in groups.items():
            if chosen.any():
                statistics[task, name + suffix] = Statistics(example[chosen], counts[chosen])
    exact = np.array([one in references for one, references in zip(translations, test.references, strict=True)])
    accepted = exact | (metric_of(CHRF).reduce(statistics[task, CHRF].values) >= GOOD)
    ratios = {
        (task, name + suffix): Ratio(example[chosen], hits[chosen].astype(np.float64), np.ones(chosen.sum()))
        for name, hits in (("exact", exact), ("accepted", accepted))
        for suffix, chosen in groups.items()
        if suffix in ("", KEPT) and chosen.any()
    }
    return Scores(ratios, statistics=statistics, texts={task: list(translations)})


KEPT = "@kept"


def groups_of(test: TextPairs) -> dict[str, np.ndarray]:
    """Masks (E,) by suffix of a metric's name: source lengths in words; sentences that no rule was written from."""
    lengths = np.array([len(source.split()) for source in test.sources])
    ends = [*BUCKETS[1:], np.inf]
    found = {
        name: (low <= lengths) & (lengths < high) for name, low, high in zip(bucket_names(), BUCKETS, ends, strict=True)
    }
    return found | {KEPT: np.array([origin.endswith("_kept") for origin in test.origins])}


def bucket_names() -> list[str]:
    """Suffixes of a metric's name, the shortest sources first."""
    return [*(f"@{low}-{high - 1}" for low, high in pairwise(BUCKETS)), f"@{BUCKETS[-1]}+"]


def unknown(task: str, counts: Sequence[tuple[int, int]]) -> Scores:
    """The share of source words that a system does not know. counts: (unknown, all) of each sentence."""
    parts = np.array(counts, np.float64)
    return Scores({(task, "unknown_words"): Ratio(np.arange(len(parts)), parts[:, 0], parts[:, 1])})


def sampled(size: int, samples: int) -> list[int]:
    """The examples that reports show: evenly spread, the first among them."""
    examples: list[int] = np.unique(np.linspace(0, size - 1, min(samples, size)).astype(np.int64)).tolist()
    return examples
