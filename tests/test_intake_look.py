"""A look at a file of one's own: what it is taken for, that its domain prepares, and that all is written down."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from seqlab import config, schema
from seqlab.data.packages import acquire
from seqlab.data.prepared import TARGET, Prepared
from seqlab.data.sequences import SPLITS
from seqlab.errors import UserError
from seqlab.evaluation.metrics import origins_of
from seqlab.families.gbdt import GBDT
from seqlab.families.nlinear import NLinear
from seqlab.intake import Hints, Proposal, look, panels, write_card, write_domain
from seqlab.intake.sniff import number_marks

ROOT = Path(__file__).resolve().parent.parent
RNG = np.random.default_rng(0)
WORDS = "the a of sea king film war light dark good bad and long short".split()  # noqa: SIM905


def make(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def trusted(folder: Path) -> Path:
    """A file with which nothing is wrong."""
    return make(folder / "own.txt", "\n".join(sentences(60)))


def sentences(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{i} {' '.join(rng.choice(WORDS, rng.integers(4, 20)))}" for i in range(count)]


def write_wav(path: Path, signal: np.ndarray, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(rate)
        opened.writeframes((3000 * signal).clip(-32768, 32767).astype("<i2").tobytes())


def prepared(found: Proposal, folder: Path) -> Prepared:
    """What the domain's file, written and read again, makes of the data."""
    tree = yaml.safe_load(write_domain(found, folder / "conf").read_text())
    assert tree == found.tree
    raw = {name: folder / "raw" / name for name in tree["archives"]}
    for name, own in tree["archives"].items():
        acquire(config.Archive(name=name, **own), raw[name], folder / "cache")
    out = folder / "out"
    out.mkdir(parents=True)
    schema.component(tree["prepare"], "prepare").build().prepare(raw, out)
    return Prepared.open(out)


def chosen(found: Proposal, key: str) -> Any:
    return next(one.value for one in found.choices if one.key == key)


# What each kind of file is taken for


def hourly(folder: Path) -> Path:
    at = pd.date_range("2023-01-01", periods=900, freq="h").strftime("%Y-%m-%d %H:%M")
    day = np.sin(np.arange(900) * 2 * np.pi / 24)
    frame = pd.DataFrame({"일시": at, "기온": 10 + 5 * day + RNG.normal(0, 1, 900), "전력": 50 + 9 * day})
    frame["전력"] += RNG.normal(0, 1, 900)
    frame.loc[400, "기온"] = np.nan
    frame.round(2).to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def long_panel(folder: Path) -> Path:
    months = pd.date_range("2015-01-31", periods=60, freq="ME").strftime("%Y-%m-%d")
    frame = pd.DataFrame({"unique_id": np.repeat([f"T{i}" for i in range(8)], 60), "ds": np.tile(months, 8)})
    frame["y"] = np.tile(np.exp(np.arange(60) / 20) * (2 + np.sin(np.arange(60) * np.pi / 6)), 8) * np.repeat(
        np.arange(1, 9), 60
    ) + RNG.random(480)
    frame.to_parquet(folder / "own.parquet")
    return folder / "own.parquet"


def shares(folder: Path) -> Path:
    days = pd.bdate_range("2020-01-01", periods=400).delete([50, 120, 121, 300])
    frame = pd.DataFrame({"Date": days.strftime("%Y%m%d"), "Close": 100 + RNG.standard_normal(396).cumsum()})
    frame.iloc[::-1].to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def numbers(folder: Path) -> Path:
    values = np.sin(np.arange(200) * 2 * np.pi / 9) + RNG.normal(0, 0.1, 200)
    pd.DataFrame({"signal": values}).to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def sensors(folder: Path) -> Path:
    parts = []
    for number in range(60):
        steps, kind = int(RNG.integers(30, 60)), number % 3
        wave_ = np.sin(np.arange(steps) * (0.2 + 0.2 * kind)) + RNG.normal(0, 0.2, steps)
        parts.append(pd.DataFrame({"sequence_id": number, "step": np.arange(steps), "acc_x": wave_,
                                   "acc_y": RNG.random(steps), "activity": ["walk", "run", "sit"][kind]}))  # fmt: skip
    pd.concat(parts).to_parquet(folder / "own.parquet")
    return folder / "own.parquet"


def text(folder: Path) -> Path:
    return make(folder / "own.txt", "\n".join(sentences(400)))


