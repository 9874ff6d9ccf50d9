"""Translation: English–Korean pairs of software products, one of them held out whole, and everyday sentences."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from seqlab.artifacts import write_json
from seqlab.data.domains.base import split_of
from seqlab.data.prepared import Meta
from seqlab.data.readers import Dialect, read_lines, read_table
from seqlab.errors import UserError
from seqlab.settings import Count, Natural, ProperFraction, named

# The training side, and the three test sets beside the validation split.
SETS = ("train", "valid", "test", "held_out", "everyday")


@dataclass(frozen=True)
class Pair:
    """One aligned pair as it was read."""

    english: str
    korean: str


@dataclass
class Group:
    """All pairs of one normalised English source: the first spelling, and every distinct translation."""

    source: str
    references: list[str]
    origins: list[str]

    def without(self, origin: str | None) -> Group:
        """The translations that come from elsewhere."""
        kept = [i for i, own in enumerate(self.origins) if own != origin]
        return Group(self.source, [self.references[i] for i in kept], [self.origins[i] for i in kept])


class Translation:
    """Sentence pairs. `corpora` says, by name, how each is read (`format`, see READERS) and from which archives
    (`english`, `korean`; equal where one archive holds both sides); a corpus none of whose archives was acquired is an
    error, never skipped. Of the format `table`, `columns` may name the columns of the two sides.

    Pairs are grouped by normalised English (case, punctuation and digits removed), and a group's split follows from its
    hash: no test source occurs in training in any spelling. All of the corpus `held_out` is a test set of its own
    (None: there is none). A group of fewer than `sentence_words` English words never leaves training: it tests no
    translation of sentences.
    """

    kind = "pairs"
    pretraining = "denoise"  # the source is text: what a translator can learn from it

    def __init__(
        self,
        *,
        corpora: dict[str, dict[str, Any]],
        held_out: str | None,
        max_words: Count,
        max_characters: Count,
        max_ratio: Annotated[float, Ge(1)],
        sentence_words: Natural,
        valid: ProperFraction,
        test: ProperFraction,
        vocabulary_size: Count,
    ) -> None:
        self.corpora, self.held_out = corpora, held_out
        self.max_words, self.max_characters, self.max_ratio = max_words, max_characters, max_ratio
        self.sentence_words, self.valid, self.test = sentence_words, valid, test
        self.vocabulary_size = vocabulary_size

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write pairs/*.jsonl, monolingual/*.txt, meta.json and the vocabulary. Raises UserError naming file and line.

        A line of pairs is {"source", "references", "origin", "group"}.
        """
        removed: Counter[str] = Counter()
        sets = self.sets(raw, removed)
        names = [name for name in SETS if name != "held_out" or self.held_out is not None]
        if empty := [name for name in names if not sets[name]]:
            raise UserError(f"{out.name}: no pair is left for {empty[0]}; removed: {dict(removed) or 'nothing'}")
        (out / "pairs").mkdir(parents=True)
        for name in names:
            _write_lines(
                out / f"pairs/{name}.jsonl",
                (json.dumps(row, ensure_ascii=False, sort_keys=True) for row in sets[name]),
            )
        (out / "monolingual").mkdir()
        train = sets["train"]
        _write_lines(out / "monolingual/en.txt", dict.fromkeys(row["source"] for row in train))
        _write_lines(out / "monolingual/ko.txt", dict.fromkeys(text for row in train for text in row["references"]))
        # By name: who takes the sentences alone does not depend on how they are cut into subwords.
        named("seqlab.data.vocabulary.build")(out, size=self.vocabulary_size)
        origins = {name: dict(Counter(row["origin"] for row in sets[name])) for name in names}
        meta = Meta(
            kind="pairs",
            size=self.vocabulary_size,
            tasks=["translate"],
            classes=[],
            removed=dict(sorted(removed.items())),
            counts={name: {"pairs": len(sets[name])} | origins[name] for name in names},
        )
        write_json(out / "meta.json", asdict(meta))

    def sets(self, raw: dict[str, Path], removed: Counter[str]) -> dict[str, list[dict[str, Any]]]:
        """The lines of each of SETS: every corpus, cleaned, grouped and split. removed: counts what is left out."""
        return self._split(self._groups(raw, removed), removed)

    def _groups(self, raw: dict[str, Path], removed: Counter[str]) -> dict[str, Group]:
        """Clean and filter every corpus in the order of the configuration, and group by normalised English."""
        if self.held_out is not None and self.held_out not in self.corpora:
            raise UserError(f"held_out: no corpus {self.held_out!r}; there are {', '.join(self.corpora)}")
        groups: dict[str, Group] = {}
        for name, corpus in self.corpora.items():
            for pair in _read(name, corpus, raw):
                english, korean = clean(pair.english), clean(pair.korean)
                if reason := self.unfit(english, korean):
                    removed[f"{name}: {reason}"] += 1
                    continue
                group = groups.setdefault(normalise(english), Group(english, [], []))
                if korean in group.references:
                    removed[f"{name}: duplicate"] += 1
                    continue
                group.references.append(korean)
                group.origins.append(name)
        return groups

    def unfit(self, english: str, korean: str) -> str | None:
        """Why a cleaned pair is not used."""
        if not english or not korean or english == korean:
            return "not translated" if english and english == korean else "an empty side"
        if any(MARKUP.search(side) for side in (english, korean)):
            return "placeholder, markup or address"
        if not normalise(english) or not _only(english, "LATIN") or not _mostly(korean, "HANGUL"):
            return "another script"
        words, eojeol = len(english.split()), len(korean.split())
        if max(words, eojeol) > self.max_words or max(len(english), len(korean)) > self.max_characters:
            return "too long"
        # A Korean character says about as much as two and a half English ones.
        ratio = len(english) / (2.5 * len(korean))
        return "lengths differ too much" if max(ratio, 1 / ratio) > self.max_ratio else None

    def _split(self, groups: dict[str, Group], removed: Counter[str]) -> dict[str, list[dict[str, Any]]]:
        everyday = list(_everyday())
        known = {row["group"] for row in everyday}
        sets: dict[str, list[dict[str, Any]]] = defaultdict(list, everyday=everyday)
        for key, group in groups.items():
            sentence = len(group.source.split()) >= self.sentence_words
            others = group.without(self.held_out)
            if key in known:
                removed["in the everyday set"] += len(group.references)
            elif not others.references and sentence:
                sets["held_out"].append(_row(key, group))
            else:
                # In training it would be seen, in the held-out set it would be no other product's text.
                if lost := len(group.references) - len(others.references):
                    removed[f"{self.held_out}: {'also in another corpus' if others.references else 'too short'}"] += (
                        lost
                    )
                if others.references:
                    split = split_of(key, self.valid, self.test) if sentence else "train"
                    sets[split].append(_row(key, others))
        return sets


