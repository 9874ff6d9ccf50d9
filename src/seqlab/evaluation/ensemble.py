"""Two ensembles of a table's systems: the median of all, and a greedy selection on validation.

Forecasts are joined quantile by quantile (Vincent 1912; Lichtendahl, Grushka-Cockayne and Winkler 2013), class
probabilities by their mean or median. The selection adds, with replacement, whichever system lowers the validation loss
of the average most, and keeps the round that was best (Caruana, Niculescu-Mizil, Crew and Ksikes 2004): its weights are
multiples of one over that round's number. Both are rows like any other; what they cost is what their members cost.

The loss of forecasts is the scaled quantile loss: twice the pinball loss, averaged over LEVELS, in units of the error
of the seasonal naive forecast, so that a large series counts as much as a small one; near and far steps are selected
for by themselves. That of classes is the log loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqlab.errors import UserError
from seqlab.evaluation.leaderboard import MeanCost
from seqlab.evaluation.metrics import LEVELS, Forecast
from seqlab.evaluation.scores import Predictions

CHUNK = 1 << 23  # numbers of candidates held at a time


@dataclass(frozen=True)
class Selection:
    """What greedy selection chose: weights above zero, that sum to one. losses: of each round on validation; best: the
    single system of least validation loss, and that loss.
    """

    weights: dict[str, float]
    losses: list[float]
    best: str
    best_loss: float

    @property
    def loss(self) -> float:
        """On validation."""
        return min(self.losses)


def greedy(names: Sequence[str], loss: Callable[[np.ndarray], np.ndarray], rounds: int) -> Selection:
    """Of K named systems. loss: (M, K) weights, rows that sum to one -> (M,) validation losses of the averages."""
    count = len(names)
    chosen = np.zeros(count, np.int64)
    losses, kept = [], chosen
    single = loss(np.eye(count))
    for size in range(1, rounds + 1):
        tried = (chosen + np.eye(count, dtype=np.int64)) / size
        found = single if size == 1 else loss(tried)
        added = int(np.argmin(found))
        chosen = chosen + (np.arange(count) == added)
        losses.append(float(found[added]))
        if losses[-1] == min(losses):
            kept = chosen
    weights = {name: float(n / kept.sum()) for name, n in zip(names, kept, strict=True) if n}
    best = int(np.argmin(single))
    return Selection(weights, losses, names[best], float(single[best]))


# Forecasts


def median_forecast(members: Mapping[str, Sequence[Forecast]]) -> list[Forecast]:
    """The median over the members of each quantile. Raises UserError when they forecast different origins."""
    return [replace(own[0], quantiles=np.median([one.quantiles for one in own], axis=0)) for own in _aligned(members)]


def weighted_forecast(members: Mapping[str, Sequence[Forecast]], selections: Mapping[int, Selection]) -> list[Forecast]:
    """The weighted mean over the members of each quantile; selections: of the steps up to each number, rising, the last
    of all later ones too. Raises UserError as `median_forecast` does.
    """
    chosen = sorted({name for one in selections.values() for name in one.weights})
    shares = np.array([[one.weights.get(name, 0.0) for name in chosen] for one in selections.values()])
    ends = np.array(list(selections))
    found = []
    for own in _aligned({name: members[name] for name in chosen}):
        group = np.minimum(np.searchsorted(ends, np.arange(1, len(own[0].truth) + 1)), len(ends) - 1)
        quantiles = np.einsum("hk,klhc->lhc", shares[group], np.stack([one.quantiles for one in own]))
        found.append(replace(own[0], quantiles=quantiles))
    return found


def select_forecasts(
    members: Mapping[str, Sequence[Forecast]], first: np.ndarray, horizons: Sequence[int], rounds: int
) -> dict[int, Selection]:
    """Greedy selection on validation forecasts, the same of each member, for each group of steps by itself: up to the
    first horizon, from there to the second, ...; by the last step of the group, without groups that nothing reaches.

    first: (S,), the first held-out position of each series; earlier truths, steps that were not recorded, and channels
    that the naive forecast explains without error, do not count. Raises UserError when the members forecast different
    origins, or nothing is held out.
    """
    names = sorted(members)
    aligned = _aligned({name: members[name] for name in names})
    found = {}
    for start, end in zip([0, *horizons], horizons, strict=False):
        if (loss := _forecast_loss(aligned, first, start, end)) is not None:
            found[end] = greedy(names, loss, rounds)
    if not found:
        raise UserError("ensemble: no validation forecast has a held-out truth")
    return found


def _forecast_loss(
    aligned: Sequence[tuple[Forecast, ...]], first: np.ndarray, start: int, end: int
) -> Callable[[np.ndarray], np.ndarray] | None:
    """The scaled quantile loss of steps start + 1 to `end`, of weights (M, K); None where nothing is held out."""
    truths, quantiles, scales = [], [], []
    for own in aligned:
        one = own[0]
        step = np.arange(len(one.truth))
        held = (step >= start) & (step < end) & (one.origin + step >= first[one.series])
        counted = held[:, None] & (one.absolute > 0) & ~np.isnan(one.truth)
        truths.append(one.truth[counted])
        scales.append(np.broadcast_to(one.absolute, one.truth.shape)[counted])
        quantiles.append(np.stack([member.quantiles[:, counted] for member in own]))
    truth, scale = np.concatenate(truths), np.concatenate(scales)
    if not len(truth):
        return None
    stacked = np.concatenate(quantiles, axis=2).reshape(len(aligned[0]), -1)  # (K, L N)
    level = np.array(LEVELS)[:, None]

    def loss(tried: np.ndarray) -> np.ndarray:
        rows = max(1, CHUNK // stacked.shape[1])
        parts = []
        for part in np.split(tried, range(rows, len(tried), rows)):
            error = (part @ stacked).reshape(len(part), len(LEVELS), -1)
            np.subtract(truth, error, out=error)
            error /= scale
            over = (level - 1) * error
            error *= level
            parts.append(2 * np.maximum(error, over, out=error).mean((1, 2)))
        return np.concatenate(parts)

    return loss


def _aligned(members: Mapping[str, Sequence[Forecast]]) -> list[tuple[Forecast, ...]]:
    """The members' forecasts of each origin together."""
    keys = {name: [(one.series, one.origin, one.truth.shape) for one in own] for name, own in members.items()}
    (reference, expected), *others = keys.items()
    for name, found in others:
        if found != expected:
            raise UserError(
                f"ensemble: {name} has {len(found)} forecasts, {reference} has {len(expected)}, and they are not of the"
                " same series, origins and steps; evaluate both again on the same data"
            )
    return list(zip(*members.values(), strict=True))


