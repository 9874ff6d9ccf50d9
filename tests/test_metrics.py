"""Metrics against independent references, stored scores, and the rolling origin's freedom from leaks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from sklearn import metrics as reference

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.evaluation import metrics, scores
from seqlab.evaluation.metrics import CLASSIFY, DECILES, FORECAST, LEVELS, NEXT
from seqlab.evaluation.scores import Predictions, Ratio, Scores


def answers(seed: int, examples: int = 300, classes: int = 4, labels: np.ndarray | None = None) -> Scores:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, examples) if labels is None else labels
    logits = rng.normal(0, 1.5, (examples, classes))
    logits[np.arange(examples), labels] += 1
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return Scores(predictions={CLASSIFY: Predictions(np.arange(examples), labels, log_probs)})


class Walk:
    """A forecaster whose paths start from the last value; it remembers what it was shown."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        self.seen.append(np.where(mask[..., None], prefix, 0))
        last = prefix[np.arange(len(prefix)), mask.sum(1) - 1]
        noise = np.random.default_rng(seed).standard_normal((len(prefix), samples, steps, prefix.shape[2]))
        return last[:, None, None] + np.cumsum(0.3 * noise, axis=2)


class Gaussian:
    """x_t ~ N(0.6 x_{t-1}, 1) in each channel; `shift` adds to log_prob, so that it is no Gaussian's any more."""

    def __init__(self, channels: int, shift: float = 0.0):
        self.space, self.shift = Space("vectors", channels), shift

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = np.concatenate([np.zeros_like(x[:, :1]), 0.6 * x[:, :-1]], axis=1).astype(np.float64)
        return mean, np.ones_like(mean)

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, norm.logpdf(x, *self.moments(x, mask)).sum(2) + self.shift, 0)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        last = prefix[np.arange(len(prefix)), mask.sum(1) - 1]
        return 0.6 * last[:, None, None] + np.random.default_rng(seed).standard_normal(
            (len(last), samples, 1, last.shape[1])
        )


class Bytes:
    """P(x) = (x + 1) / sum, whatever came before."""

    space = Space("symbols", 256)
    log_probs = np.log(np.arange(1, 257) / np.arange(1, 257).sum())

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, self.log_probs[x], 0)


# Classes


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), absent=st.booleans())
def test_classification_equals_sklearn(seed: int, absent: bool) -> None:
    labels = np.random.default_rng(seed + 1).integers(0, 3 if absent else 4, 120)
    found = answers(seed, 120, labels=labels)
    guess, probs = found.predictions[CLASSIFY].log_probs.argmax(1), np.exp(found.predictions[CLASSIFY].log_probs)
    value = {name: metrics.value_of(found, CLASSIFY, name) for _, name in metrics.names_of(found)}
    assert value["accuracy"] == pytest.approx(reference.accuracy_score(labels, guess))
    assert value["macro_f1"] == pytest.approx(reference.f1_score(labels, guess, average="macro"))
    assert value["log_loss"] == pytest.approx(reference.log_loss(labels, probs, labels=range(4)))
    assert value["brier"] == pytest.approx(
        np.mean([((p - np.eye(4)[y]) ** 2).sum() for p, y in zip(probs, labels, strict=True)])
    )
    recalls = [np.mean(guess[labels == k] == k) for k in np.unique(labels)]
    assert value["balanced_accuracy"] == pytest.approx(np.mean(recalls))


def test_calibration_error_equals_a_loop_over_bins() -> None:
    part = answers(3).predictions[CLASSIFY]
    confidence, hit = np.exp(part.log_probs).max(1), part.log_probs.argmax(1) == part.labels
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(hit[inside].mean() - confidence[inside].mean())
    assert metrics.value_of(Scores(predictions={CLASSIFY: part}), CLASSIFY, "ece") == pytest.approx(expected)


def test_unknown_metric_is_named() -> None:
    with pytest.raises(UserError, match="'blue' is unknown"):
        metrics.metric_of("blue")


# Next step


def test_bits_are_divided_by_code_points() -> None:
    text = "naïve – 한국어 😀"
    sequences = Sequences.from_arrays([np.frombuffer(text.encode(), np.uint8), np.frombuffer(b"abc", np.uint8)])
    found = metrics.next_symbols(Bytes(), sequences, metrics.characters_of_bytes(), 64)  # type: ignore[arg-type]
    nats = [-Bytes.log_probs[list(part)].sum() for part in (text.encode(), b"abc")]
    assert found.ratios[NEXT, "bits_per_character"].denominator.tolist() == [len(text), 3]
    assert metrics.value_of(found, NEXT, "bits_per_character") == pytest.approx(sum(nats) / np.log(2) / (len(text) + 3))
    assert metrics.value_of(found, NEXT, "perplexity") == pytest.approx(np.exp(sum(nats) / (len(text.encode()) + 3)))


