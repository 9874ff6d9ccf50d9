"""Classifiers of whole sequences: beside scikit-learn, the published transform spelled out, and dynamic programming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline, make_union

from seqlab.artifacts import read_tensors, write_tensors
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families import minirocket
from seqlab.families.closed_form.classifier import DirectClassifier, log_softmax, sharpness
from seqlab.families.knn_dtw import KnnDtw, distance
from seqlab.families.minirocket import KERNELS, MiniRocket, spread
from seqlab.families.tfidf import TfIdf

BYTES, LETTERS, VECTORS = Space("symbols", 256), Space("symbols", 11), Space("vectors", 2)
GOOD, BAD = ["a fine film", "really fine, 좋다", "what a joy", "joyful and fine"], ["a dull film", "dull!", "no joy"]


def texts(lines: list[str], labels: list[int]) -> Sequences:
    arrays = [np.frombuffer(line.encode(), np.uint8) for line in lines]
    return Sequences.from_arrays(arrays, labels=np.array(labels))


TRAIN = texts([*GOOD, *BAD], [1] * len(GOOD) + [0] * len(BAD))
VALID = texts(["fine", "a joy", "dull", "so dull"], [1, 1, 0, 0])


def tfidf(space: Space = BYTES, classes: int = 2, **changed: Any) -> TfIdf:
    own: dict[str, Any] = {"words": [1, 2], "characters": [2, 4], "rarest": 1, "strengths": [10.0]}
    return TfIdf(space, classes, **own | changed)


def waves(number: int, seed: int, classes: int = 3, channels: int = 2) -> Sequences:
    """Sequences of unequal length; the class is the frequency."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % classes
    arrays = []
    for label in labels:
        t = np.arange(rng.integers(15, 30))[:, None] + rng.uniform(0, 9)
        arrays.append(
            (np.sin(t * (0.3 + 0.3 * label)) + 0.2 * rng.standard_normal((len(t), channels))).astype(np.float32)
        )
    return Sequences.from_arrays(arrays, labels=labels)


def symbols(number: int, seed: int, classes: int = 3) -> Sequences:
    """Each class has a favourite pair of symbols."""
    rng = np.random.default_rng(seed)
    labels = np.arange(number) % classes
    arrays = [
        np.concatenate([rng.integers(11, size=8), [3 * label, 3 * label + 1] * 4]).astype(np.uint8) for label in labels
    ]
    return Sequences.from_arrays(arrays, labels=labels)


CASES: dict[str, tuple[Any, Any, Space]] = {
    "tfidf": (lambda: tfidf(LETTERS, 3), symbols, LETTERS),
    "minirocket": (lambda: MiniRocket(VECTORS, 3, features=200, seed=0), waves, VECTORS),
    "knn_dtw": (lambda: KnnDtw(VECTORS, 3, windows=[0.0, 0.2]), waves, VECTORS),
}
over_cases = pytest.mark.parametrize("name", CASES)


def fitted(name: str) -> DirectClassifier:
    make, data, _ = CASES[name]
    model: DirectClassifier = make()
    model.fit(data(45, 0), data(24, 1))
    return model


# ------------------------------------------------------------------------------------------------------ what all do


@over_cases
def test_it_learns_what_tells_classes_apart(name: str) -> None:
    test = CASES[name][1](60, 2)
    batch = test.batch(np.arange(60))
    found = fitted(name).class_log_prob(batch.x, batch.mask)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-9)
    assert (found.argmax(axis=1) == test.labels).mean() > 0.8


@over_cases
def test_rows_and_padding_do_not_matter(name: str) -> None:
    model, test = fitted(name), CASES[name][1](6, 3)
    batch = test.batch(np.arange(6))
    together = model.class_log_prob(batch.x, batch.mask)
    wide = np.pad(batch.x, [(0, 0), (0, 5)] + [(0, 0)] * (batch.x.ndim - 2), constant_values=7)
    padded = model.class_log_prob(wide, np.pad(batch.mask, ((0, 0), (0, 5))))
    np.testing.assert_allclose(padded, together, rtol=1e-12)
    for i in range(6):
        alone = test.batch(np.array([i]))
        np.testing.assert_allclose(model.class_log_prob(alone.x, alone.mask)[0], together[i], rtol=1e-9)


@over_cases
def test_an_empty_sequence_has_probabilities(name: str) -> None:
    batch = CASES[name][1](2, 3).batch(np.arange(2))
    found = fitted(name).class_log_prob(batch.x, np.zeros_like(batch.mask))
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1)
    np.testing.assert_array_equal(found[0], found[1])


@over_cases
def test_saved_and_loaded_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    model, batch = fitted(name), CASES[name][1](9, 4).batch(np.arange(9))
    write_tensors(tmp_path / "model.safetensors", model.state())
    other = CASES[name][0]().opened(read_tensors(tmp_path / "model.safetensors"), tmp_path, None)
    np.testing.assert_array_equal(other.class_log_prob(batch.x, batch.mask), model.class_log_prob(batch.x, batch.mask))
    assert other.parameters == model.parameters > 0