def reviews(folder: Path) -> Path:
    frame = pd.DataFrame({"리뷰": sentences(200), "평점": [i % 2 for i in range(200)]})
    frame.to_json(folder / "own.jsonl", orient="records", lines=True, force_ascii=False)
    return folder / "own.jsonl"


def folders_of_texts(folder: Path) -> Path:
    for i, line in enumerate(sentences(60)):
        make(folder / f"own/{'ab'[i % 2]}/{i}.txt", f"{line}\n{line}\n")
    return folder / "own"


PAIRS = [
    (
        f"The {WORDS[i % 14]} number {chr(97 + i % 26)}{chr(97 + i // 26)} is on the table.",
        f"{i}번 물건이 탁자 위에 있다.",
    )
    for i in range(120)
]


def bare_pairs(folder: Path) -> Path:
    return make(folder / "own.tsv", "\n".join(f"{ko}\t{en}" for en, ko in PAIRS))


def table_of_pairs(folder: Path) -> Path:
    frame = pd.DataFrame([(i, ko, en) for i, (en, ko) in enumerate(PAIRS)], columns=["id", "korean", "english"])
    frame.to_csv(folder / "own.csv", index=False)
    return folder / "own.csv"


def recordings(folder: Path) -> Path:
    for i in range(20):
        tone = np.sin(np.arange(4000) * (0.2 + 0.3 * (i % 2))) + 0.1 * RNG.standard_normal(4000)
        write_wav(folder / f"own/{'dog' if i % 2 else 'cat'}/{i}.wav", tone)
    return folder / "own"


def recordings_and_a_table(folder: Path) -> Path:
    for i in range(20):
        write_wav(folder / f"own/{i}.wav", RNG.standard_normal(4000))
    rows = "\n".join(f"{i}.wav,{'dog' if i % 2 else 'cat'}" for i in range(20))
    make(folder / "own/labels.csv", f"file,label\n{rows}\n")
    return folder / "own"


def published(folder: Path) -> Path:
    for part, count in (("TRAIN", 20), ("TEST", 12)):
        rows = [":".join([*(",".join(f"{v:.3f}" for v in RNG.random(9)) for _ in range(2)), "ab"[i % 2]])
                for i in range(count)]  # fmt: skip
        make(folder / f"Own_{part}.ts", "\n".join(["@classLabel true a b", "@data", *rows]) + "\n")
    return folder / "Own_TRAIN.ts"


KINDS: dict[Any, tuple[str, list[str], dict[str, Any]]] = {
    hourly: ("series", ["next_step"], {"evaluate.period": 24, "prepare.carried": 1, "prepare.target.time": "일시"}),
    long_panel: ("series", ["next_step"], {
        "evaluate.period": 12, "prepare.target.key": ["unique_id"], "prepare.transform": "log1p"}),
    shares: ("series", ["next_step"], {"prepare.carried": 2, "evaluate.period": 1, "prepare.target.time": "Date"}),
    numbers: ("series", ["next_step"], {"evaluate.period": 9, "prepare.target.time": None}),
    sensors: ("sequences", ["next_step", "classify"], {
        "prepare.data.id": ["sequence_id"], "prepare.data.channels": ["acc_x", "acc_y"], "prepare.data.time": "step",
        "prepare.classes": ["run", "sit", "walk"]}),
    text: ("text", ["next_step"], {"prepare.classes": []}),
    reviews: ("text", ["next_step", "classify"], {"prepare.classes": ["0", "1"]}),
    folders_of_texts: ("text", ["next_step", "classify"], {"prepare.target_columns.files": "folder"}),
    bare_pairs: ("pairs", ["translate"], {"prepare.held_out": None}),
    table_of_pairs: ("pairs", ["translate"], {"prepare.held_out": None}),
    recordings: ("recordings", ["next_step", "classify"], {"prepare.data.labels": "folder", "prepare.data.rate": 8000}),
    recordings_and_a_table: ("recordings", ["next_step", "classify"], {"prepare.classes": ["cat", "dog"]}),
    published: ("sequences", ["next_step", "classify"], {"prepare.classes": ["a", "b"]}),
}  # fmt: skip


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_a_file_is_taken_for_what_it_is_and_prepares(tmp_path: Path, write: Any) -> None:
    kind, tasks, decided = KINDS[write]
    found = look(write(tmp_path))
    assert found.kind == kind
    assert {key: chosen(found, key) for key in decided} == decided
    assert all(one.reason and "\n" not in one.reason for one in found.choices)
    made = prepared(found, tmp_path)
    assert made.meta.tasks == tasks
    assert set(made.meta.counts) <= {"target", "labelled", "train", "valid", "test", "everyday"}
    # What is proposed to be trained and judged is what there is.
    assert list(found.tree["finetune"]) == tasks
    headline = set(found.tree["evaluate"]["headline"])
    assert headline - {"forecast"} == ({"in_domain", "everyday"} if kind == "pairs" else set(tasks))
    assert ("forecast" in headline) == bool(found.tree["evaluate"].get("horizons"))
    if kind != "pairs":
        assert found.tree["pretrain"] is None
        budgeted = config.domain(found.name, found.tree | {"pretrain": {"steps": 1, "tokens": 1, "evaluations": 1}})
        assert list(budgeted.finetune) == tasks
        horizons = found.tree["evaluate"]["horizons"]
        test = made.split("target", "test")
        if horizons:
            assert test.first is not None
            assert (test.lengths - test.first).max() >= max(horizons)
            assert test.first.min() > found.tree["evaluate"]["period"]


