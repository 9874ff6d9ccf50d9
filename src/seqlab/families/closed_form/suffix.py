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

With a source as prior, the base measure mixes the shorter context with the source's model S of the same context,

    P(w|h) = (c(hw) - D_k(c(hw))) / c(h) + λ(h) [(1 - β) P(w|h') + β S(w|h)],

as in `ngram`; a source may have a source itself. Every text has an automaton of its own, and a query walks all of them
side by side, from the empty context to the longest that any of them has seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import ClosedForm
from seqlab.families.closed_form.ngram import _check_symbols, _scored, discounts

# ---------------------------------------------------------------------------------------------------- the automaton

ROOT, BEGIN = 0, 1  # the states of the empty context and of $
ABSENT = -1


class Automaton(NamedTuple):
    """The suffix automaton of all sequences of a text, $ before each.

    Of each state, all (states,) int32: link, the state of the longest context of the next shorter class; length, of
    the longest context (and $); seen, c(hw) of the longest context as an n-gram hw. Its transitions are
    first[s] up to first[s + 1], by symbol: symbol (transitions,) unsigned, target (transitions,) int32.
    """

    link: np.ndarray
    length: np.ndarray
    seen: np.ndarray
    first: np.ndarray
    symbol: np.ndarray
    target: np.ndarray

    @property
    def bytes(self) -> int:
        return sum(np.asarray(part).nbytes for part in self)


def build(sequences: Sequences, size: int) -> Automaton:
    """Of symbols out of `size`. Raises UserError when a sequence holds another symbol or there are too many."""
    _check_symbols(sequences.values, size)
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
    lists = _packed(head[:states], table, symbol[:edges], target, following)
    return link[:states].copy(), length[:states].copy(), seen[:states].copy(), *lists


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
    head: np.ndarray, table: np.ndarray, symbol: np.ndarray, target: np.ndarray, following: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`first`, `symbol` and `target` of an Automaton from lists."""
    total = len(symbol) + np.count_nonzero(table != ABSENT)
    first = np.empty(len(head) + 1, np.int32)
    packed_symbol, packed_target = np.empty(total, symbol.dtype), np.empty(total, np.int32)
    end = 0
    for w in range(len(table)):
        if table[w] != ABSENT:
            packed_symbol[end], packed_target[end] = w, table[w]
            end += 1
    first[ROOT] = 0
    for state in range(1, len(head)):
        first[state] = end
        edge = head[state]
        while edge != ABSENT:
            place = end  # insertion sort, since most lists are short
            while place > first[state] and packed_symbol[place - 1] > symbol[edge]:
                packed_symbol[place], packed_target[place] = packed_symbol[place - 1], packed_target[place - 1]
                place -= 1
            packed_symbol[place], packed_target[place] = symbol[edge], target[edge]
            end += 1
            edge = following[edge]
    first[len(head)] = end
    return first, packed_symbol, packed_target


# ------------------------------------------------------------------------------------------------ its probabilities


class Model(NamedTuple):
    """The automata of L layers (a model and the sources behind it, the oldest first), one after the other.

    roots: (L,), the states of the empty contexts; $ comes next. link, length, seen, first, symbol, target: as in
    Automaton. total: (states,) int32, c(h) of each state's longest context; backoff: (states,), its λ(h). taken:
    (L, lengths, 4), the discounts D_k of counts 0 to 3 in each layer. weights: (L,), β of each layer.
    """

    size: int
    roots: np.ndarray
    link: np.ndarray
    length: np.ndarray
    seen: np.ndarray
    first: np.ndarray
    symbol: np.ndarray
    target: np.ndarray
    total: np.ndarray
    backoff: np.ndarray
    taken: np.ndarray
    weights: np.ndarray

    @property
    def bytes(self) -> int:
        return sum(np.asarray(part).nbytes for part in self)


def ngrams(automaton: Automaton) -> np.ndarray:
    """How many n-grams hw of each length there are, by their c(hw): (lengths + 1, 5) for 1, 2, 3, 4 and 5 or more."""
    link, length, seen = automaton.link[2:], automaton.length[2:], automaton.seen[2:]
    found = np.zeros((int(automaton.length.max()) + 2, 5), np.int64)
    # The shorter members of a class have a count of 1, at every length from the link's on.
    np.add.at(found[:, 0], automaton.length[link] + 1, 1)
    np.add.at(found[:, 0], length, -1)
    found[:, 0] = np.cumsum(found[:, 0])
    np.add.at(found, (length, np.clip(seen, 1, 5) - 1), 1)
    return found[:-1]


@njit(cache=True)
def _weigh(
    link: np.ndarray, length: np.ndarray, seen: np.ndarray, first: np.ndarray, target: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`total` and `backoff` of one layer with the discounts `taken`."""
    total, backoff = np.zeros(len(link), np.int32), np.ones(len(link))
    for state in range(len(link)):
        freed = 0.0
        for edge in range(first[state], first[state + 1]):
            c = _count(length, seen, target[edge], length[state] + 1)
            total[state] += c
            freed += taken[length[state] + 1, min(c, 3)]
        if total[state] > 0:
            backoff[state] = freed / total[state]
    return total, backoff


@njit(cache=True)
def _count(length: np.ndarray, seen: np.ndarray, state: int, of_length: int) -> int:
    """c(hw) of the n-gram of a length in the class `state`."""
    return seen[state] if length[state] == of_length else 1


@njit(cache=True)
def _edge(model: Model, state: int, w: int) -> int:
    """The transition of a state by w, or ABSENT."""
    low, end = model.first[state], model.first[state + 1]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if model.symbol[middle] < w:
            low = middle + 1
        else:
            high = middle
    return low if low < end and model.symbol[low] == w else ABSENT


@njit(cache=True)
def _begin(model: Model, states: np.ndarray, matched: np.ndarray) -> None:
    """The longest suffix of an empty past in each layer: its class, and how long it is."""
    for layer in range(len(states)):
        states[layer], matched[layer] = model.roots[layer] + BEGIN, 1


@njit(cache=True)
def _advance(model: Model, states: np.ndarray, matched: np.ndarray, w: int) -> None:
    """The longest suffix of the past with w after it."""
    for layer in range(len(states)):
        state = states[layer]
        edge = _edge(model, state, w)
        while edge == ABSENT and state != model.roots[layer]:
            state = model.link[state]
            matched[layer] = model.length[state]
            edge = _edge(model, state, w)
        if edge != ABSENT:
            state = model.target[edge]
            matched[layer] += 1
        states[layer] = state


@njit(cache=True)
def _path(model: Model, states: np.ndarray, path: np.ndarray, at: np.ndarray) -> None:
    """The classes of all suffixes of the past, from the longest to the root: path (L, depth); at: (L,), the root."""
    for layer in range(len(states)):
        state, depth = states[layer], 0
        path[layer, 0] = state
        while state != model.roots[layer]:
            state = model.link[state]
            depth += 1
            path[layer, depth] = state
        at[layer] = depth


@njit(cache=True)
def _probability(
    model: Model, states: np.ndarray, matched: np.ndarray, w: int, path: np.ndarray, at: np.ndarray, p: np.ndarray
) -> float:
    """P(w | past), from the empty context to the longest. path (L, depth), at (L,) and p (L,) are room to work in."""
    layers = len(p)
    _path(model, states, path, at)
    edges = np.empty(layers, np.int32)
    for layer in range(layers):
        p[layer] = 1 / model.size
        edges[layer] = _edge(model, model.roots[layer], w)
    for length in range(matched.max() + 1):
        followed = False
        for layer in range(layers):
            own, backoff = 0.0, 1.0
            if length <= matched[layer]:
                if length > model.length[path[layer, at[layer]]]:
                    at[layer] -= 1
                    if edges[layer] != ABSENT:  # what never followed a context never follows a longer one
                        edges[layer] = _edge(model, path[layer, at[layer]], w)
                state = path[layer, at[layer]]
                if model.total[state] > 0:
                    followed = True
                    backoff = _backoff(model, layer, state, length)
                    if edges[layer] != ABSENT:
                        own = _own(model, layer, state, length, edges[layer])
            base = p[layer]
            if followed and layer > 0:
                base += model.weights[layer] * (p[layer - 1] - base)
            p[layer] = own + backoff * base
    return p[-1]


@njit(cache=True)
def _distribution(
    model: Model, states: np.ndarray, matched: np.ndarray, path: np.ndarray, at: np.ndarray, p: np.ndarray
) -> None:
    """Write P(. | past) of all symbols and layers to p (L, V)."""
    layers, size = p.shape
    _path(model, states, path, at)
    p[:] = 1 / model.size
    for length in range(matched.max() + 1):
        followed = False
        for layer in range(layers):
            backoff = 1.0
            if length > matched[layer]:
                state = ABSENT
            else:
                if length > model.length[path[layer, at[layer]]]:
                    at[layer] -= 1
                state = path[layer, at[layer]]
                if model.total[state] > 0:
                    followed = True
                    backoff = _backoff(model, layer, state, length)
            mixing = model.weights[layer] if followed and layer > 0 else 0.0
            for w in range(size):
                base = p[layer, w]
                if mixing > 0:
                    base += mixing * (p[layer - 1, w] - base)
                p[layer, w] = backoff * base
            if state != ABSENT:
                for edge in range(model.first[state], model.first[state + 1]):
                    p[layer, model.symbol[edge]] += _own(model, layer, state, length, edge)


@njit(cache=True)
def _backoff(model: Model, layer: int, state: int, length: int) -> float:
    """λ of the context of a length in a class, that something followed."""
    return model.backoff[state] if length == model.length[state] else model.taken[layer, length + 1, 1]


@njit(cache=True)
def _own(model: Model, layer: int, state: int, length: int, edge: int) -> float:
    """(c(hw) - D(c(hw))) / c(h) of the context of a length in a class and a symbol that followed it."""
    if length < model.length[state]:
        return (1 - model.taken[layer, length + 1, 1]) / (model.first[state + 1] - model.first[state])
    c = _count(model.length, model.seen, model.target[edge], length + 1)
    return (c - model.taken[layer, length + 1, min(c, 3)]) / model.total[state]


@njit(cache=True)
def _score(model: Model, values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(x_t | x_<t) at every position of ragged sequences, and the length of the longest suffix known in any layer."""
    layers, deepest = model.taken.shape[:2]
    states, matched, at = np.empty(layers, np.int32), np.empty(layers, np.int32), np.empty(layers, np.int32)
    path, p = np.empty((layers, deepest + 1), np.int32), np.empty(layers)
    out, known = np.empty(len(values)), np.empty(len(values), np.int32)
    for row in range(len(offsets) - 1):
        _begin(model, states, matched)
        for i in range(offsets[row], offsets[row + 1]):
            known[i] = matched.max()
            out[i] = _probability(model, states, matched, values[i], path, at, p)
            _advance(model, states, matched, values[i])
    return out, known


@njit(cache=True)
def _distribute(model: Model, x: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> None:
    """Write P(. | x_<t) of all V symbols to out (B, T + 1, V) for t = 0, ..., length."""
    layers, deepest = model.taken.shape[:2]
    states, matched, at = np.empty(layers, np.int32), np.empty(layers, np.int32), np.empty(layers, np.int32)
    path, p = np.empty((layers, deepest + 1), np.int32), np.empty((layers, model.size))
    for row in range(len(x)):
        _begin(model, states, matched)
        for t in range(lengths[row] + 1):
            if t > 0:
                _advance(model, states, matched, x[row, t - 1])
            _distribution(model, states, matched, path, at, p)
            out[row, t] = p[-1]


@njit(cache=True)
def _sample(model: Model, prefix: np.ndarray, lengths: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Paths (B, samples, steps), one uniform number a symbol."""
    layers, deepest = model.taken.shape[:2]
    states, matched, at = np.empty(layers, np.int32), np.empty(layers, np.int32), np.empty(layers, np.int32)
    path, p = np.empty((layers, deepest + 1), np.int32), np.empty((layers, model.size))
    out = np.empty(uniform.shape, np.int64)
    for row in range(len(prefix)):
        _begin(model, states, matched)
        for t in range(lengths[row]):
            _advance(model, states, matched, prefix[row, t])
        after, after_matched = states.copy(), matched.copy()
        for sample in range(uniform.shape[1]):
            states[:], matched[:] = after, after_matched
            for step in range(uniform.shape[2]):
                _distribution(model, states, matched, path, at, p)
                cumulative = np.cumsum(p[-1])
                # The sum is 1 up to rounding alone.
                u = uniform[row, sample, step] * cumulative[-1]
                w = min(np.searchsorted(cumulative, u, side="right"), model.size - 1)
                out[row, sample, step] = w
                _advance(model, states, matched, w)
    return out


def stack(texts: list[Automaton], weights: np.ndarray, size: int) -> Model:
    """The model of texts (the oldest source first), each with the discounts of its own counts."""
    roots = np.cumsum([0, *(len(text.link) for text in texts)])
    edges = np.cumsum([0, *(len(text.target) for text in texts)])
    if max(roots[-1], edges[-1]) > np.iinfo(np.int32).max:
        raise UserError(f"{edges[-1]} transitions: too many to number; expected at most {np.iinfo(np.int32).max}")
    taken = np.ones((len(texts), max(int(text.length.max()) for text in texts) + 1, 4))
    weighed = []
    for text, row in zip(texts, taken, strict=True):
        for length, counts in enumerate(ngrams(text)[1:], start=1):
            row[length] = discounts(np.repeat(np.arange(1, 6), counts))
        weighed.append(_weigh(text.link, text.length, text.seen, text.first, text.target, row))
    places = list(zip(texts, roots[:-1].astype(np.int32), edges[:-1].astype(np.int32), strict=True))
    return Model(
        size=size,
        roots=np.array(roots[:-1], np.int32),
        link=np.concatenate([text.link + root for text, root, _ in places]),
        length=np.concatenate([text.length for text in texts]),
        seen=np.concatenate([text.seen for text in texts]),
        first=np.concatenate([*(text.first[:-1] + edge for text, _, edge in places), edges[-1:].astype(np.int32)]),
        symbol=np.concatenate([text.symbol for text in texts]),
        target=np.concatenate([text.target + root for text, root, _ in places]),
        total=np.concatenate([total for total, _ in weighed]),
        backoff=np.concatenate([backoff for _, backoff in weighed]),
        taken=taken,
        weights=weights,
    )


def unstack(model: Model) -> list[Automaton]:
    """The automata that were stacked, copied."""
    found = []
    for root, end in zip(model.roots, [*model.roots[1:], len(model.link)], strict=True):
        states, edges = slice(root, end), slice(model.first[root], model.first[end])
        parts = (model.link[states] - root, model.length[states].copy(), model.seen[states].copy())
        first = model.first[root : end + 1] - model.first[root]
        found.append(Automaton(*parts, first, model.symbol[edges].copy(), model.target[edges] - root))
    return found


# ------------------------------------------------------------------------------------------------------- the family

CURVE_POINTS = 40  # of the lengths of the past, spaced evenly in their logarithm


class SuffixModel(ClosedForm):
    """Kneser-Ney without a longest n, with a source as prior.

    mixings: candidates for β, the source's share in the base measure at every length of the past (0 ignores the
    source), chosen by the log-likelihood of the validation split. The shares of all lengths compound, so that a β that
    is good for n-grams of a few symbols is too large here.
    """

    texts: list[Sequences]  # the oldest source first
    model: Model

    def __init__(self, space: Space, *, mixings: list[float]):
        if not mixings or not all(0 <= mixing <= 1 for mixing in mixings):
            raise UserError(f"mixings: {mixings}; expected shares from 0 to 1")
        self.space, self.mixings = space, mixings

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Index `train`; choose β on `valid`, which a single candidate does without."""
        if len(train.values) == 0:
            raise UserError("training split: no symbols")
        if prior is not None and prior.space != self.space:
            raise UserError(
                f"the source has {prior.space.size} symbols, the target {self.space.size}; expected the same"
            )
        mixings = [0.0] if prior is None else self.mixings
        scored = _scored(valid)
        if not scored.any() and len(mixings) > 1:
            raise UserError("validation split: no scored position; the mixing of the source is chosen on it")
        own = build(train, self.space.size)
        alone = stack([own], np.zeros(1), self.space.size)
        joint = alone
        if prior is not None and any(mixings):
            joint = stack([*unstack(prior.model), own], np.append(prior.model.weights, 0.0), self.space.size)
        candidates: list[dict[str, Any]] = []
        best = -np.inf
        for mixing in mixings:
            # At β = 0 the source has no part in the model, and need not be kept.
            model = joint._replace(weights=np.append(joint.weights[:-1], mixing)) if mixing else alone
            p, matched = _evaluate(model, valid)
            fitted = float(np.log(p[scored]).mean()) if scored.any() else None
            candidates.append({"mixing": mixing, "valid_log_prob": fitted})
            if fitted is None or fitted > best:
                best, self.model, known = -np.inf if fitted is None else fitted, model, matched
        sources = prior.texts if prior is not None and len(self.model.roots) > 1 else []
        self.texts = [*sources, Sequences(np.array(train.values, own.symbol.dtype), np.array(train.offsets, np.int64))]
        return {
            "mixing": float(self.model.weights[-1]),
            "candidates": candidates,
            "states": len(self.model.link),
            "transitions": len(self.model.target),
            "bytes": self.model.bytes,
            "bytes_a_symbol": self.model.bytes / sum(len(text.values) for text in self.texts),
            "growth": _growth(own, known[scored], _past(valid)[scored]),
        }

    def score(self, sequences: Sequences) -> np.ndarray:
        """log P(x_t | x_<t) in nats of every symbol of `sequences.values`: (N,)."""
        return np.log(_evaluate(self.model, sequences)[0])

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
        out = np.zeros(mask.shape)
        out[mask] = self.score(Sequences(x[mask], offsets))
        return out

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        _check_symbols(x[mask], self.space.size)
        out = np.ones((x.shape[0], x.shape[1] + 1, self.space.size))
        _distribute(self.model, np.array(x, np.int64, order="C"), mask.sum(axis=1), out)
        return np.log(out, out=out)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        _check_symbols(prefix[mask], self.space.size)
        uniform = np.random.default_rng(seed).random((len(prefix), samples, steps))
        return _sample(self.model, np.array(prefix, np.int64, order="C"), mask.sum(axis=1), uniform)

    def state(self) -> dict[str, np.ndarray]:
        """The texts, a few per cent of their automata, which are built from them again."""
        state = {"weights": self.model.weights}
        for layer, text in enumerate(self.texts):
            state |= {f"values.{layer}": text.values, f"offsets.{layer}": text.offsets}
        return state

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        weights = np.array(state["weights"])
        self.texts = [Sequences(state[f"values.{layer}"], state[f"offsets.{layer}"]) for layer in range(len(weights))]
        self.model = stack([build(text, self.space.size) for text in self.texts], weights, self.space.size)

    @property
    def parameters(self) -> int:
        """Counts of the transitions and, for each text, three discounts a length, and the mixings."""
        layers = len(self.model.roots)
        lengths = sum(int(part.max()) for part in np.split(self.model.length, self.model.roots[1:]))
        return len(self.model.target) + 3 * lengths + layers - 1


def _growth(automaton: Automaton, known: np.ndarray, past: np.ndarray) -> dict[str, list[Any]]:
    """What a table of the whole past would cost and need, by the length t of the past ($ counts as a symbol).

    parameters: distinct n-grams of t symbols and one more in the training text; bytes: of the tables of all lengths up
    to t at one count an n-gram; once: the share of n-grams that only one symbol (or $) was seen before, or one
    sequence; known: the share of validation positions, among those with as long a past, whose last t symbols the
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
        "parameters": distinct[lengths + 1].tolist(),
        "bytes": (total[lengths + 1] * automaton.seen.itemsize).tolist(),
        "once": (counts[lengths + 1, 0] / distinct[lengths + 1]).tolist(),
        "known": [m / r if r else None for m, r in zip(matching, reaching, strict=True)],
    }


def _past(sequences: Sequences) -> np.ndarray:
    """(N,) how many symbols, $ among them, precede each."""
    return 1 + np.arange(len(sequences.values)) - np.repeat(sequences.offsets[:-1], sequences.lengths)


def _evaluate(model: Model, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """P(x_t | x_<t) of every symbol, and the length of the longest suffix of its past that a text holds: (N,) each."""
    _check_symbols(sequences.values, model.size)
    return _score(model, np.array(sequences.values, np.int32), np.array(sequences.offsets, np.int64))