def test_context_is_not_scored() -> None:
    values = np.arange(10, dtype=np.uint8)
    sequences = Sequences.from_arrays([values, values], first=np.array([4, 10]))
    found = metrics.next_symbols(Bytes(), sequences, np.ones(256, np.int64), 64).ratios[NEXT, "perplexity"]  # type: ignore[arg-type]
    assert found.example.tolist() == [0]
    assert found.denominator.tolist() == [6]
    assert found.numerator[0] == pytest.approx(-Bytes.log_probs[4:10].sum())


@pytest.mark.parametrize(("x", "mean", "deviation"), [(0.3, 0.0, 1.0), (-2.0, 1.0, 0.4), (5.0, 4.0, 3.0)])
def test_gaussian_crps_is_the_integral_of_its_definition(x: float, mean: float, deviation: float) -> None:
    def squared(y: float) -> float:
        return (norm.cdf(y, mean, deviation) - (y >= x)) ** 2

    expected = quad(squared, mean - 40, x)[0] + quad(squared, x, mean + 40)[0]
    found = metrics.crps_gaussian(np.array(x), np.array(mean), np.array(deviation))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_fair_crps_equals_the_loop_over_pairs_and_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    draws, x = rng.normal(size=(5, 7)), rng.normal(size=5)
    pairs = [np.mean([abs(a - b) for i, a in enumerate(row) for j, b in enumerate(row) if i != j]) for row in draws]
    np.testing.assert_allclose(metrics.crps_fair(draws, x), np.abs(draws - x[:, None]).mean(1) - np.array(pairs) / 2)
    # With three draws only, the plain estimator would be 0.19 too high.
    few = metrics.crps_fair(rng.normal(size=(200_000, 3)), np.full(200_000, 0.5)).mean()
    assert few == pytest.approx(float(metrics.crps_gaussian(np.array(0.5), np.array(0.0), np.array(1.0))), abs=0.01)


def test_sample_intervals_cover_exactly_even_with_few_draws() -> None:
    rng = np.random.default_rng(1)
    low, high = metrics.sample_quantiles(rng.normal(size=(100_000, 39)), [0.025, 0.975])
    assert ((low <= (x := rng.normal(size=100_000))) & (x <= high)).mean() == pytest.approx(0.95, abs=0.004)


def test_next_vectors_exact_and_sampled_agree() -> None:
    rng = np.random.default_rng(2)
    series = []
    for length in rng.integers(60, 90, 30):
        x = np.zeros((length, 2), np.float32)
        for t in range(1, length):
            x[t] = 0.6 * x[t - 1] + rng.normal(size=2)
        series.append(x)
    data = Sequences.from_arrays(series, first=np.full(30, 20))
    one = metrics.one_step(Gaussian(2), data, 512, positions=40, samples=100, seed=0)
    exact, pit = metrics.next_vectors(one), one.transform.ravel()
    drawn = metrics.next_vectors(metrics.one_step(Gaussian(2, shift=0.5), data, 512, 40, samples=100, seed=0))

    nll = [-norm.logpdf(x[20:], 0.6 * x[19:-1], 1).sum() for x in series]
    assert metrics.value_of(exact, NEXT, "nll") == pytest.approx(
        sum(nll) / sum(2 * (len(x) - 20) for x in series), rel=1e-6
    )
    assert metrics.value_of(exact, NEXT, "nll") - metrics.value_of(drawn, NEXT, "nll") == pytest.approx(0.25)
    for name in ("crps", "coverage80", "coverage95"):
        assert exact.ratios[NEXT, name].denominator.tolist() == drawn.ratios[NEXT, name].denominator.tolist()
        assert metrics.value_of(exact, NEXT, name) == pytest.approx(metrics.value_of(drawn, NEXT, name), abs=0.02)
    assert metrics.value_of(exact, NEXT, "coverage80") == pytest.approx(0.8, abs=0.03)
    assert np.histogram(pit, 4, (0, 1))[0] / len(pit) == pytest.approx(np.full(4, 0.25), abs=0.04)


