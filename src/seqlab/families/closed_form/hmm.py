"""Hidden Markov model over symbols: exact likelihood by the scaled forward recursion, EM (Baum and Welch).

    P(h_1) = start,  P(h_t | h_{t-1}) = transition,  P(x_t | h_t) = emission,  h_t one of K states, never seen.

The scaled recursions are Rabiner's (1989). Every product of theirs, K by K for each symbol, is the same sum of eight
rows at a time, whose inner loop over states is vector instructions; so sequences are taken one after another as they
are, and none is padded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.em import Climb, EStep, Statistics, check_search, climb, total, weight_of
from seqlab.families.closed_form.family import Arcs, ClosedForm, check_source, check_symbols

# Sums may be reordered into vector registers; NaN and infinity keep their meaning.
REORDER = {"reassoc", "contract", "nsz", "arcp"}


class Counts(NamedTuple):
    """Expected numbers of events. start: (K,) of first states, transition: (K, K) from row to column, emission: (V, K)
    of symbols from states."""

    start: np.ndarray
    transition: np.ndarray
    emission: np.ndarray


class Chain(NamedTuple):
    """Probabilities, in the layout of `Counts`: `start` and rows of `transition` and columns of `emission` sum to 1."""

    start: np.ndarray
    transition: np.ndarray
    emission: np.ndarray

    @classmethod
    def of(cls, counts: Statistics) -> Chain:
        """The M-step."""
        start, transition, emission = counts
        return cls(
            start / start.sum(), transition / transition.sum(axis=1, keepdims=True), emission / emission.sum(axis=0)
        )


def expect(chain: Chain, sequences: Sequences) -> tuple[Counts, float]:
    """The E-step: expected counts, and the log-likelihood of all sequences in nats."""
    size, states = chain.emission.shape
    counts = Counts(np.zeros(states), np.zeros((states, states)), np.zeros((size, states)))
    values, offsets = _arrays(sequences, size)
    log_likelihood = _expect(*chain, np.ascontiguousarray(chain.transition.T), values, offsets, *counts)
    return counts, log_likelihood


def score(chain: Chain, sequences: Sequences) -> np.ndarray:
    """log P(x_t | x_<t) in nats of every symbol of `sequences.values`: (N,)."""
    log_prob: np.ndarray = np.log(_score(*chain, *_arrays(sequences, len(chain.emission))))
    return log_prob


def _arrays(sequences: Sequences, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Values and offsets as the kernels take them."""
    check_symbols(sequences.values, size)
    return np.array(sequences.values, np.int32), np.array(sequences.offsets, np.int64)


# ----------------------------------------------------------------------------------------------------------- kernels

# What others call becomes part of them: of two compiled copies of it, which may add in different orders, it would be up
# to what was compiled or loaded before which one is called.


