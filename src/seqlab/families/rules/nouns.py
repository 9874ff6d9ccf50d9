"""Noun phrases, adjectives and adverbs: what stands before a noun in Korean, counters, particles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from seqlab.families.rules.analysis import Node
from seqlab.families.rules.conditions import PREDICATES, Conditions
from seqlab.families.rules.generation import Phrase, extend, native, number_of, sino
from seqlab.families.rules.lexicon import Entry, citation, class_of, nominal


class Nouns(Conditions, ABC):
    """Everything but clauses."""

    @abstractmethod
    def clause(self, node: Node, connective: str | None, outer: Node | None = None) -> Phrase:
        """A predicate with all that depends on it. `outer` is the subject of the clause around it."""

    def noun(self, node: Node, particle: str | None = None, floating: bool = False, keep: Any = None) -> Phrase:
        """A noun phrase with its particle; `floating` puts the particle before a number: 고양이가 세 마리."""
        if node.tag == "VBG" and self.lexicon.find(node.lemma, "v") is not None:
            return extend(self.clause(node, "nominal"), particle)
        before: list[tuple[int, int, Phrase]] = []
        order = self.rules["noun_order"]
        children = [child for child in node.children if keep is None or keep(child)]
        head, children = self._compound(node, children)
        count: Node | None = None
        measured = self._measured(node, children)
        for child in children:
            if child.dep not in order:
                if child.dep in self.rules["noun_rest"] and not node.features.get("copula"):
                    before.append((self.rules["noun_rest"][child.dep], child.index, self._rest(child, node)))
                continue
            if child.dep == "nummod" or (child.dep == "amod" and child.tag == "CD"):
                count = child
            elif phrase := self._before(child, node) if child is not measured else None:
                before.append((order[child.dep], child.index, phrase))
        words = [word for _, _, phrase in sorted(before, key=lambda part: part[:2]) for word in phrase]
        if any(child.lemma in ("many", "much") and self._asked(child) for child in children):
            return words + self._counted(node, head, "몇", particle, floating)
        if measured is not None and count is None:
            count = Node(node.index, "one", "one", "CD", "nummod")
        if count is not None:
            if not any(child.dep == "conj" for child in children):
                return words + self._numbered(node, head, count, measured, particle, floating)
            head = self._numbered(node, head, count, measured, None, False)
        elif node.lemma == "people" or (node.tag == "NNS" and node.lemma == "person"):
            head = [[("사람들", "NNG")]]
        elif node.tag in ("NNS", "NNPS") and "person" in self.notes(node):
            head = extend(head, self.rules["plural"])
        return self._row(words + head, children, particle)

    @staticmethod
    def _asked(node: Node) -> bool:
        """How many, how old."""
        return any(child.lemma == "how" for child in node.children)

    def _row(self, words: Phrase, children: list[Node], particle: str | None) -> Phrase:
        """Coordinated nouns; the particle follows the last."""
        second = next((child for child in children if child.dep == "conj"), None)
        named = next((child for child in children if child.dep == "appos"), None)
        if named is not None:
            words = [*extend(words, "+,/SP"), *self.noun(named)]
        if second is None:
            return extend(words, particle)
        link = next((child.lemma for child in children if child.dep == "cc"), None)
        table = self.rules["conjunctions" if self.style == "polite" else "coordination"]
        mark = table.get(link, "+,/SP") if link else "+,/SP"
        return extend(words, mark) + self.noun(second, particle)

    def _compound(self, node: Node, children: list[Node]) -> tuple[Phrase, list[Node]]:
        """The noun itself, together with a neighbour where the lexicon holds both as one (post office, last week)."""
        for child in children:
            for part in "nr":
                entry = self.lexicon.find(f"{child.lemma}_{node.lemma}", part)
                if entry is not None and child.dep in ("compound", "det", "amod"):
                    self.trace.lexicon.append((f"{child.lemma} {node.lemma}", entry.korean[0]))
                    return entry.phrase, [other for other in children if other is not child]
        if node.tag in ("DT", "WDT", "PDT") or node.part == "p":
            entry = self.lexicon.best(node.lemma, "p")
            if entry is not None:
                self.trace.lexicon.append((node.lemma, entry.korean[0]))
                return entry.phrase, children
        return self.word(node), children

    def _before(self, child: Node, node: Node) -> Phrase:
        """What stands before a noun."""
        child.head = node
        match child.dep:
            case "prep":
                words = self._noun_preposition(child)
            case "det" | "predet" | "poss" if any(self.holds(rule, child) for rule in self.rules["dropped"]):
                words = []
            case "poss":
                words = self.word(child) if child.part == "d" else extend(self.noun(child), "+의/JKG")
            case "det" | "predet":
                words = self._determiner(child)
            case "compound" | "nmod":
                words = self.noun(child)
            case "advmod":
                words = [] if child.lemma == "how" else self.modifier(child)
            case "amod" if child.tag not in ("VBG", "VBN") or not self._is_verb(child):
                words = [] if self._asked(child) else self._attributive(child)
            case _:
                words = self._relative(child)
        return words

    def _relative(self, child: Node) -> Phrase:
        """A relative clause or a participle."""
        child.features["relative"] = True
        auxiliary = child.child("aux")
        if child.tag == "VBN" and child.child("nsubj") is None:
            child.features |= {"passive": True, "past": True}
        elif child.dep == "acl" and auxiliary is not None and auxiliary.tag == "TO":
            child.features["future"] = True
        return self.clause(child, "adnominal")

    @abstractmethod
    def constituent(self, child: Node, node: Node, subject: Node | None) -> tuple[int, Phrase] | None:
        """The place and the words of a child of a predicate; None: it has no counterpart."""

    def _rest(self, child: Node, node: Node) -> Phrase:
        """What the parser hangs on a noun although no noun governs it."""
        if child.tag.startswith(PREDICATES):
            found = self.constituent(child, node, None)
            return found[1] if found else []
        return self.noun(child)

    def _is_verb(self, node: Node) -> bool:
        return self.lexicon.find(node.text.lower(), "a") is None and self.lexicon.find(node.lemma, "v") is not None

    def _determiner(self, node: Node) -> Phrase:
        entry = self.lexicon.best(node.lemma, "d")
        if entry is None:
            return self.word(node)
        self.trace.lexicon.append((node.lemma, entry.korean[0]))
        return entry.phrase

    def _attributive(self, node: Node) -> Phrase:
        """An adjective before a noun, with its degree."""
        words: Phrase = []
        if node.tag == "JJR" and node.lemma not in ("more", "less"):
            words.append([("더", "MAG")])
        if node.tag == "JJS" and node.lemma != "most":
            words.append([("가장", "MAG")])
        for child in node.children:
            if child.dep in ("advmod", "npadvmod"):
                words += self.modifier(child) if child.dep == "advmod" else self.noun(child)
        entry = self.lexicon.find(node.text.lower(), "a")
        if entry is not None:
            node.features |= {"lemma": node.text.lower(), "part": "a"}
        if node.part not in "avr" and entry is None:
            return words + self.noun(node)
        stem_words, kind = self._adjective(node, predicative=False)
        if kind == "determiner":
            return words + stem_words
        if (second := node.child("conj")) is not None and second.tag.startswith("JJ"):
            link = "or" if any(child.lemma == "or" for child in node.children) else "and"
            second.head = node.head
            return words + extend(stem_words, self.rules["connectives"][link]["verb"]) + self._attributive(second)
        table = self.rules["connectives"]["adnominal"]
        past = kind == "verb" and "past" in self.notes(node)
        return words + extend(
            stem_words, table["past"] if past or node.tag == "VBN" else table.get(kind, table["verb"])
        )

    def _noun_preposition(self, child: Node) -> Phrase:
        key, target = self._resolve(child)
        if target is None or (target.dep == "pcomp" and target.tag.startswith("IN")):
            return []
        template = self.rules["noun_prepositions"].get(key)
        if isinstance(template, list):
            template = next(
                rule["particle"]
                for rule in template
                if self.holds(rule.get("if"), child.head) and self.holds(rule.get("object"), target)
            )
        if template is None:
            table = self.rules["prepositions"].get(key, [{"particle": "+의/JKG"}])
            template = table[-1]["particle"]
        if target.tag.startswith("VB"):
            return extend(self.clause(target, "nominal"), template)
        return extend(self.noun(target), template)

    def _measured(self, node: Node, children: list[Node]) -> Node | None:
        """The `of` of what a counted measure contains: two cups of tea."""
        counted = any(child.dep == "nummod" or child.lemma in ("a", "an") for child in children)
        if "measure" not in self.notes(node) or not counted:
            return None
        return next((child for child in children if child.dep == "prep" and child.lemma == "of"), None)

    def _numbered(
        self, node: Node, head: Phrase, count: Node, measured: Node | None, particle: str | None, floating: bool
    ) -> Phrase:
        notes = self.notes(node)
        text = " ".join([*(c.text for c in count.children if c.tag == "CD"), count.text])
        value = number_of(text.split())
        if value is None:
            return self.word(count) + extend(head, particle)
        if unit := node.features.get("unit") or notes.get("unit"):
            by_sino = "sino" in notes and "unit" not in node.features
            written = text if text.isdecimal() else sino(value) if by_sino else native(value)
            return extend([[(written, "MM")], [(unit, "NNB")]], particle)
        if measured is not None and (what := measured.child("pobj")) is not None:
            number = text if text.isdecimal() else native(value)
            return extend([*self.noun(what), [(number, "MM")], [(notes["measure"], "NNB")]], particle)
        return self._counted(node, head, text if text.isdecimal() else native(value), particle, floating)

    def _counted(self, node: Node, head: Phrase, number: str, particle: str | None, floating: bool) -> Phrase:
        notes = self.notes(node)
        default = "명" if "person" in notes else "마리" if "animal" in notes else "개"
        counter: Phrase = [[(number, "MM")], [(notes.get("counter", default), "NNB")]]
        if floating:
            return extend(head, particle) + counter
        return head + extend(counter, particle)

    def _adjective(self, node: Node, predicative: bool) -> tuple[Phrase, str]:
        """An adjective's stem: as a predicate, or before a noun."""
        entry = self.entry(node)
        if entry is None:
            self.trace.unknown[node.lemma] += 1
            if not predicative:
                return [[(node.text, "SL")]], "determiner"
            return [[(node.text, "SL"), ("하", "XSA")]], "adjective"
        text = entry.korean[0]
        notes = entry.notes
        if node.features.get("weather") and notes.get("weather"):
            text = notes["weather"]
        elif predicative and "predicate" in notes:
            text = notes["predicate"]
        elif not predicative and "attributive" in notes:
            text = notes["attributive"]
        subject = node.child("nsubj") if predicative else node.head
        if (
            subject is not None
            and "person" in notes
            and "person" in self.notes(subject)
            and not node.features.get("past")
        ):
            text = notes["person"]
        if "thing" in notes and subject is not None and not {"person", "animal"} & self.notes(subject).keys():
            text = notes["thing"]
        self.trace.lexicon.append((node.lemma, text))
        verb = entry.part == "v"
        if verb and node.tag in ("VBN", "JJ"):
            return self._passive(node, entry)
        if "past" in notes and predicative:
            node.features["lexical_past"] = True
        words = citation(text, "v" if verb or "past" in notes else "a")
        if not text.split()[-1].partition("/")[0].endswith("다"):
            return (extend(words, "+이/VCP"), "copula") if predicative else (words, "determiner")
        return words, class_of(words, "v" if verb or "past" in notes else "a")

    def modifier(self, node: Node) -> Phrase:
        """An adverb or an adjective by itself, with its own modifiers before it."""
        words: Phrase = []
        for child in node.children:
            if entry := self.lexicon.find(f"{child.lemma}_{node.lemma}", "r"):
                return entry.phrase
            if child.dep in ("advmod", "npadvmod", "quantmod", "nummod"):
                words += self.modifier(child) if child.dep == "advmod" else self.noun(child)
        if node.tag in ("JJR", "RBR") and node.lemma not in ("more", "less") and node.child("advmod") is None:
            words.append([("더", "MAG")])
        if node.tag in ("JJS", "RBS") and node.lemma not in ("most", "least"):
            words.append([("가장", "MAG")])
        entry = self.lexicon.best(node.lemma, "r" if node.dep == "advmod" else node.part)
        if entry is None:
            return [*words, *self.word(node)]
        if entry.part in "va" and entry.korean[0].endswith("다"):
            stem_words, kind = self._adjective(node, predicative=False)
            return words + (extend(stem_words, "+게/EC") if kind != "determiner" else stem_words)
        self.trace.lexicon.append((node.lemma, entry.korean[0]))
        return words + entry.phrase

    def word(self, node: Node) -> Phrase:
        """One word by the lexicon, or as it is, counted as unknown."""
        entry = self.entry(node)
        if entry is not None:
            self.trace.lexicon.append((node.lemma, entry.korean[0]))
            return nominal(entry) if node.part in "nx" else entry.phrase
        value = number_of([node.text]) if node.tag == "CD" else None
        if value is None and any(c.isalpha() for c in node.text):
            self.trace.unknown[node.lemma] += 1
        return [[(node.text, "SL" if not node.text.isdecimal() else "SN")]]

    def _resolve(self, node: Node) -> tuple[str, Node | None]:
        """A preposition, of one word or several, and its object."""
        table = self.rules["prepositions"]
        # A participle that became a preposition (according to) is looked up as it is written.
        key = node.text.lower() if node.tag.startswith("VB") else node.lemma
        target = node.child("pobj", "pcomp")
        inner = node.child("prep")
        if target is not None and (of := target.child("prep")) is not None:
            long = f"{key}_{target.lemma}_{of.lemma}"
            if long in table:
                return long, of.child("pobj")
        if inner is None and target is not None and target.dep == "pcomp" and target.tag == "IN":
            inner = target
        if inner is not None and f"{key}_{inner.lemma}" in table:
            return f"{key}_{inner.lemma}", inner.child("pobj", "pcomp")
        return key, target

    def _passive(self, node: Node, entry: Entry) -> tuple[Phrase, str]:
        text = entry.korean[0]
        if entry.part == "n" and not text.endswith("다"):
            words = extend(citation(text, "n"), "+되/XSV")
        elif "passive" in entry.notes:
            words = citation(entry.notes["passive"], "v")
        elif text.endswith("되다"):
            words = citation(text, "v")
        elif text.endswith("하다"):
            words = citation(text.removesuffix("하다") + "되다", "v")
        else:
            words = extend(citation(text, "v"), "+어/EC +지/VX")
        if (
            not node.features.get("past")
            and node.lemma in ("close", "open", "lock", "hang", "turn")
            and not node.child("agent")
        ):
            node.features["resultative"] = True
        return words, "adjective" if entry.notes.get("passive") == "필요하다" else "verb"
