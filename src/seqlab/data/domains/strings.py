"""Strings: text as UTF-8 bytes. Source: scripture; target: modern texts of another genre, some with a sentiment."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.data.domains.base import classes_of, labelled_files, split_of, write_meta
from seqlab.data.prepared import LABELLED, SOURCE, TARGET, Meta
from seqlab.data.readers import Dialect, as_text, place, plain_suffix, read_lines, read_objects, read_table
from seqlab.data.sequences import SPLITS
from seqlab.data.writing import SequenceWriter
from seqlab.errors import UserError
from seqlab.settings import Count, ProperFraction

BYTES = 256
LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # only an escape of JSON can bring one in


@dataclass(frozen=True)
class Text:
    """One text and its class, if it has one."""

    text: str
    label: str | None = None


class Strings:
    """Bytes of texts, read in a stream, by a file's suffix: tables with a header (.csv, .parquet, .jsonl), else lines.

    `source_columns` (None: there is no source) and `target_columns` say where a text is, and its label or score: a list
    names the tab-separated columns of a line, [text] being a whole line; of tables with a header, a mapping names the
    columns that hold `text` and `label`, which a list leaves to be called just so. {files: folder} takes every file as
    one text, labelled by its folder ({files: {file, name, label}}: by a table; {files: null}: not at all). dialect: of
    the target's files.

    The split of a text follows from the hash of its content: equal texts never part, and no order matters. A text ends
    with a newline, which is predicted like any other byte.
    """

    kind = "symbols"

    def __init__(
        self,
        *,
        source_columns: list[str] | None,
        target_columns: list[str] | dict[str, Any],
        dialect: dict[str, Any] | None,
        classes: list[str],
        max_length: Count,
        valid: ProperFraction,
        test: ProperFraction,
    ) -> None:
        if "text" not in target_columns and "files" not in target_columns:
            raise UserError(
                f"domain strings, target_columns: found {', '.join(target_columns)}, expected text among them"
            )
        if "score" in target_columns and len(classes) != 2:
            raise UserError(f"domain strings, classes: found {len(classes)}, expected two for the signs of `score`")
        self.source_columns, self.target_columns, self.dialect = source_columns, target_columns, dialect
        self.classes = [unicodedata.normalize("NFC", name) for name in classes]
        self.max_length = max_length
        self.valid, self.test = valid, test

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write target, and source and labelled sets where there are such. Raises UserError naming file and line."""
        removed: Counter[str] = Counter()
        # A target text that also stands in the source is kept out of it: nothing of a test is ever pretrained on.
        seen = Digests()
        self._write(self._texts(raw["target"], self.target_columns, self.dialect, removed), out, TARGET, removed, seen)
        if self.source_columns is not None:
            texts = self._texts(raw["source"], self.source_columns, None, removed)
            self._write(texts, out, SOURCE, removed, seen)
        labelled = (out / LABELLED).exists()
        write_meta(
            out,
            Meta(
                kind="symbols",
                size=BYTES,
                tasks=["next_step", "classify"] if labelled else ["next_step"],
                classes=self.classes if labelled else [],
                characters=True,
                removed=dict(+removed),
            ),
        )

    def _write(self, texts: Iterator[Text], out: Path, name: str, removed: Counter[str], seen: Digests) -> None:
        """Clean, deduplicate, split and write one set (and the labelled one beside it)."""
        labels: dict[str, set[str]] = {split: set() for split in SPLITS}
        with ExitStack() as stack:

            def writer(set_name: str, split: str) -> SequenceWriter:
                return stack.enter_context(SequenceWriter(out / set_name / split, np.uint8))

            writers = {split: writer(name, split) for split in SPLITS}
            labelled: dict[str, SequenceWriter] = {}
            for item in texts:
                # Of one text in two forms of Unicode, one would stand in training and one in the test.
                text = " ".join(unicodedata.normalize("NFC", item.text).split())
                if not text:
                    removed[f"{name}: empty"] += 1
                    continue
                if not seen.add(text.encode()):
                    removed[f"{name}: duplicate"] += 1
                    continue
                split = split_of(text, self.valid, self.test)
                values = np.frombuffer(text.encode() + b"\n", np.uint8)
                for start in range(0, len(values), self.max_length):
                    writers[split].append(values[start : start + self.max_length])
                # What a classifier learns are the target's classes; a source may have the column too.
                if item.label is not None and name == TARGET:
                    if not labelled:
                        labelled = {part: writer(LABELLED, part) for part in SPLITS}
                    labelled[split].append(values[: self.max_length], self.classes.index(item.label))
                    labels[split].add(item.label)
        classes_of(self.classes, {split: sorted(found) for split, found in labels.items()})

    def _texts(
        self, path: Path, columns: list[str] | dict[str, Any], dialect: dict[str, Any] | None, removed: Counter[str]
    ) -> Iterator[Text]:
        """Every text of a file or folder, with its class."""
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path}: no file there")
        if isinstance(columns, dict) and "files" in columns:
            table = columns["files"]["file"] if isinstance(columns["files"], dict) else None
            texts = [file for file in files if file.name != table]
            for file, label in labelled_files(texts, path, columns["files"], removed):
                lines = read_lines(file, Dialect.of(file, dialect).encoding)
                text = {"text": "\n".join(line for _, line in lines)}
                yield self._text(text | ({"label": label} if label else {}), file.name)
            return
        for file in files:
            suffix, written = plain_suffix(file), Dialect.of(file, dialect)
            # A mapping names columns of a header, whatever the file is called.
            names = columns if isinstance(columns, dict) else {"text": "text", "label": "label"}
            if suffix in (".jsonl", ".ndjson"):
                yield from self._jsonl(file, names)
            elif suffix in (".csv", ".parquet") or isinstance(columns, dict):
                yield from self._table(file, names, columns, written)
            else:
                yield from self._lines(file, columns, written.encoding)

    def _lines(self, file: Path, columns: list[str], encoding: str) -> Iterator[Text]:
        for number, line in read_lines(file, encoding):
            cells = line.split("\t") if len(columns) > 1 else [line]
            if cells == [""]:
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{file.name}, line {number}: {len(cells)} tab-separated columns, "
                    f"expected {len(columns)} ({', '.join(columns)})"
                )
            yield self._text(dict(zip(columns, cells, strict=True)), f"{file.name}, line {number}")

    def _table(
        self, file: Path, names: dict[str, str], asked: list[str] | dict[str, str], dialect: Dialect
    ) -> Iterator[Text]:
        # A column that a mapping names must be there; `label` by its mere name may be missing.
        roles = [role for role in ("text", "score", "label") if role in names]
        wanted = [role for role in roles if role == "text" or isinstance(asked, dict)]
        optional = [role for role in roles if role not in wanted]
        columns = [names[role] for role in wanted]
        for row, cells in read_table(file, columns, [names[role] for role in optional], dialect):
            yield self._text(dict(zip([*wanted, *optional], cells, strict=False)), place(file, row))

    def _jsonl(self, file: Path, names: dict[str, str]) -> Iterator[Text]:
        key = names["text"]
        for number, row in read_objects(file):
            where = f"{file.name}, line {number}"
            if not isinstance(row.get(key), str):
                raise UserError(f"{where}: expected an object with a string {key!r}")
            if surrogate := LONE_SURROGATE.search(row[key]):
                raise UserError(f"{where}: {surrogate[0]!a} is half a character, which has no UTF-8")
            roles = {role: as_text(row[name]) for role, name in names.items() if role != "text" and name in row}
            yield self._text({"text": row[key]} | roles, where)

    def _text(self, row: dict[str, str], where: str) -> Text:
        label = unicodedata.normalize("NFC", row.get("label", "").strip()) or None
        if "score" in row:
            try:
                score = float(row["score"])
            except ValueError:
                raise UserError(f"{where}, column score: {row['score']!r} is not a number") from None
            if not math.isfinite(score):
                raise UserError(f"{where}, column score: {row['score']!r} is not finite")
            label = None if score == 0 else self.classes[score > 0]
        if label is not None and label not in self.classes:
            raise UserError(f"{where}, column label: {label!r}; expected one of {', '.join(self.classes)}")
        return Text(row["text"], label)


