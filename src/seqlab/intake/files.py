"""Sequences with labels or without: rows of a table, `.ts` files, folders of recordings and of films."""

from __future__ import annotations

import wave
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import sha256
from seqlab.data.domains import labelled
from seqlab.data.domains.base import read_ts
from seqlab.data.scale import varies
from seqlab.errors import UserError
from seqlab.intake.identity import check_names
from seqlab.intake.panels import summary
from seqlab.intake.proposal import Card, Choice, Hints, Kind, Proposal
from seqlab.intake.roles import MOST_CLASSES, Roles
from seqlab.intake.sniff import Sample, files_below
from seqlab.intake.spelling import UNSTATED, archive, dialect_of, scratch
from seqlab.intake.texts import labels_of_files

VALID, TEST = 0.15, 0.25
LONGEST = 512  # steps of a sequence; a longer one is cut into windows
FEWEST = 8  # sequences
FRAME, SHIFT, ORDER = 0.0256, 0.010, 12  # seconds of a frame of sound and between two; cepstral coefficients
SIZE, COMPONENTS = 32, 32  # pixels of a film's side, and of its principal axes
HORIZONS = (1, 4, 16)


def published(path: Path, name: str, hints: Hints) -> Proposal:
    """A `.ts` file, with its twin where X_TRAIN.ts and X_TEST.ts lie beside one another."""
    train, test = path, None
    for one, other in (("_TRAIN", "_TEST"), ("_TEST", "_TRAIN")):
        twin = path.with_name(path.name.replace(f"{one}.ts", f"{other}.ts"))
        if twin != path and twin.is_file():
            train, test = (path, twin) if one == "_TRAIN" else (twin, path)
    data = {"format": "ts", "train": train.name, "test": None if test is None else test.name}
    raw = {"data": train} | ({} if test is None else {"test": test})
    name = hints.name or name.removesuffix("_train").removesuffix("_test")
    why = "train and test as published" if test is not None else "one file: a test is carved out of it"
    choices = [Choice("prepare.data", data, f"the format of the UEA and UCR archive; {why}")]
    examples = labelled.read(data, raw, Counter())
    own = {key: archive(file, hints) for key, file in raw.items()}
    return _sequences(path, path.name, examples, data, own, choices, name, hints, read_ts(train).classes)


def table(path: Path, found: Sample, roles: Roles, name: str, hints: Hints) -> Proposal:
    """Rows as steps of sequences that columns name."""
    if not roles.id:
        raise UserError(f"{path.name}: no column tells one sequence from another; name it (--id)")
    dialect = dialect_of(path, found)
    data: dict[str, Any] = {
        "format": "table", "file": path.name, "id": roles.id, "time": roles.time, "channels": roles.values,
        "label": roles.label,
    }  # fmt: skip
    data |= ({} if dialect is None else {"dialect": dialect}) | (
        {} if hints.time_format is None else {"time_format": hints.time_format}
    )
    choices = [
        Choice("prepare.data.id", roles.id, roles.why.get("id", "named")),
        Choice("prepare.data.time", roles.time, roles.why.get("time", "no column of times: rows follow one another")),
        Choice("prepare.data.channels", roles.values, roles.why["values"]),
        Choice("prepare.data.label", roles.label, roles.why.get("label", "no column of labels")),
    ]
    check_names(path, roles.id, dialect)
    examples = labelled.read(data, {"data": path}, Counter())
    unused = sorted(set(found.columns) - roles.used)
    return _sequences(
        path, path.name, examples, data, {"data": archive(path, hints)}, choices, name, hints, None, unused
    )


