"""Controls against textbook formulas, hand calculations and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from seqlab.data.order import shuffled
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.evaluation import controls, metrics
from seqlab.evaluation.controls import (
    BagOfWords,
    Drift,
    HistoricalMean,
    Majority,
    OrderFree,
    SeasonalNaive,
    SummaryTrees,
    ZeroReturn,
)


def padded(*rows: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """(B, T, 1) with junk on the padding, and its mask."""
    mask = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
    x = np.full((*mask.shape, 1), 999.0, np.float32)
    x[mask, 0] = np.concatenate(rows)
    return x, mask


SHORT, LONG = [1.0, 2.0, 4.0, 3.0], [5.0, 3.0, 6.0, 2.0, 7.0, 4.0]


def test_uniform_and_unigram() -> None:
    train = Sequences.from_arrays([np.array([0, 0, 1], np.uint8), np.array([2, 0], np.uint8)])
    found = controls.next_step(train, Space("symbols", 4), smoothing=0.5)
    x, mask = np.array([[0, 1, 3]]), np.array([[True, True, False]])
    np.testing.assert_allclose(found["uniform"].log_prob(x, mask), [[-np.log(4), -np.log(4), 0]])
    np.testing.assert_allclose(found["unigram"].log_prob(x, mask), [[np.log(3.5 / 7), np.log(1.5 / 7), 0]])
    np.testing.assert_allclose(np.exp(found["unigram"].distribution(x, mask)).sum(2), np.ones((1, 4)))
    paths = found["unigram"].forecast(x, mask, 50, 200, seed=0)
    assert np.bincount(paths.ravel(), minlength=4) / paths.size == pytest.approx(np.array([7, 3, 3, 1]) / 14, abs=0.02)


def test_next_step_gaussians() -> None:
    rng = np.random.default_rng(0)
    series = [np.cumsum(rng.normal(0, 0.5, (n, 2)), axis=0).astype(np.float32) for n in (30, 50)]
    found = controls.next_step(Sequences.from_arrays(series), Space("vectors", 2), smoothing=0.5)
    x, mask = series[0][None], np.ones((1, 30), bool)
    values, changes = np.concatenate(series), np.concatenate([np.diff(part, axis=0) for part in series])
    expected = norm.logpdf(series[0], values.mean(0), values.std(0)).sum(1)
    np.testing.assert_allclose(found["independent"].log_prob(x, mask)[0], expected, rtol=1e-4)
    walk = norm.logpdf(series[0][1:], series[0][:-1], np.sqrt((changes**2).mean(0))).sum(1)
    np.testing.assert_allclose(found["random_walk"].log_prob(x, mask)[0, 1:], walk, rtol=1e-4)
    paths = found["random_walk"].forecast(x, mask, 9, 4000, seed=0)
    assert paths.shape == (1, 4000, 9, 2)
    assert paths[0, :, 8].mean(0) == pytest.approx(series[0][-1], abs=0.1)
    assert paths[0, :, 8].std(0) == pytest.approx(3 * np.sqrt((changes**2).mean(0)), rel=0.05)


def test_last_value() -> None:
    paths = SeasonalNaive(1).forecast(*padded(SHORT, LONG), steps=9, samples=4000, seed=0)
    np.testing.assert_allclose(np.median(paths, axis=1)[..., 0], [[3.0] * 9, [4.0] * 9], atol=1e-9)
    for row, known in enumerate((SHORT, LONG)):
        sigma = np.sqrt(np.mean(np.diff(known) ** 2))
        assert paths[row, :, :, 0].std(0) == pytest.approx(sigma * np.sqrt(np.arange(1, 10)), rel=0.05)


def test_seasonal_naive() -> None:
    paths = SeasonalNaive(3).forecast(*padded(SHORT, LONG), steps=8, samples=4000, seed=1)
    expected = [[2, 4, 3, 2, 4, 3, 2, 4], [2, 7, 4, 2, 7, 4, 2, 7]]
    np.testing.assert_allclose(np.median(paths, axis=1)[..., 0], expected, atol=1e-9)
    for row, known in enumerate((SHORT, LONG)):
        sigma = np.sqrt(np.mean((np.array(known[3:]) - known[:-3]) ** 2))
        assert paths[row, :, :, 0].std(0) == pytest.approx(sigma * np.sqrt(np.arange(8) // 3 + 1), rel=0.05)


def test_drift() -> None:
    paths = Drift().forecast(*padded(SHORT, LONG), steps=6, samples=8000, seed=2)
    ahead = np.arange(1, 7)
    for row, known in enumerate((SHORT, LONG)):
        size, slope = len(known), (known[-1] - known[0]) / (len(known) - 1)
        np.testing.assert_allclose(np.median(paths[row, :, :, 0], axis=0), known[-1] + ahead * slope, atol=1e-6)
        sigma = np.sqrt(np.sum((np.diff(known) - slope) ** 2) / (size - 2))
        expected = sigma * np.sqrt(ahead * (1 + ahead / (size - 1)))
        assert paths[row, :, :, 0].std(0) == pytest.approx(expected, rel=0.05)


def test_forecast_controls_ignore_padding_and_name_short_series() -> None:
    x, mask = padded(SHORT, LONG)
    for name, control in controls.forecasters(2, returns=True).items():
        clean = control.forecast(np.where(mask[..., None], x, 0), mask, 5, 10, 3)
        assert np.array_equal(clean, control.forecast(x, mask, 5, 10, 3)), name
    assert list(controls.forecasters(1, returns=False)) == ["last_value", "drift", "historical_mean"]
    with pytest.raises(UserError, match="period 4: a series has 4 values before its origin, needs 5"):
        SeasonalNaive(4).forecast(x, mask, 5, 10, 3)
    with pytest.raises(UserError, match="a series has 2 values before its origin, needs 3"):
        Drift().forecast(*padded([1.0, 2.0]), 5, 10, 3)
    with pytest.raises(UserError, match="a series has 1 values before its origin, needs 2"):
        HistoricalMean().forecast(*padded([1.0]), 5, 10, 3)
    with pytest.raises(UserError, match="a series has no value before its origin"):
        ZeroReturn().forecast(*padded([]), 5, 10, 3)


def test_historical_mean() -> None:
    paths = HistoricalMean().forecast(*padded(SHORT, LONG), steps=6, samples=8000, seed=2)
    for row, known in enumerate((SHORT, LONG)):
        size, sigma = len(known), np.std(known, ddof=1)
        np.testing.assert_allclose(np.median(paths[row, :, :, 0], axis=0), np.mean(known), atol=1e-6)
        assert paths[row, :, :, 0].std(0) == pytest.approx(sigma * np.sqrt(1 + 1 / size), rel=0.05)
        # The mean's own error is common to all steps.
        assert np.cov(paths[row, :, :2, 0].T)[0, 1] == pytest.approx(sigma**2 / size, rel=0.2)


def test_zero_return_is_the_random_walk_of_the_price() -> None:
    paths = ZeroReturn().forecast(*padded(SHORT, LONG), steps=9, samples=8000, seed=2)
    for row, known in enumerate((SHORT, LONG)):
        walk = np.cumsum(paths[row, :, :, 0], axis=1)
        np.testing.assert_allclose(np.median(walk, axis=0), 0, atol=1e-9)
        expected = np.sqrt(np.mean(np.square(known)) * np.arange(1, 10))
        assert walk.std(0) == pytest.approx(expected, rel=0.05)


def test_antithetic_draws_have_an_exact_centre() -> None:
    for samples in (10, 11):
        draws = controls.antithetic(0, (4, samples, 3))
        assert draws.shape == (4, samples, 3)
        np.testing.assert_allclose(np.median(draws, axis=1), 0, atol=1e-12)


def test_controls_of_a_random_walk_are_calibrated_by_the_same_evaluation() -> None:
    rng = np.random.default_rng(4)
    walks = [np.cumsum(rng.normal(size=(120, 1)), axis=0).astype(np.float32) for _ in range(150)]
    series = Sequences.from_arrays(walks, first=np.full(150, 100))
    made = metrics.rolling_origin(
        SeasonalNaive(1), series, origins=2, horizons=[1, 16], season=1, samples=200, tokens=10**6, seed=0
    )
    found = metrics.forecast_scores(made, [1, 16])
    for horizon in (1, 16):
        assert metrics.value_of(found, "forecast", f"coverage80@{horizon}") == pytest.approx(0.8, abs=0.06)
    assert metrics.value_of(found, "forecast", "mase@1") == pytest.approx(1, abs=0.12)


def test_majority() -> None:
    found = Majority(np.array([5, 2, 0])).class_log_prob(np.zeros((2, 3)), np.ones((2, 3), bool))
    np.testing.assert_allclose(np.exp(found), [[0.6, 0.3, 0.1]] * 2)


@pytest.mark.parametrize("ridge", [0.1, 10.0])
def test_logistic_regression_equals_sklearn(ridge: float) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    features = rng.normal(size=(200, 5)) + np.eye(3, 5)[labels]
    weights, bias = controls.fit_logistic(features, labels, 3, ridge)
    reference = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(features, labels)
    logits = features @ weights + bias
    probs = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    np.testing.assert_allclose(probs, reference.predict_proba(features), atol=1e-4)


def labelled(space: Space, seed: int) -> Sequences:
    """Class 1 has more of symbol 3, or a wider second channel; order carries nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 120)
    lengths = rng.integers(15, 40, 120)
    if space.symbols:
        tables = [[0.25] * 4, [0.15, 0.15, 0.15, 0.55]]
        rows = [rng.choice(4, n, p=tables[k]).astype(np.uint8) for n, k in zip(lengths, labels, strict=True)]
    else:
        rows = [rng.normal(0, [1, 1 + k], (n, 2)).astype(np.float32) for n, k in zip(lengths, labels, strict=True)]
    return Sequences.from_arrays(rows, labels=labels)


