"""Which column of a table is what, judged from its first rows, its names and what a person said."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from seqlab.data.beside import Names
from seqlab.data.readers import place
from seqlab.data.time import Times
from seqlab.errors import UserError
from seqlab.intake import identity, unread
from seqlab.intake.proposal import Hints
from seqlab.intake.sniff import Column, Sample

# Names by which people call such columns, in English and Korean; of a time, of a label, of a text.
TIME = re.compile(
    r"(^|[^a-z])(time|date|datetime|timestamp|ts|epoch|ds|day|week|month|quarter|year|step|t)([^a-z]|$)"
    r"|날짜|일시|일자|시각|시간|기간|년월|연월|연도|년도|월$"
)
# Of what counts steps, if it does: `hour` may be the hour of a day, `index` that of prices.
COUNT = re.compile(
    r"(^|[^a-z])(hours?|hr|minutes?|seconds?|sec|days|weeks|months|years|steps|index|idx|tick|frame|sample|elapsed)"
    r"([^a-z]|$)|회차|순번|^[시분초]$"
)
# Of a part of a time, whose other parts stand in other columns.
PART = re.compile(
    r"(^|[^a-z])(year|yr|quarter|month|mon|week|day|hour|hr|minute|min|second|sec|time)([^a-z]|$)"
    r"|^[년월일시분]$|연도|년도|분기|시각|시간"
)
LABEL = re.compile(
    r"(^|[^a-z])(label|labels|class|category|target|y|sentiment|activity|rating|stars)([^a-z]|$)"
    r"|라벨|레이블|분류|감정|긍부정|클래스|평점|별점|평가"
)
TEXT = re.compile(
    r"(^|[^a-z])(text|sentence|document|review|comment|content|body)([^a-z]|$)|본문|내용|문장|리뷰|댓글|텍스트"
)
ID = re.compile(
    r"(^|[^a-z])(id|key|name|code|series|unique_id|item_id|sensor|store|subject|sku|machine|device|station|shop|product"
    r"|item|customer|user|patient|asset|site|plant|turbine|meter|vehicle|household|account|symbol|ticker|branch)([^a-z]|$)"
    r"|번호|이름|코드|지점|품목|매장|점포|상점|장비|기기|설비|센서|호기|고객|사용자|환자|상품|제품|종목"
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
    if hints.kind == "pairs":
        raise UserError(
            f"{path.name}: no pairs: no column in Latin letters and one in Hangul among {', '.join(found.columns)}; "
            "name them (--text and --target), or leave out --kind"
        )
    time = _time(columns, hints, why, found)
    text = _text(columns, time, hints, why, found)
    label = _label(columns, time, text, hints, why, found)
    if text is not None and not hints.value and not hints.covariates and hints.kind in (None, "text"):
        return Roles(text=text, label=label, why=why)
    if hints.kind == "text":
        raise UserError(
            f"{path.name}: no text: no column of different sentences among {', '.join(found.columns)}; name it "
            "(--text, without what goes with other kinds), or leave out --kind"
        )
    _check_unread(path, found, columns, {time, label, text}, hints)
    numeric = [c for c in columns if c.name not in (time, label, text) and c.numeric(found.spelling)]
    key = _id(columns, time, label, numeric, hints, why, found)
    if time is not None:
        _check_parts(path, columns, time, key, hints, found)
    names = _covariates(columns, {time, label, text, *key, *hints.value}, key, hints, why, found)
    values = [_found(found, name) for name in hints.value] or [
        c.name for c in numeric if c.name not in (*key, *names.all)
    ]
    if not values:
        cells = ", ".join(f"{c.name} has {c.known[0][:40]!r}" for c in found.columns.values() if c.known)
        raise UserError(
            f"{path.name}: no column of numbers and none of texts: {cells or 'all cells are empty'}; name them "
            "(--value, or --text)"
        )
    for name in values:
        column = found.columns[name]
        if not column.known:
            raise UserError(f"{path.name}, column {name}: no value in the first {found.rows} rows; leave it out")
    why["values"] = "named" if hints.value else "columns of numbers"
    return Roles(time, values, key, label, None, None, why, names)


def _check_unread(path: Path, found: Sample, columns: Sequence[Column], taken: set[str | None], hints: Hints) -> None:
    """Raises UserError naming a cell that kept a column from being one of times, where there is none, or of numbers."""
    free = [c for c in columns if c.name not in taken and c.name not in hints.id and c.name not in hints.value]
    if hints.time is None and not any(c.name in taken and c.times(hints.time_format) is not None for c in columns):
        called = [column for column in free if _named(TIME, column.name)]
        unread.check_times(path, found, free, called, hints.time_format)
    if not hints.value:
        # Codes of some series hold numbers, as bus 10 and 10A.
        free = [column for column in free if not _named(ID, column.name)]
        unread.check_numbers(path, found, free, not any(column.numeric(found.spelling) for column in free))


def _covariates(
    columns: Sequence[Column], others: set[str | None], key: Sequence[str], hints: Hints, why: dict[str, str],
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
    if not static and found.whole and key:
        # Two series at least, or everything that never changes would tell them apart.
        static = [c.name for c in columns if c.name not in others and _constant(c, key, found)]
        if static:
            why["static"] = f"one value throughout each series, named by {', '.join(key)}"
    return Names(known, past, static)


def _constant(column: Column, key: Sequence[str], found: Sample) -> bool:
    """Whether its cells are the same throughout each series, of which there are several, and not of all."""
    own: dict[tuple[str, ...], str] = {}
    for name, cell in zip(zip(*(found.columns[name].cells for name in key), strict=True), column.cells, strict=True):
        if own.setdefault(name, cell) != cell:
            return False
    return len(set(own.values())) > 1 and len(own) < len(column.cells)


def _column(found: Sample, name: str) -> Column | None:
    """A column by its name, composed or decomposed."""
    names = {unicodedata.normalize("NFC", own): column for own, column in found.columns.items()}
    return names.get(unicodedata.normalize("NFC", name))


def _found(found: Sample, name: str) -> str:
    column = _column(found, name)
    assert column is not None  # hints are checked first
    return column.name


def _named(pattern: re.Pattern[str], name: str) -> bool:
    """Whether a name, sensorId too, has a word of the pattern."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", unicodedata.normalize("NFC", name))
    return bool(pattern.search(parted.casefold()))


