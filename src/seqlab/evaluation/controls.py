"""What every family must beat, as predictors and classifiers that the same evaluation code scores.

* symbols: uniform; unigram
* next vector: independent Gaussians; Gaussian random walk
* forecast: last value, seasonal naive, drift, historical mean, with the Gaussian predictive intervals of Hyndman and
  Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., 5.5; of returns, zero: the price as a random walk
* class: majority; and what is left of a sequence when its order is removed, as the textbook uses it: of text, a bag of
  words with logistic regression; of vectors, moments of each channel with logistic regression, and summary statistics
  of each channel with boosted trees; of other symbols, their shares with logistic regression
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.evaluation.metrics import Forecaster
from seqlab.families.base import Classifier, Predictor

TOKENS = 1 << 18  # positions in a batch while statistics of the training split are gathered
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of each channel, that boosted trees see
ROUNDS, PATIENCE = 500, 50  # of boosting: at most, and without a gain on validation after which it stops
TREES = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 5,
    "feature_fraction": 0.5,
    "seed": 0,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}


def next_step(train: Sequences, space: Space, smoothing: float) -> dict[str, Predictor]:
    """The controls of next-step prediction, by name. smoothing: count added to each symbol of the unigram."""
    if space.symbols:
        counts = np.bincount(np.asarray(train.values), minlength=space.size)
        logs = {"uniform": np.zeros(space.size), "unigram": np.log(counts + smoothing)}
        return {name: Memoryless(space, log_weights) for name, log_weights in logs.items()}
    return {"independent": IndependentGaussian(space, train), "random_walk": RandomWalk(space, train)}


def forecasters(season: int, *, returns: bool) -> dict[str, Forecaster]:
    """The controls of forecasting, by name, for values that are not standardised.

    season: steps in the declared period; 1 leaves the seasonal one out. returns: values are changes of a level, so that
    the walk of the level is a control.
    """
    seasonal = {"seasonal_naive": SeasonalNaive(season)} if season > 1 else {}
    walk = {"zero_return": ZeroReturn()} if returns else {}
    return {"last_value": SeasonalNaive(1), **seasonal, "drift": Drift(), "historical_mean": HistoricalMean(), **walk}


def classifiers(
    train: Sequences, valid: Sequences, space: Space, ridges: Sequence[float], *, characters: bool
) -> dict[str, Classifier]:
    """The controls of classification, by name.

    ridges: candidate penalties of the logistic regressions. characters: symbols are bytes of UTF-8 text. Raises
    UserError when there are no labels, or one class alone.
    """
    if train.labels is None or valid.labels is None:
        raise UserError("controls of classification: the sequences carry no labels")
    if len(np.unique(train.labels)) < 2:
        raise UserError("controls of classification: all training sequences are of one class; expected two or more")
    majority: dict[str, Classifier] = {
        "majority": Majority(np.bincount(train.labels, minlength=int(valid.labels.max()) + 1))
    }
    if characters:
        return majority | {"bag_of_words": BagOfWords(train, valid, ridges)}
    order_free = {"order_free": OrderFree(train, valid, space, ridges)}
    if space.symbols:
        return majority | order_free
    return majority | order_free | {"summary_trees": SummaryTrees(train, valid)}


# Symbols


class Memoryless:
    """P(x_t) whatever came before. log_weights: (V,), normalised here."""

    def __init__(self, space: Space, log_weights: np.ndarray):
        self.space = space
        self.log_probs = log_weights - np.logaddexp.reduce(log_weights)

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, self.log_probs[x], 0)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.log_probs, (len(x), x.shape[1] + 1, self.space.size))

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError("symbols have no moments")

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        probs = np.exp(self.log_probs)
        return np.random.default_rng(seed).choice(self.space.size, (len(prefix), samples, steps), p=probs / probs.sum())


# Vectors, next step


class IndependentGaussian:
    """x_t ~ N(mean, deviation²) in each channel; both from the (standardised) training split."""

    def __init__(self, space: Space, train: Sequences):
        self.space = space
        values = np.concatenate([batch.x[batch.mask] for _, batch in train.batches(TOKENS)]).astype(np.float64)
        self.mean, self.deviation = values.mean(0), _positive(values.std(0))

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        mean, deviation = self.moments(x, mask)
        density = -0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi)
        return np.where(mask, density.sum(2), 0)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError("vectors have no distribution over symbols")

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.broadcast_to(self.mean, x.shape), np.broadcast_to(self.deviation, x.shape)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal((len(prefix), samples, steps, self.space.size))
        paths: np.ndarray = self.mean + self.deviation * noise
        return paths


class RandomWalk(IndependentGaussian):
    """x_t ~ N(x_{t-1}, variance of the training split's differences); x_1 as if independent."""

    def __init__(self, space: Space, train: Sequences):
        super().__init__(space, train)
        changes = [np.diff(batch.x, axis=1)[batch.mask[:, 1:]] for _, batch in train.batches(TOKENS)]
        squares = np.concatenate(changes).astype(np.float64) ** 2
        if not len(squares):
            raise UserError("random walk control: every training sequence is shorter than 2 steps")
        self.step_deviation = _positive(np.sqrt(squares.mean(0)))

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, deviation = (np.array(part) for part in super().moments(x, mask))
        mean[:, 1:], deviation[:, 1:] = x[:, :-1], self.step_deviation
        return mean, deviation

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).standard_normal((len(prefix), samples, steps, self.space.size))
        return _last(prefix, mask)[:, None, None] + np.cumsum(self.step_deviation * noise, axis=2)


