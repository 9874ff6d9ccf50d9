"""Stocks, speech, motion and video: what the recipes compute, that no held-out data reaches training, bad input."""

from __future__ import annotations

import csv
import gzip
import hashlib
import pickle
import shutil
import wave
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.linalg import solve_toeplitz

from seqlab.artifacts import read_tensors
from seqlab.data.domains import base, motion, speech, stocks, video
from seqlab.data.prepared import LABELLED, TARGET, Prepared
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.evaluation import metrics
from seqlab.settings import Budget
from seqlab.training.task import trained_task

# Raw files, small and synthetic


def write_table(path: Path, names: list[str], prices: np.ndarray, first: date = date(2000, 1, 3)) -> None:
    """prices: (names, days)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["Ticker", "Date", "Close"])
        for name, row in zip(names, prices, strict=True):
            writer.writerows([name, first + timedelta(days=day), f"{p:.6f}"] for day, p in enumerate(row))


def walk(names: int, days: int, seed: int) -> np.ndarray:
    return 50 * np.exp(np.cumsum(0.02 * np.random.default_rng(seed).standard_normal((names, days)), axis=1))


def write_ts(path: Path, sequences: list[np.ndarray], labels: list[str], classes: str = "a b") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [":".join([*(",".join(map(str, c)) for c in s.T), k]) for s, k in zip(sequences, labels, strict=True)]
    path.write_text("\n".join(["#words", "@dimensions 3", f"@classLabel true {classes}", "@data", *lines]) + "\n")


def utterances(count: int, seed: int, channels: int = 3) -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((rng.integers(5, 12), channels)).round(4) for _ in range(count)], ["a", "b"] * (
        count // 2
    )


def write_watch(path: Path, recordings: list[np.ndarray], subjects: list[int], exercises: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {"X": recordings, "y": np.array(exercises), "y_labels": ["up", "down"], "subject": np.array(subjects)}
    np.save(path, np.array(fields, dtype=object), allow_pickle=True)


def watch(seed: int, held: int = 0) -> tuple[list[np.ndarray], list[int], list[int]]:
    """Two recordings of each of six subjects; those of subjects 5 and 6 come from `held`."""
    subjects = [1, 2, 3, 4, 5, 6] * 2
    rngs = [np.random.default_rng([seed, i, held if subject > 4 else 0]) for i, subject in enumerate(subjects)]
    return (
        [r.standard_normal((40 + 3 * i, 3)) + s for i, (r, s) in enumerate(zip(rngs, subjects, strict=True))],
        (subjects),
        [0] * 6 + [1] * 6,
    )


def write_clip(path: Path, frames: np.ndarray) -> None:
    """frames: (T, H, W) bytes; lossless, and every frame by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as opened:
        stream = opened.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "gray"
        for frame in frames:
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        opened.mux(stream.encode())


