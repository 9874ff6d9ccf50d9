"""Modified Kneser-Ney beside KenLM: training, scoring and held-out perplexity, one thread, turn by turn.

    python bench/ngram.py [TEXT ...] [--kenlm FOLDER] [--rounds N]

TEXT is a `.txt` file of one sentence a line or a `.jsonl` file with a `text` a row; without any, the King James Bible
that the acquire stage unpacked. FOLDER holds KenLM's lmplz, build_binary and query (built from its repository by cmake;
by default they are looked up on the PATH). Every 20th sentence is held out. Words are lower-cased runs of letters or
single marks; bytes are the text as it is, for which KenLM has no counterpart.

lmplz reads text and counts words; ours is timed from symbol ids and, in the next column, from the same text file.
lmplz writes its model to /dev/null on the clock. Scoring is of the training text: query reads text, and its time on no
text at all is taken off; ours reads symbol ids.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from seqlab.data.sequences import Sequences, Space
from seqlab.families.closed_form.ngram import KneserNey

UNKNOWN, END = 0, 1  # KenLM's <unk> and </s>
NOTHING = Sequences(np.zeros(0, np.uint32), np.zeros(1, np.int64))


def lines(paths: list[Path]) -> list[str]:
    found: list[str] = []
    for path in paths:
        rows = path.read_text(encoding="utf-8").splitlines()
        found += [json.loads(row)["text"] for row in rows] if path.suffix == ".jsonl" else rows
    return found


def words(path: Path, vocabulary: dict[str, int] | None = None) -> tuple[Sequences, dict[str, int]]:
    """Symbol ids of a file of one sentence a line; without a vocabulary, of one made from it."""
    sentences = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    if vocabulary is None:
        vocabulary = {"<unk>": UNKNOWN, "</s>": END}
        for sentence in sentences:
            for word in sentence:
                vocabulary.setdefault(word, len(vocabulary))
    ids = [vocabulary.get(word, UNKNOWN) for sentence in sentences for word in (*sentence, "</s>")]
    offsets = np.cumsum([0] + [len(sentence) + 1 for sentence in sentences])
    return Sequences(np.array(ids, np.uint32), offsets), vocabulary


def fit(train: Sequences, size: int, order: int, prior: KneserNey | None = None) -> KneserNey:
    model = KneserNey(Space("symbols", size), orders=[order], prior_weights=[0.5])
    model.fit(train, NOTHING, prior)
    return model


def fit_text(path: Path, order: int) -> KneserNey:
    data, vocabulary = words(path)
    return fit(data, len(vocabulary), order)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


class KenLM:
    def __init__(self, folder: Path | None, work: Path):
        self.folder, self.work = folder, work

    def run(self, tool: str, *arguments: object, stdin: Path = Path(os.devnull)) -> str:
        name = shutil.which(tool, path=self.folder)
        if name is None:
            raise SystemExit(f"{tool}: not found; name KenLM's folder of programs with --kenlm")
        with open(stdin) as file:
            done = subprocess.run([name, *map(str, arguments)], stdin=file, capture_output=True, text=True, check=True)
        return done.stdout

    def train(self, text: Path, order: int, arpa: Path = Path(os.devnull)) -> None:
        self.run("lmplz", "-o", order, "-S", "2G", "-T", self.work, "--text", text, "--arpa", arpa)

    def perplexity(self, model: Path, text: Path) -> float:
        return float(self.run("query", "-v", "summary", model, stdin=text).split("OOVs:")[1].split()[0])


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}")
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def against_kenlm(train: Path, test: Path, kenlm: KenLM, rounds: int) -> None:
    rows = []
    data, vocabulary = words(train)
    held_out, _ = words(test, vocabulary)
    symbols = len(data.values)
    fit(data, len(vocabulary), 2).score(held_out)  # compiles
    for order in (3, 5):
        arpa, binary = kenlm.work / f"{order}.arpa", kenlm.work / f"{order}.bin"
        kenlm.train(train, order, arpa)
        kenlm.run("build_binary", "probing", arpa, binary)
        model = fit(data, len(vocabulary), order)

        calls: list[Callable[[], object]] = [
            partial(fit, data, len(vocabulary), order),
            partial(fit_text, train, order),
            partial(kenlm.train, train, order),
            partial(model.score, data),
            partial(kenlm.perplexity, binary, train),
            partial(kenlm.run, "query", "-v", "summary", binary),
        ]
        times = np.array([[seconds(call) for call in calls] for _ in range(rounds)])
        ours, read, theirs, score = (median(times[:, i]) for i in range(4))
        query = median(times[:, 4] - times[:, 5])
        perplexity, reference = math.exp(-model.score(held_out).mean()), kenlm.perplexity(binary, test)
        rows.append([str(order), f"{ours:.3f}", f"{read:.2f}", f"{theirs:.2f}", f"{theirs / ours:.1f}x"])
        rows[-1] += [f"{theirs / read:.1f}x", f"{symbols / score / 1e6:.1f}", f"{symbols / query / 1e6:.1f}"]
        rows[-1] += [f"{query / score:.1f}x", f"{perplexity:.8g}", f"{reference:.8g}"]
        rows[-1] += [f"{abs(perplexity / reference - 1):.0e}"]
    columns = ["order", "train s", "from text", "lmplz s", "ratio", "from text", "score M/s", "query M/s", "ratio"]
    table(
        f"words: {symbols:,} to train on, {len(held_out.values):,} held out, a vocabulary of {len(vocabulary):,}",
        [*columns, "perplexity", "KenLM's", "relative difference"],
        rows,
    )


def on_bytes(train: list[str], test: list[str], rounds: int) -> None:
    source, target = (
        Sequences.from_arrays([np.frombuffer(line.encode(), np.uint8) for line in part if line])
        for part in (train, test)
    )
    rows = []
    for order in (4, 6, 8):
        plain = fit(source, 256, order)
        adapted = fit(target, 256, order, plain)
        calls: list[Callable[[], object]] = [
            partial(fit, source, 256, order),
            partial(plain.score, source),
            partial(fit, target, 256, order, plain),
            partial(adapted.score, source),
        ]
        times = np.array([[seconds(call) for call in calls] for _ in range(rounds)])
        train_s, score, adapt, score_adapted = (median(times[:, i]) for i in range(4))
        bits = -plain.score(target).mean() / math.log(2)
        speeds = [f"{len(source.values) / part / 1e6:.1f}" for part in (score, score_adapted)]
        rows.append([str(order), f"{train_s:.2f}", speeds[0], f"{adapt:.2f}", speeds[1], f"{bits:.4f}"])
    columns = ["order", "train s", "score M/s", "adapt s", "adapted M/s", "held-out bits a byte"]
    table(f"bytes: {len(source.values):,} to train on, {len(target.values):,} to adapt to", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="*", metavar="TEXT")
    parser.add_argument("--kenlm", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    texts = lines(arguments.texts or sorted(Path("data/raw/strings/source").rglob("*.jsonl")))
    if not texts:
        raise SystemExit("data/raw/strings/source: no text; run the acquire stage or name files of text")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, part in (("train", [t for i, t in enumerate(texts) if i % 20]), ("test", texts[::20])):
            sentences = [" ".join(re.findall(r"[^\W\d_]+|\d+|[^\w\s]|_", text.lower())) for text in part]
            (work / name).write_text("\n".join(sentences) + "\n", encoding="utf-8")
        on_bytes([t for i, t in enumerate(texts) if i % 20], texts[::20], arguments.rounds)
        if arguments.kenlm or shutil.which("lmplz"):
            against_kenlm(work / "train", work / "test", KenLM(arguments.kenlm, work), arguments.rounds)
        else:
            print("\nlmplz: not found; name KenLM's folder of programs with --kenlm to compare words with it")


if __name__ == "__main__":
    main()
