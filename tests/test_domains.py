"""Strings and series: splits that no order changes and nothing leaks through, and one clear line for bad input."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import tracemalloc
import unicodedata
import zipfile
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.artifacts import sha256
from seqlab.data import readers
from seqlab.data.archive import Archive
from seqlab.data.domains.base import split_of
from seqlab.data.domains.series import Series
from seqlab.data.domains.strings import Digests, Strings
from seqlab.data.packages import acquire
from seqlab.data.prepared import LABELLED, SOURCE, TARGET, Prepared
from seqlab.data.sequences import SPLITS
from seqlab.errors import UserError
from seqlab.evaluation import controls
from seqlab.evaluation.metrics import forecast_scores, rolling_origin

CONF = Path(__file__).resolve().parent.parent / "conf" / "domain"


# What `prepare` makes of small files


def strings(**changes: Any) -> Strings:
    settings: dict[str, Any] = {"source_columns": ["text"], "target_columns": ["text"], "max_length": 512}
    settings |= {"classes": ["negative", "positive"], "dialect": None}
    return Strings(**{**settings, "valid": 0.2, "test": 0.2, **changes})


def texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = "the a of sea king film war light dark ünïcode good bad and long short".split()  # noqa: SIM905
    return [f"{seed}·{i} " + " ".join(rng.choices(words, k=rng.randint(3, 12))) for i in range(count)]


def raw_strings(folder: Path, source: bytes | list[str], target: bytes | list[str], name: str = "t.txt") -> Path:
    for part, content, file in (("source", source, "s.txt"), ("target", target, name)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode()
        (folder / part / file).write_bytes(data)
    return folder


def prepare_strings(raw: Path, out: Path, **changes: Any) -> Prepared:
    out.mkdir(parents=True)
    strings(**changes).prepare({"source": raw / "source", "target": raw / "target"}, out)
    return Prepared.open(out)


def contents(prepared: Prepared, name: str, split: str) -> list[bytes]:
    return [np.asarray(values).tobytes() for values in prepared.split(name, split)]


def whole(prepared: Prepared, name: str, split: str) -> set[bytes]:
    """The texts of a split, put together again from their pieces."""
    return set(b"".join(contents(prepared, name, split)).split(b"\n")) - {b""}


# Splits


@given(st.binary(max_size=20), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.2))
def test_a_split_follows_from_the_content_alone(content: bytes, valid: float, test: float, more: float) -> None:
    found = split_of(content, valid, test)
    assert found in SPLITS
    assert split_of(content, valid, test) == found
    # A greater share takes from the training split and gives nothing back to it.
    if found == "test":
        assert split_of(content, valid, test + more) == "test"
    elif found == "valid":
        assert split_of(content, valid + more, test) == "valid"


def test_shares_are_about_those_asked_for() -> None:
    found = [split_of(f"text {i}", 0.1, 0.2) for i in range(5000)]
    assert found.count("test") == pytest.approx(1000, abs=4 * np.sqrt(5000 * 0.2 * 0.8))
    assert found.count("valid") == pytest.approx(500, abs=4 * np.sqrt(5000 * 0.1 * 0.9))


def test_neither_order_nor_company_moves_a_text(tmp_path: Path) -> None:
    source, target = texts(60, 1), texts(60, 2)
    one = prepare_strings(raw_strings(tmp_path / "raw1", source, target), tmp_path / "one")
    rng = random.Random(0)
    more = target + texts(30, 3)
    rng.shuffle(source)
    rng.shuffle(more)
    two = prepare_strings(raw_strings(tmp_path / "raw2", source, more), tmp_path / "two")
    for split in SPLITS:
        assert whole(one, SOURCE, split) == whole(two, SOURCE, split)
        assert whole(one, TARGET, split) <= whole(two, TARGET, split)


@pytest.mark.parametrize("max_length", [512, 7])
def test_no_text_is_in_two_splits_and_no_test_text_in_any_training(tmp_path: Path, max_length: int) -> None:
    source, target = texts(60, 1), texts(80, 2)
    # The target's texts stand in the source too, with other spaces; both repeat themselves.
    source += [f"  {text.replace(' ', '   ')} " for text in target[:50]] + source[:5]
    target += [*target[10:20], "", "   "]
    made = prepare_strings(raw_strings(tmp_path / "raw", source, target), tmp_path / "out", max_length=max_length)
    every = {(name, split): whole(made, name, split) for name in (SOURCE, TARGET) for split in SPLITS}
    for one, found in every.items():
        for other, also in every.items():
            assert one == other or not found & also, (one, other)
    assert set().union(*(every[TARGET, split] for split in SPLITS)) == {text.encode() for text in target} - {
        b"",
        b"   ",
    }
    assert set().union(*(every[SOURCE, split] for split in SPLITS)) == {text.encode() for text in source[:60]}
    # Empty lines of a plain text are no texts at all; a line of spaces is one that cleaning drops.
    assert made.meta.removed == {"source: duplicate": 55, "target: duplicate": 10, "target: empty": 1}
    assert max(made.split(SOURCE, "train").lengths) <= max_length


def test_what_is_written_are_bytes_that_end_in_a_newline(tmp_path: Path) -> None:
    made = prepare_strings(raw_strings(tmp_path / "raw", texts(60, 1), texts(60, 2)), tmp_path / "out")
    assert (made.meta.kind, made.meta.size, made.meta.tasks) == ("symbols", 256, ["next_step"])
    assert made.meta.characters
    for split in SPLITS:
        found = made.split(TARGET, split)
        assert found.values.dtype == np.uint8
        assert all(values[-1] == ord("\n") for values in found)
        assert made.meta.counts["target"][split] == len(found)


def test_labels_come_from_scores_and_from_a_column(tmp_path: Path) -> None:
    target = texts(60, 2)
    scored = [f"{i}\t{(i % 3) - 1}\t{text}" for i, text in enumerate(target)]
    raw = raw_strings(tmp_path / "raw1", texts(60, 1), scored)
    one = prepare_strings(raw, tmp_path / "one", target_columns=["id", "score", "text"])
    labels = {text: ("negative", "", "positive")[i % 3] for i, text in enumerate(target)}
    rows = ["label,text", *(f'{label},"{text}"' for text, label in labels.items())]
    two = prepare_strings(raw_strings(tmp_path / "raw2", texts(60, 1), rows, "t.csv"), tmp_path / "two")
    lines = [f'{{"text": "{text}"' + (f', "label": "{label}"}}' if label else "}") for text, label in labels.items()]
    three = prepare_strings(raw_strings(tmp_path / "raw3", texts(60, 1), lines, "t.jsonl"), tmp_path / "three")
    for made in (one, two, three):
        assert made.meta.tasks == ["next_step", "classify"]
        found = {}
        for split in SPLITS:
            part = made.split(LABELLED, split)
            assert part.labels is not None
            for values, label in zip(part, part.labels, strict=True):
                found[bytes(values).decode().rstrip()] = made.meta.classes[label]
            # What a classifier is tested on is also in the language model's test, and so on.
            assert {bytes(values).rstrip() for values in part} <= whole(made, TARGET, split)
        assert found == {text: label for text, label in labels.items() if label}


def test_labels_of_the_source_are_not_the_targets(tmp_path: Path) -> None:
    rows = [
        ["label,text", *(f"{('negative', 'positive')[i % 2]},{t}" for i, t in enumerate(texts(60, s)))] for s in (1, 2)
    ]
    raw = raw_strings(tmp_path / "raw", [], rows[1], "t.csv")
    (raw / "source" / "s.txt").rename(raw / "source" / "s.csv").write_text("\n".join(rows[0]))
    made = prepare_strings(raw, tmp_path / "out")
    for split in SPLITS:
        assert set(contents(made, LABELLED, split)) == set(contents(made, TARGET, split))


FORMATS: dict[str, tuple[bytes, bytes, bytes]] = {  # header, and what stands before and after a text
    "s.txt": (b"", b"", b"\n"),
    "s.csv": (b"text\n", b"", b"\n"),
    "s.jsonl": (b"", b'{"text": "', b'"}\n'),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_corpus_is_read_in_a_stream(tmp_path: Path, name: str) -> None:
    """What preparing holds in memory is far less than the file, even where its texts are as short as a tweet."""
    header, before, after = FORMATS[name]
    letters = np.random.default_rng(0).integers(97, 123, (5_000, 200)).astype(np.uint8)
    raw = raw_strings(tmp_path / "raw", b"", texts(60, 2))
    (raw / "source" / "s.txt").unlink()
    (raw / "source" / name).write_bytes(header + b"".join(before + row.tobytes() + after for row in letters))
    tracemalloc.start()
    try:
        made = prepare_strings(raw, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(made.meta.counts["source"][f"{split}_steps"] for split in SPLITS) == letters.size + len(letters)
    assert peak < letters.size / 3


def test_a_file_that_is_all_one_line_is_not_read_whole(tmp_path: Path) -> None:
    raw = raw_strings(tmp_path / "raw", texts(60, 1), b"one\n")
    with open(raw / "target" / "t.txt", "r+b") as opened:
        opened.truncate(8 * readers.LONGEST_LINE)  # zeros on no disk: characters like any other
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"t\.txt, line 2: longer than 16777216 bytes; expected shorter lines"):
            prepare_strings(raw, tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * readers.LONGEST_LINE


@given(st.lists(st.binary(max_size=2), max_size=300))
def test_digests_tell_what_is_new(found: list[bytes]) -> None:
    digests, seen = Digests(), set[bytes]()
    for content in found:
        assert digests.add(content) == (content not in seen)
        seen.add(content)


def test_digests_grow() -> None:
    digests = Digests()
    for _ in range(2):
        assert [digests.add(b"%d" % i) for i in range(20_000)].count(True) in (20_000, 0)
    assert not any(digests.add(b"%d" % i) for i in range(20_000))
    assert digests.add(b"another")


# Series


PANEL = {"time": "Month", "value": "Count", "key": ["Place"]}


def series(**changes: Any) -> Series:
    settings: dict[str, Any] = {
        "source": [{"file": "a.csv", **PANEL}, {"file": "b.csv", **PANEL}],
        "target": {"file": "t.csv", **PANEL},
    }
    sizes = {"transform": "none", "window": 30, "min_length": 10, "valid_steps": 6, "test_steps": 8, "stretches": 1}
    settings |= {"steps": "time", "carried": 0, "longest": None}
    return Series(**{**settings, **sizes, "valid": 0.2, "test": 0.2, **changes})


def panel(names: list[str], steps: int, seed: int, start: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    lines = ["Month,Place,Count"]
    for name in names:
        lines += [f"{start + t},{name},{value:.4f}" for t, value in enumerate(rng.standard_normal(steps))]
    return lines


def raw_series(folder: Path, **files: list[str] | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, list[str] | bytes] = {
        "a": panel([f"a{i}" for i in range(20)], 70, 1),
        "b": panel([f"b{i}" for i in range(20)], 25, 2),
        "t": panel([f"t{i}" for i in range(5)], 60, 3),
    }
    for name, content in {**made, **files}.items():
        data = content if isinstance(content, bytes) else "".join(f"{line}\n" for line in content).encode()
        (folder / f"{name}.csv").write_bytes(data)
    return folder


def prepare_series(raw: Path, out: Path, **changes: Any) -> Prepared:
    out.mkdir(parents=True)
    series(**changes).prepare({"panels": raw}, out)
    return Prepared.open(out)


def column(lines: list[str], name: str) -> np.ndarray:
    """The values of one series of a panel, as they stand in the file."""
    return np.array([line.split(",")[2] for line in lines[1:] if line.split(",")[1] == name], np.float32)


def test_the_target_is_split_in_time_and_scored_once(tmp_path: Path) -> None:
    raw = raw_series(tmp_path / "raw")
    made = prepare_series(raw, tmp_path / "out")
    lines = (raw / "t.csv").read_text().splitlines()
    parts = {split: made.split(TARGET, split) for split in SPLITS}
    for i in range(5):
        y = column(lines, f"t{i}")
        np.testing.assert_array_equal(parts["train"][i][:, 0], y[:-14])
        np.testing.assert_array_equal(parts["valid"][i][:, 0], y[:-8])
        np.testing.assert_array_equal(parts["test"][i][:, 0], y)
        for split, first in (("valid", 46), ("test", 52)):
            sequences = parts[split]
            assert sequences.first is not None
            assert sequences.first[i] == first
            # The standardisation knows nothing of what it is scored on.
            assert sequences.centre is not None
            assert sequences.scale is not None
            np.testing.assert_allclose(sequences.centre[i, 0], y[:first].mean(dtype=np.float64), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(sequences.scale[i, 0], y[:first].std(dtype=np.float64), rtol=1e-4)
    assert parts["train"].first is None


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8))
def test_stretches_of_a_series_are_examples_that_share_nothing_that_is_scored(stretches: int) -> None:
    with TemporaryDirectory() as folder:
        raw = raw_series(Path(folder) / "raw")
        rows = (raw / "t.csv").read_text().splitlines()
        (raw / "t.csv").write_text("".join(f"{row}\n" for row in rows if not row.startswith(("55,t1,", "40,t1,"))))
        one = prepare_series(raw, Path(folder) / "one", carried=1)
        many = prepare_series(raw, Path(folder) / "many", carried=1, stretches=stretches)
        np.testing.assert_array_equal(one.split(TARGET, "train").values, many.split(TARGET, "train").values)
        checked, valid = one.split(TARGET, "valid"), many.split(TARGET, "valid")
        assert checked.first is not None
        assert valid.first is not None
        number = len(valid) // len(checked)
        assert number == (1 if stretches == 1 else max(1, 6 // (8 // stretches)))
        for i in range(len(checked)):
            own = range(number * i, number * (i + 1))
            scored = [t for k in own for t in range(valid.first[k], valid.lengths[k])]
            assert scored == list(range(checked.first[i], checked.lengths[i]))
        test, found = one.split(TARGET, "test"), many.split(TARGET, "test")
        assert len(found) == stretches * len(test)
        assert found.first is not None
        assert found.centre is not None
        for i, y in enumerate(test):
            own = range(stretches * i, stretches * (i + 1))
            scored = [range(found.first[k], found.lengths[k]) for k in own]
            assert [t for part in scored for t in part] == list(range(len(y) - 8, len(y)))
            assert {len(part) for part in scored[1:]} <= {8 // stretches}
            for k in own:
                np.testing.assert_array_equal(found[k], y[: found.lengths[k]])
                np.testing.assert_allclose(found.centre[k], y[: found.first[k]].mean(0), rtol=1e-4, atol=1e-6)
        assert found.scored.sum() == test.scored.sum() == 8 * len(test) - 1, "one step was filled in"


def test_more_stretches_than_steps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stretches: found 9, expected at most 8, the test_steps"):
        prepare_series(raw_series(tmp_path / "raw"), tmp_path / "out", stretches=9)


def test_the_future_of_the_target_changes_no_training(tmp_path: Path) -> None:
    lines = panel([f"t{i}" for i in range(5)], 60, 3)
    changed = [
        f"{line.rsplit(',', 1)[0]},7" if line.split(",")[0] in {str(t) for t in range(52, 60)} else line
        for line in lines
    ]
    one = prepare_series(raw_series(tmp_path / "raw1", t=lines), tmp_path / "one")
    two = prepare_series(raw_series(tmp_path / "raw2", t=changed), tmp_path / "two")
    for split in ("train", "valid"):
        for name in ("values", "centre", "scale"):
            found = [getattr(made.split(TARGET, split), name) for made in (one, two)]
            np.testing.assert_array_equal(*found)
    held = [made.split(TARGET, "test") for made in (one, two)]
    np.testing.assert_array_equal(held[0].centre, held[1].centre)
    assert not np.array_equal(held[0].values, held[1].values)


def test_source_series_are_split_whole_whatever_their_order(tmp_path: Path) -> None:
    names = [f"a{i}" for i in range(20)]
    lines = panel(names, 70, 1)
    rows: dict[str, list[str]] = {name: [line for line in lines if f",{name}," in line] for name in names}
    turned = [lines[0], *(line for name in reversed(names) for line in rows[name])]
    raw = raw_series(tmp_path / "raw1", a=lines)
    one, two = (
        prepare_series(raw, tmp_path / "one"),
        prepare_series(raw_series(tmp_path / "raw2", a=turned), tmp_path / "two"),
    )
    where: dict[str, set[str]] = {}
    for split in SPLITS:
        found = [{values.tobytes() for values in made.split(SOURCE, split)} for made in (one, two)]
        assert found[0] == found[1]
        for name in names:
            y = column(lines, name)[:, None]
            # Windows of 30 from the end: 40-70, 10-40, and the ten first steps, which are just enough.
            pieces = {y[40:].tobytes(), y[10:40].tobytes(), y[:10].tobytes()}
            if pieces & found[0]:
                assert pieces <= found[0]
                where.setdefault(name, set()).add(split)
    assert all(splits == {split_of(f"a.csv/{name}", 0.2, 0.2)} for name, splits in where.items())
    assert set(where) == set(names)


def test_each_series_is_one_labelled_example_its_newest_window(tmp_path: Path) -> None:
    raw = raw_series(tmp_path / "raw")
    made = prepare_series(raw, tmp_path / "out")
    assert made.meta.classes == ["a", "b"]
    newest = {
        column((raw / f"{file}.csv").read_text().splitlines(), f"{file}{i}")[-30:].tobytes(): label
        for label, file in enumerate("ab")
        for i in range(20)
    }
    found: dict[bytes, int] = {}
    for split in SPLITS:
        part = made.split(LABELLED, split)
        assert part.labels is not None
        found |= {values.tobytes(): int(label) for values, label in zip(part, part.labels, strict=True)}
    assert found == newest


def one_series(points: list[tuple[int, str]]) -> list[str]:
    return ["Month,Place,Count", *(f"{t},t0,{value}" for t, value in points)]


@pytest.mark.parametrize(
    ("missing", "jump", "expected"),
    [
        ([], None, range(60)),
        ([20], None, range(21, 60)),  # a missing value ends a run
        ([50], None, range(50)),  # the longest run, not the newest
        ([], 20, range(20, 60)),  # so does a gap in time
        ([0, 59], None, range(1, 59)),
        ([30, 31], None, range(30)),  # 0..29 and 32..59
        ([29, 30], None, range(31, 60)),  # of 0..28 and 31..59, equally long, the latest
    ],
)
@pytest.mark.parametrize("cell", ["", "NA"])
def test_a_series_is_its_longest_run_without_a_gap(
    tmp_path: Path, missing: list[int], jump: int | None, expected: range, cell: str
) -> None:
    points = [
        (t + (5 if jump is not None and t >= jump else 0), cell if t in missing else f"{t % 7}.5") for t in range(60)
    ]
    made = prepare_series(raw_series(tmp_path / "raw", t=one_series(points)), tmp_path / "out", min_length=4)
    np.testing.assert_array_equal(made.split(TARGET, "test")[0][:, 0], [t % 7 + 0.5 for t in expected])


def test_short_and_constant_series_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = panel(["t0", "t1"], 60, 3) + [f"{t},flat,2" for t in range(60)] + [f"{t},short,{t}" for t in range(9)]
    made = prepare_series(raw_series(tmp_path / "raw", t=lines), tmp_path / "out")
    assert len(made.split(TARGET, "test")) == 2
    assert made.meta.removed == {"t.csv: constant": 1, "t.csv: shorter than min_length": 1}


def test_a_series_under_two_names_is_kept_once(tmp_path: Path) -> None:
    """Names decide between splits, so the same values under many names would stand in train and in test."""
    lines = panel(["a0", *(f"other{i}" for i in range(12))], 70, 1)
    copies = [f"{t},copy{i},{value}" for i in range(40) for t, value in enumerate(column(lines, "a0"))]
    target = panel(["t0", "t1"], 60, 3)
    leaked = [f"{t},t0,{value}" for t, value in enumerate(column(target, "t0"))]
    made = prepare_series(raw_series(tmp_path / "raw", a=[*lines, *copies, *leaked], t=target), tmp_path / "out")
    assert made.meta.removed == {"a.csv: duplicate": 41}
    every = [contents(made, SOURCE, split) for split in SPLITS]
    assert len({part for split in every for part in split}) == sum(map(len, every))
    newest = column(target, "t0")[-30:].tobytes()
    assert newest not in {part for split in every for part in split}


@pytest.mark.parametrize(
    "times",
    [
        [f"{1990 + m // 12} {month}" for m in range(60) for month in ["Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()[m % 12]]],  # noqa: E501, SIM905
        [f"{1990 + q // 4} Q{q % 4 + 1}" for q in range(60)],
        [f"2020-01-{1 + d // 24:02d}T{d % 24:02d}:00:00" for d in range(60)],
        [f"2020-01-{1 + d // 24:02d} {d % 24:02d}:00:00+00:00" for d in range(60)],
        [f"{1990 + m // 12}-{m % 12 + 1:02d}-15" for m in range(60)],
        [str(date(1990 + (m + 1) // 12, (m + 1) % 12 + 1, 1) - timedelta(days=1)) for m in range(60)],
        [f"{1990 + y}-07-01" for y in range(60)],
        [str(date(1990, 1, 30) + timedelta(days=d)) for d in range(60)],
        [str(t) for t in range(-30, 30)],
    ],
    ids=["months", "quarters", "hours", "hours in a zone", "monthly", "ends of months", "yearly", "days", "integers"],
)  # fmt: skip
def test_every_form_of_time_is_evenly_spaced(tmp_path: Path, times: list[str]) -> None:
    lines = ["Month,Place,Count", *(f"{time},t0,{i % 7}" for i, time in enumerate(times))]
    made = prepare_series(raw_series(tmp_path / "raw", t=lines), tmp_path / "out")
    assert made.split(TARGET, "test").lengths.tolist() == [60]


def months(values: list[str], name: str = "t0") -> list[str]:
    return [f"{1990 + i // 12}-{i % 12 + 1:02d},{name},{value}" for i, value in enumerate(values)]


def test_what_a_gap_costs_is_counted_and_may_be_carried(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = [f"{value:.3f}" for value in rng.standard_normal(120)]
    cells[60] = ""
    raw = raw_series(tmp_path / "raw", t=["Month,Place,Count", *months(cells)])
    cut = prepare_series(raw, tmp_path / "cut")
    assert cut.split(TARGET, "test").lengths.tolist() == [60]
    assert cut.meta.removed == {"t.csv: steps cut off at a gap": 59}
    assert cut.meta.cleaning == "t.csv: steps cut off at a gap 59"
    carried = prepare_series(raw, tmp_path / "carried", carried=1)
    assert carried.meta.removed == {"t.csv: steps carried over a gap": 1}
    filled = [*cells[:60], cells[59], *cells[61:]]
    np.testing.assert_array_equal(carried.split(TARGET, "test")[0][:, 0], np.array(filled, np.float32))


def test_held_out_steps_that_are_missing_are_not_scored_and_counted(tmp_path: Path) -> None:
    """One in training, one in validation, two in the test, of which one is an empty cell and one a row that lacks."""
    rng = np.random.default_rng(0)
    cells = [f"{value:.3f}" for value in rng.standard_normal(120)]
    rows = months(cells)
    whole = prepare_series(raw_series(tmp_path / "raw", t=["Month,Place,Count", *rows]), tmp_path / "whole")
    held = whole.split(TARGET, "test").scored.sum(), whole.split(TARGET, "valid").scored.sum()
    valid, test = 120 - held[0] - 1, 120 - held[0] + 1
    gappy = [row.rsplit(",", 1)[0] + "," if i in (20, valid, test) else row for i, row in enumerate(rows) if i != 117]
    made = prepare_series(raw_series(tmp_path / "raw2", t=["Month,Place,Count", *gappy]), tmp_path / "gappy", carried=1)
    assert made.meta.removed == {
        "t.csv: steps carried over a gap": 4,
        "t.csv: held-out steps carried over a gap, and not scored": 3,
    }
    for split, left_out in (("valid", [valid]), ("test", [test, 117])):
        before, after = whole.split(TARGET, split), made.split(TARGET, split)
        assert np.flatnonzero(before.scored & ~after.scored).tolist() == left_out
        assert np.flatnonzero(~before.scored & after.scored).tolist() == []
        batch = after.batch(np.array([0]))
        np.testing.assert_array_equal(batch.scored[0], after.scored)
        assert after[0][left_out[0]] == after[0][left_out[0] - 1]
    assert made.split(TARGET, "train").filled is None
    assert not list((tmp_path / "whole").rglob("filled.npy"))
    # By hand: the last value before each origin, against what the file says of the steps after it.
    y = np.array(cells, np.float32).astype(np.float64)
    past = np.where(np.isin(np.arange(120), [20, valid, test, 117]), np.roll(y, 1), y)
    first, last = 120 - held[0], controls.forecasters(1, returns=False)["last_value"]
    [one] = rolling_origin(last, after, origins=1, horizons=[int(held[0])], season=1, samples=9, tokens=1000, seed=0)
    found = forecast_scores([one], [len(one.truth)]).ratios["forecast", f"mase@{len(one.truth)}"]
    errors = [abs(y[t] - past[first - 1]) for t in range(first, 120) if t not in (test, 117)]
    assert found.value == pytest.approx(np.mean(errors) / np.abs(np.diff(past[:first])).mean())


def test_irregular_steps_are_taken_from_row_to_row(tmp_path: Path) -> None:
    days = np.cumsum(np.random.default_rng(0).integers(1, 9, 60))
    rows = [f"{date(2020, 1, 1) + timedelta(days=int(day))},t0,{i % 7}" for i, day in enumerate(days)]
    raw = raw_series(tmp_path / "raw", t=["Month,Place,Count", *rows])
    with pytest.raises(UserError, match=r"t\.csv: no usable series: .*steps cut off at a gap \d+"):
        prepare_series(raw, tmp_path / "time")
    made = prepare_series(raw, tmp_path / "rows", steps="rows")
    assert made.split(TARGET, "test").lengths.tolist() == [60]
    assert made.meta.removed == {}


def test_rows_may_come_in_any_order_and_twice(tmp_path: Path) -> None:
    lines = panel(["t0", "t1"], 60, 3)
    turned = [lines[0], *reversed(lines[1:]), lines[5]]
    one = prepare_series(raw_series(tmp_path / "raw1", t=lines), tmp_path / "one")
    two = prepare_series(raw_series(tmp_path / "raw2", t=turned), tmp_path / "two")
    for name in ("t0", "t1"):
        y = column(lines, name)
        assert y.tobytes() in {values.tobytes() for values in two.split(TARGET, "test")}
    assert one.meta.removed == {}
    assert two.meta.removed == {"t.csv: rows put in order of time": 118, "t.csv: rows given twice": 1}


@pytest.mark.parametrize("level", [2e7, 2.5e8, 1e9])
@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_a_great_level_hides_no_movement(tmp_path: Path, level: float, transform: str) -> None:
    """A forecast's error is the same wherever its series stands."""
    rng = np.random.default_rng(1)
    noise = [rng.integers(-60, 61, 120) / 20 for _ in range(3)]

    def errors(folder: Path, base: float, transform: str) -> list[float]:
        rows = [f"{t},t{i},{base + value:.2f}" for i, one in enumerate(noise) for t, value in enumerate(one)]
        raw = raw_series(folder / "raw", t=["Month,Place,Count", *rows])
        made = prepare_series(raw, folder / "out", transform=transform, source=[])
        assert made.meta.removed == {}
        test = made.split(TARGET, "test")
        assert [len(np.unique(values)) for values in test] == [len(np.unique(one)) for one in noise]
        batch = test.batch(np.arange(3))
        assert batch.x.dtype == np.float32
        np.testing.assert_allclose(batch.x[:, :112].std(1), 1, rtol=1e-3)
        inverse = np.expm1 if transform == "log1p" else None
        forecasts = rolling_origin(
            Last(), dataclasses.replace(test, centre=None, scale=None), origins=2, horizons=[4], season=1, samples=1,
            tokens=1000, seed=0, inverse=inverse,
        )  # fmt: skip
        return [float(np.abs(one.truth - one.median).mean() / one.absolute.mean()) for one in forecasts]

    expected = errors(tmp_path / "low", 10, "none")
    found = errors(tmp_path / "high", level, transform)
    np.testing.assert_allclose(found, expected, rtol=2e-2 if transform == "log1p" else 1e-5)


