"""The nearest neighbour under dynamic time warping: the classic of time series classification (Ding et al. 2008).

All channels warp together; the cost of a match is its squared distance (Sakoe and Chiba 1978; the dependent form of
Shokoohi-Yekta et al. 2017).
"""

from __future__ import annotations

from typing import Any

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
from seqlab.settings import ShareList

LEAST_DISTANCE = 1e-12  # squared; an equal sequence is as good as certain


class KnnDtw(DirectClassifier):
    """The class of the training sequence that is nearest. windows: candidates for how far a step may be matched away
    from its own place, as shares of the longer sequence; the least log loss on validation chooses.

    The probability of a class falls as a power of the distance of its nearest sequence; validation gives the power.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("classify",)
    objectives = ()

    def __init__(self, space: Space, classes: int, *, windows: ShareList):
        super().__init__(space, classes)
        if not windows or not all(0 <= share <= 1 for share in windows):
            raise UserError(f"windows: {windows}; expected shares from 0 to 1")
        self.windows = windows

    def fit(self, train: Sequences, valid: Sequences, prior: None = None) -> dict[str, Any]:
        self.labels, held_out = labels_of(train, "training", self.classes), labels_of(valid, "validation", self.classes)
        self._keep(standardised(train))
        other, found = standardised(valid), []
        for window in self.windows:
            self.window = window
            scores = self._scores(other)
            power = sharpness(scores, held_out)
            found.append((log_loss(log_softmax(power * scores), held_out), window, power))
        loss, self.window, self.power = min(found)
        return {
            "candidates": [{"window": window, "power": p, "valid_log_loss": one} for one, window, p in found],
            "chosen": {"window": self.window, "power": self.power, "valid_log_loss": loss},
        }

    def _keep(self, sequences: list[np.ndarray]) -> None:
        self.offsets = np.concatenate([[0], np.cumsum([len(x) for x in sequences])]).astype(np.int64)
        self.values = np.concatenate(sequences)

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        rows = [row[exists] for row, exists in zip(x, mask, strict=True)]
        return log_softmax(self.power * self._scores(rows))

    def _scores(self, sequences: list[np.ndarray]) -> np.ndarray:
        """(B, K): minus the logarithm of the distance to the nearest sequence of each class."""
        nearest = np.full((len(sequences), self.classes), np.inf)
        for row, x in enumerate(sequences):
            own = np.ascontiguousarray(x, np.float32)
            _nearest(own, self.values, self.offsets, self.labels, self.window, nearest[row])
        # An empty sequence is as far from every class.
        nearest = np.where(np.isfinite(nearest), nearest, 1.0)
        scores: np.ndarray = -np.log(np.maximum(nearest, LEAST_DISTANCE)) / 2
        return scores

    def state(self) -> dict[str, np.ndarray]:
        """The training sequences, the window and the power."""
        chosen = {"window": np.array([self.window]), "power": np.array([self.power])}
        return {"values": self.values, "offsets": self.offsets, "labels": self.labels, **chosen}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.values, self.offsets, self.labels = (np.array(state[name]) for name in ("values", "offsets", "labels"))
        self.window, self.power = float(state["window"].item()), float(state["power"].item())

    def flops(self, train: Sequences) -> float:
        """Two a number, to standardise it: nothing is estimated but on validation, and an answer costs what it costs."""
        return float(2 * train.values.size)

    @property
    def parameters(self) -> int:
        """All values that are kept, the window and the power."""
        return self.values.size + 2


def distance(a: np.ndarray, b: np.ndarray, window: float) -> float:
    """Squared dynamic-time-warping distance of (n, C) and (m, C); infinite where one is empty.

    A match may be at most ceil(window max(n, m)) steps, or |n - m| where that is more, from the diagonal.
    """
    a, b = (np.ascontiguousarray(x, np.float32) for x in (a, b))
    return float(_distance(a, b, window, np.inf, np.empty((2, len(b) + 1))))


@njit(cache=True)
def _distance(a: np.ndarray, b: np.ndarray, window: float, bound: float, rows: np.ndarray) -> float:
    """The least total cost of a warping path, or infinity once every path exceeds `bound`. rows: (2, >= m + 1)."""
    n, m = len(a), len(b)
    if n == 0 or m == 0:
        return np.inf
    reach = max(int(np.ceil(window * max(n, m))), abs(n - m))
    before, now = rows[0], rows[1]
    before[: m + 1] = np.inf
    before[0] = 0.0
    for i in range(1, n + 1):
        first, last = max(1, i - reach), min(m, i + reach)
        now[first - 1] = np.inf
        least = np.inf
        for j in range(first, last + 1):
            cost = 0.0
            for channel in range(a.shape[1]):
                gap = a[i - 1, channel] - b[j - 1, channel]
                cost += gap * gap
            now[j] = cost + min(before[j - 1], before[j], now[j - 1])
            least = min(least, now[j])
        if last < m:
            now[last + 1] = np.inf  # which the next row looks at
        if least > bound:
            return np.inf
        before, now = now, before
    total: float = before[m]
    return total


@njit(cache=True)
def _nearest(
    x: np.ndarray, values: np.ndarray, offsets: np.ndarray, labels: np.ndarray, window: float, nearest: np.ndarray
) -> None:
    """Lower nearest (K,) to the least distance of x to a kept sequence of each class."""
    rows = np.empty((2, np.diff(offsets).max() + 2))
    for i in range(len(labels)):
        other = values[offsets[i] : offsets[i + 1]]
        found = _distance(x, other, window, nearest[labels[i]], rows)
        nearest[labels[i]] = min(nearest[labels[i]], found)
