"""How a file is written: its encoding, what parts its cells, how its numbers look. Nothing here changes a file."""

from __future__ import annotations

import codecs
import csv
import gzip
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from seqlab.data import time
from seqlab.data.readers import MISSING, Dialect, as_text, plain_suffix, read_lines, read_objects
from seqlab.errors import UserError

LOOKED_AT = 20_000  # rows of a table from which its columns are judged
BLOCK = 1 << 20  # bytes
TABLES = (".csv", ".tsv", ".tab", ".parquet", ".jsonl", ".ndjson")
UNREADABLE = {
    ".xlsx": "save the sheet as CSV", ".xls": "save the sheet as CSV", ".ods": "save the sheet as CSV",
    ".json": "write JSON lines, one object a line, and call it .jsonl", ".zip": "unpack it first",
    ".tar": "unpack it first", ".tgz": "unpack it first", ".7z": "unpack it first", ".pdf": "save its text as .txt",
    ".docx": "save its text as .txt", ".hwp": "save its text as .txt", ".pkl": "save a table as Parquet",
    ".npy": "save a table with named columns as Parquet or CSV", ".mp3": "convert it to WAV, 16 bits, mono",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column of the rows that were looked at. cells: as text, "" where missing."""

    name: str
    cells: list[str]

    @property
    def known(self) -> list[str]:
        return [cell for cell in self.cells if cell.strip() not in MISSING]

    @property
    def distinct(self) -> int:
        return len(set(self.known))

    def numeric(self, dialect: Dialect) -> bool:
        """Whether nearly all its cells are numbers: one that is not may be a slip, which reading will name."""
        known = self.known
        return bool(known) and sum(_is_number(cell, dialect) for cell in known) >= 0.95 * len(known)

    def times(self, form: str | None) -> time.Times | None:
        """What its distinct cells are as times, if they are."""
        try:
            return time.read(list(dict.fromkeys(self.known)), form) if self.known else None
        except time.NotATime:
            return None


@dataclass(frozen=True)
class Sample:
    """The first rows of a table, and how it is written (None: Parquet and JSON say so themselves).

    numbers: of the rows, as reading counts them. whole: whether that is all of it. numbering: columns that number the
    rows and no more, which are none of `columns`.
    """

    columns: dict[str, Column]
    dialect: Dialect | None
    numbers: Sequence[int]
    whole: bool
    note: str = ""  # how the encoding was found
    numbering: dict[str, Column] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.numbers)

    def using(self, names: Collection[str]) -> Sample:
        """With the columns of row numbers that a person named among the others."""
        return replace(self, columns={n: c for n, c in self.numbering.items() if n in names} | self.columns)

    def is_number(self, cell: str) -> bool:
        return _is_number(cell, self.spelling)

    @property
    def spelling(self) -> Dialect:
        return self.dialect or Dialect(delimiter=",", decimal=".", thousands="", encoding="utf-8")


def _is_number(cell: str, dialect: Dialect) -> bool:
    try:
        dialect.number(cell, Path(), 0, "")
    except UserError as error:
        return "is not finite" in str(error)  # a number that reading will refuse by name
    return True


# Encoding


def encoding(path: Path) -> tuple[str, str]:
    """The encoding of a text file, and how that was found out.

    Raises UserError naming the line: a file that is UTF-8 but for a damaged place; or the file: it is empty, no text.
    """
    with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else open(path, "rb")) as opened:
        head = opened.read(BLOCK)
        if not head:
            raise UserError(f"{path.name}: the file is empty")
        for mark, name in (
            (codecs.BOM_UTF8, "utf-8"),
            (codecs.BOM_UTF16_LE, "utf-16"),
            (codecs.BOM_UTF16_BE, "utf-16"),
        ):
            if head.startswith(mark):
                return name, f"it begins with the byte order mark of {name.upper()}"
        if b"\0" in head:
            raise UserError(
                f"{path.name}, byte {head.index(0) + 1}: a zero byte; expected text, or Parquet by its suffix"
            )
        decoder = codecs.getincrementaldecoder("utf-8")()
        block, multibyte = head, False
        try:
            while block:
                multibyte = multibyte or not block.isascii()
                decoder.decode(block)
                block = opened.read(BLOCK)
            decoder.decode(b"", final=True)
            return "utf-8", "all of it is UTF-8"
        except UnicodeDecodeError:
            pass
    return _other_encoding(path, head)


def _other_encoding(path: Path, head: bytes) -> tuple[str, str]:
    """An encoding that is not UTF-8: Korean by its syllables, else Western European; or damaged UTF-8, by its signs."""
    odd = [byte for byte in head if byte > 127]
    # Of a text in UTF-8 nearly all bytes above 127 stand in valid groups, which other encodings make by chance alone.
    valid = sum(len(group) for group in re.findall(rb"[\xc2-\xf4][\x80-\xbf]{1,3}", head))
    korean = head.decode("cp949", errors="replace")
    letters = [c for c in korean if ord(c) > 127]
    hangul = sum("가" <= c <= "힣" for c in letters)
    if letters and hangul >= 0.8 * len(letters) and hangul > korean.count("�"):
        return "cp949", "no UTF-8, and Korean syllables in CP949"
    if odd and valid >= 0.5 * len(odd):
        for _ in read_lines(path):  # which names the line and the byte
            pass
    return "cp1252", "no UTF-8; taken for Western European (CP1252), which knows any byte: check the letters"


# Tables


# What pandas calls the column of row numbers that it writes unasked.
INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0|index|", re.IGNORECASE)


def sample(path: Path) -> Sample:
    """The first rows of a table, those columns apart that number them and no more.

    Raises UserError: no table, no header, the same name twice, no row.
    """
    reader = {".parquet": _parquet_sample, ".jsonl": _json_sample, ".ndjson": _json_sample}.get(plain_suffix(path))
    found = _delimited_sample(path) if reader is None else reader(path)
    numbering = {name: column for name, column in found.columns.items() if _numbers_rows(column)}
    kept = {name: column for name, column in found.columns.items() if name not in numbering}
    return replace(found, columns=kept, numbering=numbering)


def _numbers_rows(column: Column) -> bool:
    """Whether it numbers rows, of which some may have been taken out, and that is all.

    A column `index` may be one of values, or one of times such as 0, 10, 20.
    """
    if not INDEX.fullmatch(column.name) or not all(cell.strip().isdigit() for cell in column.known[:100]):
        return False
    if column.name.casefold() != "index":
        return True
    if not all(cell.strip().isdigit() for cell in column.cells):
        return False
    steps = {int(b) - int(a) for a, b in pairwise(column.cells)}
    return (
        steps <= {1}
        or (min(steps) > 0 and len(steps) > 1)
        or set(map(int, column.cells)) == set(range(len(column.cells)))
    )


def _delimited_sample(path: Path) -> Sample:
    found, note = encoding(path)
    delimiter = delimiter_of(path, found)
    dialect = Dialect(delimiter=delimiter or ",", decimal=".", thousands="", encoding=found)
    header, numbers, rows = _head(path, dialect)
    _check_header(path, header, rows)
    columns = {name: Column(name, [row[i] for row in rows]) for i, name in enumerate(header) if name.strip()}
    marks = number_marks([cell for column in columns.values() for cell in column.known], dialect.delimiter)
    dialect = replace(dialect, decimal=marks[0], thousands=marks[1])
    return Sample(columns, dialect, numbers, len(rows) < LOOKED_AT, note)


def _head(path: Path, dialect: Dialect) -> tuple[list[str], list[int], list[list[str]]]:
    """The header, the lines on which the first rows begin, and their cells."""
    lines = (line.replace("\r", " ") + "\n" for _, line in read_lines(path, dialect.encoding))
    reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
    header: list[str] = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    try:
        header = next(reader, [])
        at = reader.line_num + 1
        for row in reader:
            begun, at = at, reader.line_num + 1
            if not row:
                continue
            if len(row) != len(header):
                raise UserError(f"{path.name}, row {begun}: {len(row)} cells, expected {len(header)} as in the header")
            numbers.append(begun)
            rows.append(row)
            if len(rows) == LOOKED_AT:
                break
    except csv.Error as error:
        raise UserError(f"{path.name}, row {reader.line_num}: not CSV: {error}") from None
    return header, numbers, rows


def _check_header(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        raise UserError(
            f"{path.name}, row 1: the only row, {', '.join(header)[:60]!r}; expected a header and rows below"
        )
    plain = Dialect(delimiter=",", decimal=".", thousands="", encoding="utf-8")
    if any(_is_number(name, plain) and name.strip() not in MISSING for name in header):
        raise UserError(
            f"{path.name}, row 1: {', '.join(header)[:60]!r} looks like data; expected a header that names the columns"
        )
    if twice := [name for name, count in Counter(header).items() if count > 1 and name.strip()]:
        raise UserError(f"{path.name}, row 1: {header.count(twice[0])} columns {twice[0]!r}; expected different names")


def delimiter_of(path: Path, found: str) -> str | None:
    """What parts the cells of the first lines most evenly into the most cells, or None where nothing does."""
    lines = [line.replace("\r", " ") for _, line in islice(read_lines(path, found), 200)]
    lines = [line for line in lines if line]
    best: tuple[int, str] | None = None
    for candidate in ("\t", ",", ";", "|"):
        try:
            widths = [len(row) for row in csv.reader((f"{line}\n" for line in lines), delimiter=candidate, strict=True)]
        except csv.Error:
            continue
        width, count = Counter(widths).most_common(1)[0] if widths else (1, 0)
        # A slip in one row below the header must not hide what parts the others; reading will name it.
        even = width > 1 and widths[0] == width and count >= 0.9 * len(widths)
        if even and (best is None or width > best[0]):
            best = width, candidate
    return None if best is None else best[1]


# Numbers as people write them: by the marks of decimals and of thousands.
SPACES = " \u00a0\u202f"
GROUPED = {
    (".", ","): re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?"),
    (",", "."): re.compile(r"[+-]?\d{1,3}(\.\d{3})*,\d+|[+-]?\d{1,3}(\.\d{3}){2,}"),
    (",", " "): re.compile(rf"[+-]?\d{{1,3}}([{SPACES}]\d{{3}})+(,\d+)?"),
    (",", ""): re.compile(r"[+-]?\d+,\d+"),
}


def number_marks(cells: Sequence[str], delimiter: str) -> tuple[str, str]:
    """(decimal, thousands) by which the most cells that are not plain numbers are numbers; (".", "") where none are.

    1,234 alone may be either: it is a thousand, unless the cells are parted by semicolons, as where commas are decimal.
    """
    odd = [cell.strip() for cell in cells if not _plain(cell)]
    odd = [cell for cell in odd if re.fullmatch(rf"[+-]?\d[\d.,{SPACES}]*", cell)]
    dotted = any(re.fullmatch(r"[+-]?\d+\.\d+", cell.strip()) for cell in cells)
    decimal = any(re.search(r",\d{1,2}$|,\d{4,}$", cell) for cell in odd) or (delimiter == ";" and not dotted)
    orders = sorted(GROUPED, key=lambda order: order[0] != ("," if decimal else "."))
    fits = {order: sum(bool(GROUPED[order].fullmatch(cell)) for cell in odd) for order in orders}
    best = max(orders, key=fits.__getitem__)
    if not fits[best]:
        return ".", ""
    if best[1] == " ":
        return ",", next(space for space in SPACES if any(space in cell for cell in odd))
    # A dot that parts no thousands here would be thrown away if it were taken for their mark.
    return (",", "") if best == (",", ".") and not any("." in cell for cell in odd) else best


def _plain(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _json_sample(path: Path) -> Sample:
    numbered = list(islice(read_objects(path), LOOKED_AT))
    numbers, rows = [number for number, _ in numbered], [row for _, row in numbered]
    if not rows:
        raise UserError(f"{path.name}: no object; expected one a line")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: Column(name, [as_text(row.get(name)) for row in rows]) for name in names}
    return Sample(columns, None, numbers, len(rows) < LOOKED_AT)


def _parquet_sample(path: Path) -> Sample:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(batch_size=LOOKED_AT), None)
            count = file.metadata.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{path.name}: not a readable Parquet file: {str(error).splitlines()[0]}") from None
    if batch is None or not batch.num_rows:
        raise UserError(f"{path.name}: no row; expected some")
    columns = {
        name: Column(name, [as_text(value) for value in batch.column(i).to_pylist()])
        for i, name in enumerate(batch.schema.names)
    }
    return Sample(columns, None, range(1, batch.num_rows + 1), count <= LOOKED_AT)


def files_below(folder: Path) -> list[Path]:
    """Files of a folder in order of their names, without hidden ones. Raises UserError naming a folder that may not be
    read.
    """
    walked = os.walk(folder, onerror=_unreadable)
    below = (Path(at) / name for at, _, names in walked for name in names if not name.startswith("."))
    return sorted(file for file in below if file.is_file())


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: the folder cannot be read: {error.strerror}") from None


def lines_of(path: Path, found: str) -> Iterator[str]:
    """Lines that are not blank."""
    return (line for _, line in read_lines(path, found) if line.strip())
