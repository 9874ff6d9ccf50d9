"""Interpolation of language models: P(x_t | x_<t) = sum over members m of w_m P_m(x_t | x_<t), weights from validation.

What counts know and what a network knows of the next symbol differ, so their mixture is better than either. Weights
depend on how certain each member is, the entropy of what it predicts, which is known before the symbol is: positions
fall into cells, one for each combination of the members' entropy bins, and EM estimates the weights of each cell with
those of all positions as prior (Jelinek and Mercer 1980; Bahl, Jelinek and Mercer 1983).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Len

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families import loading
from seqlab.families.base import Predictor
from seqlab.settings import Count, CountList, NonNegative, Positive

TOKENS = 1 << 12  # positions a batch: every member's whole distribution at each is held at once
MEMBERS = "members"  # folder of the members' models, inside the mixture's own


class Mixture:
    """members: families, each trained on the same target before. bins: candidates for how many bins of entropy each
    member has; cross-validation within the validation split chooses. concentration: positions that the prior of a
    cell's weights is worth. passes, tolerance: EM ends after so many, or when one gains less, in nats a position.
    """

    fitted_by = "mixture"
    kinds = ("symbols",)
    tasks = ("next_step",)
    objectives = ()  # it is its members that learn from a source

    def __init__(
        self,
        space: Space,
        *,
        members: Annotated[list[str], Len(2)],
        bins: CountList,
        concentration: Positive,
        passes: Count,
        tolerance: NonNegative,
    ):
        if len(set(members)) < len(members):
            raise UserError(f"members: {members}; expected different families")
        self.space, self.members, self.bins = space, members, bins
        self.concentration, self.passes, self.tolerance = concentration, passes, tolerance
        self.models: list[Predictor] = []

    @classmethod
    def assemble(cls, space: Space, classes: int | None, parameters: dict[str, Any]) -> Self:
        """The mixture without its members."""
        return cls(space, **parameters)

    def joined(self, models: Mapping[str, Predictor]) -> Self:
        """This mixture, of the trained models by family. Raises UserError when one is missing or of other symbols."""
        for name in self.members:
            if name not in models:
                raise UserError(f"members: no model of {name!r}; train it on the same target first")
            if models[name].space != self.space:
                found = models[name].space
                raise UserError(f"member {name!r} models {found.size} {found.kind}, expected {self.space.size} symbols")
        self.models = [models[name] for name in self.members]
        return self

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Any) -> Self:
        """The mixture with what was saved, its members from the folder beside its weights."""
        self.load_state(dict(tensors))
        return self.joined({name: loading.load(folder / MEMBERS / name, use) for name in self.members})

    def fit(self, valid: Sequences) -> dict[str, Any]:
        """Estimate the weights from the scored positions of `valid`. Returns a JSON-able report."""
        log_probs, entropies, sequence = self._read(valid)
        half = np.unique(sequence, return_inverse=True)[1] % 2 == 0
        if half.all():
            raise UserError("validation split: one sequence; cross-validation of a mixture needs two")
        losses = {}
        for bins in self.bins:
            parts = []
            for part in (half, ~half):
                self._estimate(log_probs[part], entropies[part], bins)
                parts.append(-self._mixed(log_probs[~part], entropies[~part]))
            losses[bins] = float(np.concatenate(parts).mean())
        chosen = min(losses, key=losses.__getitem__)
        self._estimate(log_probs, entropies, chosen)
        overall = em(log_probs, self.passes, self.tolerance)
        return {
            "candidates": [{"bins": bins, "valid_loss": loss} for bins, loss in losses.items()],
            "bins": chosen,
            "weights": dict(zip(self.members, overall.tolist(), strict=True)),
            "members_valid_loss": dict(zip(self.members, (-log_probs.mean(axis=0)).tolist(), strict=True)),
        }

    def _read(self, valid: Sequences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every scored position: (N, K) log-probabilities and entropies of the members, and its sequence (N,)."""
        parts = []
        for indices, batch in valid.batches(TOKENS):
            given = self._given(batch.x, batch.mask)[:, :, :-1]
            chosen = np.take_along_axis(given, np.broadcast_to(batch.x[..., None], (*given.shape[:3], 1)), -1)[..., 0]
            row, _ = np.nonzero(batch.scored)
            parts.append((chosen[:, batch.scored].T, entropy(given)[:, batch.scored].T, indices[row]))
        log_probs, entropies, sequence = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not len(sequence):
            raise UserError("validation split: no position is scored; a mixture has nothing to take its weights from")
        return log_probs, entropies, sequence

    def _estimate(self, log_probs: np.ndarray, entropies: np.ndarray, bins: int) -> None:
        self.edges = np.quantile(entropies, np.arange(1, bins) / bins, axis=0).T.reshape(len(self.members), bins - 1)
        overall = em(log_probs, self.passes, self.tolerance)
        cells = self._cells(entropies)
        self.log_weights = np.log(np.broadcast_to(overall, (bins ** len(self.members), len(overall))))
        self.log_weights = self.log_weights.copy()
        for cell in np.unique(cells):
            prior = self.concentration * overall
            self.log_weights[cell] = np.log(em(log_probs[cells == cell], self.passes, self.tolerance, prior))

    def _cells(self, entropies: np.ndarray) -> np.ndarray:
        """(..., K) entropies -> (...) the number of the cell."""
        cells = np.zeros(entropies.shape[:-1], np.int64)
        for member, edges in enumerate(self.edges):
            cells = cells * (len(edges) + 1) + np.searchsorted(edges, entropies[..., member])
        return cells

    def _mixed(self, log_probs: np.ndarray, entropies: np.ndarray) -> np.ndarray:
        """(N,) log of the mixture's probability, from those of the members, (N, K)."""
        return np.asarray(np.logaddexp.reduce(log_probs + self.log_weights[self._cells(entropies)], axis=1))

    def _given(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(K, B, T + 1, V): log P_m(. | x_<t)."""
        return np.stack([model.distribution(x, mask) for model in self.models])

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        given = self._given(x, mask)
        weights = self.log_weights[self._cells(np.moveaxis(entropy(given), 0, -1))]  # (B, T + 1, K)
        mixed = np.logaddexp.reduce(given + np.moveaxis(weights, -1, 0)[..., None], axis=0)
        exists = np.arange(x.shape[1] + 1) <= mask.sum(axis=1)[:, None]
        return np.where(exists[..., None], mixed, 0)

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        given = self.distribution(x, mask)[:, :-1]
        return np.where(mask, np.take_along_axis(given, np.where(mask, x, 0)[..., None], -1)[..., 0], 0)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError("symbols have no moments")

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """Symbol by symbol; each costs one pass of every member over all that stands before it."""
        rng = np.random.default_rng(seed)
        lengths = np.repeat(mask.sum(axis=1), samples)
        rows = np.arange(len(lengths))
        x = np.zeros((len(lengths), prefix.shape[1] + steps), np.int64)
        x[:, : prefix.shape[1]] = np.repeat(np.where(mask, prefix, 0), samples, axis=0)
        for step in range(steps):
            known = np.arange(prefix.shape[1] + step) < (lengths + step)[:, None]
            given = np.exp(self.distribution(x[:, : known.shape[1]], known)[rows, lengths + step])
            below = np.cumsum(given, axis=1)
            drawn = (below < rng.random((len(rows), 1)) * below[:, -1:]).sum(axis=1)
            x[rows, lengths + step] = np.minimum(drawn, self.space.size - 1)
        return x[rows[:, None], lengths[:, None] + np.arange(steps)].reshape(len(prefix), samples, steps)

    def state(self) -> dict[str, np.ndarray]:
        """edges (K, bins - 1) of the entropies, log_weights (bins^K, K). The members are models of their own."""
        return {"edges": self.edges, "log_weights": self.log_weights}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.edges, self.log_weights = np.array(state["edges"]), np.array(state["log_weights"])

    def flops(self, valid: Sequences) -> float:
        """Of estimating the weights from `valid`: the entropy of each member's V probabilities a position, four
        operations each, and twice EM's passes of six a member and position, for all cells together and for each. What
        the members cost, to train and to ask, is theirs.
        """
        each = 4 * self.space.size + 2 * 6 * self.passes
        return float(len(self.members) * len(valid.values) * each)

    @property
    def parameters(self) -> int:
        """Of the weights and the bins alone; the members have theirs."""
        rows, members = self.log_weights.shape
        return int(self.edges.size + rows * (members - 1))


def entropy(log_probs: np.ndarray) -> np.ndarray:
    """(..., V) -> (...), nats."""
    nats: np.ndarray = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    return nats


def em(log_probs: np.ndarray, passes: int, tolerance: float, prior: np.ndarray | float = 0.0) -> np.ndarray:
    """(K,) weights of the mixture with the largest likelihood of (N, K) members' log-probabilities.

    prior: (K,) positions that each member is worth beforehand. Every pass raises the likelihood, times that of the
    prior (Dempster, Laird and Rubin 1977).
    """
    pseudo = np.broadcast_to(prior, log_probs.shape[1:])
    weights = pseudo / pseudo.sum() if pseudo.any() else np.full(log_probs.shape[1], 1 / log_probs.shape[1])
    before = -np.inf
    for _ in range(passes):
        joint = log_probs + np.log(weights)
        total = np.logaddexp.reduce(joint, axis=1)
        counts = np.exp(joint - total[:, None]).sum(axis=0) + pseudo
        weights = counts / counts.sum()
        if total.mean() - before < tolerance:
            break
        before = total.mean()
    floored: np.ndarray = np.maximum(weights, np.finfo(float).tiny)
    return floored


def member_files(folders: Mapping[str, Path]) -> dict[str, bytes]:
    """The files of the members' folders under the names that they have in the mixture's own: a model is one folder."""
    return {
        f"{MEMBERS}/{name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
