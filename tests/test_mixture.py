"""The mixture of language models: EM beside a direct maximum, probabilities, samples, and its members on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families import mixture, saved
from seqlab.families.ar import AR
from seqlab.families.base import Predictor
from seqlab.families.markov import Markov
from seqlab.families.mixture import Mixture, em, entropy, member_files
from seqlab.families.saved import Recipe

SPACE = Space("symbols", 7)
AR_PARAMETERS: dict[str, Any] = {"orders": [3], "lags": [1], "criterion": "valid", "prior_weights": [0.0]}
MARKOV_PARAMETERS: dict[str, Any] = {"concentrations": [1.0], "prior_weights": [0.0]}


def text(number: int, seed: int) -> Sequences:
    """Symbols that mostly follow the one before, sometimes the one two before."""
    rng = np.random.default_rng(seed)
    arrays = []
    for length in rng.integers(10, 40, size=number):
        x = rng.integers(7, size=length)
        for t in range(2, length):
            u = rng.random()
            x[t] = (x[t - 1] + 1) % 7 if u < 0.4 else (x[t - 2] + 3) % 7 if u < 0.7 else x[t]
        arrays.append(x.astype(np.uint8))
    return Sequences.from_arrays(arrays)


def members() -> dict[str, Predictor]:
    models: dict[str, Any] = {"ar": AR(SPACE, **AR_PARAMETERS), "markov": Markov(SPACE, **MARKOV_PARAMETERS)}
    for model in models.values():
        model.fit(text(30, 0), text(10, 1))
    return models


def build(**changed: Any) -> Mixture:
    own: dict[str, Any] = {"members": ["ar", "markov"], "bins": [1, 3], "concentration": 10.0, "passes": 200}
    return Mixture(SPACE, **own | {"tolerance": 1e-10} | changed)


def fitted(**changed: Any) -> Mixture:
    found = build(**changed).joined(members())
    found.fit(text(20, 2))
    return found


def mean_log_prob(model: Predictor, data: Sequences) -> float:
    batch = data.batch(np.arange(len(data)))
    return float(model.log_prob(batch.x, batch.mask)[batch.mask].mean())


# ---------------------------------------------------------------------------------------------------------------- EM


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(5, 60), st.sampled_from([0.0, 3.0]), st.integers(0, 2**32))
def test_em_finds_the_maximum(number: int, prior: float, seed: int) -> None:
    log_probs = np.log(np.random.default_rng(seed).uniform(0.05, 1, (number, 2)))
    pseudo = prior * np.array([0.5, 1.0])

    def loss(weight: float) -> float:
        weights = np.array([weight, 1 - weight])
        return -float(np.logaddexp.reduce(log_probs + np.log(weights), axis=1).sum() + pseudo @ np.log(weights))

    expected = minimize_scalar(loss, bounds=(1e-12, 1 - 1e-12), method="bounded", options={"xatol": 1e-10})
    found = em(log_probs, 20_000, 0.0 if prior else 1e-13, pseudo)
    assert found.sum() == pytest.approx(1)
    assert loss(np.clip(found[0], 1e-12, 1 - 1e-12)) <= expected.fun + 1e-4


def test_em_leaves_a_member_that_is_never_better() -> None:
    log_probs = np.log(np.array([[0.5, 0.2], [0.9, 0.1], [0.4, 0.3]]))
    assert em(log_probs, 500, 1e-12)[0] > 0.99


# ----------------------------------------------------------------------------------------------------- probabilities


@pytest.mark.slow
def test_the_mixture_is_ahead_of_its_members_on_what_it_has_not_seen() -> None:
    model, test = fitted(), text(60, 5)
    own = mean_log_prob(model, test)
    assert own > max(mean_log_prob(one, test) for one in model.models)


def test_distribution_is_the_weighted_sum_of_the_members() -> None:
    model = fitted()
    batch = text(5, 6).batch(np.arange(5))
    found = np.exp(model.distribution(batch.x, batch.mask))
    given = [np.exp(one.distribution(batch.x, batch.mask)) for one in model.models]
    for row, length in enumerate(batch.mask.sum(axis=1)):
        for t in range(length + 1):
            spread = np.array([-(one[row, t] * np.log(one[row, t])).sum() for one in given])
            cell = 0
            for value, edges in zip(spread, model.edges, strict=True):
                cell = cell * (len(edges) + 1) + int((edges < value).sum())
            weights = np.exp(model.log_weights[cell])
            np.testing.assert_allclose(
                found[row, t], sum(w * one[row, t] for w, one in zip(weights, given, strict=True))
            )
            assert found[row, t].sum() == pytest.approx(1)
    log_prob = model.log_prob(batch.x, batch.mask)
    chosen = np.take_along_axis(np.log(found[:, :-1]), batch.x[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_prob[batch.mask], chosen[batch.mask])
    assert (log_prob[~batch.mask] == 0).all()


def test_the_future_and_the_padding_do_not_reach_the_past() -> None:
    model, batch = fitted(), text(4, 7).batch(np.arange(4))
    before = model.log_prob(batch.x, batch.mask)
    other = batch.x.copy()
    other[:, 5:] = (other[:, 5:] + 1) % 7
    np.testing.assert_array_equal(model.log_prob(other, batch.mask)[:, :5], before[:, :5])
    wide = np.pad(batch.x, ((0, 0), (0, 3)), constant_values=3)
    np.testing.assert_allclose(model.log_prob(wide, np.pad(batch.mask, ((0, 0), (0, 3))))[:, :-3], before, rtol=1e-12)


def test_samples_follow_the_distribution() -> None:
    model, samples = fitted(), 4_000
    batch = text(2, 8).batch(np.arange(2))
    mask = batch.mask & (np.arange(batch.x.shape[1]) < np.array([4, 0])[:, None])  # a past, and none
    paths = model.forecast(batch.x, mask, 2, samples, 0)
    assert paths.shape == (2, samples, 2)
    for row in range(2):
        past = batch.x[row, mask[row]]
        first = int(np.bincount(paths[row, :, 0]).argmax())
        for counts, context in (
            (np.bincount(paths[row, :, 0], minlength=7), past),
            (np.bincount(paths[row, paths[row, :, 0] == first, 1], minlength=7), np.append(past, first)),
        ):
            p = np.exp(model.distribution(context[None], np.ones((1, len(context)), bool))[0, -1])
            assert (np.abs(counts - counts.sum() * p) < 5 * np.sqrt(counts.sum() * p * (1 - p)) + 0.5).all()
    np.testing.assert_array_equal(model.forecast(batch.x, mask, 2, 5, 1), model.forecast(batch.x, mask, 2, 5, 1))


def test_cross_validation_chooses_the_bins() -> None:
    report = build(bins=[1, 2, 4]).joined(members()).fit(text(40, 2))
    losses = {one["bins"]: one["valid_loss"] for one in report["candidates"]}
    assert report["bins"] == min(losses, key=lambda bins: losses[bins])
    assert sum(report["weights"].values()) == pytest.approx(1)


def test_entropy_of_an_even_and_of_a_certain_prediction() -> None:
    certain = np.log(np.array([1 - 1e-12, 1e-12]))
    np.testing.assert_allclose(entropy(np.array([np.log([0.5, 0.5]), certain])), [np.log(2), 0], atol=1e-10)


# ------------------------------------------------------------------------------------------------------------ on disk


def test_one_folder_holds_the_mixture_and_its_members(tmp_path: Path) -> None:
    models = members()
    recipes = {
        "ar": Recipe("seqlab.families.ar.AR", AR_PARAMETERS, "closed_form", "symbols", 7, None),
        "markov": Recipe("seqlab.families.markov.Markov", MARKOV_PARAMETERS, "closed_form", "symbols", 7, None),
    }
    for name, recipe in recipes.items():
        saved.save(tmp_path / name, recipe, models[name].state())  # type: ignore[attr-defined]
    folder = tmp_path / "mixture"
    for name, content in member_files({name: tmp_path / name for name in recipes}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    model, batch = fitted(), text(4, 9).batch(np.arange(4))
    other = build().opened(model.state(), folder, None)
    np.testing.assert_array_equal(other.log_prob(batch.x, batch.mask), model.log_prob(batch.x, batch.mask))
    assert other.parameters == model.parameters
    assert sorted(path.name for path in (folder / mixture.MEMBERS).iterdir()) == ["ar", "markov"]


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(UserError, match="expected different families"):
        build(members=["ar", "ar"])
    with pytest.raises(UserError, match="no model of 'markov'"):
        build().joined({"ar": members()["ar"]})
    with pytest.raises(UserError, match="one sequence"):
        build().joined(members()).fit(text(1, 0))
    smaller: Any = AR(Space("symbols", 5), **AR_PARAMETERS)
    with pytest.raises(UserError, match="models 5 symbols, expected 7"):
        build().joined(members() | {"ar": smaller})