def test_a_folder_of_films_is_projected(tmp_path: Path) -> None:
    from test_domains_vectors import write_clip

    for i in range(10):
        frames = np.random.default_rng(i).integers(0, 256, (20, 40, 40)).astype(np.uint8)
        (tmp_path / f"own/{'ab'[i % 2]}").mkdir(parents=True, exist_ok=True)
        write_clip(tmp_path / f"own/{'ab'[i % 2]}/{i}.mkv", frames)
    found = look(tmp_path / "own")
    assert (found.kind, chosen(found, "prepare.classes")) == ("films", ["a", "b"])
    made = prepared(found, tmp_path)
    assert made.meta.frame == [32, 32]
    assert made.frames(np.asarray(made.split("target", "test")[0])).shape == (20, 32, 32)


def test_two_files_of_lines_are_pairs(tmp_path: Path) -> None:
    english, korean = ([pair[i] for pair in PAIRS] for i in (0, 1))
    make(tmp_path / "en.txt", "\n".join(english))
    make(tmp_path / "ko.txt", "\n".join(korean))
    found = look(tmp_path / "ko.txt", Hints(target=str(tmp_path / "en.txt"), name="both"))
    assert (found.kind, found.name, list(found.tree["archives"])) == ("pairs", "both", ["english", "korean"])
    assert prepared(found, tmp_path).meta.counts["train"]["pairs"] > 60


def test_pairs_come_out_in_the_right_order(tmp_path: Path) -> None:
    made = prepared(look(bare_pairs(tmp_path)), tmp_path)
    rows = [json.loads(line) for split in SPLITS
            for line in (made.folder / f"pairs/{split}.jsonl").read_text().splitlines()]  # fmt: skip
    assert {(row["source"], row["references"][0]) for row in rows} == set(PAIRS)


def test_labelled_steps_on_a_calendar_are_series_unless_they_are_named(tmp_path: Path) -> None:
    days = pd.date_range("2023-01-01", periods=60).strftime("%Y-%m-%d")
    frame = pd.DataFrame({"day": np.tile(days, 12), "shop": np.repeat([f"s{i}" for i in range(12)], 60),
                          "category": np.repeat(["food", "toys"] * 6, 60), "sales": RNG.random(720)})  # fmt: skip
    frame.to_csv(tmp_path / "own.csv", index=False)
    series = look(tmp_path / "own.csv")
    assert (series.kind, series.card.facts["series"]) == ("series", 12)
    named = look(tmp_path / "own.csv", Hints(label="category"))
    assert (named.kind, chosen(named, "prepare.classes")) == ("sequences", ["food", "toys"])


def test_hints_are_taken(tmp_path: Path) -> None:
    found = look(
        hourly(tmp_path), Hints(name="power", value=("전력",), period=12, licence="CC0", time="일시", kind="series")
    )
    assert (found.name, found.card.facts["licence"]) == ("power", "CC0")
    assert found.tree["prepare"]["target"]["value"] == "전력"
    assert found.tree["evaluate"]["period"] == 12
    assert found.card.facts["unused columns"] == ["기온"]


