"""What closed-form families share: Bayes' rule over one model a class, and one model for each kind of sequence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.autoregression import VectorAutoregression
from seqlab.families.closed_form.bayes import HOTTEST, BayesClassifier, fit_temperature
from seqlab.families.closed_form.family import ClosedForm

SYMBOLS = Space("symbols", 3)


class Unigram(ClosedForm):
    """Symbol frequencies, the prior's mass worth `weight` symbols: small enough to check by hand."""

    weight = 10.0

    def __init__(self, space: Space):
        self.space = space

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        base = np.full(self.space.size, 1 / self.space.size) if prior is None else prior.probability
        mass = np.bincount(train.values, minlength=self.space.size) + self.weight * base
        self.probability = mass / mass.sum()
        return {"symbols": len(train.values), "held_out": len(valid.values), "prior": prior is not None}

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, np.log(self.probability)[x], 0)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.choice(self.space.size, (len(prefix), samples, steps), p=self.probability)

    def state(self) -> dict[str, np.ndarray]:
        return {"probability": self.probability}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.probability = state["probability"]


def labelled(seed: int, sequences: int = 60) -> Sequences:
    """Three classes, each with its own favourite symbol; the last is rare."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(np.arange(sequences) % 5 // 2, 2)
    rows = np.eye(3) * 0.15 + 0.85 / 3
    arrays = [rng.choice(3, rng.integers(1, 12), p=rows[label]).astype(np.uint8) for label in labels]
    return Sequences.from_arrays(arrays, labels=labels)


def fitted(prior: ClosedForm | None = None) -> BayesClassifier:
    classifier = BayesClassifier(lambda: Unigram(SYMBOLS), 3)
    classifier.fit(labelled(1), labelled(2), prior)
    return classifier


@pytest.mark.parametrize("with_source", [False, True])
def test_bayes_rule_equals_brute_force(with_source: bool) -> None:
    train, source = labelled(1), None
    if with_source:
        source = Unigram(SYMBOLS)
        source.fit(labelled(9), labelled(8))
    classifier = fitted(source)
    # Source, then all classes, then each class; every level is worth ten symbols to the next.
    base = np.full(3, 1 / 3) if source is None else source.probability
    everything = np.bincount(train.values, minlength=3) + 10 * base
    shared = everything / everything.sum()
    assert train.labels is not None
    joint = np.empty((60, 3))
    for k in range(3):
        own = [x for x, label in zip(train, train.labels, strict=True) if label == k]
        mass = np.bincount(np.concatenate(own), minlength=3) + 10 * shared
        for i, x in enumerate(labelled(3)):
            joint[i, k] = np.log(mass / mass.sum())[x].sum() / classifier.temperature + np.log(len(own) / 60)
    batch = labelled(3).batch(np.arange(60))
    found = classifier.class_log_prob(batch.x, batch.mask)
    np.testing.assert_allclose(found, joint - logsumexp(joint, axis=1, keepdims=True), rtol=1e-10)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-12)


def test_padding_changes_no_class() -> None:
    batch = labelled(3).batch(np.arange(60))
    found = fitted().class_log_prob(batch.x, batch.mask)
    for i, x in enumerate(labelled(3)):
        alone = fitted().class_log_prob(x[None].astype(np.int64), np.ones((1, len(x)), bool))
        np.testing.assert_allclose(found[i], alone[0], rtol=1e-12)
        if i == 5:
            break


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 50), st.integers(2, 5))
def test_temperature_minimises_the_validation_log_loss(seed: int, spread: float, classes: int) -> None:
    rng = np.random.default_rng(seed)
    scores = spread * rng.standard_normal((80, classes)) - 1e3
    labels = np.array([rng.choice(classes, p=np.exp(log_softmax(row / 3))) for row in scores])
    log_prior = np.log(rng.dirichlet(np.full(classes, 5.0)))

    def loss(log_temperature: float) -> float:
        found = log_softmax(scores / np.exp(log_temperature) + log_prior, axis=1)
        return float(-found[np.arange(80), labels].mean())

    found = np.log(fit_temperature(scores, log_prior, labels))
    reference = minimize_scalar(loss, bounds=(0, np.log(HOTTEST)), method="bounded", options={"xatol": 1e-9})
    assert loss(found) <= min(reference.fun, loss(0.0)) + 1e-9


def test_temperature_is_one_on_a_separated_split_and_leaves_the_prior_where_scores_mislead() -> None:
    labels = np.array([0, 1] * 10)
    scores = np.where(np.arange(2) == labels[:, None], 0.0, -5.0)
    log_prior = np.log([0.5, 0.5])
    assert fit_temperature(scores, log_prior, labels) == 1
    assert fit_temperature(scores[:, ::-1], log_prior, labels) == pytest.approx(HOTTEST)


def test_state_returns_the_same_classifier() -> None:
    classifier = fitted()
    again = BayesClassifier(lambda: Unigram(SYMBOLS), 3)
    again.load_state(classifier.state())
    batch = labelled(3).batch(np.arange(60))
    np.testing.assert_array_equal(
        again.class_log_prob(batch.x, batch.mask), classifier.class_log_prob(batch.x, batch.mask)
    )
    assert again.parameters == classifier.parameters == 3 * 3 + 3


@pytest.mark.parametrize("split", ["training", "validation"])
def test_an_absent_class_is_named(split: str) -> None:
    whole = labelled(1)
    assert whole.labels is not None
    partial = whole.subset(np.flatnonzero(whole.labels != 1))
    data = (partial, whole) if split == "training" else (whole, partial)
    with pytest.raises(UserError, match=f"{split} split: class 1 has no sequence"):
        BayesClassifier(lambda: Unigram(SYMBOLS), 3).fit(*data)


def test_missing_and_unexpected_labels_are_named() -> None:
    whole = labelled(1)
    with pytest.raises(UserError, match="training split: no labels"):
        BayesClassifier(lambda: Unigram(SYMBOLS), 3).fit(replace(whole, labels=None), whole)
    with pytest.raises(UserError, match="training split: label 2; expected 0 to 1"):
        BayesClassifier(lambda: Unigram(SYMBOLS), 2).fit(whole, whole)


def test_it_tells_series_apart_by_their_dynamics_alone() -> None:
    """Two classes of equal mean and variance that differ in the sign of their autocorrelation."""

    def data(seed: int) -> Sequences:
        rng = np.random.default_rng(seed)
        arrays = []
        for i in range(80):
            noise = rng.standard_normal(60)
            x = [noise[0] / np.sqrt(1 - 0.36)]
            for e in noise[1:]:
                x.append((0.6 if i % 2 else -0.6) * x[-1] + e)
            arrays.append(np.array(x, np.float32)[:, None])
        return Sequences.from_arrays(arrays, labels=np.arange(80) % 2)

    def family() -> VectorAutoregression:
        return VectorAutoregression(Space("vectors", 1), lags=[1], criterion="valid", prior_weights=[0.0, 0.5])

    classifier = BayesClassifier(family, 2)
    classifier.fit(data(1), data(2))
    test = data(3).batch(np.arange(80))
    found = classifier.class_log_prob(test.x, test.mask)
    assert (found.argmax(axis=1) == test.labels).mean() > 0.95
    assert -found[np.arange(80), test.labels].mean() < 0.1
