"""n-gram models against the formulas written as loops over dictionaries."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import ClosedForm
from seqlab.families.closed_form.ngram import Bigram, KneserNey, discounts

BEGIN = -1
Corpus = list[list[int]]
Model = Callable[[tuple[int, ...], int, int], float]  # (the whole past, symbol, order) -> P


def sequences(corpus: Corpus) -> Sequences:
    return Sequences.from_arrays([np.array(part, np.uint8) for part in corpus])


def padded(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    batch = sequences(corpus).batch(np.arange(len(corpus)))
    return batch.x, batch.mask


def fitted(corpus: Corpus, size: int, order: int) -> KneserNey:
    model = KneserNey(Space("symbols", size), orders=[order], prior_weights=[0.0])
    model.fit(sequences(corpus), sequences(corpus))
    return model


def adapted(corpus: Corpus, source: KneserNey, order: int, weight: float) -> KneserNey:
    model = KneserNey(source.space, orders=[order], prior_weights=[weight])
    model.fit(sequences(corpus), sequences(corpus), source)
    return model


def brute_force(
    corpus: Corpus, size: int, longest: int, source: tuple[Model, set[tuple[int, ...]]] | None, weight: float
) -> tuple[Model, set[tuple[int, ...]]]:
    """Modified Kneser-Ney as Chen and Goodman (1999) write it: the model, and the contexts that something followed."""
    occurrences: Counter[tuple[int, ...]] = Counter()
    for part in corpus:
        tokens = (BEGIN, *part)
        for end in range(1, len(tokens)):
            for start in range(max(0, end - longest + 1), end + 1):
                occurrences[tokens[start : end + 1]] += 1
    before = defaultdict(set)
    for ngram in occurrences:
        before[ngram[1:]].add(ngram[0])
    counts: dict[int, Counter[tuple[int, ...]]] = {k: Counter() for k in range(1, longest + 1)}
    for ngram, times in occurrences.items():
        raw = len(ngram) == longest or ngram[0] == BEGIN
        counts[len(ngram)][ngram] = times if raw else len(before[ngram])
    taken = {}
    for k, of_length in counts.items():
        n1, n2, n3, n4 = (sum(c == i for c in of_length.values()) for i in (1, 2, 3, 4))
        found = [0.5, 1.0, 1.5]
        if n1 > 0 and n2 > 0:
            y = n1 / (n1 + 2 * n2)
            found = [y, y, y]
            if n3 > 0:
                three = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
                found = three if all(d > 0 for d in three) else found
        taken[k] = found
    followed = {ngram[:-1] for ngram in occurrences}

    @cache
    def probability(past: tuple[int, ...], w: int, order: int) -> float:
        if order == 0:
            return 1 / size
        if order > len(past) + 1:
            return probability(past, w, order - 1)
        context = past[len(past) - order + 1 :]
        shorter = probability(past, w, order - 1)
        if source is None:
            base = shorter
        elif context not in followed and context not in source[1]:
            return shorter
        else:
            base = (1 - weight) * shorter + weight * source[0](past, w, order)
        if context not in followed or order > longest:
            return base
        children = {v: counts[order][(*context, v)] for v in range(size)}
        total = sum(children.values())
        freed = sum(taken[order][min(c, 3) - 1] for c in children.values() if c)
        c = children[w]
        own = c - taken[order][min(c, 3) - 1] if c else 0.0
        return own / total + freed / total * base

    return probability, followed


def expected(model: Model, x: np.ndarray, mask: np.ndarray, size: int, order: int) -> np.ndarray:
    """What `distribution` should be."""
    out = np.zeros((len(x), x.shape[1] + 1, size))
    for row, length in enumerate(mask.sum(axis=1)):
        for t in range(length + 1):
            past = (BEGIN, *(int(w) for w in x[row, :t]))
            out[row, t] = [math.log(model(past, w, order)) for w in range(size)]
    return out


def check(model: ClosedForm, reference: Model, test: Corpus, order: int) -> None:
    x, mask = padded(test)
    size = model.space.size
    found = model.distribution(x, mask)
    np.testing.assert_allclose(found, expected(reference, x, mask, size, order), rtol=1e-12, atol=1e-12)
    after = np.pad(mask, ((0, 0), (1, 0)), constant_values=True)
    np.testing.assert_allclose(np.exp(found[after]).sum(axis=-1), 1, rtol=1e-12)
    gathered = np.take_along_axis(found[:, :-1], x[..., None], axis=2)[..., 0]
    np.testing.assert_allclose(model.log_prob(x, mask), np.where(mask, gathered, 0), rtol=1e-12, atol=1e-14)


def text(rng: np.random.Generator, size: int, length: int, skew: float) -> Corpus:
    """A second-order Markov source with few likely successors, cut into sequences of unequal length."""
    rows = rng.dirichlet(np.full(size, skew), size=(size, size)).cumsum(axis=-1)
    tokens = [0, 1]
    for u in rng.random(length):
        tokens.append(min(int(np.searchsorted(rows[tokens[-2], tokens[-1]], u)), size - 1))
    cuts = np.sort(rng.integers(0, length, length // 12))
    return [part.tolist() for part in np.split(np.array(tokens), cuts)]


SIZE = 4
corpora = st.lists(st.lists(st.integers(0, SIZE - 2), max_size=7), min_size=1, max_size=8).filter(any)
tests = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=7), min_size=1, max_size=3)


@settings(max_examples=80, deadline=None)
@given(corpora, tests, st.integers(1, 5))
def test_equals_the_formula_written_as_loops(train: Corpus, test: Corpus, order: int) -> None:
    # The last symbol of the alphabet is never trained on; sequences may be empty, or of length one.
    reference, _ = brute_force(train, SIZE, order, None, 0)
    check(fitted(train, SIZE, order), reference, test, order)


@settings(max_examples=80, deadline=None)
@given(corpora, corpora, tests, st.tuples(st.integers(1, 4), st.integers(1, 4)), st.sampled_from([0.1, 0.5, 1.0]))
def test_adapted_equals_the_formula_written_as_loops(
    source: Corpus, train: Corpus, test: Corpus, orders: tuple[int, int], weight: float
) -> None:
    source_order, order = orders
    behind = brute_force(source, SIZE, source_order, None, 0)
    reference, _ = brute_force(train, SIZE, order, behind, weight)
    model = adapted(train, fitted(source, SIZE, source_order), order, weight)
    check(model, reference, test, max(order, source_order))


def test_three_discounts_on_more_text() -> None:
    # Enough n-grams at every length that each has the three discounts, in the source and in the target.
    rng = np.random.default_rng(0)
    size, order = 12, 4
    source, target = text(rng, size, 3000, 0.1), text(rng, size, 800, 0.1)
    plain = fitted(target, size, order)
    for k in range(2, order + 1):
        assert len(set(discounts(plain.trie.counts[0, plain.trie.level(k)])[1:])) == 3
    held_out = text(rng, size, 60, 0.5)
    check(plain, brute_force(target, size, order, None, 0)[0], held_out, order)
    behind = brute_force(source, size, order, None, 0)
    reference, followed = brute_force(target, size, order, behind, 0.3)
    middle = adapted(target, fitted(source, size, order), order, 0.3)
    check(middle, reference, held_out, order)
    # A source that has a source: three layers.
    third = text(rng, size, 300, 0.1)
    reference, _ = brute_force(third, size, order, (reference, followed | behind[1]), 0.6)
    check(adapted(third, middle, order, 0.6), reference, held_out, order)


def test_discounts() -> None:
    def of(*count_of_counts: int) -> list[float]:
        return discounts(np.repeat(np.arange(len(count_of_counts)), count_of_counts)).tolist()

    y = 10 / 20
    assert of(7, 10, 5, 2, 1) == [0, 1 - 2 * y * 5 / 10, 2 - 3 * y * 2 / 5, 3 - 4 * y * 1 / 2]
    assert of(7, 10, 5) == [0, y, y, y]  # no count of 3
    assert of(0, 10, 5, 9, 1) == [0, y, y, y]  # the discount of 2 would be negative
    assert of(3, 0, 5, 2, 1) == of() == [0, 0.5, 1, 1.5]


def test_weight_zero_is_the_model_without_a_source() -> None:
    rng = np.random.default_rng(1)
    source, target = fitted(text(rng, 6, 400, 0.2), 6, 4), text(rng, 6, 200, 0.2)
    plain, zero = fitted(target, 6, 3), adapted(target, source, 3, 0.0)
    assert zero.state().keys() == plain.state().keys()
    for name, part in plain.state().items():
        np.testing.assert_array_equal(part, zero.state()[name])
    # And so it is in the limit, where the source does take part.
    x, mask = padded(text(rng, 6, 100, 0.4))
    tiny = adapted(target, source, 3, 1e-13).distribution(x, mask)
    np.testing.assert_allclose(tiny, plain.distribution(x, mask), rtol=1e-11, atol=1e-11)


def test_order_and_prior_weight_come_from_validation() -> None:
    rng = np.random.default_rng(2)
    everything = text(rng, 8, 6000, 0.08)
    source, target, valid = everything[:300], everything[300:310], everything[310:]
    first = np.minimum(2, sequences(valid).lengths)
    held_out = Sequences(sequences(valid).values, sequences(valid).offsets, first=first)
    prior = fitted(source, 8, 3)
    model = KneserNey(Space("symbols", 8), orders=[4, 1, 2], prior_weights=[0.0, 0.5, 0.9])
    report = model.fit(sequences(target), held_out, prior)
    assert [(c["order"], c["prior_weight"]) for c in report["candidates"]] == [
        (order, weight) for order in (1, 2, 4) for weight in (0.0, 0.5, 0.9)
    ]
    batch = held_out.batch(np.arange(len(valid)))
    for candidate in report["candidates"]:
        alone = adapted(target, prior, candidate["order"], candidate["prior_weight"])
        assert alone.log_prob(batch.x, batch.mask)[batch.scored].mean() == pytest.approx(candidate["valid_log_prob"])
    best = max(report["candidates"], key=lambda candidate: candidate["valid_log_prob"])
    assert (report["order"], report["prior_weight"]) == (best["order"], best["prior_weight"])
    assert report["prior_weight"] > 0  # source and target are one language, and the target is small
    assert model.log_prob(batch.x, batch.mask)[batch.scored].mean() == pytest.approx(best["valid_log_prob"], rel=1e-13)


def witten_bell(corpus: Corpus, size: int, longest: int) -> Model:
    """Interpolated Witten-Bell (1991): a new symbol is as likely as new symbols were."""
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for part in corpus:
        tokens = (BEGIN, *part)
        for end in range(1, len(tokens)):
            for start in range(max(0, end - longest + 1), end + 1):
                counts[tokens[start:end]][tokens[end]] += 1

    @cache
    def probability(past: tuple[int, ...], w: int, order: int) -> float:
        if order == 0:
            return 1 / size
        if order > len(past) + 1:
            return probability(past, w, order - 1)
        seen = counts.get(past[len(past) - order + 1 :], Counter())
        kinds, total = len(seen), seen.total()
        if not total:
            return probability(past, w, order - 1)
        return (seen[w] + kinds * probability(past, w, order - 1)) / (total + kinds)

    return probability


VERSES = """In the beginning God created the heaven and the earth. And the earth was without form, and void; and
darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God said, Let
there be light: and there was light. And God saw the light, that it was good: and God divided the light from the
darkness. And God called the light Day, and the darkness he called Night. And the evening and the morning were the
first day. And God said, Let there be a firmament in the midst of the waters, and let it divide the waters from the
waters. And God made the firmament, and divided the waters which were under the firmament from the waters which were
above the firmament: and it was so. And God called the firmament Heaven. And the evening and the morning were the
second day. And God said, Let the waters under the heaven be gathered together unto one place, and let the dry land
appear: and it was so. And God called the dry land Earth; and the gathering together of the waters called he Seas:
and God saw that it was good. And God said, Let the earth bring forth grass, the herb yielding seed, and the fruit
tree yielding fruit after his kind, whose seed is in itself, upon the earth: and it was so. And the earth brought
forth grass, and herb yielding seed after his kind, and the tree yielding fruit, whose seed was in itself, after his
kind: and God saw that it was good."""


@pytest.mark.parametrize("order", [3, 5])
def test_beats_witten_bell_on_held_out_text(order: int) -> None:
    sentences = [list((part.strip() + ".").replace("\n", " ").encode()) for part in VERSES.split(".") if part.strip()]
    train, test = sentences[:-3], sentences[-3:]
    x, mask = padded(test)
    ours = fitted(train, 256, order).log_prob(x, mask)[mask].mean()
    reference = witten_bell(train, 256, order)
    past = [((BEGIN, *part[:t]), w) for part in test for t, w in enumerate(part)]
    assert ours > np.mean([math.log(reference(*pair, order)) for pair in past])


def models(rng: np.random.Generator) -> list[KneserNey | Bigram]:
    """Both families, without and with a source."""
    source, target = text(rng, 6, 500, 0.2), text(rng, 6, 200, 0.2)
    first = Bigram(Space("symbols", 6), concentrations=[1.0], prior_weights=[0.0])
    first.fit(sequences(source), sequences(target))
    second = Bigram(Space("symbols", 6), concentrations=[0.5, 5.0, 50.0], prior_weights=[0.7])
    second.fit(sequences(target), sequences(target), first)
    prior = fitted(source, 6, 4)
    return [prior, adapted(target, prior, 3, 0.4), first, second]


@pytest.mark.parametrize("which", range(4))
def test_state_holds_the_model(which: int) -> None:
    model = models(np.random.default_rng(3))[which]
    again = models(np.random.default_rng(3))[which]
    for name, part in model.state().items():
        np.testing.assert_array_equal(part, again.state()[name])
    x, mask = padded(text(np.random.default_rng(4), 6, 80, 0.5))
    loaded: KneserNey | Bigram
    if isinstance(model, KneserNey):
        loaded = KneserNey(model.space, orders=[1], prior_weights=[0.0])
    else:
        loaded = Bigram(model.space, concentrations=[1.0], prior_weights=[0.0])
    loaded.load_state(model.state())
    np.testing.assert_array_equal(loaded.log_prob(x, mask), model.log_prob(x, mask))
    np.testing.assert_array_equal(loaded.distribution(x, mask), model.distribution(x, mask))
    np.testing.assert_array_equal(loaded.forecast(x, mask, 4, 3, 7), model.forecast(x, mask, 4, 3, 7))
    assert loaded.parameters == model.parameters > 0


@pytest.mark.parametrize("which", range(4))
def test_paths_follow_the_distribution(which: int) -> None:
    model = models(np.random.default_rng(5))[which]
    samples = 40_000
    for prefix in ([], [2], [0, 1, 5, 3]):
        x, mask = padded([prefix, [0, 1, 2, 3, 4]])
        paths = model.forecast(x, mask, 2, samples, 1)
        assert paths.shape == (2, samples, 2)
        after = np.exp(model.distribution(x, mask)[0, len(prefix)])
        for w in range(6):
            # Four standard errors; the second step is checked after the first one's symbol.
            assert np.mean(paths[0, :, 0] == w) == pytest.approx(after[w], abs=4 * math.sqrt(after[w] / samples))
            second = paths[0, paths[0, :, 0] == w, 1]
            x, mask = padded([[*prefix, w]])
            then = np.exp(model.distribution(x, mask)[0, len(prefix) + 1])
            observed = np.bincount(second, minlength=6) / max(len(second), 1)
            np.testing.assert_allclose(observed, then, atol=5 / math.sqrt(max(len(second), 1)))
    assert not np.array_equal(paths, model.forecast(*padded([prefix, [0, 1, 2, 3, 4]]), 2, samples, 2))


@pytest.mark.parametrize("which", range(4))
def test_padding_and_the_future_change_nothing(which: int) -> None:
    model = models(np.random.default_rng(6))[which]
    x, mask = padded([[0, 1, 2, 3, 4, 5, 0, 1], [3, 4], []])
    longer = np.pad(x, ((0, 0), (0, 3)), constant_values=5)
    np.testing.assert_array_equal(
        model.log_prob(longer, np.pad(mask, ((0, 0), (0, 3))))[:, :8], model.log_prob(x, mask)
    )
    changed = x.copy()
    changed[0, 5:] = 2
    np.testing.assert_array_equal(model.distribution(changed, mask)[0, :6], model.distribution(x, mask)[0, :6])
    assert not model.log_prob(x, mask)[2].any()
    assert not model.distribution(x, mask)[1, 3:].any()


@settings(max_examples=50, deadline=None)
@given(corpora, corpora, tests, st.sampled_from([0.2, 3.0]), st.sampled_from([0.5, 40.0]), st.floats(0, 1))
def test_bigram_is_the_posterior_mean(
    source: Corpus, train: Corpus, test: Corpus, before: float, after: float, weight: float
) -> None:
    def posterior(corpus: Corpus, concentration: float, prior: Model | None) -> Model:
        pairs = Counter(pair for part in corpus for pair in zip([BEGIN, *part], part, strict=False))
        single = Counter(w for part in corpus for w in part)

        def probability(past: tuple[int, ...], w: int, order: int) -> float:
            unigram = (single[w] + concentration / SIZE) / (single.total() + concentration)
            mean = unigram if prior is None else (1 - weight) * unigram + weight * prior(past, w, order)
            total = sum(pairs[past[-1], v] for v in range(SIZE))
            return (pairs[past[-1], w] + concentration * mean) / (total + concentration)

        return probability

    first = Bigram(Space("symbols", SIZE), concentrations=[before], prior_weights=[0.0])
    first.fit(sequences(source), sequences(train))
    reference = posterior(source, before, None)
    check(first, reference, test, 2)
    second = Bigram(Space("symbols", SIZE), concentrations=[after], prior_weights=[weight])
    second.fit(sequences(train), sequences(train), first)
    check(second, posterior(train, after, reference), test, 2)


def test_concentration_comes_from_validation() -> None:
    rng = np.random.default_rng(7)
    everything = text(rng, 6, 3000, 0.3)
    model = Bigram(Space("symbols", 6), concentrations=[0.01, 1.0, 1e6], prior_weights=[0.0])
    report = model.fit(sequences(everything[:20]), sequences(everything[20:]))
    x, mask = padded(everything[20:])
    best = max(report["candidates"], key=lambda candidate: candidate["valid_log_prob"])
    assert report["concentration"] == best["concentration"]
    assert model.log_prob(x, mask)[mask].mean() == pytest.approx(best["valid_log_prob"])


def test_a_bigram_whose_source_does_not_help_ignores_it() -> None:
    upwards = [[w % 6 for w in range(start, start + 9)] for start in range(6)]
    downwards = [part[::-1] for part in upwards]
    alone, source, adapted = (
        Bigram(Space("symbols", 6), concentrations=[1.0, 30.0], prior_weights=[0.0, 0.5, 1.0]) for _ in range(3)
    )
    train = valid = sequences(upwards[:2])
    alone.fit(train, valid)
    source.fit(sequences(downwards), valid)
    assert adapted.fit(train, valid, source)["prior_weight"] == 0
    np.testing.assert_array_equal(adapted.table, alone.table)
    source.fit(sequences(upwards), valid)
    assert adapted.fit(sequences([[0]]), valid, source)["prior_weight"] == 1


def test_bad_input() -> None:
    space, some = Space("symbols", 4), sequences([[0, 1], [2, 3]])
    empty = Sequences(np.zeros(0, np.uint8), np.zeros(2, np.int64))
    with pytest.raises(UserError, match="orders"):
        KneserNey(space, orders=[0], prior_weights=[0.0])
    with pytest.raises(UserError, match="prior_weights"):
        KneserNey(space, orders=[2], prior_weights=[1.5])
    with pytest.raises(UserError, match="concentrations"):
        Bigram(space, concentrations=[0.0], prior_weights=[0.0])
    with pytest.raises(UserError, match="prior_weights"):
        Bigram(space, concentrations=[1.0], prior_weights=[])
    with pytest.raises(UserError, match="5000 symbols"):
        Bigram(Space("symbols", 5000), concentrations=[1.0], prior_weights=[0.0])
    several: list[tuple[Any, dict[str, Any]]] = [
        (KneserNey, {"orders": [2, 3], "prior_weights": [0.0]}),
        (Bigram, {"concentrations": [1.0, 2.0], "prior_weights": [0.0]}),
    ]
    for family, options in several:
        model = family(space, **options)
        with pytest.raises(UserError, match="no symbols"):
            model.fit(empty, some)
        with pytest.raises(UserError, match="no scored position"):
            model.fit(some, empty)
        with pytest.raises(UserError, match="symbol 4; expected one of 0 to 3"):
            model.fit(sequences([[4]]), some)
        model.fit(some, some)
        with pytest.raises(UserError, match="the source has 4 symbols, the target 5"):
            family(Space("symbols", 5), **options).fit(some, some, model)
        outside = np.array([[0, -1]])
        for call in (model.log_prob, model.distribution):
            with pytest.raises(UserError, match="symbol -1"):
                call(outside, np.ones((1, 2), bool))
        with pytest.raises(UserError, match="symbol -1"):
            model.forecast(outside, np.ones((1, 2), bool), 1, 1, 0)