def written(folder: Path, lengths: list[int], noise: float = 1.0, channels: int = 1) -> Path:
    """Daily series with a weekly season; without noise they stand still but for a rare step."""
    parts = []
    for k, length in enumerate(lengths):
        days = pd.date_range("2020-01-01", periods=length).strftime("%Y-%m-%d")
        table = pd.DataFrame({"shop": f"s{k}", "day": days})
        for channel in range(channels):
            still = (np.arange(length) % 40 == k % 40).astype(float)
            table[f"value{channel}"] = 10 + still if not noise else 10 + RNG.normal(0, noise, length).round(3)
        parts.append(table)
    folder.mkdir(exist_ok=True)
    pd.concat(parts).to_csv(folder / "daily.csv", index=False)
    return folder / "daily.csv"


def failing(found: Proposal, folder: Path) -> set[str]:
    """The families of direct forecasts that cannot be fitted to what the domain prepares."""
    data, evaluate = prepared(found, folder), found.tree["evaluate"]
    train, valid = (data.split(TARGET, split) for split in ("train", "valid"))
    failed = set()
    for name, family in (("nlinear", NLinear), ("gbdt", GBDT)):
        settings = yaml.safe_load((ROOT / f"conf/family/{name}.yaml").read_text())
        del settings["_target_"]
        settings |= {"trees": 3} if name == "gbdt" else {}
        model = family(data.meta.space, evaluate["period"], evaluate["horizons"], **settings)
        try:
            model.fit(train, valid)
        except UserError:
            failed.add(name)
    return failed


@pytest.mark.parametrize(
    ("lengths", "more", "unfit"),
    [
        ([120], {}, set()),
        ([150], {}, set()),
        ([80], {}, set()),
        ([60], {}, {"nlinear", "gbdt"}),
        ([20], {}, {"nlinear", "gbdt"}),
        ([70, 60], {}, set()),
        ([18] * 30, {}, {"gbdt"}),
        ([14] * 60, {}, {"gbdt"}),
        ([13] * 3, {}, {"nlinear", "gbdt"}),
        ([40], {"channels": 8}, set()),
        ([150], {"noise": 0.0}, {"nlinear"}),
        ([400], {}, set()),
    ],
)
def test_families_are_named_unfit_where_they_cannot_be_fitted_and_there_alone(
    lengths: list[int], more: dict[str, Any], unfit: set[str], tmp_path: Path
) -> None:
    found = look(written(tmp_path / "own", lengths, **more), Hints())
    assert failing(found, tmp_path) == set(found.tree.get("unfit", {}))
    assert set(found.tree.get("unfit", {})) == unfit
    assert {one.key for one in found.choices if one.key.startswith("unfit")} == {f"unfit.{name}" for name in unfit}


def test_windows_that_a_look_counts_are_those_of_the_families() -> None:
    for name, (windows, _) in panels.WINDOWS.items():
        own = yaml.safe_load((ROOT / f"conf/family/{name}.yaml").read_text())["windows"]
        assert list(windows) == own[: len(windows)]
        assert name != "gbdt" or list(windows) == own


def test_long_series_keep_their_last_steps(tmp_path: Path) -> None:
    pd.DataFrame({"t": np.arange(9000), "x": RNG.standard_normal(9000)}).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    longest = chosen(found, "prepare.longest")
    assert longest < 9000
    assert prepared(found, tmp_path).split("target", "test").lengths.max() == longest


@pytest.mark.parametrize(
    ("series", "steps", "stretches", "test"),
    [
        (1, 1095, 19, 19 * 14),
        (1, 400, 14, 14 * 7),  # of fortnights there were seven, which tell nothing
        (1, 100, 2, 2 * 12),
        (4, 1095, 5, 5 * 14),
        (20, 1095, 1, 3 * 14),
    ],
)
def test_few_series_are_tested_on_several_stretches(
    series: int, steps: int, stretches: int, test: int, tmp_path: Path
) -> None:
    days = pd.date_range("2023-01-01", periods=steps).strftime("%Y-%m-%d")
    rows = {"day": np.tile(days, series), "shop": np.repeat([f"s{i}" for i in range(series)], steps)}
    pd.DataFrame({**rows, "x": RNG.standard_normal(series * steps)}).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    own = found.tree["prepare"]
    assert (own["stretches"], own["test_steps"]) == (stretches, test)
    assert [one.value for one in found.choices if one.key == "prepare.stretches"] == [stretches] * (stretches > 1)
    assert found.card.facts["examples to test on"] == series * stretches
    told = any("so few examples to test on" in one for one in found.card.warnings)
    assert told == (series * stretches < panels.TELLING)
    made = prepared(found, tmp_path).split("target", "test")
    assert len(made) == series * stretches
    horizon, sets = max(found.tree["evaluate"]["horizons"]), origins_of(
        made, found.tree["evaluate"]["origins"], found.tree["evaluate"]["horizons"], found.tree["evaluate"]["period"]
    )  # fmt: skip
    assert {i for i, _, ahead in sets if ahead == horizon} == set(range(len(made)))


