"""Look at a file or folder and propose the domain that it is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from seqlab.data.domains.labelled import FILMS
from seqlab.data.readers import plain_suffix
from seqlab.errors import UserError
from seqlab.intake import files, panels, sniff, texts
from seqlab.intake.proposal import Hints, Proposal
from seqlab.intake.roles import Roles, roles, script


def look(path: Path | str, hints: Hints | None = None) -> Proposal:
    """What a CSV or TSV, a Parquet file, JSON lines, a text, a `.ts` file, a table or two files of sentence pairs, or a
    folder of texts, recordings or films is, and how it would be compared. Nothing is changed.

    Raises UserError in one line that names file, row and column, what was found and what to do.
    """
    path, hints = Path(path).expanduser(), hints or Hints()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    path = path.resolve()
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise UserError(f"{path}: no permission to read it")
    name = hints.name or name_of(path)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise UserError(f"name: found {name!r}, expected a letter, then letters, digits and _")
    try:
        found = _folder(path, name, hints) if path.is_dir() else _file(path, name, hints)
    except UserError as error:  # of a reader, which says it as a domain's file has it
        raise UserError(str(error).replace("`key` names too few", "--id names too few")) from None
    if hints.kind not in (None, found.kind):
        raise UserError(f"{path.name}: read as {found.kind}, not {hints.kind}; leave out --kind")
    if hints.covariates and found.kind != "series":
        raise UserError(f"{path.name}: {found.kind}, which have no covariates; leave out known, past and static")
    return found


def _file(path: Path, name: str, hints: Hints) -> Proposal:
    suffix = plain_suffix(path)
    if advice := sniff.UNREADABLE.get(suffix):
        raise UserError(f"{path.name}: {suffix} is not read; {advice}")
    if hints.kind in ("recordings", "films"):
        raise UserError(f"{path.name}: a file, and no folder of {hints.kind}; leave out --kind")
    if suffix == ".ts":
        return files.published(path, name, hints)
    if suffix == ".wav" or suffix in FILMS:
        raise UserError(f"{path.name}: one recording is no data set; expected the folder that holds it and others")
    if hints.target is not None and (twin := Path(hints.target).expanduser()).is_file():
        return texts.two_files(path, twin.resolve(), name, hints)
    return _table(path, name, hints) if suffix in sniff.TABLES else _text(path, name, hints)


def _text(path: Path, name: str, hints: Hints) -> Proposal:
    """A file whose name does not say what it is."""
    encoding, _ = sniff.encoding(path)
    delimiter = sniff.delimiter_of(path, encoding)
    if delimiter == "\t" and hints.kind in (None, "pairs") and (order := _bare_pairs(path, encoding)):
        return texts.bare_pairs(path, order, name, hints)
    tabular = delimiter is not None and (hints.kind == "pairs" or (hints.kind is None and _tabular(path)))
    if hints.kind in ("series", "sequences") or tabular:
        return _table(path, name, hints)
    return texts.lines(path, name, hints)


def name_of(path: Path) -> str:
    """A name for a domain, from that of a file: "Sales 2024.csv" is sales_2024."""
    stem = re.sub(r"[^a-z0-9]+", "_", path.name.split(".")[0].casefold()).strip("_")
    return stem if re.match(r"[a-z]", stem) else f"own_{stem}" if stem else "own"


def _table(path: Path, name: str, hints: Hints) -> Proposal:
    encoding = "utf-8" if plain_suffix(path) in (".parquet", ".jsonl", ".ndjson") else sniff.encoding(path)[0]
    bare = plain_suffix(path) in (".tsv", ".tab") and hints.kind in (None, "pairs") and hints.text is None
    if bare and (order := _bare_pairs(path, encoding)):
        return texts.bare_pairs(path, order, name, hints)
    sample = sniff.sample(path)
    found = sample.using(hints.columns)
    proposal = _of_roles(path, found, roles(path, found, hints), name, hints)
    if left_out := [column for column in sample.numbering if column not in found.columns]:
        proposal.card.facts["columns that number the rows, left out"] = left_out
    return proposal


def _of_roles(path: Path, found: sniff.Sample, played: Roles, name: str, hints: Hints) -> Proposal:
    if played.pair is not None:
        return texts.table_of_pairs(path, found, played, name, hints)
    if played.text is not None:
        return texts.table(path, found, played, name, hints)
    if hints.kind == "sequences" or (hints.kind is None and _labelled(found, played, hints)):
        return files.table(path, found, played, name, hints)
    return panels.series(path, found, played, name, hints)


def _labelled(found: sniff.Sample, played: Roles, hints: Hints) -> bool:
    """Whether rows are steps of labelled sequences rather than of series on one calendar."""
    if played.label is None or not played.id:
        return False
    if hints.label is not None:
        return True
    times = None if played.time is None else found.columns[played.time].times(hints.time_format)
    return times is None or times.local is None


def _bare_pairs(path: Path, encoding: str) -> list[int] | None:
    """The places of English and Korean in two columns without a header, or None where that is not what they are."""
    rows = [line.split("\t") for line, _ in zip(sniff.lines_of(path, encoding), range(1000), strict=False)]
    if not rows or any(len(row) != 2 for row in rows[:1]) or sum(len(row) == 2 for row in rows) < 0.9 * len(rows):
        return None
    sides = [script([row[i] for row in rows if len(row) == 2]) for i in (0, 1)]
    # A header is in one script on both sides, and of a word or two.
    if script([rows[0][0]]) == script([rows[0][1]]):
        return None
    return {("LATIN", "HANGUL"): [1, 2], ("HANGUL", "LATIN"): [2, 1]}.get((sides[0], sides[1]))


def _tabular(path: Path) -> bool:
    """Whether a file that nothing calls a table is one: it has a header, and numbers below."""
    try:
        found = sniff.sample(path)
    except UserError:
        return False
    return any(column.numeric(found.spelling) for column in found.columns.values())


def _folder(path: Path, name: str, hints: Hints) -> Proposal:
    below = sniff.files_below(path)
    if not below:
        raise UserError(f"{path.name}: a folder without a file")
    suffixes = {file: plain_suffix(file) for file in below}
    recordings = [file for file in below if suffixes[file] == ".wav"]
    films = [file for file in below if suffixes[file] in FILMS]
    written = [file for file in below if suffixes[file] in (".txt", ".text", ".md")]
    tables = [file for file in below if suffixes[file] in sniff.TABLES]
    # Of a folder that holds several kinds, the one that was named.
    if recordings and (hints.kind == "recordings" or (hints.kind is None and len(recordings) >= len(films))):
        return files.recordings(path, recordings, tables, name, hints)
    if films and hints.kind in (None, "films"):
        return files.films(path, films, tables, name, hints)
    if written and hints.kind in (None, "text"):
        return texts.folder(path, written, tables, name, hints)
    if len(below) == 1:
        return look(below[0], hints)
    if hints.kind is not None and (recordings or films or written):
        raise UserError(f"{path.name}: a folder without a file that may be one of {hints.kind}; leave out --kind")
    raise UserError(
        f"{path.name}: a folder of {len(below)} files, of which none is a text, a recording or a film; expected such a "
        f"folder, or one table such as {below[0].name}"
    )
