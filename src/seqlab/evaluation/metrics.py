"""What is measured, on each example.

* next symbol: bits per character, perplexity per symbol
* next vector: negative log-likelihood (nats per step and channel), CRPS, interval coverage
* forecast: rolling origin; MASE, RMSSE, weighted quantile loss, interval coverage, each averaged over the first h steps
* translation: chrF++, BLEU, exact matches, accepted sentences, unknown words
* label: F1 of the positions that have any class but the first, share of positions, share of whole sequences
* class: accuracy, balanced accuracy, macro-F1, expected calibration error, Brier score, log loss

Every metric is a function of *sums over examples* of a few features of each example (numerator and denominator; hits
and counts of each class; gaps of each confidence bin). So its value on a resample is that function of re-weighted sums,
and `significance` bootstraps all metrics of all systems by one matrix product.

References: MASE, RMSSE: Hyndman and Koehler (2006), seasonal form as in Hyndman and Athanasopoulos, Forecasting:
Principles and Practice, 3rd ed., 5.8. CRPS: Gneiting and Raftery (2007); fair estimator: Ferro (2014). Weighted
quantile loss: Gasthaus et al. (2019). ECE: Guo et al. (2017). Brier (1950), summed over classes: between 0 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, Protocol, TypeVar

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data.scale import moves, standardisation
from seqlab.data.sequences import Sequences, buckets
from seqlab.errors import UserError
from seqlab.evaluation.scores import Predictions, Ratio, Scores
from seqlab.families.base import Classifier, Predictor

Value = TypeVar("Value", float, np.ndarray)

NEXT, FORECAST, CLASSIFY = "next_step", "forecast", "classify"

DECILES = tuple(round(0.1 * k, 1) for k in range(1, 10))
EXPLODED = 100.0
LEVELS = (0.025, *DECILES, 0.975)  # of the quantiles that a forecast keeps
INTERVALS = {"coverage80": (0.1, 0.9, 0.8), "coverage95": (0.025, 0.975, 0.95)}
BINS = 15  # of confidence, Guo et al. (2017)


@dataclass(frozen=True)
class Metric:
    """A metric as a function of sums.

    better: "lower", "higher", or the number that it should be close to (a coverage). reduce: (..., D) sums -> (...).
    features: (E, D) of a classifier's predictions; None where D = 2 is the stored numerator and denominator. part: how
    people call a part of the examples by their lengths, as in `chrf++@6-10`.
    """

    label: str
    better: Literal["lower", "higher"] | float
    reduce: Callable[[np.ndarray], np.ndarray]
    features: Callable[[Predictions], np.ndarray] | None = None
    part: str = "sources of {} words"

    def loss(self, value: Value) -> Value:
        """The same order turned so that lower is better."""
        if isinstance(self.better, float):
            return abs(value - self.better)
        return value if self.better == "lower" else -value


def _ratio(sums: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = sums[..., 0] / sums[..., 1]
    return ratio


def _exp_ratio(sums: np.ndarray) -> np.ndarray:
    exponential: np.ndarray = np.exp(_ratio(sums))
    return exponential


def _hits(predictions: Predictions) -> np.ndarray:
    hits: np.ndarray = predictions.log_probs.argmax(1) == predictions.labels
    return hits


def _mean(per_example: np.ndarray) -> np.ndarray:
    return np.stack([per_example, np.ones(len(per_example))], axis=1)


def _one_hot(classes: np.ndarray, size: int) -> np.ndarray:
    ones: np.ndarray = (classes[:, None] == np.arange(size)).astype(np.float64)
    return ones


def _accuracy(predictions: Predictions) -> np.ndarray:
    return _mean(_hits(predictions).astype(np.float64))


def _log_loss(predictions: Predictions) -> np.ndarray:
    return _mean(-predictions.log_probs[np.arange(len(predictions.labels)), predictions.labels])


def _brier(predictions: Predictions) -> np.ndarray:
    truth = _one_hot(predictions.labels, predictions.log_probs.shape[1])
    return _mean(((np.exp(predictions.log_probs) - truth) ** 2).sum(1))


def _class_counts(predictions: Predictions) -> np.ndarray:
    """(E, 3K): hits, members and guesses of each class."""
    size = predictions.log_probs.shape[1]
    members, guesses = _one_hot(predictions.labels, size), _one_hot(predictions.log_probs.argmax(1), size)
    return np.concatenate([members * guesses, members, guesses], axis=1)


def _mean_present(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Mean of the ratios over the classes that occur: a resample may have lost a class."""
    present = denominator > 0
    ratios = np.divide(numerator, denominator, where=present, out=np.zeros_like(numerator))
    mean: np.ndarray = ratios.sum(-1) / present.sum(-1)
    return mean


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    hits, members, _ = np.split(sums, 3, axis=-1)
    return _mean_present(hits, members)


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    hits, members, guesses = np.split(sums, 3, axis=-1)
    return _mean_present(2 * hits, members + guesses)