@njit(cache=True, fastmath=REORDER, error_model="numpy", inline="always")
def _add_rows(out: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> None:
    """out += weights @ rows, eight rows a pass over `out`."""
    i = 0
    while i + 8 <= len(weights):
        w0, w1, w2, w3 = weights[i], weights[i + 1], weights[i + 2], weights[i + 3]
        w4, w5, w6, w7 = weights[i + 4], weights[i + 5], weights[i + 6], weights[i + 7]
        for j in range(len(out)):
            out[j] += (
                w0 * rows[i, j]
                + w1 * rows[i + 1, j]
                + w2 * rows[i + 2, j]
                + w3 * rows[i + 3, j]
                + w4 * rows[i + 4, j]
                + w5 * rows[i + 5, j]
                + w6 * rows[i + 6, j]
                + w7 * rows[i + 7, j]
            )
        i += 8
    while i < len(weights):
        w0 = weights[i]
        for j in range(len(out)):
            out[j] += w0 * rows[i, j]
        i += 1


@njit(cache=True, fastmath=REORDER, error_model="numpy", inline="always")
def _observe(state: np.ndarray, likelihood: np.ndarray) -> float:
    """Bayes' rule in place, from P(h | x_<t) to P(h | x_<=t); the return value is P(x_t | x_<t)."""
    evidence = 0.0
    for j in range(len(state)):
        state[j] *= likelihood[j]
        evidence += state[j]
    inverse = 1 / evidence
    for j in range(len(state)):
        state[j] *= inverse
    return evidence


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _expect(
    start: np.ndarray,
    transition: np.ndarray,
    emission: np.ndarray,
    transposed: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    first: np.ndarray,
    moves: np.ndarray,
    seen: np.ndarray,
) -> float:
    """Add expected counts to first (K,), moves (K, K) and seen (V, K); the log-likelihood."""
    states = len(start)
    longest = np.diff(offsets).max()
    filtered, message = np.empty((longest, states)), np.empty((longest, states))
    evidence, joint = np.empty(longest), np.zeros((states, states))
    log_likelihood = 0.0
    for s in range(len(offsets) - 1):
        x = values[offsets[s] : offsets[s + 1]]
        for t in range(len(x)):
            now = filtered[t]
            if t == 0:
                now[:] = start
            else:
                now[:] = 0
                _add_rows(now, filtered[t - 1], transition)
            evidence[t] = _observe(now, emission[x[t]])
            log_likelihood += np.log(evidence[t])
        backward = np.ones(states)
        for t in range(len(x) - 1, -1, -1):
            # message_t(h) = P(x_t, ..., x_T | h_t = h) / P(x_t, ..., x_T | x_<t)
            likelihood, count, inverse = emission[x[t]], seen[x[t]], 1 / evidence[t]
            for j in range(states):
                count[j] += filtered[t, j] * backward[j]
                message[t, j] = likelihood[j] * backward[j] * inverse
            backward[:] = 0
            _add_rows(backward, message[t], transposed)
        if len(x) > 0:
            for j in range(states):
                first[j] += start[j] * message[0, j]
        for t in range(1, len(x), 8):
            later = message[t : min(t + 8, len(x))]
            earlier = filtered[t - 1 : t - 1 + len(later)]
            for i in range(states):
                _add_rows(joint[i], earlier[:, i], later)
    for i in range(states):
        for j in range(states):
            moves[i, j] += transition[i, j] * joint[i, j]
    return log_likelihood


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _score(
    start: np.ndarray, transition: np.ndarray, emission: np.ndarray, values: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    """P(x_t | x_<t) of every symbol: (N,)."""
    out = np.empty(len(values))
    now, before = np.empty(len(start)), np.empty(len(start))
    for s in range(len(offsets) - 1):
        now[:] = start
        for t in range(offsets[s], offsets[s + 1]):
            if t > offsets[s]:
                now, before = before, now
                now[:] = 0
                _add_rows(now, before, transition)
            out[t] = _observe(now, emission[values[t]])
    return out


@njit(cache=True, fastmath=REORDER, error_model="numpy")
def _predict(
    start: np.ndarray,
    transition: np.ndarray,
    emission: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill out (B, T + 1, K) with P(h_t | x_<t) after each prefix of each sequence."""
    for s in range(len(offsets) - 1):
        filtered = start.copy()
        out[s, 0] = start
        for t in range(offsets[s + 1] - offsets[s]):
            filtered[:] = out[s, t]
            _observe(filtered, emission[values[offsets[s] + t]])
            out[s, t + 1] = 0
            _add_rows(out[s, t + 1], filtered, transition)


@njit(cache=True)
def _draw(cumulative: np.ndarray, u: float) -> int:
    """The event at u in [0, 1) of cumulative weights, which need not end at 1."""
    event: int = min(np.searchsorted(cumulative, u * cumulative[-1], side="right"), len(cumulative) - 1)
    return event


@njit(cache=True)
def _sample(states: np.ndarray, transition: np.ndarray, emission: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Paths (B, samples, steps) from cumulative states (B, K), rows of transition (K, K) and of emission (K, V)."""
    out: np.ndarray = np.empty(uniform.shape[:3], np.int64)
    for row in range(out.shape[0]):
        for sample in range(out.shape[1]):
            cumulative = states[row]
            for step in range(out.shape[2]):
                state = _draw(cumulative, uniform[row, sample, step, 0])
                out[row, sample, step] = _draw(emission[state], uniform[row, sample, step, 1])
                cumulative = transition[state]
    return out


# -------------------------------------------------------------------------------------------------------- the family


class HiddenMarkov(ClosedForm):
    """Hidden Markov model, its number of states K chosen on the validation split.

    states: candidates for K. restarts: EM starts on the first block from as many random points, drawn from `seed`, and
    the best goes on to the whole (Biernacki, Celeux and Govaert 2003). pseudo_count: of every event, the symmetric
    Dirichlet prior; it is above 0, so that nothing is impossible. block: symbols between two M-steps. passes,
    tolerance: EM ends after so many readings of the data, or with one that gains less in nats a symbol of the
    validation split. prior_weights: candidates for the source's share in the evidence (0: its parameters are where EM
    starts and no more, 1: the model is the source's): its expected counts are a Dirichlet prior, and K is its K.
    """

    counts: Counts
    passed: int  # over the data, by the run of EM that was chosen

    # With a source K is its K, so that weights alone are left to choose.
    candidates = ("prior_weights",)

    def __init__(
        self,
        space: Space,
        *,
        states: list[int],
        restarts: int,
        seed: int,
        pseudo_count: float,
        block: int,
        passes: int,
        tolerance: float,
        prior_weights: list[float],
    ):
        if not states or min(states) < 1:
            raise UserError(f"states: {states}; expected numbers of at least 1")
        if restarts < 1:
            raise UserError(f"restarts: {restarts}; expected at least 1")
        if not 0 < pseudo_count < np.inf:
            raise UserError(f"pseudo_count: {pseudo_count}; expected a finite number of events above 0")
        if block < 1:
            raise UserError(f"block: {block}; expected at least 1 symbol")
        check_search(prior_weights, passes, tolerance)
        self.space, self.states, self.restarts, self.seed = space, sorted(states), restarts, seed
        self.pseudo_count, self.block, self.passes, self.tolerance = pseudo_count, block, passes, tolerance
        self.prior_weights = sorted(prior_weights, reverse=True)

    # ---------------------------------------------------------------------------------------------------- fitting

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """EM on `train`, context before `first` included; K, restarts, passes and weights are chosen on `valid`."""
        if len(train.values) == 0:
            raise UserError("training split: no symbols")
        check_source(self.space, prior)
        check_symbols(train.values, self.space.size)
        held_out = valid.scored
        if not held_out.any():
            raise UserError("validation split: no scored position; where EM ends is chosen on it")
        # Every n-th sequence, so that each block is like the whole.
        number = min(max(len(train.values) // self.block, 1), len(train))
        parts = [train.subset(np.arange(i, len(train), number)) for i in range(number)]
        blocks: list[EStep] = [partial(_expected, part) for part in parts]
        run = partial(
            climb,
            score=lambda counts: float(score(Chain.of(counts), valid)[held_out].mean()),
            passes=self.passes,
            tolerance=self.tolerance,
        )
        if prior is None:
            search = self._from_scratch(run, blocks, np.bincount(train.values, minlength=self.space.size))
        else:
            search = self._from_source(run, blocks, len(train.values), prior.counts)
        candidates, ends = zip(*search, strict=True)
        best = int(np.argmax([end.score for end in ends]))
        self._take(Counts(*ends[best].statistics))
        self.passed = ends[best].passes
        report = [candidate | _summary(end) for candidate, end in zip(candidates, ends, strict=True)]
        return {**report[best], "candidates": report}

    def _from_scratch(
        self, run: Callable[..., Climb], blocks: list[EStep], occurrences: np.ndarray
    ) -> list[tuple[dict[str, Any], Climb]]:
        rng = np.random.default_rng(self.seed)
        symbols = occurrences + self.pseudo_count
        found = []
        for states in self.states:
            flat = self._flat(states)
            tried = []
            for _ in range(self.restarts):
                # Rows far from even: EM is slow to leave a start where all states are much alike.
                start = (
                    np.ones(states),
                    rng.standard_gamma(1, (states, states)) + 1,
                    symbols[:, None] * (rng.standard_gamma(0.1, (self.space.size, states)) + 1e-3),
                )
                tried.append(run(start, blocks=blocks[:1], prior=flat))
            best = max(tried, key=lambda end: end.score)
            end = run(best.statistics, blocks=blocks, prior=flat)
            found.append(({"states": states, "prior_weight": 0.0}, max(best, end, key=lambda one: one.score)))
        return found

    def _from_source(
        self, run: Callable[..., Climb], blocks: list[EStep], symbols: int, source: Counts
    ) -> list[tuple[dict[str, Any], Climb]]:
        """From the source's full share down, each share starting where the one above it ended."""
        flat = self._flat(len(source.start))
        now: Statistics = source
        found = []
        for share in self.prior_weights:
            if share == 1:
                end = run(source, blocks=[], prior=source)
            else:
                weight = weight_of(share, symbols, float(source.emission.sum()))
                end = run(now, blocks=blocks, prior=total([(1.0, flat), (weight, source)]))
            now = end.statistics
            found.append(({"states": len(source.start), "prior_weight": share}, end))
        return found

    def _flat(self, states: int) -> Counts:
        shapes = (states,), (states, states), (self.space.size, states)
        return Counts(*(np.full(shape, self.pseudo_count) for shape in shapes))

    def _take(self, counts: Counts) -> None:
        self.counts, self.chain = counts, Chain.of(counts)

    # ------------------------------------------------------------------------------------------------- prediction

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        out = np.zeros(mask.shape)
        out[mask] = score(self.chain, _ragged(x, mask))
        return out

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        exists = np.arange(mask.shape[1] + 1) <= mask.sum(axis=1)[:, None]
        out = np.zeros((*exists.shape, self.space.size))
        out[exists] = np.log(self._predict(x, mask)[exists] @ self.chain.emission.T)
        return out

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        states = self._predict(prefix, mask)[np.arange(len(prefix)), mask.sum(axis=1)]
        uniform = np.random.default_rng(seed).random((len(prefix), samples, steps, 2))
        first, moves, symbols = (
            np.cumsum(part, axis=1)
            for part in (states, self.chain.transition, np.ascontiguousarray(self.chain.emission.T))
        )
        return _sample(first, moves, symbols, uniform)

    def _predict(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T + 1, K): P(h_t | x_<t) after each prefix, 0 where there is none."""
        out = np.zeros((len(x), x.shape[1] + 1, len(self.chain.start)))
        _predict(*self.chain, *_arrays(_ragged(x, mask), self.space.size), out)
        return out

    @property
    def begin(self) -> int:
        return len(self.chain.start)

    def arcs(self, states: np.ndarray, symbols: np.ndarray) -> Arcs:
        """As many ways on as there are hidden states, each of which may have emitted the symbol."""
        check_symbols(symbols, self.space.size)
        number = len(self.chain.start)
        moves = np.vstack([self.chain.transition, self.chain.start])
        weights = moves[states] * self.chain.emission[symbols]
        return Arcs(
            np.repeat(np.arange(len(states)), number),
            np.log(weights).ravel(),
            np.tile(np.arange(number), len(states)),
        )

    # ------------------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, np.ndarray]:
        """Expected counts, priors included; probabilities are their proportions."""
        return self.counts._asdict()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self._take(Counts(**{name: np.array(state[name]) for name in Counts._fields}))

    def flops(self, train: Sequences) -> float:
        """For every symbol and pass three products with K by K numbers, 6 K² (forward, backward, and the moves from
        state to state), and 8 K for what is observed and scaled. Starts on one block are not counted.
        """
        states = len(self.counts.start)
        return float(self.passed * len(train.values) * (6 * states**2 + 8 * states))

    @property
    def parameters(self) -> int:
        """Every distribution sums to one."""
        states = len(self.counts.start)
        return states - 1 + states * (states - 1) + states * (self.space.size - 1)


def _summary(end: Climb) -> dict[str, Any]:
    return {"passes": end.passes, "valid_log_prob": end.score}


def _expected(sequences: Sequences, counts: Statistics) -> Statistics:
    return expect(Chain.of(counts), sequences)[0]


def _ragged(x: np.ndarray, mask: np.ndarray) -> Sequences:
    return Sequences(x[mask], np.concatenate([[0], np.cumsum(mask.sum(axis=1))]))