def _time(columns: Sequence[Column], hints: Hints, why: dict[str, str], found: Sample) -> str | None:
    if hints.time is not None:
        why["time"] = "named"
        return _found(found, hints.time)
    named = (*hints.value, *hints.id, hints.label, hints.text)
    timed = [(c, times) for c in columns if c.name not in named and (times := c.times(hints.time_format)) is not None]
    later: tuple[str, str] | None = None
    for column, times in timed:
        # Digits alone may be anything, unless all of them are dates of the calendar.
        sure = not _digits(column) or (times.written == "date" and len(column.known[0].strip()) >= 8)
        if times.local is not None and (sure or _named(TIME, column.name)):
            reason = f"its cells are times such as {column.known[0]!r}"
        elif times.local is None and _named(TIME, column.name):
            reason = "its name, and numbers that may count steps"
        else:
            continue
        # A year or a week of its year, beside dates, is not what tells the steps apart.
        if sure or _counts(column, columns):
            why["time"] = reason
            return column.name
        later = later or (column.name, reason)
    if later is None:
        later = _counted(timed, columns)
    if later is not None:
        why["time"] = later[1]
    return None if later is None else later[0]


def _counted(timed: Sequence[tuple[Column, Times]], columns: Sequence[Column]) -> tuple[str, str] | None:
    """A column that nothing but its numbers shows to be one of times; and why.

    Values hardly ever rise by even steps; what does, as numbers of orders, puts rows in order as times would.
    """
    for column, times in timed:
        if not _named(ID, column.name) and times.written == "moment" and identity.is_steady(times):
            return column.name, f"even steps of moments, in digits such as {column.known[0]!r}"
    for column, times in timed:
        if times.local is None and _named(COUNT, column.name) and _counts(column, columns):
            return column.name, "its name, and numbers that rise by even steps"
    return None


