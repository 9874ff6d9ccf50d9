"""An n-gram model without a longest n: interpolated Kneser-Ney over all suffixes of the past, in linear memory.

A sequence begins with a symbol $ that is never predicted. For a context h and h' without its oldest symbol,

    P(w|h) = (c(hw) - D_k(c(hw))) / c(h) + λ(h) P(w|h'),        k = |hw|,        P(w|nothing before h') = 1/V,

where c(hw) is the number of distinct symbols (or $) that precede hw, or the number of sequences that begin so if hw
starts with $; c(h) = sum_w c(hw); λ(h) = sum_w D_k(c(hw)) / c(h). The recursion starts from the longest suffix of the
past that was followed by anything. This is `ngram.KneserNey` of an order beyond every sequence, and the minimal-seating
approximation of the sequence memoizer (Wood et al. 2009, 2011; Gasthaus and Teh 2010).

The distinct contexts of a sequence of T symbols number T²/2, but those with the same end positions in the text are
alike: the classes are the states of its suffix automaton (Blumer et al. 1985), fewer than two a symbol, with fewer
than three transitions a symbol. A state's longest member is preceded by different symbols; its other members by one
symbol alone, so that their counts are all 1 and their discounts need no table:

    P(w|h) = (1 - D_k(1)) / m [w follows h] + D_k(1) P(w|h'),        m = number of symbols that follow h.

The suffix link leads from a state to the longest context of the next shorter class.

Unrolled over the members of a class longer than the longest of the next class, whose P be Q, this is 1/m + D (Q - 1/m)
where w follows and D Q where it does not, D being the product of their D_k(1). So one probability a transition and one
weight a state, of what a symbol that never followed takes from the next class, are all that a query needs: it walks
down the links until there is a transition.

With a source as prior, the model is a mixture with the source's own: (1 - β) P(w|h) + β S(w|h), where S may have a
source itself. Every text has an automaton of its own.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import ClosedForm, check_source, check_symbols
from seqlab.families.closed_form.ngram import discounts_of

# ---------------------------------------------------------------------------------------------------- the automaton

ROOT, BEGIN = 0, 1  # the states of the empty context and of $
ABSENT = -1


class Automaton(NamedTuple):
    """The suffix automaton of all sequences of a text, $ before each.

    States are ordered by length, so that the short contexts, which most queries visit, lie together. Of each state, all
    (states,) int32: link, the state of the longest context of the next shorter class; length, of the longest context
    (and $); seen, c(hw) of the longest context as an n-gram hw. Its transitions are first[s] up to first[s + 1], by
    symbol: symbol (transitions,) unsigned, target (transitions,) int32.
    """

    link: np.ndarray
    length: np.ndarray
    seen: np.ndarray
    first: np.ndarray
    symbol: np.ndarray
    target: np.ndarray


def build(sequences: Sequences, size: int) -> Automaton:
    """Of symbols out of `size`. Raises UserError when a sequence holds another symbol or there are too many."""
    check_symbols(sequences.values, size)
    number = len(sequences.values)
    if 3 * number + 2 >= np.iinfo(np.int32).max:
        raise UserError(f"{number} symbols: too many for an automaton; expected under {np.iinfo(np.int32).max // 3}")
    values = np.array(sequences.values, np.min_scalar_type(max(size - 1, 0)))
    return Automaton(*_build(values, np.array(sequences.offsets, np.int64), size))


@njit(cache=True)
def _build(values: np.ndarray, offsets: np.ndarray, size: int) -> tuple[np.ndarray, ...]:
    """Online construction (Blumer et al. 1985), one symbol at a time; transitions are linked lists meanwhile."""
    most = 2 * len(values) + 2
    link, length, seen = np.empty(most, np.int32), np.empty(most, np.int32), np.zeros(most, np.int32)
    head = np.full(most, np.int32(ABSENT))  # of each state's list; the root, which has the longest, has a table
    table = np.full(size, np.int32(ABSENT))
    symbol = np.empty(3 * len(values) + 1, values.dtype)
    target, following = np.empty(len(symbol), np.int32), np.empty(len(symbol), np.int32)
    link[ROOT], length[ROOT] = ABSENT, 0
    link[BEGIN], length[BEGIN] = ROOT, 1
    states, edges = 2, 0
    for row in range(len(offsets) - 1):
        last = BEGIN
        for w in values[offsets[row] : offsets[row + 1]]:
            edge = _listed(head, symbol, following, last, w)
            if edge != ABSENT:  # another sequence began so
                last = target[edge]
                seen[last] += 1
                continue
            new = states
            states += 1
            length[new], seen[new] = length[last] + 1, 1
            p, last = last, new
            while p != ROOT and edge == ABSENT:
                symbol[edges], target[edges], following[edges] = w, new, head[p]
                head[p] = edges
                edges += 1
                p = link[p]
                edge = _listed(head, symbol, following, p, w)
            q = table[w] if p == ROOT else target[edge]
            if q == ABSENT:
                table[w] = new
                q = ROOT
            elif length[q] != length[p] + 1:
                # The shorter members of q now occur where its longest does not: they become a class of their own.
                clone = states
                states += 1
                length[clone], link[clone], link[q] = length[p] + 1, link[q], clone
                edges = _copy(head, symbol, target, following, q, clone, edges)
                _redirect(link, head, table, symbol, target, following, p, w, clone)
                q = clone
            link[new] = q
    _count_preceding(link[:states], seen)
    order = np.argsort(length[:states], kind="mergesort")
    place = np.empty(states, np.int32)
    place[order] = np.arange(states)
    links = link[order]
    links[1:] = place[links[1:]]
    lists = _packed(head, table, symbol[:edges], target, following, order, place)
    return links, length[order], seen[order], *lists


@njit(cache=True)
def _copy(
    head: np.ndarray, symbol: np.ndarray, target: np.ndarray, following: np.ndarray, state: int, clone: int, edges: int
) -> int:
    """Give `clone` the transitions of a state; how many transitions there are then in all."""
    edge = head[state]
    while edge != ABSENT:
        symbol[edges], target[edges], following[edges] = symbol[edge], target[edge], head[clone]
        head[clone] = edges
        edges += 1
        edge = following[edge]
    return edges


@njit(cache=True)
def _redirect(
    link: np.ndarray,
    head: np.ndarray,
    table: np.ndarray,
    symbol: np.ndarray,
    target: np.ndarray,
    following: np.ndarray,
    p: int,
    w: int,
    clone: int,
) -> None:
    """Lead p, and its suffixes that went to the same state by w, to `clone`."""
    q = table[w] if p == ROOT else target[_listed(head, symbol, following, p, w)]
    while p != ROOT:
        edge = _listed(head, symbol, following, p, w)
        if target[edge] != q:
            return
        target[edge] = clone
        p = link[p]
    if table[w] == q:
        table[w] = clone


@njit(cache=True)
def _count_preceding(link: np.ndarray, seen: np.ndarray) -> None:
    """Complete `seen`, which holds how many sequences begin so: what precedes another context are its links' states."""
    begins = seen[: len(link)] > 0
    for state in range(2, len(link)):
        if not begins[link[state]]:
            seen[link[state]] += 1
    seen[ROOT] = seen[BEGIN] = 0


