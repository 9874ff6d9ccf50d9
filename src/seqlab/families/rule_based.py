"""Translation by rule, without learning of sentences: analysis, lexicon, transfer, generation.

English is parsed (spaCy), each clause is rebuilt in Korean order by rules that are data (rules/transfer.yaml), words
come from a lexicon written by hand (rules/lexicon.tsv), and Kiwi conjugates. What is learned is lexical: words that the
lexicon lacks are induced from sentence pairs by word alignment (IBM Model 1; Brown et al. 1993, The mathematics of
statistical machine translation), and among alternatives that the lexicon offers the text of the target chooses.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import read_json, write_json
from seqlab.data.sequences import Space
from seqlab.errors import UserError
from seqlab.families.base import Use
from seqlab.families.rules.analysis import Node, parse
from seqlab.families.rules.conditions import Trace
from seqlab.families.rules.generation import surface
from seqlab.families.rules.lexicon import Entry, Lexicon, Table, written
from seqlab.families.rules.transfer import Transfer
from seqlab.families.translated import Translated
from seqlab.settings import Count, NonNegative, Register, Share

LEARNED = ("induced", "chosen", "habits")
LONG = 120
"""Words of a sentence beyond which it is translated word for word: no parse of such a sentence is worth its rules."""


@dataclass(frozen=True)
class Coverage:
    """How many words were translated, and which were not known."""

    words: int
    unknown: dict[str, int]

    @property
    def share(self) -> float:
        """Of the words looked up, those that the lexicon held."""
        missed = sum(self.unknown.values())
        return 1 - missed / max(self.words, 1)


class RuleBased:
    """English to Korean by rule."""

    fitted_by = "rules"
    kinds = ("pairs",)
    tasks = ("translate",)

    def __init__(
        self,
        *,
        style: Register,
        pairs: Count,
        iterations: Count,
        probability: Share,
        prior_weight: NonNegative,
    ) -> None:
        self.style, self.pairs, self.iterations = style, pairs, iterations
        self.probability, self.prior_weight = probability, prior_weight
        self.induced: dict[str, dict[str, float]] = {}
        self.chosen: dict[str, str] = {}
        self.habits: dict[str, str] = {}
        self.coverage = Coverage(0, {})

    @classmethod
    def assemble(cls, space: Space, classes: int | None, parameters: dict[str, Any]) -> RuleBased:
        """Rules with nothing learned; of the space they ask nothing."""
        return cls(**parameters)

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> RuleBased:
        """The rules with what was learned, which is no tensor."""
        return self.load(folder)

    def in_register(self, register: Register) -> RuleBased:
        """The same system speaking in another register."""
        other = copy(self)
        other.style = register
        return other

    def translate(self, texts: list[str]) -> list[str]:
        """One translation a text, whatever the text; `coverage` then says what was not known."""
        return [self._finish(steps) for steps in self._steps(texts)]

    def _steps(self, texts: list[str]) -> list[list[dict[str, Any]]]:
        lexicon = self.lexicon()
        words, unknown = 0, Counter[str]()
        found = []
        parted = [asides(_plain(text)) for text in texts]
        parsed = iter(parse([part for parts in parted for part, _ in parts], lexicon))
        for parts in parted:
            steps = []
            for nodes, frame in [(nodes, frame) for _, frame in parts for nodes in next(parsed)]:
                trace = Trace()
                steps.append(
                    _one(nodes, Transfer(lexicon, self.style, trace, self.habits.get("commands", "polite")), trace)
                )
                if steps[-1]["surface"]:
                    steps[-1]["surface"] = frame.format(steps[-1]["surface"])
                words += len(trace.lexicon) + trace.unknown.total()
                unknown += trace.unknown
            found.append(steps)
        self.coverage = Coverage(words, dict(unknown))
        return found

    @staticmethod
    def _finish(steps: list[dict[str, Any]]) -> str:
        return " ".join(step["surface"] for step in steps if step["surface"])

    def translated(self, texts: list[str]) -> Translated:
        """Their translations, each text analysed once; unknown: what the lexicon lacks, of the words looked up."""
        found = self._steps(texts)
        return Translated(
            [self._finish(steps) for steps in found],
            lambda: [self._unknown(steps) for steps in found],
            lambda chosen: self._explained([found[i] for i in chosen]),
        )

    @staticmethod
    def _unknown(steps: list[dict[str, Any]]) -> tuple[int, int]:
        missed = sum(sum(step.get("unknown", {}).values()) for step in steps)
        return missed, missed + sum(len(step.get("lexicon", [])) for step in steps)

    @staticmethod
    def _explained(found: list[list[dict[str, Any]]]) -> str:
        parts = [json.dumps(steps, ensure_ascii=False, indent=1) for steps in found]
        return "<meta charset='utf-8'>" + "".join(f"<pre>{escape(part)}</pre>" for part in parts)

    def explain(self, text: str) -> list[dict[str, Any]]:
        """The steps of a translation, for each sentence of it: tokens, analysis, lexicon, order, morphemes, surface."""
        return self._steps([text])[0]

    def lexicon(self) -> Lexicon:
        """The hand-written entries above the induced ones.

        In the register of the target's pairs the words that they prefer come first: a text of another register is of
        another kind, and takes from them only what is not written here.
        """
        table: Table = dict(written())
        for key, korean in self.chosen.items() if self.style == self.habits.get("register") else ():
            lemma, _, part = key.rpartition("/")
            entry = table[lemma, part]
            if korean in entry.korean:
                rest = tuple(other for other in entry.korean if other != korean)
                table[lemma, part] = replace(entry, korean=(korean, *rest))
            else:
                table[lemma, part] = Entry(part, (korean, *entry.korean))
        best = {lemma: max(options, key=options.__getitem__) for lemma, options in self.induced.items()}
        return Lexicon(table, best)

    def fit(self, prepared: Path, prior: RuleBased | None) -> RuleBased:
        """Induce and adapt the lexicon from the training pairs of a prepared domain; `prior` was fitted on the source.

        Raises UserError when the domain holds no pairs.
        """
        from seqlab.families.rules.induction import adapt, habits, induce, morphemes, read, terms

        rows = read(prepared / "pairs/train.jsonl")
        pairs = morphemes(rows[: self.pairs])
        before = prior.induced if prior is not None else {}
        self.induced = induce(pairs, before, self.prior_weight, self.iterations, self.probability)
        if prior is not None:
            self.chosen = terms(pairs, written(), self.induced) | adapt(pairs, written())
            self.habits = habits(rows, written())
        return self

    @property
    def parameters(self) -> int:
        """Probabilities and choices that were estimated."""
        return sum(map(len, self.induced.values())) + len(self.chosen) + len(self.habits)

    def save(self, folder: Path) -> None:
        """Write what was learned as JSON."""
        write_json(folder / "lexicon.json", {name: getattr(self, name) for name in LEARNED})

    def load(self, folder: Path) -> RuleBased:
        """Take up what `save` wrote. Raises UserError when it is missing, not JSON, or lacks a part."""
        found = read_json(folder / "lexicon.json")
        if not isinstance(found, dict) or not all(isinstance(found.get(name, {}), dict) for name in LEARNED):
            raise UserError(f"{folder / 'lexicon.json'}: expected {', '.join(LEARNED)}, each by lemma")
        for name in LEARNED:
            if name not in found:
                raise UserError(f"{folder / 'lexicon.json'}: no {name!r}, which a later version learns; train it again")
            setattr(self, name, found[name])
        return self


ASIDE = re.compile(r"(?:^|(?<=\s))\(([^()]*[^\W\d][^()]*)\)")


def asides(text: str) -> list[tuple[str, str]]:
    """A text without what it says in parentheses, and this, which is parsed on its own, in its place or behind.

    With each part the frame of its sentences' translations.
    """
    inside = [(match.group(1), "({})") for match in ASIDE.finditer(text)]
    outside = re.sub(r"\s+(?=[.,;:!?]|$)", "", ASIDE.sub("", text)).strip()
    if not inside or not outside:
        return [(text, "{}")]
    return [*inside, (outside, "{}")] if text.startswith("(") else [(outside, "{}"), *inside]


def _plain(text: str) -> str:
    """Without control characters, which no analysis foresees."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _one(nodes: list[Node], transfer: Transfer, trace: Trace) -> dict[str, Any]:
    """One sentence through all steps."""
    if not nodes:
        return {"surface": ""}
    steps: dict[str, Any] = {
        "tokens": [node.text for node in nodes],
        "analysis": [
            f"{node.text}/{node.tag} {node.dep} ← {node.head.text if node.head else 'ROOT'}" for node in nodes
        ],
    }
    if len(nodes) > LONG:
        return steps | {"surface": " ".join(_word_for_word(nodes, transfer.lexicon))}
    mark = nodes[-1].text if nodes[-1].text in (".", "?", "!", ":", "...") else ""
    phrase = transfer.sentence(nodes)
    return steps | {
        "lexicon": [f"{lemma} → {korean}" for lemma, korean in trace.lexicon],
        "unknown": dict(trace.unknown),
        "order": trace.order,
        "morphemes": [" + ".join(f"{form}/{tag}" for form, tag in word) for word in phrase],
        "surface": surface(phrase) + mark,
    }


def _word_for_word(nodes: list[Node], lexicon: Lexicon) -> list[str]:
    found = []
    for node in nodes:
        if node.lemma in ("a", "an", "the"):
            continue
        entry = lexicon.best(node.lemma, node.part)
        found.append(" ".join(part.partition("/")[0] for part in entry.korean[0].split()) if entry else node.text)
    return found