def recordings(path: Path, found: list[Path], tables: list[Path], name: str, hints: Hints) -> Proposal:
    """WAV files as cepstra. Raises UserError naming the file whose rate or format differs."""
    labels, why = labels_of_files(path, found, tables, hints)
    rates: dict[Path, tuple[int, int, int]] = {}
    for file in found:
        try:
            with wave.open(str(file), "rb") as opened:
                rates[file] = opened.getframerate(), opened.getnchannels(), 8 * opened.getsampwidth()
        except (wave.Error, EOFError) as error:
            raise UserError(f"{file.name}: not a PCM WAV file: {str(error) or 'it ends early'}") from None
    common = Counter(rate for rate, *_ in rates.values()).most_common(1)[0][0]
    for file, (rate, channels, bits) in rates.items():
        if (rate, channels, bits) != (common, 1, 16):
            raise UserError(
                f"{file.name}: {rate} Hz, {channels} channel(s), {bits} bits; expected {common} Hz, 1 channel, 16 "
                f"bits, as `ffmpeg -i {file.name} -ar {common} -ac 1 -sample_fmt s16 …` makes it"
            )
    data = {
        "format": "wav", "labels": labels, "rate": common, "frame": round(FRAME * common),
        "shift": round(SHIFT * common), "order": ORDER,
    }  # fmt: skip
    choices = [
        Choice("prepare.data.labels", labels, why),
        Choice("prepare.data.rate", common, "Hz, of all recordings"),
        Choice("prepare.data.frame", data["frame"], f"samples: {1000 * FRAME:g} ms, within which speech is steady"),
        Choice("prepare.data.shift", data["shift"], f"samples: {1000 * SHIFT:g} ms"),
        Choice("prepare.data.order", ORDER, "cepstral coefficients of a frame"),
    ]
    return _of_files(path, found, tables, data, choices, name, hints, "recordings")


def films(path: Path, found: list[Path], tables: list[Path], name: str, hints: Hints) -> Proposal:
    """Films as projections of their frames."""
    labels, why = labels_of_files(path, found, tables, hints)
    data = {"format": "video", "labels": labels, "size": SIZE, "components": COMPONENTS}
    choices = [
        Choice("prepare.data.labels", labels, why),
        Choice("prepare.data.size", SIZE, "pixels of a grey frame's side"),
        Choice("prepare.data.components", COMPONENTS, "principal axes of training frames: the channels"),
    ]
    return _of_files(path, found, tables, data, choices, name, hints, "films")


def _of_files(
    path: Path, found: list[Path], tables: list[Path], data: dict[str, Any], choices: list[Choice], name: str,
    hints: Hints, kind: Kind,
) -> Proposal:  # fmt: skip
    taken = {file.relative_to(path).as_posix() for file in found}
    if isinstance(data["labels"], dict):
        taken.add(next(t for t in tables if t.name == data["labels"]["file"]).relative_to(path).as_posix())
    every = {file.relative_to(path).as_posix() for file in files_below(path)}
    members = [] if every == taken else sorted(taken)
    examples = labelled.read(data, {"data": path}, Counter())
    own = {"data": archive(path, hints, members)}
    return _sequences(path, path.name, examples, data, own, choices, name, hints, None, None, kind)


