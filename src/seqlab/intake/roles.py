"""Which column of a table is what, judged from its first rows, its names and what a person said."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from seqlab.data.beside import Names
from seqlab.errors import UserError
from seqlab.intake.proposal import Hints
from seqlab.intake.sniff import Column, Sample

# Names by which people call such columns, in English and Korean; of a time, of a label, of a text.
TIME = re.compile(
    r"(^|[^a-z])(time|date|datetime|timestamp|ds|day|week|month|quarter|year|step|t)([^a-z]|$)|날짜|일시|일자|시각|시간|기간|년월|연월|연도|년도|월$"
)
LABEL = re.compile(
    r"(^|[^a-z])(label|labels|class|category|target|y|sentiment|activity|rating|stars)([^a-z]|$)"
    r"|라벨|레이블|분류|감정|긍부정|클래스|평점|별점|평가"
)
TEXT = re.compile(
    r"(^|[^a-z])(text|sentence|document|review|comment|content|body)([^a-z]|$)|본문|내용|문장|리뷰|댓글|텍스트"
)
ID = re.compile(
    r"(^|[^a-z])(id|key|name|code|series|unique_id|item_id|sensor|store|subject)([^a-z]|$)|번호|이름|코드|지점|품목"
)
WORDS = 3  # a text has at least so many, on average
MOST_CLASSES = 200


@dataclass(frozen=True)
class Roles:
    """What the columns of a table are. why: of each that was found, in a line. names: covariates of series."""

    time: str | None = None
    values: list[str] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    label: str | None = None
    text: str | None = None
    pair: tuple[str, str] | None = None  # of the English and of the Korean side
    why: dict[str, str] = field(default_factory=dict)
    names: Names = field(default_factory=Names)

    @property
    def used(self) -> set[str]:
        named = [self.time, *self.values, *self.id, self.label, self.text, *(self.pair or ())]
        return {name for name in named if name is not None}


def roles(path: Path, found: Sample, hints: Hints) -> Roles:
    """The roles of a table's columns. Raises UserError naming a hint that is no column, or what is missing."""
    for name in (hints.time, *hints.value, *hints.id, hints.label, hints.text, hints.target, *hints.covariates):
        if name is not None and _column(found, name) is None:
            raise UserError(f"{path.name}: no column {name!r}; the header has {', '.join(found.columns)}")
    why: dict[str, str] = {}
    named = {_found(found, name) for name in hints.covariates}
    columns = [column for column in found.columns.values() if column.name not in named]
    pair = _pair(columns, hints, why)
    if pair is not None:
        return Roles(pair=pair, why=why)
    time = _time(columns, hints, why, found)
    text = _text(columns, time, hints, why, found)
    label = _label(columns, time, text, hints, why, found)
    if text is not None and not hints.value and not hints.covariates and hints.kind in (None, "text"):
        return Roles(text=text, label=label, why=why)
    numeric = [c for c in columns if c.name not in (time, label, text) and c.numeric(found.spelling)]
    identity = _id(columns, time, label, numeric, hints, why, found)
    names = _covariates(columns, {time, label, text, *identity, *hints.value}, identity, hints, why, found)
    values = [_found(found, name) for name in hints.value] or [
        c.name for c in numeric if c.name not in (*identity, *names.all)
    ]
    if not values:
        raise UserError(
            f"{path.name}: no column of numbers and none of texts among {', '.join(found.columns)}; "
            "name them (value, or text)"
        )
    for name in values:
        column = found.columns[name]
        if not column.known:
            raise UserError(f"{path.name}, column {name}: no value in the first {found.rows} rows; leave it out")
    why["values"] = "named" if hints.value else "columns of numbers"
    return Roles(time, values, identity, label, None, None, why, names)