def _row(key: str, group: Group) -> dict[str, Any]:
    return {"source": group.source, "references": group.references, "origin": group.origins[0], "group": key}


def _everyday() -> Iterator[dict[str, Any]]:
    """The sentences written for this project. Every second one, from the second, is kept for testing alone."""
    text = files(__package__).joinpath("everyday.jsonl").read_text(encoding="utf-8")
    for number, line in enumerate(text.split("\n")[:-1]):
        row = json.loads(line)
        yield {
            "source": row["source"],
            "references": row["references"],
            "origin": "everyday_kept" if number % 2 else "everyday_open",
            "group": normalise(row["source"]),
        }


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


# Cleaning

# Mnemonics such as `&&File`, `_File`, `~File` and, in Korean, `파일(&F)`.
MNEMONIC = re.compile(r"\s?\((?:&&?|_|~)\w\)|&&(?=\w)|(?<!\w)[~_](?=[^\W_])|(?<=[^\W_])~(?=[^\W_])")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
TAG = re.compile(r"</?(?:b|i|em|strong|code|span|p|br|a|kbd|tt|u)\b[^>]*>", re.IGNORECASE)
MARKUP = re.compile(
    r"[{}<>|\\`^]|%[sdrf(0-9]|\$\w|%[A-Z]|https?:|www\.|\w+@\w|\w/\w+/|\w\.\w+\(|[a-z]\w*[._]\w+[._]\w|"
    r"을\(를\)|를\(을\)|이\(가\)|은\(는\)|\(으\)로|와\(과\)"
)


def clean(text: str) -> str:
    """One line of canonical Unicode (NFC) without control characters, mnemonics, inline tags and link targets."""
    text = LINK.sub(r"\1", TAG.sub("", unicodedata.normalize("NFC", text)))
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zs", "Zl", "Zp") else c for c in text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn"))
    return " ".join(MNEMONIC.sub("", text).replace("…", "...").translate(QUOTES).split())


QUOTES = str.maketrans(dict.fromkeys("‘’", "'") | dict.fromkeys("“”„", '"'))


def normalise(english: str) -> str:
    """What two sources share that are the same sentence: words without case, punctuation and the value of digits."""
    folded = unicodedata.normalize("NFKC", english).casefold()
    return " ".join(re.sub(r"\d+", "0", re.sub(r"[^\w]|_", " ", folded)).split())


def _only(text: str, script: str) -> bool:
    """Whether all letters are of one script."""
    letters = [c for c in text if c.isalpha()]
    return bool(letters) and all(unicodedata.name(c, "").startswith((script, "MICRO SIGN")) for c in letters)