def _counts(column: Column, columns: Sequence[Column]) -> bool:
    """Whether its numbers rise by even steps from row to row, or do within rows that another column says are one."""
    try:
        numbers = [float(cell) for cell in column.cells]
    except ValueError:
        return False
    steps = [b - a for a, b in pairwise(numbers)]
    breaks = [i for i, step in enumerate(steps, 1) if step <= 0]
    rising = Counter(round(step, 9) for step in steps if step > 0)
    if not rising or rising.most_common(1)[0][1] < identity.EVEN * rising.total():
        return False
    return not breaks or any(
        [i for i, (a, b) in enumerate(pairwise(c.cells), 1) if a != b] == breaks
        for c in columns
        if c is not column and not _named(PART, c.name)  # days count within a month, which is no series
    )


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
        if unread.meant_as_times(column, hints.time_format, _named(TIME, column.name)):
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
    """The fewest columns that, with the time, name every row once; or one that parts rows whose times do so alone."""
    if hints.id:
        why["id"] = "named"
        return [_found(found, name) for name in hints.id]
    wordy = [c for c in columns if c.name not in (time, label) and c not in numeric and c.known]
    free = [c for c in numeric if c.name not in hints.value and c.distinct < len(c.known)]
    free = [c for c in free if all(map(_is_whole, c.known))]
    coded = [c for c in free if _named(ID, c.name)]
    if not hints.value and len(coded) == len(numeric):  # the values are among them
        coded = []
    if time is None:
        named = [c.name for c in (*wordy, *coded) if c.distinct < len(c.known)]
        if named:
            why["id"] = "what names a sequence, whose steps are its rows in order"
        return named[:1]
    times = found.columns[time]
    # What tells when does not tell which.
    wordy = [c for c in wordy if not _named(TIME, c.name) and c.times(hints.time_format) is None]
    # Rows that repeat all of another are taken once.
    rows = len(set(zip(*(c.cells for c in columns), strict=True)))
    if len(set(times.cells)) == rows:
        twice = "" if rows == len(times.cells) else ", rows that repeat another apart"
        key, why["id"] = _apart(times, wordy, coded, hints, found, f"every time stands once{twice}")
        return key
    counting = [c for c in free if c not in coded and not _named(PART, c.name) and identity.may_count(c, times)]
    counting = counting if len(counting) + len(coded) < len(numeric) else []
    if chosen := identity.fewest(times, [*wordy, *coded], counting, rows):
        why["id"] = "with the time, it names every row once"
        return [c.name for c in chosen]
    if wordy or coded:
        why["id"] = "columns of words; with the time they do not name every row once"
    return [c.name for c in wordy] or [c.name for c in coded]


def _apart(
    times: Column, wordy: Sequence[Column], coded: Sequence[Column], hints: Hints, found: Sample, once: str
) -> tuple[list[str], str]:
    """The column that tells series apart of which no two have a row at one time, if there are several; and why."""
    called = [c for c in (*wordy, *coded) if _named(ID, c.name)]
    parted = identity.apart(times, hints.time_format, called, [c for c in wordy if c not in called])
    if parted is not None:
        return [parted[0].name], f"{once}, but: {parted[1]}; [] makes all rows one series"
    # Of a longer file, a first series may fill all that was looked at.
    single = [c.name for c in called if not found.whole and c in wordy and c.distinct == 1]
    if single:
        return single[:1], f"its name, and one series in the first {found.rows} rows, behind which others may come"
    return [], f"{once}: one series a column of values"


def _check_parts(
    path: Path, columns: Sequence[Column], time: str, key: Sequence[str], hints: Hints, found: Sample
) -> None:
    """Raises UserError naming columns that tell the time together, as year and month do: one column is read."""
    times = found.columns[time]
    moments = len(set(times.cells))
    others = [c for c in columns if c.name not in (time, *hints.value, *hints.id) and _named(PART, c.name)]
    parts = [c for c in others if len(set(zip(times.cells, c.cells, strict=True))) > moments]
    rows = len(set(zip(*(c.cells for c in columns), strict=True)))
    own = [found.columns[name] for name in key]
    # Any column of remarks tells rows apart too, so that what parts name by themselves needs no key.
    told = identity.is_once([times, *own], rows) and (hints.id or not identity.is_once([times, *parts], rows))
    if not parts or told:
        return
    # A year that never changes is told with them.
    told_by = [c for c in columns if c is times or c in parts or (c in others and c.distinct == 1)]
    names, cells = " and ".join(c.name for c in told_by), " and ".join(repr(c.cells[0]) for c in told_by)
    raise UserError(
        f"{place(path, found.numbers[0])}: {names} tell the time together, {cells}; make one column of times of "
        "them, such as 2020-01 or 2020-01-31 13:00, in their place"
    )


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
