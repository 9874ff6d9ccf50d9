"""How well a forecaster does on a held-out split: what chooses between ways to forecast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from seqlab.data.sequences import Sequences
from seqlab.errors import UserError

BATCH_STEPS = 1 << 16  # positions a batch

# (prefix (B, T, C), mask (B, T), steps) -> (B, steps, C)
PointForecast = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def backtest(point: PointForecast, valid: Sequences, period: int, steps: int) -> float:
    """Mean absolute error of the first `steps` held-out steps, scaled as MASE is, over all sequences and channels.

    The origin is a sequence's first held-out position; where all of it is scored, its middle. A channel that its naive
    forecast explains without error before the origin has no scale and is left out. Raises UserError when nothing is
    left.
    """
    errors: list[np.ndarray] = []
    for indices, batch in valid.batches(BATCH_STEPS):
        lengths = batch.mask.sum(axis=1)
        origin = lengths // 2 if valid.first is None else valid.first[indices]
        season = np.where(origin > period, period, 1)
        ahead = np.minimum(lengths - origin, steps)
        used = np.flatnonzero((origin > season) & (ahead > 0))
        if not len(used):
            continue
        x, origin, season, ahead = batch.x[used].astype(np.float64), origin[used], season[used], ahead[used]
        known = np.arange(origin.max()) < origin[:, None]
        prefix = np.where(known[..., None], batch.x[used, : known.shape[1]], 0)
        made = point(prefix, known, int(ahead.max()))
        for row in range(len(used)):
            held = slice(origin[row], origin[row] + ahead[row])
            past, future, there = x[row, : origin[row]], x[row, held], batch.scored[used[row], held]
            if not there.any():
                continue
            scale = np.abs(past[season[row] :] - past[: -season[row]]).mean(axis=0)
            some = scale > 0
            error = np.abs(made[row, : ahead[row]] - future)
            error = error if there.all() else error[there]
            errors.append(error.mean(axis=0)[some] / scale[some])
    found = np.concatenate([np.empty(0), *errors])
    if not len(found):
        raise UserError("validation split: no sequence has a past that varies and a scored step after it")
    return float(found.mean())