def confidence_bin(confidence: np.ndarray) -> np.ndarray:
    """Index of the confidence's bin: ((b / BINS, (b + 1) / BINS]."""
    index: np.ndarray = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return index


def _calibration_gaps(predictions: Predictions) -> np.ndarray:
    """(E, BINS + 1): hit minus confidence in the bin of the confidence; one."""
    confidence = np.exp(predictions.log_probs.max(1))
    gap = _hits(predictions) - confidence
    return np.concatenate([_one_hot(confidence_bin(confidence), BINS) * gap[:, None], np.ones((len(gap), 1))], axis=1)


def _calibration_error(sums: np.ndarray) -> np.ndarray:
    error: np.ndarray = np.abs(sums[..., :-1]).sum(-1) / sums[..., -1]
    return error


CHARACTER_ORDER, WORD_ORDER, BETA = 6, 2, 2  # of chrF++ (Popović 2017)


def _chrf(sums: np.ndarray) -> np.ndarray:
    """Of summed counts, in the translation, in the reference and in both, of each order, (..., 3 orders).

    As sacreBLEU: precision and recall are averaged over the orders that occur on both sides.
    """
    counts = sums.reshape(*sums.shape[:-1], CHARACTER_ORDER + WORD_ORDER, 3)
    ours, theirs, both = (counts[..., i] for i in range(3))
    used = (ours > 0) & (theirs > 0)
    orders = np.maximum(used.sum(-1), 1)
    precision, recall = (
        np.divide(both, whole, where=used, out=np.zeros_like(both)).sum(-1) / orders for whole in (ours, theirs)
    )
    below = BETA**2 * precision + recall
    above = 100 * (1 + BETA**2) * precision * recall
    score: np.ndarray = np.divide(above, below, where=below > 0, out=np.zeros_like(precision))
    return score


