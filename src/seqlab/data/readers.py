"""Text files and tables of a user, read in a stream; what is wrong with one is said in one line that tells where."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from seqlab.errors import UserError

# Bytes. A stream holds one line in memory, so a file that is all one line must not pass for one.
LONGEST_LINE = 1 << 24
MISSING = ("", ".", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
# A carriage return that ends no line is a character like any other, which the csv module would take for an end.
RETURN = "\ufdd0"  # no character, so that no text holds it
DIALECT_KEYS = ("delimiter", "decimal", "thousands", "encoding")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How a table of text is written: what parts its cells, marks its decimals and its thousands ("": nothing)."""

    delimiter: str
    decimal: str
    thousands: str
    encoding: str

    @classmethod
    def of(cls, path: Path, spec: dict[str, Any] | None) -> Dialect:
        """As a configuration says; None: what a file's name promises, UTF-8. Raises UserError naming a wrong key."""
        if spec is None:
            delimiter = "\t" if plain_suffix(path) in (".tsv", ".tab") else ","
            return cls(delimiter=delimiter, decimal=".", thousands="", encoding="utf-8")
        if set(spec) != set(DIALECT_KEYS):
            raise UserError(f"dialect of {path.name}: expected {', '.join(DIALECT_KEYS)}, found {', '.join(spec)}")
        return cls(**spec)

    def number(self, cell: str, path: Path, row: int, column: str) -> float:
        """A finite number, or NaN for a cell that says of itself that it is missing. Raises UserError."""
        if self.decimal == "." and not self.thousands:
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            # Python reads 1_000 too, which is the number of no table.
            if math.isfinite(value) and "_" not in cell:
                return value
        text = cell.strip()
        if text in MISSING:
            return math.nan
        plain = text.replace(self.thousands, "") if self.grouped(text) else text
        # What parts thousands elsewhere is no decimal point here.
        misplaced = bool(self.thousands) and self.thousands in plain
        if self.decimal != ".":
            plain = plain.replace(self.decimal, ".")
        try:
            value = float("_" if "_" in plain or misplaced else plain)
            reason = "not finite"
        except ValueError:
            value, reason = math.nan, "not a number"
        if not math.isfinite(value):
            raise UserError(
                f"{place(path, row, column)}: {cell!r} is {reason}; leave the cell empty where a value is missing"
            )
        return value

    def grouped(self, text: str) -> bool:
        """Whether what parts thousands stands between groups of three digits, and nowhere else."""
        if not self.thousands:
            return False
        whole, _, _ = text.partition(self.decimal)
        first, *groups = whole.lstrip("+-").split(self.thousands)
        parted = 1 <= len(first) <= 3 and all(len(group) == 3 for group in groups)
        return parted and self.thousands not in text[len(whole) :]


def plain_suffix(path: Path) -> str:
    """The suffix in lower case, of `prices.csv.gz` too: ".csv"."""
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def place(path: Path, row: int, column: str | None = None) -> str:
    """Where something stands: "prices.csv, row 7, column Close"."""
    return f"{path.name}, row {row}" + ("" if column is None else f", column {column}")


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Numbered lines of text (`.gz` too), without their ends and without a byte order mark.

    A line ends at \\n, and a \\r before it belongs to the end; any other sign that some call an end of a line is part
    of the line, so that files of pairs stay aligned.

    Raises UserError naming the line: a byte that the encoding has not, more than LONGEST_LINE bytes, a damaged `.gz`;
    or the file: it is empty.
    """
    number = 0
    with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else open(path, "rb")) as opened:
        lines = _utf8(path, opened) if encoding in ("utf-8", "utf-8-sig") else _encoded(path, opened, encoding)
        try:
            for number, line in enumerate(lines, 1):
                text = line.removeprefix("\ufeff") if number == 1 else line
                yield number, text.removesuffix("\n").removesuffix("\r")
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path.name}, after line {number}: damaged: {error}") from None
    if not number:
        raise UserError(f"{path.name}: the file is empty")


def _utf8(path: Path, opened: BinaryIO) -> Iterator[str]:
    number = 0
    while line := opened.readline(LONGEST_LINE + 1):
        number += 1
        _check_length(path, number, line)
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path.name}, line {number}, byte {error.start + 1}: 0x{line[error.start]:02x} "
                f"is not UTF-8 ({error.reason})"
            ) from None


def _encoded(path: Path, opened: BinaryIO, encoding: str) -> Iterator[str]:
    """Lines of another encoding, in which a byte of ten may be half a character."""
    try:
        text: TextIO = io.TextIOWrapper(opened, encoding=encoding, newline="\n")
    except LookupError:
        raise UserError(f"{path.name}: no encoding is called {encoding!r}; expected such as utf-8 or cp949") from None
    number = 0
    while True:
        try:
            line = text.readline(LONGEST_LINE + 1)
        except UnicodeDecodeError as error:
            raise UserError(f"{path.name}, after line {number}: not {encoding} ({error.reason})") from None
        if not line:
            return
        number += 1
        _check_length(path, number, line)
        yield line


def _check_length(path: Path, number: int, line: str | bytes) -> None:
    if len(line) > LONGEST_LINE:
        raise UserError(f"{path.name}, line {number}: longer than {LONGEST_LINE} bytes; expected shorter lines")


def read_table(
    path: Path, wanted: Sequence[str], optional: Sequence[str], dialect: Dialect | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table as text: the number of each row, and its cells of the columns `wanted`, then of those among
    `optional` that there are. Missing cells of Parquet and JSON are empty.

    By suffix: Parquet (rows from 1); JSON lines, one object each (rows are lines); anything else is delimited, with a
    header (a row is numbered by the line on which it begins, the header's being 1; empty lines are no rows). dialect:
    of delimited ones; None: what the name promises.

    Raises UserError naming file, row and column: no header, a column that is missing or there twice, a row of another
    width, quotes that do not close, a line that is no object; and what `read_lines` raises.
    """
    suffix = plain_suffix(path)
    if suffix == ".parquet":
        return _parquet_rows(path, wanted, optional)
    if suffix in (".jsonl", ".ndjson"):
        return _json_rows(path, wanted, optional)
    return _delimited_rows(path, wanted, optional, dialect or Dialect.of(path, None))


