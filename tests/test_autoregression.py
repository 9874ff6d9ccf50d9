"""Autoregression against statsmodels, loops and limits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, multivariate_normal
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.tsa.api import VAR
from statsmodels.tsa.ar_model import AutoReg, ar_select_order

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.autoregression import (
    LaggedMoments,
    VectorAutoregression,
    chi2_survival,
    fit_each,
    regress,
)


def simulate(lengths: list[int], channels: int = 1, order: int = 2, seed: int = 0) -> Sequences:
    """Stable VAR(order) sequences with means away from zero, float32."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(0, 0.35 / order / math.sqrt(channels), (order, channels, channels)) + 0.4 / order * np.eye(
        channels
    )
    mixing = np.eye(channels) + 0.3 * rng.standard_normal((channels, channels))
    arrays = []
    for length in lengths:
        x = np.zeros((order + 50 + length, channels))
        for t in range(order, len(x)):
            x[t] = sum(x[t - 1 - j] @ slopes[j] for j in range(order)) + rng.standard_normal(channels) @ mixing
        arrays.append((x[-length:] + np.arange(1, channels + 1)).astype(np.float32))
    return Sequences.from_arrays(arrays)


def model(channels: int = 1, **parameters: Any) -> VectorAutoregression:
    chosen: dict[str, Any] = {"lags": [2], "criterion": "valid", "prior_weights": [0.0]} | parameters
    return VectorAutoregression(Space("vectors", channels), **chosen)