def write_film(path: Path, cut: int) -> None:
    """The same frames as an MP4 whose index comes first, short of its last `cut` bytes."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as opened:
        stream = opened.add_stream("mpeg4", rate=25)
        stream.height, stream.width = 20, 24
        stream.pix_fmt = "yuv420p"
        for frame in clip(1):
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
        opened.mux(stream.encode())
    path.write_bytes(path.read_bytes()[:-cut])


def clip(seed: int, test: int = 0) -> np.ndarray:
    """80 frames, of which the last 24 come from `test`."""
    parts = [np.random.default_rng([seed, key]).integers(0, 256, (n, 20, 24)) for key, n in ((0, 56), (test, 24))]
    return np.concatenate(parts).astype(np.uint8)


TABLE = {"date": "Date", "date_format": "%Y-%m-%d", "price": "Close", "key": "Ticker"}


def stocks_recipe(raw: Path, changed: bool = False) -> stocks.Stocks:
    prices = walk(2, 200, 1)
    if changed:
        prices[:, -16:] = walk(2, 16, 2)
    write_table(raw / "shares/shares.csv.gz", ["A", "B"], prices)
    write_table(raw / "markets/index.csv.gz", ["I"], walk(1, 250, 3))
    tables = [{"file": "index.csv.gz", **TABLE}, {"file": "shares.csv.gz", **TABLE}]
    return stocks.Stocks(
        source=tables[:1],
        target=tables[1],
        context=24,
        window=8,
        stride=8,
        valid_windows=3,
        test_windows=2,
        source_ends=True,
    )


def speech_recipe(raw: Path, changed: bool = False) -> speech.Speech:
    write_ts(raw / "utterances/T_TRAIN.ts", *utterances(20, 1))
    write_ts(raw / "utterances/T_TEST.ts", *utterances(12, 3 if changed else 2))
    return speech.Speech(train="T_TRAIN.ts", test="T_TEST.ts", valid=0.2, recordings=None)


# Subjects 1 to 6 in the order of the SHA-256 of their names are 4, 3, 1, 2, 6, 5.
COUNTS = {"source": {"train": 1, "valid": 1}, "target": {"train": 1, "valid": 1, "test": 2}}
SUBJECTS = {"source": {"train": [4], "valid": [3]}, "target": {"train": [1], "valid": [2], "test": [6, 5]}}


def motion_recipe(raw: Path, changed: bool = False) -> motion.Motion:
    write_watch(raw / "watch/watch_dataset.npy", *watch(0, held=int(changed)))
    return motion.Motion(**COUNTS, window=16, context=8)


def small_recipe(raw: Path, changed: bool = False) -> motion.SmallMotion:
    motion_recipe(raw)
    write_ts(raw / "small/B_TRAIN.ts", *utterances(20, 1))
    write_ts(raw / "small/B_TEST.ts", *utterances(12, 3 if changed else 2))
    source = {"train": 4, "valid": 2}
    return motion.SmallMotion(
        source=source, averaged=2, train="B_TRAIN.ts", test="B_TEST.ts", valid=0.2, window=8, context=3
    )


def video_recipe(raw: Path, changed: bool = False, components: int = 5) -> video.Video:
    for number in range(2):
        write_clip(raw / f"clips/{number}.mkv", clip(number, test=int(changed)))
    return video.Video(
        clips=["0.mkv", "1.mkv"], size=8, components=components, parts=[2], source_length=12, context=8, window=8,
        stride=2, valid_windows=1, test_share=0.3,
    )  # fmt: skip


RECIPES = [stocks_recipe, speech_recipe, motion_recipe, small_recipe, video_recipe]


def prepared(recipe: base.DomainRecipe, folder: Path) -> Prepared:
    recipe.prepare({part.name: part for part in (folder / "raw").iterdir()}, folder / "out")
    return Prepared.open(folder / "out")


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


# What holds for all


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_test_split_changes_nothing_else(recipe: Callable[..., base.DomainRecipe], tmp_path: Path) -> None:
    found = []
    for changed in (False, False, True):
        folder = tmp_path / str(len(found))
        prepared(recipe(folder / "raw", changed), folder)
        found.append(hashes(folder / "out"))
    assert found[0] == found[1]
    same = {name for name in found[0] if found[0][name] == found[2].get(name)}
    differ = found[0].keys() ^ same
    assert {name.split("/")[1] for name in differ - {"meta.json"}} == {"test"}
    values = {name for name in found[0] if name.endswith("test/values.npy")}
    assert values
    assert values <= differ


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_prepared_domain_is_whole(recipe: Callable[..., base.DomainRecipe], tmp_path: Path) -> None:
    found = prepared(recipe(tmp_path / "raw"), tmp_path)
    assert found.meta.kind == "vectors"
    for task in found.meta.tasks:
        for split in ("train", "valid", "test"):
            part = trained_task(task).data(found, split, Budget(steps=1, tokens=1, evaluations=1))
            assert isinstance(part, Sequences)
            assert part.values.shape[1] == found.meta.size
            assert part.values.dtype == np.float32
            assert np.isfinite(part.values).all()
            assert found.meta.counts[LABELLED if task == "classify" else TARGET][split] == len(part)
            assert (part.labels is not None) == (task == "classify")
            if part.first is not None:
                assert (part.first < part.lengths).all()
    for split in ("train", "valid"):
        assert found.split("source", split).values.shape[1] == found.meta.size


@pytest.mark.parametrize("recipe", [speech_recipe, motion_recipe, small_recipe, video_recipe])
def test_each_set_is_standardised_by_its_own_training_split(recipe: Callable, tmp_path: Path) -> None:
    found = prepared(recipe(tmp_path / "raw"), tmp_path)
    for name in ("source", "target"):
        values = found.split(name, "train").values.astype(np.float64)
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(0), 1, atol=1e-5)


def test_windows_of_a_split_in_time_are_scored_once() -> None:
    days = np.arange(100)[:, None]
    parts = base.split_in_time(days, context=10, window=5, stride=5, valid=3, test=4)
    assert parts is not None
    scored = {split: np.concatenate([one[10:] for one in cuts]).ravel() for split, cuts in parts.items()}
    np.testing.assert_array_equal(scored["test"], np.arange(80, 100))
    np.testing.assert_array_equal(scored["valid"], np.arange(65, 80))
    assert max(one.max() for one in parts["train"]) == 64
    assert all(len(one) == 15 for cuts in parts.values() for one in cuts)
    assert base.split_in_time(days, context=60, window=6, stride=5, valid=3, test=4) is None


def test_a_fixed_scale_is_kept_at_every_origin_of_a_forecast() -> None:
    """Sets without centre and scale are seen as they are; the others relative to the past of each origin."""
    seen = []

    class Spy:
        def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
            seen.append(prefix)
            return np.zeros((len(prefix), samples, steps, 1))

    values = [np.arange(10, dtype=np.float32)[:, None] + 5]
    first = np.array([8])
    fixed = Sequences.from_arrays(values, first=first)
    relative = Sequences.from_arrays(values, first=first, centre=np.zeros((1, 1)), scale=np.ones((1, 1)))
    for series in (fixed, relative):
        metrics.rolling_origin(Spy(), series, origins=1, horizons=[1], season=1, samples=4, tokens=99, seed=0)
    np.testing.assert_array_equal(seen[0][0, :, 0], values[0][:8, 0])
    assert abs(seen[1].mean()) < 1e-6


# Stocks


def test_stocks_are_log_returns_relative_to_their_context(tmp_path: Path) -> None:
    found = prepared(stocks_recipe(tmp_path / "raw"), tmp_path)
    returns = np.diff(np.log(walk(2, 200, 1).round(6)), axis=1)
    test = found.split("target", "test")
    assert test.first is not None
    assert test.centre is not None
    assert test.scale is not None
    np.testing.assert_allclose(test[1][:, 0], returns[0, -32:], atol=1e-7)
    np.testing.assert_allclose(test[3][:, 0], returns[1, -32:], atol=1e-7)
    np.testing.assert_allclose(test.centre[1], returns[0, -32:-8].mean(), atol=1e-7)
    np.testing.assert_allclose(test.scale[1], returns[0, -32:-8].std(), atol=1e-7)
    assert test.first.tolist() == [24] * 4


def test_the_source_ends_before_the_first_held_out_day(tmp_path: Path) -> None:
    found = prepared(stocks_recipe(tmp_path / "raw"), tmp_path)
    days = 200 - (3 + 2) * 8  # prices of a share before its first held-out return
    returns = np.diff(np.log(walk(1, 250, 3).round(6)[0, :days]))
    np.testing.assert_allclose(found.split("source", "valid")[2][:, 0], returns[-32:], atol=1e-7)
    assert found.meta.removed["source: days from the target's validation on"] == 250 - days


def test_short_histories_and_missing_prices_are_counted(tmp_path: Path) -> None:
    recipe = stocks_recipe(tmp_path / "raw")
    file = tmp_path / "raw/shares/shares.csv.gz"
    text = gzip.decompress(file.read_bytes()).decode()
    lines = text.splitlines()
    lines[5] = lines[5].rpartition(",")[0] + ","
    file.write_bytes(gzip.compress("\n".join([*lines, "C,2000-01-03,7", "C,2000-01-04,8"]).encode()))
    removed = prepared(recipe, tmp_path).meta.removed
    assert removed["shares.csv.gz: no price"] == 1
    assert removed["target: history too short"] == 1


# Speech


def test_windows_after_a_halt_are_counted_out_by_name(tmp_path: Path) -> None:
    """A price that stands still but for rounding gives returns without a unit."""
    recipe = stocks_recipe(tmp_path / "raw")
    prices = walk(2, 200, 1)
    prices[1, 40:110] = prices[1, 40] * (1 + 1e-12 * np.random.default_rng(0).standard_normal(70))
    path = tmp_path / "raw/shares/shares.csv.gz"
    with gzip.open(path, "wt", newline="") as opened:
        rows = [[n, date(2000, 1, 3) + timedelta(days=d), repr(float(p))] for n, row in zip("AB", prices, strict=True)
                for d, p in enumerate(row)]  # fmt: skip
        csv.writer(opened).writerows([["Ticker", "Date", "Close"], *rows])
    made = prepared(recipe, tmp_path)
    (reason,) = (key for key in made.meta.removed if "halt" in key)
    assert reason == "target: B: train windows after a halt"
    for split in ("train", "valid", "test"):
        found = made.split(base.TARGET, split)
        assert found.scale is not None
        assert found.scale.min() > 1e-4


def test_shares_may_come_newest_first(tmp_path: Path) -> None:
    recipe = stocks_recipe(tmp_path / "raw")
    one = prepared(recipe, tmp_path)
    path = tmp_path / "raw/shares/shares.csv.gz"
    with gzip.open(path, "rt", newline="") as opened:
        header, *rows = opened.read().splitlines()
    with gzip.open(path, "wt", newline="") as opened:
        opened.write("\n".join([header, *rows[::-1]]))
    recipe.prepare({part.name: part for part in (tmp_path / "raw").iterdir()}, tmp_path / "turned")
    two = Prepared.open(tmp_path / "turned")
    for split in ("train", "valid", "test"):
        found = [{part.tobytes() for part in made.split(base.TARGET, split)} for made in (one, two)]
        assert found[0] == found[1]
    assert two.meta.removed["shares.csv.gz: rows put in order of time"] > 0


def test_two_markets_of_one_name_are_two(tmp_path: Path) -> None:
    recipe = stocks_recipe(tmp_path / "raw")
    write_table(tmp_path / "raw/markets/other.csv.gz", ["I"], walk(1, 250, 4))
    once = prepared(recipe, tmp_path).meta.counts["source"]["train"]
    recipe.source = [*recipe.source, {"file": "other.csv.gz", **TABLE}]
    recipe.prepare({part.name: part for part in (tmp_path / "raw").iterdir()}, tmp_path / "both")
    assert Prepared.open(tmp_path / "both").meta.counts["source"]["train"] == 2 * once


def test_speech_keeps_every_frame_and_carves_validation_out_of_each_class(tmp_path: Path) -> None:
    found = prepared(speech_recipe(tmp_path / "raw"), tmp_path)
    scaler = read_tensors(tmp_path / "out/scaler.safetensors")
    seen = [
        one * scaler["deviation"] + scaler["mean"]
        for split in ("train", "valid")
        for one in found.split("labelled", split)
    ]
    for values in utterances(20, 1)[0]:
        assert sum(len(one) == len(values) and np.allclose(one, values, atol=1e-5) for one in seen) == 1
    labels = found.split("labelled", "valid").labels
    assert labels is not None
    assert np.bincount(labels).tolist() == [2, 2]
    assert found.split("labelled", "test").lengths.tolist() == [len(one) for one in utterances(12, 2)[0]]


def test_lpc_cepstra_equal_the_log_spectrum_of_the_normal_equations() -> None:
    signal = np.random.default_rng(0).standard_normal(400).cumsum() / 50
    found = speech.lpc_cepstra(signal, frame=160, shift=80, order=6)
    assert found.shape == (4, 6)
    for t, row in enumerate(found):
        x = signal[80 * t : 80 * t + 160] * np.hamming(160)
        r = np.array([x[: 160 - lag] @ x[lag:] for lag in range(7)])
        r[0] += 1e-6 * r[0] + 1e-9
        error_filter = np.concatenate([[1], -solve_toeplitz(r[:6], r[1:])])
        # c_n are the Fourier coefficients of log |1 / A|, twice the real cepstrum.
        cepstrum = np.fft.irfft(-np.log(np.abs(np.fft.rfft(error_filter, 1 << 16))))
        np.testing.assert_allclose(row, 2 * cepstrum[1:7], atol=1e-6)
    np.testing.assert_array_equal(speech.lpc_cepstra(np.zeros(400), frame=160, shift=80, order=6), 0)


def write_wav(path: Path, samples: np.ndarray, rate: int = 8000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as opened:
        opened.setparams((channels, 2, rate, 0, "NONE", ""))
        opened.writeframes(samples.astype("<i2").tobytes())


RECORDINGS = {"rate": 8000, "frame": 64, "shift": 32, "max_length": 10, "valid": 0.3}


def recorded_recipe(raw: Path) -> speech.Speech:
    speech_recipe(raw)
    rng = np.random.default_rng(0)
    for number in range(12):
        write_wav(raw / f"recordings/en/{number}.wav", 3000 * rng.standard_normal(64 + 32 * 14))
    return speech.Speech(train="T_TRAIN.ts", test="T_TEST.ts", valid=0.2, recordings=RECORDINGS)


def test_recordings_become_the_source(tmp_path: Path) -> None:
    found = prepared(recorded_recipe(tmp_path / "raw"), tmp_path)
    parts = [found.split("source", split) for split in ("train", "valid")]
    assert sum(len(part.values) for part in parts) == 12 * 15
    assert max(part.lengths.max() for part in parts) == 10


# Motion


def test_subjects_are_disjoint_and_in_the_split_that_names_them(tmp_path: Path) -> None:
    recipe = motion_recipe(tmp_path / "raw")
    recordings, subjects, exercises = watch(0)
    for values, subject in zip(recordings, subjects, strict=True):
        values[:, 0] = subject
    write_watch(tmp_path / "raw/watch/watch_dataset.npy", recordings, subjects, exercises)
    found = prepared(recipe, tmp_path)
    scaler = read_tensors(tmp_path / "out/scaler.safetensors")
    for name in ("target", "labelled"):
        for split, expected in SUBJECTS["target"].items():
            values = found.split(name, split).values * scaler["deviation"] + scaler["mean"]
            assert set(values[:, 0].round(3)) == set(expected)
    # One window of each held-out recording, all windows of a training one; the same examples in both sets.
    assert found.meta.counts["target"]["test"] == 4
    assert found.meta.counts["target"]["train"] == sum(
        len(one) // 16 for one, s in zip(recordings, subjects, strict=True) if s == 1
    )
    assert found.meta.counts["labelled"] == found.meta.counts["target"]


def test_averaging_lowers_the_rate() -> None:
    values = np.arange(22.0).reshape(11, 2)
    found = motion.Recordings([values], ["up"], [1], ["up"]).averaged(5).values[0]
    np.testing.assert_array_equal(found, [values[:5].mean(0), values[5:10].mean(0)])


class Harm:
    def __reduce__(self) -> tuple:
        return Path.touch, (Path("harm"),)


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("bad.npy", np.array({"X": Harm()}, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"bad\.npy: refused: it names pathlib"):
        motion.read_pickled(tmp_path / "bad.npy")
    assert not Path("harm").exists()
    np.load("bad.npy", allow_pickle=True)
    assert Path("harm").exists(), "the file would have done harm"


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_come_back_from_a_pickle_of_any_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "fine.npy"
    fields = {"X": [np.arange(6.0).reshape(2, 3)], "y_labels": ["up"]}
    with open(path, "wb") as opened:
        np.lib.format.write_array_header_1_0(opened, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(np.array(fields, dtype=object), opened, protocol=protocol)
    found = motion.read_pickled(path)
    np.testing.assert_array_equal(found["X"][0], fields["X"][0])
    assert found["y_labels"] == ["up"]


# Video


def test_frames_come_back_through_the_projection(tmp_path: Path) -> None:
    found = prepared(video_recipe(tmp_path / "raw", components=64), tmp_path)
    frames = found.frames(found.split("target", "test")[0])
    expected = np.stack([video._reduced(frame, 8).reshape(8, 8) for frame in clip(0)[48:64]])
    np.testing.assert_allclose(frames, expected, atol=1e-4)


def test_a_film_is_standardised_by_training_frames_alone(tmp_path: Path) -> None:
    found = prepared(video_recipe(tmp_path / "raw"), tmp_path)
    for name, split in (("source", "train"), ("source", "valid"), ("target", "test")):
        part = found.split(name, split)
        assert part.centre is None
        assert part.scale is None


def test_reduction_averages_areas() -> None:
    luma = np.random.default_rng(0).integers(0, 256, (20, 33)).astype(np.uint8)
    found = video._reduced(luma, 8).reshape(8, 8)
    for i in range(8):
        for j in range(8):
            part = luma[i * 20 // 8 : (i + 1) * 20 // 8, j * 33 // 8 : (j + 1) * 33 // 8]
            assert found[i, j] == pytest.approx(part.mean() / 255, rel=1e-6)


def test_principal_components_equal_a_singular_value_decomposition() -> None:
    frames = np.random.default_rng(0).standard_normal((50, 6)) * np.arange(1, 7)
    mean, axes = video.principal_components([[frames[:20], frames[20:]]], 3)
    rows = np.linalg.svd(frames - frames.mean(0))[2][:3]
    np.testing.assert_allclose(mean, frames.mean(0))
    np.testing.assert_allclose(np.abs((axes * rows).sum(1)), 1, rtol=1e-9)
    assert (np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], axis=1) > 0).all()


def test_parts_are_films_of_their_own(tmp_path: Path) -> None:
    write_clip(tmp_path / "0.mkv", clip(0))
    whole, *films = video.read_parts(tmp_path / "0.mkv", 8, [1, 2])
    np.testing.assert_array_equal(whole, video.read_clip(tmp_path / "0.mkv", 8))
    corners = [(slice(0, 10), slice(0, 12)), (slice(0, 10), slice(12, 24)), (slice(10, 20), slice(0, 12))]
    for film, (rows, columns) in zip(films, corners, strict=False):
        np.testing.assert_array_equal(film[7], video._reduced(clip(0)[7][rows, columns], 8))
    assert len(films) == 4


def test_a_mirror_image_is_the_film_from_the_other_side() -> None:
    film = np.random.default_rng(0).random((3, 16))
    np.testing.assert_array_equal(video.mirrored(film, 4)[1].reshape(4, 4), np.fliplr(film[1].reshape(4, 4)))


def test_what_the_target_validates_on_is_not_in_the_source(tmp_path: Path) -> None:
    found = []
    for changed in (False, True):
        folder = tmp_path / str(changed)
        recipe = video_recipe(folder / "raw")
        if changed:  # of 80 frames the last 24 are test windows, and the 8 before them validate
            frames = clip(0)
            frames[48:56] = 255 - frames[48:56]
            write_clip(folder / "raw/clips/0.mkv", frames)
        prepared(recipe, folder)
        found.append(hashes(folder / "out"))
    differ = {name for name in found[0] if found[0][name] != found[1][name]}
    assert {name.rpartition("/")[0] for name in differ} == {"target/valid", "target/test"}  # whose contexts they are


# Bad input


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(raw: Path) -> None:
        path = raw / file
        zipped = path.suffix == ".gz"
        text = (gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()).decode()
        assert old in text
        data = text.replace(old, new, 1).encode()
        path.write_bytes(gzip.compress(data) if zipped else data)

    return edit


def replaced(file: str, data: bytes) -> Callable[[Path], None]:
    return lambda raw: (raw / file).write_bytes(data) and None  # type: ignore[func-returns-value]


def shortened(file: str, count: int) -> Callable[[Path], None]:
    return lambda raw: (raw / file).write_bytes((raw / file).read_bytes()[:-count]) and None  # type: ignore[func-returns-value]


def held_out(sequences: list[np.ndarray], labels: list[str], classes: str = "a b") -> Callable[[Path], None]:
    return lambda raw: write_ts(raw / "utterances/T_TEST.ts", sequences, labels, classes)


def recordings(change: Callable[[list, list, list], None]) -> Callable[[Path], None]:
    def write(raw: Path) -> None:
        parts = watch(0)
        change(*parts)
        write_watch(raw / "watch/watch_dataset.npy", *parts)

    return write


def put(index: int, values: np.ndarray) -> Callable[[Path], None]:
    return recordings(lambda x, _, __: x.__setitem__(index, values))


STEPS = np.zeros((20, 3))
CASES: list[tuple[Callable[[Path], base.DomainRecipe], Callable[[Path], None], str]] = [
    (stocks_recipe, edited("shares/shares.csv.gz", "2000-01-05", "2000/01/05"), "row 4, column Date: '2000/01/05'"),
    (stocks_recipe, edited("shares/shares.csv.gz", "2000-01-05", "2000-01-04"), "row 4.*stands in row 3 too"),
    (stocks_recipe, edited("shares/shares.csv.gz", "A,2000-01-05,", "A,2000-01-05,-"), "row 4.*needs positive"),
    (stocks_recipe, edited("shares/shares.csv.gz", "A,2000-01-05,", "A,2000-01-05,x"), "row 4.*not a number"),
    (stocks_recipe, edited("shares/shares.csv.gz", "Close", "Last"), "no column 'Close'; the header has"),
    (stocks_recipe, replaced("shares/shares.csv.gz", gzip.compress(b"Ticker,Date,Close\n")), "no prices after"),
    (stocks_recipe, replaced("shares/shares.csv.gz", gzip.compress(b"")), "the file is empty"),
    (
        stocks_recipe,
        replaced("shares/shares.csv.gz", gzip.compress(b"Ticker,Date,Close\nA,2000-01-03,7\n")[:-9]),
        "damaged",
    ),
    (
        stocks_recipe,
        replaced("shares/shares.csv.gz", gzip.compress(b"Ticker,Date,Close\nA,2000-01-03,7\n")),
        "A has 1 price, which gives no return",
    ),
    (
        stocks_recipe,
        lambda raw: write_table(raw / "shares/shares.csv.gz", ["A"], walk(1, 50, 0)),
        "target: no history is long enough: the longest has 50 prices, 73 are needed",
    ),
    (stocks_recipe, edited("shares/shares.csv.gz", "A,2000-01-05,", "A,2000-01-05,nan,"), "row 4: 4 cells, expected 3"),
    (
        stocks_recipe,
        edited("shares/shares.csv.gz", "A,2000-01-05,", "A,inf,"),
        "row 4, column Date: 'inf' is not a date",
    ),
    (
        stocks_recipe,
        edited("shares/shares.csv.gz", "A,2000-01-05,", "A,2000-01-05,inf\nA,2000-01-06,"),
        "row 4, column Close.*(is no price|is not finite)",
    ),
    (stocks_recipe, edited("shares/shares.csv.gz", "A,2000-01-05,", '"A,2000-01-05,'), "row 4: not CSV"),
    (
        stocks_recipe,
        replaced("shares/shares.csv.gz", gzip.compress(b"Ticker,Date,Close\n\xff,")),
        "line 2, byte 1: 0xff is not UTF-8",
    ),
    (stocks_recipe, replaced("shares/shares.csv.gz", b""), "the file is empty"),
    (stocks_recipe, replaced("shares/shares.csv.gz", b"Ticker,Date,Close\n"), "damaged: Not a gzipped file"),
    (stocks_recipe, lambda raw: (raw / "markets/index.csv.gz").unlink(), r"index\.csv\.gz: not among the files"),
    (speech_recipe, replaced("utterances/T_TEST.ts", b""), r"T_TEST\.ts: the file is empty"),
    (speech_recipe, replaced("utterances/T_TEST.ts", b"@data\n\xff"), r"T_TEST\.ts, line 2, byte 1: 0xff is not UTF-8"),
    (speech_recipe, held_out([np.zeros((0, 3))], ["a"]), r"T_TEST\.ts, line 5: a sequence of 0 steps"),
    (speech_recipe, held_out([np.zeros((1, 3))], ["a"]), r"T_TEST\.ts, line 5: a sequence of 1 steps"),
    (speech_recipe, held_out([STEPS, STEPS[:, :2]], ["a", "b"]), "line 6: 2 channels, the sequences before have 3"),
    (speech_recipe, held_out([STEPS[:, :2]], ["a"]), r"T_TEST\.ts: 2 channels, T_TRAIN\.ts has 3"),
    (speech_recipe, held_out([STEPS], ["c"]), "line 5: label 'c'; @classLabel declares a, b"),
    (speech_recipe, held_out([STEPS], ["c"], "a b c"), "label 'c' occurs in test only"),
    (speech_recipe, held_out([], []), "no sequence after @data"),
    (speech_recipe, held_out([STEPS + np.nan], ["a"]), "line 5, channel 1: 'nan' is not finite"),
    (speech_recipe, edited("utterances/T_TEST.ts", ".", "?"), "is not a number"),
    (speech_recipe, edited("utterances/T_TEST.ts", "@data", "#"), "stands before @data"),
    (speech_recipe, edited("utterances/T_TEST.ts", ":", ",1:"), "channels of unequal length"),
    (speech_recipe, lambda raw: (raw / "utterances/T_TEST.ts").unlink(), r"T_TEST\.ts: not among the files"),
    (recorded_recipe, lambda raw: write_wav(raw / "recordings/a.wav", np.ones(900), rate=16000), r"a\.wav: 16000 Hz"),
    (recorded_recipe, lambda raw: write_wav(raw / "recordings/a.wav", np.ones(900), channels=2), "2 channels"),
    (recorded_recipe, lambda raw: write_wav(raw / "recordings/a.wav", np.ones(0)), "0 samples; two frames need 96"),
    (recorded_recipe, lambda raw: write_wav(raw / "recordings/a.wav", np.ones(64)), "64 samples; two frames need"),
    (recorded_recipe, shortened("recordings/en/1.wav", 100), r"1\.wav: ends after \d+ of 512 samples"),
    (recorded_recipe, shortened("recordings/en/1.wav", 101), r"1\.wav: ends after \d+ of 512 samples"),
    (recorded_recipe, replaced("recordings/en/1.wav", b""), r"1\.wav: not a PCM WAV file: it ends early"),
    (recorded_recipe, lambda raw: shutil.rmtree(raw / "recordings/en"), "none of 0 WAV files"),
    (recorded_recipe, replaced("recordings/en/1.wav", b"RIFF"), r"1\.wav: not a PCM WAV file"),
    (motion_recipe, put(3, STEPS[:0]), "recording 3: 0 steps; expected at least 2"),
    (motion_recipe, put(3, STEPS[:1]), "recording 3: 1 steps; expected at least 2"),
    (motion_recipe, put(3, STEPS[:, :2]), "recording 3: 2 channels, the recordings before have 3"),
    (motion_recipe, put(3, np.full((20, 3), np.inf)), "recording 3, step 0: a value is not finite"),
    (motion_recipe, recordings(lambda x, s, y: y.__setitem__(slice(0, 2), [1, 1])), "label 'up' occurs in test only"),
    (
        motion_recipe,
        recordings(lambda x, s, y: s.__setitem__(slice(None), [1] * 12)),
        "add up to 6 subjects; there are 1",
    ),
    (motion_recipe, recordings(lambda x, s, y: y.__setitem__(0, 7)), "exercise 7; there are names for 0 to 1"),
    (motion_recipe, recordings(lambda x, s, y: s.pop()), "12 recordings, 12 exercises, 11 subjects"),
    (motion_recipe, replaced("watch/watch_dataset.npy", b"no array"), "not an .npy file"),
    (
        small_recipe,
        lambda raw: (
            [write_ts(raw / f"small/B_{s}.ts", *utterances(12, 5, channels=2)) for s in ("TRAIN", "TEST")] and None
        ),
        r"watch_dataset\.npy: 3 channels, B_TRAIN\.ts has 2",
    ),
    (
        small_recipe,
        lambda raw: write_ts(raw / "small/B_TEST.ts", [STEPS[:, :2]], ["a"]),
        r"B_TEST\.ts: 2 channels, B_TRAIN\.ts has 3",
    ),
    (
        small_recipe,
        lambda raw: write_ts(raw / "small/B_TEST.ts", [STEPS], ["c"], "a b c"),
        "label 'c' occurs in test only",
    ),
    (
        small_recipe,
        lambda raw: write_ts(raw / "small/B_TEST.ts", [STEPS[:1]], ["a"]),
        r"B_TEST\.ts, line 5: a sequence of 1 steps",
    ),
    (
        small_recipe,
        lambda raw: write_ts(raw / "small/B_TEST.ts", [STEPS[:3]], ["a"]),
        "test: a sequence of 3 steps leaves nothing to score after 3",
    ),
    (motion_recipe, replaced("watch/watch_dataset.npy", b""), "not an .npy file"),
    (motion_recipe, put(3, STEPS[:, 0]), r"recording 3: expected an array of steps and channels, found \(20,\)"),
    (
        motion_recipe,
        recordings(lambda x, s, y: x.__setitem__(slice(None), [STEPS[:12]] * 12)),
        "no recording has 16 steps; the longest of all has 12",
    ),
    (video_recipe, replaced("clips/1.mkv", b""), r"1\.mkv: does not decode"),
    (video_recipe, lambda raw: write_film(raw / "clips/1.mkv", cut=2000), r"1\.mkv: ends after \d+ of 80 frames"),
    (video_recipe, replaced("clips/1.mkv", b"no film"), r"1\.mkv: does not decode"),
    (video_recipe, lambda raw: write_clip(raw / "clips/1.mkv", clip(1)[:1]), r"1\.mkv: 1 frames; expected at least 2"),
    (video_recipe, lambda raw: write_clip(raw / "clips/1.mkv", clip(1)[:30]), r"1\.mkv: 30 frames do not fill"),
    (video_recipe, lambda raw: write_clip(raw / "clips/1.mkv", clip(1)[:, :, :12]), "frames of 12 x 20 pixels"),
    (video_recipe, lambda raw: (raw / "clips/1.mkv").unlink(), r"1\.mkv: not among the files"),
]


@pytest.mark.parametrize(("recipe", "spoil", "message"), CASES, ids=[message[:40] for _, _, message in CASES])
def test_bad_input_is_one_clear_line(
    tmp_path: Path, recipe: Callable[[Path], base.DomainRecipe], spoil: Callable[[Path], None], message: str
) -> None:
    made = recipe(tmp_path / "raw")
    spoil(tmp_path / "raw")
    with pytest.raises(UserError, match=message) as error:
        prepared(made, tmp_path)
    assert "\n" not in str(error.value)


def test_subjects_are_dealt_by_their_names_alone() -> None:
    assert motion.deal(COUNTS, [1, 2, 3, 4, 5, 6]) == SUBJECTS
    assert motion.deal(COUNTS, [6, 6, 3, 5, 1, 2, 4, 1]) == SUBJECTS


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"source": {"train": 1}}, "source: found the splits train, expected train, valid"),
        ({"source": {"train": 1, "valid": 3}}, "source: the splits add up to 4 subjects; there are 3"),
    ],
)
def test_subjects_that_cannot_be_dealt_are_refused(counts: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        motion.deal(counts, [1, 2, 3])
