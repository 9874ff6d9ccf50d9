"""The whole past: what a query costs, in time and memory, beside a model of a bounded past, turn by turn.

    python bench/naive.py [--data FOLDER] [--rounds N]

FOLDER holds the prepared strings (default data/prepared/strings). Suffixes stand beside the n-grams of order 6, which
see five symbols, on growing parts of the same text, scoring the same validation text; bits are those of validation. A
second table walks down the length of the past that a query has behind it: its time, and the entries that a table of all
pasts of that length would need in place of the automaton.

Regressions stand beside one least-squares problem for each step, solved by numpy.linalg.solve on its Gram matrix, on
white noise of several shapes; their last column is the time of one prediction after the whole past.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.families.closed_form.ngram import KneserNey
from seqlab.families.closed_form.suffix import SuffixModel
from seqlab.families.closed_form.whole_past import Evidence, regress

BYTES = Space("symbols", 256)
ORDER = 6


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def turns(calls: list[Callable[[], object]], rounds: int) -> list[float]:
    """Medians, after one round that compiles and warms."""
    for call in calls:
        call()
    return [median(column) for column in zip(*([seconds(call) for call in calls] for _ in range(rounds)), strict=True)]


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}")
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def fit_suffixes(train: Sequences, valid: Sequences) -> SuffixModel:
    model = SuffixModel(BYTES, mixings=[0.0])
    model.fit(train, valid)
    return model


def fit_ngrams(train: Sequences, valid: Sequences) -> KneserNey:
    model = KneserNey(BYTES, orders=[ORDER], prior_weights=[0.0])
    model.fit(train, valid)
    return model


def on_symbols(train: Sequences, valid: Sequences, rounds: int) -> None:
    nothing = Sequences(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    rows = []
    for share in (16, 4, 1):
        part = train.subset(np.arange(0, len(train), share))
        whole, bounded = fit_suffixes(part, nothing), fit_ngrams(part, nothing)
        calls: list[Callable[[], object]] = [
            partial(fit_suffixes, part, nothing),
            partial(fit_ngrams, part, nothing),
            partial(whole.score, valid),
            partial(bounded.score, valid),
        ]
        fit, fit_bounded, score, score_bounded = turns(calls, rounds)
        symbols, asked = len(part.values), len(valid.values)
        trie = sum(np.asarray(field).nbytes for field in bounded._model)
        rows.append([f"{symbols:,}", f"{fit:.2f}", f"{fit_bounded / fit:.2f}x", f"{asked / score:,.0f}"])
        rows[-1] += [f"{score_bounded / score:.2f}x", f"{whole.texts[0].bytes / symbols:.1f}", f"{trie / symbols:.1f}"]
        rows[-1] += [f"{-model.score(valid).mean() / math.log(2):.4f}" for model in (whole, bounded)]
    columns = ["symbols", "fit s", "of n-grams", "queries/s", "of n-grams", "bytes a symbol", "n-grams' bytes"]
    table(f"suffixes beside n-grams of order {ORDER}", [*columns, "bits", "n-grams' bits"], rows)

    model = SuffixModel(BYTES, mixings=[0.0])
    growth = model.fit(train, valid)["growth"]
    longest = train[int(train.lengths.argmax())]
    rows = []
    curves = growth["t"], growth["counts"]["parameters"], growth["shares"]["known_pasts"]
    for t, entries, known in list(zip(*curves, strict=True))[::4]:
        # The text holds this past as it stands, so that all of it is matched: the most that a query can cost.
        past = longest[:t]
        query = Sequences.from_arrays([past] * max(1, 20_000 // t))
        took = turns([partial(model.score, query)], rounds)[0] / len(query.values)
        rows.append([str(t), f"{took * 1e6:.2f}", f"{entries:,}", "" if known is None else f"{known:.1%}"])
    table("by the length of the past", ["past up to", "µs a query, at most", "n-grams of a table", "known"], rows)


def one_by_one(data: np.ndarray, ridge: float) -> np.ndarray:
    """The coefficients of the last of T separate regressions. data: (S, T, C)."""
    sequences, steps, channels = data.shape
    flat = data.reshape(sequences, -1)
    for t in range(steps):
        z = np.concatenate([np.ones((sequences, 1)), flat[:, : t * channels]], axis=1)
        gram = z.T @ z + ridge * np.eye(z.shape[1])
        coefficients = np.linalg.solve(gram, z.T @ data[:, t])
    return coefficients


def predict(last: np.ndarray, past: np.ndarray, times: int) -> None:
    for _ in range(times):
        last @ past


def on_vectors(rounds: int) -> None:
    rows = []
    for sequences, steps, channels in ((300, 29, 12), (800, 240, 1), (100, 100, 6)):
        data = np.random.default_rng(0).standard_normal((sequences, steps, channels)).astype(np.float32)
        offsets = np.arange(sequences + 1) * steps
        evidence = Evidence(data.reshape(-1, channels), offsets, np.ones(sequences))
        fit = partial(regress, evidence, np.zeros(channels), np.ones(channels), 1.0, steps)
        together, separate = turns([fit, partial(one_by_one, data.astype(np.float64), 1.0)], rounds)
        model = fit()
        last, past = model.coefficients[-channels:, : 1 + (steps - 1) * channels], np.ones(1 + (steps - 1) * channels)
        difference = np.abs(last.T - one_by_one(data.astype(np.float64), 1.0)).max()
        took = turns([partial(predict, last, past, 1000)], rounds)[0] / 1000
        parameters = (model.coefficients != 0).sum()
        rows.append([f"{sequences} x {steps} x {channels}", f"{together * 1e3:.1f}", f"{separate / together:.1f}x"])
        rows[-1] += [f"{difference:.0e}", f"{parameters:,}", f"{model.coefficients.nbytes:,}", f"{took * 1e6:.1f}"]
    columns = ["S x T x C", "fit ms", "over T solves", "difference", "parameters", "bytes", "µs a prediction"]
    table("all T regressions from one factor beside one after the other", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/prepared/strings"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    on_vectors(arguments.rounds)
    train, valid = (Sequences.load(arguments.data / "target" / split) for split in ("train", "valid"))
    on_symbols(train, valid, arguments.rounds)


if __name__ == "__main__":
    main()
