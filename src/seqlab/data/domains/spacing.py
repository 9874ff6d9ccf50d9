"""Spacing: Korean sentences whose spaces were removed, and for each character whether it begins a word.

Source: software products, the Korean side of the pairs on which `translation` trains; target: everyday sentences.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge

from seqlab.artifacts import write_text
from seqlab.data.domains.base import split_of, write_meta
from seqlab.data.domains.translation import Translation
from seqlab.data.prepared import ALPHABET, SOURCE, TARGET, TEXTS, Meta
from seqlab.data.sequences import Sequences
from seqlab.settings import Count, Natural, ProperFraction

# As word segmentation has it (Xue 2003): a position is inside a word, or begins one.
INSIDE, BEGINS = "inside", "begins"
UNKNOWN = "\ufffd"  # stands for symbol 0, every character that training does not have often enough
SALT = "spacing source"  # so that what the source validates on is no function of how translation was split


class Spacing:
    """Characters without their spaces, marked where a space stood before them.

    The first character of a sentence begins a word, which is known and never scored (`first` is 1). All that is taken
    over of `translation` is its training split, by the same parameters; a sentence that, without its spaces, also
    stands in one of its other sets is left out. Everyday sentences are split by the hash of what they translate, so
    that two phrasings of one sentence never part; a source sentence that is among them is left out as well.

    vocabulary_size: symbols, of which 0 stands for all but the most frequent characters of the training splits.
    source_valid: share of the source, target_valid and target_test: shares of the target, by hash.
    """

    kind = "symbols"
    pretraining = "label"  # the source's spaces are known as well: its model learns the same task

    def __init__(
        self,
        *,
        corpora: dict[str, dict[str, str]],
        held_out: str,
        max_words: Count,
        max_characters: Count,
        max_ratio: Annotated[float, Ge(1)],
        sentence_words: Natural,
        valid: ProperFraction,
        test: ProperFraction,
        vocabulary_size: Annotated[int, Ge(2)],  # one for what is unknown
        source_valid: ProperFraction,
        target_valid: ProperFraction,
        target_test: ProperFraction,
    ) -> None:
        self.translation = Translation(
            corpora=corpora,
            held_out=held_out,
            max_words=max_words,
            max_characters=max_characters,
            max_ratio=max_ratio,
            sentence_words=sentence_words,
            valid=valid,
            test=test,
            vocabulary_size=vocabulary_size,
        )
        self.vocabulary_size, self.source_valid = vocabulary_size, source_valid
        self.target_valid, self.target_test = target_valid, target_test

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source and target with their marks, the alphabet, and the test's texts as pairs of a sentence without
        its spaces and with them. Raises UserError naming file and line.
        """
        unfit: Counter[str] = Counter()
        sets = self.translation.sets(raw, unfit)
        removed = Counter({"pairs that translation leaves out": unfit.total()})
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        taken: dict[str, str] = {}  # what a sentence is without its spaces, and where it stands

        def take(name: str, split: str, sentences: Iterable[str]) -> None:
            for sentence in sentences:
                letters = unspaced(sentence)
                if letters in taken:
                    removed[f"{name}: also in {taken[letters]}"] += 1
                elif len(letters) < 2:
                    removed[f"{name}: shorter than 2 characters"] += 1
                else:
                    found[name, split].append(" ".join(sentence.split()))
                    taken[letters] = f"the {name}"

        for row in sets["everyday"]:
            take(TARGET, split_of(row["group"], self.target_valid, self.target_test), row["references"])
        for name in ("valid", "test", "held_out"):
            taken |= {unspaced(text): f"translation's {name} set" for row in sets[name] for text in row["references"]}
        for row in sets["train"]:
            take(SOURCE, split_of(f"{SALT} {row['group']}", self.source_valid, 0.0), row["references"])
        self._write(found, removed, out)

    def _write(self, found: dict[tuple[str, str], list[str]], removed: Counter[str], out: Path) -> None:
        times = Counter(
            c for (_, split), texts in found.items() if split == "train" for t in texts for c in unspaced(t)
        )
        known = sorted(times, key=lambda c: (-times[c], c))[: self.vocabulary_size - 1]
        symbols = {c: i for i, c in enumerate(known, 1)}
        for (name, split), texts in found.items():
            values, marks = zip(*(encoded(text, symbols) for text in texts), strict=True)
            if unknown := sum(int((one == 0).sum()) for one in values):
                removed[f"{name} {split}: characters outside the alphabet"] = unknown
            first = np.ones(len(texts), np.int64)
            Sequences.from_arrays(values, first=first, marks=np.concatenate(marks)).save(out / name / split)
        lines = [
            {"source": unspaced(text), "references": [text], "origin": "everyday"} for text in found[TARGET, "test"]
        ]
        text = "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)
        write_text(out / TEXTS, text)
        write_text(out / ALPHABET, UNKNOWN + "".join(known))
        meta = Meta("symbols", len(known) + 1, ["label"], [INSIDE, BEGINS], removed=dict(sorted(removed.items())))
        write_meta(out, meta)


def unspaced(text: str) -> str:
    return "".join(text.split())


def encoded(text: str, symbols: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Symbols of the characters without spaces, (T,) uint16, and whether each begins a word, (T,) uint8."""
    words = text.split()
    marks = np.concatenate([np.arange(len(word)) == 0 for word in words])
    return np.array([symbols.get(c, 0) for word in words for c in word], np.uint16), marks.astype(np.uint8)