def chosen(path: Path, header: Sequence[str], wanted: Sequence[str], optional: Sequence[str]) -> list[str]:
    """The columns to read, as the header spells them; composed and decomposed letters are the same.

    Raises UserError when one of `wanted` is missing, or any is there twice.
    """
    names = [unicodedata.normalize("NFC", name) for name in header]
    found = []
    for column in (*wanted, *optional):
        count = names.count(unicodedata.normalize("NFC", column))
        if not count and column in optional:
            continue
        if not count:
            raise UserError(f"{path.name}: no column {column!r}; the header has {', '.join(header) or 'nothing'}")
        if count > 1:
            raise UserError(f"{path.name}: {count} columns {column!r}; expected one")
        found.append(header[names.index(unicodedata.normalize("NFC", column))])
    return found


def _delimited_rows(
    path: Path, wanted: Sequence[str], optional: Sequence[str], dialect: Dialect
) -> Iterator[tuple[int, list[str]]]:
    lines = (f"{line.replace(chr(13), RETURN)}\n" for _, line in read_lines(path, dialect.encoding))
    reader = csv.reader(lines, strict=True, delimiter=dialect.delimiter)
    row = 1
    try:
        header = next(reader, [])
        places = [header.index(column) for column in chosen(path, header, wanted, optional)]
        while True:
            row = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(f"{place(path, row)}: {len(cells)} cells, expected {len(header)}")
            yield row, [cells[i].replace(RETURN, "\r") for i in places]
    except csv.Error as error:
        raise UserError(f"{place(path, row)}: not CSV: {error}") from None


def _json_rows(path: Path, wanted: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    columns: list[str] | None = None
    for number, row in read_objects(path):
        if columns is None:
            columns = [*wanted, *(column for column in optional if column in row)]
        for column in wanted:
            if column not in row:
                raise UserError(f"{place(path, number)}: no key {column!r}; it has {', '.join(row) or 'none'}")
        yield number, [as_text(row.get(column)) for column in columns]


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered objects of JSON lines; blank lines are none. Raises UserError naming the line."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        where = f"{path.name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected an object with its keys, found {type(row).__name__}")
        yield number, row


def _parquet_rows(path: Path, wanted: Sequence[str], optional: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = chosen(path, file.schema_arrow.names, wanted, optional)
            row = 0
            for batch in file.iter_batches(columns=columns):
                cells = [batch.column(batch.schema.get_field_index(column)).to_pylist() for column in columns]
                for values in zip(*cells, strict=True):
                    row += 1
                    yield row, [as_text(value) for value in values]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(f"{path.name}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def as_text(value: Any) -> str:
    """A value of JSON or Parquet as a table of text would hold it: 1 is "1", true "true", none "", times ISO."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # A column of whole numbers with a gap is one of floats.
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