def _covariates(
    columns: Sequence[Column], others: set[str | None], identity: Sequence[str], hints: Hints, why: dict[str, str],
    found: Sample,
) -> Names:  # fmt: skip
    """Those that were named, and of the columns that have no other role, which the whole sample shows to be static.

    Raises UserError when a column is named in two roles, or is no numbers where these are needed.
    """
    known, past, static = ([_found(found, name) for name in own] for own in (hints.known, hints.past, hints.static))
    named = [*known, *past, *static]
    for name in named:
        if named.count(name) > 1 or name in others:
            raise UserError(f"column {name!r} is named in two roles; name it in one")
    for role, own in (("known", known), ("past", past)):
        for name in own:
            if not found.columns[name].numeric(found.spelling):
                example = next(iter(found.columns[name].known), "nothing")
                raise UserError(
                    f"{role}: column {name!r} is not of numbers: {example!r}; give each level a column of 0 and 1"
                )
    why |= dict.fromkeys([role for role, own in (("known", known), ("past", past), ("static", static)) if own], "named")
    if not static and found.whole and identity:
        # Two series at least, or everything that never changes would tell them apart.
        static = [c.name for c in columns if c.name not in others and _constant(c, identity, found)]
        if static:
            why["static"] = f"one value throughout each series, named by {', '.join(identity)}"
    return Names(known, past, static)


def _constant(column: Column, identity: Sequence[str], found: Sample) -> bool:
    """Whether its cells are the same throughout each series, of which there are several, and not of all."""
    own: dict[tuple[str, ...], str] = {}
    for key, cell in zip(
        zip(*(found.columns[name].cells for name in identity), strict=True), column.cells, strict=True
    ):
        if own.setdefault(key, cell) != cell:
            return False
    return len(set(own.values())) > 1


def _column(found: Sample, name: str) -> Column | None:
    """A column by its name, composed or decomposed."""
    names = {unicodedata.normalize("NFC", own): column for own, column in found.columns.items()}
    return names.get(unicodedata.normalize("NFC", name))


def _found(found: Sample, name: str) -> str:
    column = _column(found, name)
    assert column is not None  # hints are checked first
    return column.name


def _named(pattern: re.Pattern[str], name: str) -> bool:
    return bool(pattern.search(unicodedata.normalize("NFC", name).casefold()))


def _time(columns: Sequence[Column], hints: Hints, why: dict[str, str], found: Sample) -> str | None:
    if hints.time is not None:
        why["time"] = "named"
        return _found(found, hints.time)
    for column in columns:
        times = column.times(hints.time_format)
        if times is None or column.name in (*hints.value, *hints.id, hints.label, hints.text):
            continue
        named = _named(TIME, column.name)
        # Digits alone may be anything, unless all of them are dates of the calendar.
        sure = not _digits(column) or (times.written == "date" and len(column.known[0].strip()) >= 8)
        if times.local is not None and (named or sure):
            why["time"] = f"its cells are times such as {column.known[0]!r}"
            return column.name
        if times.local is None and named:
            why["time"] = "its name, and numbers that may count steps"
            return column.name
    return None


def _digits(column: Column) -> bool:
    return all(cell.strip().removesuffix(".0").isdigit() for cell in column.known[:100])


def _text(columns: Sequence[Column], time: str | None, hints: Hints, why: dict[str, str], found: Sample) -> str | None:
    if hints.text is not None:
        why["text"] = "named"
        return _found(found, hints.text)
    best: tuple[float, str] | None = None
    for column in columns:
        if column.name in (time, hints.label, *hints.id, *hints.value) or not column.known:
            continue
        if column.numeric(found.spelling) or column.times(None) is not None:
            continue
        words = sum(len(cell.split()) for cell in column.known) / len(column.known)
        varied = column.distinct >= 0.5 * len(column.known)
        if varied and (words >= WORDS or (_named(TEXT, column.name) and words >= 1)):
            length = sum(map(len, column.known)) / len(column.known)
            if best is None or length > best[0]:
                best = length, column.name
    if best is not None:
        why["text"] = f"cells of {best[0]:.0f} characters on average, most of them different"
    return None if best is None else best[1]