@pytest.mark.parametrize("space", [Space("symbols", 4), Space("vectors", 2)], ids=lambda space: space.kind)
def test_order_free_learns_content_and_ignores_order_and_padding(space: Space) -> None:
    train, valid, test = (labelled(space, seed) for seed in range(3))
    model = OrderFree(train, valid, space, [0.01, 1.0, 100.0])
    scored = metrics.classify(model, test, 500)
    assert metrics.value_of(scored, "classify", "accuracy") > 0.8
    mixed = metrics.classify(model, shuffled(test, 0), 500)
    np.testing.assert_allclose(
        mixed.predictions["classify"].log_probs, scored.predictions["classify"].log_probs, atol=1e-5
    )
    batch = test.batch(np.arange(3))
    wider = np.pad(batch.x, [(0, 0), (0, 7)] + [(0, 0)] * (batch.x.ndim - 2))
    np.testing.assert_allclose(
        model.class_log_prob(wider, np.pad(batch.mask, [(0, 0), (0, 7)])), model.class_log_prob(batch.x, batch.mask)
    )


def test_ridge_is_the_one_with_the_least_loss_on_validation() -> None:
    space = Space("vectors", 2)
    train, valid = labelled(space, 0), labelled(space, 1)
    ridges = [1e-3, 1.0, 1e4]
    chosen = OrderFree(train, valid, space, ridges)
    losses = [
        metrics.value_of(metrics.classify(OrderFree(train, valid, space, [ridge]), valid, 500), "classify", "log_loss")
        for ridge in ridges
    ]
    assert chosen.ridge == ridges[int(np.argmin(losses))]


