"""Lexicon induction from sentence pairs: IBM Model 1 (Brown et al. 1993) on English lemmas and Korean morphemes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqlab.errors import UserError
from seqlab.families.rules.analysis import lemmas
from seqlab.families.rules.generation import units
from seqlab.families.rules.lexicon import Table

Lexica = dict[str, dict[str, float]]
"""Lemma → Korean citation forms and their probabilities."""

EVIDENCE = 5
"""Pairs that must speak for an alternative before it replaces the hand-written preference."""


@dataclass(frozen=True)
class Aligned:
    """Content words of the pairs: English lemmas, Korean nouns and predicates in citation form."""

    english: list[list[str]]
    korean: list[list[str]]


def morphemes(path: Path, limit: int) -> Aligned:
    """The first `limit` pairs, shortest first: short pairs align best. Raises UserError when there are none."""
    if not path.exists():
        raise UserError(f"{path}: missing; run the prepare stage")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not rows:
        raise UserError(f"{path}: no pairs")
    rows = sorted(rows, key=lambda row: (len(row["source"].split()), row["group"]))[:limit]
    return Aligned(lemmas([row["source"] for row in rows]), units([row["references"][0] for row in rows]))


def induce(pairs: Aligned, prior: Lexica, weight: float, iterations: int, threshold: float) -> Lexica:
    """Translations with P(korean | lemma) of at least `threshold`, after EM.

    `prior` is worth `weight` observations of each of its lemmas (a MAP estimate).
    """
    english, korean = (sorted({word for row in rows for word in row}) for rows in (pairs.english, pairs.korean))
    if not english or not korean:
        return prior
    # Index 0 is the empty word, which takes what no English word explains.
    e_index = {word: i for i, word in enumerate(english, 1)}
    k_index = {word: i for i, word in enumerate(korean)}
    links, slots, slot = [], [], 0
    for row, other in zip(pairs.english, pairs.korean, strict=True):
        sources = np.array([0, *(e_index[word] for word in row)], np.int64)
        for word in other:
            links.append(sources * len(korean) + k_index[word])
            slots.append(np.full(len(sources), slot, np.int64))
            slot += 1
    cells, link = np.unique(np.concatenate(links), return_inverse=True)
    where = np.concatenate(slots)
    source = cells // len(korean)
    known = np.zeros(len(cells))
    for lemma, options in prior.items():
        for word, share in options.items():
            if lemma in e_index and word in k_index:
                cell = e_index[lemma] * len(korean) + k_index[word]
                at = int(np.searchsorted(cells, cell))
                if at < len(cells) and cells[at] == cell:
                    known[at] = weight * share
    counts = np.bincount(link, minlength=len(cells)) + known
    table = counts / np.bincount(source, counts)[source]
    for _ in range(iterations):
        weights = table[link]
        weights /= np.bincount(where, weights)[where]
        counts = np.bincount(link, weights, minlength=len(cells)) + known
        table = counts / np.bincount(source, counts)[source]
    found: Lexica = {}
    for found_at in np.flatnonzero((table >= threshold) & (source > 0)):
        lemma, word = english[source[found_at] - 1], korean[cells[found_at] % len(korean)]
        found.setdefault(lemma, {})[word] = round(float(table[found_at]), 6)
    return {lemma: options for lemma, options in prior.items() if lemma not in found} | found


def adapt(pairs: Aligned, table: Table) -> dict[str, str]:
    """For entries with alternatives, the one that the text uses at least twice as often as the preferred one."""
    open_entries = {key: entry for key, entry in table.items() if len(entry.korean) > 1}
    seen: dict[tuple[str, str], Counter[str]] = {key: Counter() for key in open_entries}
    by_lemma: dict[str, list[tuple[str, str]]] = {}
    for key in open_entries:
        by_lemma.setdefault(key[0].lower(), []).append(key)
    for row, other in zip(pairs.english, pairs.korean, strict=True):
        words = set(other)
        for key in {key for lemma in row for key in by_lemma.get(lemma, ())}:
            seen[key].update(korean for korean in open_entries[key].korean if korean.partition("/")[0] in words)
    chosen = {}
    for (lemma, part), counts in seen.items():
        first = open_entries[lemma, part].korean[0]
        best, times = max(counts.items(), key=lambda item: (item[1], item[0]), default=(first, 0))
        if best != first and times >= EVIDENCE and times >= 2 * counts[first]:
            chosen[f"{lemma}/{part}"] = best
    return chosen
