"""n-gram models over symbols: modified Kneser-Ney with a source as prior, and a Dirichlet-smoothed bigram.

Interpolated modified Kneser-Ney (Chen and Goodman 1999), for a context h of k - 1 symbols and h' without its oldest:

    P_k(w|h) = (c(hw) - D_k(c(hw))) / c(h) + λ(h) P_{k-1}(w|h'),        P_0 = 1/V,

where c is the number of occurrences for the longest n-grams and for those at the start of a sequence, else the number
of distinct symbols that precede hw; c(h) = sum_w c(hw); and λ(h) = sum_w D_k(c(hw)) / c(h) is what discounts set free.
The alphabet is closed, so the uniform P_0 leaves no symbol without probability. A sequence starts from a context of its
own, a begin symbol that is never predicted; to model the end as well, end each sequence in a symbol of the alphabet.

With a source as prior, the base measure of the target's model mixes its own shorter context with the source's model S
of the same context (the doubly hierarchical Pitman-Yor process of Wood and Teh 2009, in its Kneser-Ney approximation):

    P_k(w|h) = (c(hw) - D_k(c(hw))) / c(h) + λ(h) [(1 - β) P_{k-1}(w|h') + β S_k(w|h)].

Summed over w, the bracket gives 1, and so do the discounted counts and λ(h). Where only the source has seen h, the
first term is 0 and λ(h) is 1; where neither has, P_k(w|h) = P_{k-1}(w|h'), so that the orders beyond what both know
change nothing. A source may have a source itself: models are layers over one trie of all their n-grams.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numba import njit

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import Arcs, ClosedForm, check_source, check_symbols

# ------------------------------------------------------------------------------------------------------ the n-grams


class Trie(NamedTuple):
    """The n-grams up to an order, counted for L layers (a model and the sources behind it, the oldest first).

    Node 0 is the empty n-gram; then come all of length 1, of length 2, ..., in lexicographic order each. An n-gram's
    children, the n-grams one symbol longer at the right, therefore lie together, by symbol. Length 1 is complete: node
    1 + w is the symbol w, and node 1 + V begins a sequence.

    levels: (order + 2,), n-grams of length k are nodes levels[k] up to levels[k + 1]. first: (contexts + 1,), children
    of context c are nodes first[c] up to first[c + 1]; contexts are the n-grams shorter than the order. symbol:
    (nodes,), the last symbol. suffix: (nodes,), the n-gram without its first symbol. counts: (L, nodes). All int32.
    """

    levels: np.ndarray
    first: np.ndarray
    symbol: np.ndarray
    suffix: np.ndarray
    counts: np.ndarray

    @property
    def order(self) -> int:
        return len(self.levels) - 2

    @property
    def size(self) -> int:
        """V, the begin symbol not counted."""
        return int(self.levels[2]) - 2

    def level(self, length: int) -> slice:
        return slice(int(self.levels[length]), int(self.levels[length + 1]))

    def adjusted(self, order: int) -> Trie:
        """From occurrences in one layer to the counts of a Kneser-Ney model of at most this trie's order."""
        levels = self.levels[: order + 2]
        counts = np.zeros_like(self.counts[:, : levels[-1]])
        begin = 1 + self.size
        for length in range(1, order + 1):
            level = self.level(length)
            if length == order:
                counts[0, level] = self.counts[0, level]
            else:
                longer = self.suffix[self.level(length + 1)] - level.start
                counts[0, level] = np.bincount(longer, minlength=level.stop - level.start)
                # Nothing precedes the beginning, whose n-grams are each level's last.
                if length > 1:
                    begin = int(self.first[begin])
                    counts[0, begin : level.stop] = self.counts[0, begin : level.stop]
        return Trie(levels, self.first[: levels[-2] + 1], self.symbol[: levels[-1]], self.suffix[: levels[-1]], counts)

    def over(self, source: Trie) -> Trie:
        """The union of both, with the layers of both, the source's first."""
        symbols = self.size + 1
        parts = (source, self)
        places = [np.zeros(len(part.symbol), np.int64) for part in parts]
        levels, firsts, symbol = [0, 1], [np.ones(1, np.int64)], [np.zeros(1, np.int64)]
        for length in range(1, max(source.order, self.order) + 1):
            known = [(part, place) for part, place in zip(parts, places, strict=True) if length <= part.order]
            keys = [place[part.parents(length)] * symbols + part.symbol[part.level(length)] for part, place in known]
            union = np.sort(np.concatenate(keys), kind="stable")  # merges sorted runs; np.unique would hash
            union = union[np.diff(union, prepend=-1) > 0]
            for (part, place), key in zip(known, keys, strict=True):
                place[part.level(length)] = levels[-1] + np.searchsorted(union, key)
            parents = np.arange(levels[-2], levels[-1]) * symbols
            firsts.append(levels[-1] + np.searchsorted(union, parents + symbols))
            symbol.append(union % symbols)
            levels.append(levels[-1] + len(union))
        counts = np.zeros((len(source.counts) + len(self.counts), levels[-1]), np.int32)
        counts[: len(source.counts), places[0]] = source.counts
        counts[len(source.counts) :, places[1]] = self.counts
        first = np.concatenate(firsts).astype(np.int32)
        last = np.concatenate(symbol).astype(np.int32)
        return Trie(np.array(levels, np.int32), first, last, _suffixes(first, last), counts)

    def parents(self, length: int) -> np.ndarray:
        """The contexts of the n-grams of a length."""
        contexts = self.level(length - 1)
        children = np.diff(self.first[contexts.start : contexts.stop + 1])
        return np.repeat(np.arange(contexts.start, contexts.stop), children)