POSITIVE, NEGATIVE, NEUTRAL = (["good", "fine", "süß"], ["bad", "poor", "böse"], ["film", "actor", "scene", "plot"])


def reviews(seed: int, count: int = 160) -> Sequences:
    """Texts whose words tell the class. A word and its opposite share no letter statistics worth speaking of."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    texts = [
        " ".join(rng.permutation([rng.choice([NEGATIVE, POSITIVE][k]), *rng.choice(NEUTRAL, 6)])) + "." for k in labels
    ]
    return Sequences.from_arrays([np.frombuffer(text.encode(), np.uint8) for text in texts], labels=labels)


def test_bag_of_words_equals_scikit_learn_and_knows_no_order() -> None:
    train, valid, test = (reviews(seed) for seed in range(3))
    model = BagOfWords(train, valid, [1.0])
    texts = [[row.tobytes().decode() for row in split] for split in (train, test)]
    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    reference = LogisticRegression(C=1.0, max_iter=1000).fit(words.fit_transform(texts[0]), train.labels)
    found = metrics.classify(model, test, 500).predictions["classify"]
    np.testing.assert_allclose(np.exp(found.log_probs), reference.predict_proba(words.transform(texts[1])), atol=1e-12)
    assert (found.log_probs.argmax(1) == found.labels).mean() > 0.95
    mixed = [np.frombuffer(" ".join(reversed(text.split())).encode(), np.uint8) for text in texts[1]]
    assert test.labels is not None
    turned = metrics.classify(model, Sequences.from_arrays(mixed, labels=test.labels), 500).predictions["classify"]
    np.testing.assert_allclose(turned.log_probs, found.log_probs)


def test_bag_of_words_chooses_its_penalty_on_validation_and_answers_texts_without_a_known_word() -> None:
    train, valid = reviews(0), reviews(1)
    losses = {
        ridge: metrics.value_of(metrics.classify(BagOfWords(train, valid, [ridge]), valid, 500), "classify", "log_loss")
        for ridge in (0.01, 1.0, 100.0)
    }
    model = BagOfWords(train, valid, list(losses))
    assert model.ridge == min(losses, key=losses.__getitem__)
    strange = np.array([[255, 254, 33], [0, 0, 0]])
    answers = model.class_log_prob(strange, np.array([[True] * 3, [False] * 3]))
    np.testing.assert_allclose(np.exp(answers).sum(1), 1)
    np.testing.assert_allclose(answers[0], answers[1])


def test_texts_without_words_are_refused() -> None:
    marks = Sequences.from_arrays([np.frombuffer(b"!?", np.uint8)] * 4, labels=np.array([0, 1, 0, 1]))
    with pytest.raises(UserError, match="no training text has a word"):
        BagOfWords(marks, marks, [1.0])


def test_a_class_that_training_lacks_gets_a_small_share() -> None:
    train, valid = reviews(0), reviews(1)
    assert train.labels is not None
    later = replace(valid, labels=np.where(np.arange(len(valid)) < 3, 2, valid.labels))
    vectors = labelled(Space("vectors", 2), 0)
    third = replace(vectors, labels=np.where(np.arange(len(vectors)) < 3, 2, vectors.labels))
    for model, split in (
        (BagOfWords(train, later, [1.0]), later),
        (SummaryTrees(vectors, third), third),
    ):
        log_probs = metrics.classify(model, split, 500).predictions["classify"].log_probs
        assert log_probs.shape[1] == 3
        assert np.isfinite(log_probs).all()
        assert np.exp(log_probs[:, 2]).max() < 0.05


def rings(seed: int, order: bool = False) -> Sequences:
    """Class 1 lies on both sides of class 0 in its mean, where no line parts them; `order`: time alone parts them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    centre = np.where(labels == 1, rng.choice([-2, 2], 200), 0) * (not order)
    slope = np.linspace(-1, 1, 30)[:, None] * order
    rows = [c + (2 * k - 1) * slope + rng.normal(0, 0.7, (30, 1)) for c, k in zip(centre, labels, strict=True)]
    return Sequences.from_arrays([row.astype(np.float32) for row in rows], labels=labels)


