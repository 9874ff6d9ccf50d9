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
where w follows and D Q where it does not, D being the product of their D_k(1). So a query walks down the links until
there is a transition, and what that is worth follows from what the link's transition by the same symbol is worth: of
every sixth state on the way down these are kept, of the others worked out. Positions of the text whose context occurs
but once, two thirds of all states, are not kept at all, and so 11 to 12 bytes a symbol hold the model of a text.

With a source as prior, the model is a mixture with the source's own: (1 - β) P(w|h) + β S(w|h), where S may have a
source itself. Every text has an automaton of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TypeVar, cast

import numpy as np
from numba import njit

from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.family import ClosedForm, check_source, check_symbols
from seqlab.families.closed_form.ngram import discounts_of

# ---------------------------------------------------------------------------------------------------- the automaton

ROOT, BEGIN = 0, 1  # the states of the empty context and of $
ABSENT = -1


class SuffixAutomaton(NamedTuple):
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


def build(sequences: Sequences, size: int) -> SuffixAutomaton:
    """Of symbols out of `size`. Raises UserError when a sequence holds another symbol or there are too many."""
    check_symbols(sequences.values, size)
    number = len(sequences.values)
    if 3 * number + 2 >= np.iinfo(np.int32).max:
        raise UserError(f"{number} symbols: too many for an automaton; expected under {np.iinfo(np.int32).max // 3}")
    values = np.array(sequences.values, np.min_scalar_type(max(size - 1, 0)))
    return SuffixAutomaton(*_build(values, np.array(sequences.offsets, np.int64), size))


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
    edge: int = head[state]
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
    """`first`, `symbol` and `target` of `SuffixAutomaton` from lists; state order[i] becomes i = place[order[i]]."""
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

BLOCK = 7  # log2 of the states that share one full-width number of their first transition
WORD = 6  # log2 of the bits of a word
# Probabilities are kept for states whose way down the links to the root is a multiple of so many: no others take more
# steps than that to work out, and no text has a chain of links that would.
PERIOD = 6
# States with more transitions than this keep what is summed over these.
FEW = 8


Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """What a walk calls some ten times a symbol. Counting who holds each of a Text's arrays at every call would take as
    long as the walk does: such a function only reads, and the caller holds them."""
    return cast(Function, njit(cache=True, _nrt=False)(function))  # type: ignore[call-overload]  # numba types no _nrt


# Without these the compiler mixes signed and unsigned numbers into floating-point ones.
int64, float32 = cast(Callable[[Any], int], np.int64), cast(Callable[[Any], float], np.float32)


class Text(NamedTuple):
    """The model of one text: an automaton whose counts have become probabilities, packed.

    A context that occurs once is followed by what follows it in the text. So a state is either a position of the text,
    of the contexts that end there and nowhere else, with number S + position; or one of S branching states, all others.
    These are numbered along the transitions that lengthen a longest context by one symbol, of which each state has but
    one that leads to it: the targets of such transitions are 2, 3, ... in order, and need not be kept. Nor need the
    links of positions, which a walk carries along: the link after a step is found from the link before it.

    values: (N,) the text. starts: bits of N + 1, where a sequence begins (and the end). states: (S + 1, 5), side by
    side since they are read together: the link's lower and upper 16 bits, `first` less `base` of its block, length and
    seen of the automaton. symbol: of each transition. marks: (words, 3) of 64 transitions: bits of whether they
    lengthen, of whether their probability is kept, and how many of the one (lower half) and the other are set before.
    target: of those that do not lengthen, in order. probability: of those kept, in order, float64, P(symbol | the
    state's longest context h). wide: (words, 2) of 64 states: bits of whether they have more than FEW transitions, and
    how many have before; for these total and backoff hold c(h) and λ(h). taken: (lengths, 4), D_k of counts 0 to 3 for
    lengths k, the last row for all beyond. off: (lengths + 1,), the sum of log D_k(1) over the lengths k up to each.
    sizes: of the alphabet, the automaton's states and its transitions.
    """

    values: np.ndarray
    starts: np.ndarray
    states: np.ndarray
    base: np.ndarray
    symbol: np.ndarray
    marks: np.ndarray
    target: np.ndarray
    probability: np.ndarray
    wide: np.ndarray
    total: np.ndarray
    backoff: np.ndarray
    taken: np.ndarray
    off: np.ndarray
    sizes: np.ndarray

    @property
    def bytes(self) -> int:
        return sum(part.nbytes for part in self)