# ------------------------------------------------------------------------------------------------------ one a series


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 9),
    st.lists(st.integers(30, 90), min_size=1, max_size=20),
    st.sampled_from([np.float32, np.float64]),
    st.floats(-1e3, 1e3),
    st.integers(0, 2**32),
)
def test_each_series_equals_autoreg(order: int, lengths: list[int], dtype: type, mean: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    panel = Sequences.from_arrays([(rng.standard_normal((n, 1)).cumsum(0) + mean).astype(dtype) for n in lengths])
    fits = fit_each(panel, order)
    for i, series in enumerate(panel):
        expected = AutoReg(series[:, 0].astype(np.float64), order).fit()
        np.testing.assert_allclose(
            fits.coefficients[i], expected.params, rtol=1e-6, atol=1e-6 * abs(expected.params).max()
        )
        np.testing.assert_allclose(fits.variance[i], expected.sigma2, rtol=1e-6)
        np.testing.assert_allclose(fits.log_likelihood[i], expected.llf, rtol=1e-6)


@pytest.mark.parametrize(
    "series",
    [
        pytest.param(1e4 + np.arange(200.0) ** 2 + np.random.default_rng(1).standard_normal(200), id="smooth"),
        pytest.param(np.sin(0.01 * np.arange(300)) + 1e-5 * np.random.default_rng(2).standard_normal(300), id="sine"),
        pytest.param(1e6 + np.random.default_rng(3).standard_normal(100), id="far-from-zero"),
        pytest.param(np.full(50, 3.7), id="constant"),
        pytest.param(np.arange(50.0), id="line"),
        pytest.param(np.zeros(40), id="zero"),
    ],
)
@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient", "ignore:divide by zero")
def test_ill_conditioned_series_equal_autoreg_and_spoil_no_neighbour(series: np.ndarray) -> None:
    other = np.random.default_rng(0).standard_normal(60)
    fits = fit_each(Sequences.from_arrays([other[:, None], series[:, None], other[:, None]]), 3)
    expected = AutoReg(series, 3).fit()
    scale = abs(expected.params[1:]).max()
    np.testing.assert_allclose(fits.coefficients[1, 1:], expected.params[1:], rtol=1e-6, atol=1e-6 * scale)
    np.testing.assert_allclose(
        fits.variance[1], expected.sigma2, rtol=1e-6, atol=1e-24 * max(1.0, float(np.mean(series**2)))
    )
    for i in (0, 2):
        np.testing.assert_allclose(fits.log_likelihood[i], AutoReg(other, 3).fit().llf, rtol=1e-6)


def test_each_is_affine_equivariant_and_independent_of_the_panel() -> None:
    panel = simulate([80, 31, 120, 64] * 9)
    fits = fit_each(panel, 4)
    moved = fit_each(Sequences(panel.values.astype(np.float64) * 3 - 7, panel.offsets), 4)
    np.testing.assert_allclose(moved.coefficients[:, 1:], fits.coefficients[:, 1:], rtol=1e-9)
    np.testing.assert_allclose(moved.variance, 9 * fits.variance, rtol=1e-9)
    alone = fit_each(panel.subset(np.array([17])), 4)
    np.testing.assert_array_equal(alone.coefficients[0], fits.coefficients[17])


@pytest.mark.slow
def test_a_memory_mapped_panel_gives_the_same_bits(tmp_path: Path) -> None:
    panel = simulate([2000, 900])  # large enough to be mapped
    panel.save(tmp_path)
    mapped = Sequences.load(tmp_path)
    assert isinstance(mapped.values, np.memmap)
    for ours, theirs in zip(fit_each(mapped, 4), fit_each(panel, 4), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_short_series_is_named() -> None:
    with pytest.raises(UserError, match=r"series 2: 9 steps.*order 4.*at least 10"):
        fit_each(simulate([30, 10, 9, 30]), 4)


def test_a_series_that_is_not_finite_is_named() -> None:
    panel = simulate([30, 30, 30])
    panel.values[35] = np.nan
    with pytest.raises(UserError, match="series 1, step 5: nan"):
        fit_each(panel, 4)


# ------------------------------------------------------------------------------------------------------------ pooled


def windows(sequences: Sequences, order: int, start: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows (1, x_{t-1}, ..., x_{t-order}) and x_t by loops, over t >= start (default: order)."""
    rows, targets = [], []
    for i, x in enumerate(sequences):
        first = 0 if sequences.first is None else int(sequences.first[i])
        for t in range(max(order, first, start or 0), len(x)):
            rows.append(np.concatenate([[1.0], x[t - order : t][::-1].reshape(-1)]))
            targets.append(x[t])
    return np.array(rows, np.float64), np.array(targets, np.float64)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(0, 5), st.lists(st.integers(1, 12), min_size=1, max_size=8), st.booleans())
def test_moments_equal_loops(channels: int, order: int, lengths: list[int], with_context: bool) -> None:
    sequences = simulate(lengths, channels, seed=len(lengths))
    if with_context:
        first = np.array([n // 2 for n in lengths], np.int64)
        sequences = Sequences(sequences.values, sequences.offsets, first=first)
    moments = LaggedMoments.of(sequences, channels, order)
    assert moments.count == sum(n - (n // 2 if with_context else 0) for n in lengths)
    for k in range(order + 1):
        past, now = windows(sequences, k)
        found = moments.since(k)
        if len(past) == 0:
            assert not found.any()
            continue
        w = np.concatenate([past[:, :1], now, past[:, 1:]], axis=1)
        np.testing.assert_allclose(found, w.T @ w, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(moments.up_to(k).parts[k], w.T @ w, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("channels", "order"), [(1, 1), (1, 6), (3, 2)])
def test_one_sequence_equals_statsmodels_var(channels: int, order: int) -> None:
    sequences = simulate([300], channels)
    ours = model(channels, lags=[order])
    ours.fit(sequences, sequences)
    expected = VAR(sequences[0].astype(np.float64)).fit(order, trend="c") if channels > 1 else None
    regression = ours.regressions[order]
    if expected is None:
        reference = AutoReg(sequences[0][:, 0].astype(np.float64), order).fit()
        np.testing.assert_allclose(regression.coefficients[:, 0], reference.params, rtol=1e-6, atol=1e-7)
        llf = reference.llf
    else:
        np.testing.assert_allclose(regression.coefficients, expected.params, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(regression.covariance, expected.sigma_u_mle, rtol=1e-6)
        llf = expected.llf
    found = ours.log_prob(sequences[0][None], np.ones((1, 300), bool))[0, order:].sum()
    np.testing.assert_allclose(found, llf, rtol=1e-6)


def test_log_prob_equals_a_loop_of_gaussian_densities_at_every_position() -> None:
    train = simulate([40, 3, 2, 25, 60, 1], channels=2)
    ours = model(2, lags=[3])
    ours.fit(train, train)
    batch = train.batch(np.arange(len(train)))
    found = ours.log_prob(batch.x, batch.mask)
    mean, deviation = ours.moments(batch.x, batch.mask)
    for i, x in enumerate(train):
        for t in range(len(x)):
            k = min(t, 3)
            if k == 0:
                rows, targets = windows(train, 0)
                firsts = np.array([s[0] for s in train], np.float64)
                weights = np.concatenate([np.ones(len(firsts)), np.full(len(targets), 3 / len(targets))])
                values = np.concatenate([firsts, targets])
                expected = np.average(values, axis=0, weights=weights)
                covariance = np.cov(values.T, aweights=weights, ddof=0)
            else:
                rows, targets = windows(train, k)
                solution = np.linalg.lstsq(rows, targets, rcond=None)[0]
                residual = targets - rows @ solution
                covariance = residual.T @ residual / len(rows)
                expected = np.concatenate([[1.0], x[t - k : t][::-1].reshape(-1)]) @ solution
            density = multivariate_normal(expected, covariance).logpdf(x[t].astype(np.float64))
            np.testing.assert_allclose(found[i, t], density, rtol=1e-7)
            np.testing.assert_allclose(mean[i, t], expected, rtol=1e-7)
            np.testing.assert_allclose(deviation[i, t], np.sqrt(np.diag(covariance)), rtol=1e-7)


def test_padding_is_zero_and_changes_nothing_and_the_future_neither() -> None:
    train = simulate([50, 20, 7, 1], channels=2)
    ours = model(2, lags=[4])
    ours.fit(train, train)
    batch = train.batch(np.arange(4))
    found = ours.log_prob(batch.x, batch.mask)
    assert not found[~batch.mask].any()
    garbage = np.where(batch.mask[..., None], batch.x, np.float32(np.nan))
    np.testing.assert_array_equal(ours.log_prob(garbage, batch.mask), found)
    for part in ours.moments(garbage, batch.mask):
        assert not part[~batch.mask].any()
    for i, x in enumerate(train):
        alone = ours.log_prob(x[None], np.ones((1, len(x)), bool))[0]
        np.testing.assert_allclose(found[i, : len(x)], alone, rtol=1e-12)
    changed = batch.x.copy()
    changed[:, 5:] += 10
    np.testing.assert_array_equal(ours.log_prob(changed, batch.mask)[:, :5], found[:, :5])


def test_forecast_has_the_moments_of_the_recursion() -> None:
    train = simulate([400, 300], channels=2)
    ours = model(2, lags=[3])
    ours.fit(train, train)
    # The second prefix is shorter than the order, so its first steps come from the regressions on fewer lags.
    prefix, mask = train.batch(np.arange(2)).x[:, :9].copy(), np.ones((2, 9), bool)
    mask[1, 1:] = False
    prefix[1, 1:] = np.nan
    paths = ours.forecast(prefix, mask, steps=5, samples=40_000, seed=3)
    assert paths.shape == (2, 40_000, 5, 2)
    np.testing.assert_array_equal(paths, ours.forecast(prefix, mask, steps=5, samples=40_000, seed=3))
    assert (paths != ours.forecast(prefix, mask, steps=5, samples=40_000, seed=4)).any()
    for row, length in enumerate(mask.sum(axis=1)):
        # The joint Gaussian of the steps: e = noise of each step, x = mean + R e by the recursion on unit impulses.
        known = [x.astype(np.float64) for x in prefix[row, :length]]
        response: list[np.ndarray] = [np.zeros((2, 10)) for _ in known]
        for step in range(5):
            k = min(len(known), 3)
            regression = ours.regressions[k]
            slopes = regression.coefficients[1:].reshape(k, 2, 2)
            known.append(regression.coefficients[0] + sum(known[-1 - j] @ slopes[j] for j in range(k)))
            impulse = np.zeros((2, 10))
            impulse[:, 2 * step : 2 * step + 2] = regression.factor
            response.append(impulse + sum(slopes[j].T @ response[-1 - j] for j in range(k)))
            spread = np.sqrt(np.sum(response[-1] ** 2, axis=1))
            np.testing.assert_allclose(paths[row, :, step].mean(axis=0), known[-1], atol=5 * spread.max() / 200)
            np.testing.assert_allclose(paths[row, :, step].std(axis=0), spread, rtol=0.02)
        cross = response[-1] @ response[-2].T
        np.testing.assert_allclose(np.cov(paths[row, :, 4].T, paths[row, :, 3].T)[:2, 2:], cross, atol=0.05)


def test_forecast_from_nothing_starts_with_first_values() -> None:
    train = simulate([20] * 30)
    ours = model(lags=[2])
    ours.fit(train, train)
    paths = ours.forecast(np.zeros((1, 0, 1), np.float32), np.zeros((1, 0), bool), steps=1, samples=50_000, seed=0)
    first = ours.regressions[0]
    np.testing.assert_allclose(paths.mean(), first.coefficients[0, 0], atol=0.03)
    np.testing.assert_allclose(paths.std(), first.factor[0, 0], rtol=0.02)


# ------------------------------------------------------------------------------------------------- orders and priors


@pytest.mark.parametrize("criterion", ["aic", "bic"])
@pytest.mark.parametrize("seed", range(4))
def test_orders_equal_ar_select_order_on_the_common_sample(criterion: Any, seed: int) -> None:
    sequences = simulate([150], order=3, seed=seed)
    report = model(lags=list(range(1, 9)), criterion=criterion).fit(sequences, sequences)
    expected = ar_select_order(sequences[0][:, 0].astype(np.float64), 8, ic=criterion)
    reference = expected.aic if criterion == "aic" else expected.bic
    found = {entry["order"]: entry[criterion] for entry in report["information"]}
    for order, value in found.items():
        key = tuple(range(1, order + 1))
        np.testing.assert_allclose(value - found[1], reference[key] - reference[(1,)], rtol=1e-6, atol=1e-6)
    assert report["order"] == min(found, key=lambda order: reference[tuple(range(1, order + 1))])


@pytest.mark.parametrize("criterion", ["aic", "bic"])
@pytest.mark.parametrize("seed", range(3))
def test_orders_of_several_channels_equal_var_select_order(criterion: Any, seed: int) -> None:
    sequences = simulate([200], channels=3, order=2, seed=seed)
    report = model(3, lags=list(range(1, 7)), criterion=criterion).fit(sequences, sequences)
    reference = VAR(sequences[0].astype(np.float64)).select_order(6, trend="c")
    expected = np.array(reference.ics[criterion])[1:]
    found = np.array([entry[criterion] for entry in report["information"]]) / (200 - 6)
    np.testing.assert_allclose(found - found[0], expected - expected[0], rtol=1e-6, atol=1e-8)
    # Order 0 is no candidate here.
    least = {name: int(np.argmin(reference.ics[name][1:])) + 1 for name in ("aic", "bic")}
    assert (report["order"], report["least"]) == (least[criterion], least)


def test_orders_share_the_positions_that_have_the_longest_past() -> None:
    """As if each sequence began where the largest candidate's first window ends."""
    panel = simulate([40, 3, 70, 55], channels=2, seed=6)
    panel = Sequences(panel.values, panel.offsets, first=np.array([0, 1, 10, 2]))
    report = model(2, lags=[1, 2, 5], criterion="aic").fit(panel, panel)
    for entry in report["information"]:
        order = entry["order"]
        rows, targets = [], []
        assert panel.first is not None
        for x, first in zip(panel, panel.first, strict=True):
            for t in range(max(5, first), len(x)):
                rows.append(np.append(1, x[t - order : t][::-1]))
                targets.append(x[t])
        design, y = np.array(rows, np.float64), np.array(targets, np.float64)
        residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        likelihood = multivariate_normal(np.zeros(2), residual.T @ residual / len(y)).logpdf(residual).sum()
        free = 2 * (1 + 2 * order) + 3
        np.testing.assert_allclose(entry["aic"], 2 * free - 2 * likelihood, rtol=1e-6)
        np.testing.assert_allclose(entry["bic"], free * math.log(len(y)) - 2 * likelihood, rtol=1e-6)


def test_validation_chooses_by_the_log_prob_of_all_scored_positions() -> None:
    train, valid = simulate([60, 80], 2, seed=1), simulate([50, 4, 30], 2, seed=1)
    valid = Sequences(valid.values, valid.offsets, first=np.array([20, 1, 0]))
    source = model(2, lags=[1, 2, 3])
    source.fit(simulate([500], 2, seed=2), valid)
    ours = model(2, lags=[1, 2, 3], prior_weights=[0.0, 0.3])
    report = ours.fit(train, valid, source)
    assert len(report["candidates"]) == 6
    batch = valid.batch(np.arange(3))
    for candidate in report["candidates"]:
        alone = model(2, lags=[candidate["order"]], prior_weights=[candidate["prior_weight"]])
        alone.fit(train, valid, source)
        mean = alone.log_prob(batch.x, batch.mask)[batch.scored].mean()
        np.testing.assert_allclose(candidate["valid_log_prob"], mean, rtol=1e-9)
    best = max(report["candidates"], key=lambda candidate: candidate["valid_log_prob"])
    assert (report["order"], report["prior_weight"]) == (best["order"], best["prior_weight"])


def test_map_runs_from_least_squares_to_the_source() -> None:
    source, target = model(2, lags=[3]), simulate([40, 30], 2, seed=5)
    source.fit(simulate([300, 200], 2, seed=4), target)
    scratch = model(2, lags=[3])
    scratch.fit(target, target)

    def adapted(weight: float) -> VectorAutoregression:
        ours = model(2, lags=[3], prior_weights=[weight])
        assert ours.fit(target, target, source)["prior_weight"] == weight
        return ours

    for weight, limit in ((0.0, scratch), (1.0, source)):
        for ours, theirs in zip(adapted(weight).regressions, limit.regressions, strict=True):
            np.testing.assert_array_equal(ours.coefficients, theirs.coefficients)
            np.testing.assert_array_equal(ours.covariance, theirs.covariance)
    for weight, limit in ((1e-12, scratch), (1 - 1e-12, source)):
        np.testing.assert_allclose(
            adapted(weight).regressions[3].coefficients, limit.regressions[3].coefficients, rtol=1e-6, atol=1e-8
        )


def test_map_is_the_mode_of_a_matrix_normal_prior_around_the_source() -> None:
    source_data, target = simulate([200], 2, seed=4), simulate([40], 2, seed=5)
    source = model(2, lags=[2])
    source.fit(source_data, target)
    ours = model(2, lags=[2], prior_weights=[0.3])
    ours.fit(target, target, source)
    weight = 0.3 / 0.7 * 40 / 200
    (x0, y0), (x, y) = windows(source_data, 2), windows(target, 2)
    mean, precision = np.linalg.lstsq(x0, y0, rcond=None)[0], weight * x0.T @ x0
    expected = np.linalg.solve(x.T @ x + precision, x.T @ y + precision @ mean)
    scatter = weight * (y0 - x0 @ mean).T @ (y0 - x0 @ mean) + (y - x @ expected).T @ (y - x @ expected)
    scatter += (expected - mean).T @ precision @ (expected - mean)
    np.testing.assert_allclose(ours.regressions[2].coefficients, expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(ours.regressions[2].covariance, scatter / (len(x) + weight * len(x0)), rtol=1e-6)


def test_a_prior_carries_a_target_too_small_for_least_squares() -> None:
    tiny, valid = simulate([5], 3, seed=7), simulate([50], 3, seed=7)
    source = model(3, lags=[1, 2])
    source.fit(simulate([400], 3, seed=7), valid)
    ours = model(3, lags=[1, 2], prior_weights=[0.0, 0.5, 0.99])
    report = ours.fit(tiny, valid, source)
    assert report["prior_weight"] > 0
    with pytest.raises(UserError, match=r"order 1 on 3 channels needs 8 scored steps.*sequence, 0, has 5 steps"):
        model(3, lags=[1, 2]).fit(tiny, valid)


# ---------------------------------------------------------------------------------------------- reports and bad input


def test_diagnostics_equal_statsmodels() -> None:
    sequences = simulate([250], order=2)
    report = model(lags=[2]).fit(sequences, sequences)
    reference = AutoReg(sequences[0][:, 0].astype(np.float64), 2).fit()
    expected = acorr_ljungbox(reference.resid, lags=[12], model_df=2)
    assert report["ljung_box"]["lags"] == 12
    np.testing.assert_allclose(report["ljung_box"]["statistic"], expected["lb_stat"].item(), rtol=1e-6)
    np.testing.assert_allclose(report["ljung_box"]["p_value"], expected["lb_pvalue"].item(), rtol=1e-6)
    np.testing.assert_allclose(report["largest_root"], 1 / np.abs(reference.roots).min(), rtol=1e-6)
    assert report["stable"]


def test_diagnostics_of_several_channels_equal_statsmodels() -> None:
    sequences = simulate([300], channels=3, order=2)
    report = model(3, lags=[2]).fit(sequences, sequences)
    reference = VAR(sequences[0].astype(np.float64)).fit(2, trend="c")
    expected = reference.test_whiteness(nlags=12, adjusted=True)
    # Lütkepohl (2005, p. 171) has T² before the sum where Ljung and Box, one channel's test, have T (T + 2).
    statistic = expected.test_statistic * (reference.nobs + 2) / reference.nobs
    np.testing.assert_allclose(report["ljung_box"]["statistic"], statistic, rtol=1e-6)
    assert report["ljung_box"]["degrees_of_freedom"] == expected.df
    np.testing.assert_allclose(report["ljung_box"]["p_value"], chi2.sf(statistic, expected.df), rtol=1e-6)
    np.testing.assert_allclose(report["largest_root"], 1 / np.abs(reference.roots).min(), rtol=1e-6)
    assert report["stable"] == reference.is_stable()


def test_a_process_that_explodes_is_not_stable_and_residuals_of_too_low_an_order_are_not_white() -> None:
    rng = np.random.default_rng(2)
    x = np.zeros((400, 1))
    for t in range(2, 400):
        x[t] = 1.03 * x[t - 1] + rng.standard_normal(1)
    growing = Sequences.from_arrays([x.astype(np.float32)])
    report = model(lags=[1]).fit(growing, growing)
    assert not report["stable"]
    assert report["largest_root"] == pytest.approx(1.03, abs=1e-3)
    seasonal = np.zeros((400, 1))
    for t in range(4, 400):
        seasonal[t] = 0.8 * seasonal[t - 4] + rng.standard_normal(1)
    seasonal_set = Sequences.from_arrays([seasonal.astype(np.float32)])
    assert model(lags=[1]).fit(seasonal_set, seasonal_set)["ljung_box"]["p_value"] < 1e-6
    assert model(lags=[4]).fit(seasonal_set, seasonal_set)["ljung_box"]["p_value"] > 1e-3


@given(st.floats(0, 500), st.integers(1, 150).map(lambda half: 2 * half))
def test_chi2_survival_equals_scipy(value: float, freedom: int) -> None:
    np.testing.assert_allclose(chi2_survival(value, freedom), chi2.sf(value, freedom), rtol=1e-8, atol=1e-300)


def test_state_returns_the_same_model() -> None:
    train = simulate([60, 40], channels=2)
    ours = model(2, lags=[1, 3])
    ours.fit(train, train)
    again = model(2, lags=[1, 3])
    again.load_state(ours.state())
    batch = train.batch(np.arange(2))
    np.testing.assert_array_equal(again.log_prob(batch.x, batch.mask), ours.log_prob(batch.x, batch.mask))
    assert ours.parameters == again.parameters == 2 * (1 + 2 * ours.order) + 3


def test_standardisation_of_the_set_is_applied() -> None:
    plain = simulate([60, 40], channels=2)
    centre, scale = np.array([[1, 2], [3, 4]], np.float32), np.array([[2, 4], [8, 0.5]], np.float32)
    moved = [x * s + c for x, s, c in zip(plain, scale, centre, strict=True)]
    standardised = Sequences.from_arrays(moved, centre=centre, scale=scale)
    ours, theirs = model(2), model(2)
    ours.fit(standardised, standardised)
    theirs.fit(plain, plain)
    np.testing.assert_allclose(
        ours.regressions[2].coefficients, theirs.regressions[2].coefficients, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_channel_that_never_moves_has_a_finite_density(value: float) -> None:
    train = simulate([40, 30], channels=2)
    train.values[:, 1] = value
    ours = model(2, lags=[1, 2])
    report = ours.fit(train, train)
    batch = train.batch(np.arange(2))
    assert np.isfinite(ours.log_prob(batch.x, batch.mask)).all()
    assert np.isfinite(report["ljung_box"]["statistic"])
    paths = ours.forecast(batch.x[:, :10], batch.mask[:, :10], 4, 5, 0)
    np.testing.assert_allclose(paths[..., 1], value, atol=1e-2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_named(bad: float) -> None:
    train = simulate([30, 30], channels=2)
    train.values[34, 1] = bad
    with pytest.raises(UserError, match=r"training split: sequence 1, step 4, channel 1: (nan|inf)"):
        model(2).fit(train, simulate([30], channels=2))


def test_bad_requests_are_refused() -> None:
    train = simulate([30])
    nothing = Sequences(train.values, train.offsets, first=np.array([30]))
    with pytest.raises(UserError, match="validation split: no scored position"):
        model(lags=[1, 2]).fit(train, nothing)
    report = model(lags=[2]).fit(train, nothing)
    assert report["candidates"] == [{"order": 2, "prior_weight": 0.0, "valid_log_prob": None}]
    with pytest.raises(UserError, match="lags"):
        model(lags=[0, 1])
    with pytest.raises(UserError, match="prior_weights"):
        model(prior_weights=[-1.0])
    wide = model(2)
    wide.fit(simulate([40], 2), simulate([40], 2))
    with pytest.raises(UserError, match="source has 2 channels, the target 1"):
        model().fit(train, train, wide)


def test_a_ridge_steps_in_only_where_lags_are_collinear() -> None:
    rows = np.random.default_rng(0).standard_normal((50, 1))
    w = np.concatenate([np.ones((50, 1)), rows, rows, rows], axis=1)  # both lags equal what they predict
    regression = regress(w.T @ w, 1)
    np.testing.assert_allclose(regression.coefficients[1:].sum(), 1, atol=1e-5)
    assert regression.covariance[0, 0] > 0
