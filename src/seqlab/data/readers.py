"""Text files and tables of a user, read in a stream; what is wrong with one is said in one line that tells where."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from seqlab.errors import UserError

# Bytes. A stream holds one line in memory, so a file that is all one line must not pass for one.
LONGEST_LINE = 1 << 24


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of UTF-8 text (`.gz` too), without their ends and without a byte order mark.

    Raises UserError naming the line: a byte that is not UTF-8, more than LONGEST_LINE bytes, a damaged `.gz`; or the
    file: it is empty.
    """
    with cast(BinaryIO, gzip.open(path) if path.suffix == ".gz" else open(path, "rb")) as opened:
        number = 0
        while True:
            try:
                line = opened.readline(LONGEST_LINE + 1)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise UserError(f"{path.name}, after line {number}: damaged: {error}") from None
            if not line:
                break
            number += 1
            if len(line) > LONGEST_LINE:
                raise UserError(f"{path.name}, line {number}: longer than {LONGEST_LINE} bytes; expected shorter lines")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path.name}, line {number}, byte {error.start + 1}: 0x{error.object[error.start]:02x} "
                    f"is not UTF-8 ({error.reason})"
                ) from None
            yield number, (text.removeprefix("\ufeff") if number == 1 else text).rstrip("\r\n")
        if not number:
            raise UserError(f"{path.name}: the file is empty")


def read_table(path: Path, wanted: list[str], optional: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Rows of a CSV with a header: where each stands ("prices.csv, row 7": the line on which it begins, the header's
    being 1) and its cells of the columns `wanted`, then of those among `optional` that there are. Empty lines are no
    rows.

    Raises UserError naming file, row and column: no header, a column that is missing or there twice, a row of another
    width, quotes that do not close; and what `read_lines` raises.
    """
    reader = csv.reader((line + "\n" for _, line in read_lines(path)), strict=True)
    row = 1
    try:
        header = next(reader, [])
        for column in wanted:
            if column not in header:
                raise UserError(f"{path.name}: no column {column!r}; the header has {', '.join(header) or 'nothing'}")
        chosen = [*wanted, *(column for column in optional if column in header)]
        for column in chosen:
            if header.count(column) > 1:
                raise UserError(f"{path.name}: {header.count(column)} columns {column!r}; expected one")
        places = [header.index(column) for column in chosen]
        while True:
            row = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if not cells:
                continue
            where = f"{path.name}, row {row}"
            if len(cells) != len(header):
                raise UserError(f"{where}: {len(cells)} cells, expected {len(header)}")
            yield where, [cells[i] for i in places]
    except csv.Error as error:
        raise UserError(f"{path.name}, row {row}: not CSV: {error}") from None