# Classes


def median_classes(members: Mapping[str, Predictions]) -> Predictions:
    """The median over the members of each class's probability, made to sum to one."""
    first = _same_examples(members)
    return replace(first, log_probs=_normalised(np.median([np.exp(one.log_probs) for one in members.values()], axis=0)))


def weighted_classes(members: Mapping[str, Predictions], weights: Mapping[str, float]) -> Predictions:
    """The weighted mean over the members of each class's probability."""
    chosen = {name: members[name] for name in weights}
    first = _same_examples(chosen)
    probs = [np.exp(one.log_probs) for one in chosen.values()]
    return replace(first, log_probs=_normalised(np.tensordot(list(weights.values()), probs, axes=1)))


def select_classes(members: Mapping[str, Predictions], rounds: int) -> Selection:
    """Greedy selection on validation answers to the same examples. Raises UserError when they are not the same."""
    names = sorted(members)
    first = _same_examples(members)
    rows = np.arange(len(first.labels))
    # (K, E), of the true class alone: the log loss of an average needs no other.
    truth = np.stack([np.exp(members[name].log_probs[rows, first.labels]) for name in names])

    def loss(tried: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):  # all that were chosen rule the truth out: infinitely bad
            return np.asarray(-np.log(tried @ truth).mean(1))

    return greedy(names, loss, rounds)


def _same_examples(members: Mapping[str, Predictions]) -> Predictions:
    (reference, first), *others = members.items()
    for name, own in others:
        same = np.array_equal(own.example, first.example) and np.array_equal(own.labels, first.labels)
        if not same or own.log_probs.shape != first.log_probs.shape:
            raise UserError(
                f"ensemble: {name} answers {len(own.example)} examples, {reference} {len(first.example)}, and they are"
                " not the same; evaluate both again on the same data"
            )
    return first


def _normalised(probs: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probs / probs.sum(1, keepdims=True)))


# What they cost


def cost(members: Sequence[MeanCost]) -> MeanCost:
    """Of an ensemble: its members are trained and judged one after another."""
    seconds = sum(one.seconds for one in members)
    symbols = sum(one.seconds * one.symbols_per_second for one in members)
    peak = max(one.peak_memory_mb for one in members)
    judging = [one.judging_seconds for one in members]
    known = [one for one in judging if one is not None]
    return MeanCost(
        seconds, symbols / seconds if seconds else 0.0, peak, sum(known) if len(known) == len(judging) else None
    )