def _bleu(sums: np.ndarray) -> np.ndarray:
    """Of summed lengths of translation and reference, and n-grams that match and in all, n = 1 .. 4, (..., 10).

    As sacreBLEU: an order without a match counts as 1/2 of one, the next such order as 1/4, and so on.
    """
    ours, theirs, matching, total = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:]
    lost = (matching == 0) & (total > 0)
    smoothed = np.where(lost, 0.5 ** np.cumsum(lost, -1), matching)
    scored = (matching > 0).any(-1) & (total > 0).all(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.log(smoothed / total).mean(-1)
        brevity = np.minimum(0, 1 - theirs / ours)
    return np.where(scored, 100 * np.exp(np.where(scored, mean + brevity, 0)), 0)


CHRF, BLEU = "chrf++", "bleu"
METRICS = {
    "bits_per_character": Metric("bits per character", "lower", _ratio),
    "perplexity": Metric("perplexity per symbol", "lower", _exp_ratio),
    "nll": Metric("negative log-likelihood, nats per step and channel", "lower", _ratio),
    "crps": Metric("CRPS, standard deviations", "lower", _ratio),
    "mase": Metric("MASE", "lower", _ratio),
    "rmsse": Metric("RMSSE", "lower", _ratio),
    "wql": Metric("weighted quantile loss", "lower", _ratio),
    "coverage80": Metric("coverage of the 80% interval", 0.8, _ratio),
    "coverage95": Metric("coverage of the 95% interval", 0.95, _ratio),
    "raw_wql": Metric("weighted quantile loss before recalibration", "lower", _ratio),
    "raw_coverage80": Metric("coverage of the 80% interval before recalibration", 0.8, _ratio),
    "raw_coverage95": Metric("coverage of the 95% interval before recalibration", 0.95, _ratio),
    "accuracy": Metric("accuracy", "higher", _ratio, _accuracy),
    "balanced_accuracy": Metric("balanced accuracy", "higher", _balanced_accuracy, _class_counts),
    "macro_f1": Metric("macro-F1", "higher", _macro_f1, _class_counts),
    "log_loss": Metric("log loss, nats", "lower", _ratio, _log_loss),
    "brier": Metric("Brier score", "lower", _ratio, _brier),
    CHRF: Metric("chrF++", "higher", _chrf),
    BLEU: Metric("BLEU", "higher", _bleu),
    "accepted": Metric("share of translations equal to a reference or with chrF++ of at least 80", "higher", _ratio),
    "exact": Metric("share of translations equal to a reference", "higher", _ratio),
    "unknown_words": Metric("share of unknown source words", "lower", _ratio),
    "ece": Metric("expected calibration error", "lower", _calibration_error, _calibration_gaps),
    "f1": Metric("F1", "higher", _ratio, part="sequences of {} positions"),
    "position_accuracy": Metric("share of positions labelled right", "higher", _ratio),
    "sequence_accuracy": Metric("share of sequences labelled right throughout", "higher", _ratio),
}


def metric_of(name: str) -> Metric:
    """The metric called `name`; `mase@16` is MASE over the first 16 steps. Raises UserError on an unknown name."""
    try:
        return METRICS[name.partition("@")[0]]
    except KeyError:
        raise UserError(f"metric {name!r} is unknown; expected one of {', '.join(METRICS)}") from None


def label_of(name: str) -> str:
    """The name for people, horizon or group of sentences included."""
    steps = name.partition("@")[2]
    if steps and not steps.isdigit():
        metric = metric_of(name)
        return f"{metric.label}, {'kept for testing' if steps == 'kept' else metric.part.format(steps)}"
    suffix = {"": "", "1": ", one step ahead"}.get(steps, f", {steps} steps ahead")
    return metric_of(name).label + suffix


def order_of(name: str) -> tuple[int, int, str]:
    """Sorts metrics as METRICS lists them, then by horizon or by length, then by name: no two are alike."""
    base, _, steps = name.partition("@")
    return list(METRICS).index(base), int("".join(takewhile(str.isdecimal, steps)) or 0), name


def names_of(scores: Scores) -> list[tuple[str, str]]:
    """Every (task, metric) that can be computed from `scores`."""
    of_predictions = [name for name, metric in METRICS.items() if metric.features is not None]
    return [
        *scores.ratios,
        *scores.statistics,
        *((task, name) for task in scores.predictions for name in of_predictions),
    ]


def features_of(scores: Scores, task: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Examples (E,) and their features (E, D): metric_of(name).reduce of the features' sum is the value."""
    metric = metric_of(name)
    if metric.features is not None:
        return scores.predictions[task].example, metric.features(scores.predictions[task])
    if (task, name) in scores.statistics:
        return scores.statistics[task, name].example, scores.statistics[task, name].values
    ratio = scores.ratios[task, name]
    return ratio.example, np.stack([ratio.numerator, ratio.denominator], axis=1)


def value_of(scores: Scores, task: str, name: str) -> float:
    """The metric over all examples."""
    return float(metric_of(name).reduce(features_of(scores, task, name)[1].sum(0)))


# Next step


def characters_of_bytes() -> np.ndarray:
    """(256,) int64: the number of characters (Unicode code points) that a byte of UTF-8 text begins, 0 or 1."""
    begins: np.ndarray = ((np.arange(256) & 0xC0) != 0x80).astype(np.int64)
    return begins


def next_symbols(predictor: Predictor, sequences: Sequences, characters: np.ndarray, tokens: int) -> Scores:
    """Bits per character and perplexity of the scored positions.

    characters: (V,), how many characters of the text each symbol stands for, so that any two tokenisers of one text are
    divided by the same number. tokens: positions in a batch.
    """
    nats, steps, letters = np.zeros((3, len(sequences)))
    for indices, batch in sequences.batches(tokens):
        log_prob = predictor.log_prob(batch.x, batch.mask)
        nats[indices] = -np.where(batch.scored, log_prob, 0).sum(1)
        steps[indices] = batch.scored.sum(1)
        letters[indices] = np.where(batch.scored, characters[batch.x], 0).sum(1)
    kept = np.flatnonzero(steps)
    return Scores(
        {
            (NEXT, "bits_per_character"): Ratio(kept, nats[kept] / np.log(2), letters[kept]),
            (NEXT, "perplexity"): Ratio(kept, nats[kept], steps[kept]),
        }
    )


@dataclass(frozen=True)
class OneStep:
    """What a predictor says of single steps of E sequences, in the units of the batches.

    nats, steps: (E,) of all scored positions. Of N looked-at ones: example, place: (N,), the sequence, and the how
    manieth of it; truth, crps, transform: (N, C), the transform being the probability integral's; quantiles: (L, N, C)
    at LEVELS.
    """

    nats: np.ndarray
    steps: np.ndarray
    example: np.ndarray
    place: np.ndarray
    truth: np.ndarray
    quantiles: np.ndarray
    crps: np.ndarray
    transform: np.ndarray


def one_step(
    predictor: Predictor, sequences: Sequences, tokens: int, positions: int, samples: int, seed: int
) -> OneStep:
    """Likelihood of all scored positions; CRPS and quantiles at up to `positions` of them, evenly spaced, a sequence.

    Units are those of the batches: standardised where `sequences` carries centre and scale. Where the predictive
    density equals, at every scored observation, that of independent Gaussians with the predictor's moments, CRPS and
    quantiles are Gaussian closed forms, exact. Otherwise they come from `samples` one-step draws after each prefix: the
    fair CRPS estimator, unbiased whatever the number of draws, and sample quantiles. Both look at the same positions,
    so the two can be compared in pairs.
    """
    nats, steps = np.zeros((2, len(sequences)))
    gaussian = True
    parts: list[tuple[np.ndarray, ...]] = []
    for indices, batch in sequences.batches(tokens):
        log_prob = predictor.log_prob(batch.x, batch.mask)
        nats[indices] = -np.where(batch.scored, log_prob, 0).sum(1)
        steps[indices] = batch.scored.sum(1)
        mean, deviation = predictor.moments(batch.x, batch.mask)
        where = batch.scored
        same = _gaussian_log_density(batch.x[where], mean[where], deviation[where]).sum(1)
        gaussian = gaussian and np.allclose(log_prob[where], same, rtol=1e-4, atol=1e-3)
        row, place, step = _evenly(batch.scored, positions)
        parts.append((indices[row], place, step, batch.x[row, step], mean[row, step], deviation[row, step]))

    example, place, step, truth, mean, deviation = (np.concatenate(column) for column in zip(*parts, strict=True))
    if gaussian:
        from scipy.special import ndtr, ndtri

        transform = ndtr((truth - mean) / deviation)
        crps = crps_gaussian(truth, mean, deviation)
        quantiles = mean + deviation * ndtri(np.array(LEVELS))[:, None, None]
    else:
        draws = _one_step_draws(predictor, sequences, example, step, tokens=tokens, samples=samples, seed=seed)
        transform = ((draws < truth[:, None]).sum(1) + 0.5) / (samples + 1)
        crps = crps_fair(draws, truth)
        quantiles = sample_quantiles(draws, LEVELS)
    return OneStep(nats, steps, example, place, truth, quantiles, crps, transform)


def next_vectors(found: OneStep, recalibrate: Callable[[np.ndarray], np.ndarray] | None = None) -> Scores:
    """Negative log-likelihood, CRPS and coverage.

    recalibrate: a map of one-step quantiles at LEVELS, (L, N, 1, C), for the intervals alone; likelihood and CRPS are
    the density's own, and the coverage before it stands beside as raw_coverage.
    """
    channels = found.truth.shape[1]
    kept = np.flatnonzero(found.steps)
    ratios = {(NEXT, "nll"): Ratio(kept, found.nats[kept], found.steps[kept] * channels)}
    of_values = {"crps": found.crps}
    judged = {"": found.quantiles}
    if recalibrate is not None:
        judged = {"": recalibrate(found.quantiles[:, :, None])[:, :, 0], "raw_": found.quantiles}
    for prefix, quantiles in judged.items():
        for name, (low, high, _) in INTERVALS.items():
            inside = (quantiles[LEVELS.index(low)] <= found.truth) & (found.truth <= quantiles[LEVELS.index(high)])
            of_values[prefix + name] = inside
    count = np.bincount(found.example, minlength=len(found.nats)) * channels
    looked = np.flatnonzero(count)
    for name, value in of_values.items():
        total = np.bincount(found.example, value.sum(1), minlength=len(found.nats))
        ratios[NEXT, name] = Ratio(looked, total[looked], count[looked].astype(np.float64))
    return Scores(ratios)


def _gaussian_log_density(x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    density: np.ndarray = -0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)
    return density


def _evenly(scored: np.ndarray, positions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, numbers within the row and steps of at most `positions` scored positions a row that have a past, from the
    first to the last."""
    rows, places, steps = [], [], []
    for row, flags in enumerate(scored):
        candidates = np.flatnonzero(flags[1:]) + 1
        if len(candidates):
            picked = np.linspace(0, len(candidates) - 1, min(positions, len(candidates))).round().astype(np.int64)
            steps.append(candidates[picked])
            rows.append(np.full(len(picked), row))
            places.append(np.arange(len(picked)))
    empty = np.empty(0, np.int64)
    return tuple(np.concatenate([empty, *part]) for part in (rows, places, steps))  # type: ignore[return-value]


def _one_step_draws(
    predictor: Predictor,
    sequences: Sequences,
    example: np.ndarray,
    step: np.ndarray,
    *,
    tokens: int,
    samples: int,
    seed: int,
) -> np.ndarray:
    """(N, samples, C): draws of the value at `step` of `example`, given the values before it."""
    draws = np.empty((len(step), samples, sequences.values.shape[1]))
    for number, jobs in enumerate(buckets(step + samples, tokens)):
        batch = sequences.batch(example[jobs])
        known = np.arange(step[jobs].max()) < step[jobs, None]
        prefix = np.where(known[..., None], batch.x[:, : known.shape[1]], 0)
        draws[jobs] = predictor.forecast(prefix, known, 1, samples, seed_of(seed, "one step", number))[:, :, 0]
    return draws


def crps_gaussian(x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """CRPS of N(mean, deviation²) at x; Gneiting and Raftery (2007), section 4.2."""
    from scipy.special import ndtr

    z = (x - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score: np.ndarray = deviation * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return score


def crps_fair(draws: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Unbiased CRPS at x (N, ...) from draws (N, S, ...), S >= 2: mean |X - x| - mean over pairs |X - X'| / 2."""
    size = draws.shape[1]
    ordered = np.sort(draws, axis=1)
    # The sum over pairs of a sorted sample is a weighted sum: S log S instead of S².
    weight = (2 * np.arange(size) - size + 1) / (size * (size - 1))
    score: np.ndarray = np.abs(draws - x[:, None]).mean(1) - np.tensordot(ordered, weight, axes=(1, 0))
    return score


def sample_quantiles(draws: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(len(levels), N, ...) quantiles of draws (N, S, ...).

    Weibull's positions p (S + 1): the truth is one more draw of a perfect model, so an interval between two of them
    covers it with exactly its nominal probability. NumPy's default covers too rarely in small samples.
    """
    quantiles: np.ndarray = np.quantile(draws, levels, axis=1, method="weibull")
    return quantiles


# Forecasts


class Forecaster(Protocol):
    """The part of a Predictor that forecasting needs."""

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Forecast:
    """One forecast of h steps in raw units, made from the first `origin` values of series `series`.

    truth: (h, C), NaN at the steps that were not recorded, at which no score looks. quantiles: (len(LEVELS), h, C).
    absolute, squared: (C,) mean error of the seasonal naive forecast on the values before the origin, the scales of
    MASE and RMSSE; 0 where there is none but rounding.
    """

    series: int
    origin: int
    truth: np.ndarray
    quantiles: np.ndarray
    absolute: np.ndarray
    squared: np.ndarray

    @property
    def median(self) -> np.ndarray:
        """(h, C), the point forecast."""
        median: np.ndarray = self.quantiles[LEVELS.index(0.5)]
        return median


def rolling_origin(
    predictor: Forecaster,
    series: Sequences,
    *,
    origins: int,
    horizons: Sequence[int],
    season: int,
    samples: int,
    tokens: int,
    seed: int,
    context: int | None = None,
    inverse: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[Forecast]:
    """Forecasts of every series from several origins, by series and origin.

    series: values before standardisation; `first` is the first origin of each (its first held-out position); series
    with fewer than min(horizons) values from there on are left out. Origins are evenly spaced from `first` to the last
    that leaves min(horizons) values; each is forecast to the longest horizon that its future still has. Where the
    series carry centre and scale, those of an origin come from the values before it alone. A path further than EXPLODED
    deviations from the mean of these values stays there: it has exploded. The predictor sees the last
    `context` of them (None: all). inverse: increasing map from values to the units of the errors (`np.exp` for a panel
    of logarithms). season: declared period of the naive forecast that scales the errors. tokens: positions in a batch,
    sampled ones included.

    A step that was filled in is seen like any other, and is no truth.

    Raises UserError when a series has no more values before its first origin than `season`, or when none is long
    enough for the longest horizon.
    """
    jobs = origins_of(series, origins, horizons, season)
    found: dict[tuple[int, int], Forecast] = {}
    for steps in sorted({job[2] for job in jobs}):
        equal = [(i, origin) for i, origin, reach in jobs if reach == steps]
        seen = np.array([min(origin, context or origin) for _, origin in equal])
        for number, part in enumerate(buckets(seen + samples * steps, tokens)):
            chosen = [equal[k] for k in part]
            made = _forecast_batch(
                predictor,
                series,
                chosen,
                seen[part],
                steps=steps,
                samples=samples,
                seed=seed_of(seed, "rolling origin", steps, number),
                season=season,
                inverse=inverse,
            )
            found.update(((one.series, one.origin), one) for one in made)
    return [found[i, origin] for i, origin, _ in jobs]


def origins_of(series: Sequences, origins: int, horizons: Sequence[int], season: int) -> list[tuple[int, int, int]]:
    """Series, origin and steps of every forecast of `rolling_origin`, by series and origin; raises what it raises."""
    if series.first is None:
        raise UserError("rolling origin: the series carry no `first`; expected the first held-out position of each")
    jobs = []
    for i, (length, first) in enumerate(zip(series.lengths.tolist(), series.first.tolist(), strict=True)):
        if length - first < min(horizons):
            continue
        if first <= season:
            raise UserError(
                f"series {i} has {first} values before its first origin; the period {season} needs {season + 1}"
            )
        for origin in np.unique(np.linspace(first, length - min(horizons), origins).round().astype(np.int64)).tolist():
            jobs.append((i, origin, max(h for h in horizons if origin + h <= length)))
    if (longest := (series.lengths - series.first).max()) < max(horizons):
        raise UserError(f"no series has {max(horizons)} values from its first origin on; the most is {longest}")
    return jobs


def naive_errors(past: np.ndarray, season: int) -> tuple[np.ndarray, np.ndarray]:
    """(C,), (C,): mean absolute and mean squared error of the seasonal naive forecast on (T, C) values: the scales of
    MASE and RMSSE; 0 where the past does not move.
    """
    change = past[season:] - past[:-season]
    some = moves(change, np.abs(past).max(0))
    absolute, squared = (np.where(some, part.mean(0), 0) for part in (np.abs(change), change**2))
    return absolute, squared


def _forecast_batch(
    predictor: Forecaster,
    series: Sequences,
    chosen: list[tuple[int, int]],
    seen: np.ndarray,
    *,
    steps: int,
    samples: int,
    seed: int,
    season: int,
    inverse: Callable[[np.ndarray], np.ndarray] | None,
) -> list[Forecast]:
    known = [series[i][:origin].astype(np.float64) for i, origin in chosen]
    middle, spread = (np.stack(part) for part in zip(*(standardisation(values) for values in known), strict=True))
    centre, scale = (np.zeros_like(middle), np.ones_like(spread)) if series.centre is None else (middle, spread)
    mask = np.arange(seen.max()) < seen[:, None]
    prefix = np.zeros((*mask.shape, series.values.shape[1]))
    prefix[mask] = np.concatenate([values[-n:] for values, n in zip(known, seen, strict=True)])
    # What is not standardised keeps the digits that the series were stored with.
    kept = series.values.dtype if series.centre is None else np.float32
    prefix = np.where(mask[..., None], (prefix - centre[:, None]) / scale[:, None], 0).astype(kept)
    paths = predictor.forecast(prefix, mask, steps, samples, seed).astype(np.float64)
    # A recursion that explodes leaves the numbers, NaN behind it: it is scored as far off, and not as an error.
    far = np.nan_to_num((paths * scale[:, None, None] + centre[:, None, None] - middle[:, None, None]), nan=np.inf)
    bound = EXPLODED * spread[:, None, None]
    quantiles = sample_quantiles(middle[:, None, None] + np.clip(far, -bound, bound), LEVELS)
    raw = inverse or (lambda values: values)
    forecasts = []
    for row, (i, origin) in enumerate(chosen):
        ahead = slice(origin, origin + steps)
        past, truth = raw(known[row]), raw(series[i][ahead].astype(np.float64))
        truth = np.where(recorded(series, i, ahead)[:, None], truth, np.nan)
        # A monotone map takes quantiles to quantiles, so it is applied after them.
        forecasts.append(Forecast(i, origin, truth, raw(quantiles[:, row]), *naive_errors(past, season)))
    return forecasts


def recorded(series: Sequences, i: int, steps: slice) -> np.ndarray:
    """(n,) bool of some steps of sequence i: those whose values are their own."""
    if series.filled is None:
        return np.ones(len(series[i][steps]), bool)
    return ~series.filled[series.offsets[i] : series.offsets[i + 1]][steps]


def raw_scores(forecasts: Sequence[Forecast], horizons: Sequence[int]) -> Scores:
    """Loss and coverage of forecasts as they were before recalibration, under names of their own."""
    found = forecast_scores(forecasts, horizons).ratios
    named = {(task, f"raw_{name}"): part for (task, name), part in found.items()}
    return Scores({(task, name): part for (task, name), part in named.items() if name.partition("@")[0] in METRICS})


def forecast_scores(forecasts: Sequence[Forecast], horizons: Sequence[int]) -> Scores:
    """MASE, RMSSE, weighted quantile loss and coverage for each horizon h, over those of steps 1 to h that were
    recorded; an example is a series.

    MASE and RMSSE are a series' means over origins and channels, then the mean over series; a channel that its naive
    forecast explains without error before the origin has no scale and is left out there. The weighted quantile loss is
    twice the pinball loss, averaged over the deciles, summed over everything and divided by the sum of |truth|.
    """
    ratios = {}
    for horizon in horizons:
        found: dict[str, dict[int, list[tuple[float, float]]]] = {}
        for one in forecasts:
            if len(one.truth) >= horizon and not np.isnan(one.truth[:horizon]).all():
                for name, pair in _of_forecast(one, horizon).items():
                    found.setdefault(name, {}).setdefault(one.series, []).append(pair)
        for name, by_series in found.items():
            example = np.array(sorted(by_series), np.int64)
            numerator, denominator = np.array([np.sum(by_series[i], axis=0) for i in example]).T
            if name in ("mase", "rmsse"):
                some = denominator > 0
                example, numerator = example[some], numerator[some] / denominator[some]
                denominator = np.ones_like(numerator)
            if len(example):
                ratios[FORECAST, f"{name}@{horizon}"] = Ratio(example, numerator, denominator)
    return Scores(ratios)


def _of_forecast(one: Forecast, horizon: int) -> dict[str, tuple[float, float]]:
    truth, quantiles, median = one.truth[:horizon], one.quantiles[:, :horizon], one.median[:horizon]
    if (missing := np.isnan(truth).any(1)).any():
        truth, quantiles, median = truth[~missing], quantiles[:, ~missing], median[~missing]
    error = truth - median
    some = one.absolute > 0
    inner = quantiles[[LEVELS.index(level) for level in DECILES]]
    level = np.array(DECILES)[:, None, None]
    pinball = np.maximum(level * (truth - inner), (level - 1) * (truth - inner))
    pairs = {
        "mase": (float((np.abs(error).mean(0)[some] / one.absolute[some]).sum()), float(some.sum())),
        "rmsse": (float(np.sqrt((error**2).mean(0)[some] / one.squared[some]).sum()), float(some.sum())),
        "wql": (float(2 * pinball.mean(0).sum()), float(np.abs(truth).sum())),
    }
    for name, (low, high, _) in INTERVALS.items():
        inside = (quantiles[LEVELS.index(low)] <= truth) & (truth <= quantiles[LEVELS.index(high)])
        pairs[name] = float(inside.sum()), float(inside.size)
    return pairs


# Classes


def classify(classifier: Classifier, sequences: Sequences, tokens: int) -> Scores:
    """The classifier's answer for every sequence. Raises UserError when the sequences carry no labels."""
    if sequences.labels is None:
        raise UserError("classification: the sequences carry no labels")
    rows: dict[int, np.ndarray] = {}
    for indices, batch in sequences.batches(tokens):
        rows.update(zip(indices.tolist(), classifier.class_log_prob(batch.x, batch.mask), strict=True))
    example = np.arange(len(sequences))
    log_probs = np.stack([rows[i] for i in range(len(rows))]).astype(np.float64)
    return Scores(predictions={CLASSIFY: Predictions(example, sequences.labels.astype(np.int64), log_probs)})
