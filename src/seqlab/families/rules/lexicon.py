"""The bilingual lexicon: entries written by hand, and below them what was induced from sentence pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from seqlab.errors import UserError
from seqlab.families.rules.generation import Morpheme, Phrase, extend

PARTS = "nvardpc"


@dataclass(frozen=True)
class Entry:
    """One lemma of one part of speech: Korean alternatives in citation form, the first of them preferred, and notes."""

    part: str
    korean: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def phrase(self) -> Phrase:
        return citation(self.korean[0], self.part)


def citation(text: str, part: str) -> Phrase:
    """A citation form as morphemes: `키가/NNG 크다` is two words, and of a predicate the last is a stem.

    A tag after a slash is that of the word; without one it follows from the part of speech.
    """
    words: Phrase = []
    *before, last = text.split()
    for word in before:
        form, _, tag = word.partition("/")
        words.append([(form, tag or "NNG")])
    form, _, tag = last.partition("/")
    if part in "va" and form.endswith("다"):
        stem = form[:-1]
        if stem.endswith("이") and len(stem) > 1 and part == "a" and not tag:
            # 사실이다, 초록색이다: a noun with the copula.
            return [*words, [(stem[:-1], "NNG"), ("이", "VCP")]]
        return [*words, [(stem, tag or ("VV" if part == "v" else "VA"))]]
    defaults = {"n": "NNG", "p": "NP", "d": "MM", "c": "NR", "r": "MAG", "a": "MM", "v": "NNG"}
    return [*words, [(form, tag or defaults[part])]]


def stem(phrase: Phrase) -> Morpheme:
    """The last morpheme."""
    return phrase[-1][-1]


def class_of(words: Phrase, part: str) -> str:
    """The class of conjugation: verb, adjective, exist (있다, 없다), copula (이다)."""
    form, tag = stem(words)
    if tag == "VCP":
        return "copula"
    if form in ("있", "없") or form.endswith(("있", "없")):
        return "exist"
    return "verb" if part == "v" else "adjective"


def nominal(entry: Entry) -> Phrase:
    """An entry as a noun: 설명하다 → 설명, 보다 → 보기."""
    text = entry.korean[0]
    if entry.part not in "va" or not text.endswith("다"):
        return entry.phrase
    for ending in ("하다", "되다"):
        if text.endswith(ending) and text != ending:
            return citation(text.removesuffix(ending), "n")
    return extend(entry.phrase, "+기/ETN")


Table = dict[tuple[str, str], Entry]


def read(text: str, name: str) -> Table:
    """Entries by (lemma, part of speech). Raises UserError naming the line that is no entry."""
    found: Table = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) not in (3, 4) or cells[1] not in PARTS or not all(cells[:3]):
            raise UserError(f"{name}, line {number}: expected lemma, one of {PARTS}, Korean and notes between tabs")
        if (cells[0], cells[1]) in found:
            raise UserError(f"{name}, line {number}: {cells[0]!r} ({cells[1]}) stands there twice")
        notes = dict(note.partition("=")[::2] for note in " ".join(cells[3:]).split())
        # A stem with spaces in a note is written with underscores.
        found[cells[0], cells[1]] = Entry(cells[1], tuple(cells[2].split("|")), notes)
    return found


@cache
def written() -> Table:
    """The hand-written lexicon."""
    text = files(__package__).joinpath("lexicon.tsv").read_text(encoding="utf-8")
    return read(text, "lexicon.tsv")


@dataclass
class Lexicon:
    """Look-up by lemma and part of speech: hand-written, then another part of speech, then induced."""

    table: Table
    induced: dict[str, str]  # lemma → Korean, a noun or (with 다) a predicate

    def find(self, lemma: str, part: str) -> Entry | None:
        """The entry of exactly this part of speech."""
        return self.table.get((lemma, part)) or self.table.get((lemma.lower(), part))

    def verb(self, lemma: str) -> bool:
        """Whether it is a verb, above all."""
        return self.find(lemma, "v") is not None or self.induced.get(lemma, "").endswith("다")

    def known(self, word: str) -> bool:
        """Whether there is an entry of whatever origin."""
        return self.best(word, "x") is not None or any(self.find(word, part) for part in "dc")

    def best(self, lemma: str, part: str) -> Entry | None:
        """The entry that fits best, of whatever origin; None: the word is unknown."""
        exact = self.find(lemma, part)
        if exact is not None:
            return exact
        for other in {"n": "arp", "v": "n", "a": "rnv", "r": "adn", "d": "pa", "p": "dn", "x": "rnva", "c": "r"}.get(
            part, ""
        ):
            if entry := self.find(lemma, other):
                return entry
        korean = self.induced.get(lemma.lower())
        if korean is None:
            return None
        return Entry("n" if not korean.endswith("다") else part if part in "va" else "v", (korean,))
