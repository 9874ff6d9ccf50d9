"""The rules of transfer.yaml, and whether a word meets a condition of theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from seqlab.families.rules.analysis import Node
from seqlab.families.rules.lexicon import Entry, Lexicon

Rule = dict[str, Any]
PREDICATES = ("VB", "MD")
# What holds of a predicate of which nothing else was said.
NEUTRAL = {"mood": "declarative", "person": "third", "negative": False}


@cache
def rules() -> dict[str, Any]:
    """transfer.yaml."""
    found: dict[str, Any] = yaml.safe_load(files(__package__).joinpath("transfer.yaml").read_text(encoding="utf-8"))
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass
class Trace:
    """What a translation did: words looked up and not found, and the constituents of each clause in Korean order."""

    lexicon: list[tuple[str, str]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    order: list[list[str]] = field(default_factory=list)


class Conditions:
    """Words seen through the lexicon. `style` of the translation is plain (한다) or polite (합니다).

    commands: how a polite text tells its reader what to do: asking for it (polite) or describing it (described).
    """

    def __init__(self, lexicon: Lexicon, style: str, trace: Trace, commands: str = "polite") -> None:
        self.lexicon, self.style, self.trace, self.rules = lexicon, style, trace, rules()
        self.commands = commands if style == "polite" else style
        self.tests: dict[str, Callable[[Any, Node], bool]] = {
            "lemma": lambda wanted, node: node.lemma in listed(wanted),
            "tag": lambda wanted, node: node.tag in listed(wanted),
            "dep": lambda wanted, node: node.dep in listed(wanted),
            "has": self._has,
            "lacks": lambda wanted, node: not any(self.holds(wanted, child) for child in node.children),
            "head": lambda wanted, node: self.holds(wanted, node.head),
            "feature": self._featured,
            "sense": self._noted,
            "note": self._noted,
            "style": lambda wanted, node: wanted == self.style,
            "verb": self._verb,
            "verb_only": self._verb_only,
            "year": lambda wanted, node: wanted == (node.text.isdecimal() and len(node.text) == 4),
            "gerund": lambda wanted, node: wanted == (self.base(node) is not None),
        }

    def entry(self, node: Node) -> Entry | None:
        """The lexicon's entry of a word, by what it is in the tree."""
        lemma = node.features.get("lemma", node.lemma)
        return self.lexicon.best(lemma, node.features.get("part", node.part))

    def holds(self, condition: Rule | None, node: Node | None) -> bool:
        """Whether a word meets a condition of the rules; without a word only the empty condition holds."""
        if node is None:
            return not condition
        return all(self.tests[key](wanted, node) for key, wanted in (condition or {}).items())

    def _has(self, wanted: Any, node: Node) -> bool:
        return all(any(self.holds(one, child) for child in node.children) for one in listed(wanted))

    def _noted(self, wanted: Any, node: Node) -> bool:
        notes = self.notes(node)
        if isinstance(wanted, dict):
            return all(notes.get(name) == value for name, value in wanted.items())
        return any(one in notes for one in listed(wanted))

    def _featured(self, wanted: Any, node: Node) -> bool:
        return all(self.feature(node, name) in listed(value) for name, value in wanted.items())

    def _verb(self, wanted: Any, node: Node) -> bool:
        entry = self.lexicon.best(node.lemma, "v")
        return bool(wanted == (entry is not None and entry.korean[0].endswith("다")))

    def _verb_only(self, wanted: Any, node: Node) -> bool:
        found = [self.lexicon.find(node.lemma, part) is not None for part in "vn"]
        return bool(wanted == (found == [True, False]))

    def base(self, node: Node) -> str | None:
        """The verb of a noun in -ing that has no entry as a noun."""
        lemma = node.lemma
        if node.tag != "NN" or not lemma.endswith("ing") or self.lexicon.find(lemma, "n"):
            return None
        root = lemma.removesuffix("ing")
        return next((form for form in (root, root + "e", root[:-1]) if self.lexicon.find(form, "v")), None)

    def notes(self, node: Node) -> dict[str, str]:
        """The notes of a word's entry."""
        entry = self.entry(node)
        return entry.notes if entry else {}

    @staticmethod
    def feature(node: Node, name: str) -> Any:
        """A feature of a predicate, or what holds when nothing was said of it."""
        return node.features.get(name, NEUTRAL.get(name, False))
