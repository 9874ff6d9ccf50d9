"""Transfer: an English dependency tree becomes Korean words in Korean order, by the rules of transfer.yaml."""

from __future__ import annotations

from seqlab.families.rules.analysis import Node
from seqlab.families.rules.conditions import PREDICATES, Rule, listed
from seqlab.families.rules.generation import Phrase, extend, native, number_of, sino, surface
from seqlab.families.rules.predicates import Predicates

CASES = {"가": "JKS", "를": "JKO"}
COPIED = ("past", "future", "mood", "person", "linking", "modal", "need", "please", "main")


class Transfer(Predicates):
    """Translates one sentence at a time."""

    def sentence(self, nodes: list[Node]) -> Phrase:
        """The words of a sentence in Korean order, with an ending but without final punctuation."""
        for node in nodes:
            self._repair(node)
        roots = [node for node in nodes if node.head is None]
        made: Phrase = []
        for root in roots:
            root.features |= {"main": True, "mood": self._mood(root, nodes)}
            if self.predicative(root):
                made += self.clause(root, self._asked_whether(root))
            else:
                made += self.fragment(root)
            named = not made or made[-1][-1][1] not in ("EF", "ETN", "SL")
            if named and self.style == "polite" and nodes[-1].text == ".":
                made = extend(made, "+이/VCP +ᆸ니다/EF")
        return made

    def _asked_whether(self, root: Node) -> str | None:
        """The connective of a sentence that is nothing but a question that another decides."""
        if not any(child.lemma == "whether" for child in root.children):
            return None
        return "whether_to" if any(child.tag == "TO" for child in root.children) else "whether"

    def _repair(self, node: Node) -> None:
        for rule in self.rules["repairs"]:
            if self.holds(rule["if"], node):
                if "gerund" in rule["if"]:
                    node.lemma = self.base(node) or node.lemma
                node.tag, node.dep = rule.get("tag", node.tag), rule.get("dep", node.dep)
                for child in node.children:
                    child.dep = rule.get("relabel", {}).get(child.dep, child.dep)

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

    def clause(self, node: Node, connective: str | None, outer: Node | None = None) -> Phrase:
        """A predicate with all that depends on it. `outer` is the subject of the clause around it."""
        self._person(node)
        self._read_features(node)
        self._phrasal(node)
        node = self._construct(node)
        subject = node.child("nsubj", "nsubjpass")
        joined = self._coordinated(node, subject)
        connective_here = connective
        if joined is not None:
            label = connective is None and self.feature(node, "mood") == "title"
            connective_here = None if label and joined[0] in self.rules["conjunctions"] else joined[0]
        parts = self._constituents(node, subject, outer, connective_here)
        words = [word for _, _, phrase in sorted(parts, key=lambda part: part[:2]) for word in phrase]
        self.trace.order.append([surface(phrase) for _, _, phrase in sorted(parts, key=lambda part: part[:2])])
        if joined is None:
            return words
        if connective is None and self.feature(node, "mood") == "title":
            words = extend(words, self.rules["conjunctions"].get(joined[0]))
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
            if (found := self.constituent(child, node, subject)) is not None:
                parts.append((found[0], child.index, found[1]))
        if node.tag == "JJR" and node.lemma not in ("more", "less"):
            parts.append((69, node.index, [[("더", "MAG")]]))
        parts.append((100, node.index, self.predicate(node, connective)))
        return parts

    def _same(self, subject: Node, outer: Node) -> bool:
        return subject.lemma == outer.lemma and subject.tag == "PRP"

    def constituent(self, child: Node, node: Node, subject: Node | None) -> tuple[int, Phrase] | None:
        """The place and the words of a child of a predicate; None: it has no counterpart."""
        child.head = node
        rule: Rule = next(r for r in self.rules["roles"] if self.holds(r.get("if"), child))
        if rule.get("skip"):
            return None
        found: tuple[int, Phrase] | None
        place = rule["place"]
        if rule.get("preposition"):
            found = self._prepositional(child, node, place)
        elif rule.get("replace"):
            found = place, extend([], rule["particle"])
        elif "clause" in rule:
            found = self._subordinate(child, node, subject, rule)
        elif rule.get("locative"):
            where = next(r for r in self.rules["locative"] if self.holds(r.get("if"), node))
            found = 48 if "motion" in self.notes(node) else place, self.noun(child, where.get("particle"))
        elif child.dep in ("advmod", "neg", "amod", "quantmod"):
            found = place, self.modifier(child)
        else:
            target = (child.child("pobj") if rule.get("through") else None) or child
            found = place, self.noun(target, self._particle(rule, child, node), floating=bool(rule.get("float")))
        return found

    def _particle(self, rule: Rule, child: Node, node: Node) -> str | None:
        """A rule's particle, or the one that the verb governs; 에게 is for persons."""
        own = self.notes(node).get("attr" if child.dep == "attr" else "object") if rule.get("governed") else None
        if own and (own != "에게" or child.part == "p" or "person" in self.notes(child)):
            return f"+{own}/{CASES.get(own, 'JKB')}"
        return rule.get("particle")

    def _subordinate(self, child: Node, node: Node, subject: Node | None, rule: Rule) -> tuple[int, Phrase]:
        """A clause within a clause. A subject that both share stands once, in front of both."""
        inner, shared = child.child("nsubj", "nsubjpass"), subject
        if shared is None and child.dep == "advcl" and node.features.get("person") == "second":
            shared = Node(-1, "you", "you", "PRP", "nsubj")  # the one addressed
        if rule["clause"] == "governed":
            words = extend(self.clause(child, "governed", shared), f"+{self.notes(node)['to']}/EC")
        else:
            words = extend(self.clause(child, rule["clause"], shared), rule.get("particle"))
        together = inner is None or (subject is not None and self._same(inner, subject))
        return (12 if rule["place"] == 0 and together and subject is not None else rule["place"]), words

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
        notes = self.notes(node)
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
