"""Ensembles against brute force and against what must be so; what they keep on disk."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from seqlab.errors import UserError
from seqlab.evaluation import ensemble, kept, metrics
from seqlab.evaluation.ensemble import Selection, greedy, select_classes, select_forecasts
from seqlab.evaluation.leaderboard import MeanCost
from seqlab.evaluation.metrics import LEVELS, Forecast
from seqlab.evaluation.scores import Predictions

FIRST = np.full(40, 20)


def forecasts(bias: float, noise: float = 0.0, seed: int = 0, late: float | None = None) -> list[Forecast]:
    """Of 40 series at one origin, eight steps; `late`: another bias from step 5 on."""
    shared, own = np.random.default_rng(99), np.random.default_rng(seed)
    found = []
    for series in range(40):
        truth = shared.normal(size=(8, 2))
        centre = truth + bias + own.normal(0, noise, truth.shape) if noise else truth + bias
        if late is not None:
            centre[4:] += late - bias
        quantiles = centre + (np.array(LEVELS)[:, None, None] - 0.5) * 0.1
        found.append(Forecast(series, 20, truth, quantiles, np.ones(2), np.ones(2)))
    return found


def quantile_loss(made: list[Forecast], steps: slice) -> float:
    level = np.array(LEVELS)[:, None, None]
    errors = np.concatenate([(one.truth - one.quantiles)[:, steps] / one.absolute for one in made], axis=1)
    return float(2 * np.maximum(level * errors, (level - 1) * errors).mean())


def mean_error(made: list[Forecast]) -> float:
    return metrics.value_of(metrics.forecast_scores(made, [8]), "forecast", "mase@8")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5))
def test_greedy_takes_the_best_next_system_each_round(seed: int, count: int, rounds: int) -> None:
    target, members = (
        np.random.default_rng(seed).normal(size=5),
        np.random.default_rng(seed + 1).normal(size=(count, 5)),
    )

    def loss(weights: np.ndarray) -> np.ndarray:
        return np.asarray(((weights @ members - target) ** 2).sum(1))

    found = greedy([f"m{k}" for k in range(count)], loss, rounds)
    chosen: list[int] = []
    best: tuple[float, list[int]] = (np.inf, [])
    for _ in range(rounds):
        tried = [((members[[*chosen, k]].mean(0) - target) ** 2).sum() for k in range(count)]
        chosen.append(int(np.argmin(tried)))
        best = min(best, (min(tried), list(chosen)), key=lambda pair: pair[0])
    assert found.loss == pytest.approx(best[0])
    assert found.weights == {f"m{k}": best[1].count(k) / len(best[1]) for k in sorted(set(best[1]))}
    assert found.best_loss == found.losses[0] >= found.loss


def test_opposite_biases_cancel_and_what_does_not_help_is_left_out() -> None:
    members = {"above": forecasts(1.0), "below": forecasts(-1.0), "far": forecasts(5.0)}
    found = select_forecasts(members, FIRST, [8], 10)
    assert found[8].weights == {"above": 0.5, "below": 0.5}
    assert found[8].best in ("above", "below")
    made = ensemble.weighted_forecast(members, found)
    assert mean_error(made) == pytest.approx(0, abs=1e-12)


def test_each_group_of_steps_is_selected_for_by_itself() -> None:
    members = {"near": forecasts(0.0, late=3.0), "distant": forecasts(3.0, late=0.0)}
    found = select_forecasts(members, FIRST, [4, 8, 16], 5)
    assert {end: one.weights for end, one in found.items()} == {4: {"near": 1.0}, 8: {"distant": 1.0}}
    assert mean_error(ensemble.weighted_forecast(members, found)) == pytest.approx(0, abs=1e-12)


def test_the_loss_is_the_scaled_quantile_loss_of_the_held_out_truths() -> None:
    scaled = [replace(one, absolute=np.array([2.0, 0.0])) for one in forecasts(0.5, 0.3)]
    found = select_forecasts({"only": scaled}, FIRST, [8], 1)
    first_channel = [
        replace(one, truth=one.truth[:, :1], quantiles=one.quantiles[..., :1], absolute=one.absolute[:1])
        for one in scaled
    ]
    assert found[8].loss == pytest.approx(quantile_loss(first_channel, slice(None)))
    gappy = [replace(one, truth=np.where(np.arange(8)[:, None] == 5, np.nan, one.truth)) for one in scaled]
    there = np.arange(8) != 5
    present = [replace(one, truth=one.truth[there], quantiles=one.quantiles[:, there]) for one in first_channel]
    found = select_forecasts({"only": gappy}, FIRST, [8], 1)
    assert found[8].loss == pytest.approx(quantile_loss(present, slice(None)))
    later = select_forecasts({"only": scaled}, FIRST + 3, [8], 1)
    assert later[8].loss == pytest.approx(quantile_loss(first_channel, slice(3, None)))
    with pytest.raises(UserError, match="no validation forecast has a held-out truth"):
        select_forecasts({"only": scaled}, FIRST + 8, [8], 1)


def test_an_ensemble_of_noisy_systems_beats_each_of_them_on_other_data() -> None:
    valid = {f"m{k}": forecasts(0.2 * (-1) ** k, 1.0, seed=k) for k in range(5)}
    test = {f"m{k}": forecasts(0.2 * (-1) ** k, 1.0, seed=100 + k) for k in range(5)}
    chosen = ensemble.weighted_forecast(test, select_forecasts(valid, FIRST, [8], 50))
    middle = ensemble.median_forecast(test)
    least = min(mean_error(own) for own in test.values())
    assert mean_error(chosen) < 0.75 * least
    assert mean_error(middle) < 0.75 * least


def test_the_median_is_of_each_quantile() -> None:
    members = {f"m{k}": forecasts(bias) for k, bias in enumerate((0.0, 1.0, 7.0))}
    for made, expected in zip(ensemble.median_forecast(members), members["m1"], strict=True):
        np.testing.assert_array_equal(made.quantiles, expected.quantiles)


def test_other_origins_are_refused() -> None:
    moved = [replace(one, origin=21) for one in forecasts(0.0)]
    for join in (
        ensemble.median_forecast,
        lambda members: select_forecasts(members, FIRST, [8], 1),
        lambda members: ensemble.weighted_forecast(members, {8: Selection({"a": 0.5, "b": 0.5}, [0.0], "a", 0.0)}),
    ):
        with pytest.raises(UserError, match="b has 40 forecasts, a has 40, and they are not of the same series"):
            join({"a": forecasts(0.0), "b": moved})


# Classes


def answers(seed: int, skill: float) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.arange(60) % 3
    logits = rng.normal(size=(60, 3)) + skill * np.eye(3)[labels]
    return Predictions(np.arange(60), labels, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))


def test_selection_of_classifiers_equals_brute_force_over_two_rounds() -> None:
    members = {f"m{k}": answers(k, 1.0) for k in range(4)}
    found = select_classes(members, 2)
    names = sorted(members)

    def loss(pair: tuple[str, ...]) -> float:
        return log_loss(np.arange(60) % 3, np.mean([np.exp(members[name].log_probs) for name in pair], axis=0))

    assert found.best == min(names, key=lambda name: loss((name,)))
    second = min(loss((found.best, other)) for other in names)
    assert found.losses == pytest.approx([loss((found.best,)), second])


def test_averages_of_classifiers_are_probabilities() -> None:
    members = {f"m{k}": answers(k, 1.0) for k in range(3)}
    probs = np.array([np.exp(one.log_probs) for one in members.values()])
    middle = ensemble.median_classes(members)
    np.testing.assert_allclose(np.exp(middle.log_probs).sum(1), 1)
    expected = np.median(probs, axis=0)
    np.testing.assert_allclose(np.exp(middle.log_probs), expected / expected.sum(1, keepdims=True))
    mixed = ensemble.weighted_classes(members, {"m0": 0.25, "m2": 0.75})
    np.testing.assert_allclose(np.exp(mixed.log_probs), 0.25 * probs[0] + 0.75 * probs[2])


def test_a_classifier_that_rules_the_truth_out_is_not_chosen_alone() -> None:
    certain = np.full((60, 3), -np.inf)
    certain[:, 0] = 0.0
    wrong = replace(answers(0, 1.0), log_probs=certain)
    found = select_classes({"wrong": wrong, "right": answers(1, 2.0)}, 5)
    assert found.best == "right"
    assert np.isfinite(found.loss)


def test_other_examples_are_refused() -> None:
    one, other = answers(0, 1.0), answers(1, 1.0)
    for changed in (replace(other, labels=1 - other.labels), replace(other, log_probs=other.log_probs[:, :2])):
        with pytest.raises(UserError, match="b answers 60 examples, a 60, and they are not the same"):
            select_classes({"a": one, "b": changed}, 2)


# Cost and files


def test_an_ensemble_costs_what_its_members_cost() -> None:
    assert ensemble.cost([MeanCost(10, 100, 50), MeanCost(30, 20, 400)]) == MeanCost(40, 40, 400)


@pytest.mark.parametrize("size", [1.0, 2e8])
def test_forecasts_are_kept_to_a_millionth_of_their_errors(size: float, tmp_path: Path) -> None:
    made = [
        replace(one, truth=one.truth + size, quantiles=one.quantiles + size, origin=20 + one.series)
        for one in forecasts(0.5, 1.0)
    ]
    kept.write_forecasts(made, tmp_path / "a.safetensors")
    found = kept.read_forecasts(tmp_path / "a.safetensors")
    for one, again in itertools.zip_longest(made, found):
        assert (one.series, one.origin) == (again.series, again.origin)
        np.testing.assert_array_equal(again.truth, one.truth)
        np.testing.assert_allclose(again.quantiles - again.truth, one.quantiles - one.truth, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(again.absolute, one.absolute)
    steps, channels = sum(len(one.truth) for one in made), 2
    size_on_disk = (tmp_path / "a.safetensors").stat().st_size
    assert size_on_disk < 4 * (len(LEVELS) + 2) * steps * channels + 56 * len(made) + 1000


def test_a_forecast_of_a_step_that_was_not_recorded_is_kept(tmp_path: Path) -> None:
    """What is joined from it is defined there, though nothing is scored."""
    made = [replace(one, truth=np.where(np.arange(8)[:, None] == 5, np.nan, one.truth)) for one in forecasts(0.5)]
    kept.write_forecasts(made, tmp_path / "a.safetensors")
    for one, again in zip(made, kept.read_forecasts(tmp_path / "a.safetensors"), strict=True):
        np.testing.assert_array_equal(again.truth, one.truth)
        np.testing.assert_allclose(again.quantiles, one.quantiles, rtol=1e-6, atol=1e-6)


def test_another_file_is_named(tmp_path: Path) -> None:
    from seqlab.artifacts import write_tensors

    write_tensors(tmp_path / "other.safetensors", {"weights": np.zeros(2)})
    with pytest.raises(UserError, match=r"other.safetensors: no 'errors', found weights; run the evaluate stage"):
        kept.read_forecasts(tmp_path / "other.safetensors")
