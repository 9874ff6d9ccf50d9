"""Direct forecasters: ridge beside singular values, trees beside LightGBM itself, intervals beside what comes."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.artifacts import read_tensors, write_tensors
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form import direct
from seqlab.families.closed_form.backtest import backtest
from seqlab.families.closed_form.direct import DirectForecaster, Pairs, gathered, normalised, pairs, reaching
from seqlab.families.gbdt import GBDT
from seqlab.families.nlinear import NLinear, Ridge

PERIOD, HORIZONS = 4, [1, 3, 6]
STEPS = max(HORIZONS)
LINE = Space("vectors", 1)


def series(length: int, seed: int, channels: int = 1) -> np.ndarray:
    """An AR(1) on a season and a level of its own, (length, channels)."""
    rng = np.random.default_rng(seed)
    x = np.zeros((length + 20, channels))
    for t in range(1, len(x)):
        x[t] = 0.7 * x[t - 1] + rng.standard_normal(channels)
    season = 2 * np.sin(2 * np.pi * np.arange(length) / PERIOD)[:, None]
    return (5 * seed + (1 + seed % 3) * (x[20:] + season)).astype(np.float32)


def panel(number: int, length: int = 60, channels: int = 1, seed: int = 0, first: int | None = None) -> Sequences:
    arrays = [series(length + i % 3, seed + i, channels) for i in range(number)]
    return Sequences.from_arrays(arrays, **({} if first is None else {"first": np.full(number, first)}))


def nlinear(space: Space = LINE, **changed: Any) -> NLinear:
    own: dict[str, Any] = {"windows": [5, 9], "penalties": [1e-3, 0.1], "prior_weights": [0.0, 0.5]}
    return NLinear(space, PERIOD, HORIZONS, **own | changed)


def gbdt(space: Space = LINE, **changed: Any) -> GBDT:
    own: dict[str, Any] = {
        "windows": [9],
        "ways": ["direct", "recursive"],
        "trees": 30,
        "learning_rate": 0.1,
        "leaves": 8,
    }
    return GBDT(space, PERIOD, HORIZONS, **own | {"leaf_rows": 10, "features": 1.0, "rows": 4000} | changed)


FAMILIES = {"nlinear": nlinear, "gbdt": gbdt}
over_families = pytest.mark.parametrize("name", FAMILIES)


def fitted(name: str, channels: int = 1, **changed: Any) -> DirectForecaster:
    model: DirectForecaster = FAMILIES[name](Space("vectors", channels), **changed)
    model.fit(panel(20, channels=channels), panel(20, 80, channels, first=60))
    return model


# ---------------------------------------------------------------------------------------------------------- windows


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(1, 6), st.floats(-10, 10), st.floats(0.1, 100), st.integers(0, 2**32))
def test_level_and_size_do_not_change_what_is_read(
    length: int, period: int, level: float, size: float, seed: int
) -> None:
    windows = np.random.default_rng(seed).standard_normal((3, length)) + np.arange(length)
    plain, moved = normalised(windows, period), normalised(level + size * windows, period)
    np.testing.assert_allclose(moved.shape, plain.shape, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(moved.scale, size * plain.scale, rtol=1e-6)
    np.testing.assert_allclose(moved.to_values(moved.shape), level + size * windows, rtol=1e-9, atol=1e-9)


def test_the_scale_is_the_change_over_a_period() -> None:
    window = np.array([[0.0, 5, 1, 6, 3, 8]])
    assert normalised(window, 2).scale == pytest.approx(np.sqrt((1 + 1 + 4 + 4) / 4))
    assert normalised(window, 6).scale == pytest.approx(np.sqrt((25 + 16 + 25 + 9 + 25) / 5))  # no period fits
    assert normalised(np.full((1, 6), 7.0), 2).scale == 0
    short = np.concatenate([[[np.nan, np.nan]], window[:, 2:]], axis=1)
    assert normalised(short, 2).scale == pytest.approx(2)


def test_few_changes_over_a_period_are_no_scale() -> None:
    """Of eight steps and a season of seven the two ends may be alike by chance: the paths then went anywhere."""
    window = np.array([[0.0, 5, 1, 6, 3, 8, 2, 0.001]])
    assert normalised(window, 7).scale == pytest.approx(np.sqrt((np.diff(window) ** 2).mean()))
    long = np.random.default_rng(0).standard_normal((1, 13))
    assert normalised(long, 7).scale == pytest.approx(np.sqrt(((long[:, 7:] - long[:, :-7]) ** 2).mean()))


@pytest.mark.parametrize("whole", [True, False])
def test_pairs_are_all_windows_and_what_follows(whole: bool) -> None:
    data = Sequences.from_arrays([series(n, n, 2) for n in (11, 4, 9)], first=np.array([7, 0, 0]))
    found = {}
    for part in pairs(data, 4, 3, whole=whole):
        for window, future, known, channel in zip(*part, strict=True):
            found[(channel, *window)] = future[known]
            assert known.all() or not whole
    expected = {}
    for i, x in enumerate(data):
        for end in range(4, len(x)):
            for channel in range(2):
                steps = [t for t in range(end, min(end + 3, len(x))) if t >= data.first[i]]  # type: ignore[index]
                if len(steps) == 3 or (steps and not whole):
                    expected[(channel, *x[end - 4 : end, channel].astype(np.float64))] = x[steps, channel]
    assert found.keys() == expected.keys()
    for key, future in expected.items():
        np.testing.assert_array_equal(found[key], future)


@pytest.mark.parametrize(
    ("windows", "period", "expected"),
    [([49, 13, 25, 25], 12, [13, 25, 49]), ([13, 25, 49], 24, [13, 25, 49]), ([13, 49], 25, [13, 49, 74, 99])],
)
def test_a_window_that_sees_the_season_is_a_candidate(windows: list[int], period: int, expected: list[int]) -> None:
    assert reaching(windows, period) == expected


@given(st.lists(st.integers(0, 7), max_size=20), st.integers(8, 200))
def test_gathered_windows_are_all_or_evenly_spread(sizes: list[int], most: int) -> None:
    numbers = iter(range(1000))
    parts = []
    for size in sizes:
        own = np.array([next(numbers) for _ in range(size)], float).reshape(size, 1)
        parts.append(Pairs(own, own + 0.5, np.ones((size, 1), bool), np.arange(size)))
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        patch.setattr(direct, "MOST_NUMBERS", most)
        found = gathered(iter(parts))
    total, every = sum(sizes), 1
    while 2 * -(-total // every) > most:
        every *= 2
    np.testing.assert_array_equal(found.windows.ravel(), np.arange(0, total, every))
    np.testing.assert_array_equal(found.futures.ravel(), np.arange(0, total, every) + 0.5)
    assert [f"of {total} windows one in {every} is used" in str(one.message) for one in said] == [True] * (every > 1)


def test_a_season_beyond_the_windows_is_learned_where_there_is_enough_of_it() -> None:
    """Noise that repeats after 30 steps: a window of nine steps says nothing of what comes, one of 39 all."""
    rng = np.random.default_rng(0)
    seasons = [np.tile(rng.standard_normal((30, 1)), (8, 1)) for _ in range(20)]
    arrays = [(season + 0.02 * rng.standard_normal((240, 1))).astype(np.float32) for season in seasons]
    train = Sequences.from_arrays([x[:180] for x in arrays])
    valid = Sequences.from_arrays([x[:210] for x in arrays], first=np.full(20, 180))
    made: list[tuple[type[NLinear | GBDT], dict[str, Any]]] = [
        (NLinear, {"windows": [5, 9], "penalties": [1e-4], "prior_weights": [0.0]}),
        (GBDT, {"windows": [9], "ways": ["direct"], "trees": 30, "learning_rate": 0.1, "leaves": 8, "leaf_rows": 10,
                "features": 1.0, "rows": 4000}),
    ]  # fmt: skip
    for family, own in made:
        model = family(LINE, 30, HORIZONS, **own)
        model.fit(train, valid)
        past = np.stack([x[:200] for x in arrays])
        ahead = model.point(past, np.ones(past.shape[:2], bool))
        assert np.abs(ahead - np.stack([x[200 : 200 + STEPS] for x in arrays])).mean() < 0.1
        short = family(LINE, 30, HORIZONS, **own)
        short.fit(Sequences.from_arrays([arrays[0][:60]]), valid)
        assert max(short.lengths) <= 9, "of 39 steps there are too few windows"


# ------------------------------------------------------------------------------------------------------------ ridge


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4), st.sampled_from([1e-4, 1e-2, 1.0, 100.0]), st.integers(0, 2**32))
def test_ridge_from_moments_is_ridge_by_singular_values(size: int, targets: int, penalty: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((40, size)) @ rng.standard_normal((size, size)), rng.standard_normal((40, targets))
    one = np.concatenate([np.ones((40, 1)), x + 3, y - 1], axis=1)
    found = Ridge(one.T @ one, size).fit(penalty)
    u, s, v = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    alpha = penalty * (s**2).sum() / size
    slopes = v.T @ ((s / (s**2 + alpha))[:, None] * (u.T @ (y - y.mean(axis=0))))
    np.testing.assert_allclose(found.slopes, slopes, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found(x + 3), y.mean(axis=0) - 1 + (x - x.mean(axis=0)) @ slopes, rtol=1e-8, atol=1e-8)


def test_residual_covariance_is_that_of_the_residuals() -> None:
    rng = np.random.default_rng(0)
    one = np.concatenate([np.ones((50, 1)), rng.standard_normal((50, 6))], axis=1)
    ridge = Ridge(one.T @ one, 4)
    linear = ridge.fit(0.3)
    expected = np.cov(one[:, 5:] - linear(one[:, 1:5]), rowvar=False, bias=True)
    np.testing.assert_allclose(ridge.residual_covariance(linear), expected, rtol=1e-10, atol=1e-12)


def test_nlinear_is_ridge_by_singular_values_on_windows_without_their_last_value() -> None:
    train, valid = panel(12), panel(12, 80, first=60)
    model = nlinear(windows=[9], penalties=[0.01])
    model.fit(train, valid)
    inputs, targets = [], []
    for x in train:
        for end in range(9, len(x) - STEPS + 1):
            window, future = x[end - 9 : end, 0].astype(np.float64), x[end : end + STEPS, 0].astype(np.float64)
            scale = np.sqrt(((window[PERIOD:] - window[:-PERIOD]) ** 2).mean())
            inputs.append((window[:-1] - window[-1]) / scale)
            targets.append((future - window[-1]) / scale)
    x, y = np.array(inputs), np.array(targets)
    u, s, v = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    slopes = v.T @ ((s / (s**2 + 0.01 * (s**2).mean()))[:, None] * (u.T @ (y - y.mean(axis=0))))
    np.testing.assert_allclose(model.maps[0].slopes, slopes, rtol=1e-8, atol=1e-8)
    past = series(40, 77)
    window = past[-9:, 0].astype(np.float64)
    scale = np.sqrt(((window[PERIOD:] - window[:-PERIOD]) ** 2).mean())
    shape = (window[:-1] - window[-1]) / scale
    expected = window[-1] + scale * (y.mean(axis=0) + (shape - x.mean(axis=0)) @ slopes)
    np.testing.assert_allclose(model.point(past[None], np.ones((1, 40), bool))[0, :, 0], expected, rtol=1e-8)


def test_the_source_is_evidence_of_the_share_that_validation_chooses() -> None:
    """A source of the same kind beside a target of three short series; and a source whose future is upside down."""
    few, valid, test = panel(3, 24), panel(20, 80, seed=50, first=60), panel(20, 80, seed=90, first=60)
    source, opposite = (
        panel(40, seed=200),
        Sequences.from_arrays([x * np.sign(np.arange(len(x)) % 2 - 0.5)[:, None] for x in panel(40, seed=200)]),
    )
    losses, weights = {}, {}
    for name, other in (("none", None), ("alike", source), ("unlike", opposite)):
        prior = None
        if other is not None:
            prior = nlinear(prior_weights=[0.0])
            prior.fit(other, valid)
        model = nlinear(prior_weights=[0.0, 0.9])
        weights[name] = model.fit(few, valid, prior)["chosen"]["prior_weight"]
        losses[name] = backtest(lambda x, mask, steps, model=model: model.point(x, mask), test, PERIOD, STEPS)
    assert weights == {"none": 0.0, "alike": 0.9, "unlike": 0.0}
    assert losses["alike"] < losses["none"] == losses["unlike"]


# ------------------------------------------------------------------------------------------------------------ trees


@pytest.mark.parametrize("way", ["direct", "recursive"])
def test_trees_are_lightgbms_on_these_features(way: str) -> None:
    """The point forecast, spelled out with the booster's own predictions."""
    model = fitted("gbdt", ways=[way])
    assert isinstance(model, GBDT)
    window = series(9, 33)[:, 0].astype(np.float64)
    booster = lightgbm.Booster(model_str=model.state()["booster"].tobytes().decode())
    values, expected = list(window), []
    for step in range(1, STEPS + 1):
        horizon = step if way == "direct" else 1
        seen = window if way == "direct" else np.array(values[-9:])
        scale = np.sqrt(((seen[PERIOD:] - seen[:-PERIOD]) ** 2).mean())
        shape = (seen - seen[-1]) / scale
        inputs, anchor = model._features(shape[None], np.array([horizon]), np.zeros(1, np.int64))
        same_season = 8 + horizon - PERIOD * -(-horizon // PERIOD)
        assert anchor[0] == shape[same_season]
        expected.append(seen[-1] + scale * (anchor[0] + booster.predict(inputs)[0]))
        values.append(expected[-1])
    found = model.point(window[None, :, None], np.ones((1, 9), bool))[0, :, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_boosted_trees_read_the_longest_window_that_validation_has_enough_of() -> None:
    model = gbdt(windows=[5, 9, 4000])
    report = model.fit(panel(20), panel(20, 80, first=60))
    assert report["window"] == model.window == 9
    other = gbdt(windows=[5, 9, 4000])
    other.load_state(model.state())
    past = series(9, 33)[None]
    np.testing.assert_array_equal(other.point(past, np.ones((1, 9), bool)), model.point(past, np.ones((1, 9), bool)))


def test_validation_chooses_the_way_with_the_least_loss() -> None:
    model = gbdt()
    report = model.fit(panel(20), panel(20, 80, first=60))
    best = min(report["candidates"], key=lambda one: one["valid_loss"])
    assert report["chosen"] == best
    assert {one["way"] for one in report["candidates"]} == {"direct", "recursive"}
    assert all(1 <= one["trees"] <= 30 for one in report["candidates"])


def test_equal_data_give_equal_trees() -> None:
    first, second = (fitted("gbdt").state() for _ in range(2))
    assert all((first[key] == second[key]).all() for key in first)


# ------------------------------------------------------------------------------------------------------ what they share


@over_families
def test_intervals_cover_what_comes(name: str) -> None:
    """Series that neither split has seen, 95 and 80% at each horizon; a binomial deviation of about 0.01."""
    model = FAMILIES[name]()
    model.fit(panel(40), panel(120, 80, seed=1000, first=60))
    past = np.stack([series(66, seed) for seed in range(3000, 3400)])
    prefix, truth = past[:, :60], past[:, 60:]
    paths = model.forecast(prefix, np.ones(prefix.shape[:2], bool), STEPS, 39, 0)
    for level, low, high in ((0.95, 0, 38), (0.8, 3, 35)):
        ordered = np.sort(paths, axis=1)
        inside = ((ordered[:, low] <= truth) & (truth <= ordered[:, high])).mean(axis=(0, 2))
        np.testing.assert_allclose(inside, level, atol=0.05)


@over_families
def test_paths_hang_together_as_residuals_do(name: str) -> None:
    """Residuals of an AR(1) at neighbouring horizons are correlated, and so are paths."""
    model = fitted(name)
    past = series(60, 500)[None]
    paths = model.forecast(past, np.ones((1, 60), bool), STEPS, 4_000, 0)[0, :, :, 0]
    found = np.corrcoef(paths, rowvar=False)
    correlation = model.factor @ model.factor.T
    np.testing.assert_allclose(found, correlation / np.diag(correlation), atol=0.1)
    assert found[0, 1] > 0.3


@over_families
def test_a_series_of_another_level_and_size_is_forecast_alike(name: str) -> None:
    model, past, mask = fitted(name), series(60, 500)[None], np.ones((1, 60), bool)
    plain = model.forecast(past, mask, STEPS, 5, 0)
    moved = model.forecast(3 * past - 100, mask, STEPS, 5, 0)
    np.testing.assert_allclose(moved, 3 * plain - 100, rtol=1e-4)


@over_families
def test_beyond_the_longest_horizon_paths_go_on_from_themselves(name: str) -> None:
    model, past, mask = fitted(name), series(60, 500)[None], np.ones((1, 60), bool)
    long = model.forecast(past, mask, 2 * STEPS + 1, 7, 0)
    assert long.shape == (1, 7, 2 * STEPS + 1, 1)
    assert len(np.unique(long[0, :, -1])) == 7
    model.tables[:] = 0  # without residuals all paths are the point forecast, fed back
    long = model.forecast(past, mask, 2 * STEPS + 1, 2, 0)
    for done in (0, STEPS, 2 * STEPS):
        seen = np.concatenate([past.astype(np.float64), long[:, 1, :done]], axis=1)
        expected = model.point(seen, np.ones((1, 60 + done), bool))[0, : 2 * STEPS + 1 - done]
        np.testing.assert_allclose(long[0, 1, done : done + STEPS], expected[:STEPS], rtol=1e-9)


@over_families
def test_short_pasts_are_read_through_what_they_fill(name: str) -> None:
    model = fitted(name)
    shortest = model.needed[0]
    prefix = np.zeros((4, 20, 1), np.float32)
    lengths = np.array([0, shortest - 1, shortest, 20])
    mask = np.arange(20) < lengths[:, None]
    prefix[mask] = np.concatenate([series(n, 900 + n) for n in lengths])
    with pytest.warns(UserWarning, match=f"2 of 4 pasts are shorter than {shortest} steps"):
        paths = model.forecast(prefix, mask, STEPS, 3, 0)
    assert np.isfinite(paths).all()
    np.testing.assert_allclose(np.median(paths[0], axis=0), model.carried["mean"][0], rtol=1e-6)
    np.testing.assert_allclose(np.median(paths[1], axis=0), prefix[1, shortest - 2, 0], rtol=1e-6)
    alone = model.point(prefix[2:3, :shortest], mask[2:3, :shortest])
    np.testing.assert_allclose(alone, model.point(prefix[2:], mask[2:])[:1], rtol=1e-12)


@over_families
def test_a_window_that_does_not_change_stays(name: str) -> None:
    paths = fitted(name).forecast(np.full((1, 30, 1), 2.5, np.float32), np.ones((1, 30), bool), STEPS, 4, 0)
    np.testing.assert_allclose(paths, 2.5, rtol=1e-6)


@over_families
def test_a_changed_test_split_or_unscored_future_changes_nothing(name: str) -> None:
    """Only scored steps of the validation split and whole windows of the training split are learned from."""
    train, valid = panel(20), panel(20, 80, first=60)
    models = []
    for seed in (1, 2):
        model = FAMILIES[name]()
        model.fit(train, valid)
        past = np.concatenate([series(40, 7), np.random.default_rng(seed).standard_normal((9, 1))])[None]
        models.append(model.forecast(past.astype(np.float32), (np.arange(49) < 40)[None], STEPS, 4, 0))
    np.testing.assert_array_equal(*models)


@over_families
def test_saved_and_loaded_forecasts_the_same_bits(name: str, tmp_path: Any) -> None:
    model = fitted(name, channels=2)
    write_tensors(tmp_path / "model.safetensors", model.state())
    other: DirectForecaster = FAMILIES[name](Space("vectors", 2))
    other.load_state(read_tensors(tmp_path / "model.safetensors"))
    past, mask = series(40, 7, 2)[None], np.ones((1, 40), bool)
    np.testing.assert_array_equal(other.forecast(past, mask, STEPS, 4, 0), model.forecast(past, mask, STEPS, 4, 0))
    assert other.parameters == model.parameters > 0


@over_families
def test_sets_that_hold_no_window_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="too few sequences"):
        FAMILIES[name]().fit(panel(10), panel(3, 8, first=4))


def test_a_training_split_without_windows_is_refused() -> None:
    with pytest.raises(UserError, match="training split: no sequence has 9 steps"):
        gbdt().fit(panel(3, 6), panel(20, 80, first=60))
    with pytest.raises(UserError, match="too few sequences of the training"):
        nlinear().fit(panel(3, 6), panel(20, 80, first=60))


# --------------------------------------------------------------------------------------------------------- backtest


def test_backtest_is_the_scaled_error_by_hand() -> None:
    arrays = [series(30, 1, 2), series(26, 2, 2), np.ones((30, 2), np.float32)]
    data = Sequences.from_arrays(arrays, first=np.array([20, 22, 20]))

    def zero(prefix: np.ndarray, mask: np.ndarray, steps: int) -> np.ndarray:
        return np.zeros((len(prefix), steps, 2))

    errors = []
    for x, first in ((arrays[0].astype(np.float64), 20), (arrays[1].astype(np.float64), 22)):
        for channel in range(2):
            past, future = x[:first, channel], x[first : first + 6, channel]
            errors.append(np.abs(future).mean() / np.abs(past[PERIOD:] - past[:-PERIOD]).mean())
    assert backtest(zero, data, PERIOD, 6) == pytest.approx(np.mean(errors))
    with pytest.raises(UserError, match="validation split"):
        backtest(zero, data.subset(np.array([2])), PERIOD, 6)
    filled = np.zeros(len(data.values), bool)
    filled[[20, 25]] = True
    gappy = replace(data.subset(np.array([0])), filled=filled[:30])
    past, future = arrays[0][:20].astype(np.float64), arrays[0][21:25].astype(np.float64)
    expected = np.abs(future).mean(0) / np.abs(past[PERIOD:] - past[:-PERIOD]).mean(0)
    assert backtest(zero, gappy, PERIOD, 6) == pytest.approx(expected.mean())