def count(sequences: Sequences, size: int, order: int) -> Trie:
    """The occurrences of all n-grams of up to `order` symbols out of `size`.

    Raises UserError when a sequence holds another symbol or there are too many n-grams to number.
    """
    if (len(sequences.values) + len(sequences)) * order + size >= np.iinfo(np.int32).max:
        raise UserError(
            f"{len(sequences.values)} symbols: too many for n-grams of order {order}; expected under "
            f"{np.iinfo(np.int32).max // order}"
        )
    check_symbols(sequences.values, size)
    begins = sequences.offsets[:-1] + np.arange(len(sequences))
    tokens = np.empty(len(sequences.values) + len(sequences), np.int32)
    tokens[begins] = size
    inside = np.ones(len(tokens), bool)
    inside[begins] = False
    tokens[inside] = sequences.values
    occurrences = np.bincount(tokens, minlength=size + 1)
    by_symbol = _ordered(tokens, occurrences)[: len(sequences.values)]  # the begin symbol is the last
    occurrences[size] = 0

    levels, counts = [0, 1, size + 2], [np.zeros(1, np.int32), occurrences.astype(np.int32)]
    firsts = [np.ones(1, np.int32)]
    symbol = [np.zeros(1, np.int32), np.arange(size + 1, dtype=np.int32)]
    suffix = [np.zeros(1, np.int32), np.zeros(size + 1, np.int32)]
    ending = tokens + np.int32(1)
    for _ in range(2, order + 1):
        grown = _extend(tokens, by_symbol, ending, levels[-2], levels[-1])
        ending = grown[0]
        for column, part in zip((firsts, symbol, suffix, counts), grown[1:], strict=True):
            column.append(part)
        levels.append(levels[-1] + len(symbol[-1]))
    # A context's children end where the next one's start.
    firsts.append(np.full(1, levels[-1], np.int32))
    return Trie(
        np.array(levels, np.int32),
        np.concatenate(firsts),
        np.concatenate(symbol),
        np.concatenate(suffix),
        np.concatenate(counts)[None],
    )


@njit(cache=True)
def _ordered(keys: np.ndarray, occurrences: np.ndarray) -> np.ndarray:
    """Positions ordered by key, stably; occurrences[k] of them have key k."""
    slots = np.cumsum(occurrences) - occurrences
    order = np.empty(len(keys), np.int32)
    for i in range(len(keys)):
        order[slots[keys[i]]] = i
        slots[keys[i]] += 1
    return order