def hours(weeks: int, weekend: float) -> pd.DataFrame:
    at = pd.date_range("2024-01-01", periods=weeks * 168, freq="h")
    load = 500 + 40 * np.sin(2 * np.pi * at.hour / 24) - weekend * (at.day_of_week >= 5) + RNG.normal(0, 8, len(at))
    return pd.DataFrame({"at": at.strftime("%Y-%m-%d %H:%M"), "load": load})


@pytest.mark.parametrize(("weekend", "period"), [(0.0, 24), (60.0, 168)])
def test_the_longer_period_is_taken_where_its_values_repeat_better(weekend: float, period: int, tmp_path: Path) -> None:
    """Changes hardly see that weekends are lower: two of 168."""
    hours(8, weekend).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    assert found.tree["evaluate"]["period"] == period
    assert "repeating values errs" in next(one.reason for one in found.choices if one.key == "evaluate.period")


def test_one_wrong_value_hides_no_season_and_is_told(tmp_path: Path) -> None:
    days = pd.date_range("2023-01-01", periods=600)
    sales = 200 + 60 * (days.day_of_week >= 5) + RNG.normal(0, 10, 600)
    frame = pd.DataFrame({"day": days.strftime("%Y-%m-%d"), "sales": sales})
    frame.to_csv(tmp_path / "own.csv", index=False)
    plain = look(tmp_path / "own.csv")
    assert not any("usual spread" in one for one in plain.card.warnings)
    frame.loc[200, "sales"] = -9999.0
    frame.to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    assert found.tree["evaluate"]["period"] == plain.tree["evaluate"]["period"] == 7
    assert any("1, such as -9999 in 'sales'" in one for one in found.card.warnings)


# Which columns are times, and which tell series apart


AT = pd.date_range("2022-01-03", periods=240, freq="h")
EPOCHS = [int(at.timestamp()) for at in AT]
UNEVEN = pd.Timestamp("2022-01-01") + pd.to_timedelta(np.cumsum(np.random.default_rng(1).integers(100, 9000, 240)), "s")
Y = (100 + np.random.default_rng(2).standard_normal(240).cumsum()).round(2)
THREE = np.random.default_rng(3).choice(["a", "b", "c"], 240)
MONTHS = pd.date_range("2010-01-01", periods=80, freq="MS")


TIMES: dict[str, tuple[dict[str, Any], str | None, str | None]] = {
    "seconds called ts": ({"ts": EPOCHS}, "ts", "hourly"),
    "seconds called anything": ({"zeit": EPOCHS}, "zeit", "hourly"),
    "milliseconds": ({"zeit": [1000 * at for at in EPOCHS]}, "zeit", "hourly"),
    "microseconds": ({"zeit": [10**6 * at for at in EPOCHS]}, "zeit", "hourly"),
    "nanoseconds": ({"zeit": [10**9 * at for at in EPOCHS]}, "zeit", "hourly"),
    "seconds of an unsteady clock": ({"zeit": [at + i % 7 for i, at in enumerate(EPOCHS)]}, "zeit", None),
    "uneven seconds called ts": ({"ts": [int(at.timestamp()) for at in UNEVEN]}, "ts", None),
    "a count of hours": ({"hour": range(0, 2400, 10)}, "hour", "by number"),
    "a count called index": ({"index": range(0, 2400, 10)}, "index", "by number"),
    "a count for each machine": (
        {"machine": np.repeat(["a", "b"], 120), "minute": [*range(120)] * 2}, "minute", "by number",
    ),
    "a sensorTime": ({"sensorTime": EPOCHS}, "sensorTime", "hourly"),
    "dates behind a week of the year": ({"week": AT.isocalendar().week.to_numpy(), "at": AT}, "at", "hourly"),
    "dates behind their year": ({"year": AT.year, "at": AT}, "at", "hourly"),
    # None of these are times.
    "the hour of the day alone": ({"hour": AT.hour}, None, "by number"),
    "a population": (
        {"people": 1_400_000_000 + np.random.default_rng(4).integers(10**6, 10**7, 240).cumsum()}, None, "by number",
    ),
    "numbers of orders": ({"order_id": 1_600_000_000 + np.arange(240)}, None, "by number"),
}  # fmt: skip


