"""Sequences: batches equal padding by hand, buckets hold each sequence once, files come back or are refused."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.data.sequences import FULL_ENOUGH, OPTIONAL, POSITIONAL, WASTE, Sequences, buckets
from seqlab.data.writing import SequenceWriter
from seqlab.errors import UserError
from seqlab.evaluation.metrics import recorded


def made(lengths: list[int], channels: int | None, seed: int, extras: bool = True) -> Sequences:
    """Random sequences of the given lengths with every optional part that fits their kind."""
    rng = np.random.default_rng(seed)
    if channels is None:
        arrays = [rng.integers(1, 256, n).astype(np.uint8) for n in lengths]
    else:
        arrays = [rng.standard_normal((n, channels)).astype(np.float32) for n in lengths]
    optional: dict[str, np.ndarray] = {}
    if extras:
        optional["labels"] = rng.integers(0, 4, len(lengths))
        optional["marks"] = rng.integers(1, 5, sum(lengths)).astype(np.uint8)
        optional["filled"] = rng.random(sum(lengths)) < 0.3
        optional["first"] = np.array([rng.integers(0, n + 1) for n in lengths])
        if channels is not None:
            optional["centre"] = rng.standard_normal((len(lengths), channels)).astype(np.float32)
            optional["scale"] = rng.uniform(0.5, 2, (len(lengths), channels)).astype(np.float32)
    return Sequences.from_arrays(arrays, **optional)


LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=12)
CHANNELS = st.none() | st.integers(1, 3)
SEEDS = st.integers(0, 1000)


@given(LENGTHS, CHANNELS, SEEDS, st.booleans(), st.data())
def test_a_batch_equals_padding_by_hand(
    lengths: list[int], channels: int | None, seed: int, extras: bool, data: st.DataObject
) -> None:
    sequences = made(lengths, channels, seed, extras)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    batch = sequences.batch(np.array(chosen, np.int64))
    width = max((lengths[i] for i in chosen), default=0)
    assert batch.mask.shape == batch.scored.shape == (len(chosen), width)
    assert batch.x.shape == (len(chosen), width, *([] if channels is None else [channels]))
    assert batch.x.dtype == (np.int64 if channels is None else np.float32)
    for row, i in enumerate(chosen):
        n = lengths[i]
        assert batch.mask[row].tolist() == [t < n for t in range(width)]
        first = 0 if sequences.first is None else sequences.first[i]
        filled = np.zeros(n, bool) if sequences.filled is None else sequences.filled[sequences.offsets[i] :][:n]
        np.testing.assert_array_equal(recorded(sequences, i, slice(0, n)), ~filled)
        assert batch.scored[row].tolist() == [first <= t < n and not filled[t] for t in range(width)]
        values = sequences[i]
        if sequences.centre is not None and sequences.scale is not None:
            values = (values - sequences.centre[i]) / sequences.scale[i]
        np.testing.assert_array_equal(batch.x[row, :n], values)
        assert not batch.x[row, n:].any()
    if sequences.labels is None:
        assert batch.labels is None
    else:
        assert batch.labels is not None
        assert batch.labels.tolist() == sequences.labels[chosen].tolist()
    if sequences.marks is None:
        assert batch.marks is None
    else:
        assert batch.marks is not None
        for row, i in enumerate(chosen):
            own = sequences.marks[sequences.offsets[i] : sequences.offsets[i + 1]]
            assert batch.marks[row].tolist() == own.tolist() + [0] * (width - lengths[i])


@given(LENGTHS, CHANNELS, SEEDS, st.data())
def test_a_subset_is_its_sequences_with_all_they_carry(
    lengths: list[int], channels: int | None, seed: int, data: st.DataObject
) -> None:
    sequences = made(lengths, channels, seed)
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=8))
    part = sequences.subset(np.array(chosen, np.int64))
    assert len(part) == len(chosen)
    for found, i in zip(part, chosen, strict=True):
        np.testing.assert_array_equal(found, sequences[i])
    for name in OPTIONAL:
        whole = getattr(sequences, name)
        assert (getattr(part, name) is None) == (whole is None)
        if whole is not None:
            np.testing.assert_array_equal(getattr(part, name), whole[chosen])
    for name in POSITIONAL:
        whole = getattr(sequences, name)
        own = [whole[sequences.offsets[i] : sequences.offsets[i + 1]] for i in chosen]
        assert getattr(part, name).tolist() == np.concatenate([np.empty(0), *own]).tolist()


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 120), st.none() | SEEDS)
def test_buckets_hold_each_sequence_once_within_the_bound(lengths: list[int], tokens: int, seed: int | None) -> None:
    rng = None if seed is None else np.random.default_rng(seed)
    batches = buckets(np.array(lengths, np.int64), tokens, rng)
    assert sorted(i for batch in batches for i in batch.tolist()) == list(range(len(lengths)))
    for batch in batches:
        own = sorted(lengths[i] for i in batch)
        size = len(own) * own[-1]
        assert len(batch) == 1 or size <= tokens
        assert size - sum(own) <= WASTE * size or sum(own[:-1]) < FULL_ENOUGH * tokens
    # Similar lengths share a batch: ordered by length, no two batches interleave.
    spans = sorted((min(lengths[i] for i in batch), max(lengths[i] for i in batch)) for batch in batches)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    if seed is not None:
        again = buckets(np.array(lengths, np.int64), tokens, np.random.default_rng(seed))
        assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


def test_few_sequences_of_many_lengths_waste_little() -> None:
    lengths = np.repeat(np.arange(7, 27), 11)
    batches = buckets(lengths, 2048)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert 1 - lengths.sum() / padded < WASTE


def test_an_epoch_is_shuffled_among_equals_and_among_batches() -> None:
    lengths = np.repeat([3, 5, 7], 20)
    plain = buckets(lengths, 15)
    shuffled = buckets(lengths, 15, np.random.default_rng(0))
    assert [b.tolist() for b in shuffled] != [b.tolist() for b in plain]
    widths = [lengths[batch].max() for batch in shuffled]
    assert widths != sorted(widths)


@pytest.mark.slow
@given(LENGTHS, CHANNELS, SEEDS, st.booleans())
def test_a_writer_gives_what_saving_gives(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], channels: int | None, seed: int, labelled: bool
) -> None:
    folder = tmp_path_factory.mktemp("written")
    source = made(lengths, channels, seed, extras=False)
    labels = np.random.default_rng(seed).integers(0, 3, len(lengths)) if labelled else None
    with SequenceWriter(folder / "stream", source.values.dtype, channels) as writer:
        for i, values in enumerate(source):
            writer.append(values, None if labels is None else int(labels[i]))
    Sequences(source.values, source.offsets, labels).save(folder / "saved")
    for part in sorted((folder / "saved").iterdir()):
        # The writer leaves room in its header for a length that it does not know yet, as NumPy's own does.
        np.testing.assert_array_equal(np.load(folder / "stream" / part.name), np.load(part))
    assert {p.name for p in (folder / "stream").iterdir()} == {p.name for p in (folder / "saved").iterdir()}
    found = Sequences.load(folder / "stream")
    assert [values.tolist() for values in found] == [values.tolist() for values in source]


@pytest.mark.slow
@given(LENGTHS, CHANNELS, SEEDS)
def test_saved_files_are_numpys_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], channels: int | None, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    sequences = made(lengths, channels, seed)
    sequences.save(folder)
    found = Sequences.load(folder)
    for name in ("values", "offsets", *OPTIONAL, *POSITIONAL):
        part = getattr(sequences, name)
        if part is None:
            assert not (folder / f"{name}.npy").exists()
        else:
            np.save(folder / "reference.npy", part)
            assert (folder / f"{name}.npy").read_bytes() == (folder / "reference.npy").read_bytes()
            np.testing.assert_array_equal(getattr(found, name), part)


def test_loading_maps_values_into_memory(tmp_path: Path) -> None:
    made([5000, 3000], None, 0).save(tmp_path)
    found = Sequences.load(tmp_path)
    assert isinstance(found.values, np.memmap)
    assert not found.values.flags.writeable


def test_appending_keeps_nothing_but_offsets_in_memory(tmp_path: Path) -> None:
    with SequenceWriter(tmp_path, np.uint8) as writer:
        for _ in range(1000):
            writer.append(np.ones(1000, np.uint8), 1)
        assert (tmp_path / "values.npy").stat().st_size > 900_000  # on disk before the end
    found = Sequences.load(tmp_path)
    assert len(found) == 1000
    assert found.values.all()


def test_a_writer_that_fails_leaves_no_readable_set(tmp_path: Path) -> None:
    with contextlib.suppress(ZeroDivisionError), SequenceWriter(tmp_path, np.uint8) as writer:
        writer.append(np.ones(3, np.uint8))
        raise ZeroDivisionError
    np.save(tmp_path / "offsets.npy", np.array([0, 3]))
    with pytest.raises(UserError):
        Sequences.load(tmp_path)


def cut(name: str, size: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with open(folder / name, "r+b") as file:
            file.truncate(size)

    return spoil


def put(name: str, values: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, values)


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (lambda folder: (folder / "values.npy").unlink(), r"values\.npy: missing; run the prepare stage"),
    (lambda folder: (folder / "offsets.npy").unlink(), r"offsets\.npy: missing; run the prepare stage"),
    (cut("values.npy", 0), r"values\.npy: not a readable array"),
    (cut("values.npy", 40), r"values\.npy: not a readable array"),
    (cut("values.npy", 6000), r"values\.npy: not a readable array"),
    (cut("offsets.npy", 0), r"offsets\.npy: not a readable array"),
    (cut("labels.npy", 130), r"labels\.npy: not a readable array"),
    (lambda folder: (folder / "values.npy").write_text("text\n" * 2000), r"values\.npy: not a readable array"),
    (put("offsets.npy", np.array([0, 4000, 9001])), "offsets end at 9001, but there are 9000 values"),
    (put("offsets.npy", np.array([1, 4000, 9000])), r"offsets\.npy: expected int64 positions that begin with 0"),
    (put("offsets.npy", np.array([0, 9500, 9000])), r"offsets\.npy: expected int64 positions"),
    (put("offsets.npy", np.array([0.0, 4000.0, 9000.0])), r"offsets\.npy: expected int64 positions"),
    (put("offsets.npy", np.empty(0, np.int64)), r"offsets\.npy: expected int64 positions"),
    (put("labels.npy", np.array([1, 2, 3])), r"labels\.npy: 3 entries for 2 sequences"),
    (put("first.npy", np.array([1])), r"first\.npy: 1 entries for 2 sequences"),
    (
        lambda folder: np.save(folder / "labels.npy", np.array([{}, {}]), allow_pickle=True),
        r"labels\.npy: not a readable array",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_damaged_set_is_one_clear_line(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    made([4000, 5000], None, 0).save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        Sequences.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, on which every write finds the disk full")
@pytest.mark.parametrize("name", ["values", "offsets", "labels"])
def test_a_full_disk_keeps_its_number(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.npy").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as saving:
        made([40000, 50000], None, 0).save(tmp_path)
    assert saving.value.errno == errno.ENOSPC

    def stream() -> None:
        with SequenceWriter(tmp_path, np.uint8) as writer:
            writer.append(np.ones(100_000, np.uint8), 1)

    with pytest.raises(OSError, match="No space left") as streaming:
        stream()
    assert streaming.value.errno == errno.ENOSPC
