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
    gaps: list[list[str | None]] | None = None
    """Of each Korean unit, what stands between it and the one before: nothing, a space, None for anything else."""


def read(path: Path) -> list[tuple[str, str]]:
    """The pairs, shortest first: short pairs align best. Raises UserError when there are none."""
    if not path.exists():
        raise UserError(f"{path}: missing; run the prepare stage")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if not rows:
        raise UserError(f"{path}: no pairs")
    rows = sorted(rows, key=lambda row: (len(row["source"].split()), row["group"]))
    return [(row["source"], row["references"][0]) for row in rows]


def morphemes(pairs: list[tuple[str, str]]) -> Aligned:
    """The content words of the pairs."""
    korean, gaps = units([korean for _, korean in pairs])
    return Aligned(lemmas([english for english, _ in pairs]), korean, gaps)


def habits(pairs: list[tuple[str, str]], table: Table) -> dict[str, str]:
    """How the target speaks: its register, and whether it asks for what it commands (polite) or describes it."""
    polite = sum(korean.endswith("니다.") for _, korean in pairs)
    plain = sum(korean.endswith("다.") for _, korean in pairs) - polite
    asked = described = 0
    for english, korean in pairs:
        first = english.split()[0].lower() if english else ""
        if english.endswith(".") and (first, "v") in table and first != "please":
            asked += korean.endswith(("세요.", "시오."))
            described += korean.endswith("니다.")
    return {
        "register": "polite" if polite > plain else "plain",
        "commands": "described" if described >= max(EVIDENCE, 2 * asked) else "polite",
    }


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
    if pairs.gaps is not None:
        # Of each unit, the lemma that explains it best (the Viterbi alignment).
        order = np.lexsort((table[link], where))
        linked = source[link[order[np.append(np.flatnonzero(np.diff(where[order])), len(order) - 1)]]]
        found = _extended(found, pairs, ["", *english], linked)
    return {lemma: options for lemma, options in prior.items() if lemma not in found} | found


def _extended(found: Lexica, pairs: Aligned, names: list[str], linked: np.ndarray) -> Lexica:
    """Units by the run of nouns that they are part of in most cases, where one lemma explains all of it.

    linked: the lemma, as an index of `names`, of each unit of the pairs.
    """
    assert pairs.gaps is not None
    alone: Counter[tuple[str, str]] = Counter()
    runs: dict[tuple[str, str], Counter[str]] = {}
    slot = 0
    for row, gaps in zip(pairs.korean, pairs.gaps, strict=True):
        own = [names[i] for i in linked[slot : slot + len(row)]]
        slot += len(row)
        start = 0
        for end in range(1, len(row) + 1):
            if end < len(row) and gaps[end] is not None and own[end] == own[start] and not row[end - 1].endswith("다"):
                continue
            text = "".join((gaps[i] or "" if i > start else "") + row[i] for i in range(start, end))
            for unit in set(row[start:end]):
                alone[own[start], unit] += 1
                if end - start in (2, 3) and len(set(row[start:end])) == end - start:
                    runs.setdefault((own[start], unit), Counter())[text] += 1
            start = end
    longer: Lexica = {}
    for lemma, options in found.items():
        for unit, share in options.items():
            text, times = max(runs.get((lemma, unit), {unit: 0}).items(), key=lambda item: (item[1], item[0]))
            chosen = text if times > 1 and 2 * times >= alone[lemma, unit] else unit
            longer.setdefault(lemma, {})[chosen] = max(share, longer.get(lemma, {}).get(chosen, 0.0))
    return longer


def terms(pairs: Aligned, table: Table, induced: Lexica) -> dict[str, str]:
    """For hand-written entries none of whose alternatives the text uses much, the word that it does use."""
    found = {}
    seen: Counter[str] = Counter()
    used: dict[str, Counter[str]] = {}
    wanted = {key[0].lower() for key in table}
    for row, other in zip(pairs.english, pairs.korean, strict=True):
        words = set(other)
        for lemma in wanted & set(row):
            seen[lemma] += 1
            used.setdefault(lemma, Counter()).update(words)
    for (lemma, part), entry in table.items():
        low = lemma.lower()
        options = {
            word: share
            for word, share in induced.get(low, {}).items()
            if part in ("n", "v") and word.endswith("다") == (part == "v")
        }
        if not options or "unit" in entry.notes:
            continue
        best = max(options, key=options.__getitem__)
        times = used.get(low, Counter())[best.split()[-1]]
        known = max(used.get(low, Counter())[word.split()[-1].partition("/")[0]] for word in entry.korean)
        if best not in entry.korean and times >= EVIDENCE and times >= 2 * known:
            found[f"{lemma}/{part}"] = best
    return found


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
