"""Transfer: an English dependency tree becomes Korean words in Korean order, by the rules of transfer.yaml."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from seqlab.families.rules.analysis import Node
from seqlab.families.rules.generation import Phrase, extend, native, number_of, sino, surface
from seqlab.families.rules.lexicon import Entry, Lexicon, citation, stem

Rule = dict[str, Any]
CASES = {"가": "JKS", "를": "JKO"}
PREDICATES = ("VB", "MD")
NEUTRAL = {"mood": "declarative", "person": "third", "negative": False}
COPIED = ("past", "future", "mood", "person", "linking", "modal", "need", "please", "main")


@cache
def rules() -> dict[str, Any]:
    """transfer.yaml."""
    return yaml.safe_load(files(__package__).joinpath("transfer.yaml").read_text(encoding="utf-8"))


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@dataclass
class Trace:
    """What a translation did: words looked up and not found, and the constituents of each clause in Korean order."""

    lexicon: list[tuple[str, str]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    order: list[list[str]] = field(default_factory=list)


class Transfer:
    """Translates one sentence at a time. `style` is plain (한다) or polite (합니다)."""

    def __init__(self, lexicon: Lexicon, style: str, trace: Trace) -> None:
        self.lexicon, self.style, self.trace, self.rules = lexicon, style, trace, rules()

    # Conditions

    def entry(self, node: Node) -> Entry | None:
        """The lexicon's entry of a word, by what it is in the tree."""
        lemma = node.features.get("lemma", node.lemma)
        return self.lexicon.best(lemma, node.features.get("part", node.part))

    def holds(self, condition: Rule | None, node: Node | None) -> bool:
        """Whether a word meets a condition of the rules."""
        if node is None:
            return not condition
        return all(self._meets(key, wanted, node) for key, wanted in (condition or {}).items())

    def _meets(self, key: str, wanted: Any, node: Node) -> bool:
        match key:
            case "lemma" | "tag" | "dep":
                return getattr(node, key) in listed(wanted)
            case "has":
                return all(any(self.holds(one, child) for child in node.children) for one in listed(wanted))
            case "lacks":
                return not any(self.holds(wanted, child) for child in node.children)
            case "head":
                return self.holds(wanted, node.head)
            case "feature":
                return all(self.feature(node, name) in listed(value) for name, value in wanted.items())
            case "gerund":
                return self._base(node) is not None
            case "verb":
                return (entry := self.lexicon.best(node.lemma, "v")) is not None and entry.korean[0].endswith("다")
            case "verb_only":
                return self.lexicon.find(node.lemma, "v") is not None and self.lexicon.find(node.lemma, "n") is None
            case "sense":
                entry = self.entry(node)
                return entry is not None and any(one in entry.notes for one in listed(wanted))
            case "note":
                notes = self._notes(node)
                if isinstance(wanted, dict):
                    return all(notes.get(name) == value for name, value in wanted.items())
                return any(one in notes for one in listed(wanted))
        raise ValueError(f"transfer.yaml: unknown condition {key!r}")

    def _notes(self, node: Node) -> dict[str, str]:
        entry = self.entry(node)
        return entry.notes if entry else {}

    @staticmethod
    def feature(node: Node, name: str) -> Any:
        return node.features.get(name, NEUTRAL.get(name, False))

    # Sentences

    def sentence(self, nodes: list[Node]) -> Phrase:
        """The words of a sentence in Korean order, with an ending but without final punctuation."""
        for node in nodes:
            self._repair(node)
        roots = [node for node in nodes if node.head is None]
        made: Phrase = []
        for root in roots:
            root.features |= {"main": True, "mood": self._mood(root, nodes)}
            made += self.clause(root, None) if self.predicative(root) else self.fragment(root)
        return made

    def _repair(self, node: Node) -> None:
        for rule in self.rules["repairs"]:
            if self.holds(rule["if"], node):
                if "gerund" in rule["if"]:
                    node.lemma = self._base(node) or node.lemma
                node.tag, node.dep = rule.get("tag", node.tag), rule.get("dep", node.dep)
                for child in node.children:
                    child.dep = rule.get("relabel", {}).get(child.dep, child.dep)

    def _base(self, node: Node) -> str | None:
        """The verb of a noun in -ing that has no entry as a noun."""
        lemma = node.lemma
        if node.tag != "NN" or not lemma.endswith("ing") or self.lexicon.find(lemma, "n"):
            return None
        root = lemma.removesuffix("ing")
        return next((form for form in (root, root + "e", root[:-1]) if self.lexicon.find(form, "v")), None)

    def predicative(self, node: Node) -> bool:
        """Whether a word heads a clause."""
        return node.tag.startswith(PREDICATES) or any(c.dep in ("nsubj", "nsubjpass", "aux") for c in node.children)

    def fragment(self, node: Node) -> Phrase:
        """A sentence without a predicate: a heading, a name, an exclamation."""
        if node.tag.startswith("JJ") and node.children:
            node.features["linking"] = True
            return self.clause(node, None)
        words = self.noun(node) if node.part in "npcdx" else self.modifier(node)
        for child in node.children:
            if child.dep in ("advcl", "ccomp", "relcl") and node.part not in "npcdx":
                words = self.clause(child, "when") + words
        return words

    def _mood(self, root: Node, nodes: list[Node]) -> str:
        subject = root.child("nsubj", "nsubjpass", "expl", "csubj")
        if nodes[-1].text.endswith("?"):
            return "question"
        auxiliary = root.child("aux")
        if root.tag in ("VB", "VBP") and subject is None and (auxiliary is None or auxiliary.lemma == "do"):
            if any(node.lemma == "please" for node in nodes):
                return "request"
            return "imperative" if nodes[-1].text[-1] in ".!" else "title"
        return "declarative"

    # Clauses

    def clause(self, node: Node, connective: str | None, outer: Node | None = None) -> Phrase:
        """A predicate with all that depends on it. `outer` is the subject of the clause around it."""
        self._read_features(node)
        self._person(node)
        self._phrasal(node)
        node = self._construct(node)
        subject = node.child("nsubj", "nsubjpass")
        joined = self._coordinated(node, subject)
        connective_here = connective
        if joined is not None:
            connective_here = joined[0]
        parts = self._constituents(node, subject, outer, connective_here)
        words = [word for _, _, phrase in sorted(parts, key=lambda part: part[:2]) for word in phrase]
        self.trace.order.append([surface(phrase) for _, _, phrase in sorted(parts, key=lambda part: part[:2])])
        if joined is None:
            return words
        return words + self.clause(joined[1], connective, subject if joined[1].child("nsubj") is None else outer)

    def _read_features(self, node: Node) -> None:
        for rule in self.rules["features"]:
            if not self.holds(rule.get("if"), node):
                continue
            if "child" in rule:
                found = [child for child in node.children if self.holds(rule["child"], child)]
                if not found:
                    continue
                if not rule.get("keep"):
                    node.children = [child for child in node.children if child not in found]
            if "drop" in rule:
                node.children = [child for child in node.children if not self.holds(rule["drop"], child)]
            node.features |= rule["set"]
        if node.features.get("sense"):
            node.features["stem"] = node.features["sense"]
        for child in node.children:
            words = [child, *child.children] if child.dep in ("nsubj", "nsubjpass", "dobj", "attr", "advmod") else []
            if any(word.lemma in self.rules["negative_words"] and word.dep != "intj" for word in words):
                node.features["negative"] = True
                child.children = [word for word in child.children if word.lemma != "no"]

    def _person(self, node: Node) -> None:
        subject = node.child("nsubj", "nsubjpass")
        if subject is not None:
            persons = {"I": "first", "we": "first", "you": "second"}
            node.features["person"] = persons.get(subject.lemma, "third")
        elif self.feature(node, "mood") in ("imperative", "request", "title"):
            node.features["person"] = "second"

    def _phrasal(self, node: Node) -> None:
        """A verb and its particle that the lexicon holds as one: get up, turn off."""
        for child in node.children:
            key = f"{node.lemma}_{child.lemma}"
            if child.dep in ("prt", "advmod", "prep") and self.lexicon.find(key, "v") and not child.children:
                node.features["lemma"] = key
                node.children.remove(child)
                return

    def _construct(self, node: Node) -> Node:
        """Apply the first construction that fits, until none does."""
        done: list[Rule] = []
        while rule := next(
            (r for r in self.rules["constructions"] if r not in done and self.holds(r["if"], node)), None
        ):
            done.append(rule)
            if "drop" in rule:
                node.children = [child for child in node.children if not self.holds(rule["drop"], child)]
            if "promote" not in rule:
                for child in node.children:
                    child.dep = rule.get("relabel", {}).get(child.dep, child.dep)
            if "lift" in rule:
                self._lift(node, rule["lift"])
            if "stem" in rule:
                node.features["stem"] = rule["stem"]
            node.features |= rule.get("set", {})
            if "promote" in rule:
                node = self._promote(node, rule)
        return node

    def _lift(self, node: Node, rule: Rule) -> None:
        """Children of some children become the predicate's own."""
        for child in [child for child in node.children if self.holds(rule["from"], child)]:
            for grandchild in [one for one in child.children if self.holds(rule["child"], one)]:
                child.children.remove(grandchild)
                node.adopt(grandchild)

    def _promote(self, node: Node, rule: Rule) -> Node:
        chosen = node.child(*listed(rule["promote"]))
        assert chosen is not None
        if "drop" in rule:
            chosen.children = [child for child in chosen.children if not self.holds(rule["drop"], child)]
        for child in chosen.children:
            child.dep = rule.get("relabel", {}).get(child.dep, child.dep)
        outer, chosen.features = node.features, {}
        for name in ("lemma", "stem"):
            outer.pop(name, None)
        if chosen.tag.startswith(PREDICATES):
            self._read_features(chosen)
        chosen.features = {**outer, **{k: v for k, v in chosen.features.items() if k not in ("past", "infinitive")}}
        chosen.head, chosen.dep = node.head, node.dep
        for child in node.children:
            if child is not chosen:
                chosen.adopt(child)
        self._phrasal(chosen)
        return chosen

    def _coordinated(self, node: Node, subject: Node | None) -> tuple[str, Node] | None:
        """The next clause in a row and the connective before it; what the row shares moves to its last clause."""
        if self.feature(node, "copula"):
            return None
        second = next(
            (c for c in node.children if c.dep == "conj" and (self.predicative(c) or self.feature(node, "linking"))),
            None,
        )
        if second is None:
            return None
        node.children.remove(second)
        word = node.child("cc")
        lemma = word.lemma if word is not None and word.lemma in ("and", "or", "but", "so") else "and"
        own = second.child("nsubj", "nsubjpass") is not None
        second.features |= {name: node.features[name] for name in COPIED if name in node.features}
        if own:
            for name in ("modal", "need", "past", "future", "linking"):
                second.features.pop(name, None)
            return ("and_past" if lemma == "and" else lemma), second
        if self.feature(node, "linking") and second.tag.startswith(PREDICATES):
            second.features.pop("linking")
        if lemma in ("and", "or"):
            for name in ("modal", "need"):
                node.features.pop(name, None)
        return lemma, second

    def _constituents(
        self, node: Node, subject: Node | None, outer: Node | None, connective: str | None
    ) -> list[tuple[int, int, Phrase]]:
        parts: list[tuple[int, int, Phrase]] = []
        core = node.features.get("copula")
        for child in list(node.children):
            if (
                core
                and child.dep in self.rules["noun_order"]
                and child.dep not in ("advmod",)
                and not self._of_clause(child, node)
            ):
                continue  # it belongs to the noun that is the predicate
            if (core and child.dep in ("conj", "cc")) or (node.features.get("amount") and child.lemma == "how"):
                continue
            if child is subject and outer is not None and self._same(subject, outer):
                continue
            if node.features.get("relative") and child.tag in ("WDT", "WP", "WRB") and child.dep != "mark":
                continue
            if (found := self._constituent(child, node, subject)) is not None:
                parts.append((found[0], child.index, found[1]))
        parts.append((100, node.index, self.predicate(node, connective)))
        return parts

    def _of_clause(self, child: Node, node: Node) -> bool:
        """Whether a child of a predicate noun came from the verb it replaced."""
        return child.dep == "prep" and child.index < node.index

    def _same(self, subject: Node, outer: Node) -> bool:
        return subject.lemma == outer.lemma and subject.tag == "PRP"

    def _constituent(self, child: Node, node: Node, subject: Node | None) -> tuple[int, Phrase] | None:
        rule = next((r for r in self.rules["roles"] if self._role_holds(r["if"], child, node)), None)
        if rule is None or rule.get("skip"):
            return None
        place = rule["place"]
        if rule.get("preposition"):
            return self._prepositional(child, node, place)
        if rule.get("replace"):
            return place, extend([], rule["particle"])
        if "clause" in rule:
            # A subject that both clauses share stands once, in front of both.
            inner = child.child("nsubj", "nsubjpass")
            implied = subject or (
                Node(-1, "you", "you", "PRP", "nsubj") if node.features.get("person") == "second" else None
            )
            if child.dep != "advcl" and implied is not None and implied.index < 0:
                implied = None  # only an adverbial clause leaves out the one addressed
            shared = inner is not None and implied is not None and self._same(inner, implied)
            if rule["clause"] == "governed":
                words = extend(self.clause(child, "governed", implied), f"+{self._notes(node)['to']}/EC")
            else:
                words = extend(self.clause(child, rule["clause"], implied), rule.get("particle"))
            return (12 if place == 0 and (shared or inner is None) and subject is not None else place), words
        particle = rule.get("particle")
        if rule.get("locative"):
            found = next(r for r in self.rules["locative"] if self.holds(r.get("if"), node))
            particle = found.get("particle")
            place = 48 if "motion" in self._notes(node) else place
        if rule.get("governed"):
            own = self._notes(node).get("attr" if child.dep == "attr" else "object")
            if own and (own != "에게" or child.part == "p" or "person" in self._notes(child)):
                particle = f"+{own}/{CASES.get(own, 'JKB')}"
        target = child.child("pobj") if rule.get("through") else child
        if target is None:
            return None
        if child.dep in ("advmod", "neg", "amod", "quantmod") and not rule.get("locative"):
            return place, self.modifier(child)
        return place, self.noun(target, particle, floating=bool(rule.get("float")))

    def _role_holds(self, condition: Rule, child: Node, node: Node) -> bool:
        child.head = node
        return self.holds(condition, child)

    def _resolve(self, node: Node) -> tuple[str, Node | None]:
        """A preposition, of one word or several, and its object."""
        table = self.rules["prepositions"]
        key, target = node.lemma, node.child("pobj", "pcomp")
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

    def _prepositional(self, child: Node, node: Node, place: int) -> tuple[int, Phrase] | None:
        key, target = self._resolve(child)
        if target is None:
            return None
        if target.dep == "pcomp" and target.tag.startswith("VB"):
            linked = {"for": "reason", "before": "before", "after": "after", "by": "simultaneous"}.get(key)
            if linked is not None:
                linked = "thanks" if self.feature(node, "thanks") else linked
                return 5, self.clause(target, linked, node.child("nsubj"))
            words = self.clause(target, "nominal")
        else:
            words = []
        notes = self._notes(node)
        governed = notes.get(key)
        if governed is None or (key in ("that", "to") and "motion" in notes):
            table = self.rules["prepositions"].get(key, [{"particle": "+에/JKB"}])
            rule = next(
                (r for r in table if self.holds(r.get("if"), node) and self.holds(r.get("object"), target)), table[-1]
            )
            particle, place = rule["particle"], rule.get("place", place)
        elif key == "to" and target.tag == "VB":
            return None
        else:
            particle, place = f"+{governed}/{CASES.get(governed, 'JKB')}", 48 if governed == "에" else 55
        if target.tag == "CD" and "시/NNB" in particle:
            return place, self._clock(target, particle)
        return place, extend(words, particle) if words else self.noun(target, particle)

    def _clock(self, node: Node, particle: str) -> Phrase:
        """Hours are counted in native, minutes in Sino-Korean."""
        minutes = node.child("nummod", "compound")
        first, second = (node, None) if minutes is None else (minutes, node)
        value = number_of([first.text])
        words: Phrase = [[(native(value) if value is not None else first.text, "MM")]]
        words = extend(words, "시/NNB")
        if second is not None and (value := number_of([second.text])) is not None:
            words = extend([*words, [(sino(value), "MM")]], "분/NNB")
        return extend(words, particle.removeprefix("시/NNB "))

    # Predicates

    def predicate(self, node: Node, connective: str | None) -> Phrase:
        """The stem with its layers and its ending."""
        words, kind = self._stem(node)
        features = {**NEUTRAL, **node.features, "class": kind}
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
            table = self.rules["endings"][mood][self.style]
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
        features = node.features
        if "stem" in features:
            stem_text = features["stem"]
            if stem_text == "있다" and features.get("negative") and not features.get("modal"):
                features["negative"] = False
                stem_text = "없다"
            return citation(stem_text, "a" if stem_text in ("있다", "없다", "고맙다") else "v"), self._class_of(
                citation(stem_text, "a"), "a" if stem_text in ("있다", "없다", "고맙다") else "v"
            )
        if features.get("copula"):
            return self._copula(node), "copula"
        if features.get("linking") or node.tag.startswith("J"):
            return self._adjective(node, predicative=True)
        entry = self.entry(node)
        if entry is None:
            return self._unknown_predicate(node)
        self.trace.lexicon.append((node.lemma, entry.korean[0]))
        if features.get("passive"):
            return self._passive(node, entry)
        if features.get("negative") and "negative" in entry.notes and not features.get("modal"):
            features["negative"] = False
            words = citation(entry.notes["negative"], "v")
            return words, "verb"
        part = "a" if "adjective" in entry.notes else "v"
        text = entry.notes["thing"] if "thing" in entry.notes and self._thing(node) else entry.korean[0]
        words = citation(text, part)
        if entry.part == "n" and not entry.korean[0].endswith("다"):
            words = extend(words, "+하/XSV")
            return words, "verb"
        return words, self._class_of(words, part if entry.part in "va" else entry.part)

    def _thing(self, node: Node) -> bool:
        """Whether the subject, or the noun that a relative clause is about, is no living being."""
        subject = node.child("nsubj")
        if subject is None or subject.tag in ("WDT", "WP"):
            subject = node.head if node.features.get("relative") else None
        return subject is not None and not {"person", "animal"} & self._notes(subject).keys()

    def _class_of(self, words: Phrase, part: str) -> str:
        form, tag = stem(words)
        if tag == "VCP":
            return "copula"
        if form in ("있", "없") or form.endswith(("있", "없")):
            return "exist"
        return "verb" if part == "v" else "adjective"

    def _passive(self, node: Node, entry: Entry) -> tuple[Phrase, str]:
        text = entry.korean[0]
        if "passive" in entry.notes:
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

    def _unknown_predicate(self, node: Node) -> tuple[Phrase, str]:
        self.trace.unknown[node.lemma] += 1
        suffix = "되" if node.features.get("passive") else "하"
        return [[(node.lemma, "SL"), (suffix, "XSV")]], "verb"

    def _copula(self, node: Node) -> Phrase:
        if node.features.get("benefit"):
            target = node.child("pobj")
            assert target is not None
            return extend(self.noun(target), "+를/JKO 위하/VV +ᆫ/ETM 것/NNB +이/VCP")
        if node.features.get("amount"):
            return extend(extend([], node.features["amount"]), "+이/VCP")
        words = self.noun(node, keep=lambda child: not self._of_clause(child, node))
        return extend(words, "+이/VCP")

    # Words

    def _adjective(self, node: Node, predicative: bool) -> tuple[Phrase, str]:
        """An adjective's stem: as a predicate, or before a noun."""
        entry = self.entry(node)
        if entry is None:
            self.trace.unknown[node.lemma] += 1
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
            and "person" in self._notes(subject)
            and not node.features.get("past")
        ):
            text = notes["person"]
        self.trace.lexicon.append((node.lemma, text))
        verb = entry.part == "v"
        if verb and node.tag in ("VBN", "JJ"):
            return self._passive(node, entry)
        if "past" in notes and predicative:
            node.features["lexical_past"] = True
        words = citation(text, "v" if verb or "past" in notes else "a")
        if not text.split()[-1].partition("/")[0].endswith("다"):
            return (extend(words, "+이/VCP"), "copula") if predicative else (words, "determiner")
        return words, self._class_of(words, "v" if verb or "past" in notes else "a")

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
                continue
            if child.dep == "nummod" or (child.dep == "amod" and child.tag == "CD"):
                count = child
            elif phrase := self._before(child, node) if child is not measured else None:
                before.append((order[child.dep], child.index, phrase))
        words = [word for _, _, phrase in sorted(before, key=lambda part: part[:2]) for word in phrase]
        how_many = next((child for child in children if child.lemma in ("many", "much") and child.child("advmod") is not None
                         and child.child("advmod").lemma == "how"), None)  # type: ignore[union-attr]  # fmt: skip
        if how_many is not None:
            head = self._counted(node, head, "몇", particle, floating)
        elif count is not None:
            row = any(child.dep == "conj" for child in children)
            head = self._numbered(node, head, count, measured, None if row else particle, floating and not row)
            head = self._row(node, head, children, particle) if row else head
        else:
            if node.tag in ("NNS", "NNPS") and "person" in self._notes(node) and node.lemma != "people":
                head = extend(head, self.rules["plural"])
            if node.lemma == "people" or (node.tag == "NNS" and node.lemma == "person"):
                head = [[("사람들", "NNG")]]
            head = self._row(node, words + head, children, particle)
            return head
        return words + head

    def _row(self, node: Node, words: Phrase, children: list[Node], particle: str | None) -> Phrase:
        """Coordinated nouns; the particle follows the last."""
        second = next((child for child in children if child.dep == "conj"), None)
        if second is None:
            return extend(words, particle)
        link = next((child.lemma for child in children if child.dep == "cc"), None)
        mark = self.rules["coordination"].get(link, "+,/SP") if link else "+,/SP"
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
        if child.dep in ("relcl", "acl") or (
            child.dep == "amod" and child.tag in ("VBG", "VBN") and self._is_verb(child)
        ):
            child.features["relative"] = True
            if child.tag == "VBN" and child.child("nsubj") is None:
                child.features |= {"passive": True, "past": True}
            if child.dep == "acl" and child.child("aux") is not None and child.child("aux").tag == "TO":  # type: ignore[union-attr]
                child.features["future"] = True
            return self.clause(child, "adnominal")
        if child.dep == "prep":
            return self._noun_preposition(child)
        if child.dep == "poss":
            return self.word(child) if child.part == "d" else extend(self.noun(child), "+의/JKG")
        if child.dep in ("det", "predet"):
            child.head = node
            return [] if any(self.holds(rule, child) for rule in self.rules["dropped"]) else self._determiner(child)
        if child.dep in ("compound", "nmod"):
            return self.noun(child)
        if child.dep == "advmod":
            return [] if child.lemma == "how" else self.modifier(child)
        if any(grand.lemma == "how" for grand in child.children):
            return []
        return self._attributive(child)

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
        table = self.rules["connectives"]["adnominal"]
        past = kind == "verb" and "past" in self._notes(node)
        return words + extend(
            stem_words, table["past"] if past or node.tag == "VBN" else table.get(kind, table["verb"])
        )

    def _noun_preposition(self, child: Node) -> Phrase:
        key, target = self._resolve(child)
        if target is None or (target.dep == "pcomp" and target.tag.startswith("IN")):
            return []
        template = self.rules["noun_prepositions"].get(key)
        if isinstance(template, list):
            template = next(rule["particle"] for rule in template if self.holds(rule.get("if"), child.head))
        if template is None:
            table = self.rules["prepositions"].get(key, [{"particle": "+의/JKG"}])
            template = table[-1]["particle"]
        if target.tag.startswith("VB"):
            return extend(self.clause(target, "nominal"), template)
        return extend(self.noun(target), template)

    def _measured(self, node: Node, children: list[Node]) -> Node | None:
        """The `of` of what a counted measure contains: two cups of tea."""
        if "measure" not in self._notes(node) or not any(child.dep == "nummod" for child in children):
            return None
        return next((child for child in children if child.dep == "prep" and child.lemma == "of"), None)

    def _numbered(
        self, node: Node, head: Phrase, count: Node, measured: Node | None, particle: str | None, floating: bool
    ) -> Phrase:
        notes = self._notes(node)
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
        notes = self._notes(node)
        default = "명" if "person" in notes else "마리" if "animal" in notes else "개"
        counter: Phrase = [[(number, "MM")], [(notes.get("counter", default), "NNB")]]
        if floating:
            return extend(head, particle) + counter
        return head + extend(counter, particle)


def nominal(entry: Entry) -> Phrase:
    """An entry as a noun: 설명하다 → 설명, 보다 → 보기."""
    text = entry.korean[0]
    if entry.part not in "va" or not text.endswith("다"):
        return entry.phrase
    for ending in ("하다", "되다"):
        if text.endswith(ending) and text != ending:
            return citation(text.removesuffix(ending), "n")
    return extend(entry.phrase, "+기/ETN")