def ngrams(automaton: SuffixAutomaton) -> np.ndarray:
    """How many n-grams hw of each length there are, by their c(hw): (lengths + 1, 5) for 1, 2, 3, 4 and 5 or more."""
    link, length, seen = automaton.link[2:], automaton.length[2:], automaton.seen[2:]
    lengths = int(automaton.length[-1]) + 1
    found = np.bincount(length * 5 + np.clip(seen, 1, 5) - 1, minlength=lengths * 5).reshape(lengths, 5)
    # The shorter members of a class have a count of 1, at every length from the link's on.
    starts = np.bincount(automaton.length[link] + 1, minlength=lengths)
    found[:, 0] += np.cumsum(starts - np.bincount(length, minlength=lengths))
    return found


def weigh(automaton: SuffixAutomaton, sequences: Sequences, size: int) -> Text:
    """The Kneser-Ney model of a text over `size` symbols, whose automaton it is."""
    taken = np.array([discounts_of(*counts[:4].tolist()) for counts in ngrams(automaton)])
    off = np.concatenate([[0.0], np.cumsum(np.log(taken[1:, 1]))])
    link, length, seen, first, symbol, target = automaton
    probability, total, backoff = _weigh(link, length, seen, first, symbol, target, taken, off, size)
    values, offsets = np.array(sequences.values, symbol.dtype), np.array(sequences.offsets, np.int64)
    place = _places(values, offsets, link, length, first, symbol, target)
    states = int(np.count_nonzero(place < 0))
    order, place = _ordered(place, states, length, first, symbol, target)
    # Of the branching states' transitions, one after the other.
    degrees = first[order + 1] - first[order]
    begins = np.concatenate([[0], np.cumsum(degrees)])
    edges = np.repeat(first[order] - begins[:-1], degrees) + np.arange(begins[-1])
    source = np.repeat(order, degrees)
    long = (place[target[edges]] < states) & (length[target[edges]] == length[source] + 1)
    kept = _chain(link)[source] % PERIOD == 0
    base = begins[: states + 1 : 1 << BLOCK]
    links = place[np.maximum(link[order], 0)]
    rows = np.zeros((states + 1, 5), np.int64)
    rows[:states, 0], rows[:states, 1] = links & 0xFFFF, links >> 16
    rows[:, 2] = begins - np.repeat(base, 1 << BLOCK)[: states + 1]
    rows[:states, 3], rows[:states, 4] = length[order], seen[order]
    starts = np.zeros(len(values) + 1, bool)
    starts[offsets] = True
    (long_bits, long_before), (kept_bits, kept_before) = _counted(long), _counted(kept)
    varied = np.flatnonzero((taken != taken[-1]).any(1))
    return Text(
        values,
        _bits(starts),
        # Two types and no more, since the kernels are compiled for each.
        rows.astype(np.uint16 if rows.max() < 1 << 16 else np.uint32),
        base.astype(np.int32),
        symbol[edges],
        np.stack([long_bits, kept_bits, long_before | kept_before << np.uint64(32)], 1),
        place[target[edges][~long]].astype(np.int32),
        probability[edges][kept],
        np.stack(_counted(degrees > FEW), 1),
        total[order][degrees > FEW].astype(np.int32),
        backoff[order][degrees > FEW],
        taken[: varied[-1] + 2] if len(varied) else taken[:1],
        off,
        np.array([size, len(link), len(symbol)]),
    )


def _bits(flags: np.ndarray) -> np.ndarray:
    """(n,) bool -> uint64 words, the lowest bit first."""
    packed = np.packbits(flags, bitorder="little")
    return np.pad(packed, (0, -len(packed) % 8)).view(np.uint64)