@over_cases
def test_a_split_without_labels_or_with_a_class_missing_is_refused(name: str) -> None:
    make, data, _ = CASES[name]
    with pytest.raises(UserError, match="training split: no labels"):
        make().fit(replace(data(9, 0), labels=None), data(9, 1))
    with pytest.raises(UserError, match="validation split: class 2 has no sequence"):
        make().fit(data(9, 0), data(2, 1))
    with pytest.raises(UserError, match="expected the task classify"):
        type(make()).assemble(CASES[name][2], None, {})


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(3, 30), st.integers(0, 2**32))
def test_sharpness_minimises_platts_loss(classes: int, number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.standard_normal((number, classes)), rng.integers(classes, size=number)
    scores[np.arange(number), labels] += 0.5
    sure = (number + 1) / (number + 2)

    def loss(s: float) -> float:
        found = log_softmax(s * scores)
        own = found[np.arange(number), labels]
        return -float((sure * own + (1 - sure) / (classes - 1) * (found.sum(axis=1) - own)).mean())

    expected = minimize_scalar(loss, bounds=(0, 1e3), method="bounded", options={"xatol": 1e-9})
    assert loss(sharpness(scores, labels)) <= expected.fun + 1e-9


def test_sharpness_of_separated_and_of_misleading_scores() -> None:
    labels = np.array([0, 1, 0, 1])
    right = np.eye(2)[labels]
    # Two classes at a distance of s: certain to 5/6, so s = log 5.
    assert sharpness(right, labels) == pytest.approx(np.log(5))
    assert sharpness(-right, labels) == 0


# ------------------------------------------------------------------------------------------------------------ tf-idf


@pytest.mark.parametrize("classes", [2, 3])
def test_tfidf_is_a_pipeline_of_scikit_learn(classes: int) -> None:
    lines = [*GOOD, *BAD] if classes == 2 else [*GOOD, *BAD, "so so", "so it goes"]
    labels = [1] * len(GOOD) + [0] * len(BAD) + [2] * (len(lines) - len(GOOD) - len(BAD))
    test = ["a fine joy", "dull and so long", "", "좋다"]
    model = tfidf(classes=classes)
    model.fit(texts(lines, labels), texts(["fine", "dull", "so"][:classes], [1, 0, 2][:classes]))
    pipeline = make_pipeline(
        make_union(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b"),
            TfidfVectorizer(sublinear_tf=True, ngram_range=(2, 4), analyzer="char_wb"),
        ),
        LogisticRegression(C=10.0, max_iter=1000),
    ).fit(lines, labels)
    batch = texts(test, [0] * len(test)).batch(np.arange(len(test)))
    found = model.class_log_prob(batch.x, batch.mask)
    np.testing.assert_allclose(found, pipeline.predict_log_proba(test), rtol=1e-9, atol=1e-9)


def test_validation_chooses_the_strength() -> None:
    report = tfidf(strengths=[1e-6, 10.0]).fit(TRAIN, VALID)
    assert report["chosen"] == min(report["candidates"], key=lambda one: one["valid_log_loss"])
    assert report["chosen"]["strength"] == 10.0
    assert report["candidates"][0]["valid_log_loss"] == pytest.approx(np.log(2), abs=0.1)


def test_an_alphabet_that_is_no_text_has_no_words() -> None:
    model = tfidf(LETTERS, 3)
    report = model.fit(symbols(30, 0), symbols(15, 1))
    assert len(report["terms"]) == 1
    assert len(tfidf().fit(TRAIN, VALID)["terms"]) == 2


def test_terms_that_are_all_too_rare_are_said() -> None:
    with pytest.raises(UserError, match=r"training split: .*lower `rarest`"):
        tfidf(rarest=7).fit(TRAIN, VALID)


# -------------------------------------------------------------------------------------------------------- minirocket


def brute_features(model: MiniRocket, x: np.ndarray) -> np.ndarray:
    """PPVs by the definition: np.convolve with the kernel written out, zeros around the series."""
    part, found, bias, at = model.transform, [], 0, 0
    for d, dilation in enumerate(part.dilations):
        for k, twos in enumerate(KERNELS):
            kernel = np.full(9, -1.0)
            kernel[twos] = 2
            wide = np.zeros(8 * dilation + 1)
            wide[::dilation] = kernel
            own = part.channels[at : at + part.counts[d, k]]
            at += part.counts[d, k]
            convolved = sum(np.convolve(x[:, c], wide[::-1])[4 * dilation : 4 * dilation + len(x)] for c in own)
            margin = 4 * dilation
            if (d + k) % 2 == 1 and len(x) > 2 * margin:
                convolved = convolved[margin:-margin]
            for _ in range(part.features[d]):
                found.append((convolved > part.biases[bias]).mean())
                bias += 1
    return np.array(found)


def test_kernels_are_84_and_sum_to_zero() -> None:
    assert len({tuple(kernel) for kernel in KERNELS}) == 84
    level = np.full((30, 1), 4.0)
    for kernel in KERNELS:
        convolved = np.empty(30)
        minirocket._convolve(level.T, kernel, 2, np.zeros(1, np.int64), convolved)
        np.testing.assert_allclose(convolved[8:-8], 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transform_is_the_published_one(channels: int) -> None:
    model = MiniRocket(Space("vectors", channels), 3, features=500, seed=1)
    train = waves(12, 0, channels=channels)
    model.fit(train, waves(9, 1, channels=channels))
    for x in list(waves(4, 5, channels=channels)):
        expected = brute_features(model, x.astype(np.float64))
        # A value that is its own bias, at the sequence that gave it, may fall either way by rounding.
        assert (np.abs(model.transform([x])[0] - expected) < 1e-9).mean() > 0.999
    assert model.transform.counts.max() <= channels


@settings(max_examples=40, deadline=None)
@given(st.integers(9, 3000), st.integers(1, 300))
def test_dilations_span_the_length_and_biases_add_up(length: int, features: int) -> None:
    dilations, numbers = spread(length, features)
    assert numbers.sum() == features
    assert dilations[0] == 1
    assert (np.diff(dilations) > 0).all()
    assert 8 * dilations[-1] <= length - 1
    assert len(dilations) <= 32


@pytest.mark.parametrize("classes", [2, 3])
def test_minirocket_decides_as_scikit_learns_ridge(classes: int) -> None:
    train, valid, test = (waves(number, seed, classes) for number, seed in ((30, 0), (15, 1), (20, 2)))
    model = MiniRocket(VECTORS, classes, features=200, seed=0)
    report = model.fit(train, valid)
    inputs = model.transform(list(train))
    scale = np.where(inputs.std(axis=0) > 0, inputs.std(axis=0), 1)
    ridge = RidgeClassifier(alpha=report["chosen"]["penalty"]).fit((inputs - inputs.mean(axis=0)) / scale, train.labels)
    scores = ridge.decision_function((model.transform(list(test)) - inputs.mean(axis=0)) / scale)
    scores = np.stack([-scores, scores], 1) if classes == 2 else scores  # of two, scikit-learn gives the second's
    batch = test.batch(np.arange(20))
    found = model.class_log_prob(batch.x, batch.mask)
    np.testing.assert_allclose(found, log_softmax(model.sharpness * scores), rtol=1e-6, atol=1e-6)


def test_another_seed_takes_other_biases() -> None:
    train = list(waves(9, 0))
    one, same, other = (minirocket.fit_transform(train, 200, seed).biases for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    with pytest.raises(UserError, match="at least 84"):
        MiniRocket(VECTORS, 3, features=83, seed=0)


# -------------------------------------------------------------------------------------------------------------- dtw


def brute_distance(a: np.ndarray, b: np.ndarray, reach: int) -> float:
    """The whole table."""
    table = np.full((len(a) + 1, len(b) + 1), np.inf)
    table[0, 0] = 0
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            if abs(i - j) <= reach:
                cost = ((a[i - 1].astype(np.float64) - b[j - 1]) ** 2).sum()
                table[i, j] = cost + min(table[i - 1, j], table[i, j - 1], table[i - 1, j - 1])
    return float(table[-1, -1])


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 14), st.integers(1, 14), st.integers(1, 3), st.sampled_from([0, 0.1, 0.3, 1]), st.integers(0, 2**32)
)
def test_distance_is_the_dynamic_programme(n: int, m: int, channels: int, window: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((size, channels)).astype(np.float32) for size in (n, m))
    reach = max(int(np.ceil(window * max(n, m))), abs(n - m))
    assert distance(a, b, window) == pytest.approx(brute_distance(a, b, reach), rel=1e-5)
    assert distance(a, b, window) == pytest.approx(distance(b, a, window), rel=1e-5)


def test_no_window_is_the_euclidean_distance_and_a_wide_one_forgives_a_shift() -> None:
    x = np.sin(np.arange(40) / 3)[:, None].astype(np.float32)
    late = np.roll(x, 2)
    assert distance(x, late, 0.0) == pytest.approx(float(((x - late) ** 2).sum()), rel=1e-5)
    assert distance(x, late, 0.1) < 0.3 * distance(x, late, 0.0)
    assert distance(x, x[:0], 0.5) == np.inf


def test_the_answer_is_the_nearest_neighbours_class() -> None:
    model, train, test = fitted("knn_dtw"), waves(45, 0), waves(12, 6)
    assert isinstance(model, KnnDtw)
    batch = test.batch(np.arange(12))
    found = model.class_log_prob(batch.x, batch.mask)
    for row, x in zip(found, test, strict=True):
        distances = np.array([distance(x, other, model.window) for other in train])
        assert row.argmax() == train.labels[distances.argmin()]  # type: ignore[index]
        nearest = np.array([distances[train.labels == k].min() for k in range(3)])
        # A class's odds are the distances' ratio to a power.
        np.testing.assert_allclose(row - row[0], -model.power / 2 * np.log(nearest / nearest[0]), rtol=1e-6, atol=1e-9)
    with pytest.raises(UserError, match="windows"):
        KnnDtw(VECTORS, 3, windows=[1.5])