def _mostly(text: str, script: str) -> bool:
    """Whether at least a third of the letters are of one script, and the rest are Latin."""
    names = [unicodedata.name(c, "") for c in text if c.isalpha()]
    own = sum(name.startswith(script) for name in names)
    return bool(own) and 3 * own >= len(names) and all(name.startswith((script, "LATIN")) for name in names)


# Readers: a corpus's folders become pairs


def _read(name: str, corpus: dict[str, Any], raw: dict[str, Path]) -> Iterator[Pair]:
    optional = TABLE_KEYS if corpus.get("format") == "table" else ()
    if wrong := set(corpus) - set(optional) ^ {"format", "english", "korean"}:
        raise UserError(f"corpora.{name}.{min(wrong)}: expected exactly the keys format, english and korean")
    if corpus["format"] not in (*READERS, "table"):
        known = ", ".join(sorted([*READERS, "table"]))
        raise UserError(f"corpora.{name}.format: found {corpus['format']!r}, expected one of {known}")
    for side in ("english", "korean"):
        if corpus[side] not in raw:
            raise UserError(f"corpora.{name}.{side}: no archive {corpus[side]!r}; there are {', '.join(sorted(raw))}")
    sides = raw[corpus["english"]], raw[corpus["korean"]]
    if corpus["format"] == "table":
        read = _table_pairs(sides[0], corpus.get("columns"), corpus.get("dialect"))
    else:
        read = READERS[corpus["format"]](*sides)
    first = next(read, None)
    if first is None:
        raise UserError(f"corpora.{name}: no pair in {corpus['english']} and {corpus['korean']}")
    yield first
    yield from read


def _json_pairs(english: Path, korean: Path) -> Iterator[Pair]:
    """`ko.json` beside `en.json` or `en-US.json`: equal keys, nested or not."""
    for path in sorted(korean.rglob("ko.json")):
        twin = english / path.relative_to(korean)
        other = next((p for p in (twin.with_name("en.json"), twin.with_name("en-US.json")) if p.exists()), None)
        if other is not None:
            yield from _matched(dict(_flat(_json(other))), dict(_flat(_json(path))))


def _gettext_pairs(english: Path, korean: Path) -> Iterator[Pair]:
    """`.po` and `.mo` catalogues, which hold both sides; what is marked fuzzy is not taken."""
    import polib

    for path in sorted(p for p in korean.rglob("*") if p.suffix in (".po", ".mo")):
        try:
            catalogue = polib.pofile(str(path)) if path.suffix == ".po" else polib.mofile(str(path))
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise UserError(f"{path.name}: not a gettext catalogue: {error}") from None
        for entry in catalogue:
            if "fuzzy" not in entry.flags:
                # A context, where there is one, stands before a vertical bar or an end-of-transmission character.
                yield Pair(entry.msgid.rpartition("\x04")[2], entry.msgstr or entry.msgstr_plural.get(0, ""))


# The pseudo-locale writes vowels and some consonants with accents; `£` stands for L.
PSEUDO = str.maketrans("æëïøµÿçñðþ§ß£ÆËÏØÜÝÇÑÐ", "aeiouycndbSBLAEIOUYCND")


def _pseudo_pairs(english: Path, korean: Path) -> Iterator[Pair]:
    """Two language packs of Visual Studio Code, of the same version, the English one in the pseudo-locale.

    Of the main bundle two arrays aligned by index, of each extension equal keys.
    """
    ours, theirs = ([_array(path) for path in sorted(side.rglob("main.i18n*"))] for side in (english, korean))
    for one, other in zip(ours, theirs, strict=True):
        if len(one) != len(other):
            raise UserError(f"main.i18n: {len(one)} English and {len(other)} Korean entries: two different versions")
        for left, right in zip(one, other, strict=True):
            if left is not None and right is not None:
                yield Pair(left.translate(PSEUDO), right)
    for path in sorted((korean / "translations/extensions").rglob("*.json")):
        twin = english / path.relative_to(korean)
        if twin.exists():
            texts, translations = (dict(_flat(_json(side).get("contents", {}))) for side in (twin, path))
            yield from (Pair(pair.english.translate(PSEUDO), pair.korean) for pair in _matched(texts, translations))


def _array(path: Path) -> list[str | None]:
    """The strings of a module that holds one array."""
    text = path.read_text(encoding="utf-8")
    body = re.sub(r"(?m)^\s*undefined(?=,?$)", "null", text[text.find("[") : text.rfind("]") + 1])
    try:
        strings: list[str | None] = json.loads(body)
    except ValueError as error:
        raise UserError(f"{path.name}: not one array of strings: {error}") from None
    return strings