# Forecasts


def panel(seed: int = 0, channels: int = 1) -> Sequences:
    rng = np.random.default_rng(seed)
    series = [np.cumsum(rng.normal(0.1, 1, (n, channels)), axis=0).astype(np.float32) + 20 for n in (40, 52, 60)]
    return Sequences.from_arrays(series, first=np.array([30, 30, 40]))


def rolled(model: Walk, series: Sequences, **changed: object) -> list[metrics.Forecast]:
    arguments = {"origins": 3, "horizons": [1, 4, 16], "season": 4, "samples": 50, "tokens": 100_000, "seed": 7}
    shape = len(series), series.values.shape[1]
    relative = replace(series, centre=np.zeros(shape), scale=np.ones(shape))
    return metrics.rolling_origin(model, relative, **(arguments | changed))  # type: ignore[arg-type]


def test_forecast_scores_equal_a_hand_written_loop() -> None:
    series = panel(channels=2)
    made = rolled(Walk(), series)
    found = metrics.forecast_scores(made, [1, 4, 16])
    for h in (1, 4, 16):
        mase: dict[int, list[float]] = {}
        rmsse: dict[int, list[float]] = {}
        loss = total = inside = count = 0.0
        for one in made:
            if len(one.truth) < h:
                continue
            for c in range(2):
                y = series[one.series][:, c].astype(np.float64)
                past, future = y[: one.origin], y[one.origin : one.origin + h]
                naive = [past[t] - past[t - 4] for t in range(4, len(past))]
                error = future - one.quantiles[LEVELS.index(0.5), :h, c]
                mase.setdefault(one.series, []).append(np.mean(np.abs(error)) / np.mean(np.abs(naive)))
                rmsse.setdefault(one.series, []).append(np.sqrt(np.mean(error**2) / np.mean(np.square(naive))))
                for k in range(h):
                    pinball = [
                        reference.mean_pinball_loss([future[k]], [one.quantiles[LEVELS.index(q), k, c]], alpha=q)
                        for q in DECILES
                    ]
                    loss, total, count = loss + 2 * np.mean(pinball), total + abs(future[k]), count + 1
                    inside += (
                        one.quantiles[LEVELS.index(0.1), k, c] <= future[k] <= one.quantiles[LEVELS.index(0.9), k, c]
                    )
        value = {
            name: metrics.value_of(found, FORECAST, f"{name}@{h}") for name in ("mase", "rmsse", "wql", "coverage80")
        }
        assert value["mase"] == pytest.approx(np.mean([np.mean(v) for v in mase.values()]))
        assert value["rmsse"] == pytest.approx(np.mean([np.mean(v) for v in rmsse.values()]))
        assert value["wql"] == pytest.approx(loss / total)
        assert value["coverage80"] == pytest.approx(inside / count)


