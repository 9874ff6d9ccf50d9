"""Models of one series, fitted at each origin: beside statsforecast, beside simulation, and where none is possible."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from statsforecast.models import AutoARIMA, AutoETS, AutoTheta
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.arima_process import arma2ma

from seqlab import config
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families import arima, ets
from seqlab.families.arima import ARIMA
from seqlab.families.closed_form.local import LocalForecaster, Prediction
from seqlab.families.closed_form.paths import gaussian, levels, responding
from seqlab.families.ets import ETS
from seqlab.families.local_ar import LocalAR, stable
from seqlab.families.theta import Theta

CONF = Path(__file__).parents[1] / "conf/family"
PERIOD = 12
LINE = Space("vectors", 1)


def seasonal(length: int, seed: int = 0, level: float = 0.0) -> np.ndarray:
    """A season, a slope and an AR(1), (length,)."""
    rng = np.random.default_rng(seed)
    noise = np.zeros(length)
    for t in range(1, length):
        noise[t] = 0.6 * noise[t - 1] + 0.3 * rng.standard_normal()
    t = np.arange(length)
    return (level + 0.01 * t + np.sin(2 * np.pi * t / PERIOD) + noise).astype(np.float32)


def panel(lengths: list[int], channels: int = 1) -> Sequences:
    arrays = [np.stack([seasonal(n, 10 * i + c) for c in range(channels)], axis=1) for i, n in enumerate(lengths)]
    return Sequences.from_arrays(arrays)


def build(name: str, space: Space = LINE, **changed: Any) -> LocalForecaster:
    """Fitted on a small panel."""
    made: LocalForecaster
    if name == "ets":
        made = ETS(space, PERIOD, **{"form": "ZZZ", "damped": None, "criterion": "aicc"} | changed)
    elif name == "theta":
        made = Theta(space, PERIOD, **{"model": "STM", "decomposition": "multiplicative"} | changed)
    elif name == "arima":
        limits = {"order": 1, "seasonal_order": 1, "differences": 1, "seasonal_differences": 1, "models": 8}
        made = ARIMA(space, PERIOD, **limits | {"criterion": "aicc", "approximation": True} | changed)
    else:
        own: dict[str, Any] = {"order": 14, "criterion": "aic", "differences": ["none"]}
        made = LocalAR(space, PERIOD, [1, 4], **own | changed)
    made.fit(panel([60, 70], space.size), panel([80, 90], space.size))
    return made


def library_arima() -> AutoARIMA:
    """At the limits of `build`."""
    limits = {"max_p": 1, "max_q": 1, "start_p": 1, "start_q": 1, "max_P": 1, "max_Q": 1, "max_d": 1, "nmodels": 8}
    return AutoARIMA(season_length=PERIOD, approximation=True, **limits)


def median(model: LocalForecaster, past: np.ndarray, steps: int, samples: int = 33) -> np.ndarray:
    """(steps,) of one series."""
    paths = model.forecast(past[None, :, None], np.ones((1, len(past)), bool), steps, samples, 0)
    return np.asarray(np.quantile(paths[0, :, :, 0], 0.5, axis=0, method="weibull"))


# What the library says of single candidates when it is called as a reference.
pytestmark = pytest.mark.filterwarnings("ignore:Stepwise search was stopped", "ignore:possible convergence problem")

FAMILIES = ("ets", "theta", "arima", "local_ar")
over_families = pytest.mark.parametrize("name", FAMILIES)


# --------------------------------------------------------------------------------------------- equal to the libraries


@pytest.mark.parametrize("level", [0.0, 30.0], ids=["any sign", "positive"])
@pytest.mark.parametrize("name", ["ets", "theta", "arima"])
def test_the_median_path_is_the_librarys_forecast(name: str, level: float) -> None:
    past = seasonal(130, level=level)
    library = {
        "ets": AutoETS(season_length=PERIOD, model="ZZZ"),
        "theta": AutoTheta(season_length=PERIOD, model="STM"),
        "arima": library_arima(),
    }[name]
    expected = library.fit(past.astype(np.float64)).predict(30)["mean"]
    np.testing.assert_allclose(median(build(name), past, 30), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_the_local_autoregression_is_statsmodels() -> None:
    past = seasonal(150)
    model = build("local_ar", order=3, criterion="bic")
    expected = min((AutoReg(past.astype(np.float64), p, hold_back=3).fit() for p in range(4)), key=lambda one: one.bic)
    assert len(expected.params) > 1
    np.testing.assert_allclose(median(model, past, 20), expected.forecast(20), rtol=1e-6, atol=1e-6)


def test_arima_intervals_are_the_librarys() -> None:
    past, samples = seasonal(130), 39  # 1 / 40 is the level at which a 95% interval ends
    paths = build("arima").forecast(past[None, :, None], np.ones((1, 130), bool), 12, samples, 3)[0, :, :, 0]
    expected = library_arima().fit(past.astype(np.float64)).predict(12, level=[95])
    np.testing.assert_allclose(paths.min(axis=0), expected["lo-95"], rtol=1e-6)
    np.testing.assert_allclose(paths.max(axis=0), expected["hi-95"], rtol=1e-6)


# ------------------------------------------------------------------------------------------------- how errors spread


FORMS = [("ANN", False), ("AAN", True), ("ANA", False), ("AAA", True), ("MNM", False), ("MAM", True), ("MAA", False)]


@pytest.mark.parametrize(("form", "damped"), FORMS)
def test_ets_simulation_is_the_librarys_recursion(form: str, damped: bool) -> None:
    """From the first states the residuals lead through the series; from the last, no errors give the point forecast.

    That of a damped trend is the library's alone: it sums phi, phi, phi², ... and the recursion phi, phi², phi³, ...
    """
    from statsforecast.ets import ets_f, forecast_ets

    series = seasonal(120, level=20).astype(np.float64)
    model = ets_f(series, PERIOD, model=form, damped=damped)
    again = ets.simulated(model, model["states"][0], model["residuals"][None])
    np.testing.assert_allclose(again[0], series, rtol=1e-9)
    ahead = ets.simulated(model, model["states"][-1], np.zeros((1, 30)))
    expected = forecast_ets(model, 30)["mean"]
    if damped:
        phi, slope, steps = model["par"][3], model["states"][-1, 1], np.arange(1, 31)
        expected = expected - slope * (phi - phi**steps) * (steps > 1)
    if not damped or form[2] == "A":
        np.testing.assert_allclose(ahead[0], expected, rtol=1e-9)


@pytest.mark.parametrize(("form", "damped"), [one for one in FORMS if one[0][0] == "A"])
def test_ets_response_is_what_an_impulse_does(form: str, damped: bool) -> None:
    from statsforecast.ets import ets_f

    model = ets_f(seasonal(120).astype(np.float64), PERIOD, model=form, damped=damped)
    errors = np.zeros((2, 30))
    errors[1, 0] = 1
    without, impulse = ets.simulated(model, model["states"][-1], errors)
    np.testing.assert_allclose(ets.responses(model, 30), impulse - without, atol=1e-9)


def test_ets_with_multiplicative_errors_spreads_with_the_level() -> None:
    """For ETS(M,N,N) the variance at step h is level² ((1 + σ²)(1 + α²σ²)^(h-1) - 1) (Hyndman et al. 2008, ch. 6)."""
    from statsforecast.ets import ets_f

    rng = np.random.default_rng(0)
    past = 100 * np.exp(0.05 * rng.standard_normal(200).cumsum() * 0.5)
    model = ets_f(past, 1, model="MNN", damped=False)
    sigma, alpha, level = np.sqrt(model["sigma2"]), model["par"][0], model["states"][-1, 0]
    found = ets.simulated_deviation(model, 8, sigma)
    variance = level**2 * ((1 + sigma**2) * (1 + alpha**2 * sigma**2) ** np.arange(8) - 1)
    np.testing.assert_allclose(found, np.sqrt(variance), rtol=0.1)


def test_arima_can_be_held_to_the_models_that_its_search_begins_with() -> None:
    """Without a trend a constant is tried and none, which makes five; of fewer the library fails."""
    past = np.random.default_rng(0).normal(5, 1, 130)
    assert build("arima", models=5).predict(past, 3).finite
    tree = yaml.safe_load((CONF / "arima.yaml").read_text(encoding="utf-8"))
    with pytest.raises(UserError, match=r"family.models: .*greater than or equal to 5.*found 4"):
        config.family("arima", tree | {"models": 4})


def test_arima_response_is_the_moving_average_of_its_process() -> None:
    phi, theta = np.array([0.5, -0.3]), np.array([0.4])
    plain = {"phi": phi, "theta": theta, "delta": np.empty(0)}
    expected = arma2ma(np.r_[1, -phi], np.r_[1, theta], 20)
    np.testing.assert_allclose(arima.responses(plain, 20), expected, atol=1e-12)
    # A difference sums what an innovation leaves.
    once = plain | {"delta": np.array([1.0])}
    np.testing.assert_allclose(arima.responses(once, 20), np.cumsum(expected), atol=1e-12)


@pytest.mark.parametrize("difference", ["none", "step", "season"])
def test_local_ar_spreads_as_simulated(difference: str) -> None:
    """The mean and deviation of every step, beside paths of the fitted recursion drawn one step after the other."""
    model, past, steps = build("local_ar", order=2, differences=[difference]), seasonal(120).astype(np.float64), 15
    found = model.predict(past, steps)
    lag = {"none": 0, "step": 1, "season": PERIOD}[difference]
    series = past[lag:] - past[:-lag] if lag else past
    assert isinstance(model, LocalAR)
    constant, slopes, sigma = model._fitted(series)
    noise = sigma * np.random.default_rng(0).standard_normal((20_000, steps))
    change, level = (np.tile(values, (len(noise), 1)) for values in (series, past))
    for step in range(steps):
        now = constant + change[:, : -len(slopes) - 1 : -1] @ slopes + noise[:, step]
        change = np.column_stack([change, now])
        level = np.column_stack([level, now + (level[:, -lag] if lag else 0)])
    values = level[:, -steps:]
    np.testing.assert_allclose(found.mean, np.mean(values, axis=0), atol=0.05 * found.deviation.max())
    np.testing.assert_allclose(found.deviation, np.std(values, axis=0), rtol=0.05)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=4))
def test_stable_is_what_dies_out(slopes: list[float]) -> None:
    companion = np.eye(len(slopes), k=-1)
    companion[0] = slopes
    radius = np.abs(np.linalg.eigvals(companion)).max()
    if abs(radius - 1) > 1e-6:
        assert stable(np.array(slopes)) == (radius < 1)


def test_a_series_that_explodes_gets_an_order_that_does_not() -> None:
    past = (1.3 ** np.arange(40) + np.random.default_rng(0).standard_normal(40)).astype(np.float32)
    found = build("local_ar", order=6).predict(past.astype(np.float64), 200)
    assert np.abs(found.mean).max() <= 2 * np.abs(past).max()


# ------------------------------------------------------------------------------------------------------------ paths


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 6), st.integers(0, 2**32))
def test_levels_are_each_rank_once(samples: int, steps: int, seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((2, samples, steps))
    found = levels(noise)
    expected = np.arange(1, samples + 1) / (samples + 1)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.broadcast_to(expected[:, None], found.shape))
    order = np.argsort(noise, axis=1)
    assert (np.diff(np.take_along_axis(found, order, 1), axis=1) > 0).all()


def test_paths_have_the_marginals_and_hang_together() -> None:
    response = (0.8 ** np.arange(6))[None, :, None]
    noise = np.random.default_rng(0).standard_normal((1, 20_000, 6, 1))
    deviation = np.sqrt(np.cumsum(response**2, axis=1))
    paths = gaussian(np.ones((1, 6, 1)), deviation, responding(noise, response))[0, :, :, 0]
    np.testing.assert_allclose(paths.mean(axis=0), 1, atol=1e-9)
    np.testing.assert_allclose(paths.std(axis=0), deviation[0, :, 0], rtol=1e-2)
    # Neighbours of an AR(1) that starts at its mean: cov(h, h + 1) = 0.8 var(h).
    for h, (a, b) in enumerate(pairwise(range(6))):
        expected = 0.8 * deviation[0, h, 0] / deviation[0, h + 1, 0]
        assert np.corrcoef(paths[:, a], paths[:, b])[0, 1] == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
@over_families
def test_intervals_cover_what_comes(name: str) -> None:
    """An AR(1) with a season, one to four steps ahead, 30 times."""
    model, futures = build(name), 4
    series = np.stack([seasonal(100, seed) for seed in range(100, 130)])[..., None]
    past = series[:, :-futures]
    paths = model.forecast(past, np.ones(past.shape[:2], bool), futures, 39, 0)
    truth = series[:, -futures:]
    covered = ((paths.min(axis=1) <= truth) & (truth <= paths.max(axis=1))).mean()
    assert 0.86 < covered < 0.99


# ---------------------------------------------------------------------------------------------------- what they read


@over_families
def test_every_channel_is_a_series_of_its_own(name: str) -> None:
    past = np.stack([seasonal(90, 1), seasonal(90, 2)], axis=1)[None]
    both = build(name, Space("vectors", 2)).forecast(past, np.ones((1, 90), bool), 5, 3, 0)
    for channel in range(2):
        own = median(build(name), past[0, :, channel], 5, samples=3)
        np.testing.assert_allclose(np.median(both[0, :, :, channel], axis=0), own, rtol=1e-9)


def test_validation_chooses_the_difference() -> None:
    """Random walks are best forecast from their last step, white noise from its mean."""
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal((50, 1)).astype(np.float32) for _ in range(60)]
    walks = [one.cumsum(axis=0, dtype=np.float32) for one in noise]
    for arrays, expected in ((noise, 0), (walks, 1)):
        data = Sequences.from_arrays(arrays, first=np.full(60, 30))
        model = LocalAR(LINE, PERIOD, [1, 16], order=2, criterion="aic", differences=["none", "step"])
        report = model.fit(data, data)
        assert report["difference"] == expected
        assert len(report["candidates"]) == 2


@over_families
def test_a_past_that_cannot_be_fitted_is_carried_on_and_counted(name: str) -> None:
    model, steps = build(name), 4
    prefix = np.zeros((4, 60, 1), np.float32)
    prefix[1, :2, 0] = [5, 7]  # too short
    prefix[2, :, 0] = 3.25  # does not vary
    prefix[3, :, 0] = seasonal(60)
    mask = np.arange(60) < np.array([0, 2, 60, 60])[:, None]
    with pytest.warns(UserWarning, match="3 of 4 pasts"):
        paths = model.forecast(prefix, mask, steps, 3, 0)
    assert np.isfinite(paths).all()
    mean, step = model.carried["mean"][0], model.carried["step"][0]
    np.testing.assert_allclose(np.median(paths, axis=1)[:3, :, 0], np.repeat([[mean], [7], [3.25]], steps, axis=1))
    spread = paths[1].max(axis=0)[:, 0] - 7
    np.testing.assert_allclose(spread, spread[0] * np.sqrt(np.arange(1, steps + 1)), rtol=1e-9)
    assert step > 0


def test_what_is_carried_comes_from_the_training_split() -> None:
    train = panel([40, 50], channels=2)
    model = build("theta", Space("vectors", 2))
    model.fit(train, train)
    values = np.asarray(train.values, np.float64)
    np.testing.assert_allclose(model.carried["mean"], values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(model.carried["deviation"], values.std(axis=0), rtol=1e-6)
    changes = np.concatenate([np.diff(one.astype(np.float64), axis=0) for one in train])
    np.testing.assert_allclose(model.carried["step"], np.sqrt((changes**2).mean(axis=0)), rtol=1e-5)


def test_prediction_adds_up_the_variances() -> None:
    found = Prediction.of(np.zeros(3), 2.0, np.array([1.0, 0.5, 0.25]))
    np.testing.assert_allclose(found.deviation**2, 4 * np.array([1, 1.25, 1.3125]))
    assert not Prediction.of(np.array([np.nan]), 1.0, np.ones(1)).finite


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: build("ets", form="MMM"), "form: 'MMM'; expected three letters"),
        (lambda: build("ets", form="ANN", damped=True), "no trend"),
    ],
)
def test_parameters_without_meaning_are_refused(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()