DIAGNOSTIC = re.compile(r'diag\(\d+, \d+ /\* \w+ \*/, ("[^"]*"), ("(?:[^"\\]|\\.)*")')


def _typescript_pairs(english: Path, korean: Path) -> Iterator[Pair]:
    """The compiler's diagnostics: the English ones stand in its source, the Korean ones under the same keys."""
    source = english / "lib/_tsc.js"
    if not source.exists():
        raise UserError(f"{source}: missing")
    found = DIAGNOSTIC.finditer(source.read_text(encoding="utf-8"))
    messages = {json.loads(match[1]): json.loads(match[2]) for match in found}
    for path in sorted(korean.rglob("lib/ko/*.json")):
        yield from _matched(messages, _json(path))


def _html_pairs(english: Path, korean: Path) -> Iterator[Pair]:
    """Help pages under `en-US/` and `ko/`: equal relative paths, elements aligned by their id."""
    ours, theirs = (_root(side, locale) for side, locale in ((english, "en-US"), (korean, "ko")))
    for path in sorted(theirs.rglob("*.html")):
        twin = ours / path.relative_to(theirs)
        if twin.exists():
            yield from _matched(_Paragraphs.of(twin), _Paragraphs.of(path))


def _root(folder: Path, locale: str) -> Path:
    found = next((p for p in sorted(folder.rglob(locale)) if p.is_dir()), None)
    if found is None:
        raise UserError(f"{folder}: no folder {locale!r}")
    return found


class _Paragraphs(HTMLParser):
    """Text of paragraphs and headings with an id."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.key: str | None = None
        self.parts: list[str] = []

    @classmethod
    def of(cls, path: Path) -> dict[str, str]:
        parser = cls()
        parser.feed(path.read_text(encoding="utf-8", errors="replace"))
        return parser.found

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("p", "h1", "h2", "h3", "h4"):
            self.key, self.parts = dict(attributes).get("id"), []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "h1", "h2", "h3", "h4") and self.key:
            self.found.setdefault(self.key, "".join(self.parts))
            self.key = None


def _line_pairs(english: Path, korean: Path) -> Iterator[Pair]:
    """A user's own two text files, one sentence a line, line by line; an empty line is an empty side."""
    ours, theirs = (_lines(side) for side in (english, korean))
    if len(ours) != len(theirs):
        raise UserError(f"{english.name} has {len(ours)} lines, {korean.name} has {len(theirs)}: expected as many")
    yield from (Pair(left, right) for left, right in zip(ours, theirs, strict=True))


def _lines(folder: Path) -> list[str]:
    return [line for _, line in read_lines(_only_file(folder))]


def _only_file(folder: Path) -> Path:
    found = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else [folder]
    if len(found) != 1:
        raise UserError(f"{folder}: {len(found)} files, expected one")
    return found[0]


TABLE_KEYS = ("columns", "dialect")


def _table_pairs(folder: Path, columns: list[Any] | None, dialect: dict[str, Any] | None) -> Iterator[Pair]:
    """A user's own table: English and Korean in the two columns that a header names. Without a header, in the two
    columns of lines parted by tabs; `columns` None: English first; [2, 1]: Korean first.
    """
    path = _only_file(folder)
    if columns is not None and columns != [2, 1]:
        if len(columns) != 2 or not all(isinstance(column, str) for column in columns):
            raise UserError(f"columns: found {columns}, expected two names: of the English and of the Korean side")
        for _, (english, korean) in read_table(path, columns, (), Dialect.of(path, dialect)):
            yield Pair(english, korean)
        return
    for number, line in read_lines(path, Dialect.of(path, dialect).encoding):
        cells = line.split("\t")
        if not line:
            continue
        if len(cells) != 2:
            raise UserError(
                f"{path.name}, line {number}: {len(cells)} columns parted by tabs, expected two, English and Korean"
            )
        yield Pair(*(cells if columns is None else cells[::-1]))


READERS: dict[str, Callable[[Path, Path], Iterator[Pair]]] = {
    "gettext": _gettext_pairs,
    "html": _html_pairs,
    "json": _json_pairs,
    "lines": _line_pairs,
    "pseudo_locale": _pseudo_pairs,
    "typescript": _typescript_pairs,
}


def _matched(english: dict[str, str], korean: dict[str, str]) -> Iterator[Pair]:
    return (Pair(english[key], text) for key, text in korean.items() if key in english)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path.parent.name}/{path.name}: not JSON: {error}") from None


def _flat(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Strings of nested objects by their path."""
    if isinstance(tree, dict):
        for name, part in tree.items():
            yield from _flat(part, f"{key}\x00{name}")
    elif isinstance(tree, str):
        yield key, tree