@given(st.integers(0, 1000), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_held_out_steps_that_were_filled_in_are_left_out_of_every_score(seed: int, share: float) -> None:
    """Whatever stands in for them, the scores are those of the steps that were recorded."""
    rng = np.random.default_rng(seed)
    series = panel(channels=2)
    assert series.first is not None
    filled = (rng.random(len(series.values)) < share) & series.scored
    made, gappy = rolled(Walk(), series), rolled(Walk(), replace(series, filled=filled))
    found = metrics.forecast_scores(gappy, [1, 4, 16]).ratios
    for h in (1, 4, 16):
        wanted: dict[str, list[list[tuple[float, float]]]] = {"mase": [], "wql": [], "coverage80": []}
        for i in range(3):
            own: dict[str, list[tuple[float, float]]] = {name: [] for name in wanted}
            for one in (one for one in made if one.series == i and len(one.truth) >= h):
                steps = [k for k in range(h) if not filled[series.offsets[i] + one.origin + k]]
                if steps:
                    y, q = one.truth[steps], one.quantiles[:, steps]
                    low, high = q[LEVELS.index(0.1)], q[LEVELS.index(0.9)]
                    errors = [(p, y - q[LEVELS.index(p)]) for p in DECILES]
                    loss = [np.maximum(p * error, (p - 1) * error) for p, error in errors]
                    own["mase"].append(((np.abs(y - one.median[steps]).mean(0) / one.absolute).sum(), 2))
                    own["wql"].append((2 * np.mean(loss, 0).sum(), np.abs(y).sum()))
                    own["coverage80"].append((((low <= y) & (y <= high)).sum(), y.size))
            for name, pairs in own.items():
                wanted[name] += [pairs] if pairs else []
        for name, parts in wanted.items():
            if not parts:
                assert (FORECAST, f"{name}@{h}") not in found
                continue
            sums = np.array([np.sum(pairs, 0) for pairs in parts])
            total = np.mean(sums[:, 0] / sums[:, 1]) if name == "mase" else sums[:, 0].sum() / sums[:, 1].sum()
            assert found[FORECAST, f"{name}@{h}"].value == pytest.approx(total)


def test_next_steps_that_were_filled_in_are_left_out_of_every_score() -> None:
    series = panel(channels=2)
    filled = np.zeros(len(series.values), bool)
    filled[[33, 34, 90]] = True
    gappy = replace(series, filled=filled)
    model = Gaussian(2)
    found = metrics.next_vectors(metrics.one_step(model, gappy, 1000, 100, 10, 0)).ratios
    nats, count = np.zeros(3), np.zeros(3)
    for i, y in enumerate(series):
        log_prob = model.log_prob(y[None], np.ones((1, len(y)), bool))[0]
        for t in range(series.first[i], len(y)):  # type: ignore[index]
            if not filled[series.offsets[i] + t]:
                nats[i], count[i] = nats[i] - log_prob[t], count[i] + 2
    np.testing.assert_allclose(found[NEXT, "nll"].numerator, nats, rtol=1e-5)
    np.testing.assert_array_equal(found[NEXT, "nll"].denominator, count)
    np.testing.assert_array_equal(found[NEXT, "crps"].denominator, count)


def test_origins_and_horizons() -> None:
    made = rolled(Walk(), panel())
    reach = {(one.series, one.origin): len(one.truth) for one in made}
    # Series 0 has 10 held-out values: its first origin reaches 4 steps, its last leaves one.
    assert reach == {(0, 30): 4, (0, 34): 4, (0, 39): 1, (1, 30): 16, (1, 40): 4, (1, 51): 1} | {
        (2, 40): 16,
        (2, 50): 4,
        (2, 59): 1,
    }


def test_held_out_values_cannot_change_a_forecast() -> None:
    series = panel()
    before, model = rolled(Walk(), series), Walk()
    for one in before:
        changed = series.values.copy()
        changed[series.offsets[one.series] + one.origin : series.offsets[one.series + 1]] = 1e6
        after = rolled(model, Sequences(changed, series.offsets, first=series.first))
        same = next(new for new in after if (new.series, new.origin) == (one.series, one.origin))
        assert np.array_equal(one.quantiles, same.quantiles)
        assert np.array_equal(one.absolute, same.absolute)
        assert np.array_equal(one.squared, same.squared)


def test_a_forecast_does_see_its_past() -> None:
    series = panel()
    changed = series.values.copy()
    changed[series.offsets[1] + 29] += 5
    before, after = rolled(Walk(), series), rolled(Walk(), Sequences(changed, series.offsets, first=series.first))
    assert [not np.array_equal(a.quantiles, b.quantiles) for a, b in zip(before, after, strict=True)] == [False] * 3 + [
        True
    ] * 3 + [False] * 3


@pytest.mark.parametrize("noise", [0.0, 1e-13])
def test_a_past_that_stands_still_is_no_scale(noise: float) -> None:
    """An error over the error of a naive forecast that makes none is no number."""
    rng = np.random.default_rng(0)
    still = np.concatenate([5 + noise * rng.standard_normal((20, 1)), rng.standard_normal((4, 1))])
    moving = rng.standard_normal((24, 1))
    series = Sequences.from_arrays([still, moving], first=np.array([20, 20]))
    made = metrics.rolling_origin(Walk(), series, origins=1, horizons=[4], season=1, samples=2, tokens=100, seed=0)
    assert (made[0].absolute, made[0].squared) == (0, 0)
    found = metrics.forecast_scores(made, [4])
    assert found.ratios["forecast", "mase@4"].example.tolist() == [1]


def test_forecasts_follow_a_change_of_units_and_prefixes_are_standardised() -> None:
    series, model = panel(), Walk()
    plain = rolled(model, series)
    for prefix in model.seen:
        for row in prefix:
            known = row[row[:, 0] != 0]
            assert abs(known.mean()) < 1e-4
            assert abs(known.std() - 1) < 1e-4
    other = rolled(Walk(), Sequences(series.values * 8, series.offsets, first=series.first))
    for name, ratio in metrics.forecast_scores(plain, [4]).ratios.items():
        assert metrics.forecast_scores(other, [4]).ratios[name].value == pytest.approx(ratio.value, rel=1e-4)


def test_inverse_maps_errors_back() -> None:
    series = panel()
    logs = Sequences(np.log(series.values), series.offsets, first=series.first)
    made = rolled(Walk(), logs, inverse=np.exp)
    truth = np.concatenate([one.truth for one in made])
    expected = np.concatenate([series[one.series][one.origin : one.origin + len(one.truth)] for one in made])
    np.testing.assert_allclose(truth, expected, rtol=1e-5)
    naive = np.abs(series[0][4:30] - series[0][:26]).mean()
    assert made[0].absolute == pytest.approx(naive, rel=1e-5)


def test_context_limits_what_is_seen() -> None:
    model = Walk()
    rolled(model, panel(), context=12)
    assert {prefix.shape[1] for prefix in model.seen} == {12}


def test_a_flat_past_has_no_scale_and_is_left_out() -> None:
    flat = np.ones((40, 1), np.float32)
    flat[30:] = 2
    walk = np.cumsum(np.random.default_rng(0).normal(size=(40, 1)), axis=0).astype(np.float32)
    made = rolled(Walk(), Sequences.from_arrays([flat, walk], first=np.array([30, 30])), origins=1, horizons=[1, 4])
    found = metrics.forecast_scores(made, [4])
    assert found.ratios[FORECAST, "mase@4"].example.tolist() == [1]
    assert found.ratios[FORECAST, "wql@4"].example.tolist() == [0, 1]


def test_series_too_short_are_named() -> None:
    with pytest.raises(UserError, match="series 0 has 30 values before its first origin; the period 30 needs 31"):
        rolled(Walk(), panel(), season=30)
    with pytest.raises(UserError, match="no series has 64 values"):
        rolled(Walk(), panel(), horizons=[64])


# Files


def stored() -> Scores:
    ratio = Ratio(np.array([0, 2, 5]), np.array([1.5, 0.1, 3.0]), np.ones(3))
    return Scores({(NEXT, "nll"): ratio, (FORECAST, "mase@4"): ratio}, answers(0, 9, 3).predictions)


def test_scores_round_trip_with_equal_bytes(tmp_path: Path) -> None:
    scores.write(stored(), tmp_path / "a")
    found = scores.read(tmp_path / "a")
    scores.write(found, tmp_path / "b")
    assert sorted(metrics.names_of(found)) == sorted(metrics.names_of(stored()))
    for task, name in metrics.names_of(found):
        for ours, theirs in zip(
            metrics.features_of(found, task, name), metrics.features_of(stored(), task, name), strict=True
        ):
            assert np.array_equal(ours, theirs)
    for name in (scores.SCORES, scores.PREDICTIONS):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_scores_of_a_single_kind_round_trip(tmp_path: Path) -> None:
    scores.write(answers(0, 9), tmp_path / "a")
    assert metrics.names_of(scores.read(tmp_path / "a")) == metrics.names_of(answers(0, 9))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_unbounded_scores_are_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    bad = Scores({(NEXT, "nll"): Ratio(np.array([3, 4]), np.array([1.0, value]), np.ones(2))})
    with pytest.raises(UserError, match=rf"{NEXT} nll of example 4 is {value}"):
        scores.write(bad, tmp_path / "a")
    assert not any(tmp_path.iterdir())


def test_broken_scores_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        scores.read(tmp_path)
    (tmp_path / scores.SCORES).write_text("no parquet")
    with pytest.raises(UserError, match=r"scores\.parquet: not a Parquet file"):
        scores.read(tmp_path)


def test_an_exploding_recursion_is_far_off_and_no_error() -> None:
    class Exploding:
        def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
            paths = np.full((len(prefix), samples, steps, 1), 1e30)
            paths[..., -1, :] = np.nan
            return paths

    values = np.sin(np.arange(40.0))[:, None]
    series = Sequences.from_arrays([values.astype(np.float32)], first=np.array([30]))
    [made] = metrics.rolling_origin(
        Exploding(), series, origins=1, horizons=[4], season=1, samples=3, tokens=1000, seed=0
    )
    known = values[:30]
    np.testing.assert_allclose(made.quantiles, known.mean() + metrics.EXPLODED * known.std(), rtol=1e-5)
    assert np.isfinite(metrics.forecast_scores([made], [4]).ratios["forecast", "mase@4"].numerator).all()