class Digests:
    """Which contents were there: 64-bit hashes in one array, by open addressing.

    12 to 24 bytes each, where a set of Python's takes more than 100: as much as a short text itself. Two among n
    contents are taken for one with probability n² / 2⁶⁵, 3e-4 for a hundred million.
    """

    def __init__(self) -> None:
        self._slots, self._count = array("Q", [0]) * 4096, 0  # 0: free

    def add(self, content: bytes) -> bool:
        """Whether it is new."""
        new = self._place(self._digest(content))
        self._count += new
        if 3 * self._count > 2 * len(self._slots):
            held, self._slots = self._slots, array("Q", [0]) * (2 * len(self._slots))
            for digest in filter(None, held):
                self._place(digest)
        return new

    def new(self, content: bytes) -> bool:
        """Whether it would be."""
        slots, last = self._slots, len(self._slots) - 1
        digest = self._digest(content)
        at = digest & last
        while slots[at] and slots[at] != digest:
            at = (at + 1) & last
        return not slots[at]

    @staticmethod
    def _digest(content: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest()) or 1

    def _place(self, digest: int) -> bool:
        slots, last = self._slots, len(self._slots) - 1
        at = digest & last
        while slots[at] != digest:
            if not slots[at]:
                slots[at] = digest
                return True
            at = (at + 1) & last
        return False
