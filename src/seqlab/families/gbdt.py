"""Boosted trees on lags and differences (LightGBM; Ke et al. 2017), direct or recursive.

Trees cannot extrapolate, so what they predict is a change: from the value one period before the step that is forecast,
or from the last value where there is no period. Direct: one model of all horizons, which is told the horizon.
Recursive: one model of the next step, fed with its own forecasts. Validation chooses between them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from annotated_types import Ge, Len

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.direct import (
    DirectForecaster,
    Pairs,
    gathered,
    normalised,
    pairs,
    reaching,
    readable,
)
from seqlab.settings import Count, Fraction, Positive

if TYPE_CHECKING:
    import lightgbm

Way = Literal["direct", "recursive"]
PATIENCE = 20  # trees without gain on validation after which no more are grown
LEVELS = 0.5  # of a tree's depth, of which a row is counted: of two children only the smaller has its histogram made
SEASONS = 3  # periods back at which the step that is forecast is looked up


class GBDT(DirectForecaster):
    """windows: lengths, of which the longest that both splits have enough of is read; where none reads two periods,
    longer ones are candidates too, for values periods ago, not for more lags. ways: candidates. trees: the most;
    validation says how many are kept. leaves: of a tree, each of at least `leaf_rows` rows. features: share of them
    that a tree may use. rows: the most (window, horizon) pairs that are trained and validated on, evenly spread over
    all.
    """

    fitted_by = "closed_form"
    kinds = ("vectors",)
    tasks = ("forecast",)
    bound = ("period", "horizons")
    objectives = ()

    def __init__(
        self,
        space: Space,
        period: int,
        horizons: list[int],
        *,
        windows: Annotated[list[Annotated[int, Ge(3)]], Len(1)],
        ways: Annotated[list[Way], Len(1)],
        trees: Count,
        learning_rate: Positive,
        leaves: Annotated[int, Ge(2)],
        leaf_rows: Count,
        features: Fraction,
        rows: Count,
    ):
        super().__init__(space, period, horizons)
        self.windows, self.ways, self.trees, self.rows = reaching(windows, period), ways, trees, rows
        self.lags = max(windows)
        self.leaves, self.share = leaves, features
        self._read_last(self.windows[-1])
        self.settings: dict[str, Any] = {
            "objective": "l1",  # whose forecast is the median, as the paths' is
            "learning_rate": learning_rate,
            "num_leaves": leaves,
            "min_data_in_leaf": leaf_rows,
            "feature_fraction": features,
            "seed": 0,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Raises UserError when too few windows fit into either split."""
        self.carry(train)
        lengths, held_out = readable(train, valid, self.period, self.steps, self.windows, whole=False)
        self._read_last(lengths[-1])
        known, held_out = self._learned(train, valid, held_out)
        held_out = held_out.thinned(max(self.rows // self.steps, 1))
        if not len(known.windows):
            raise UserError(f"training split: no sequence has {self.window} steps, the window, and one after it")
        shape, future = held_out.read(self.window, self.period)
        tried, fitted = [], []
        for way in self.ways:
            self._take(way, self._boosted(way, known, held_out))
            residual = future - self.predict(0, shape, held_out.channel)
            loss = held_out.loss(residual, self.window, self.period)
            tried.append({"way": way, "trees": self.booster.num_trees(), "valid_loss": loss})
            fitted.append((self.booster, residual))
        best = min(range(len(tried)), key=lambda i: tried[i]["valid_loss"])
        self._take(self.ways[best], fitted[best][0])
        self.calibrate([(fitted[best][1], held_out.known)], self._covariance(known))
        return {"window": self.window, "windows": len(known.windows), "candidates": tried, "chosen": tried[best]}

    def _learned(self, train: Sequences, valid: Sequences, held_out: Pairs) -> tuple[Pairs, Pairs]:
        """The windows that change of both splits. held_out: those of the second one."""
        known = pairs(train, self.window, self.steps, whole=False)
        return gathered(part.moving(self.period) for part in known), held_out

    def _read_last(self, window: int) -> None:
        self.window = window
        self.lengths = self.needed = [window]

    def _take(self, way: Way, booster: lightgbm.Booster) -> None:
        self.way, self.booster = way, booster

    def _boosted(self, way: Way, train: Pairs, valid: Pairs) -> lightgbm.Booster:
        import lightgbm

        most = self.steps if way == "direct" else 1
        inputs, targets = self._examples(train, most)
        data = lightgbm.Dataset(inputs, targets, params={"verbose": -1})
        held_out = lightgbm.Dataset(*self._examples(valid, most), reference=data)
        stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
        grown = lightgbm.train(self.settings, data, self.trees, valid_sets=[held_out], callbacks=[stopping])
        # What was grown and what is read back from its text are then the same to the bit.
        return lightgbm.Booster(model_str=grown.model_to_string(num_iteration=grown.best_iteration))

    def _examples(self, found: Pairs, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Features and changes of at most `rows` known pairs of a window and a horizon up to `most`, evenly spread."""
        window, step = np.nonzero(found.known[:, :most])
        if len(window) > self.rows:
            taken = np.linspace(0, len(window) - 1, self.rows).astype(np.int64)
            window, step = window[taken], step[taken]
        shape, future = found.read(self.window, self.period)
        inputs, anchor = self._features(shape[window], step + 1, found.channel[window])
        return inputs, future[window, step] - anchor

    def _features(self, shape: np.ndarray, horizon: np.ndarray, channel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, F), and the value from which the change is counted, (N,). shape: (N, L), horizon: (N,), from 1."""
        season, rows = self.period, np.arange(len(shape))
        at = shape.shape[1] - 1 + horizon - season * -(-horizon // season)
        back = at[:, None] - season * np.arange(SEASONS)
        aligned = np.where(back >= 0, shape[rows[:, None], np.maximum(back, 0)], np.nan)
        recent = shape[:, ::-1]
        changes = [recent[:, 0] - recent[:, lag] for lag in (season, 2 * season) if lag < shape.shape[1]]
        means = [
            recent[:, k * season : (k + 1) * season].mean(axis=1)
            for k in range(SEASONS)
            if season > 1 and (k + 1) * season <= shape.shape[1]
        ]
        columns = [
            recent[:, 1 : self.lags],
            np.diff(aligned, axis=1),
            aligned,
            *(part[:, None] for part in (*changes, *means)),
        ]
        return np.concatenate([*columns, horizon[:, None], channel[:, None]], axis=1), np.nan_to_num(aligned[:, 0])

    def flops(self, train: Sequences) -> float:
        """Two additions into histograms a row, feature and counted level of a tree of balanced depth, and four
        operations a row and tree for gradient and score. Rows: the pairs of a window and a horizon that are learned."""
        ahead = self.steps if self.way == "direct" else 1
        pairs = self.space.size * ahead * int(np.maximum(train.lengths - self.window, 0).sum())
        depth, features = np.log2(self.leaves) * LEVELS, self.booster.num_feature() * self.share
        return float(min(pairs, self.rows) * self.booster.num_trees() * (2 * features * depth + 4))

    def predict(self, rung: int, shape: np.ndarray, channel: np.ndarray) -> np.ndarray:
        if self.way == "direct":
            steps = np.arange(1, self.steps + 1)
            inputs, anchor = self._features(
                np.repeat(shape, self.steps, axis=0), np.tile(steps, len(shape)), np.repeat(channel, self.steps)
            )
            paths: np.ndarray = (anchor + self._raw(inputs)).reshape(len(shape), self.steps)
            return paths
        grown = shape
        for _ in range(self.steps):
            read = normalised(grown[:, -self.window :], self.period)
            inputs, anchor = self._features(read.shape, np.ones(len(shape), np.int64), channel)
            grown = np.concatenate([grown, read.to_values((anchor + self._raw(inputs))[:, None])], axis=1)
        return grown[:, self.window :]

    def _raw(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self.booster.predict(inputs, num_threads=1))

    def _covariance(self, known: Pairs) -> np.ndarray:
        """(H, H), of the residuals of training windows with all steps known; none: steps are taken for independent."""
        whole = Pairs(*(part[known.known.all(axis=1)] for part in known)).thinned(max(self.rows // self.steps, 1))
        if len(whole.windows) < 2:
            return np.eye(self.steps)
        shape, future = whole.read(self.window, self.period)
        return np.atleast_2d(np.cov(future - self.predict(0, shape, whole.channel), rowvar=False))

    def state(self) -> dict[str, np.ndarray]:
        """The trees as LightGBM's text, its bytes."""
        text = np.frombuffer(self.booster.model_to_string().encode(), np.uint8)
        own = {"booster": text, "recursive": np.array([self.way == "recursive"]), "window": np.array([self.window])}
        return super().state() | own

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        import lightgbm

        super().load_state(state)
        self._read_last(int(state["window"].item()))
        text = state["booster"].tobytes().decode()
        self._take("recursive" if state["recursive"].item() else "direct", lightgbm.Booster(model_str=text))

    @property
    def parameters(self) -> int:
        """Leaves of all trees."""
        return sum(map(int, re.findall(r"^num_leaves=(\d+)", self.booster.model_to_string(), re.MULTILINE)))
