"""Recalibrated intervals hold on data whose truth is known, and say nothing that validation does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from seqlab.artifacts import write_tensors
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.evaluation import conformal, metrics
from seqlab.evaluation.conformal import Recalibrated, Recalibration, fit
from seqlab.evaluation.metrics import INTERVALS, LEVELS, Forecast

HORIZONS = [1, 4, 16]
DOMAIN = SimpleNamespace(characters=False, transform="none")
SETTINGS = SimpleNamespace(horizons=HORIZONS, origins=3, samples=39, period=1)


@dataclass(frozen=True)
class Walk:
    """Paths from the last value on whose steps are N(drift, deviation²): right for drift 0 and deviation 1."""

    deviation: float = 1.0
    drift: float = 0.0
    space = Space("vectors", 1)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        last = prefix[np.arange(len(prefix)), mask.sum(1) - 1]
        noise = np.random.default_rng(seed).standard_normal((len(prefix), samples, steps, prefix.shape[2]))
        return last[:, None, None] + np.cumsum(self.drift + self.deviation * noise, axis=2)

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, norm.logpdf(x, *self.moments(x, mask)).sum(2), 0)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = np.concatenate([np.zeros_like(x[:, :1]), x[:, :-1]], axis=1).astype(np.float64)
        return before + self.drift, np.full(x.shape, self.deviation)


def walks(seed: int, count: int = 150, length: int = 80, first: int = 50, channels: int = 1) -> Sequences:
    steps = np.random.default_rng(seed).standard_normal((count, length, channels))
    return Sequences.from_arrays(np.cumsum(steps, axis=1).astype(np.float32), first=np.full(count, first))


def forecasts(model: Walk | Recalibrated, series: Sequences, origins: int = 4) -> list[Forecast]:
    make = conformal.made_by(model, DOMAIN, SETTINGS, "test")
    return conformal.validation_forecasts(make, series, SETTINGS, origins)


def values(made: list[Forecast]) -> dict[str, float]:
    found = metrics.forecast_scores(made, HORIZONS)
    return {name: metrics.value_of(found, task, name) for task, name in metrics.names_of(found)}


def assert_holds(found: dict[str, float]) -> None:
    for horizon in HORIZONS:
        for name, (_, _, nominal) in INTERVALS.items():
            assert found[f"{name}@{horizon}"] == pytest.approx(nominal, abs=0.03), (name, horizon)


VALID, TEST = walks(1, 500), walks(2, 500)


@cache
def fitted(model: Walk) -> Recalibration:
    assert VALID.first is not None
    return fit(forecasts(model, VALID), VALID.first, HORIZONS, "none")


@pytest.mark.slow
@pytest.mark.parametrize("model", [Walk(0.4), Walk(2.5), Walk(0.5, drift=0.6), Walk()], ids=repr)
def test_intervals_hold_at_every_horizon_and_loss_does_not_grow(model: Walk) -> None:
    found = fitted(model)
    made = forecasts(model, TEST)
    raw, mended = values(made), values([found.forecast(one, "none") for one in made])
    assert_holds(mended)
    for horizon in HORIZONS:
        assert mended[f"wql@{horizon}"] <= 1.01 * raw[f"wql@{horizon}"]
    if model.deviation != 1:
        assert abs(raw["coverage80@16"] - 0.8) > 0.15
    if model.drift:
        assert not found.centred.any()


@pytest.mark.slow
def test_sample_paths_of_a_recalibrated_predictor_hold_as_well() -> None:
    model = Walk(0.5, drift=0.6)
    assert_holds(values(forecasts(Recalibrated(model, fitted(model)), TEST)))


@pytest.mark.slow
def test_a_bias_that_changes_sign_from_origin_to_origin_is_not_carried_over() -> None:
    made = forecasts(Walk(), VALID)[:400]
    shifted = [replace(one, truth=one.truth + 3 * (-1) ** (one.origin // 10)) for one in made]
    assert VALID.first is not None
    assert fit(shifted, VALID.first, HORIZONS, "none").centred.all()
    steady = [replace(one, truth=one.truth + 3) for one in made]
    assert not fit(steady, VALID.first, HORIZONS, "none").centred.any()


@pytest.mark.slow
def test_each_quantile_has_its_share_of_the_validation_truths_below() -> None:
    model = Walk(0.5, drift=0.6)
    made = forecasts(model, VALID)
    found = fitted(model)
    shares = np.zeros((len(LEVELS), len(HORIZONS)))
    for group, (start, end) in enumerate(zip([0, *HORIZONS], HORIZONS, strict=False)):
        below = [
            one.truth[start:end] <= found.forecast(one, "none").quantiles[:, start:end]
            for one in made
            if len(one.truth) > start
        ]
        shares[:, group] = np.concatenate(below, axis=1).mean((1, 2))
    np.testing.assert_allclose(shares, np.array(LEVELS)[:, None] * np.ones(len(HORIZONS)), atol=0.005)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 500), st.floats(0.1, 10), st.floats(-5, 5))
def test_a_map_is_monotone_and_commutes_with_location_and_scale(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    found = Recalibration(
        np.array([1, 3]), rng.normal(0, 2, (2, 2, len(LEVELS))), np.zeros(2, bool), np.ones(2, np.int64)
    )
    quantiles = np.sort(rng.normal(size=(len(LEVELS), 5, 2)), axis=0)
    mapped = found.quantiles(quantiles)
    assert (np.diff(mapped, axis=0) >= 0).all()
    np.testing.assert_allclose(found.quantiles(scale * quantiles + shift), scale * mapped + shift, atol=1e-9)
    paths = rng.normal(size=(3, 12, 5, 2))
    moved = found.paths(paths)
    assert np.array_equal(moved.argsort(1), paths.argsort(1))
    np.testing.assert_allclose(found.paths(scale * paths + shift), scale * moved + shift, atol=1e-9)


def test_paths_whose_ranks_are_the_levels_have_the_mapped_quantiles() -> None:
    found = fitted(Walk(0.5, drift=0.6))
    paths = np.random.default_rng(0).normal(size=(4, 39, 16, 1))  # rank k of 39 is level k / 40
    np.testing.assert_allclose(
        metrics.sample_quantiles(found.paths(paths), LEVELS),
        found.quantiles(metrics.sample_quantiles(paths, LEVELS)),
        atol=1e-12,
    )


@pytest.mark.slow
def test_an_exploded_path_stays_exploded_and_a_flat_forecast_stays_finite() -> None:
    found = fitted(Walk(0.5))
    paths = np.random.default_rng(0).normal(size=(1, 39, 2, 1))
    paths[0, 7] = np.nan
    mapped = found.paths(paths)
    assert np.isnan(mapped[0, 7]).all()
    assert np.isfinite(found.paths(np.zeros((1, 39, 2, 1)))).all()


def test_truths_before_the_held_out_part_say_nothing() -> None:
    valid = walks(3, length=60)  # ten held-out steps, of horizons up to sixteen
    assert valid.first is not None
    made = forecasts(Walk(0.5), valid)
    assert {one.origin for one in made if one.origin < 50} == {44}
    changed = [
        replace(one, truth=np.where((one.origin + np.arange(len(one.truth)) < 50)[:, None], 1e6, one.truth))
        for one in made
    ]
    expected = fit(made, valid.first, HORIZONS, "none")
    found = fit(changed, valid.first, HORIZONS, "none")
    np.testing.assert_array_equal(found.shifts, expected.shifts)
    # Steps 5 to 16: from within 6, of 1 to 3 origins; from before steps 7 to 16.
    assert expected.ends.tolist() == HORIZONS


def test_truths_that_were_filled_in_say_nothing() -> None:
    valid = walks(3, count=60)
    assert valid.first is not None
    filled = (np.random.default_rng(0).random(len(valid.values)) < 0.3) & valid.scored
    spoilt = np.where(filled[:, None], np.float32(1e6), valid.values)
    gaps = replace(valid, filled=filled)
    made = forecasts(Walk(0.5), valid)  # of the same pasts: what stands in for a value is seen like any other
    gappy = [
        replace(one, truth=np.where(metrics.recorded(gaps, one.series, at)[:, None], truth, np.nan))
        for one in made
        for at in [slice(one.origin, one.origin + len(one.truth))]
        for truth in [replace(valid, values=spoilt)[one.series][at].astype(np.float64)]
    ]
    found = fit(gappy, valid.first, HORIZONS, "none")
    assert found.counts.sum() == sum(int((~np.isnan(one.truth)).sum()) for one in gappy)
    assert np.abs(found.shifts).max() < 10
    whole = fit(made, valid.first, HORIZONS, "none")
    assert found.counts[2] == pytest.approx(0.7 * whole.counts[2], rel=0.05)


def test_a_group_that_is_reached_from_before_alone_borrows_the_group_before() -> None:
    valid = walks(3, length=54)
    assert valid.first is not None
    made = forecasts(Walk(0.5), valid)
    alone = fit([one for one in made if one.origin >= 50], valid.first, HORIZONS, "none")
    assert alone.ends.tolist() == [1, 4]
    both = fit(made, valid.first, HORIZONS, "none")
    assert both.counts[2] == both.counts[1] + 150 * 4  # truths at steps 13 to 16 from the origin before


def test_later_steps_than_validation_reached_are_mapped_as_the_last_group() -> None:
    found = fitted(Walk(0.5))
    quantiles = np.repeat(np.sort(np.random.default_rng(0).normal(size=(len(LEVELS), 1, 1)), axis=0), 40, axis=1)
    mapped = found.quantiles(quantiles)
    np.testing.assert_array_equal(mapped[:, 16:], np.repeat(mapped[:, 15:16], 24, axis=1))


def test_few_series_share_a_map_over_channels() -> None:
    few, many = walks(4, count=20, channels=2), walks(4, count=40, channels=2)
    for series, equal in ((few, True), (many, False)):
        assert series.first is not None
        found = fit(forecasts(Walk(0.5), series), series.first, HORIZONS, "none")
        assert np.array_equal(found.shifts[:, 0], found.shifts[:, 1]) == equal


def test_logarithms_keep_values_above_minus_one() -> None:
    model = Walk(0.2)
    logs = replace(VALID, values=VALID.values / 5)
    make = conformal.made_by(model, SimpleNamespace(characters=False, transform="log1p"), SETTINGS, "test")
    made = conformal.validation_forecasts(make, logs, SETTINGS, 4)
    assert logs.first is not None
    found = fit(made, logs.first, HORIZONS, "log1p")
    for one in made[:20]:
        mapped = found.forecast(one, "log1p").quantiles
        assert (mapped > -1).all()
        np.testing.assert_allclose(np.log1p(mapped), found.quantiles(np.log1p(one.quantiles)))


def test_one_step_intervals_hold_and_the_density_stays() -> None:
    model = Walk(0.5, drift=0.6)
    mended, made, found = conformal.next_vectors(model, VALID, TEST, "test")
    raw = metrics.next_vectors(made)
    assert found.ends.tolist() == [1]
    for name in ("nll", "crps"):
        assert metrics.value_of(mended, "next_step", name) == metrics.value_of(raw, "next_step", name)
    assert metrics.value_of(raw, "next_step", "coverage80") < 0.5
    for name, (_, _, nominal) in INTERVALS.items():
        assert metrics.value_of(mended, "next_step", name) == pytest.approx(nominal, abs=0.03)
        before = metrics.value_of(mended, "next_step", f"raw_{name}")
        assert before == metrics.value_of(raw, "next_step", name)


def test_a_map_is_kept_whole(tmp_path: Path) -> None:
    found = fitted(Walk(0.5))
    conformal.write(found, tmp_path / "a.safetensors")
    again = conformal.read(tmp_path / "a.safetensors")
    for name in Recalibration.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    conformal.write(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    write_tensors(tmp_path / "c.safetensors", {"weights": np.zeros(3)})
    with pytest.raises(UserError, match="found weights; expected ends, shifts, centred, counts"):
        conformal.read(tmp_path / "c.safetensors")


def test_nothing_to_learn_from_is_refused() -> None:
    assert VALID.first is not None
    with pytest.raises(UserError, match="no validation forecast has a held-out truth"):
        fit(forecasts(Walk(), VALID), VALID.first + 100, HORIZONS, "none")
    with pytest.raises(UserError, match="carry no `first`"):
        forecasts(Walk(), replace(VALID, first=None))


def test_a_forecast_that_holds_stays_as_it_is() -> None:
    assert not fitted(Walk()).shifts.any()


def test_a_panel_is_forecast_at_many_dates() -> None:
    """And a series as often as was asked for."""
    within = [(one.series, one.origin) for one in forecasts(Walk(), VALID, origins=3) if one.origin >= 50]
    assert len(within) == 3 * len(VALID)
    assert len({origin for _, origin in within}) > 10