@pytest.mark.parametrize("name", TIMES)
def test_times_are_found_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    columns, time, steps = TIMES[name]
    pd.DataFrame({**columns, "y": Y}).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    assert chosen(found, "prepare.target.time") == time
    assert steps is None or found.card.facts["steps"] == steps


def test_what_numbers_the_rows_is_left_out_which_the_card_says_and_is_taken_where_it_is_named(tmp_path: Path) -> None:
    pd.DataFrame({"index": range(240), "y": Y}).to_csv(tmp_path / "own.csv", index=False)
    found, named = look(tmp_path / "own.csv"), look(tmp_path / "own.csv", Hints(time="index"))
    said = "columns that number the rows, left out"
    assert (chosen(found, "prepare.target.time"), found.card.facts[said]) == (None, ["index"])
    assert (chosen(named, "prepare.target.time"), chosen(named, "prepare.target.value")) == ("index", "y")
    assert said not in named.card.facts
    one, other = (prepared(own, tmp_path / str(own is named)).split("target", "train") for own in (found, named))
    assert one.lengths.tolist() == other.lengths.tolist()


# Which season they have

STEPS = np.arange(300)


def repeated(*series: np.ndarray, known: list[np.ndarray] | None = None, words: str = "by number") -> int:
    return panels._period([one[:, None] for one in series], known, words, len(series[0]), Hints())[0]


@pytest.mark.parametrize("period", [2, 3, 4, 7, 12, 23, 31])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_period_of_a_wave_is_found_and_neither_a_neighbour_nor_a_multiple(period: int, noise: float) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        wave_ = np.sin(2 * np.pi * STEPS / period + 0.3) + 0.02 * STEPS
        assert abs(repeated(wave_ + noise * rng.standard_normal(300)) - period) <= (period > 20 and noise > 0)
        # Alike for several series, each with noise of its own.
        assert repeated(*(wave_ + noise * rng.standard_normal((4, 300)))) == period


def test_what_repeats_after_one_step_of_many_is_found() -> None:
    pulse = np.where(STEPS % 9 == 4, 5.0, 0.0) + 0.3 * np.random.default_rng(0).standard_normal(300)
    assert repeated(pulse) == 9
    both = np.sin(2 * np.pi * STEPS / 12) + 0.6 * np.sin(2 * np.pi * STEPS / 6)
    assert repeated(both) == 12


def test_what_has_no_season_is_given_none() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).standard_normal(320)
        slow = np.convolve(noise, 0.9 ** np.arange(20), "valid")[:300]
        noise = noise[:300]
        for one in (noise, noise.cumsum(), slow, slow.cumsum(), 0.01 * STEPS**1.5 + 0.1 * noise):
            assert repeated(one) == 1


def test_a_season_behind_a_covariate_is_found() -> None:
    rng = np.random.default_rng(0)
    months = np.arange(120)
    known = [rng.integers(0, 2, (120, 1)).astype(float) for _ in range(4)]
    swing = 0.3 * np.sin(2 * np.pi * months / 12)
    sales = [100 * (1 + swing + 0.6 * own[:, 0] + rng.normal(0, 0.03, 120)) for own in known]
    assert repeated(*sales, words="monthly") == 1
    known[0][3] = np.nan  # a cell that is empty
    assert repeated(*sales, known=known, words="monthly") == 12


def test_a_price_index_is_a_value(tmp_path: Path) -> None:
    pd.DataFrame({"at": AT, "index": np.random.default_rng(5).integers(90, 110, 240)}).to_csv(
        tmp_path / "own.csv", index=False
    )
    assert chosen(look(tmp_path / "own.csv"), "prepare.target.value") == "index"


