"""MiniRocket (Dempster, Schmidt and Webb 2021): dilated convolutions with 84 fixed kernels, then ridge regression.

Each of about 10,000 features is the proportion of positive values (PPV) of a convolution with a bias: how often a
pattern occurs. Sequences may be of any length; a position outside a sequence is zero.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.classifier import (
    DirectClassifier,
    labels_of,
    log_loss,
    log_softmax,
    sharpness,
    standardised,
)
from seqlab.settings import Count, Natural

LENGTH = 9  # of a kernel: three weights are 2, six are -1
KERNELS = np.array(list(combinations(range(LENGTH), 3)), np.int64)  # (84, 3), where the weights are 2
MOST_DILATIONS = 32
MOST_CHANNELS = 9  # that one convolution sums over
GOLDEN = (np.sqrt(5) + 1) / 2
PENALTIES = np.logspace(-3, 3, 10)  # of the ridge, from which leave-one-out chooses, as published


class Transform(NamedTuple):
    """D dilations, each with all kernels. features: (D,), biases of a kernel at each. biases: (F,), by dilation, then
    by kernel. channels: those that each (dilation, kernel) sums over, one after another; counts: (D, 84), how many."""

    dilations: np.ndarray
    features: np.ndarray
    biases: np.ndarray
    channels: np.ndarray
    counts: np.ndarray

    def __call__(self, sequences: list[np.ndarray]) -> np.ndarray:
        """(N, F) PPVs of sequences (T, C)."""
        found = np.empty((len(sequences), len(self.biases)))
        for row, x in enumerate(sequences):
            _transform(np.ascontiguousarray(x.T, np.float64), KERNELS, *self, found[row])
        return found


class MiniRocket(DirectClassifier):
    """features: about how many, at least one a kernel. seed: of the training sequences whose convolutions give the
    biases, and of the channels that each convolution sums over.

    Leave-one-out chooses the ridge's penalty (RidgeClassifierCV), and the validation split how sharply its scores are
    turned into probabilities.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("classify",)
    objectives = ()

    def __init__(self, space: Space, classes: int, *, features: Count, seed: Natural):
        super().__init__(space, classes)
        if features < len(KERNELS):
            raise UserError(f"features: {features}; expected at least {len(KERNELS)}, one a kernel")
        self.features, self.seed = features, seed

    def fit(self, train: Sequences, valid: Sequences, prior: None = None) -> dict[str, Any]:
        from sklearn.linear_model import RidgeClassifierCV

        labels, held_out = labels_of(train, "training", self.classes), labels_of(valid, "validation", self.classes)
        own = standardised(train)
        self.transform = fit_transform(own, self.features, self.seed)
        features = self.transform(own)
        deviation = features.std(axis=0)
        self.mean, self.scale = features.mean(axis=0), np.where(deviation > 0, deviation, 1)
        ridge = RidgeClassifierCV(alphas=PENALTIES).fit((features - self.mean) / self.scale, labels)
        binary = self.classes == 2  # of which scikit-learn keeps one row, the second's
        rows, intercept = np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
        self.coefficients = np.concatenate([-rows, rows]) if binary else rows
        self.intercept = np.concatenate([-intercept, intercept]) if binary else intercept
        scores = self._scores(standardised(valid))
        self.sharpness = sharpness(scores, held_out)
        loss = log_loss(log_softmax(self.sharpness * scores), held_out)
        return {
            "features": len(self.mean),
            "dilations": self.transform.dilations.tolist(),
            "chosen": {"penalty": float(ridge.alpha_), "sharpness": self.sharpness, "valid_log_loss": loss},
        }

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        rows = [row[exists] for row, exists in zip(x, mask, strict=True)]
        return log_softmax(self.sharpness * self._scores(rows))

    def _scores(self, sequences: list[np.ndarray]) -> np.ndarray:
        features = (self.transform(sequences) - self.mean) / self.scale
        scores: np.ndarray = features @ self.coefficients.T + self.intercept
        return scores

    def state(self) -> dict[str, np.ndarray]:
        return self.transform._asdict() | {
            "mean": self.mean,
            "scale": self.scale,
            "coefficients": self.coefficients,
            "intercept": self.intercept,
            "sharpness": np.array([self.sharpness]),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.transform = Transform(*(np.array(state[name]) for name in Transform._fields))
        self.mean, self.scale = np.array(state["mean"]), np.array(state["scale"])
        self.coefficients, self.intercept = np.array(state["coefficients"]), np.array(state["intercept"])
        self.sharpness = float(state["sharpness"].item())

    def flops(self, train: Sequences) -> float:
        """Of each convolution two operations a tap, channel and position, and a comparison a feature and position;
        then the ridge by its dual: the Gram matrix of N sequences, its eigenvectors, and a pass a penalty and class."""
        number, features = len(train), len(self.mean)
        convolved = int(self.transform.counts.sum()) * 2 * LENGTH + features
        ridge = 2 * number**2 * features + 9 * number**3 + 4 * len(PENALTIES) * self.classes * number**2
        return float(convolved * len(train.values) + ridge)

    @property
    def parameters(self) -> int:
        """Biases, means and deviations of features, coefficients and intercepts (of two classes one set), sharpness."""
        rows = 1 if self.classes == 2 else self.classes
        return 3 * len(self.mean) + rows * (len(self.mean) + 1) + 1


def fit_transform(train: list[np.ndarray], features: int, seed: int) -> Transform:
    """Dilations from the longest sequence, biases from convolutions of random ones (Dempster et al. 2021, section 4).

    Of several channels each convolution sums over a random set, whose size is uniform in its logarithm.
    """
    rng = np.random.default_rng(seed)
    dilations, numbers = spread(max(len(x) for x in train), features // len(KERNELS))
    channels, counts = [], np.empty((len(dilations), len(KERNELS)), np.int64)
    biases = []
    quantiles = (np.arange(1, numbers.sum() + 1) * GOLDEN) % 1  # a sequence of low discrepancy
    usable = [x for x in train if len(x)]
    most = np.log2(min(train[0].shape[1], MOST_CHANNELS) + 1)
    first = 0
    for d, (dilation, number) in enumerate(zip(dilations, numbers, strict=True)):
        for kernel in range(len(KERNELS)):
            counts[d, kernel] = int(2 ** rng.uniform(0, most))
            channels.append(np.sort(rng.choice(train[0].shape[1], counts[d, kernel], replace=False)))
            x = np.ascontiguousarray(usable[rng.integers(len(usable))].T, np.float64)
            convolved = np.empty(x.shape[1])
            _convolve(x, KERNELS[kernel], dilation, channels[-1], convolved)
            biases.append(np.quantile(convolved, quantiles[first : first + number]))
        first += number
    return Transform(dilations, numbers, np.concatenate(biases), np.concatenate(channels), counts)


def spread(length: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """Dilations from 1 to where a kernel spans the length, even in their logarithm, and the biases a kernel of each."""
    candidates = min(features, MOST_DILATIONS)
    most = np.log2(max((length - 1) / (LENGTH - 1), 1))
    dilations, counts = np.unique(np.logspace(0, most, candidates, base=2).astype(np.int64), return_counts=True)
    numbers = (counts * features / candidates).astype(np.int64)
    left = features - numbers.sum()
    return dilations, numbers + (np.arange(len(numbers)) < left)


@njit(cache=True)
def _convolve(x: np.ndarray, kernel: np.ndarray, dilation: int, channels: np.ndarray, out: np.ndarray) -> None:
    """out (T,): the sum over channels of x (C, T) convolved with one kernel, centred, zero outside."""
    steps = x.shape[1]
    out[:] = 0.0
    for tap in range(LENGTH):
        weight = 2.0 if tap == kernel[0] or tap == kernel[1] or tap == kernel[2] else -1.0
        shift = (tap - LENGTH // 2) * dilation
        for channel in channels:
            row = x[channel]
            for t in range(max(0, -shift), min(steps, steps - shift)):
                out[t] += weight * row[t + shift]


@njit(cache=True)
def _transform(
    x: np.ndarray,
    kernels: np.ndarray,
    dilations: np.ndarray,
    numbers: np.ndarray,
    biases: np.ndarray,
    channels: np.ndarray,
    counts: np.ndarray,
    out: np.ndarray,
) -> None:
    """out (F,): PPVs of x (C, T). Every other kernel leaves out the positions that reach beyond the ends, where any are
    left."""
    steps = x.shape[1]
    convolved = np.empty(steps)
    feature, channel = 0, 0
    for d in range(len(dilations)):
        margin = LENGTH // 2 * dilations[d]
        for k in range(len(kernels)):
            own = channels[channel : channel + counts[d, k]]
            channel += counts[d, k]
            _convolve(x, kernels[k], dilations[d], own, convolved)
            inside = convolved
            if (d + k) % 2 == 1 and steps > 2 * margin:
                inside = convolved[margin : steps - margin]
            for _ in range(numbers[d]):
                positive = 0
                for value in inside:
                    if value > biases[feature]:
                        positive += 1
                out[feature] = positive / max(len(inside), 1)
                feature += 1