def _label(
    columns: Sequence[Column], time: str | None, text: str | None, hints: Hints, why: dict[str, str], found: Sample
) -> str | None:
    if hints.label is not None:
        why["label"] = "named"
        return _found(found, hints.label)
    for column in columns:
        few = 2 <= column.distinct <= min(MOST_CLASSES, max(2, len(column.known) // 3))
        # A column called y may be one of values that take few numbers; those of classes are whole.
        few = few and (not column.numeric(found.spelling) or all(map(_is_whole, column.known)))
        if column.name not in (time, text, *hints.value, *hints.id) and _named(LABEL, column.name) and few:
            why["label"] = f"its name, and {column.distinct} different cells"
            return column.name
    return None


def _is_whole(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?\d+(\.0)?", cell.strip()))


def _id(
    columns: Sequence[Column], time: str | None, label: str | None, numeric: Sequence[Column], hints: Hints,
    why: dict[str, str], found: Sample,
) -> list[str]:  # fmt: skip
    """The fewest columns that, with the time, name every row once."""
    if hints.id:
        why["id"] = "named"
        return [_found(found, name) for name in hints.id]
    wordy = [c for c in columns if c.name not in (time, label) and c not in numeric and c.known]
    coded = [c for c in numeric if _named(ID, c.name) and c.name not in hints.value and c.distinct < len(c.known)]
    candidates = [*wordy, *coded]
    if time is None:
        named = [c.name for c in candidates if _named(ID, c.name) or c in wordy]
        if named:
            why["id"] = "what names a sequence, whose steps are its rows in order"
        return named[:1]
    cells = found.columns[time].cells
    # Rows that repeat all of another are taken once.
    rows = len(set(zip(*(c.cells for c in columns), strict=True)))
    if len(set(cells)) == rows:
        twice = "" if rows == len(cells) else ", rows that repeat another apart"
        why["id"] = f"every time stands once{twice}: one series a column of values"
        return []
    for size in range(1, len(candidates) + 1):
        for chosen in combinations(candidates, size):
            if len(set(zip(cells, *(c.cells for c in chosen), strict=True))) == rows:
                why["id"] = "with the time, it names every row once"
                return [c.name for c in chosen]
        if size == 3:
            break
    if candidates:
        why["id"] = "columns of words; with the time they do not name every row once"
    return [c.name for c in wordy] or [c.name for c in coded]


# Pairs


def script(cells: Sequence[str]) -> str:
    """LATIN or HANGUL, where most letters of the cells are of it; otherwise ""."""
    text = "".join(cells[:2000])
    letters = [c for c in unicodedata.normalize("NFC", text) if c.isalpha()]
    hangul = sum("가" <= c <= "힣" for c in letters)
    latin = sum(c.isascii() for c in letters)
    if not letters:
        return ""
    return "HANGUL" if 3 * hangul >= len(letters) else "LATIN" if latin >= 0.8 * len(letters) else ""


def _pair(columns: Sequence[Column], hints: Hints, why: dict[str, str]) -> tuple[str, str] | None:
    if hints.text is not None and hints.target is not None:
        why["pair"] = "named"
        return hints.text, hints.target
    if hints.kind not in (None, "pairs") or hints.label or hints.value or hints.time:
        return None
    texts = {side: [c for c in columns if script(c.known) == side] for side in ("LATIN", "HANGUL")}
    sides = [[c for c in found if _wordy(c)] for found in texts.values()]
    if len(sides[0]) == len(sides[1]) == 1 and (len(columns) <= 3 or hints.kind == "pairs"):
        why["pair"] = "one column is in Latin letters, one in Hangul"
        return sides[0][0].name, sides[1][0].name
    return None


def _wordy(column: Column) -> bool:
    words = sum(len(cell.split()) for cell in column.known) / max(1, len(column.known))
    return words >= 2 and column.distinct >= 0.5 * len(column.known)
