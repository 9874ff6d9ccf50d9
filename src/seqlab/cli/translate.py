"""Translate a file or standard input, line by line, with a trained system.

    echo 'I love this movie.' | seqlab translate family=seq2seq_transformer
    seqlab translate family=rule_based --explain sentences.txt
    seqlab translate family=seq2seq_transformer domain.evaluate.decoding.beam_size=1 sentences.txt

The model is the pipeline's of that family, strategy and seed, or the one in the folder `model=`. There is one line of
output for each line of input. A line that cannot be translated becomes an empty one, is named on standard error, and
makes the exit status 1; the others are translated all the same.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from seqlab.cli.composing import compose
from seqlab.cli.places import PIPELINE, ROOT, Workspace
from seqlab.cli.stage import choices_of
from seqlab.cli.work import CELL, CellWork, from_overrides
from seqlab.errors import UserError
from seqlab.evaluation.settings import PairEvaluation
from seqlab.families import loading
from seqlab.families.base import Use

EXPLAIN = "--explain"


def translate(arguments: list[str]) -> None:
    # A reader that has seen enough, as in `| head`, ends this quietly, as it ends other filters.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if any(word in ("-h", "--help") for word in arguments):
        print(__doc__)
        return
    overrides = [word for word in arguments if "=" in word]
    files = [Path(word) for word in arguments if "=" not in word and word != EXPLAIN]
    if len(files) > 1 or any(str(path).startswith("--") for path in files):
        raise UserError(f"{' '.join(map(str, files))}: expected one file or none, {EXPLAIN}, and overrides key=value")
    if files and not files[0].is_file():
        raise UserError(f"{files[0]}: there is no such file")
    path = files[0].resolve() if files else None
    os.chdir(ROOT)
    work = chosen(overrides)
    settings = work.domain.evaluate
    if not isinstance(settings, PairEvaluation):
        raise UserError(f"domain {work.domain.name}: nothing to translate; expected a domain of pairs")
    folder = model_of(work)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no trained model; run the pipeline, or name a folder with model=")
    system = loading.load(folder, Use(work.settings, settings.decoding))
    explain = EXPLAIN in arguments
    if explain and not hasattr(system, "explain"):
        raise UserError(f"{EXPLAIN}: family {work.family.name} has no steps to show; rule_based has")
    # What is typed is answered at once; a file goes in batches.
    interactive = path is None and sys.stdin.isatty()
    failed = 0
    with open(path, "rb") if path else sys.stdin.buffer as stream:
        for rows in batches(stream, 1 if interactive else settings.decoding.batch):
            for made in translated(system, rows, explain):
                failed += made is None
                print(made or "", flush=interactive)
    if failed:
        sys.exit(1)


def chosen(overrides: list[str]) -> CellWork:
    """The cell of these overrides, as a stage that evaluates it would see it."""
    if not any(word.startswith("domain=") for word in overrides):
        overrides = ["domain=translation", *overrides]
    tree = compose("cell", overrides)
    work = from_overrides("evaluate", tree, choices_of(overrides), Path("outputs"), CELL, Workspace(ROOT))
    assert isinstance(work, CellWork)
    return work


def model_of(work: CellWork) -> Path:
    """The folder of the model that is asked for: the pipeline's, or the one that model= names."""
    return (work.given or PIPELINE.model(work.cell)) / "translate"


def batches(stream: BinaryIO, size: int) -> Iterator[list[tuple[int, str | None]]]:
    """Numbered lines, None where one is not UTF-8."""

    def read() -> Iterator[tuple[int, str | None]]:
        for number, line in enumerate(stream, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                complain(number, f"byte {error.start + 1} is not UTF-8")
                yield number, None

    lines = read()
    while rows := list(itertools.islice(lines, size)):
        yield rows


def translated(system: Any, rows: list[tuple[int, str | None]], explain: bool) -> list[str | None]:
    """A translation, or an explanation, for each line; None where there is none."""
    if not explain and all(text is not None for _, text in rows):
        try:
            return list(system.translate([text for _, text in rows]))
        except UserError:
            pass  # one line's fault: each is tried by itself
    found: list[str | None] = []
    for number, text in rows:
        try:
            if text is None:
                found.append(None)
            else:
                found.append(told(system, text) if explain else system.translate([text])[0])
        except UserError as error:
            complain(number, str(error))
            found.append(None)
    return found


def told(system: Any, text: str) -> str:
    """The steps of a translation, one a line."""
    lines = []
    for steps in system.explain(text):
        for name, value in steps.items():
            shown = value if isinstance(value, str) else "  ".join(map(str, value))
            lines.append(f"{name}: {shown}")
    return "\n".join([*lines, ""])


def complain(number: int, what: str) -> None:
    print(f"seqlab: line {number}: {what}; left empty", file=sys.stderr)
