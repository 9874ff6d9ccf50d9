"""Cells that were plainly meant as times or numbers and are read as neither: named, before their column passes for
words and is left aside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from seqlab.data import time
from seqlab.data.readers import place
from seqlab.errors import UserError
from seqlab.intake.sniff import Column, Sample

NEARLY = 0.9  # of the cells
LOOKED_AT = 1000  # different cells
# Dates with a year of two digits or an order that one cell does not tell, months such as Jan-10, clock times alone.
MEANT = re.compile(
    r"\d{1,2}([-/.])\d{1,2}\1(\d{2}|\d{4})(\D.*)?|\d{4}([-/.])\d{1,2}\4\d{1,2}(\D.*)?|\d{1,2}:\d\d(:\d\d)?( ?[ap]m)?"
    r"|(\d{1,2}[- ])?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[-/ ']+\d{2,4}|\d{2}년.*",
    re.ASCII | re.IGNORECASE,
)
DIGITS = r"[+-]?\d[\d.,\u00a0\u202f ]*"
# A number with its unit: "$1,501.31", "97.7%", "12 kg". S00 and 5A are codes.
AMOUNT = re.compile(rf"[+-]?[$€£¥₩₹%‰°] ?{DIGITS}|{DIGITS} ?[$€£¥₩₹%‰°원]|[+-]?\d[\d.,]* [A-Za-z]{{1,3}}")
CATEGORIES = 20  # different whole numbers that may be names of something, as others of the column are


def meant_as_times(column: Column, form: str | None, called: bool) -> bool:
    """Whether nearly all its cells are times, each by itself, or look like some; or, where the column is called like
    one, hold digits and hardly come again.
    """
    cells = list(dict.fromkeys(column.known))
    varied = called and 2 * len(cells) >= len(column.known)
    cells = cells[:LOOKED_AT]
    if varied and sum(any(c.isdigit() for c in cell) for cell in cells) >= NEARLY * len(cells):
        return bool(cells)
    return bool(cells) and sum(_like_a_time(cell.strip(), form) for cell in cells) >= NEARLY * len(cells)


def _like_a_time(cell: str, form: str | None) -> bool:
    return bool(MEANT.fullmatch(cell)) or _is_time(cell, form)


def _is_time(cell: str, form: str | None) -> bool:
    try:
        return time.read([cell], form).local is not None
    except time.NotATime:
        return False


def check_times(
    path: Path, found: Sample, columns: Sequence[Column], named: Sequence[Column], form: str | None
) -> None:
    """named: those of the columns that are called like times. Raises UserError naming a cell that kept a column from
    being one of times.
    """
    for column in columns:
        if column.numeric(found.spelling) or not meant_as_times(column, form, column in named):
            continue
        cells = list(dict.fromkeys(column.known))
        try:
            time.read(cells, form)
        except time.NotATime as error:
            where = place(path, found.numbers[column.cells.index(cells[error.index])], column.name)
            spelt = form is None and not any(_is_time(cell.strip(), form) for cell in cells[:LOOKED_AT])
            way = "; or say how they are written, as in --time_format %m/%d/%y" if spelt else ""
            raise UserError(f"{where}: {error.reason}{way}") from None


def check_numbers(path: Path, found: Sample, columns: Sequence[Column], alone: bool) -> None:
    """alone: whether no column is of numbers. Raises UserError naming a cell that kept one from being so."""
    for column in columns:
        if column.numeric(found.spelling):
            continue
        known = column.known
        odd = [cell for cell in known if not found.is_number(cell)]
        count = len(known) - len(odd)
        where = f"{place(path, found.numbers[column.cells.index(odd[0])], column.name)}: {odd[0]!r}" if odd else ""
        if known and sum(bool(AMOUNT.fullmatch(cell.strip())) for cell in odd) >= NEARLY * len(known):
            raise UserError(f"{where} is a number with its unit; write it without (or name the others, --value)")
        # A dash or a question mark means a missing value whatever its share; words do among few of them.
        marks = all(not any(c.isalnum() for c in cell) for cell in set(odd))
        few = count >= 0.5 * len(known) and len(set(odd)) <= 3 and not any(c.isdigit() for cell in odd for c in cell)
        if count and (marks or (few and (alone or _measures(column, found)))):
            raise UserError(
                f"{where} is not a number, and {count} other cells are; leave the cell empty where a value is missing"
            )


def _measures(column: Column, found: Sample) -> bool:
    """Whether its numbers are more than a few whole ones, which may be names of something."""
    numbers = {cell.strip() for cell in column.known if found.is_number(cell)}
    return len(numbers) > CATEGORIES or not all(map(str.isdigit, numbers))
