"""A model over symbols in closed form as a labeller: counts of pairs (symbol, class), and a search for the classes.

The pair of symbol x and class y out of K is the symbol x K + y of an alphabet K times as large, on which the family
models P(x_1, y_1, x_2, y_2, ...) as it models any sequence. What is asked is P(y | x). The classes are not known, so
the model, a weighted automaton, is in one of several states; where these meet again their histories are joined, so that
nothing is pruned and both answers are exact:

* `label_log_prob`: each position's class whatever the others are, by forward-backward (Baum et al. 1970).
* `labels`: of an n-gram model, in which the classes tell the states (the contexts that agree with x, K^(order - 1) at
  most), the likeliest labelling, by Viterbi's algorithm (1967). Of a hidden Markov model that would be the greatest of
  sums over hidden paths, which is NP-hard to find (Lyngsø and Pedersen 2002): there, each position's likeliest class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.base import Use
from seqlab.families.closed_form.family import ClosedForm


class Labeller:
    """family: a class in closed form whose models of symbols are automata. parameters: of its constructor."""

    def __init__(self, family: type[ClosedForm], space: Space, classes: int, parameters: dict[str, Any]):
        if not space.symbols:
            raise UserError(f"labels in closed form are counted with symbols; the domain has {space.kind}")
        self.space, self.classes = space, classes
        self.model: ClosedForm = family.assemble(Space("symbols", space.size * classes), None, parameters)

    def fit(self, train: Sequences, valid: Sequences, prior: Labeller | None = None) -> dict[str, Any]:
        """Count pairs; orders and weights are chosen by their likelihood on `valid`. See the family's own fit."""
        own = None if prior is None else prior.model
        return self.model.fit(self.paired(train), self.paired(valid), own)

    def paired(self, sequences: Sequences) -> Sequences:
        """Sequences of pairs."""
        assert sequences.marks is not None  # which the task checks
        pairs = sequences.values.astype(np.int64) * self.classes + sequences.marks
        return replace(sequences, values=pairs.astype(np.uint32), marks=None)

    def labels(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T) int64, 0 on padding."""
        found = np.zeros(mask.shape, np.int64)
        for row, length in enumerate(mask.sum(1)):
            steps = lattice(self.model, x[row, :length], self.classes)
            told = all(step.told for step in steps)
            found[row, :length] = likeliest(steps) if told else marginals(steps, self.classes).argmax(1)
        return found

    def label_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T, K) float64, 0 on padding."""
        found = np.zeros((*mask.shape, self.classes))
        for row, length in enumerate(mask.sum(1)):
            found[row, :length] = marginals(lattice(self.model, x[row, :length], self.classes), self.classes)
        return found

    def state(self) -> dict[str, np.ndarray]:
        return self.model.state()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.model.load_state(state)

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Self:
        """The labeller with what was saved."""
        self.load_state(dict(tensors))
        return self

    def flops(self, train: Sequences) -> float | None:
        """As the family counts them, of the pairs."""
        return self.model.flops(self.paired(train))

    @property
    def parameters(self) -> int:
        return self.model.parameters


class Step(NamedTuple):
    """All ways over one position. origin, target: (E,) places among the states before and after it, of which there are
    `states` after. label: (E,) the class it takes. log_prob: (E,). told: whether origin and class tell the target."""

    origin: np.ndarray
    label: np.ndarray
    target: np.ndarray
    log_prob: np.ndarray
    states: int
    told: bool


def lattice(model: ClosedForm, x: np.ndarray, classes: int) -> list[Step]:
    """Every labelling of x (T,) as paths through the model's states, joined where they meet."""
    states = np.array([model.begin])
    steps = []
    for symbol in x.tolist():
        origin, label = np.repeat(np.arange(len(states)), classes), np.tile(np.arange(classes), len(states))
        arcs = model.arcs(states[origin], symbol * classes + label)
        states, target = np.unique(arcs.state, return_inverse=True)
        told = len(arcs.row) == len(origin)
        steps.append(Step(origin[arcs.row], label[arcs.row], target, arcs.log_prob, len(states), told))
    return steps


def likeliest(steps: list[Step]) -> np.ndarray:
    """(T,) int64: the classes of the best path; of equal ones the first, by state and then by class."""
    best, chosen = np.zeros(1), []
    for step in steps:
        reached = best[step.origin] + step.log_prob
        order = np.lexsort((-reached, step.target))
        first = order[np.searchsorted(step.target[order], np.arange(step.states))]
        chosen.append(first)
        best = reached[first]
    found = np.zeros(len(steps), np.int64)
    place = int(best.argmax())
    for t in range(len(steps) - 1, -1, -1):
        arc = chosen[t][place]
        found[t], place = steps[t].label[arc], int(steps[t].origin[arc])
    return found


def marginals(steps: list[Step], classes: int) -> np.ndarray:
    """(T, K): log P(class of each position | x)."""
    before = [np.zeros(1)]
    for step in steps:
        before.append(_sums(before[-1][step.origin] + step.log_prob, step.target, step.states))
    found = np.zeros((len(steps), classes))
    after = np.zeros(len(before[-1]))
    for t in range(len(steps) - 1, -1, -1):
        step = steps[t]
        rest = step.log_prob + after[step.target]
        found[t] = _sums(before[t][step.origin] + rest, step.label, classes)
        after = _sums(rest, step.origin, len(before[t]))
    return found - np.logaddexp.reduce(found, axis=1, keepdims=True)


def _sums(logs: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """(groups,): the logarithm of the sum of exp(logs) in each group, none of them empty."""
    top = np.full(groups, -np.inf)
    np.maximum.at(top, group, logs)
    return top + np.log(np.bincount(group, np.exp(logs - top[group]), groups))