def test_summary_trees_part_what_no_line_parts_and_know_no_order() -> None:
    train, valid, test = (rings(seed) for seed in range(3))
    model = SummaryTrees(train, valid)
    scored = metrics.classify(model, test, 500)
    assert metrics.value_of(scored, "classify", "accuracy") > 0.9
    straight = metrics.classify(OrderFree(train, valid, Space("vectors", 1), [1.0]), test, 500)
    assert metrics.value_of(straight, "classify", "accuracy") < 0.7
    mixed = metrics.classify(model, shuffled(test, 0), 500)
    np.testing.assert_allclose(
        mixed.predictions["classify"].log_probs, scored.predictions["classify"].log_probs, atol=1e-5
    )
    train, valid, test = (rings(seed, order=True) for seed in range(3))
    ordered = metrics.classify(SummaryTrees(train, valid), test, 500)
    assert metrics.value_of(ordered, "classify", "accuracy") < 0.65


def test_summary_trees_are_the_same_each_time_and_ignore_padding() -> None:
    train, valid = labelled(Space("vectors", 2), 0), labelled(Space("vectors", 2), 1)
    batch = valid.batch(np.arange(5))
    answers = SummaryTrees(train, valid).class_log_prob(batch.x, batch.mask)
    again = SummaryTrees(train, valid)
    assert np.array_equal(again.class_log_prob(batch.x, batch.mask), answers)
    wider = np.pad(batch.x, [(0, 0), (0, 7), (0, 0)]), np.pad(batch.mask, [(0, 0), (0, 7)])
    assert np.array_equal(again.class_log_prob(*wider), answers)
    assert np.isfinite(again.class_log_prob(batch.x, np.zeros_like(batch.mask))).all()


def test_which_controls_classify_what() -> None:
    vectors, symbols = labelled(Space("vectors", 2), 0), labelled(Space("symbols", 4), 0)
    text = reviews(0)
    for split, space, characters, expected in (
        (vectors, Space("vectors", 2), False, ["majority", "order_free", "summary_trees"]),
        (symbols, Space("symbols", 4), False, ["majority", "order_free"]),
        (text, Space("symbols", 256), True, ["majority", "bag_of_words"]),
    ):
        assert list(controls.classifiers(split, split, space, [1.0], characters=characters)) == expected


def test_classifiers_need_labels_of_two_classes() -> None:
    train = labelled(Space("vectors", 2), 0)
    with pytest.raises(UserError, match="no labels"):
        controls.classifiers(replace(train, labels=None), train, Space("vectors", 2), [1.0], characters=False)
    one = replace(train, labels=np.zeros(len(train), np.int64))
    with pytest.raises(UserError, match="all training sequences are of one class"):
        controls.classifiers(one, one, Space("vectors", 2), [1.0], characters=False)
