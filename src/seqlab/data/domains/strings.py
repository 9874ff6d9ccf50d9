"""Strings: text as UTF-8 bytes. Source: scripture; target: modern texts of another genre, some with a sentiment."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from seqlab.data.domains.base import LABELLED, SOURCE, TARGET, Meta, split_of, write_meta
from seqlab.data.sequences import SPLITS, SequenceWriter
from seqlab.errors import UserError

BYTES = 256


@dataclass(frozen=True)
class Text:
    """One text, where it stood (for error messages), and its class, if it has one."""

    text: str
    where: str
    label: str | None = None


class Strings:
    """Bytes of texts. Files are read in a stream, by their suffix: .jsonl (`text`), .csv (`text`, `label`), else lines.

    The split of a text follows from the hash of its content: equal texts never part, and no order matters. A text ends
    with a newline, which is predicted like any other byte.
    """

    def __init__(
        self,
        *,
        source_columns: list[str],
        target_columns: list[str],
        classes: list[str],
        max_length: int,
        valid: float,
        test: float,
    ) -> None:
        self.source_columns, self.target_columns = source_columns, target_columns
        self.classes, self.max_length = classes, max_length
        self.valid, self.test = valid, test

    def prepare(self, raw: dict[str, Path], out: Path) -> None:
        """Write source, target and labelled sets. Raises UserError naming file and line."""
        removed: Counter[str] = Counter()
        # A target text that also stands in the source is kept out of it: nothing of a test is ever pretrained on.
        target = self._write(self._texts(raw["target"], self.target_columns), out, TARGET, removed, set())
        self._write(self._texts(raw["source"], self.source_columns), out, SOURCE, removed, target)
        labelled = (out / LABELLED).exists()
        write_meta(
            out,
            Meta(
                kind="symbols",
                size=BYTES,
                tasks=["next_step", "classify"] if labelled else ["next_step"],
                classes=self.classes if labelled else [],
                characters=True,
                removed=dict(removed),
            ),
        )

    def _write(
        self, texts: Iterator[Text], out: Path, name: str, removed: Counter[str], seen: set[bytes]
    ) -> set[bytes]:
        """Clean, deduplicate, split and write one set (and the labelled one beside it); hashes of what was written."""
        seen = set(seen)
        with ExitStack() as stack:

            def writer(set_name: str, split: str) -> SequenceWriter:
                return stack.enter_context(SequenceWriter(out / set_name / split, np.uint8))

            writers = {split: writer(name, split) for split in SPLITS}
            labelled: dict[str, SequenceWriter] = {}
            for item in texts:
                text = " ".join(item.text.split())
                if not text:
                    removed[f"{name}: empty"] += 1
                    continue
                # 16 bytes a text are all that deduplication keeps in memory.
                digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
                if digest in seen:
                    removed[f"{name}: duplicate"] += 1
                    continue
                seen.add(digest)
                split = split_of(text, self.valid, self.test)
                values = np.frombuffer(text.encode() + b"\n", np.uint8)
                for start in range(0, len(values), self.max_length):
                    writers[split].append(values[start : start + self.max_length])
                if item.label is not None:
                    if not labelled:
                        labelled = {part: writer(LABELLED, part) for part in SPLITS}
                    labelled[split].append(values[: self.max_length], self.classes.index(item.label))
        return seen

    def _texts(self, path: Path, columns: list[str]) -> Iterator[Text]:
        """Every text of a file or folder, with its class."""
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path}: no file there")
        for file in files:
            if not file.stat().st_size:
                raise UserError(f"{file}: the file is empty")
            read = {".jsonl": self._jsonl, ".csv": self._csv}.get(file.suffix)
            with open(file, "rb") as opened:
                yield from read(file, opened) if read else self._lines(file, opened, columns)

    def _lines(self, file: Path, opened: BinaryIO, columns: list[str]) -> Iterator[Text]:
        for number, line in _decoded(file, opened):
            cells = line.split("\t") if len(columns) > 1 else [line]
            if cells == [""]:
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{file.name}, line {number}: {len(cells)} tab-separated columns, "
                    f"expected {len(columns)} ({', '.join(columns)})"
                )
            yield self._text(dict(zip(columns, cells, strict=True)), f"{file.name}, line {number}")

    def _csv(self, file: Path, opened: BinaryIO) -> Iterator[Text]:
        reader = csv.DictReader(line + "\n" for _, line in _decoded(file, opened))
        if "text" not in (reader.fieldnames or []):
            raise UserError(
                f"{file.name}: no column 'text'; the header has {', '.join(reader.fieldnames or []) or 'nothing'}"
            )
        for row in reader:
            yield self._text(row, f"{file.name}, line {reader.line_num}")

    def _jsonl(self, file: Path, opened: BinaryIO) -> Iterator[Text]:
        for number, line in _decoded(file, opened):
            where = f"{file.name}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: not JSON: {error}") from None
            if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                raise UserError(f"{where}: expected an object with a string 'text'")
            yield self._text({"text": row["text"]} | ({"label": row["label"]} if "label" in row else {}), where)

    def _text(self, row: dict[str, str], where: str) -> Text:
        label = row.get("label") or None
        if "score" in row:
            try:
                score = float(row["score"])
            except ValueError:
                raise UserError(f"{where}, column score: {row['score']!r} is not a number") from None
            label = None if score == 0 else self.classes[score > 0]
        if label is not None and label not in self.classes:
            raise UserError(f"{where}, column label: {label!r}; expected one of {', '.join(self.classes)}")
        return Text(row["text"] or "", where, label)


def _decoded(file: Path, opened: BinaryIO) -> Iterator[tuple[int, str]]:
    """Numbered lines of UTF-8 text. Raises UserError naming the line and byte that is not UTF-8."""
    for number, line in enumerate(opened, 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{file.name}, line {number}, byte {error.start + 1}: 0x{line[error.start]:02x} is not UTF-8 "
                f"({error.reason})"
            ) from None