@pytest.mark.parametrize("flicker", [0.0, 2e-6])
@pytest.mark.parametrize("level", [1.0, 1e5])
def test_what_stands_still_until_it_is_held_out_is_counted_out_by_name(
    tmp_path: Path, flicker: float, level: float
) -> None:
    still = [level] * 46 + (level * np.random.default_rng(0).standard_normal(14)).tolist()
    still[20] += level * flicker
    lines = panel([f"t{i}" for i in range(7)], 60, 3) + [f"{t},still,{value!r}" for t, value in enumerate(still)]
    made = prepare_series(raw_series(tmp_path / "raw", t=lines), tmp_path / "out")
    assert made.meta.removed == {"t.csv: still: does not vary before its held-out steps": 1}
    assert len(made.split(TARGET, "test")) == 7
    with pytest.raises(UserError, match=r"t\.csv: no series is left: none of 1 varies .*, 'still' for one"):
        prepare_series(raw_series(tmp_path / "alone", t=[lines[0], *lines[-60:]]), tmp_path / "none")


def test_columns_of_a_wide_table_are_series_of_their_own(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(40)]
    values = np.random.default_rng(0).standard_normal((70, 40)).round(3)
    wide = [",".join(["Month", *names]), *(",".join([str(t), *map(str, row)]) for t, row in enumerate(values))]
    spec = {"file": "w.csv", "time": "Month", "key": []}
    raw = raw_series(tmp_path / "raw", w=wide)
    made = prepare_series(raw, tmp_path / "one", source=[{**spec, "value": names}])
    apart = prepare_series(raw, tmp_path / "two", source=[{**spec, "value": name} for name in names])
    found = {}
    for split in SPLITS:
        assert set(contents(made, SOURCE, split)) == set(contents(apart, SOURCE, split))
        found[split] = len(made.split(SOURCE, split))
    assert min(found.values()) > 3
    # One file is one class: nothing to be told apart.
    assert made.meta.tasks == apart.meta.tasks == ["next_step"]
    assert not (made.folder / LABELLED).exists()