# Forecasts


@dataclass(frozen=True)
class SeasonalNaive:
    """The value one period ago; a period of 1 is the last value. Step h has variance σ² (⌊(h - 1) / period⌋ + 1)."""

    period: int

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """(B, samples, steps, C). Raises UserError when a prefix is not longer than the period."""
        lengths = mask.sum(1)
        if lengths.min() <= self.period:
            found = f"a series has {lengths.min()} values before its origin"
            raise UserError(f"naive forecast with period {self.period}: {found}, needs {self.period + 1}")
        change = np.where(mask[:, self.period :, None], prefix[:, self.period :] - prefix[:, : -self.period], 0.0)
        deviation = np.sqrt((change**2).sum(1) / (lengths - self.period)[:, None])
        last = np.take_along_axis(prefix, (lengths[:, None] - self.period + np.arange(self.period))[..., None], axis=1)

        cycles = -(-steps // self.period)
        noise = antithetic(seed, (len(prefix), samples, cycles, self.period, prefix.shape[2]))
        paths: np.ndarray = last[:, None, None] + np.cumsum(noise, axis=2) * deviation[:, None, None, None]
        return paths.reshape(len(prefix), samples, cycles * self.period, -1)[:, :, :steps]


@dataclass(frozen=True)
class Drift:
    """The line through the first and the last of T values. Step h has variance σ² h (1 + h / (T - 1))."""

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """(B, samples, steps, C). Raises UserError when a prefix has fewer than 3 values."""
        changes = mask.sum(1)[:, None] - 1
        if changes.min() < 2:
            raise UserError(f"drift forecast: a series has {changes.min() + 1} values before its origin, needs 3")
        last = _last(prefix, mask)
        slope = (last - prefix[:, 0]) / changes
        residual = np.where(mask[:, 1:, None], np.diff(prefix, axis=1) - slope[:, None], 0.0)
        deviation = np.sqrt((residual**2).sum(1) / (changes - 1))
        # One draw of the slope's own error and one of the walk: their variances add up to the textbook's.
        noise = antithetic(seed, (len(prefix), samples, steps + 1, prefix.shape[2]))
        ahead = np.arange(1, steps + 1)[:, None]
        slopes = slope[:, None, None] + noise[:, :, :1] * (deviation / np.sqrt(changes))[:, None, None]
        walk = np.cumsum(noise[:, :, 1:], axis=2) * deviation[:, None, None]
        paths: np.ndarray = last[:, None, None] + ahead * slopes + walk
        return paths


@dataclass(frozen=True)
class HistoricalMean:
    """The mean of T values, at every step. Its variance is σ² (1 + 1 / T), of which the mean's own part is shared."""

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """(B, samples, steps, C). Raises UserError when a prefix has fewer than 2 values."""
        lengths = mask.sum(1)[:, None]
        if lengths.min() < 2:
            raise UserError(f"historical mean: a series has {lengths.min()} values before its origin, needs 2")
        mean = np.where(mask[..., None], prefix, 0.0).sum(1) / lengths
        residual = np.where(mask[..., None], prefix - mean[:, None], 0.0)
        deviation = np.sqrt((residual**2).sum(1) / (lengths - 1))
        noise = antithetic(seed, (len(prefix), samples, steps + 1, prefix.shape[2]))
        means = mean[:, None, None] + noise[:, :, :1] * (deviation / np.sqrt(lengths))[:, None, None]
        paths: np.ndarray = means + noise[:, :, 1:] * deviation[:, None, None]
        return paths


@dataclass(frozen=True)
class ZeroReturn:
    """Zero at every step: of log returns, the random walk of the log price. Its variance is the mean square."""

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """(B, samples, steps, C). Raises UserError when a prefix is empty."""
        lengths = mask.sum(1)[:, None]
        if lengths.min() < 1:
            raise UserError("zero return: a series has no value before its origin, needs 1")
        deviation = np.sqrt(np.where(mask[..., None], prefix.astype(np.float64) ** 2, 0.0).sum(1) / lengths)
        noise = antithetic(seed, (len(prefix), samples, steps, prefix.shape[2]))
        paths: np.ndarray = noise * deviation[:, None, None]
        return paths


def antithetic(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal draws that come in pairs of opposite sign along axis 1, with one zero where the number is odd.

    A symmetric control's median path is then its textbook point forecast without sampling error.
    """
    half = np.random.default_rng(seed).standard_normal((shape[0], shape[1] // 2, *shape[2:]))
    return np.concatenate([half, -half, np.zeros((shape[0], shape[1] % 2, *shape[2:]))], axis=1)


def _last(prefix: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(B, C), the last value of each prefix."""
    last: np.ndarray = prefix[np.arange(len(prefix)), mask.sum(1) - 1]
    return last


def _positive(deviation: np.ndarray) -> np.ndarray:
    """A constant channel has density only with some width: a thousandth of the standardised unit."""
    widened: np.ndarray = np.maximum(deviation, 1e-3)
    return widened


# Classes


class Majority:
    """The classes' shares of the training labels (one count added to each), whatever the sequence. counts: (K,)."""

    def __init__(self, counts: np.ndarray):
        self.log_probs = np.log(counts + 1) - np.log((counts + 1).sum())

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.broadcast_to(self.log_probs, (len(x), len(self.log_probs)))


class OrderFree:
    """Multinomial logistic regression on features that no permutation of a sequence changes.

    Symbols: the share of each symbol. Vectors: mean and standard deviation of each channel. Both: the log length.
    Features are standardised by the training split; the ridge penalty is the one of `ridges` with the least log loss on
    `valid`. Own objective, minimised by SciPy's L-BFGS.
    """

    def __init__(self, train: Sequences, valid: Sequences, space: Space, ridges: Sequence[float]):
        self.space = space
        features, labels = self._of_split(train)
        held_out, held_out_labels = self._of_split(valid)
        self.mean, self.deviation = features.mean(0), features.std(0)
        # A feature that never varied in training says nothing, so a value unseen there is given no say either.
        self.deviation[self.deviation < 1e-9] = np.inf
        features, held_out = self._standardised(features), self._standardised(held_out)
        size = int(max(labels.max(), held_out_labels.max())) + 1

        best = np.inf
        for ridge in ridges:
            weights, bias = fit_logistic(features, labels, size, ridge)
            log_probs = _log_softmax(held_out @ weights + bias)
            loss = -log_probs[np.arange(len(held_out_labels)), held_out_labels].mean()
            if loss < best:
                best, self.ridge, self.weights, self.bias = loss, ridge, weights, bias

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return _log_softmax(self._standardised(self._features(x, mask)) @ self.weights + self.bias)

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        units: np.ndarray = (features - self.mean) / self.deviation
        return units

    def _of_split(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        assert sequences.labels is not None
        parts = [(indices, self._features(batch.x, batch.mask)) for indices, batch in sequences.batches(TOKENS)]
        order = np.concatenate([indices for indices, _ in parts])
        return np.concatenate([features for _, features in parts]), sequences.labels[order].astype(np.int64)

    def _features(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        lengths = np.maximum(mask.sum(1), 1)[:, None]
        if self.space.symbols:
            rows = np.broadcast_to(np.arange(len(x))[:, None], x.shape)
            cells = (rows * self.space.size + x)[mask]
            shares = np.bincount(cells, minlength=len(x) * self.space.size).reshape(len(x), -1) / lengths
            return np.concatenate([shares, np.log(lengths)], axis=1)
        mean = x.sum(1, dtype=np.float64) / lengths
        centred = np.where(mask[..., None], x - mean[:, None], 0)
        return np.concatenate([mean, np.sqrt((centred**2).sum(1) / lengths), np.log(lengths)], axis=1)


class BagOfWords:
    """Logistic regression on tf-idf of the words of a text, in lower case, whatever their order (scikit-learn).

    The training split gives words and their weights; the ridge penalty is the one of `ridges` with the least log loss
    on `valid`. Raises UserError when no training text has a word.
    """

    def __init__(self, train: Sequences, valid: Sequences, ridges: Sequence[float]):
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        labels, held_out = _labels(train), _labels(valid)
        self.words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
        try:
            features = self.words.fit_transform(map(_text, train))
        except ValueError:
            raise UserError("bag of words: no training text has a word") from None
        self.size = int(max(labels.max(), held_out.max())) + 1
        best = np.inf
        for ridge in ridges:
            model = LogisticRegression(C=1 / ridge, max_iter=1000).fit(features, labels)
            log_probs = _every_class(
                model.predict_log_proba(self.words.transform(map(_text, valid))), labels, self.size
            )
            loss = -log_probs[np.arange(len(held_out)), held_out].mean()
            if loss < best:
                best, self.ridge, self.model, self.labels = loss, ridge, model, labels

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        texts = [_text(row[known]) for row, known in zip(x, mask, strict=True)]
        return _every_class(self.model.predict_log_proba(self.words.transform(texts)), self.labels, self.size)


def _text(values: np.ndarray) -> str:
    return values.astype(np.uint8).tobytes().decode("utf-8", "replace")


class SummaryTrees:
    """Boosted trees on summary statistics of each channel (LightGBM, Ke et al. 2017).

    These are mean, standard deviation, minimum, maximum and QUANTILES, and the log length of the sequence. As many
    trees as give the least log loss on `valid`.

    One thread and LightGBM's deterministic mode: equal data give equal trees.
    """

    def __init__(self, train: Sequences, valid: Sequences):
        import lightgbm

        (features, labels), (held_out, held_out_labels) = self._of_split(train), self._of_split(valid)
        self.size = int(max(labels.max(), held_out_labels.max())) + 1
        known = lightgbm.Dataset(features, labels)
        self.model = lightgbm.train(
            {**TREES, "objective": "multiclass", "num_class": self.size},
            known,
            ROUNDS,
            valid_sets=[lightgbm.Dataset(held_out, held_out_labels, reference=known)],
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        # Of a class that training lacks the trees say 0; at least as much as float32 can hold of it is left.
        probs = np.maximum(self.model.predict(self._features(x, mask)), np.finfo(np.float32).tiny)
        return np.asarray(np.log(probs / probs.sum(1, keepdims=True)))

    def _of_split(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        parts = [(indices, self._features(batch.x, batch.mask)) for indices, batch in sequences.batches(TOKENS)]
        order = np.concatenate([indices for indices, _ in parts])
        return np.concatenate([features for _, features in parts]), _labels(sequences)[order]

    def _features(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.stack([self._of_one(row[known].astype(np.float64)) for row, known in zip(x, mask, strict=True)])

    def _of_one(self, values: np.ndarray) -> np.ndarray:
        """Of (T, C) values; an empty sequence has none (NaN, which the trees take as missing)."""
        if not len(values):
            return np.full((4 + len(QUANTILES)) * values.shape[1] + 1, np.nan)
        moments = values.mean(0), values.std(0), values.min(0), values.max(0)
        return np.concatenate([*moments, *np.quantile(values, QUANTILES, axis=0), [np.log(len(values))]])


def _labels(sequences: Sequences) -> np.ndarray:
    assert sequences.labels is not None
    return sequences.labels.astype(np.int64)


def _every_class(log_probs: np.ndarray, labels: np.ndarray, size: int) -> np.ndarray:
    """(N, K) of answers about the classes that occur in the training labels; an unseen one gets one example's share."""
    found = np.full((len(log_probs), size), -np.log(len(labels) + size))
    found[:, np.unique(labels)] = log_probs
    return found - np.logaddexp.reduce(found, axis=1, keepdims=True)


def fit_logistic(features: np.ndarray, labels: np.ndarray, classes: int, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (D, K) and bias (K,) that minimise summed log loss + ridge / 2 |weights|²; the bias is free.

    Scikit-learn's LogisticRegression goes on where L-BFGS gains less than SciPy's `ftol` in a step; its test log loss
    differs by 1e-6 to 1.5e-3 nats on the domains here, with the same classes and in the same time.
    """
    from scipy.optimize import minimize

    truth = (labels[:, None] == np.arange(classes)).astype(np.float64)
    size = features.shape[1]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = flat.reshape(size + 1, classes)
        log_probs = _log_softmax(features @ parameters[:-1] + parameters[-1])
        error = np.exp(log_probs) - truth
        gradient = np.concatenate([features.T @ error + ridge * parameters[:-1], error.sum(0, keepdims=True)])
        value = -(truth * log_probs).sum() + ridge / 2 * (parameters[:-1] ** 2).sum()
        # As means, so that the minimiser's tolerances do not depend on the number of sequences.
        return value / len(labels), gradient.ravel() / len(labels)

    # Starting at the classes' shares, the free bias of a class unseen in training stays finite.
    start = np.zeros((size + 1, classes))
    start[-1] = np.log((truth.sum(0) + 1) / (len(labels) + classes))
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-7})
    parameters = found.x.reshape(size + 1, classes)
    return parameters[:-1], parameters[-1]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
