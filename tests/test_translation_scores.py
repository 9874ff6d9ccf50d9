"""Corpus scores of translations from stored counts, against sacreBLEU itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.data.pairs import TESTS, TextPairs
from seqlab.evaluation import leaderboard, metrics, order, scores, transfer, translation
from seqlab.evaluation.leaderboard import Entry
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import PairEvaluation
from seqlab.evaluation.transfer import Spent
from seqlab.settings import Decoding
from seqlab.tasks.translate import report

WORDS = ["나는", "이", "영화를", "사랑한다", ".", "그는", "은행에서", "일한다", "OK", "(예)", "a"]
SENTENCE = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
SCORERS = translation.Scorers.of("char")


def drawn(rng: np.random.Generator, low: int = 1) -> str:
    return " ".join(rng.choice(WORDS, rng.integers(low, 9)))


def test_set(rng: np.random.Generator, size: int) -> TextPairs:
    return TextPairs(
        [" ".join(["word"] * int(rng.integers(1, 30))) for _ in range(size)],
        [[drawn(rng) for _ in range(rng.integers(1, 4))] for _ in range(size)],
        ["everyday_kept" if i % 2 else "everyday_open" for i in range(size)],
    )


test_set.__test__ = False  # type: ignore[attr-defined]


def of_sacrebleu(translations: list[str], test: TextPairs, chosen: np.ndarray) -> dict[str, float]:
    part = test.subset(np.flatnonzero(chosen))
    columns = translation.streams(part)
    kept = [translations[i] for i in np.flatnonzero(chosen)]
    return {
        "chrf++": SCORERS.chrf.corpus_score(kept, columns).score,
        "bleu": SCORERS.bleu.corpus_score(kept, columns).score,
    }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(SENTENCE, st.lists(SENTENCE.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=6),
)
def test_corpus_scores_are_sacrebleus(pairs: list[tuple[str, list[str]]]) -> None:
    translations = [one for one, _ in pairs]
    test = TextPairs(["a"] * len(pairs), [references for _, references in pairs], ["x"] * len(pairs))
    found = translation.scores("in_domain", translations, test, SCORERS)
    for name, value in of_sacrebleu(translations, test, np.ones(len(pairs), bool)).items():
        assert metrics.value_of(found, "in_domain", name) == pytest.approx(value, abs=1e-9)


def test_scores_of_groups_and_of_resamples_are_sacrebleus() -> None:
    rng = np.random.default_rng(0)
    test = test_set(rng, 60)
    translations = [references[0] if rng.random() < 0.3 else drawn(rng, 0) for references in test.references]
    found = translation.scores("everyday", translations, test, SCORERS)
    groups = translation.groups_of(test)
    assert sum(mask.sum() for name, mask in groups.items() if name != translation.KEPT) == len(test)
    for suffix, chosen in groups.items():
        for name, value in of_sacrebleu(translations, test, chosen).items():
            assert metrics.value_of(found, "everyday", name + suffix) == pytest.approx(value, abs=1e-9)
    draw = rng.integers(0, 60, 60)
    again = test.subset(draw)
    for name, value in of_sacrebleu([translations[i] for i in draw], again, np.ones(60, bool)).items():
        _, features = metrics.features_of(found, "everyday", name)
        assert float(metrics.metric_of(name).reduce(features[draw].sum(0))) == pytest.approx(value, abs=1e-9)
    exact = np.mean([one in refs for one, refs in zip(translations, test.references, strict=True)])
    assert metrics.value_of(found, "everyday", "exact") == pytest.approx(exact)
    sentence = [
        SCORERS.chrf.sentence_score(one, refs).score for one, refs in zip(translations, test.references, strict=True)
    ]
    good = np.mean([s >= 80 or t in r for s, t, r in zip(sentence, translations, test.references, strict=True)])
    assert metrics.value_of(found, "everyday", "accepted") == pytest.approx(good)


def test_written_and_read_is_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    test = test_set(rng, 9)
    translations = [drawn(rng, 0) for _ in range(9)]
    made = translation.scores("held_out", translations, test, SCORERS) | translation.unknown("held_out", [(1, 4)] * 9)
    scores.write(made, tmp_path / "scores")
    read = scores.read(tmp_path / "scores")
    assert read.texts == made.texts
    assert set(metrics.names_of(read)) == set(metrics.names_of(made))
    for task, name in metrics.names_of(made):
        assert metrics.value_of(read, task, name) == metrics.value_of(made, task, name)
    assert metrics.value_of(read, "held_out", "unknown_words") == 0.25


def test_leaderboard_ranks_translations() -> None:
    rng = np.random.default_rng(2)
    test = test_set(rng, 80)

    def system(right: float) -> Scores:
        made = [r[0] if rng.random() < right else drawn(rng) for r in test.references]
        return translation.scores("in_domain", made, test, SCORERS)

    cells = [
        Entry("translation", "good", "scratch", 0, system(0.8)),
        Entry("translation", "poor", "scratch", 0, system(0.4)),
        Entry("translation", "copy", leaderboard.CONTROL, 0, system(0.0)),
    ]
    rows = leaderboard.build(cells, 200, seed=0)
    table = [row for row in rows if row.metric == "chrf++"]
    assert [row.family for row in table] == ["good", "poor", "copy"]
    assert all(row.beats_control for row in table[:2])
    text = leaderboard.markdown(rows, {"translation": {"in_domain": "chrf++"}})
    assert "chrF++" in text
    assert "bleu" in text


def test_transfer_is_measured_on_translations_and_order_is_not() -> None:
    rng = np.random.default_rng(3)
    test = test_set(rng, 80)
    cells: list[tuple[Entry, float]] = []
    trainings: dict[tuple[transfer.Key, float], list[Spent]] = {}
    for strategy, right in (("scratch", 0.3), ("full", 0.6)):
        for fraction in (0.1, 1.0):
            made = [r[0] if rng.random() < right + fraction / 4 else drawn(rng) for r in test.references]
            scored = translation.scores("in_domain", made, test, SCORERS)
            cells.append((Entry("translation", "rnn", strategy, 0, scored), fraction))
            key = "translation", "in_domain", "rnn", strategy
            trainings[key, fraction] = [Spent(10, 100.0, 5, 50.0, [(5, 2.0), (10, 1.0)])]
    headlines = {"translation": {"in_domain": "chrf++"}}
    controls = {"scratch": "scratch", "full": "scratch"}
    points, curves = transfer.build(cells, headlines, controls, trainings, 200, seed=0)
    assert [(p.strategy, p.fraction) for p in points] == [
        ("full", 0.1),
        ("full", 1.0),
        ("scratch", 0.1),
        ("scratch", 1),
    ]
    gained = {p.fraction: p.gain for p in points if p.strategy == "full"}
    assert all(gain is not None and gain > 0 for gain in gained.values())
    assert [(c.strategy, c.pretrain_steps) for c in curves] == [("full", 5)]
    assert order.build([cell for cell, _ in cells], {"shuffled": "scratch"}, headlines, 200, seed=0) == []


def test_a_report_shows_lengths_pairs_samples_and_what_limits_them() -> None:
    rng = np.random.default_rng(4)
    test = test_set(rng, 60)
    signatures = list(SCORERS.signatures(test).values())

    def system(family: str, strategy: str, right: float) -> Entry:
        made = [r[0] if rng.random() < right else drawn(rng) for r in test.references]
        found = translation.scores("everyday", made, test, SCORERS)
        return Entry("translation", family, strategy, 0, found)

    kept = {"everyday": test.sources, "everyday:references": ["r"] * 60, "everyday:signatures": signatures}
    copied = system("copy", leaderboard.CONTROL, 0.0)
    cells = [
        system("good", "scratch", 0.9),
        system("poor", "full", 0.3),
        replace(copied, scores=copied.scores | Scores(texts=kept)),
    ]
    decoding = Decoding(1, 1.0, 1.0, 1.0, 1, 1)
    registers, headline = dict.fromkeys(TESTS, "polite"), dict.fromkeys(TESTS, "chrf++")
    options = PairEvaluation(headline, decoding, "char", 20, registers)
    text = report.markdown("translation", cells, {("everyday", "good", "scratch"): 12.5}, options, 100)
    assert all(f"`{one}`" in text for one in signatures)
    assert "kept for testing alone" in text
    assert "12.5" in text
    assert "translation-everyday-lengths.png" in text
    assert text.count("| source |") == 20
    assert all(f"| {one} |" in text for one in ("good · scratch | poor · full", "good · scratch | copy"))
    assert "| poor · full | copy |" in text
    rows = leaderboard.build(cells, 100, seed=0)
    tables = report.by_length(rows, "translation", "everyday", "chrf++")
    assert list(tables) == ["1-5", "6-10", "11-20", "21+"]
    assert sum(table[0].examples for table in tables.values()) == 60


def test_signatures_name_what_was_counted() -> None:
    found = SCORERS.signatures(test_set(np.random.default_rng(0), 4))
    assert "nw:2" in found["chrf++"]
    assert "tok:char" in found["bleu"]
