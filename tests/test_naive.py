"""The whole past: suffixes against dictionaries of all n-grams, regressions against a least squares for each step."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form import suffix, whole_past
from seqlab.families.closed_form.bayes import BayesClassifier
from seqlab.families.closed_form.ngram import KneserNey, discounts, discounts_of
from seqlab.families.closed_form.suffix import SuffixModel
from seqlab.families.closed_form.whole_past import WholePast

# ----------------------------------------------------------------------------------------------------------- symbols

BEGIN = -1
Corpus = list[list[int]]
Model = Callable[[tuple[int, ...], int], float]  # (context, w) -> P

SIZE = 3
SINGLE = 1e-6  # probabilities are kept in single precision
corpora = st.lists(st.lists(st.integers(0, SIZE - 1), max_size=9), min_size=1, max_size=5).filter(any)


def sequences(corpus: Corpus) -> Sequences:
    return Sequences.from_arrays([np.array(part, np.uint8) for part in corpus])


def fitted(corpus: Corpus, source: SuffixModel | None = None, mixing: float = 0.0) -> SuffixModel:
    model = SuffixModel(Space("symbols", SIZE), mixings=[mixing])
    model.fit(sequences(corpus), sequences(corpus), source)
    return model


def brute_force(corpus: Corpus) -> Model:
    """The formulas of suffix.py over every suffix of the past, counted in dictionaries."""
    before = defaultdict(set)
    begun: Counter[tuple[int, ...]] = Counter()
    for part in corpus:
        tokens = (BEGIN, *part)
        for end in range(2, len(tokens) + 1):
            begun[tokens[:end]] += 1
            for start in range(1, end):
                before[tokens[start:end]].add(tokens[start - 1])
    counts = {ngram: len(symbols) for ngram, symbols in before.items()} | begun
    by_length = defaultdict(list)
    for ngram, count in counts.items():
        by_length[len(ngram)].append(count)
    taken = {length: discounts(np.array(found)) for length, found in by_length.items()}

    @cache
    def probability(context: tuple[int, ...], w: int) -> float:
        shorter = probability(context[1:], w) if context else 1 / SIZE
        children = [counts.get((*context, v), 0) for v in range(SIZE)]
        if not any(children):
            return shorter
        off = taken[len(context) + 1]
        freed = sum(off[min(c, 3)] for c in children)
        return float((children[w] - off[min(children[w], 3)] + freed * shorter) / sum(children))

    return probability


def mixture(source: Model, own: Model, share: float) -> Model:
    return lambda context, w: share * source(context, w) + (1 - share) * own(context, w)


def check(model: SuffixModel, reference: Model, test: Corpus) -> None:
    batch = sequences(test).batch(np.arange(len(test)))
    found = model.distribution(batch.x, batch.mask)
    for row, part in enumerate(test):
        for t in range(len(part) + 1):
            expected = [math.log(reference((BEGIN, *part[:t]), w)) for w in range(SIZE)]
            np.testing.assert_allclose(found[row, t], expected, atol=SINGLE)
            assert np.exp(found[row, t]).sum() == pytest.approx(1, abs=SINGLE)
    scored = model.log_prob(batch.x, batch.mask)
    chosen = np.take_along_axis(found[:, :-1], batch.x[..., None], axis=2)[..., 0]
    np.testing.assert_allclose(scored[batch.mask], chosen[batch.mask], rtol=1e-10, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(corpora, corpora)
def test_equals_counts_of_all_suffixes(train: Corpus, test: Corpus) -> None:
    check(fitted(train), brute_force(train), test)


@settings(max_examples=40, deadline=None)
@given(corpora, corpora, corpora, corpora, st.floats(0.01, 1), st.floats(0.01, 1))
def test_equals_counts_with_a_source_and_its_source(
    first: Corpus, second: Corpus, third: Corpus, test: Corpus, one: float, two: float
) -> None:
    source = fitted(second, fitted(first), one)
    reference = mixture(mixture(brute_force(first), brute_force(second), one), brute_force(third), two)
    check(fitted(third, source, two), reference, test)


def test_is_the_ngram_model_of_an_order_beyond_every_sequence() -> None:
    rng = np.random.default_rng(0)
    train, valid = (Sequences.from_arrays(rng.integers(0, 7, (20, 14)).astype(np.uint8)) for _ in range(2))
    model = SuffixModel(Space("symbols", 7), mixings=[0.0])
    ngrams = KneserNey(Space("symbols", 7), orders=[16], prior_weights=[0.0])
    model.fit(train, valid)
    ngrams.fit(train, valid)
    for data in (train, valid):
        np.testing.assert_allclose(model.score(data), ngrams.score(data), atol=SINGLE)


def test_a_context_of_any_length_is_remembered() -> None:
    """The symbol 300 steps back, before a run that no n-gram of a few symbols sees past, decides the next one."""
    train = Sequences.from_arrays([np.array([w, *[2] * 300, w], np.uint8) for w in (0, 1)])
    model = SuffixModel(Space("symbols", SIZE), mixings=[0.0])
    model.fit(train, train)
    for w in (0, 1):
        past = np.array([[w, *[2] * 300]])
        after = model.distribution(past, np.ones(past.shape, bool))[0, -1]
        assert np.argmax(after) == w


@pytest.mark.slow
def test_what_a_long_suffix_rules_out_keeps_a_probability() -> None:
    """Thousands of discounts multiply to less than any floating-point number above 0."""
    train = sequences([[0] * 5_000, [1, 0]])
    model = SuffixModel(Space("symbols", SIZE), mixings=[0.0])
    model.fit(train, train)
    past = np.array([[0] * 4_000 + [2]])
    exists = np.ones(past.shape, bool)
    found, after = model.log_prob(past, exists)[0], model.distribution(past, exists)[0, 4_000]
    assert -1e5 < found[-1] < math.log(np.finfo(float).tiny)
    assert found[-1] == pytest.approx(after[2])
    assert np.exp(after).sum() == pytest.approx(1, abs=SINGLE)


def test_saved_text_is_shared_by_the_classes_of_a_classifier() -> None:
    rng = np.random.default_rng(3)
    train = Sequences.from_arrays(rng.integers(0, SIZE, (30, 12)), labels=np.arange(30) % 2)
    source = fitted([[0, 1, 2] * 4] * 5)
    classifier, loaded = (
        BayesClassifier(lambda: SuffixModel(Space("symbols", SIZE), mixings=[0.4]), 2) for _ in range(2)
    )
    classifier.fit(train, train, source)
    state = classifier.state()
    names = {key.rpartition(".")[0] for key in state if key.endswith(".probability")}
    assert names == {"common.0", "common.1", "0.2", "1.2"}, "the source, all classes together, and each class"
    loaded.load_state(state)
    batch = train.batch(np.arange(30))
    found = classifier.class_log_prob(batch.x, batch.mask)
    np.testing.assert_array_equal(loaded.class_log_prob(batch.x, batch.mask), found)


@settings(max_examples=60, deadline=None)
@given(corpora)
def test_automaton_is_small_and_holds_every_substring_once(corpus: Corpus) -> None:
    automaton = suffix.build(sequences(corpus), SIZE)
    symbols = sum(map(len, corpus))
    assert len(automaton.link) <= 2 * symbols + 2
    assert len(automaton.target) <= 3 * symbols + 1
    substrings = {
        (BEGIN, *part)[start:end] for part in corpus for end in range(1, len(part) + 2) for start in range(end)
    }
    assert (automaton.length[1:] - automaton.length[automaton.link[1:]]).sum() == len(substrings)
    lengths = Counter(map(len, substrings))
    lengths[1] -= 1  # $ alone is no n-gram: nothing predicts it
    assert suffix.ngrams(automaton).sum(axis=1).tolist() == [lengths[k] for k in range(max(map(len, substrings)) + 1)]


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(corpora)
def test_packed_probabilities_are_those_of_the_automaton_bit_for_bit(corpus: Corpus) -> None:
    """All of them, kept or worked out; targets and links too, of branching states and of positions."""
    text = sequences(corpus)
    automaton = suffix.build(text, SIZE)
    packed = suffix.weigh(automaton, text, SIZE)
    link, length, seen, first, symbol, target = automaton
    taken = np.array([discounts_of(*counts[:4].tolist()) for counts in suffix.ngrams(automaton)])
    off = np.concatenate([[0.0], np.cumsum(np.log(taken[1:, 1]))])
    expected, _, _ = suffix._weigh(link, length, seen, first, symbol, target, taken, off, SIZE)
    place = suffix._places(text.values, text.offsets, link, length, first, symbol, target)
    branching = len(packed.states) - 1
    _, number = suffix._ordered(place, branching, length, first, symbol, target)
    trail = np.empty((suffix.PERIOD, 2), np.int64)
    for state in np.flatnonzero(place < 0):
        new = number[state]
        assert suffix._length(packed, new) == length[state]
        assert suffix._link(packed, new) == number[max(link[state], 0)]
        begin = suffix._first(packed, new)
        assert suffix._first(packed, new + 1) - begin == first[state + 1] - first[state]
        for edge in range(first[state], first[state + 1]):
            here = begin + edge - first[state]
            assert packed.symbol[here] == symbol[edge]
            found = suffix._reached(packed, here)
            assert found == number[target[edge]]
            assert suffix._probability(packed, trail, new, here) == expected[edge]
            if found >= branching:
                _, _, after, _ = suffix._query(
                    packed, trail, new, suffix._link(packed, new), length[state], symbol[edge]
                )
                assert after == number[link[target[edge]]]
    for state in np.flatnonzero(place >= 0):
        follows = first[state + 1] - first[state]
        assert suffix._goes_on(packed, number[state]) == bool(follows)
        if follows:
            assert number[target[first[state]]] == number[state] + 1
            assert packed.values[place[state] + 1] == symbol[first[state]]


def test_a_text_of_words_takes_twelve_bytes_a_symbol() -> None:
    rng = np.random.default_rng(0)
    words = [rng.integers(97, 123, rng.integers(2, 9)) for _ in range(2_000)]
    frequent = (2_000 * rng.random((400, 25)) ** 3).astype(int)
    train = Sequences.from_arrays(
        [np.concatenate([np.append(words[i], 32) for i in row]).astype(np.uint8) for row in frequent]
    )
    model = SuffixModel(Space("symbols", 256), mixings=[0.0])
    assert model.fit(train, train)["bytes_a_symbol"] <= 12


def test_memory_is_linear_in_the_text() -> None:
    rng = np.random.default_rng(1)
    sizes = []
    for length in (2_000, 20_000):
        text = Sequences.from_arrays(rng.integers(0, 4, (10, length // 10)).astype(np.uint8))
        model = SuffixModel(Space("symbols", 4), mixings=[0.0])
        sizes.append(model.fit(text, text)["bytes_a_symbol"])
    assert sizes[1] < 1.2 * sizes[0]


def test_mixing_is_chosen_on_validation_and_none_ignores_the_source() -> None:
    rng = np.random.default_rng(2)

    def cycles(start: int) -> Sequences:
        return Sequences.from_arrays([(start + rng.integers(2) + np.arange(12)) % SIZE for _ in range(4)])

    def noise() -> Sequences:
        return Sequences.from_arrays(rng.integers(0, SIZE, (8, 40)))

    alone, source, adapted = (SuffixModel(Space("symbols", SIZE), mixings=[0.0, 0.3]) for _ in range(3))
    train, valid = cycles(0), cycles(1)
    alone.fit(train, valid)
    source.fit(noise(), noise())
    report = adapted.fit(train, valid, source)
    assert report["mixing"] == 0
    assert len(adapted.state()) == len(alone.state()), "a source without a part in the model is not kept"
    np.testing.assert_array_equal(adapted.score(valid), alone.score(valid))
    source.fit(cycles(0), cycles(0))
    report = adapted.fit(Sequences.from_arrays([np.array([0, 1])]), valid, source)
    assert report["mixing"] == 0.3
    best = max(report["candidates"], key=lambda candidate: candidate["valid_log_prob"])
    assert adapted.score(valid).mean() == pytest.approx(best["valid_log_prob"])


def test_growth_counts_ngrams_and_what_is_known() -> None:
    train, valid = [[0, 1, 0, 1, 2], [0, 1, 1]], [[0, 1, 0, 2, 1], [2, 2]]
    model = SuffixModel(Space("symbols", SIZE), mixings=[0.0])
    growth = model.fit(sequences(train), sequences(valid))["growth"]
    tokens = [(BEGIN, *part) for part in train]
    held = {part[start:end] for part in tokens for end in range(len(part) + 1) for start in range(end)}
    pasts = [(BEGIN, *part[:t]) for part in valid for t in range(len(part))]
    for i, t in enumerate(growth["t"]):
        distinct = sum(len(ngram) == t + 1 for ngram in held)
        assert growth["counts"]["parameters"][i] == distinct
        reaching = [past[-t:] in held for past in pasts if len(past) >= t]
        assert growth["shares"]["known_pasts"][i] == pytest.approx(np.mean(reaching))
    assert growth["shares"]["seen_once"][-1] == 1


@pytest.mark.parametrize(
    ("mixings", "corpus", "message"),
    [
        ([], [[0]], r"mixings: \[\]"),
        ([1.5], [[0]], r"mixings: \[1.5\]; expected shares from 0 to 1"),
        ([0.0], [[0, 7]], "symbol 7; expected one of 0 to 2"),
        ([0.0], [[]], "training split: no symbols"),
    ],
)
def test_symbols_name_bad_input(mixings: list[float], corpus: Corpus, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SuffixModel(Space("symbols", SIZE), mixings=mixings).fit(sequences(corpus), sequences([[0]]))


def test_symbols_need_validation_and_one_alphabet() -> None:
    source, train = fitted([[0, 1]]), sequences([[0, 1]])
    with pytest.raises(UserError, match="validation split: no scored position"):
        SuffixModel(Space("symbols", SIZE), mixings=[0.0, 0.1]).fit(train, sequences([[]]), source)
    with pytest.raises(UserError, match="the source has 3 symbols, the target 5"):
        SuffixModel(Space("symbols", 5), mixings=[0.1]).fit(train, train, source)


# ----------------------------------------------------------------------------------------------------------- vectors


def panel(rng: np.random.Generator, lengths: list[int], channels: int) -> Sequences:
    return Sequences.from_arrays([rng.standard_normal((n, channels)).astype(np.float32).cumsum(0) for n in lengths])


def whole(channels: int, ridge: float = 2.0, weight: float = 0.0, support: int = 1, regressors: int = 999) -> WholePast:
    return WholePast(
        Space("vectors", channels),
        ridges=[ridge],
        prior_weights=[weight],
        supports=[support],
        regressors=regressors,
    )


def least_squares(
    data: list[np.ndarray], weights: np.ndarray, t: int, ridge: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """(coefficients (1 + t C, C), covariance, sequences) of step t from the sequences that reach it."""
    reach = [i for i, part in enumerate(data) if len(part) > t]
    root = np.sqrt(weights[reach])[:, None]
    z = root * np.array([np.append(1, data[i][:t].ravel()) for i in reach])
    y = root * np.array([data[i][t] for i in reach])
    size = z.shape[1]
    padded = np.concatenate([z, math.sqrt(ridge) * np.eye(size)])
    target = np.concatenate([y, np.zeros((size, y.shape[1]))])
    coefficients = np.linalg.lstsq(padded, target, rcond=None)[0]
    residual = target - padded @ coefficients
    scatter = residual.T @ residual + ridge * np.eye(y.shape[1])
    return coefficients, scatter / (weights[reach].sum() + ridge), len(reach)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=30).filter(any),
    st.integers(1, 3),
    st.sampled_from([0.01, 1.0, 50.0]),
    st.sampled_from([0.0, math.inf]),
    st.integers(0, 99),
)
def test_every_step_equals_a_regression_of_its_own(
    lengths: list[int], channels: int, ridge: float, one_by_one: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = panel(rng, lengths, channels)
    weights = rng.uniform(0.2, 3, len(lengths))
    mean, scale = rng.standard_normal(channels), rng.uniform(0.5, 2, channels)
    evidence = whole_past.Evidence(data.values, data.offsets, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(whole_past, "ONE_BY_ONE", one_by_one)
        found = whole_past.regress(evidence, mean, scale, ridge, max(lengths))
    standardised = [(part - mean) / scale for part in data]
    for t in range(max(lengths)):
        coefficients, covariance, _ = least_squares(standardised, weights, t, ridge)
        rows = found.coefficients[t * channels : (t + 1) * channels]
        np.testing.assert_allclose(rows[:, : 1 + t * channels].T, coefficients, rtol=1e-6, atol=1e-8)
        assert not rows[:, 1 + t * channels :].any()
        np.testing.assert_allclose(found.factors[t] @ found.factors[t].T, covariance, rtol=1e-6, atol=1e-9)


def test_log_prob_is_the_joint_normal_density() -> None:
    """With sequences of one length the regressions factor a single normal distribution of all steps together."""
    rng = np.random.default_rng(3)
    train = panel(rng, [6] * 400, 2)
    model = whole(2, ridge=1e-6)
    model.fit(train, train)
    flat = np.array([part.ravel() for part in train], np.float64)
    mean, covariance = flat.mean(0), np.cov(flat.T, bias=True)
    batch = train.batch(np.arange(20))
    found = model.log_prob(batch.x, batch.mask).sum(axis=1)
    residual = flat[:20] - mean
    square = np.einsum("bi,ij,bj->b", residual, np.linalg.inv(covariance), residual)
    expected = -(12 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + square) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_source_counts_by_its_share_where_it_reaches() -> None:
    rng = np.random.default_rng(4)
    source, target = panel(rng, [4] * 12, 1), panel(rng, [7] * 5 + [2] * 3, 1)
    prior, model, alone = whole(1), whole(1, weight=0.25), whole(1)
    prior.fit(source, source)
    model.fit(target, target, prior)
    alone.fit(target, target)
    mean, scale = model.regressions.mean, model.regressions.scale
    weight = 0.25 / 0.75 * len(target.values) / len(source.values)
    data = [(part - mean) / scale for part in [*source, *target]]
    weights = np.array([weight] * len(source) + [1.0] * len(target))
    for t in range(7):
        coefficients, _, _ = least_squares(data, weights, t, 2.0)
        found = model.regressions.coefficients[t, : 1 + t]
        np.testing.assert_allclose(found, coefficients[:, 0], rtol=1e-7, atol=1e-9)
        own = alone.regressions.coefficients[t, : 1 + t]
        assert np.allclose(found, own, rtol=1e-7, atol=1e-9) == (t >= 4), "the source has 4 steps"


def test_a_share_of_one_takes_the_source_alone() -> None:
    rng = np.random.default_rng(5)
    source, target = panel(rng, [5] * 9, 2), panel(rng, [8] * 4, 2)
    prior, model = whole(2), whole(2, weight=1.0)
    prior.fit(source, source)
    model.fit(target, target, prior)
    assert model.reach == 5
    again = whole(2, weight=1.0)
    again.fit(panel(rng, [3] * 4, 2), target, model)
    for found, expected in zip(again.evidence, prior.evidence, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_beyond_the_reach_the_last_regression_slides() -> None:
    rng = np.random.default_rng(6)
    model = whole(2)
    train = panel(rng, [5] * 30, 2)
    model.fit(train, train)
    long = panel(rng, [12], 2).batch(np.arange(1))
    found, (mean, deviation) = model.log_prob(long.x, long.mask), model.moments(long.x, long.mask)
    for t in range(4, 12):
        window, exists = long.x[:, t - 4 : t + 1], np.ones((1, 5), bool)
        assert found[0, t] == pytest.approx(model.log_prob(window, exists)[0, 4], rel=1e-12)
        for part, moment in zip((mean, deviation), model.moments(window, exists), strict=True):
            np.testing.assert_allclose(part[0, t], moment[0, 4], rtol=1e-10)
    paths = model.forecast(long.x, long.mask, 3, 2_000, seed=0)
    after = np.concatenate([long.x, np.zeros((1, 1, 2), np.float32)], axis=1)
    expected, spread = (part[0, 12] for part in model.moments(after, np.ones((1, 13), bool)))
    assert (np.abs(paths[0, :, 0].mean(0) - expected) < 5 * spread / math.sqrt(2_000)).all()


def test_support_and_regressors_bound_the_reach() -> None:
    train = panel(np.random.default_rng(7), [9, 8, 8, 5, 5, 2], 2)
    for support, regressors, reach in ((1, 999, 9), (3, 999, 8), (6, 999, 2), (99, 999, 2), (1, 9, 5), (1, 1, 1)):
        model = whole(2, support=support, regressors=regressors)
        assert model.fit(train, train)["reach"] == reach
        assert model.regressions.coefficients.shape[1] <= max(regressors + 2, 3)


def test_candidates_are_chosen_on_scored_validation_positions() -> None:
    rng = np.random.default_rng(8)
    train, held_out = panel(rng, [6] * 10, 1), panel(rng, [6] * 40, 1)
    valid = Sequences(held_out.values, held_out.offsets, first=np.full(40, 4))
    model = WholePast(Space("vectors", 1), ridges=[0.01, 1.0, 100.0], prior_weights=[0.0], supports=[1], regressors=99)
    report = model.fit(train, valid)
    batch = valid.batch(np.arange(40))
    best = max(report["candidates"], key=lambda candidate: candidate["valid_log_prob"])
    assert report["ridge"] == best["ridge"]
    found = model.log_prob(batch.x, batch.mask)[batch.scored].mean()
    assert found == pytest.approx(best["valid_log_prob"], rel=1e-12)
    assert len({candidate["valid_log_prob"] for candidate in report["candidates"]}) == 3


def test_growth_counts_sequences_and_parameters() -> None:
    train = panel(np.random.default_rng(9), [3, 5, 5, 2], 2)
    model = whole(2)
    growth = model.fit(train, train)["growth"]
    assert growth["t"] == [0, 1, 2, 3, 4]
    assert growth["counts"]["regressors"] == [1, 3, 5, 7, 9]
    assert growth["counts"]["sequences"] == [4, 4, 3, 2, 2]
    assert growth["counts"]["parameters"] == [2 * n + 3 for n in growth["counts"]["regressors"]]
    assert growth["counts"]["bytes"] == (8 * np.cumsum(growth["counts"]["parameters"])).tolist()
    assert growth["counts"]["bytes"][-1] == 8 * model.parameters


def test_a_channel_that_never_moves_keeps_a_density() -> None:
    rng = np.random.default_rng(10)
    train = panel(rng, [6] * 20, 2)
    train.values[:, 1] = 0.1
    model = whole(2)
    model.fit(train, train)
    batch = train.batch(np.arange(20))
    assert np.isfinite(model.log_prob(batch.x, batch.mask)).all()


def test_vectors_are_in_the_units_of_their_sequence() -> None:
    rng = np.random.default_rng(11)
    data = panel(rng, [6] * 15, 2)
    centre, scale = rng.standard_normal((15, 2)).astype(np.float32), rng.uniform(1, 2, (15, 2)).astype(np.float32)
    moved = Sequences(data.values, data.offsets, centre=centre, scale=scale)
    plain = Sequences.from_arrays(list(moved.batch(np.arange(15)).x))
    one, two = whole(2), whole(2)
    one.fit(moved, moved)
    two.fit(plain, plain)
    np.testing.assert_allclose(one.regressions.coefficients, two.regressions.coefficients, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ridges": [0.0]}, r"ridges: \[0.0\]; expected finite numbers of sequences above 0"),
        ({"prior_weights": [2.0]}, r"prior_weights: \[2.0\]; expected shares from 0 to 1"),
        ({"supports": [0]}, r"supports: \[0\]; expected numbers of sequences of at least 1"),
        ({"regressors": 0}, "regressors: 0; expected at least 1"),
    ],
)
def test_vectors_name_bad_parameters(changed: dict[str, object], message: str) -> None:
    values = {"ridges": [1.0], "prior_weights": [0.0], "supports": [1], "regressors": 9} | changed
    with pytest.raises(UserError, match=message):
        WholePast(Space("vectors", 1), **values)  # type: ignore[arg-type]


def test_vectors_name_bad_input() -> None:
    rng = np.random.default_rng(12)
    good, bad, empty = panel(rng, [4, 4], 2), panel(rng, [4, 4], 2), panel(rng, [0], 2)
    bad.values[6, 1] = np.nan
    for train, valid, split in ((bad, good, "training"), (good, bad, "validation")):
        with pytest.raises(UserError, match=f"{split} split: sequence 1, step 2, channel 1: nan; expected a finite"):
            whole(2).fit(train, valid)
    flat = Sequences(good.values, good.offsets, centre=np.zeros((2, 2)), scale=np.array([[1.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(UserError, match=r"sequence 1, channel 1: centre 0.0, scale 0.0; expected .* above 0"):
        whole(2).fit(flat, good)
    with pytest.raises(UserError, match="training split: no steps"):
        whole(2).fit(empty, good)
    prior = whole(2)
    prior.fit(good, good)
    with pytest.raises(UserError, match="the source has 2 channels, the target 3"):
        whole(3).fit(panel(rng, [4], 3), panel(rng, [4], 3), prior)
    several = WholePast(Space("vectors", 2), ridges=[1.0, 2.0], prior_weights=[0.0], supports=[1], regressors=9)
    with pytest.raises(UserError, match="validation split: no scored position"):
        several.fit(good, empty)


def test_values_of_double_precision_are_standardised_before_they_are_single() -> None:
    """What a float32 would round away at a great level is seen all the same."""
    rng = np.random.default_rng(0)
    made = {}
    for level, dtype in ((0.0, np.float32), (2.0**30, np.float64)):
        arrays = [(level + (one * 64).round() / 64).astype(dtype) for one in rng.standard_normal((40, 12, 1))]
        rng = np.random.default_rng(0)
        centre, scale = np.stack([one.mean(0) for one in arrays]), np.stack([one.std(0) for one in arrays])
        data = Sequences.from_arrays(arrays, centre=centre, scale=scale)
        family = WholePast(Space("vectors", 1), ridges=[1.0], prior_weights=[0.0], supports=[4], regressors=20)
        family.fit(data, data)
        batch = data.batch(np.arange(40))
        assert batch.x.dtype == np.float32
        made[level] = family.log_prob(batch.x, batch.mask)
    np.testing.assert_allclose(made[2.0**30], made[0.0], rtol=1e-3, atol=1e-4)