@njit(cache=True)
def _listed(head: np.ndarray, symbol: np.ndarray, following: np.ndarray, state: int, w: int) -> int:
    """The transition of a state by w, or ABSENT."""
    edge = head[state]
    while edge != ABSENT and symbol[edge] != w:
        edge = following[edge]
    return edge


@njit(cache=True)
def _packed(
    head: np.ndarray,
    table: np.ndarray,
    symbol: np.ndarray,
    target: np.ndarray,
    following: np.ndarray,
    order: np.ndarray,
    place: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`first`, `symbol` and `target` of an Automaton from lists; state order[i] is renamed to i = place[order[i]]."""
    total = len(symbol) + np.count_nonzero(table != ABSENT)
    first = np.empty(len(order) + 1, np.int32)
    packed_symbol, packed_target = np.empty(total, symbol.dtype), np.empty(total, np.int32)
    end = 0
    for w in range(len(table)):
        if table[w] != ABSENT:
            packed_symbol[end], packed_target[end] = w, place[table[w]]
            end += 1
    first[ROOT] = 0
    for state in range(1, len(order)):
        first[state] = end
        edge = head[order[state]]
        while edge != ABSENT:
            slot = end  # insertion sort, since most lists are short
            while slot > first[state] and packed_symbol[slot - 1] > symbol[edge]:
                packed_symbol[slot], packed_target[slot] = packed_symbol[slot - 1], packed_target[slot - 1]
                slot -= 1
            packed_symbol[slot], packed_target[slot] = symbol[edge], place[target[edge]]
            end += 1
            edge = following[edge]
    first[len(order)] = end
    return first, packed_symbol, packed_target


# ------------------------------------------------------------------------------------------------ its probabilities


class Text(NamedTuple):
    """The model of one text: an automaton whose counts have become probabilities.

    link, length, first, symbol, target: as in Automaton. probability: (transitions,) float32, P(symbol | the state's
    longest context). missed: (states,) float32, the logarithm of what that context leaves of the probability after the
    longest context of the next class, for a symbol that never followed; of the root, the logarithm of that symbol's
    probability. off: (lengths + 1,), the sum of log D_k(1) over the lengths k up to each.
    """

    link: np.ndarray
    length: np.ndarray
    first: np.ndarray
    symbol: np.ndarray
    target: np.ndarray
    probability: np.ndarray
    missed: np.ndarray
    off: np.ndarray

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self)


def ngrams(automaton: Automaton) -> np.ndarray:
    """How many n-grams hw of each length there are, by their c(hw): (lengths + 1, 5) for 1, 2, 3, 4 and 5 or more."""
    link, length, seen = automaton.link[2:], automaton.length[2:], automaton.seen[2:]
    lengths = int(automaton.length[-1]) + 1
    found = np.bincount(length * 5 + np.clip(seen, 1, 5) - 1, minlength=lengths * 5).reshape(lengths, 5)
    # The shorter members of a class have a count of 1, at every length from the link's on.
    starts = np.bincount(automaton.length[link] + 1, minlength=lengths)
    found[:, 0] += np.cumsum(starts - np.bincount(length, minlength=lengths))
    return found


def weigh(automaton: Automaton, size: int) -> Text:
    """The Kneser-Ney model of a text over `size` symbols."""
    taken = np.array([discounts_of(*counts[:4].tolist()) for counts in ngrams(automaton)])
    off = np.concatenate([[0.0], np.cumsum(np.log(taken[1:, 1]))])
    link, length, seen, first, symbol, target = automaton
    probability, missed = _weigh(link, length, seen, first, symbol, target, taken, off, size)
    # Single precision is a relative error of 6e-8, and a query then reads a third less memory.
    return Text(link, length, first, symbol, target, probability.astype(np.float32), missed.astype(np.float32), off)


@njit(cache=True)
def _weigh(
    link: np.ndarray,
    length: np.ndarray,
    seen: np.ndarray,
    first: np.ndarray,
    symbol: np.ndarray,
    target: np.ndarray,
    taken: np.ndarray,
    off: np.ndarray,
    size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`probability` and `missed` of a Text; taken: (lengths + 1, 4), the discounts D_k of counts 0 to 3."""
    probability, missed = np.empty(len(symbol)), np.zeros(len(link))
    for state in range(len(link)):  # a state's link is shorter, so it comes first
        edges = range(first[state], first[state + 1])
        if len(edges) == 0:
            continue
        total, freed = 0, 0.0
        for edge in edges:
            c = _count(length, seen, target[edge], length[state] + 1)
            total += c
            freed += taken[length[state] + 1, min(c, 3)]
        backoff = freed / total
        if state == ROOT:
            shorter = 0.0
            missed[state] = math.log(backoff / size)
        else:
            shorter = off[length[state]] - off[length[link[state]] + 1]
            missed[state] = math.log(backoff) + shorter
        for edge in edges:
            base = 1 / size
            if state != ROOT:
                longest = probability[_edge(first, symbol, link[state], symbol[edge])]
                base = _shrunk(longest, 1 / len(edges), shorter)
            c = _count(length, seen, target[edge], length[state] + 1)
            probability[edge] = (c - taken[length[state] + 1, min(c, 3)]) / total + backoff * base
    return probability, missed


@njit(cache=True)
def _count(length: np.ndarray, seen: np.ndarray, state: int, of_length: int) -> int:
    """c(hw) of the n-gram of a length in the class `state`."""
    return seen[state] if length[state] == of_length else 1


@njit(cache=True)
def _shrunk(probability: float, share: float, log_weight: float) -> float:
    """The mean of the longest context of the next class, by its weight, and of the symbols that follow, one share each:
    P(w|h) of a shorter member h of a class."""
    return share + math.exp(log_weight) * (probability - share)


@njit(cache=True)
def _edge(first: np.ndarray, symbol: np.ndarray, state: int, w: int) -> int:
    """The transition of a state by w, or ABSENT."""
    low, end = first[state], first[state + 1]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if symbol[middle] < w:
            low = middle + 1
        else:
            high = middle
    return low if low < end and symbol[low] == w else ABSENT


@njit(cache=True)
def _followed(text: Text, state: int, matched: int, edge: int) -> float:
    """log P of the symbol of a transition after the member of a length of a class."""
    probability = text.probability[edge]
    if matched < text.length[state]:
        link = text.link[state]
        longest = text.probability[_edge(text.first, text.symbol, link, text.symbol[edge])]
        share = 1 / (text.first[state + 1] - text.first[state])
        return math.log(_shrunk(longest, share, text.off[matched + 1] - text.off[text.length[link] + 1]))
    return math.log(probability)


@njit(cache=True)
def _missed(text: Text, state: int, matched: int) -> float:
    """The logarithm of what the member of a length of a class leaves to a symbol that never followed."""
    if matched == text.length[state]:
        return text.missed[state]
    if text.first[state] == text.first[state + 1]:  # nothing ever followed, so nothing is taken off
        return 0.0
    return text.off[matched + 1] - text.off[text.length[text.link[state]] + 1]


@njit(cache=True)
def _query(text: Text, state: int, matched: int, w: int) -> tuple[float, int, int]:
    """log P(w | past), and the class and length of the longest suffix of the past with w after it.

    `state` and `matched` are those of the past; they begin as BEGIN and 1.
    """
    edge = _edge(text.first, text.symbol, state, w)
    if edge != ABSENT:
        return _followed(text, state, matched, edge), text.target[edge], matched + 1
    log_p = _missed(text, state, matched)
    while edge == ABSENT:
        if state == ROOT:
            return log_p, ROOT, 0
        state = text.link[state]
        edge = _edge(text.first, text.symbol, state, w)
        if edge == ABSENT:
            log_p += text.missed[state]
    return log_p + math.log(text.probability[edge]), text.target[edge], text.length[state] + 1


@njit(cache=True)
def _score(text: Text, values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log P(x_t | x_<t) at every position of ragged sequences, and the length of the longest suffix of each past."""
    out, known = np.empty(len(values)), np.empty(len(values), np.int32)
    for row in range(len(offsets) - 1):
        state, matched = BEGIN, 1
        for i in range(offsets[row], offsets[row + 1]):
            known[i] = matched
            out[i], state, matched = _query(text, state, matched, values[i])
    return out, known


@njit(cache=True)
def _advance(text: Text, states: np.ndarray, matched: np.ndarray, symbols: np.ndarray) -> None:
    """Move (B,) pasts on by a symbol each."""
    for row in range(len(states)):
        _, states[row], matched[row] = _query(text, states[row], matched[row], symbols[row])


UNSET = 1.0  # no logarithm of a probability


@njit(cache=True)
def _fill(text: Text, states: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> None:
    """Write log P(. | past) of all V symbols to out (B, V), from the longest suffix to the empty one."""
    out[:] = UNSET
    for row in range(len(states)):
        state, matched, missed = states[row], lengths[row], 0.0
        while True:
            for edge in range(text.first[state], text.first[state + 1]):
                if out[row, text.symbol[edge]] == UNSET:
                    out[row, text.symbol[edge]] = missed + _followed(text, state, matched, edge)
            missed += _missed(text, state, matched)
            if state == ROOT:
                break
            state = text.link[state]
            matched = text.length[state]
        for w in range(out.shape[1]):
            if out[row, w] == UNSET:
                out[row, w] = missed


# ------------------------------------------------------------------------------------------------------- the family

CURVE_POINTS = 40  # of the lengths of the past, spaced evenly in their logarithm


class SuffixModel(ClosedForm):
    """Kneser-Ney without a longest n, with a source as prior.

    mixings: candidates for β, the source's share in the mixture (0 ignores the source), chosen by the log-likelihood of
    the validation split.
    """

    texts: list[Text]  # the oldest source first
    weights: np.ndarray  # (texts,), β of each; the oldest has no source

    candidates = ("mixings",)

    def __init__(self, space: Space, *, mixings: list[float]):
        if not mixings or not all(0 <= mixing <= 1 for mixing in mixings):
            raise UserError(f"mixings: {mixings}; expected shares from 0 to 1")
        self.space, self.mixings = space, mixings

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Index `train`; choose β on `valid`, which a single candidate does without."""
        if len(train.values) == 0:
            raise UserError("training split: no symbols")
        check_source(self.space, prior)
        mixings = [0.0] if prior is None else self.mixings
        scored = valid.scored
        if not scored.any() and len(mixings) > 1:
            raise UserError("validation split: no scored position; the mixing of the source is chosen on it")
        automaton = build(train, self.space.size)
        own = weigh(automaton, self.space.size)
        after_own, known = _evaluate(own, valid, self.space.size)
        after_source = prior.score(valid) if prior is not None and any(mixings) else after_own
        candidates: list[dict[str, Any]] = []
        for mixing in mixings:
            log_p = _mixed(after_source, after_own, mixing)[scored]
            candidates.append({"mixing": mixing, "valid_log_prob": float(log_p.mean()) if len(log_p) else None})
        chosen = max(candidates, key=lambda candidate: candidate["valid_log_prob"] or 0.0)["mixing"]
        # At β = 0 the source has no part in the model, and need not be kept.
        used = prior if prior is not None and chosen else None
        self.texts = [own] if used is None else [*used.texts, own]
        self.weights = np.zeros(1) if used is None else np.append(used.weights, chosen)
        return {
            "mixing": chosen,
            "candidates": candidates,
            "states": len(own.link),
            "transitions": len(own.target),
            "bytes": own.bytes,
            "bytes_a_symbol": own.bytes / len(train.values),
            "growth": _growth(automaton, known[scored], _past(valid)[scored]),
        }

    def score(self, sequences: Sequences) -> np.ndarray:
        """log P(x_t | x_<t) in nats of every symbol of `sequences.values`: (N,)."""
        return self._joint([_evaluate(text, sequences, self.space.size)[0] for text in self.texts])

    def _joint(self, parts: list[np.ndarray]) -> np.ndarray:
        """The log probabilities of all texts together, from those of each."""
        joint = parts[0]
        for own, weight in zip(parts[1:], self.weights[1:], strict=True):
            joint = _mixed(joint, own, weight)
        return joint

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
        out = np.zeros(mask.shape)
        out[mask] = self.score(Sequences(x[mask], offsets))
        return out

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        check_symbols(x[mask], self.space.size)
        batch, steps = x.shape
        known = np.where(mask, x, 0)
        out = np.empty((batch, steps + 1, self.space.size))
        pasts = self._begin(batch)
        for t in range(steps + 1):
            out[:, t] = self._after(pasts)
            if t < steps:
                self._advance(pasts, known[:, t])
        out[:, 1:][~mask] = 0
        return out

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        check_symbols(prefix[mask], self.space.size)
        batch, known = len(prefix), mask.sum(axis=1)
        pasts = self._begin(batch)
        for t in range(prefix.shape[1]):
            rows = np.flatnonzero(known > t)
            moved = [(states[rows], lengths[rows]) for states, lengths in pasts]
            self._advance(moved, prefix[rows, t])
            for (states, lengths), (after, after_lengths) in zip(pasts, moved, strict=True):
                states[rows], lengths[rows] = after, after_lengths
        pasts = [(np.repeat(states, samples), np.repeat(lengths, samples)) for states, lengths in pasts]
        uniform = np.random.default_rng(seed).random((batch * samples, steps))
        paths = np.empty((batch * samples, steps), np.int64)
        for step in range(steps):
            cumulative = np.cumsum(np.exp(self._after(pasts)), axis=1)
            # The sum is 1 up to rounding alone.
            below = cumulative <= uniform[:, step, None] * cumulative[:, -1:]
            paths[:, step] = np.minimum(below.sum(axis=1), self.space.size - 1)
            self._advance(pasts, paths[:, step])
        return paths.reshape(batch, samples, steps)

    def _begin(self, batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Empty pasts: the class and the length of each one's longest suffix, two of (B,) for each text."""
        return [(np.full(batch, np.int32(BEGIN)), np.ones(batch, np.int32)) for _ in self.texts]

    def _advance(self, pasts: list[tuple[np.ndarray, np.ndarray]], symbols: np.ndarray) -> None:
        for text, (states, lengths) in zip(self.texts, pasts, strict=True):
            _advance(text, states, lengths, np.array(symbols, np.int64))

    def _after(self, pasts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """log P(. | past): (B, V)."""
        parts = [np.empty((len(pasts[0][0]), self.space.size)) for _ in self.texts]
        for text, (states, lengths), part in zip(self.texts, pasts, parts, strict=True):
            _fill(text, states, lengths, part)
        return self._joint(parts)

    def state(self) -> dict[str, np.ndarray]:
        parts = {f"{i}.{name}": part for i, text in enumerate(self.texts) for name, part in text._asdict().items()}
        return {"weights": self.weights, **parts}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.weights = state["weights"]
        # Numba would compile everything anew for arrays that cannot be written.
        self.texts = [
            Text(*(np.require(state[f"{i}.{name}"], requirements="W") for name in Text._fields))
            for i in range(len(self.weights))
        ]

    def flops(self, train: Sequences) -> float:
        """A symbol makes at most two states and three transitions (Blumer et al. 1985): an operation to make each, and
        one to give it its share of probability."""
        return 10.0 * len(train.values)

    @property
    def parameters(self) -> int:
        """Counts of the transitions and, for each text, three discounts a length, and the mixings."""
        return sum(len(text.target) + 3 * (len(text.off) - 1) for text in self.texts) + len(self.texts) - 1


def _mixed(source: np.ndarray, own: np.ndarray, share: float) -> np.ndarray:
    """log((1 - share) e^own + share e^source)."""
    if share in (0, 1):
        return source if share else own
    return np.logaddexp(np.log(share) + source, np.log1p(-share) + own)


def _growth(automaton: Automaton, known: np.ndarray, past: np.ndarray) -> dict[str, Any]:
    """What a table of the whole past would cost and need, by the length t of the past ($ counts as a symbol).

    parameters: distinct n-grams of t symbols and one more in the training text; bytes: of the tables of all lengths up
    to t at one count an n-gram; seen_once: the share of n-grams that only one symbol (or $) was seen before, or one
    sequence; known_pasts: the share of validation positions, among those with as long a past, whose last t symbols the
    training text holds.
    """
    counts = ngrams(automaton)
    distinct = counts.sum(axis=1)
    total = np.cumsum(distinct)
    lengths = np.unique(np.geomspace(1, max(len(distinct) - 2, 1), CURVE_POINTS).astype(int))
    lengths = lengths[lengths + 1 < len(distinct)]
    reaching = [int(np.count_nonzero(past >= t)) for t in lengths]
    matching = [int(np.count_nonzero(known >= t)) for t in lengths]
    return {
        "t": lengths.tolist(),
        "counts": {
            "parameters": distinct[lengths + 1].tolist(),
            "bytes": (total[lengths + 1] * automaton.seen.itemsize).tolist(),
        },
        "shares": {
            "seen_once": (counts[lengths + 1, 0] / distinct[lengths + 1]).tolist(),
            "known_pasts": [m / r if r else None for m, r in zip(matching, reaching, strict=True)],
        },
    }


def _past(sequences: Sequences) -> np.ndarray:
    """(N,) how many symbols, $ among them, precede each."""
    return 1 + np.arange(len(sequences.values)) - np.repeat(sequences.offsets[:-1], sequences.lengths)


def _evaluate(text: Text, sequences: Sequences, size: int) -> tuple[np.ndarray, np.ndarray]:
    """log P(x_t | x_<t) of every symbol, and the length of the longest suffix of its past in the text: (N,) each."""
    check_symbols(sequences.values, size)
    return _score(text, np.array(sequences.values, np.int32), np.array(sequences.offsets, np.int64))