def _sequences(
    path: Path, of: str, examples: Iterable[labelled.Example], data: dict[str, Any], own: dict[str, Any],
    choices: list[Choice], name: str, hints: Hints, declared: list[str] | None, unused: list[str] | None = None,
    kind: Kind = "sequences",
) -> Proposal:  # fmt: skip
    lengths: list[int] = []
    held: list[bool] = []
    classes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    contents: Counter[bytes] = Counter()
    channels = 0
    for one in examples:
        channels = channels or one.values.shape[1]
        counts["sequences"] += 1
        counts["missing values"] += int(np.isnan(one.values).any(1).sum())
        lengths.append(len(one.values))
        counts["tiny"] += len(one.values) < 2
        counts["constant"] += len(one.values) > 0 and not varies(one.values).any()
        contents[np.ascontiguousarray(one.values).tobytes()] += 1
        held.append(one.split == "test")
        if one.label is None:
            counts["without a label"] += 1
        else:
            classes[one.label] += 1
        if len(classes) > MOST_CLASSES:
            raise UserError(f"{of}: more than {MOST_CLASSES} different labels, such as {one.label!r}; expected classes")
    distinct = len(contents)
    if distinct < FEWEST:
        raise UserError(
            f"{of}: {distinct} different sequences; at least {FEWEST} are needed, so that all splits have some"
        )
    if len(classes) == 1:
        raise UserError(f"{of}: every label is {next(iter(classes))!r}; expected at least two classes, or no labels")
    names = [one for one in declared or sorted(classes) if one in classes]
    usable = [length for length in lengths if length >= 2]
    window = LONGEST if max(usable) > LONGEST else None
    shortest = min(*usable, LONGEST)
    # A forecast needs a past of its own and a future to be judged by, in the shortest sequence too.
    context = min(shortest // 2, 128) if shortest >= 16 else 0
    horizons = [h for h in HORIZONS if context and h <= shortest - context]
    tasks: dict[str, dict[str, Any]] = {"next_step": {"steps": 100, "tokens": 4096, "evaluations": 8}}
    headline = {"next_step": "nll"} | ({"forecast": f"mase@{horizons[-1]}"} if horizons else {})
    if names:
        tasks["classify"] = {"steps": 100, "tokens": 4096, "evaluations": 8}
        headline["classify"] = "accuracy"
    tree: dict[str, Any] = {
        "title": f"{of}, next step" + (f" and one of {len(names)} classes" if names else ""),
        "archives": own,
        "prepare": {
            "_target_": "seqlab.data.domains.labelled.Labelled",
            "data": data,
            "classes": names,
            "window": window,
            "context": context,
            "valid": VALID,
            "test": TEST,
        },
        **scratch(tasks),
        "evaluate": {
            "horizons": horizons,
            "origins": 2 if horizons else 0,
            "samples": 32 if horizons else 0,
            "period": hints.period or 1,
            "headline": headline,
        },
    }
    published_test = any(held)
    choices += [
        Choice("prepare.classes", names, "in the order of their names" if names else "no labels: the next step alone"),
        Choice("prepare.window", window, f"steps; the longest sequence has {max(usable)}"),
        Choice("prepare.context", context, f"steps before the first scored one; the shortest sequence has {shortest}"),
        Choice("prepare.test", TEST, "as published; the share is not used" if published_test
               else "share of each class, by the hash of the content"),
        Choice("evaluate.horizons", horizons, "steps ahead that the shortest sequence allows" if horizons
               else "none: the shortest sequence leaves no past to forecast from"),
        Choice("evaluate.headline", headline, "likelihood of the next step; the share of right answers" if names
               else "likelihood of the next step"),
    ]  # fmt: skip
    facts: dict[str, Any] = {
        "file": of,
        "sha256": sha256(path),
        "kind": kind,
        "columns": {key: data[key] for key in ("id", "time", "channels", "label") if key in data},
        "unused columns": unused or [],
        "rows": sum(lengths),
        "sequences": counts["sequences"],
        "channels": channels,
        "lengths": summary(lengths),
        "duplicates": counts["sequences"] - distinct,
        "constant sequences": counts["constant"],
        "tiny sequences": counts["tiny"],
        "classes": dict(sorted(classes.items())),
        "without a label": counts["without a label"] if classes else None,
        "overlap of splits": "none: equal contents are taken once" if not published_test
        else f"{_shared(contents, held)} sequences stand in train and test",
        "licence": hints.licence or UNSTATED,
    }  # fmt: skip
    tested = sum(held) or round(TEST * distinct)
    warnings = []
    if tested < 50:
        warnings.append(f"about {tested} sequences are tested on: small differences cannot be told")
    if counts["constant"]:
        warnings.append(f"{counts['constant']} sequences do not vary")
    if unused:
        warnings.append(f"columns {', '.join(unused)} are not used")
    if names and (rare := [one for one, count in classes.items() if count < 4]):
        warnings.append(f"class {rare[0]!r} has {classes[rare[0]]} examples: some split may have none of it")
    return Proposal(name, path, kind, tree, choices, Card(facts, warnings))


def _shared(contents: Counter[bytes], held: list[bool]) -> int:
    """Equal contents, of which one at least was published twice."""
    return sum(count - 1 for count in contents.values()) if any(held) else 0