def test_channels_of_one_series_stay_together(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((60, 2)).round(3)
    rows = [f"{t},{a},{'' if t == 3 else b}" for t, (a, b) in enumerate(values)]
    raw = raw_series(tmp_path / "raw", t=["Month,a,b", *rows])
    spec = {"file": "t.csv", "time": "Month", "channels": ["a", "b"], "key": []}
    made = prepare_series(raw, tmp_path / "out", target=spec, source=[])
    assert made.meta.size == 2
    np.testing.assert_array_equal(made.split(TARGET, "test")[0], values[4:].astype(np.float32))
    with pytest.raises(UserError, match=r"a\.csv: 1 channels, t\.csv has 2"):
        prepare_series(raw, tmp_path / "both", target=spec)


def test_the_last_steps_of_a_long_series_are_kept(tmp_path: Path) -> None:
    raw = raw_series(tmp_path / "raw")
    whole, short = prepare_series(raw, tmp_path / "whole"), prepare_series(raw, tmp_path / "short", longest=40)
    for split, lost in (("train", 20), ("valid", 20), ("test", 20)):
        for one, other in zip(whole.split(TARGET, split), short.split(TARGET, split), strict=True):
            np.testing.assert_array_equal(one[lost:], other)
    assert short.meta.removed == {"t.csv: steps before the last 40 of a series": 100}


def test_a_panel_needs_no_source(tmp_path: Path) -> None:
    raw = raw_series(tmp_path / "raw")
    made, alone = prepare_series(raw, tmp_path / "both"), prepare_series(raw, tmp_path / "alone", source=[])
    assert (alone.meta.tasks, alone.meta.classes, set(alone.meta.counts)) == (["next_step"], [], {TARGET})
    for split in SPLITS:
        assert contents(alone, TARGET, split) == contents(made, TARGET, split)


PARQUET_AND_JSON = [".parquet", ".jsonl", ".tsv", ".csv.gz"]


@pytest.mark.parametrize("suffix", PARQUET_AND_JSON)
def test_a_table_is_the_same_in_every_format(tmp_path: Path, suffix: str) -> None:
    lines = panel(["t0", "t1"], 60, 3)
    frame = pd.DataFrame([line.split(",") for line in lines[1:]], columns=lines[0].split(","))
    frame = frame.astype({"Month": int, "Count": float})
    frame.loc[3, "Count"] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    raw = raw_series(tmp_path / "raw", t=(tmp_path / "t.csv").read_bytes())
    other = raw / f"o{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(other, index=False)
    elif suffix == ".jsonl":
        frame.to_json(other, orient="records", lines=True)
    else:
        frame.to_csv(other, index=False, sep="\t" if suffix == ".tsv" else ",")
    one = prepare_series(raw, tmp_path / "one", source=[])
    two = prepare_series(raw, tmp_path / "two", source=[], target={**PANEL, "file": other.name})
    for split in SPLITS:
        assert contents(one, TARGET, split) == contents(two, TARGET, split)


def test_a_dialect_is_read_as_it_is_described(tmp_path: Path) -> None:
    lines = panel(["가", "t1"], 60, 3)
    # The same values with a thousand added to each, once as computers and once as people write them.
    rows = [(*line.split(",")[:2], float(line.split(",")[2]) + 1234) for line in lines[1:]]
    plain = [lines[0], *(f"{t},{name},{value:.4f}" for t, name, value in rows)]
    people = [f"{value:,.4f}".translate(str.maketrans(",.", ".,")) for *_, value in rows]
    written = ["Month;Place;Count", *(f"{t};{name};{value}" for (t, name, _), value in zip(rows, people, strict=True))]
    raw = raw_series(tmp_path / "raw", t=plain, u="\r\n".join(written).encode("cp949"))
    dialect = {"delimiter": ";", "decimal": ",", "thousands": ".", "encoding": "cp949"}
    one = prepare_series(raw, tmp_path / "one", source=[])
    two = prepare_series(raw, tmp_path / "two", source=[], target={**PANEL, "file": "u.csv", "dialect": dialect})
    assert contents(one, TARGET, "test") == contents(two, TARGET, "test")
    with pytest.raises(
        UserError, match=r"dialect of u\.csv: expected delimiter, decimal, thousands, encoding, found de"
    ):
        prepare_series(raw, tmp_path / "x", target={**PANEL, "file": "u.csv", "dialect": {"delimiter": ";"}})


def test_log1p_is_applied_before_all_else(tmp_path: Path) -> None:
    lines = one_series([(t, str(t % 7)) for t in range(60)])
    made = prepare_series(
        raw_series(tmp_path / "raw", t=lines, a=panel([f"a{i}" for i in range(20)], 70, 1)), tmp_path / "a"
    )
    with pytest.raises(UserError, match=r"a\.csv, row \d+, column Count: -\d\.\d+ has no log1p; set transform to none"):
        prepare_series(tmp_path / "raw", tmp_path / "b", transform="log1p", target={"file": "a.csv", **PANEL})
    positive = [re.sub(r",-", ",", line) for line in panel([f"a{i}" for i in range(20)], 70, 1)]
    others = [line.replace(",a", ",b").replace(".", "7.") for line in positive]
    raw = raw_series(tmp_path / "positive", t=lines, a=positive, b=others)
    logs = prepare_series(raw, tmp_path / "c", transform="log1p")
    np.testing.assert_allclose(
        logs.split(TARGET, "test").values, np.log1p(made.split(TARGET, "test").values), rtol=1e-6
    )


# Bad input: one line that names file, row and column


HEADER = "Month,Place,Count"
GOOD = panel(["t0", "t1"], 60, 3)


def spoilt(row: int, line: str) -> list[str]:
    """The good panel with another line at a row, the header being row 1."""
    return [*GOOD[: row - 1], line, *GOOD[row:]]


BAD_SERIES: list[tuple[list[str] | bytes, str]] = [
    (b"", r"t\.csv: the file is empty"),
    ([HEADER], r"t\.csv: no usable series: none of 0 has 10 even steps .* there is no row"),
    (["Month,Place,Total", *GOOD[1:]], r"t\.csv: no column 'Count'; the header has Month, Place, Total"),
    (["Time,Place,Count", *GOOD[1:]], r"t\.csv: no column 'Month'; the header has Time, Place, Count"),
    (["Month,Count", "0,1"], r"t\.csv: no column 'Place'"),
    (spoilt(7, "5,t0,many"), r"t\.csv, row 7, column Count: 'many' is not a number"),
    (spoilt(7, "5,t0,1,5"), r"t\.csv, row 7: 4 cells, expected 3"),
    (spoilt(7, "5,t0"), r"t\.csv, row 7: 2 cells, expected 3"),
    (spoilt(7, "5,t0,1_0"), r"t\.csv, row 7, column Count: '1_0' is not a number; leave the cell empty"),
    (spoilt(7, "5,t0,inf"), r"t\.csv, row 7, column Count: 'inf' is not finite"),
    (spoilt(7, "5,t0,-Infinity"), r"t\.csv, row 7, column Count: '-Infinity' is not finite"),
    (spoilt(7, "5,t0,-1e16"), r"t\.csv, row 7, column Count: -1e16 is beyond 1e\+15; set transform to log1p"),
    (["Month,Place,Count,Count", "0,t0,1,2"], r"t\.csv: 2 columns 'Count'; expected one"),
    (spoilt(7, "4,t0,1"), r"t\.csv, row 7, column Month: '4' stands in row 6 too, with another value of .*'t0'"),
    (spoilt(7, "3,t0,1"), r"t\.csv, row 7, column Month: '3' stands in row 5 too"),
    (spoilt(7, "2020-01-01,t0,1"), r"t\.csv, row 7, column Month: '2020-01-01' is a moment, and '0' a number"),
    (spoilt(7, "May,t0,1"), r"t\.csv, row 7, column Month: 'May' is no time; expected such as 2020-01-31"),
    (spoilt(7, "1982 Mai,t0,1"), r"row 7, column Month: '1982 Mai' is a month, and '0' a number"),
    (spoilt(7, "1982 Q5,t0,1"), r"row 7, column Month: '1982 Q5' is no time"),
    (spoilt(7, ",t0,1"), r"row 7, column Month: '' is no time"),
    (spoilt(7, '5,t0,"1'), r"t\.csv, row 7: not CSV: unexpected end of data"),
    (b"Month,Place,Count\n0,\xff,1\n", r"t\.csv, line 2, byte 3: 0xff is not UTF-8"),
    (b"Month,Pl\xe4ce,Count\n", r"t\.csv, line 1, byte 9: 0xe4 is not UTF-8"),
    (
        panel(["t0"], 23, 3),
        r"t\.csv: no series is long enough: the longest has 23 steps, 24 are needed",
    ),
    (panel(["t0"], 9, 3), r"t\.csv: no usable series: none of 1 has 10 even steps.*shorter than min_length 1"),
    ([HEADER, *(f"{t},t0,1" for t in range(60))], r"t\.csv: no usable series"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD_SERIES, ids=[message[:50] for _, message in BAD_SERIES])
def test_bad_panels_are_one_clear_line(tmp_path: Path, content: list[str] | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        prepare_series(raw_series(tmp_path / "raw", t=content), tmp_path / "out")
    assert "\n" not in str(error.value)


def test_a_panel_that_is_missing_or_wrongly_described(tmp_path: Path) -> None:
    raw = raw_series(tmp_path / "raw")
    with pytest.raises(UserError, match=r"x\.csv: not among the files of the archive"):
        prepare_series(raw, tmp_path / "one", target={"file": "x.csv", **PANEL})
    with pytest.raises(UserError, match=r"panel t\.csv: expected the keys file, time, value, key, found file, time, "):
        prepare_series(raw, tmp_path / "two", target={"file": "t.csv", **PANEL, "unit": "days"})
    with pytest.raises(UserError, match="source: no series falls into the valid split"):
        prepare_series(raw, tmp_path / "three", valid=0.0)


def test_a_mark_of_byte_order_is_no_part_of_a_name(tmp_path: Path) -> None:
    data = "\n".join(GOOD).encode()
    one = prepare_series(raw_series(tmp_path / "raw1", t=data), tmp_path / "one")
    two = prepare_series(
        raw_series(tmp_path / "raw2", t=b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n")), tmp_path / "two"
    )
    np.testing.assert_array_equal(one.split(TARGET, "test").values, two.split(TARGET, "test").values)


SCORED = {"target_columns": ["id", "score", "text"]}
BAD_STRINGS: list[tuple[str, bytes, dict[str, Any], str]] = [
    ("t.txt", b"", {}, r"t\.txt: the file is empty"),
    ("t.txt", b"one\ntw\xffo\n", {}, r"t\.txt, line 2, byte 3: 0xff is not UTF-8 \(invalid start byte\)"),
    ("t.txt", "eins\nzwö".encode()[:-1], {}, r"t\.txt, line 2, byte 3: 0xc3 is not UTF-8 \(unexpected end"),
    ("t.txt", b"1\t0.5\tone\n2\ttwo\n", SCORED, r"t\.txt, line 2: 2 tab-separated columns, expected 3 \(id,"),
    ("t.txt", b"1\t0.5\tone\ttwo\n", SCORED, r"t\.txt, line 1: 4 tab-separated columns"),
    ("t.txt", b"1\tgood\tone\n", SCORED, r"t\.txt, line 1, column score: 'good' is not a number"),
    ("t.txt", b"1\tnan\tone\n", SCORED, r"t\.txt, line 1, column score: 'nan' is not finite"),
    ("t.txt", b"1\t-inf\tone\n", SCORED, r"t\.txt, line 1, column score: '-inf' is not finite"),
    ("t.csv", b"", {}, r"t\.csv: the file is empty"),
    ("t.csv", b"label,body\npositive,one\n", {}, r"t\.csv: no column 'text'; the header has label, body"),
    ("t.csv", b"label,text\npositive\n", {}, r"t\.csv, row 2: 1 cells, expected 2"),
    ("t.csv", b"label,text\npositive,one,two\n", {}, r"t\.csv, row 2: 3 cells, expected 2"),
    ("t.csv", b"label,text\nnegative,one\nneutral,two\n", {}, r"t\.csv, row 3, column label: 'neutral'; expected"),
    ("t.csv", b'label,text\nnegative,"one\ntwo\n', {}, r"t\.csv, row 2: not CSV: unexpected end of data"),
    ("t.csv", b"text\n" + b"x" * 200_000 + b"\n", {}, r"t\.csv, row 2: not CSV: field larger than field limit"),
    ("t.csv", b"text\n\xff\n", {}, r"t\.csv, line 2, byte 1: 0xff is not UTF-8"),
    ("t.jsonl", b'{"text": "one"}\n{"text": \n', {}, r"t\.jsonl, line 2: not JSON"),
    ("t.jsonl", b'{"body": "one"}\n', {}, r"t\.jsonl, line 1: expected an object with a string 'text'"),
    ("t.jsonl", b'["one"]\n', {}, r"t\.jsonl, line 1: expected an object with its keys, found list"),
    ("t.jsonl", b'{"text": 1}\n', {}, r"t\.jsonl, line 1: expected an object with a string 'text'"),
    ("t.jsonl", b'{"text": "\\udc80"}\n', {}, r"t\.jsonl, line 1: '\\udc80' is half a character"),
    ("t.txt", b"\xef\xbb\xbfone\xff\n", {}, r"t\.txt, line 1, byte 7: 0xff is not UTF-8"),
    ("t.jsonl", b'{"text": "one", "label": 3}\n', {}, r"t\.jsonl, line 1, column label: '3'; expected one of"),
    ("t.txt", b"only one text\n", {}, r"no sequence is left for target/\w+; removed: nothing"),
    ("t.txt", b"one\n", {"target_columns": ["id"]}, "target_columns: found id, expected text among them"),
    ("t.txt", b"one\n", {**SCORED, "classes": ["a"]}, "classes: found 1, expected two"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "changes", "message"), BAD_STRINGS, ids=[message[:50] for *_, message in BAD_STRINGS]
)
def test_bad_texts_are_one_clear_line(
    tmp_path: Path, name: str, content: bytes, changes: dict[str, Any], message: str
) -> None:
    raw = raw_strings(tmp_path / "raw", texts(60, 1), content, name)
    with pytest.raises(UserError, match=message) as error:
        prepare_strings(raw, tmp_path / "out", **changes)
    assert "\n" not in str(error.value)


def test_a_text_needs_no_source(tmp_path: Path) -> None:
    raw = raw_strings(tmp_path / "raw", texts(60, 1), texts(60, 2))
    both = prepare_strings(raw, tmp_path / "both")
    out = tmp_path / "alone"
    out.mkdir()
    strings(source_columns=None).prepare({"target": raw / "target"}, out)
    alone = Prepared.open(out)
    assert set(alone.meta.counts) == {TARGET}
    for split in SPLITS:
        assert contents(alone, TARGET, split) == contents(both, TARGET, split)


def test_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    """What some editors call an end of a line is a space of the text; a \\r before the end belongs to it."""
    odd = ["one\rtwo", "three\u2028four", "five\x0bsix", "seven\x85eight", "nine\x1cten"]
    lines = [*texts(60, 2), *odd]
    made = prepare_strings(raw_strings(tmp_path / "raw", texts(60, 1), "\r\n".join(lines).encode()), tmp_path / "out")
    every = set().union(*(whole(made, TARGET, split) for split in SPLITS))
    assert every == {" ".join(text.split()).encode() for text in lines}
    table = "text\r\n" + "\r\n".join(lines)
    csv = prepare_strings(raw_strings(tmp_path / "raw2", texts(60, 1), table.encode(), "t.csv"), tmp_path / "csv")
    assert set().union(*(whole(csv, TARGET, split) for split in SPLITS)) == every


@pytest.mark.parametrize("labels", [[0, 1], ["0", "1"], [0.0, 1.0]])
def test_labels_are_compared_as_text_and_blank_lines_are_no_objects(tmp_path: Path, labels: list[Any]) -> None:
    rows = [json.dumps({"text": text, "label": labels[i % 2]}) for i, text in enumerate(texts(60, 2))]
    raw = raw_strings(tmp_path / "raw", texts(60, 1), [*rows[:30], "", *rows[30:], "", "  "], "t.jsonl")
    made = prepare_strings(raw, tmp_path / "out", classes=["0", "1"])
    assert sum(made.meta.counts["labelled"][split] for split in SPLITS) == 60
    assert made.meta.classes == ["0", "1"]


def test_one_class_is_no_classification(tmp_path: Path) -> None:
    raw = raw_strings(tmp_path / "raw", texts(60, 1), ["label,text", *(f"positive,{t}" for t in texts(60, 2))], "t.csv")
    with pytest.raises(UserError, match="labels: every example is 'positive'; expected at least two classes"):
        prepare_strings(raw, tmp_path / "out")


def test_columns_of_a_table_may_have_any_name(tmp_path: Path) -> None:
    words = texts(60, 2)
    frame = pd.DataFrame({"본문": words, "별점": [i % 2 + 1 for i in range(60)]})
    expected = None
    for suffix in (".csv", ".parquet", ".jsonl", ".tsv"):
        raw = raw_strings(tmp_path / f"raw{suffix}", texts(60, 1), b"", f"t{suffix}")
        file = raw / "target" / f"t{suffix}"
        if suffix == ".parquet":
            frame.to_parquet(file)
        elif suffix == ".jsonl":
            frame.to_json(file, orient="records", lines=True, force_ascii=False)
        else:
            frame.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
        columns = {"text": unicodedata.normalize("NFD", "본문"), "label": "별점"} if suffix != ".jsonl" else {
            "text": "본문", "label": "별점"}  # fmt: skip
        made = prepare_strings(raw, tmp_path / f"out{suffix}", target_columns=columns, classes=["1", "2"])
        found = [(contents(made, LABELLED, split), made.split(LABELLED, split).labels.tolist()) for split in SPLITS]
        assert expected is None or found == expected
        expected = found


def test_composed_and_decomposed_letters_are_one_text(tmp_path: Path) -> None:
    words = [f"{text} 한국어 문장" for text in texts(60, 2)]
    target = [*words, *(unicodedata.normalize("NFD", text) for text in words)]
    made = prepare_strings(raw_strings(tmp_path / "raw", texts(60, 1), target), tmp_path / "out")
    assert made.meta.removed == {"target: duplicate": 60}


def test_a_folder_without_a_file(tmp_path: Path) -> None:
    raw = raw_strings(tmp_path / "raw", texts(60, 1), texts(60, 2))
    (raw / "target" / "t.txt").unlink()
    with pytest.raises(UserError, match="target: no file there"):
        prepare_strings(raw, tmp_path / "out")


def test_a_class_without_a_training_example(tmp_path: Path) -> None:
    target = texts(60, 2)
    rows = [f"{'positive' if split_of(text, 0.2, 0.2) == 'test' else 'negative'},{text}" for text in target]
    raw = raw_strings(tmp_path / "raw1", texts(60, 1), ["label,text", *rows], "t.csv")
    with pytest.raises(UserError, match="label 'positive' occurs in test only; every class needs an example in train"):
        prepare_strings(raw, tmp_path / "out1")
    names = [name for i in range(40) if split_of(f"b.csv/{(name := f'b{i}')}", 0.2, 0.2) == "test"]
    raw = raw_series(tmp_path / "raw2", b=panel(names, 25, 2))
    with pytest.raises(UserError, match="label 'b' occurs in test only"):
        prepare_series(raw, tmp_path / "out2")


def test_horizons_beyond_the_held_out_steps(tmp_path: Path) -> None:
    test = prepare_series(raw_series(tmp_path / "raw"), tmp_path / "out").split(TARGET, "test")
    settings: dict[str, Any] = {"origins": 2, "season": 1, "samples": 1, "tokens": 100, "seed": 0}
    for horizons in ([9], [1, 4, 9]):
        with pytest.raises(UserError, match="no series has 9 values from its first origin on; the most is 8"):
            rolling_origin(Last(), test, horizons=horizons, **settings)
    assert len(rolling_origin(Last(), test, horizons=[1, 8], **settings)) == 10


class Last:
    """Every value of a forecast is the last of its past."""

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        last = prefix[np.arange(len(prefix)), mask.sum(1) - 1]
        return np.broadcast_to(last[:, None, None], (len(prefix), samples, steps, prefix.shape[2])).copy()


def test_several_files_are_read_by_their_names(tmp_path: Path) -> None:
    raw = raw_strings(tmp_path / "raw", texts(60, 1), texts(60, 2))
    (raw / "target" / "a.csv").write_text("\n".join(["text", *texts(20, 4)]))
    made = prepare_strings(raw, tmp_path / "out")
    every = set().union(*(whole(made, TARGET, split) for split in SPLITS))
    assert every == {text.encode() for text in texts(60, 2) + texts(20, 4)}


@pytest.mark.parametrize("name", ["strings", "series"])
def test_the_shipped_recipes_take_the_shipped_values(name: str) -> None:
    from seqlab import config

    built = config.domain(name, yaml.safe_load((CONF / f"{name}.yaml").read_text())).prepare.build()
    assert isinstance(built, {"strings": Strings, "series": Series}[name])


def test_a_set_that_lost_a_part_is_named(tmp_path: Path) -> None:
    made = prepare_strings(raw_strings(tmp_path / "raw", texts(60, 1), texts(60, 2)), tmp_path / "out")
    (made.folder / TARGET / "test" / "values.npy").unlink()
    with pytest.raises(UserError, match=r"target/test/values\.npy: missing; run the prepare stage"):
        made.split(TARGET, "test")
    with pytest.raises(UserError, match=r"elsewhere/meta\.json: missing"):
        Prepared.open(tmp_path / "elsewhere")


# The one door: a user's own files, as an archive of the registry `file`


def test_own_files_go_through_the_same_door(tmp_path: Path) -> None:
    own = raw_strings(tmp_path / "own", texts(60, 1), texts(60, 2))
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as zipped:
        zipped.write(own / "target" / "t.txt", "deep/t.txt")
    straight = prepare_strings(own, tmp_path / "straight")
    for number, target in enumerate([own / "target", own / "target" / "t.txt", tmp_path / "own.zip"]):
        raw = tmp_path / f"raw{number}"
        for name, path in (("source", own / "source"), ("target", target)):
            acquire(Archive(name=name, registry="file", path=str(path), licence="own"), raw / name, tmp_path / "cache")
        made = prepare_strings(raw, tmp_path / f"out{number}")
        assert sha256(made.folder) == sha256(straight.folder)


def test_an_own_panel_is_a_file_or_in_a_folder(tmp_path: Path) -> None:
    own = raw_series(tmp_path / "own")
    archive = Archive(name="panels", registry="file", path=str(own), licence="own", members=["*.csv"])
    acquire(archive, tmp_path / "raw", tmp_path / "cache")
    made = prepare_series(tmp_path / "raw", tmp_path / "out")
    assert sha256(made.folder) == sha256(prepare_series(own, tmp_path / "straight").folder)


def test_an_archive_that_lacks_a_file(tmp_path: Path) -> None:
    own = raw_series(tmp_path / "own")
    (own / "t.csv").unlink()
    archive = Archive(name="panels", registry="file", path=str(own), licence="own", members=["a.csv", "t.csv"])
    with pytest.raises(UserError, match=r"panels: members: no file of .* matches 't\.csv'"):
        acquire(archive, tmp_path / "raw", tmp_path / "cache")
    acquire(dataclasses.replace(archive, members=()), tmp_path / "raw", tmp_path / "cache")
    with pytest.raises(UserError, match=r"t\.csv: not among the files of the archive"):
        prepare_series(tmp_path / "raw", tmp_path / "out")


# Equal inputs, equal bytes


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    rows = ["label,text", *(f"{('negative', 'positive')[i % 2]},{text}" for i, text in enumerate(texts(60, 2)))]
    words, panels = raw_strings(tmp_path / "words", texts(60, 1), rows, "t.csv"), raw_series(tmp_path / "panels")
    for prepare, raw in ((prepare_strings, words), (prepare_series, panels)):
        once, again = (prepare(raw, tmp_path / raw.name / "out" / str(i)) for i in range(2))
        files = sorted(path.relative_to(once.folder) for path in once.folder.rglob("*.*"))
        assert files == sorted(path.relative_to(again.folder) for path in again.folder.rglob("*.*"))
        assert len(files) > 20
        assert all((once.folder / file).read_bytes() == (again.folder / file).read_bytes() for file in files)
