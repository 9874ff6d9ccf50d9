"""Predicates: a stem, its layers from the inside out, and its ending."""

from __future__ import annotations

from typing import Any

from seqlab.families.rules.analysis import Node
from seqlab.families.rules.conditions import NEUTRAL, Rule, listed
from seqlab.families.rules.generation import Phrase, extend
from seqlab.families.rules.lexicon import Entry, citation, class_of
from seqlab.families.rules.nouns import Nouns

GIVEN_ADJECTIVES = ("있다", "없다", "고맙다", "어떻다")


def _named(words: Phrase) -> Phrase:
    """A stem as the name of what it does: 삭제하 → 삭제, 열 → 열기."""
    *rest, last = words
    (*before, (form, _)) = last
    if form.endswith("하") and (form != "하" or before):
        return [*rest, [*before, (form[:-1], "NNG")] if form != "하" else before]
    return [*rest, [*last, ("기", "ETN")]]


class Predicates(Nouns):
    """What stands at the end of a clause."""

    def predicate(self, node: Node, connective: str | None) -> Phrase:
        """The stem with its layers and its ending."""
        words, kind = self._stem(node)
        features = {**NEUTRAL, **node.features, "class": kind, "style": self.style}
        how = self.rules["connectives"][connective] if connective else {"tense": "keep"}
        features["tense"] = how["tense"]
        if how["tense"] == "past":
            features["tense"], features["future"] = "keep", False
        if features.pop("lexical_past", False):
            features["past"] = True
        if connective is not None:
            features["mood"] = "declarative"
        for layer in self.rules["predicate"]:
            wanted = layer["if"]
            if all(features.get(name, False) in listed(value) for name, value in wanted.items()):
                words = extend(words, layer["add"])
                features["class"] = layer.get("class", features["class"])
                features |= dict.fromkeys(layer.get("done", ()), False)
                if features["class"] == "not_copula":
                    words = self._deny(words)
                    features |= {"class": "adjective", "negative": False}
                if "negative" in wanted:
                    features["negative"] = False
                for name in ("modal", "experience", "progressive"):
                    if name in wanted:
                        features[name] = False
        if connective is None and features["mood"] == "request" and words[-1][-1][0] == "주":
            return extend(words, self.rules["endings"]["imperative"]["polite"]["other"])
        if connective is None and features["mood"] == "title" and features["class"] == "verb":
            return _named(words)
        return extend(words, self._ending(features, connective, how))

    @staticmethod
    def _deny(words: Phrase) -> Phrase:
        """학생이다 → 학생이 아니다."""
        *rest, last = words
        return [*rest, [*last[:-1], ("이", "JKS")], [("아니", "VCN")]]

    def _ending(self, features: dict[str, Any], connective: str | None, how: Rule) -> str:
        kind = "adjective" if features["class"] == "verb_exist" else features["class"]
        kind = "verb" if features["class"] == "verb_exist" and connective == "adnominal" else kind
        if connective is None:
            mood = features["mood"]
            if mood == "title":
                return "+기/ETN"
            if mood in ("imperative", "request", "propositive") and features["class"] == "adjective":
                mood = "imperative"
            if mood == "question" and features.get("future") and not features.get("past"):
                mood = "future_question"
            table = self.rules["endings"][mood][self.commands if mood == "imperative" else self.style]
        else:
            table = how
            if connective == "adnominal":
                if features.get("future"):
                    kind = "future"
                elif features.get("past") or features.get("perfect"):
                    kind = "past" if kind == "verb" else "past_adjective"
            if connective == "quote" and features.get("future"):
                kind = "copula"
        return table.get(kind) or table.get("other") or table.get("verb") or ""

    def _stem(self, node: Node) -> tuple[Phrase, str]:
        """The predicate without layers, and its class of conjugation."""
        if "stem" in node.features:
            return self._given(node)
        if node.features.get("copula"):
            return self._copula(node), "copula"
        if node.features.get("linking") or node.tag.startswith("J"):
            return self._adjective(node, predicative=True)
        entry = self.entry(node)
        if entry is None:
            self.trace.unknown[node.lemma] += 1
            suffix = "되" if node.features.get("passive") else "하"
            return [[(node.lemma, "SL"), (suffix, "XSV")]], "verb"
        self.trace.lexicon.append((node.lemma, entry.korean[0]))
        return self._passive(node, entry) if node.features.get("passive") else self._verb_stem(node, entry)

    @staticmethod
    def _given(node: Node) -> tuple[Phrase, str]:
        """A stem that a construction has set; the negative of 있다 is 없다."""
        text = node.features["stem"]
        if text == "있다" and node.features.get("negative") and not node.features.get("modal"):
            node.features["negative"] = False
            text = "없다"
        words = citation(text, "a" if text in GIVEN_ADJECTIVES else "v")
        return words, class_of(words, "a" if text in GIVEN_ADJECTIVES else "v")

    def _verb_stem(self, node: Node, entry: Entry) -> tuple[Phrase, str]:
        text = entry.korean[0]
        if node.features.get("negative") and "negative" in entry.notes and not node.features.get("modal"):
            node.features["negative"] = False
            return citation(entry.notes["negative"], "v"), "verb"
        if "thing" in entry.notes and self._thing(node):
            text = entry.notes["thing"]
        part = "a" if "adjective" in entry.notes else "v"
        words = citation(text, part)
        if entry.part == "n" and not text.endswith("다"):
            return extend(words, "+하/XSV"), "verb"
        return words, class_of(words, part)

    def _thing(self, node: Node) -> bool:
        """Whether the subject, or the noun that a relative clause is about, is no living being."""
        subject = node.child("nsubj")
        if subject is None or subject.tag in ("WDT", "WP"):
            subject = node.head if node.features.get("relative") else None
        return subject is not None and not {"person", "animal"} & self.notes(subject).keys()

    def _copula(self, node: Node) -> Phrase:
        if node.features.get("benefit"):
            target = node.child("pobj")
            assert target is not None
            return extend(self.noun(target), "+를/JKO 위하/VV +ᆫ/ETM 것/NNB +이/VCP")
        if node.features.get("amount"):
            return extend(extend([], node.features["amount"]), "+이/VCP")
        words = self.noun(node, keep=lambda child: not self._of_clause(child, node))
        return extend(words, "+이/VCP")

    def _of_clause(self, child: Node, node: Node) -> bool:
        """Whether a child of a predicate noun came from the verb it replaced."""
        return child.dep == "prep" and child.index < node.index