@njit(cache=True)
def _extend(
    tokens: np.ndarray, by_symbol: np.ndarray, ending: np.ndarray, begin: int, end: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The n-grams one symbol longer than those at nodes begin to end; they are numbered from `end` on.

    tokens: all sequences, each after its begin symbol. by_symbol: the positions of the other symbols, by symbol.
    ending: (positions,), the node of the n-gram of the last length that ends there, or -1 if its sequence is too short.
    Returns the new `ending`, the first child of each old node, and the new nodes' symbol, suffix and occurrences.
    """
    # A radix sort: positions come by last symbol and are dealt out to their contexts.
    slots = np.zeros(end - begin + 1, np.int32)
    for i in by_symbol:
        if ending[i - 1] >= 0:
            slots[ending[i - 1] - begin + 1] += 1
    for node in range(end - begin):
        slots[node + 1] += slots[node]
    total = slots[end - begin]
    order = np.empty(total, np.int32)
    for i in by_symbol:
        if ending[i - 1] >= 0:
            parent = ending[i - 1] - begin
            order[slots[parent]] = i
            slots[parent] += 1

    grown = np.full(len(tokens), np.int32(-1))
    symbol = np.empty(total, np.int32)
    suffix = np.empty(total, np.int32)
    occurrences = np.empty(total, np.int32)
    first = np.empty(end - begin, np.int32)
    nodes, parent = 0, -1
    for i in order:
        context = ending[i - 1] - begin
        if context != parent or tokens[i] != symbol[nodes - 1]:
            for childless in range(parent + 1, context + 1):
                first[childless] = end + nodes
            symbol[nodes] = tokens[i]
            suffix[nodes] = ending[i]
            occurrences[nodes] = 0
            parent = context
            nodes += 1
        occurrences[nodes - 1] += 1
        grown[i] = end + nodes - 1
    first[parent + 1 :] = end + nodes
    return grown, first, symbol[:nodes].copy(), suffix[:nodes].copy(), occurrences[:nodes].copy()


@njit(cache=True)
def _suffixes(first: np.ndarray, symbol: np.ndarray) -> np.ndarray:
    """Of every node, from the suffixes of the shorter ones."""
    suffix = np.zeros(len(symbol), np.int32)
    for context in range(1, len(first) - 1):
        for child in range(first[context], first[context + 1]):
            suffix[child] = _child(first, symbol, suffix[context], symbol[child])
    return suffix


@njit(cache=True)
def _child(first: np.ndarray, symbol: np.ndarray, context: int, w: int) -> int:
    """The n-gram of `context` and w, or -1."""
    if context == 0:
        return 1 + w
    low, end = first[context], first[context + 1]
    high = end
    while low < high:
        middle = (low + high) >> 1
        if symbol[middle] < w:
            low = middle + 1
        else:
            high = middle
    return low if low < end and symbol[low] == w else -1


# ------------------------------------------------------------------------------------------------ their probabilities


class Automaton(NamedTuple):
    """A trie whose counts have become probabilities; the states are its contexts.

    levels, first, symbol, suffix: as in Trie. probability: (nodes, L), P(last symbol | the symbols before it) in each
    layer. backoff: (contexts, L), λ. mixing: (contexts, L), β; 0 where neither the layer nor its sources have seen the
    context, and in the first layer, which has no source.
    """

    levels: np.ndarray
    first: np.ndarray
    symbol: np.ndarray
    suffix: np.ndarray
    probability: np.ndarray
    backoff: np.ndarray
    mixing: np.ndarray


def discounts(counts: np.ndarray) -> np.ndarray:
    """`discounts_of` the n-grams of one length, from their counts."""
    return discounts_of(*(int(np.count_nonzero(counts == c)) for c in (1, 2, 3, 4)))


def discounts_of(once: int, twice: int, thrice: int, fourfold: int) -> np.ndarray:
    """What is taken off counts of 0 (nothing), 1, 2, and 3 or more: (4,), from how many n-grams have counts of 1 to 4.

    Chen and Goodman's three discounts need n-grams with counts of 1, 2 and 3. Where those are too few for discounts
    above 0 (below, some context would leave unseen symbols nothing), the one discount of Ney, Essen and Kneser (1994)
    takes their place, which needs counts of 1 and 2; where they lack too, 1/2, 1 and 3/2.
    """
    if once and twice:
        y = once / (once + 2 * twice)
        if thrice:
            modified = [1 - 2 * y * twice / once, 2 - 3 * y * thrice / twice, 3 - 4 * y * fourfold / thrice]
            if min(modified) > 0:
                return np.array([0, *modified])
        return np.array([0, y, y, y])
    return np.array([0, 0.5, 1, 1.5])


def automaton(trie: Trie, weights: np.ndarray) -> Automaton:
    """The Kneser-Ney model of adjusted counts, each layer mixed into the next one's base measure by that one's β."""
    taken = np.array([[discounts(row[trie.level(k)]) for row in trie.counts] for k in range(1, trie.order + 1)])
    return Automaton(trie.levels, trie.first, trie.symbol, trie.suffix, *_weigh(trie, taken, weights))


@njit(cache=True)
def _weigh(trie: Trie, taken: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """taken: (order, L, 4) discounts; weights: (L,), β. Returns `probability`, `backoff` and `mixing`."""
    levels, first, suffix, counts = trie.levels, trie.first, trie.suffix, trie.counts
    layers = len(counts)
    probability = np.empty((len(suffix), layers))
    backoff = np.ones((len(first) - 1, layers))
    mixing = np.zeros((len(first) - 1, layers))
    probability[0] = 1 / (levels[2] - 2)
    for length in range(len(levels) - 2):
        for context in range(levels[length], levels[length + 1]):
            children = range(first[context], first[context + 1])
            seen = False
            for layer in range(layers):
                total, freed = 0, 0.0
                for child in children:
                    c = counts[layer, child]
                    total += c
                    freed += taken[length, layer, min(c, 3)]
                if total > 0:
                    backoff[context, layer] = freed / total
                    seen = True
                if seen:
                    mixing[context, layer] = weights[layer]
                for child in children:
                    c = counts[layer, child]
                    own = (c - taken[length, layer, min(c, 3)]) / max(total, 1)
                    base = probability[suffix[child], layer]
                    if layer > 0:
                        base += mixing[context, layer] * (probability[child, layer - 1] - base)
                    probability[child, layer] = own + backoff[context, layer] * base
    return probability, backoff, mixing


@njit(cache=True)
def _state(model: Automaton, node: int) -> int:
    """The state after an n-gram: itself, or its suffix if it is too long for a context."""
    return node if node < len(model.backoff) else model.suffix[node]


@njit(cache=True)
def _next(model: Automaton, state: int, w: int) -> int:
    """The state after w."""
    node = _child(model.first, model.symbol, state, w)
    while node < 0:
        state = model.suffix[state]
        node = _child(model.first, model.symbol, state, w)
    return _state(model, node)


@njit(cache=True)
def _start(model: Automaton) -> int:
    """The state before a sequence."""
    return _state(model, model.levels[2] - 1)


@njit(cache=True)
def _back_off(model: Automaton, context: int, p: np.ndarray) -> None:
    """From P(w|h') to P(w|h), in all layers (L,), for a w that was not seen after the context h."""
    for layer in range(len(p)):
        base = p[layer]
        if layer > 0:
            base += model.mixing[context, layer] * (p[layer - 1] - base)
        p[layer] = model.backoff[context, layer] * base


@njit(cache=True)
def _score(model: Automaton, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """P(x_t | x_<t) at every position of ragged sequences."""
    out = np.empty(len(tokens))
    p = np.empty(model.backoff.shape[1])
    missed = np.empty(len(model.levels), np.int32)  # contexts that the symbol was not seen after, the longest first
    for row in range(len(offsets) - 1):
        state = _start(model)
        for t in range(offsets[row], offsets[row + 1]):
            state = _advance(model, state, tokens[t], p, missed)
            out[t] = p[-1]
    return out


@njit(cache=True)
def _advance(model: Automaton, state: int, w: int, p: np.ndarray, missed: np.ndarray) -> int:
    """The state after w; P(w | state) of all layers is written to p (L,). missed: (order + 2,) room."""
    depth = 0
    node = _child(model.first, model.symbol, state, w)
    while node < 0:
        missed[depth] = state
        depth += 1
        state = model.suffix[state]
        node = _child(model.first, model.symbol, state, w)
    for layer in range(len(p)):
        p[layer] = model.probability[node, layer]
    for i in range(depth - 1, -1, -1):
        _back_off(model, missed[i], p)
    return _state(model, node)


@njit(cache=True)
def _follow(model: Automaton, states: np.ndarray, symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(symbol | state) and the state after it, of every pair, (H,) each."""
    out = np.empty(len(states))
    after = np.empty(len(states), np.int64)
    p = np.empty(model.backoff.shape[1])
    missed = np.empty(len(model.levels), np.int32)
    for i in range(len(states)):
        after[i] = _advance(model, states[i], symbols[i], p, missed)
        out[i] = p[-1]
    return out, after


@njit(cache=True)
def _distribute(model: Automaton, x: np.ndarray, lengths: np.ndarray, out: np.ndarray) -> None:
    """Write P(. | x_<t) of all V symbols to out (B, T + 1, V) for t = 0, ..., length."""
    p = np.empty((model.backoff.shape[1], out.shape[2]))
    contexts = np.empty(len(model.levels), np.int32)
    for row in range(len(x)):
        state = _start(model)
        for t in range(lengths[row] + 1):
            if t > 0:
                state = _next(model, state, x[row, t - 1])
            _fill(model, state, contexts, p)
            for w in range(out.shape[2]):
                out[row, t, w] = p[-1, w]


@njit(cache=True)
def _fill(model: Automaton, state: int, contexts: np.ndarray, p: np.ndarray) -> None:
    """Write P(w | state) of all layers and symbols to p (L, V), from the shortest context to the longest."""
    layers, size = p.shape
    for layer in range(layers):
        for w in range(size):
            p[layer, w] = model.probability[1 + w, layer]
    depth = 0
    while state > 0:
        contexts[depth] = state
        depth += 1
        state = model.suffix[state]
    for i in range(depth - 1, -1, -1):
        context = contexts[i]
        for layer in range(layers):
            for w in range(size):
                base = p[layer, w]
                if layer > 0:
                    base += model.mixing[context, layer] * (p[layer - 1, w] - base)
                p[layer, w] = model.backoff[context, layer] * base
        for child in range(model.first[context], model.first[context + 1]):
            for layer in range(layers):
                p[layer, model.symbol[child]] = model.probability[child, layer]


@njit(cache=True)
def _sample(model: Automaton, prefix: np.ndarray, lengths: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Paths (B, samples, steps), one uniform number a symbol."""
    out = np.empty(uniform.shape, np.int64)
    for row in range(len(prefix)):
        after = _start(model)
        for t in range(lengths[row]):
            after = _next(model, after, prefix[row, t])
        for sample in range(uniform.shape[1]):
            state = after
            for step in range(uniform.shape[2]):
                w = _draw(model, state, uniform[row, sample, step])
                out[row, sample, step] = w
                state = _next(model, state, w)
    return out


BELOW_ONE = 1 - 2.0**-53


@njit(cache=True)
def _draw(model: Automaton, context: int, u: float) -> int:
    """The symbol at u in [0, 1): from discounted counts, or else from the base measure, never summing over all V.

    What is left of u after each choice is uniform again and makes the next one.
    """
    layer = model.backoff.shape[1] - 1
    while True:
        u = min(u, BELOW_ONE)  # a quotient may be rounded up to 1
        backoff = model.backoff[context, layer]
        if u < 1 - backoff:
            for child in range(model.first[context], model.first[context + 1]):
                base = model.probability[model.suffix[child], layer]
                if layer > 0:
                    base += model.mixing[context, layer] * (model.probability[child, layer - 1] - base)
                u -= model.probability[child, layer] - backoff * base
                if u < 0:
                    symbol: int = model.symbol[child]
                    return symbol
            u = 0.0  # rounding took u past the last child: any number does
        else:
            u = (u - (1 - backoff)) / backoff
        mixing = model.mixing[context, layer]
        if u < mixing:
            u /= mixing
            layer -= 1
            continue
        u = (u - mixing) / (1 - mixing)
        if context == 0:
            size: int = model.levels[2] - 2
            return min(int(u * size), size - 1)
        context = model.suffix[context]


# ------------------------------------------------------------------------------------------------------- the families


class KneserNey(ClosedForm):
    """Interpolated modified Kneser-Ney over symbols, with a source as prior.

    orders: candidate lengths of the longest n-grams (the context and one symbol). prior_weights: candidates for β, the
    source's share in the base measure (0 ignores the source). Both are chosen by the log-likelihood of the validation
    split. With a source, contexts are as long as the longer of the source's and the chosen order's.
    """

    trie: Trie
    weights: np.ndarray  # (L,), β of each layer

    candidates = ("orders", "prior_weights")

    def __init__(self, space: Space, *, orders: list[int], prior_weights: list[float]):
        if not orders or min(orders) < 1:
            raise UserError(f"orders: {orders}; expected lengths of at least 1")
        if not prior_weights or not all(0 <= weight <= 1 for weight in prior_weights):
            raise UserError(f"prior_weights: {prior_weights}; expected shares from 0 to 1")
        self.space, self.orders, self.prior_weights = space, sorted(orders), prior_weights

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Count `train`; choose among orders and prior weights on `valid`, which a single candidate does without."""
        if len(train.values) == 0:
            raise UserError("training split: no symbols")
        check_source(self.space, prior)
        occurrences = count(train, self.space.size, self.orders[-1])
        scored = valid.scored
        weights = [0.0] if prior is None else self.prior_weights
        if not scored.any() and len(self.orders) * len(weights) > 1:
            raise UserError("validation split: no scored position; orders and prior weights are chosen on it")
        candidates: list[dict[str, Any]] = []
        best = -np.inf
        for order in self.orders:
            alone = occurrences.adjusted(order)
            joint = alone if prior is None or not any(weights) else alone.over(prior.trie)
            for weight in weights:
                # At β = 0 the source has no part in the model, and need not be kept.
                layers = np.append(prior.weights, weight) if prior is not None and weight else np.zeros(1)
                trie = joint if weight else alone
                model = automaton(trie, layers)
                fitted = float(np.log(_evaluate(model, valid)[scored]).mean()) if scored.any() else None
                candidates.append({"order": order, "prior_weight": weight, "valid_log_prob": fitted})
                if fitted is None or fitted > best:
                    best, chosen = -np.inf if fitted is None else fitted, candidates[-1]
                    self.trie, self.weights, self._model = trie, layers, model
        return {
            "order": chosen["order"],
            "prior_weight": chosen["prior_weight"],
            "candidates": candidates,
            "ngrams": [int(np.count_nonzero(self.trie.counts[-1, self.trie.level(k)])) for k in self._lengths()],
            "discounts": [discounts(self.trie.counts[-1, self.trie.level(k)])[1:].tolist() for k in self._lengths()],
        }

    def _lengths(self) -> range:
        return range(1, self.trie.order + 1)

    def score(self, sequences: Sequences) -> np.ndarray:
        """log P(x_t | x_<t) in nats of every symbol of `sequences.values`: (N,)."""
        log_prob: np.ndarray = np.log(_evaluate(self._model, sequences))
        return log_prob

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        offsets = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
        out = np.zeros(mask.shape)
        out[mask] = self.score(Sequences(x[mask], offsets))
        return out

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        check_symbols(x[mask], self.space.size)
        out = np.ones((x.shape[0], x.shape[1] + 1, self.space.size))
        _distribute(self._model, np.array(x, np.int64, order="C"), mask.sum(axis=1), out)
        return np.log(out, out=out)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        check_symbols(prefix[mask], self.space.size)
        uniform = np.random.default_rng(seed).random((len(prefix), samples, steps))
        return _sample(self._model, np.array(prefix, np.int64, order="C"), mask.sum(axis=1), uniform)

    @property
    def begin(self) -> int:
        return int(_start(self._model))

    def arcs(self, states: np.ndarray, symbols: np.ndarray) -> Arcs:
        """One way on each: a state is the longest context that the model knows."""
        check_symbols(symbols, self.space.size)
        probability, after = _follow(self._model, states, symbols)
        return Arcs(np.arange(len(states)), np.log(probability), after)

    def state(self) -> dict[str, np.ndarray]:
        """The trie of counts; probabilities and suffixes are made from them again."""
        narrow = np.min_scalar_type(self.space.size)
        return {
            "levels": self.trie.levels,
            "first": self.trie.first,
            "symbol": self.trie.symbol.astype(narrow),
            "counts": self.trie.counts,
            "weights": self.weights,
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        # Copies, since numba would compile everything anew for read-only arrays.
        levels, first, symbol = (np.array(state[name], np.int32) for name in ("levels", "first", "symbol"))
        self.trie = Trie(levels, first, symbol, _suffixes(first, symbol), np.array(state["counts"], np.int32))
        self.weights = np.array(state["weights"])
        self._model = automaton(self.trie, self.weights)

    def flops(self, train: Sequences) -> float:
        """An addition for each symbol and length of n-gram; for each n-gram, a discount subtracted, a division and what
        its context passes on times the shorter one's probability, a product and a sum; and its suffix's own count.
        """
        return float(len(train.values) * self.trie.order + 5 * np.count_nonzero(self.trie.counts))

    @property
    def parameters(self) -> int:
        """Adjusted counts above 0 and, for each layer, three discounts a length, and the mixing weights."""
        layers = len(self.weights)
        return int(np.count_nonzero(self.trie.counts)) + 3 * self.trie.order * layers + layers - 1


LARGEST_TABLE = 4096  # symbols; a dense table of their pairs is then 128 MiB


class Bigram(ClosedForm):
    """First-order Markov chain with a Dirichlet prior: P(w|v) = (c(vw) + κ m(w|v)) / (c(v) + κ).

    The prior mean is m(w|v) = (1 - β) u(w) + β S(w|v), the unigram u(w) = (c(w) + κ / V) / (N + κ) and the source's S.
    It is MacKay and Peto's (1995) hierarchical Dirichlet model, with pseudo-counts from a source beside those from the
    unigram. v is also the begin of a sequence. Its concentration κ, in symbols, and the source's share β (0 ignores the
    source) are chosen on the validation split from `concentrations` and `prior_weights`.
    """

    table: np.ndarray

    candidates = ("concentrations", "prior_weights")

    def __init__(self, space: Space, *, concentrations: list[float], prior_weights: list[float]):
        if not concentrations or not all(0 < concentration < np.inf for concentration in concentrations):
            raise UserError(f"concentrations: {concentrations}; expected finite numbers of symbols above 0")
        if not prior_weights or not all(0 <= weight <= 1 for weight in prior_weights):
            raise UserError(f"prior_weights: {prior_weights}; expected shares from 0 to 1")
        if space.size > LARGEST_TABLE:
            raise UserError(f"{space.size} symbols: too many for a table of pairs; expected {LARGEST_TABLE} or fewer")
        self.space, self.concentrations, self.prior_weights = space, concentrations, prior_weights

    def fit(self, train: Sequences, valid: Sequences, prior: Self | None = None) -> dict[str, Any]:
        """Count `train`; choose κ and β on `valid`, which a single candidate does without."""
        if len(train.values) == 0:
            raise UserError("training split: no symbols")
        check_source(self.space, prior)
        size = self.space.size
        counts = np.bincount(self._pairs(train), minlength=(size + 1) * size).reshape(size + 1, size)
        held_out, times = np.unique(self._pairs(valid)[valid.scored], return_counts=True)
        weights = [0.0] if prior is None else self.prior_weights
        if len(held_out) == 0 and len(self.concentrations) * len(weights) > 1:
            raise UserError("validation split: no scored position; concentration and prior weight are chosen on it")
        candidates: list[dict[str, Any]] = []
        best = -np.inf
        for concentration in self.concentrations:
            unigram = _smoothed(counts.sum(axis=0), np.full(size, 1 / size), concentration)
            for weight in weights:
                mean = unigram
                if prior is not None and weight:
                    mean = (1 - weight) * unigram + weight * np.exp(prior.table)
                table = np.log(_smoothed(counts, mean, concentration))
                fitted = float(times @ table.ravel()[held_out] / times.sum()) if len(held_out) else None
                candidates.append({"concentration": concentration, "prior_weight": weight, "valid_log_prob": fitted})
                if fitted is None or fitted > best:
                    best, chosen, self.table = -np.inf if fitted is None else fitted, candidates[-1], table
        return {
            "concentration": chosen["concentration"],
            "prior_weight": chosen["prior_weight"],
            "candidates": candidates,
        }

    def _pairs(self, sequences: Sequences) -> np.ndarray:
        """(N,) each position as a cell of the table, flat."""
        check_symbols(sequences.values, self.space.size)
        values = sequences.values.astype(np.int64)
        before = np.empty_like(values)
        before[1:] = values[:-1]
        before[sequences.offsets[:-1][sequences.lengths > 0]] = self.space.size
        return before * self.space.size + values

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        check_symbols(x[mask], self.space.size)
        return np.where(mask, self.table[self._before(x)[:, :-1], x], 0)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        check_symbols(x[mask], self.space.size)
        out: np.ndarray = self.table[self._before(x)]
        out[:, 1:][~mask] = 0
        return out

    def _before(self, x: np.ndarray) -> np.ndarray:
        """(B, T) -> (B, T + 1): the symbol before each position and the end, the begin symbol at first."""
        return np.pad(x, ((0, 0), (1, 0)), constant_values=self.space.size)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        check_symbols(prefix[mask], self.space.size)
        # Row v of cumulative probabilities lies in (v, v + 1], so that one sorted search serves all paths at once.
        cumulative = np.cumsum(np.exp(self.table), axis=1)
        cumulative = (cumulative / cumulative[:, -1:] + np.arange(self.space.size + 1)[:, None]).ravel()
        last = self._before(prefix)[np.arange(len(prefix)), mask.sum(axis=1)]
        state = np.repeat(last[:, None], samples, axis=1)
        uniform = np.random.default_rng(seed).random((len(prefix), samples, steps))
        out = np.empty(uniform.shape, np.int64)
        for step in range(steps):
            cell = np.searchsorted(cumulative, state + uniform[:, :, step], side="right")
            state = np.minimum(cell - state * self.space.size, self.space.size - 1)
            out[:, :, step] = state
        return out

    @property
    def begin(self) -> int:
        return self.space.size

    def arcs(self, states: np.ndarray, symbols: np.ndarray) -> Arcs:
        """One way on each: a state is the last symbol."""
        check_symbols(symbols, self.space.size)
        return Arcs(np.arange(len(states)), self.table[states, symbols], symbols)

    def state(self) -> dict[str, np.ndarray]:
        """table: (V + 1, V), log P(w|v); the last row is the begin's."""
        return {"table": self.table}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.table = state["table"]

    def flops(self, train: Sequences) -> float:
        """An addition for each symbol, and for each cell of the table a product with κ, an addition to the count and a
        division."""
        return float(len(train.values) + 3 * self.table.size)

    @property
    def parameters(self) -> int:
        """Every row of the table sums to one."""
        return (self.space.size + 1) * (self.space.size - 1)


def _smoothed(counts: np.ndarray, mean: np.ndarray, concentration: float) -> np.ndarray:
    """The posterior mean of Dirichlet rows."""
    rows: np.ndarray = (counts + concentration * mean) / (counts.sum(axis=-1, keepdims=True) + concentration)
    return rows


def _evaluate(model: Automaton, sequences: Sequences) -> np.ndarray:
    """P(x_t | x_<t) of every symbol: (N,)."""
    check_symbols(sequences.values, int(model.levels[2]) - 2)
    return _score(model, np.array(sequences.values, np.int32), np.array(sequences.offsets, np.int64))