def _counted(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bits, and how many are set before each word."""
    per_word = np.pad(flags, (0, -len(flags) % (1 << WORD))).reshape(-1, 1 << WORD).sum(1)
    return _bits(flags), (np.cumsum(per_word) - per_word).astype(np.uint64)


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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(symbol | the state's longest context h) of all transitions, and of each state c(h) and λ(h).

    taken: (lengths + 1, 4), D_k of counts 0 to 3.
    """
    probability, totals, backoffs = np.empty(len(symbol)), np.zeros(len(link)), np.zeros(len(link))
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
        totals[state], backoffs[state] = total, backoff
        shorter = 0.0 if state == ROOT else off[length[state]] - off[length[link[state]] + 1]
        for edge in edges:
            base = 1 / size
            if state != ROOT:
                longest = probability[_between(symbol, first[link[state]], first[link[state] + 1], symbol[edge])]
                base = _shrunk(longest, 1 / len(edges), shorter)
            c = _count(length, seen, target[edge], length[state] + 1)
            probability[edge] = (c - taken[length[state] + 1, min(c, 3)]) / total + backoff * base
    return probability, totals, backoffs


@njit(cache=True)
def _count(length: np.ndarray, seen: np.ndarray, state: int, of_length: int) -> int:
    """c(hw) of the n-gram of a length in the class `state`."""
    return seen[state] if length[state] == of_length else 1


@njit(cache=True)
def _places(
    values: np.ndarray,
    offsets: np.ndarray,
    link: np.ndarray,
    length: np.ndarray,
    first: np.ndarray,
    symbol: np.ndarray,
    target: np.ndarray,
) -> np.ndarray:
    """Where in the text each state's contexts end, or -1 where they do at several places or are empty."""
    times, place = np.zeros(len(link), np.int64), np.full(len(link), -1)
    for row in range(len(offsets) - 1):
        state = BEGIN
        for i in range(offsets[row], offsets[row + 1]):
            state = target[_between(symbol, first[state], first[state + 1], values[i])]
            times[state] += 1
            place[state] = i
    for state in range(len(link) - 1, 1, -1):  # longer ones first
        times[link[state]] += times[state]
        if times[state] != 1:
            place[state] = -1
    place[ROOT] = place[BEGIN] = -1
    return place


@njit(cache=True)
def _ordered(
    place: np.ndarray, states: int, length: np.ndarray, first: np.ndarray, symbol: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The branching states in their new order, and every state's number in a Text."""
    order, number = np.empty(states, np.int64), place + states
    order[0], order[1] = ROOT, BEGIN
    number[ROOT], number[BEGIN] = ROOT, BEGIN
    end = 2
    for i in range(states):
        state = order[i]
        for edge in range(first[state], first[state + 1]):
            found = target[edge]
            if place[found] < 0 and length[found] == length[state] + 1:
                order[end], number[found] = found, end
                end += 1
    return order, number


@njit(cache=True)
def _chain(link: np.ndarray) -> np.ndarray:
    """How many links lead from each state to the root."""
    steps = np.zeros(len(link), np.int64)
    for state in range(1, len(link)):
        steps[state] = steps[link[state]] + 1
    return steps


@kernel
def _between(symbol: np.ndarray, low: int, end: int, w: int) -> int:
    """The transition by w among those of a state, or ABSENT."""
    high = end
    while low < high:
        middle = (low + high) >> 1
        if symbol[middle] < w:
            low = middle + 1
        else:
            high = middle
    return low if low < end and symbol[low] == w else ABSENT


@kernel
def _is_set(word: int, i: int) -> bool:
    """Bit i of a word, i modulo its length."""
    return bool((word >> np.uint64(i & 63)) & np.uint64(1))


@kernel
def _below(word: int, i: int) -> int:
    """How many bits of a word are set before bit i."""
    x = word & ((np.uint64(1) << np.uint64(i & 63)) - np.uint64(1))
    # Bits of pairs, of fours, of bytes, and the bytes' sum (Warren 2012, Hacker's Delight, section 5-1).
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _starts(text: Text, i: int) -> bool:
    """Whether a sequence begins at a position of the text."""
    return _is_set(text.starts[i >> WORD], i)


@kernel
def _branching(text: Text) -> int:
    """S."""
    return len(text.states) - 1


@kernel
def _link(text: Text, state: int) -> int:
    return int64(text.states[state, 0]) | int64(text.states[state, 1]) << 16


@kernel
def _first(text: Text, state: int) -> int:
    return int64(text.base[state >> BLOCK]) + int64(text.states[state, 2])


@kernel
def _length(text: Text, state: int) -> int:
    return int64(text.states[state, 3])


@kernel
def _edge(text: Text, state: int, w: int) -> int:
    """The transition of a branching state by w, or ABSENT."""
    return _between(text.symbol, _first(text, state), _first(text, state + 1), w)


@kernel
def _lengthens(text: Text, edge: int) -> bool:
    return _is_set(text.marks[edge >> WORD, 0], edge)


@kernel
def _longer(text: Text, edge: int) -> int:
    """The target of the next transition that lengthens, from this one on."""
    word = edge >> WORD
    return 2 + int64(text.marks[word, 2] & np.uint64(0xFFFFFFFF)) + _below(text.marks[word, 0], edge)


@kernel
def _kept(text: Text, edge: int) -> int:
    """Where the probability of a transition is kept, or ABSENT."""
    word = edge >> WORD
    if not _is_set(text.marks[word, 1], edge):
        return ABSENT
    return int64(text.marks[word, 2] >> np.uint64(32)) + _below(text.marks[word, 1], edge)


@kernel
def _reached(text: Text, edge: int) -> int:
    """The target of a transition of a branching state."""
    longer = _longer(text, edge)
    return longer if _lengthens(text, edge) else int64(text.target[edge - longer + 2])


@kernel
def _goes_on(text: Text, state: int) -> bool:
    """Whether anything follows a position of the text."""
    return not _starts(text, state - _branching(text) + 1)


@kernel
def _link_after(text: Text, link: int, edge: int, w: int, state: int) -> int:
    """The link of the position `state`, which w led to, from the link before that step and its transition by w."""
    while True:
        found = _reached(text, edge)
        if found != state:
            return found
        if link == ROOT:
            return ROOT
        link = _link(text, link)
        edge = _edge(text, link, w)


@kernel
def _longest(text: Text, state: int, matched: int) -> bool:
    """Whether the member of a length of a class is its longest: of a position that of the whole past, with $."""
    if state < _branching(text):
        return matched == _length(text, state)
    begin = state - _branching(text) - matched + 2
    return begin >= 0 and _starts(text, begin)


@kernel
def _taken(text: Text, length: int, c: int) -> float:
    taken: float = text.taken[min(length, len(text.taken) - 1), min(c, 3)]
    return taken


@kernel
def _shrunk(probability: float, share: float, log_weight: float) -> float:
    """The mean of the longest context of the next class, by its weight, and of the symbols that follow, one share each:
    P(w|h) of a shorter member h of a class."""
    return share + math.exp(log_weight) * (probability - share)


@kernel
def _backoff(text: Text, state: int) -> tuple[int, float]:
    """c(h) of the longest context h of a branching state, and λ(h)."""
    word = text.wide[state >> WORD, 0]
    if _is_set(word, state):
        place = int64(text.wide[state >> WORD, 1]) + _below(word, state)
        return int64(text.total[place]), text.backoff[place]
    begin, end = _first(text, state), _first(text, state + 1)
    longer, length = _longer(text, begin), _length(text, state) + 1
    total, freed = 0, 0.0
    for edge in range(begin, end):
        c = 1
        if _lengthens(text, edge):
            c = int64(text.states[longer, 4])
            longer += 1
        total += c
        freed += _taken(text, length, c)
    return total, freed / total


@kernel
def _probability(text: Text, trail: np.ndarray, state: int, edge: int) -> float:
    """P(w|h) of the longest context h of a branching state and its transition by w. trail: (PERIOD, 2) to write on."""
    w, depth = text.symbol[edge], 0
    place = _kept(text, edge)
    while place == ABSENT:
        trail[depth] = state, edge
        depth += 1
        state = _link(text, state)
        edge = _edge(text, state, w)
        place = _kept(text, edge)
    found: float = text.probability[place]
    link_length = _length(text, state)
    while depth:
        depth -= 1
        state, edge = trail[depth]
        share = 1 / (_first(text, state + 1) - _first(text, state))
        total, backoff = _backoff(text, state)
        c, length = 1, _length(text, state)
        if _lengthens(text, edge):
            c = int64(text.states[_longer(text, edge), 4])
        base = _shrunk(found, share, text.off[length] - text.off[link_length + 1])
        found = (c - _taken(text, length + 1, c)) / total + backoff * base
        link_length = length
    return found


@kernel
def _followed(text: Text, trail: np.ndarray, state: int, link: int, matched: int, edge: int) -> float:
    """log P(w|h) of the member h of a length of a class of a branching state and its transition by w."""
    # Single precision is a relative error of 6e-8.
    if matched == _length(text, state):
        return math.log(float32(_probability(text, trail, state, edge)))
    longest = float32(_probability(text, trail, link, _edge(text, link, text.symbol[edge])))
    share = 1 / (_first(text, state + 1) - _first(text, state))
    return math.log(_shrunk(longest, share, text.off[matched + 1] - text.off[_length(text, link) + 1]))


@kernel
def _went_on(text: Text, trail: np.ndarray, state: int, link: int, matched: int, edge: int) -> float:
    """The same after a position of the text, of what follows it there; edge: the link's, by that symbol."""
    longest = _probability(text, trail, link, edge)
    before = text.off[_length(text, link) + 1]
    if not _longest(text, state, matched):
        return math.log(_shrunk(float32(longest), 1.0, text.off[matched + 1] - before))
    taken = _taken(text, matched + 1, 1)  # one symbol follows, once
    return math.log(float32((1 - taken) + taken * _shrunk(longest, 1.0, text.off[matched] - before)))


@kernel
def _missed(text: Text, state: int, link: int, matched: int) -> float:
    """The logarithm of what the member of a length of a class leaves, of the probability after the longest context of
    the next class, to a symbol that never followed; of the root that symbol's probability."""
    branching = state < _branching(text)
    # Nothing ever followed, so nothing is taken off.
    if _first(text, state) == _first(text, state + 1) if branching else not _goes_on(text, state):
        return 0.0
    if state == ROOT:
        return float32(math.log(_backoff(text, ROOT)[1] / text.sizes[0]))
    next_length = _length(text, link) + 1
    if not _longest(text, state, matched):
        left: float = text.off[matched + 1] - text.off[next_length]
        return left
    freed = _backoff(text, state)[1] if branching else _taken(text, matched + 1, 1)
    return float32(math.log(freed) + (text.off[matched] - text.off[next_length]))


@kernel
def _query(text: Text, trail: np.ndarray, state: int, link: int, matched: int, w: int) -> tuple[float, int, int, int]:
    """log P(w | past); and the class, its link and the length of the longest suffix of the past with w after it.

    `state`, `link` and `matched` are those of the past; they begin as BEGIN, ROOT and 1.
    """
    if state < _branching(text):
        edge = _edge(text, state, w)
        if edge != ABSENT:
            return _step(text, state, link, edge, w, _followed(text, trail, state, link, matched, edge), matched + 1)
    elif _goes_on(text, state) and text.values[state - _branching(text) + 1] == w:
        below = _edge(text, link, w)
        log_p = _went_on(text, trail, state, link, matched, below)
        return log_p, state + 1, _link_after(text, link, below, w, state + 1), matched + 1
    log_p, edge = _missed(text, state, link, matched), ABSENT
    while edge == ABSENT:
        if state == ROOT:
            return log_p, ROOT, ROOT, 0
        state = link
        link = _link(text, state)
        edge = _edge(text, state, w)
        if edge == ABSENT:
            log_p += _missed(text, state, link, _length(text, state))
    log_p += math.log(float32(_probability(text, trail, state, edge)))
    return _step(text, state, link, edge, w, log_p, _length(text, state) + 1)


@kernel
def _step(
    text: Text, state: int, link: int, edge: int, w: int, log_p: float, matched: int
) -> tuple[float, int, int, int]:
    """What `_query` returns, by a transition of a branching state."""
    found = _reached(text, edge)
    if found < _branching(text):
        return log_p, found, _link(text, found), matched
    after = ROOT if state == ROOT else _link_after(text, link, _edge(text, link, w), w, found)
    return log_p, found, after, matched


@njit(cache=True)
def _score(text: Text, values: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log P(x_t | x_<t) at every position of ragged sequences, and the length of the longest suffix of each past."""
    out, known = np.empty(len(values)), np.empty(len(values), np.int32)
    trail = np.empty((PERIOD, 2), np.int64)
    for row in range(len(offsets) - 1):
        state, link, matched = BEGIN, ROOT, 1
        for i in range(offsets[row], offsets[row + 1]):
            known[i] = matched
            out[i], state, link, matched = _query(text, trail, state, link, matched, values[i])
    return out, known


@njit(cache=True)
def _advance(text: Text, pasts: np.ndarray, symbols: np.ndarray) -> None:
    """Move pasts (B, 3) on by a symbol each."""
    trail = np.empty((PERIOD, 2), np.int64)
    for row in range(len(pasts)):
        state, link, matched = pasts[row]
        _, pasts[row, 0], pasts[row, 1], pasts[row, 2] = _query(text, trail, state, link, matched, symbols[row])


UNSET = 1.0  # no logarithm of a probability


@njit(cache=True)
def _fill(text: Text, pasts: np.ndarray, out: np.ndarray) -> None:
    """Write log P(. | past) of all V symbols to out (B, V), from the longest suffix to the empty one."""
    out[:] = UNSET
    trail = np.empty((PERIOD, 2), np.int64)
    for row in range(len(pasts)):
        state, link, matched = pasts[row]
        missed = 0.0
        while True:
            if state < _branching(text):
                for edge in range(_first(text, state), _first(text, state + 1)):
                    w = text.symbol[edge]
                    if out[row, w] == UNSET:
                        out[row, w] = missed + _followed(text, trail, state, link, matched, edge)
            elif _goes_on(text, state):
                w = text.values[state - _branching(text) + 1]
                if out[row, w] == UNSET:
                    below = _edge(text, link, w)
                    out[row, w] = missed + _went_on(text, trail, state, link, matched, below)
            missed += _missed(text, state, link, matched)
            if state == ROOT:
                break
            state = link
            link = _link(text, state)
            matched = _length(text, state)
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
        own = weigh(automaton, train, self.space.size)
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
            "states": len(automaton.link),
            "transitions": len(automaton.target),
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
            moved = [past[rows] for past in pasts]
            self._advance(moved, prefix[rows, t])
            for past, after in zip(pasts, moved, strict=True):
                past[rows] = after
        pasts = [np.repeat(past, samples, 0) for past in pasts]
        uniform = np.random.default_rng(seed).random((batch * samples, steps))
        paths = np.empty((batch * samples, steps), np.int64)
        for step in range(steps):
            cumulative = np.cumsum(np.exp(self._after(pasts)), axis=1)
            # The sum is 1 up to rounding alone.
            below = cumulative <= uniform[:, step, None] * cumulative[:, -1:]
            paths[:, step] = np.minimum(below.sum(axis=1), self.space.size - 1)
            self._advance(pasts, paths[:, step])
        return paths.reshape(batch, samples, steps)

    def _begin(self, batch: int) -> list[np.ndarray]:
        """Empty pasts, (B, 3) for each text: class, its link, and length of each one's longest suffix."""
        return [np.tile(np.array([BEGIN, ROOT, 1]), (batch, 1)) for _ in self.texts]

    def _advance(self, pasts: list[np.ndarray], symbols: np.ndarray) -> None:
        for text, past in zip(self.texts, pasts, strict=True):
            _advance(text, past, np.array(symbols, np.int64))

    def _after(self, pasts: list[np.ndarray]) -> np.ndarray:
        """log P(. | past): (B, V)."""
        parts = [np.empty((len(past), self.space.size)) for past in pasts]
        for text, past, part in zip(self.texts, pasts, parts, strict=True):
            _fill(text, past, part)
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
        return sum(int(text.sizes[2]) + 3 * (len(text.off) - 1) for text in self.texts) + len(self.texts) - 1


def _mixed(source: np.ndarray, own: np.ndarray, share: float) -> np.ndarray:
    """log((1 - share) e^own + share e^source)."""
    if share in (0, 1):
        return source if share else own
    mixed: np.ndarray = np.logaddexp(np.log(share) + source, np.log1p(-share) + own)
    return mixed


def _growth(automaton: SuffixAutomaton, known: np.ndarray, past: np.ndarray) -> dict[str, Any]:
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
    past: np.ndarray = 1 + np.arange(len(sequences.values)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    return past


def _evaluate(text: Text, sequences: Sequences, size: int) -> tuple[np.ndarray, np.ndarray]:
    """log P(x_t | x_<t) of every symbol, and the length of the longest suffix of its past in the text: (N,) each."""
    check_symbols(sequences.values, size)
    return _score(text, np.array(sequences.values, np.int32), np.array(sequences.offsets, np.int64))
