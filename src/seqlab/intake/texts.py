"""Texts, labelled texts and pairs of sentences, read in a stream whatever their size."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from seqlab.artifacts import sha256
from seqlab.data.domains.base import labelled_files, split_of
from seqlab.data.domains.strings import Digests
from seqlab.data.domains.translation import Translation, clean, normalise
from seqlab.data.readers import Dialect, read_lines, read_table
from seqlab.data.sequences import SPLITS
from seqlab.errors import UserError
from seqlab.intake import sniff
from seqlab.intake.proposal import Card, Choice, Hints, Kind, Proposal
from seqlab.intake.roles import MOST_CLASSES, Roles, script
from seqlab.intake.spelling import UNSTATED, archive, dialect_of, scratch, table_of_labels

REMEMBERED = 1_000_000  # texts among which duplicates are looked for
FEWEST = 20  # texts, below which a split would be empty
LONGEST = 512  # bytes of a sequence
VALID, TEST = 0.1, 0.2
Labelled = Iterable[tuple[str, str | None]]


def lines(path: Path, name: str, hints: Hints) -> Proposal:
    """A text a line."""
    encoding, note = sniff.encoding(path)
    every = ((line, None) for _, line in read_lines(path, encoding))
    dialect = (
        None if encoding == "utf-8" else {"delimiter": "\t", "decimal": ".", "thousands": "", "encoding": encoding}
    )
    reasons = [Choice("prepare.target_columns", ["text"], "one text a line")]
    if dialect is not None:
        reasons.append(Choice("prepare.dialect", dialect, note))
    return _texts(path, every, ["text"], dialect, reasons, name, hints)


def table(path: Path, found: sniff.Sample, roles: Roles, name: str, hints: Hints) -> Proposal:
    """Texts in a column, and perhaps labels in another."""
    assert roles.text is not None
    columns = {"text": roles.text} | ({} if roles.label is None else {"label": roles.label})
    dialect = dialect_of(path, found)
    rows = read_table(path, list(columns.values()), (), Dialect.of(path, dialect))
    every = ((cells[0], cells[1].strip() or None if len(cells) > 1 else None) for _, cells in rows)
    reasons = [Choice("prepare.target_columns.text", roles.text, roles.why["text"])]
    if roles.label is not None:
        reasons.append(Choice("prepare.target_columns.label", roles.label, roles.why["label"]))
    if dialect is not None:
        reasons.append(Choice("prepare.dialect", dialect, found.note or "as its cells are written"))
    unused = sorted(set(found.columns) - roles.used)
    return _texts(path, every, columns, dialect, reasons, name, hints, unused)


def folder(path: Path, files: list[Path], tables: list[Path], name: str, hints: Hints) -> Proposal:
    """A file a text, labelled by folder or by a table; or, where there are few files, a text a line of all."""
    labels, why = labels_of_files(path, files, tables, hints)
    if labels is None and len(files) < FEWEST:
        lines: Labelled = ((line, None) for file in files for _, line in read_lines(file))
        reasons = [Choice("prepare.target_columns", ["text"], f"{len(files)} files, one text a line")]
        return _texts(path, lines, ["text"], None, reasons, name, hints, members=_members(path, files))
    columns = {"files": labels}
    found = labelled_files(files, path, labels, Counter())
    every = (("\n".join(line for _, line in read_lines(file)), label) for file, label in found)
    members = _members(path, files) + ([labels["file"]] if isinstance(labels, dict) else [])
    reasons = [Choice("prepare.target_columns.files", labels, f"every file is one text; {why}")]
    return _texts(path, every, columns, None, reasons, name, hints, members=members)


def labels_of_files(
    path: Path, files: list[Path], tables: list[Path], hints: Hints
) -> tuple[str | dict[str, Any] | None, str]:
    """How files are labelled: by a table that names them, by their folders, or not at all; and why."""
    if (by_table := table_of_labels(path, files, tables, hints)) is not None:
        return by_table, f"{by_table['file']} names the files and their classes"
    parents = {file.relative_to(path).parts[0] for file in files if file.parent != path}
    if len(parents) > 1 and all(file.parent != path for file in files):
        return "folder", f"files lie in {len(parents)} folders"
    if len(parents) == 1 and all(file.parent != path for file in files) and hints.label is not None:
        raise UserError(f"{path.name}: all files lie in one folder, {min(parents)!r}; expected one folder a class")
    return None, "neither folders nor a table tell classes"


def _members(path: Path, files: list[Path]) -> list[str]:
    """Patterns that take just these files of a folder."""
    return sorted({f"**/*{file.suffix}" for file in files if file.parent != path}
                  | {f"*{file.suffix}" for file in files if file.parent == path})  # fmt: skip


def _texts(
    path: Path, every: Labelled, columns: list[str] | dict[str, Any], dialect: dict[str, str] | None,
    choices: list[Choice], name: str, hints: Hints, unused: list[str] | None = None, members: list[str] | None = None,
) -> Proposal:  # fmt: skip
    counts = _counted(path, every)
    classes = sorted(counts["classes"])
    labelled = bool(classes)
    kind: Kind = "text"
    if labelled:
        _check_classes(path, counts["classes"], counts["trained"])
    if counts["texts"] < FEWEST:
        hint = "put one text on each line" if counts["longest"] > 10 * LONGEST else "give more"
        raise UserError(
            f"{path.name}: {counts['texts']} different texts, the longest of {counts['longest']} bytes; at least "
            f"{FEWEST} are needed so that every split has some: {hint}"
        )
    tasks: dict[str, dict[str, Any]] = {"next_step": {"steps": 900, "tokens": 2048, "evaluations": 6}}
    headline = {"next_step": "bits_per_character"}
    if labelled:
        tasks["classify"] = {"steps": 150, "tokens": 4096, "evaluations": 6, "start": "target"}
        headline["classify"] = "accuracy"
    tree: dict[str, Any] = {
        "title": f"{path.name}, next byte" + (f" and one of {len(classes)} classes" if labelled else ""),
        "archives": {"target": archive(path, hints, members)},
        "prepare": {
            "_target_": "seqlab.data.domains.strings.Strings",
            "source_columns": None,
            "target_columns": columns,
            "dialect": dialect,
            "classes": classes,
            "max_length": LONGEST,
            "valid": VALID,
            "test": TEST,
        },
        **scratch(tasks),
        "evaluate": {"horizons": [], "origins": 0, "samples": 0, "period": 1, "headline": headline},
    }
    choices += [
        Choice("prepare.source_columns", None, "no source: families are compared from scratch"),
        Choice("prepare.classes", classes, "in the order of their names" if labelled else "nothing names labels"),
        Choice("prepare.max_length", LONGEST, f"bytes; {counts['longer']} of {counts['texts']} texts are cut for it"),
        Choice("prepare.test", TEST, "share of the texts, by the hash of their content: equal texts never part"),
        Choice("evaluate.headline", headline, "bits of each character; the share of right answers" if labelled
               else "bits that each character costs, whatever the symbols of a model"),
    ]  # fmt: skip
    of = "" if counts["rows"] <= REMEMBERED else f" among the first {REMEMBERED}"
    facts = {
        "file": path.name,
        "sha256": sha256(path),
        "bytes": counts["bytes"],
        "kind": "labelled text" if labelled else "text",
        "columns": columns,
        "unused columns": unused or [],
        "rows": counts["rows"],
        "texts": counts["texts"],
        "characters": counts["characters"],
        "lengths in bytes": {"mean": round(counts["bytes"] / max(1, counts["texts"]), 1), "max": counts["longest"]},
        "empty": counts["empty"],
        f"duplicates{of}": counts["duplicates"],
        f"texts that differ in case, digits or marks alone{of}": counts["near"],
        f"overlap of splits{of}": f"{counts['overlap']} texts of a held-out split differ from a text of another split "
        "in case, digits or marks alone",
        "classes": counts["classes"],
        "without a label": counts["texts"] - sum(counts["classes"].values()) if labelled else None,
        "licence": hints.licence or UNSTATED,
    }
    warnings = [*([f"{counts['duplicates']} texts repeat another and are left out"] if counts["duplicates"] else [])]
    if labelled and (rare := [one for one, count in counts["classes"].items() if count < 10]):
        warnings.append(f"{len(rare)} classes have fewer than 10 examples, such as {rare[0]!r}")
    if counts["texts"] * TEST < 100:
        warnings.append(f"about {counts['texts'] * TEST:.0f} texts are tested on: small differences cannot be told")
    return Proposal(name, path, kind, tree, choices, Card(facts, warnings))


def _counted(path: Path, every: Labelled) -> dict[str, Any]:
    """What a pass over all texts finds; of more than REMEMBERED, duplicates are counted among the first."""
    seen, near = Digests(), Digests()
    found: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    trained: set[str] = set()
    where: dict[str, Digests] = {split: Digests() for split in SPLITS}
    for text, label in every:
        found["rows"] += 1
        content = " ".join(unicodedata.normalize("NFC", text).split())
        if not content:
            found["empty"] += 1
            continue
        data = content.encode()
        if found["rows"] <= REMEMBERED:
            if not seen.add(data):
                found["duplicates"] += 1
                continue
            folded = normalise(content).encode() or data
            found["near"] += not near.add(folded)
            split = split_of(content, VALID, TEST)
            where[split].add(folded)
            # A text that is held out and has a twin in another split tells less than it seems to.
            found["overlap"] += sum(not where[other].new(folded) for other in SPLITS if other != split)
        found["texts"] += 1
        found["bytes"] += len(data) + 1
        found["characters"] += len(content)
        found["longer"] += len(data) >= LONGEST
        found["longest"] = max(found["longest"], len(data))
        if label is not None:
            own = unicodedata.normalize("NFC", label)
            classes[own] += 1
            if len(classes) > MOST_CLASSES:
                raise UserError(
                    f"{path.name}: more than {MOST_CLASSES} different labels, such as {own!r}; expected classes, "
                    "which repeat (name another column, or none)"
                )
            if split_of(content, VALID, TEST) == "train":
                trained.add(own)
    if not found["rows"]:
        raise UserError(f"{path.name}: no text; expected some")
    return {**dict.fromkeys(("empty", "duplicates", "near", "overlap", "longer", "longest", "texts", "bytes"), 0),
            "characters": 0, **found, "classes": dict(classes), "trained": trained}  # fmt: skip


def _check_classes(path: Path, classes: dict[str, int], trained: set[str]) -> None:
    if len(classes) == 1:
        raise UserError(
            f"{path.name}: every label is {next(iter(classes))!r}; expected at least two classes (or leave labels out)"
        )
    if lacking := sorted(set(classes) - trained):
        raise UserError(
            f"{path.name}: label {lacking[0]!r} has {classes[lacking[0]]} example(s), all of them held out by their "
            "hash; expected more of it, or leave these rows out"
        )


# Pairs of sentences


def two_files(english: Path, other: Path, name: str, hints: Hints) -> Proposal:
    """Two text files, line by line. Raises UserError when they differ in length."""
    sides = [english, other]
    sizes = [sum(1 for _ in read_lines(side)) for side in sides]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"{english.name} has {sizes[0]} lines, {other.name} has {sizes[1]}; expected as many: line "
            f"{min(sizes) + 1} has no partner"
        )
    if script([line for _, line in zip(range(1000), sniff.lines_of(sides[0], "utf-8"), strict=False)]) == "HANGUL":
        sides.reverse()
    corpus = {"format": "lines", "english": "english", "korean": "korean"}
    archives = {"english": archive(sides[0], hints), "korean": archive(sides[1], hints)}
    pairs = zip((line for _, line in read_lines(sides[0])), (line for _, line in read_lines(sides[1])), strict=True)
    choices = [Choice("prepare.corpora.own", corpus, "two files of as many lines, a pair a line")]
    return _pairs(english, pairs, archives, corpus, choices, name, hints)


def bare_pairs(path: Path, order: list[int], name: str, hints: Hints) -> Proposal:
    """Two columns parted by tabs, without a header. order: the places of English and of Korean."""
    encoding, note = sniff.encoding(path)
    corpus: dict[str, Any] = {"format": "table", "english": "own", "korean": "own"}
    if order != [1, 2]:
        corpus["columns"] = order
    if encoding != "utf-8":
        corpus["dialect"] = {"delimiter": "\t", "decimal": ".", "thousands": "", "encoding": encoding}
    choices = [Choice("prepare.corpora.own", corpus, f"two columns parted by tabs, no header; {note}")]

    def pairs() -> Iterator[tuple[str, str]]:
        for number, line in read_lines(path, encoding):
            cells = line.split("\t")
            if line and len(cells) != 2:
                raise UserError(f"{path.name}, line {number}: {len(cells)} columns parted by tabs, expected two")
            if line:
                yield cells[order[0] - 1], cells[order[1] - 1]

    return _pairs(path, pairs(), {"own": archive(path, hints)}, corpus, choices, name, hints)


def table_of_pairs(path: Path, found: sniff.Sample, roles: Roles, name: str, hints: Hints) -> Proposal:
    """Two columns of a table with a header."""
    assert roles.pair is not None
    columns = list(roles.pair)
    if script(found.columns[columns[0]].known) == "HANGUL":
        columns.reverse()
    dialect = dialect_of(path, found)
    corpus: dict[str, Any] = {"format": "table", "english": "own", "korean": "own", "columns": columns}
    if dialect is not None:
        corpus["dialect"] = dialect
    rows = read_table(path, columns, (), Dialect.of(path, dialect))
    pairs = ((cells[0], cells[1]) for _, cells in rows)
    choices = [Choice("prepare.corpora.own", corpus, roles.why["pair"])]
    return _pairs(path, pairs, {"own": archive(path, hints)}, corpus, choices, name, hints)


FILTERS: dict[str, Any] = {"max_words": 60, "max_characters": 400, "max_ratio": 4.0}
FEWEST_PAIRS = 50


def _pairs(
    path: Path, pairs: Iterable[tuple[str, str]], archives: dict[str, Any], corpus: dict[str, Any],
    choices: list[Choice], name: str, hints: Hints,
) -> Proposal:  # fmt: skip
    """English to Korean, split by normalised English."""
    recipe = Translation(corpora={}, held_out=None, sentence_words=1, valid=0, test=0, vocabulary_size=0, **FILTERS)
    found: Counter[str] = Counter()
    groups: dict[str, int] = {}
    exact = Digests()
    for english, korean in pairs:
        found["pairs"] += 1
        left, right = clean(english), clean(korean)
        if reason := recipe.unfit(left, right):
            found[reason] += 1
        elif not exact.add(f"{left}\0{right}".encode()):
            found["duplicate"] += 1
        else:
            groups.setdefault(normalise(left), len(left.split()))
    if len(groups) < FEWEST_PAIRS:
        reasons = ", ".join(f"{reason} {count}" for reason, count in found.items() if reason != "pairs")
        raise UserError(
            f"{path.name}: {len(groups)} different pairs are left of {found['pairs']} ({reasons or 'all differ'}); "
            f"at least {FEWEST_PAIRS} are needed, of English and Korean sentences"
        )
    few = len(groups) < 2000
    median = sorted(groups.values())[len(groups) // 2]
    words = 4 if median >= 6 else 1
    vocabulary = 1000 if few else 2000 if len(groups) < 10_000 else 4000
    valid, test = (0.1, 0.2) if few else (0.03, 0.05)
    headline = {"in_domain": "chrf++", "everyday": "chrf++"}
    tree: dict[str, Any] = {
        "title": f"{path.name}, English → Korean",
        "archives": archives,
        "prepare": {
            "_target_": "seqlab.data.domains.translation.Translation",
            "corpora": {"own": corpus},
            "held_out": None,
            **FILTERS,
            "sentence_words": words,
            "valid": valid,
            "test": test,
            "vocabulary_size": vocabulary,
        },
        "pretrain": {"steps": 60, "tokens": 1024, "evaluations": 2,
                     "noise": {"masked": 0.3, "span": 2.0, "shuffled": 3.0}},
        "finetune": {"translate": {"steps": 120, "tokens": 1024, "evaluations": 4, "start": "source",
                                   "learning_rate_factor": 1.0}},
        "evaluate": {
            "decoding": {"beam_size": 5, "length_penalty": 1.0, "patience": 1.0, "longest_factor": 2.0,
                         "longest_constant": 10, "batch": 64},
            "tokenize": "char",
            "samples": 20,
            "registers": {"in_domain": "polite", "everyday": "plain"},
            "headline": headline,
        },
    }  # fmt: skip
    choices += [
        Choice("prepare.held_out", None, "one corpus: no product of its own is held out"),
        Choice("prepare.sentence_words", words, f"shorter sources stay in training; half have {median} words or fewer"),
        Choice("prepare.test", test, "share of the groups of one normalised English source, by hash"),
        Choice("prepare.vocabulary_size", vocabulary, f"subwords for {len(groups)} different sources"),
        Choice("pretrain", "denoising", "the source is the training side of the pairs, read as text"),
        Choice("evaluate.headline", headline, "characters and words in common with the reference"),
    ]
    facts = {
        "file": path.name,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "kind": "pairs",
        "rows": found["pairs"],
        "different English sources": len(groups),
        "left out": {reason: count for reason, count in sorted(found.items()) if reason != "pairs"},
        "median words": median,
        "overlap of splits": "none: all pairs of one normalised English source are in one split",
        "licence": hints.licence or UNSTATED,
    }
    warnings = []
    if few:
        warnings.append(f"{len(groups)} pairs teach a neural translator little; the rules need none")
    if (lost := found.total() - found["pairs"]) > 0.2 * found["pairs"]:
        warnings.append(f"{lost} of {found['pairs']} pairs are left out: see `left out`")
    return Proposal(name, path, "pairs", tree, choices, Card(facts, warnings))