GAPS = pd.Timestamp("2021-01-01") + pd.to_timedelta(np.sort(RNG.choice(400, 240, replace=False)), "D")
STAGGERED = [at + pd.Timedelta(minutes=m) for m in (0, 7, 31) for at in AT[:80]]
IDS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "sensors at times of their own": ({"sensor": THREE, "when": UNEVEN}, ["sensor"]),
    "a sensorId": ({"sensorId": THREE, "when": UNEVEN}, ["sensorId"]),
    "numbered sensors": ({"sensor": [ord(c) for c in THREE], "when": UNEVEN}, ["sensor"]),
    "places at times of their own": ({"where": THREE, "when": UNEVEN}, ["where"]),
    "places one after another": ({"where": np.repeat(["a", "b", "c"], 80), "when": STAGGERED}, ["where"]),
    "places whose steps are even": ({"where": ["a", "b", "c"] * 80, "when": sorted(STAGGERED)}, ["where"]),
    "sensors that take turns": ({"sensor": ["a", "b", "c"] * 80, "when": AT}, ["sensor"]),
    "numbers of articles": ({"sku": np.repeat(["0001", "0002", "0003"], 80), "when": np.tile(MONTHS, 3)}, ["sku"]),
    "numbers of machines": ({"machine": np.repeat([7, 8, 9], 80), "when": np.tile(MONTHS, 3)}, ["machine"]),
    "numbers of groups": ({"group": np.repeat([7, 8, 9], 80), "when": np.tile(MONTHS, 3)}, ["group"]),
    "months beside dates of shops": (
        {"shop": np.repeat([7, 8, 9], 80), "month": np.tile(MONTHS.month, 3), "when": np.tile(MONTHS, 3)}, ["shop"],
    ),
    # One series, whose states, events and days these are.
    "days of the week": ({"weekday": AT.day_name(), "when": AT}, []),
    "days of the week with gaps": ({"weekday": GAPS.day_name(), "when": GAPS}, []),
    "a rare state": ({"state": np.where(np.arange(240) % 12, "well", "ill"), "when": UNEVEN}, []),
    "events of an even series": ({"event_name": THREE, "when": AT}, []),
    "codes of the weather": ({"weather_code": [ord(c) for c in THREE], "when": AT}, []),
    "a code that changes once": ({"error_code": np.repeat([0, 1], 120), "when": AT}, []),
    "items that are counted": ({"item": [ord(c) for c in THREE], "when": UNEVEN}, []),
    "readings of sensors": ({"sensor_1": RNG.integers(0, 30, 240), "when": UNEVEN}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", IDS)
def test_series_are_told_apart_even_where_no_time_stands_twice(tmp_path: Path, name: str) -> None:
    columns, key = IDS[name]
    # Counted items are the values themselves.
    pd.DataFrame({**columns, **({} if "item" in columns else {"y": Y})}).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    assert chosen(found, "prepare.target.key") == key
    values = chosen(found, "prepare.target.value")
    assert found.card.facts["series"] == (3 if key else 1) * (len(values) if isinstance(values, list) else 1)
    assert found.card.facts["unused columns"] == [] or not key


@pytest.mark.slow
def test_a_series_longer_than_what_is_looked_at_has_a_name(tmp_path: Path) -> None:
    at = pd.date_range("2022-01-01", periods=21_000, freq="min")
    parts = [pd.DataFrame({"sensor": s, "at": at + pd.Timedelta(seconds=7 * i), "y": RNG.standard_normal(21_000)})
             for i, s in enumerate("ab")]  # fmt: skip
    pd.concat(parts).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    assert (chosen(found, "prepare.target.key"), found.card.facts["series"]) == (["sensor"], 2)


def test_what_stands_once_a_row_is_static_in_none(tmp_path: Path) -> None:
    """Texts that are all different name no series of one row each, in which all would be constant."""
    pd.DataFrame({"remark": [f"r{i}" for i in range(240)], "y": Y}).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv")
    assert (chosen(found, "prepare.target.value"), chosen(found, "prepare.target.key")) == ("y", [])
    assert found.card.facts["unused columns"] == ["remark"]


def test_times_are_read_as_they_were_said_to_be_written(tmp_path: Path) -> None:
    pd.DataFrame({"day": AT.strftime("%m/%d/%y %H"), "y": Y}).to_csv(tmp_path / "own.csv", index=False)
    found = look(tmp_path / "own.csv", Hints(time_format="%m/%d/%y %H"))
    assert (chosen(found, "prepare.target.time"), found.card.facts["steps"]) == ("day", "hourly")


def test_a_folder_of_several_kinds_is_taken_for_the_one_that_is_named(tmp_path: Path) -> None:
    folder = recordings(tmp_path)
    for i, line in enumerate(sentences(60)):
        make(folder / f"{'cat' if i % 2 else 'dog'}/{i}.txt", line)
    assert [look(folder, Hints(kind=kind)).kind for kind in (None, "text")] == ["recordings", "text"]


def test_a_file_that_nothing_calls_a_table_is_the_kind_that_is_named(tmp_path: Path) -> None:
    path = make(
        tmp_path / "own.dat", sensors(tmp_path).name and pd.read_parquet(tmp_path / "own.parquet").to_csv(index=False)
    )
    assert [look(path, Hints(kind=kind)).kind for kind in (None, "sequences", "text")] == [
        "sequences",
        "sequences",
        "text",
    ]


# What is counted


def test_twins_across_splits_are_counted(tmp_path: Path) -> None:
    lines = sentences(300)
    twins = [line.upper() + "!" for line in lines]
    found = look(make(tmp_path / "own.txt", "\n".join([*lines, *twins, *lines[:9], "", "  "])))
    facts = found.card.facts
    assert (facts["rows"], facts["texts"], facts["duplicates"], facts["empty"]) == (611, 600, 9, 2)
    # Digits do not tell texts apart either, so a few of them are twins by themselves.
    assert facts["texts that differ in case, digits or marks alone"] >= 300
    assert int(facts["overlap of splits"].split()[0]) > 50


@pytest.mark.parametrize(
    ("cells", "delimiter", "expected"),
    [
        (["1.5", "2"], ",", (".", "")),
        (["1,5", "2"], ";", (",", "")),
        (["1.234,5", "7"], ";", (",", ".")),
        (["1,234.5"], ",", (".", ",")),
        (["1,234"], ",", (".", ",")),
        (["1,234"], ";", (",", "")),
        (["1,234", "1,25"], "\t", (",", "")),
        (["1.234.567"], ";", (",", ".")),
        (["1 234,5"], ";", (",", " ")),
        (["1\u00a0234"], ";", (",", "\u00a0")),
        (["a,b", "c"], ";", (".", "")),
        ([], ",", (".", "")),
    ],
)
def test_marks_of_numbers(cells: list[str], delimiter: str, expected: tuple[str, str]) -> None:
    assert number_marks(cells, delimiter) == expected


# What is written


def test_a_domain_is_written_once_and_says_why(tmp_path: Path) -> None:
    found = look(hourly(tmp_path))
    path = write_domain(found, tmp_path / "conf")
    content = path.read_text()
    for choice in found.choices:
        key, reason = choice.key.rpartition(".")[2], " ".join(choice.reason.split())
        assert any(line.strip().startswith(f"{key}:") and line.endswith(f"# {reason}") for line in content.splitlines())
    assert write_domain(found, tmp_path / "conf") == path
    other = dataclasses.replace(found, tree=found.tree | {"title": "other"})
    with pytest.raises(
        UserError, match=r"own\.yaml: there, and different; --name gives another name, --replace writes over it"
    ):
        write_domain(other, tmp_path / "conf")
    write_domain(other, tmp_path / "conf", replace=True)
    make(path, "title: by hand\n")
    with pytest.raises(UserError, match=r"own\.yaml: a domain of this name is there; choose another name"):
        write_domain(found, tmp_path / "conf", replace=True)


def test_a_card_is_for_people_and_for_programs(tmp_path: Path) -> None:
    found = look(sensors(tmp_path))
    path = write_card(found, tmp_path / "cards")
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["classes"] == {"run": 20, "sit": 20, "walk": 20}
    assert (facts["sequences"], facts["licence"], facts["unused columns"]) == (60, "not stated", [])
    text = path.read_text()
    for topic in found.card.facts:
        assert f"| {topic} |" in text
    for choice in found.choices:
        assert f"| `{choice.key}` |" in text


def test_names_that_mean_something_to_a_configuration_are_kept(tmp_path: Path) -> None:
    """Interpolations, YAML's own words and quotes are names of columns like any other."""
    from omegaconf import OmegaConf

    names = ["${oc.env:HOME}", "yes", "a: b #c"]
    frame = pd.DataFrame({name: RNG.random(60) for name in names})
    frame.to_csv(tmp_path / "own.csv", index=False)
    path = write_domain(look(tmp_path / "own.csv"), tmp_path / "conf")
    composed = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    assert isinstance(composed, dict)
    assert composed["prepare"]["target"]["value"] == names


def test_looking_needs_no_framework() -> None:
    heavy = "{'torch', 'hydra', 'mlflow', 'lightning'}"
    code = f"import sys, seqlab.intake; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
