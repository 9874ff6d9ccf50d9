"""Latent AR against hmmlearn, statsmodels, sums over all hidden paths, and what EM guarantees."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest
from hmmlearn.hmm import CategoricalHMM
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form import hmm, kalman
from seqlab.families.closed_form.em import climb, total
from seqlab.families.closed_form.hmm import Chain, Counts, HiddenMarkov
from seqlab.families.closed_form.kalman import Gains, LinearGaussian, Panel, StateSpace

# ----------------------------------------------------------------------------------------------------------- symbols


def random_chain(states: int, size: int, seed: int, concentration: float = 1.0) -> Chain:
    rng = np.random.default_rng(seed)
    shapes = (states,), (states, states), (size, states)
    return Chain.of(tuple(rng.standard_gamma(concentration, shape) + 1e-6 for shape in shapes))


def random_text(lengths: list[int], size: int, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences.from_arrays([rng.integers(size, size=n).astype(np.uint8) for n in lengths])


def drawn(chain: Chain, sequences: int, steps: int, seed: int) -> Sequences:
    model = markov(len(chain.emission))
    model._take(Counts(*chain))
    nothing = np.zeros((sequences, 0), np.int64)
    paths = model.forecast(nothing, nothing.astype(bool), steps, 1, seed)
    return Sequences.from_arrays(list(paths[:, 0].astype(np.uint8)))


def markov(size: int, **parameters: Any) -> HiddenMarkov:
    chosen: dict[str, Any] = {
        "states": [3],
        "restarts": 2,
        "seed": 0,
        "pseudo_count": 0.01,
        "block": 500,
        "passes": 30,
        "tolerance": 1e-5,
        "prior_weights": [0.0, 0.5, 1.0],
    } | parameters
    return HiddenMarkov(Space("symbols", size), **chosen)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 2**32))
def test_expected_counts_equal_a_sum_over_all_hidden_paths(states: int, lengths: list[int], seed: int) -> None:
    chain, text = random_chain(states, 3, seed), random_text([*lengths, 1], 3, seed)
    expected = Counts(np.zeros(states), np.zeros((states, states)), np.zeros((3, states)))
    log_likelihood = 0.0
    for x in text:
        weights = {}
        for path in itertools.product(range(states), repeat=len(x)):
            p = chain.start[path[0]] if path else 1.0
            p *= np.prod([chain.transition[a, b] for a, b in itertools.pairwise(path)])
            weights[path] = p * np.prod([chain.emission[w, h] for w, h in zip(x, path, strict=True)])
        evidence = sum(weights.values())
        log_likelihood += np.log(evidence)
        for path, weight in weights.items():
            share = weight / evidence
            if path:
                expected.start[path[0]] += share
            for a, b in itertools.pairwise(path):
                expected.transition[a, b] += share
            for w, h in zip(x, path, strict=True):
                expected.emission[w, h] += share
    found, total_log = hmm.expect(chain, text)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(total_log, log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(hmm.score(chain, text).sum(), log_likelihood, rtol=1e-12)


@pytest.mark.parametrize("states", [1, 3, 8, 13, 32])
@pytest.mark.parametrize("pseudo_count", [0.0, 0.7])
def test_em_steps_equal_hmmlearn(states: int, pseudo_count: float) -> None:
    size, steps = 7, 5
    text, chain = random_text([40, 3, 1, 25, 60], size, states), random_chain(states, size, 5)
    prior = 1 + pseudo_count
    peer = CategoricalHMM(
        states, n_features=size, init_params="", n_iter=1, implementation="scaling",
        startprob_prior=prior, transmat_prior=prior, emissionprob_prior=prior,
    )  # fmt: skip
    peer.startprob_, peer.transmat_, peer.emissionprob_ = chain.start, chain.transition, chain.emission.T
    column = text.values[:, None].astype(np.int64)
    for _ in range(steps):
        counts, log_likelihood = hmm.expect(chain, text)
        np.testing.assert_allclose(log_likelihood, peer.score(column, text.lengths), rtol=1e-6)
        peer.fit(column, text.lengths)
        chain = Chain.of(tuple(part + pseudo_count for part in counts))
        np.testing.assert_allclose(chain.transition, peer.transmat_, atol=1e-9)
        np.testing.assert_allclose(chain.emission.T, peer.emissionprob_, atol=1e-9)
        np.testing.assert_allclose(chain.start, peer.startprob_, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.floats(0.01, 3), st.integers(0, 2**32))
def test_em_never_lowers_the_posterior(states: int, pseudo_count: float, seed: int) -> None:
    text, chain = random_text([30, 20, 1, 44], 4, seed), random_chain(states, 4, seed)
    objective = []
    for _ in range(8):
        counts, log_likelihood = hmm.expect(chain, text)
        objective.append(log_likelihood + pseudo_count * sum(np.log(part).sum() for part in chain))
        chain = Chain.of(tuple(part + pseudo_count for part in counts))
    assert (np.diff(objective) > -1e-9 * abs(objective[0])).all()


def test_steps_after_blocks_reach_a_fixed_point_of_em_sooner() -> None:
    chain = random_chain(3, 6, 1, concentration=0.2)
    text = drawn(chain, 30, 50, seed=2)
    start = tuple(random_chain(3, 6, 9))
    flat = tuple(np.full(part.shape, 0.01) for part in start)

    def run(blocks: int, passes: int) -> Any:
        parts = [text.subset(np.arange(i, len(text), blocks)) for i in range(blocks)]
        return climb(
            start,
            [partial(lambda part, counts: hmm.expect(Chain.of(counts), part)[0], part) for part in parts],
            lambda counts: float(hmm.score(Chain.of(counts), text).mean()),
            prior=flat,
            passes=passes,
            tolerance=0.0,
        )

    assert run(5, 5).score > run(1, 5).score
    end = Chain.of(run(5, 200).statistics)
    again = Chain.of(total([(1.0, flat), (1.0, hmm.expect(end, text)[0])]))
    for ours, theirs in zip(end, again, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_fitted_chain_predicts_about_as_well_as_the_one_that_drew_the_data() -> None:
    chain = random_chain(3, 8, 4, concentration=0.1)
    train, valid, test = (drawn(chain, n, 60, seed) for seed, n in enumerate((150, 40, 100)))
    model = markov(8, states=[1, 3, 6], restarts=4)
    report = model.fit(train, valid)
    gap = hmm.score(chain, test).mean() - hmm.score(model.chain, test).mean()
    assert abs(gap) < 0.02
    assert report["states"] >= 3
    assert {candidate["states"] for candidate in report["candidates"]} == {1, 3, 6}
    assert report["valid_log_prob"] == max(candidate["valid_log_prob"] for candidate in report["candidates"])


def test_a_long_text_neither_underflows_nor_sees_an_impossible_symbol() -> None:
    text = random_text([100_000], 4, 0)
    model = markov(5, states=[8], passes=2)  # the last symbol is never seen
    model.fit(text, text)
    log_prob = model.log_prob(np.full((1, 9), 4), np.ones((1, 9), bool))
    assert np.isfinite(log_prob).all()
    assert np.isfinite(hmm.expect(model.chain, text)[1])


def test_the_source_is_a_prior_that_validation_weighs() -> None:
    near, far = (random_chain(3, 8, seed, concentration=0.1) for seed in (4, 5))
    source = markov(8, states=[3], restarts=4)
    source.fit(drawn(near, 150, 60, 0), drawn(near, 40, 60, 1))
    little, valid, test = (drawn(near, n, 30, seed) for seed, n in enumerate((2, 20, 60), start=6))
    alone, adapted = markov(8), markov(8)
    alone.fit(little, valid)
    assert adapted.fit(little, valid, source)["prior_weight"] > 0
    assert hmm.score(adapted.chain, test).mean() > hmm.score(alone.chain, test).mean() + 0.05
    # Plenty of another kind of text leaves nothing of the source.
    other = markov(8)
    assert other.fit(drawn(far, 150, 60, 0), drawn(far, 40, 60, 1), source)["prior_weight"] == 0
    # At share 1 the model is the source's.
    same = markov(8, prior_weights=[1.0])
    same.fit(little, valid, source)
    np.testing.assert_array_equal(same.chain.emission, source.chain.emission)


def test_what_the_fit_of_symbols_refuses() -> None:
    text = random_text([30, 20], 4, 0)
    nothing = Sequences(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    unscored = Sequences(text.values, text.offsets, first=text.lengths)
    with pytest.raises(UserError, match="training split: no symbols"):
        markov(4).fit(nothing, text)
    with pytest.raises(UserError, match="validation split: no scored position"):
        markov(4).fit(text, unscored)
    with pytest.raises(UserError, match="symbol 3; expected one of 0 to 2"):
        markov(3).fit(text, text)
    source = markov(4)
    source.fit(text, text)
    with pytest.raises(UserError, match="4 symbols, the target 5"):
        markov(5).fit(text, text, source)
    with pytest.raises(UserError, match="symbol 7"):
        source.log_prob(np.array([[7]]), np.ones((1, 1), bool))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("states", []),
        ("states", [0, 3]),
        ("restarts", 0),
        ("pseudo_count", 0.0),
        ("pseudo_count", np.inf),
        ("block", 0),
        ("passes", 0),
        ("tolerance", -1.0),
        ("prior_weights", []),
        ("prior_weights", [1.5]),
    ],
)
def test_settings_that_make_no_sense_are_named(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=name):
        markov(4, **{name: value})


# ----------------------------------------------------------------------------------------------------------- vectors


def random_model(states: int, channels: int, seed: int) -> StateSpace:
    rng = np.random.default_rng(seed)

    def covariance(n: int, scale: float) -> np.ndarray:
        root = rng.standard_normal((n, n))
        return scale * (root @ root.T / n + 0.1 * np.eye(n))

    rotation = np.linalg.qr(rng.standard_normal((states, states)))[0]
    return StateSpace(
        mean=rng.standard_normal(states),
        spread=covariance(states, 1.0),
        transition=0.9 * rotation,
        noise=covariance(states, 0.3),
        offset=rng.standard_normal(channels),
        output=rng.standard_normal((channels, states)),
        error=covariance(channels, 0.5),
    )


def simulate(model: StateSpace, lengths: list[int], seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    arrays = []
    for length in lengths:
        z = rng.multivariate_normal(model.mean, model.spread)
        x = np.zeros((length, len(model.offset)), np.float32)
        for t in range(length):
            x[t] = model.offset + model.output @ z + rng.multivariate_normal(np.zeros(len(x[t])), model.error)
            z = model.transition @ z + rng.multivariate_normal(np.zeros(len(z)), model.noise)
        arrays.append(x)
    return Sequences.from_arrays(arrays)


def reference(model: StateSpace, x: np.ndarray) -> KalmanSmoother:
    channels, states = model.output.shape
    peer = KalmanSmoother(k_endog=channels, k_states=states)
    peer.bind(x.astype(np.float64))
    peer["obs_intercept"], peer["design"], peer["obs_cov"] = model.offset, model.output, model.error
    peer["transition"], peer["selection"], peer["state_cov"] = model.transition, np.eye(states), model.noise
    peer.initialize_known(model.mean, model.spread)
    return peer


def linear(channels: int, **parameters: Any) -> LinearGaussian:
    chosen: dict[str, Any] = {
        "state_sizes": [2],
        "passes": 15,
        "tolerance": 1e-4,
        "prior_weights": [0.0, 0.5, 1.0],
    } | parameters
    return LinearGaussian(Space("vectors", channels), **chosen)


def fitted(model: StateSpace) -> LinearGaussian:
    """The family with these parameters."""
    states, channels = len(model.mean), len(model.offset)
    a, c = model.transition, model.output
    first = np.outer(np.append(1, model.mean), np.append(1, model.mean))
    first[1:, 1:] += model.spread
    moves = np.eye(1 + 2 * states)
    moves[1:, 1:] = np.block([[np.eye(states), a.T], [a, a @ a.T + model.noise]])
    seen = np.eye(1 + states + channels)
    top = np.column_stack([model.offset, c])
    seen[1 + states :, : 1 + states], seen[: 1 + states, 1 + states :] = top, top.T
    seen[1 + states :, 1 + states :] = top @ top.T + model.error
    found = linear(channels, state_sizes=[states])
    found.load_state({"first": first, "moves": moves, "seen": seen})
    return found


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(0, 40), min_size=1, max_size=5), st.integers(0, 2**32)
)
def test_filter_equals_statsmodels(states: int, channels: int, lengths: list[int], seed: int) -> None:
    model = random_model(states, channels, seed)
    data = simulate(model, [*lengths, 90], seed)
    family, batch = fitted(model), data.batch(np.arange(len(lengths) + 1))
    log_prob, (mean, deviation) = family.log_prob(batch.x, batch.mask), family.moments(batch.x, batch.mask)
    for i, x in enumerate(data):
        if len(x) == 0:
            continue
        found = reference(model, x).filter()
        np.testing.assert_allclose(log_prob[i, : len(x)], found.llf_obs, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(mean[i, : len(x)], found.forecasts.T, rtol=1e-6, atol=1e-6)
        variance = np.diagonal(found.forecasts_error_cov, axis1=0, axis2=1)
        np.testing.assert_allclose(deviation[i, : len(x)] ** 2, variance, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 2**32)
)
def test_expected_moments_equal_statsmodels_smoother(states: int, channels: int, lengths: list[int], seed: int) -> None:
    model = random_model(states, channels, seed)
    data = simulate(model, lengths, seed)
    batches = [data.batch(part) for part in np.array_split(np.arange(len(lengths)), min(2, len(lengths)))]
    found = kalman.expect(model, [Panel.of(batch.x, batch.mask) for batch in batches])
    expected = [np.zeros_like(part) for part in found]
    z, later = slice(1, 1 + states), slice(1 + states, None)
    for x in data:
        smoothed = reference(model, x).smooth()
        means, covariances = smoothed.smoothed_state.T, smoothed.smoothed_state_cov.transpose(2, 0, 1)
        for t in range(len(x)):
            w = np.concatenate([[1], means[t], x[t]])
            expected[2] += np.outer(w, w)
            expected[2][z, z] += covariances[t]
            if t == 0:
                w = np.append(1, means[0])
                expected[0] += np.outer(w, w)
                expected[0][z, z] += covariances[0]
                continue
            w = np.concatenate([[1], means[t - 1], means[t]])
            cross = smoothed.smoothed_state_autocov[:, :, t - 1]  # Cov(z_t, z_{t-1})
            expected[1] += np.outer(w, w)
            expected[1][z, z] += covariances[t - 1]
            expected[1][later, later] += covariances[t]
            expected[1][later, z] += cross
            expected[1][z, later] += cross.T
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("states", "channels"), [(1, 1), (3, 2), (2, 4)])
def test_em_of_states_never_lowers_the_likelihood(states: int, channels: int) -> None:
    data = simulate(random_model(states, channels, 1), [40, 3, 60, 1, 25], 0)
    batch = data.batch(np.arange(len(data)))
    panel, model = Panel.of(batch.x, batch.mask), random_model(states, channels, 2)
    objective = []
    for _ in range(15):
        objective.append(fitted(model).log_prob(batch.x, batch.mask).sum())
        model = StateSpace.of(kalman.expect(model, [panel]))
    assert (np.diff(objective) > 0).all()


def test_the_recursion_that_has_arrived_is_the_recursion() -> None:
    model = random_model(3, 2, 0)
    gains = Gains.of(model, 400)
    predicted = model.spread
    for t in range(400):
        surprise = model.output @ predicted @ model.output.T + model.error
        gain = predicted @ model.output.T @ np.linalg.inv(surprise)
        np.testing.assert_allclose(gains.predicted[t], predicted, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(gains.gain[t], gain, rtol=1e-10, atol=1e-12)
        predicted = model.transition @ (predicted - gain @ model.output @ predicted) @ model.transition.T + model.noise


@pytest.mark.slow
def test_a_fitted_state_space_predicts_about_as_well_as_the_one_that_drew_the_data() -> None:
    model = random_model(2, 2, 3)
    train, valid, test = (simulate(model, [60] * n, seed) for seed, n in enumerate((80, 20, 60)))
    found = linear(2, state_sizes=[1, 2, 4], passes=30)
    report = found.fit(train, valid)
    batch = test.batch(np.arange(len(test)))
    best, ours = (family.log_prob(batch.x, batch.mask).mean() for family in (fitted(model), found))
    assert abs(best - ours) < 0.03
    assert report["state_size"] >= 2
    assert report["largest_root"] == pytest.approx(0.9, abs=0.05)


@pytest.mark.slow
def test_validation_weighs_the_source_of_vectors() -> None:
    near, far = random_model(2, 2, 3), random_model(2, 2, 11)
    source = linear(2)
    source.fit(simulate(near, [60] * 60, 0), simulate(near, [60] * 20, 1))
    little, valid, test = (simulate(near, [20] * n, seed) for seed, n in enumerate((2, 20, 60), start=6))
    batch = test.batch(np.arange(len(test)))
    alone, adapted = linear(2), linear(2)
    alone.fit(little, valid)
    assert adapted.fit(little, valid, source)["prior_weight"] > 0
    gain = adapted.log_prob(batch.x, batch.mask).mean() - alone.log_prob(batch.x, batch.mask).mean()
    assert gain > 0.05
    assert linear(2).fit(simulate(far, [60] * 60, 0), simulate(far, [60] * 20, 1), source)["prior_weight"] == 0


def test_context_is_read_but_not_scored() -> None:
    model = random_model(2, 1, 0)
    train, valid = simulate(model, [50] * 10, 0), simulate(model, [40] * 5, 1)
    late = Sequences(valid.values, valid.offsets, first=np.full(5, 30))
    report = linear(1, passes=1).fit(train, late)
    found = linear(1, passes=1)
    found.fit(train, late)
    batch = late.batch(np.arange(5))
    expected = found.log_prob(batch.x, batch.mask)[batch.scored].mean()
    assert report["valid_log_prob"] == pytest.approx(expected, rel=1e-12)


def test_a_channel_that_never_moves_has_a_finite_density() -> None:
    data = simulate(random_model(2, 2, 0), [50] * 10, 0)
    data.values[:, 1] = 3
    found = linear(2)
    found.fit(data, data)
    batch = data.batch(np.arange(len(data)))
    assert np.isfinite(found.log_prob(batch.x, batch.mask)).all()


def test_what_the_fit_of_vectors_refuses() -> None:
    data = simulate(random_model(2, 2, 0), [30, 30, 30], 0)
    single = Sequences.from_arrays([np.ones((1, 2), np.float32)] * 3)
    with pytest.raises(UserError, match="the longest sequence has 1 steps"):
        linear(2).fit(single, data)
    with pytest.raises(UserError, match=r"a state of 40 .* runs of 42 steps .* found 0; the longest sequence has 30"):
        linear(2, state_sizes=[40]).fit(data, data)
    with pytest.raises(UserError, match="validation split: no scored position"):
        linear(2).fit(data, Sequences(data.values, data.offsets, first=data.lengths))
    with pytest.raises(UserError, match="state_sizes"):
        linear(2, state_sizes=[0])
    source = linear(2)
    source.fit(data, data)
    with pytest.raises(UserError, match="2 channels, the target 1"):
        linear(1).fit(simulate(random_model(2, 1, 0), [30], 0), data, source)
    broken = Sequences(data.values.copy(), data.offsets)
    broken.values[37, 1] = np.nan
    with pytest.raises(UserError, match="training split: sequence 1, step 7, channel 1: nan"):
        linear(2).fit(broken, data)
    with pytest.raises(UserError, match="validation split: sequence 1, step 7, channel 1: nan"):
        linear(2).fit(data, broken)
