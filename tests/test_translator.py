"""Vocabulary, pairs, noise and a translator from texts to texts, on a language small enough to learn in seconds."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.data import vocabulary
from seqlab.data.pairs import Denoising, Pairs, noised
from seqlab.data.sequences import Sequences
from seqlab.data.text_pairs import TextPairs
from seqlab.data.vocabulary import END, FIRST_PIECE, MASK, TO_ENGLISH, TO_KOREAN, Vocabulary
from seqlab.errors import UserError
from seqlab.families import loading, saved
from seqlab.families.base import Use
from seqlab.families.saved import Recipe
from seqlab.families.seq2seq import Translator
from seqlab.families.seq2seq.translator import LONGEST, pieces
from seqlab.settings import Budget, Decoding, Noise, Optimizer, TrainerSettings
from seqlab.training import resume
from seqlab.training.gradient.batches import Stream
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.resume import Checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
NUMBERS = {
    "one": "하나",
    "two": "둘",
    "three": "셋",
    "four": "넷",
    "five": "다섯",
    "six": "여섯",
    "seven": "일곱",
    "eight": "여덟",
}
NOISE = Noise(masked=0.3, span=2.0, shuffled=3.0)
DECODING = Decoding(4, 1.0, 1.0, 2.0, 10, 16)
TRAINER = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, None)


def korean(english: str) -> str:
    """Words in reverse order."""
    return " ".join(NUMBERS[word] for word in reversed(english.split()))


def write(folder: Path, seed: int = 0, extra: str = "") -> Path:
    """A prepared domain of numbers."""
    rng = np.random.default_rng(seed)
    sources = list(dict.fromkeys(" ".join(rng.choice(list(NUMBERS), rng.integers(1, 6))) for _ in range(600)))
    (folder / "pairs").mkdir(parents=True)
    (folder / "monolingual").mkdir()
    splits = {"train": sources[:-60], "valid": sources[-60:-30], "test": [*sources[-30:], *([extra] if extra else [])]}
    for split, part in splits.items():
        rows = [
            {"source": text, "references": [korean(text) if text != extra else extra], "origin": "x", "group": text}
            for text in part
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"pairs/{split}.jsonl").write_text(text, encoding="utf-8")
    (folder / "monolingual/en.txt").write_text("".join(f"{text}\n" for text in splits["train"]), encoding="utf-8")
    (folder / "monolingual/ko.txt").write_text(
        "".join(f"{korean(text)}\n" for text in splits["train"]), encoding="utf-8"
    )
    vocabulary.build(folder, 400)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("numbers") / "prepared")


def pairs(prepared: Path, split: str) -> Pairs:
    return Pairs(*(Sequences.load(prepared / f"tokens/{split}/{side}") for side in ("source", "target")))


# Vocabulary


@settings(max_examples=80, deadline=None)
@given(text=st.text(max_size=60))
def test_every_text_survives_its_subwords(prepared: Path, text: str) -> None:
    words = Vocabulary.load(prepared)
    ids = words.encode([text])
    assert words.decode(ids) == [vocabulary.tidy(text)]
    assert all(i > vocabulary.UNKNOWN for i in ids[0])


def test_no_text_spells_a_control_symbol(prepared: Path) -> None:
    words = Vocabulary.load(prepared)
    for control in vocabulary.CONTROLS:
        (ids,) = words.encode([f"one {control} two"])
        assert not set(ids) & set(range(len(vocabulary.CONTROLS)))


def test_unknown_words_hold_characters_that_training_had_not(prepared: Path) -> None:
    words = Vocabulary.load(prepared)
    assert words.unknown_words("one two") == (0, 2)
    assert words.unknown_words("one 龍 two\x00") == (1, 3)
    assert words.unknown_words("") == (0, 0)


def test_equal_texts_give_equal_files_and_test_texts_change_nothing(prepared: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "again", extra="zebra crossing")
    for path in ("tokenizer.json", "tokens/train/source/values.npy", "tokens/train/target/values.npy"):
        assert (other / path).read_bytes() == (prepared / path).read_bytes()


def test_bad_vocabularies_are_named(tmp_path: Path, prepared: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        Vocabulary.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer"):
        Vocabulary.load(tmp_path)
    with pytest.raises(UserError, match="vocabulary_size: found 12"):
        vocabulary.train(["a"], 12)


@pytest.mark.parametrize(
    "line", ['{"source": "", "references": ["하나"]}', '{"source": "a", "references": []}', "x", "[]"]
)
def test_bad_pairs_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"source": "a", "references": ["b"], "origin": "x"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"train\.jsonl, line 2"):
        TextPairs.load(path)
    with pytest.raises(UserError, match="missing"):
        TextPairs.load(tmp_path / "other.jsonl")


# Pairs and noise


def test_batches_hold_pairs_together(prepared: Path) -> None:
    data = pairs(prepared, "train")
    stream = iter(Stream(data, 200, seed=1))
    seen = 0
    words = Vocabulary.load(prepared)
    for _ in range(8):
        batch = next(stream)
        assert batch.source is not None
        assert max(batch.source.numel(), batch.x.numel()) <= 200
        for source, target in zip(words.decode(batch.source.tolist()), words.decode(batch.x.tolist()), strict=True):
            assert korean(source) == target
            seen += 1
    assert seen > 20


def test_buckets_of_pairs_waste_little() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 30, 3000)
    sizes = np.stack([lengths, np.maximum(1, lengths + rng.integers(-3, 4, 3000))], 1)
    target, source = (Sequences.from_arrays([np.full(n, 9, np.uint16) for n in column]) for column in sizes.T)
    batches = Stream(Pairs(source, target), 1000, seed=0).epoch(3)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(3000))
    padded = sum(len(part) * sizes[part].max(0) for part in batches)
    assert (sizes.sum(0) / padded > 0.85).all()
    assert all(len(part) * sizes[part].max() <= 1000 for part in batches)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.lists(st.integers(2, 40), min_size=1, max_size=5))
def test_noise_keeps_the_ends_and_moves_nothing_far(seed: int, rows: list[int]) -> None:
    lengths = np.array(rows)
    mask = np.arange(lengths.max()) < lengths[:, None]
    x = np.where(mask, 1000 + np.arange(lengths.max()), 0)
    x[:, 0] = TO_ENGLISH
    x[np.arange(len(rows)), lengths - 1] = END
    found = noised(x, mask, NOISE, np.random.default_rng(seed))
    assert (found[~mask] == 0).all()
    for before, after, n in zip(x, found, rows, strict=True):
        assert (after[0], after[n - 1]) == (before[0], before[n - 1])
        kept = {int(value): place for place, value in enumerate(after[1 : n - 1], 1) if value != MASK}
        assert set(kept) <= set(before[1 : n - 1].tolist())
        assert all(abs(value - 1000 - place) <= NOISE.shuffled for value, place in kept.items())


def test_noise_masks_its_share_and_is_a_function_of_the_step() -> None:
    text = Sequences.from_arrays([np.full(200, 300, np.uint16) for _ in range(200)])
    data = Denoising(text, NOISE)
    one, again, other = (data.batch(np.arange(200), key) for key in ((1, 7), (1, 7), (1, 8)))
    assert one.source is not None
    np.testing.assert_array_equal(one.source, again.source)
    assert (one.source != other.source).any()
    assert 0.2 < (one.source == MASK).mean() < 0.35
    np.testing.assert_array_equal(one.x, text.batch(np.arange(200)).x[:, 1:])
    whole, late = Stream(data, 4000, seed=5), Stream(data, 4000, seed=5)
    late.start = 3
    straight = list(itertools.islice(whole, 5))
    for resumed, expected in zip(itertools.islice(late, 2), straight[3:], strict=True):
        assert torch.equal(resumed.source, expected.source)


# From texts to texts


def train(prepared: Path, folder: Path, name: str) -> Translator:
    tree = yaml.safe_load((ROOT / f"conf/family/{name}.yaml").read_text())
    target, optimizer = tree.pop("_target_"), Optimizer(**tree.pop("optimizer"))
    small = {"hidden_size": 64, "attention_size": 48, "feedforward_size": 128, "layers": 1, "dropout": 0.0}
    recipe = Recipe(target, tree | {k: v for k, v in small.items() if k in tree}, "gradient", "pairs", 400, None)
    torch.manual_seed(0)
    model = recipe.build()
    data = [pairs(prepared, split) for split in ("train", "valid")]
    fit(
        model,
        loss_of("translate"),
        *data,
        budget=Budget(220, 600, 2),
        optimizer=Optimizer(5e-3, optimizer.weight_decay, optimizer.betas, 1.0, 0.1, 0.0),
        trainer=TRAINER,
        seed=0,
        checkpoint=Checkpoint(folder / "checkpoint", 1e9),
        log=lambda *_: None,
    )
    resume.finish(folder / "checkpoint")
    saved.save(folder, recipe, {k: v.numpy() for k, v in model.state_dict().items()})
    (folder / "tokenizer.json").write_bytes((prepared / "tokenizer.json").read_bytes())
    return loading.load(folder, Use(TRAINER, DECODING))


@pytest.fixture(scope="module")
def folder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "translate"
    train(prepared, folder, "seq2seq_attention")
    return folder


@pytest.fixture(scope="module")
def translator(folder: Path) -> Translator:
    return loading.load(folder, Use(TRAINER, DECODING))


def test_it_learns_to_translate(prepared: Path, translator: Translator) -> None:
    test = TextPairs.load(prepared / "pairs/test.jsonl")
    made = translator.translate(test.sources)
    right = np.mean([one in references for one, references in zip(made, test.references, strict=True)])
    assert right > 0.7
    assert made == [translator.translate([source])[0] for source in test.sources]


def test_attention_finds_the_reversed_word(translator: Translator) -> None:
    (symbols,) = translator.vocabulary.sources(["one two three four"], TO_KOREAN)
    source, target, weights = translator.alignment(symbols, *translator.search([symbols]))
    assert weights.shape == (len(target), len(source))
    assert "<table>" in translator.translated(["one two", "<b>"]).explained([0, 1])
    assert "&lt;b&gt;" in translator.translated(["one", "<b>"]).explained([1])


@pytest.mark.parametrize(
    "text", ["", " ", "\x00\x07", "龍 и 🦖", "one\ttwo\u2028three", "one " * 2500, "a" * 10_000, "<pad> </s>"]
)
def test_any_text_gets_a_translation(translator: Translator, text: str) -> None:
    assert translator.in_register("plain") is translator
    quick = replace(translator, decoding=Decoding(1, 1.0, 1.0, 0.1, 3, 64))
    made = quick.translate(["one two", text, "three"])
    assert len(made) == 3
    assert made[0] == quick.translate(["one two"])[0]
    assert "\n" not in made[1]


@given(st.text(alphabet="ab .,", max_size=2000))
def test_pieces_lose_nothing(text: str) -> None:
    found = pieces(text)
    assert all(0 < len(piece) <= LONGEST for piece in found)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


def test_the_command_line_keeps_the_other_lines(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"one two\nthree \xff four\n\nfour\n")
    command = [
        sys.executable,
        str(ROOT / "pipelines/translate.py"),
        "family=seq2seq_attention",
        f"model={folder.parent}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    made = subprocess.run([*command, str(path)], capture_output=True, text=True, env=environment, check=False)
    lines = made.stdout.split("\n")
    assert made.returncode == 1
    assert (len(lines), lines[1], lines[2]) == (5, "", "")
    assert lines[0]
    assert lines[3]
    assert "line 2: byte 7 is not UTF-8" in made.stderr
    assert "Traceback" not in made.stderr
    path.write_text("\n" * 100_000)
    # A reader that has seen enough, as in `| head -1`.
    with subprocess.Popen(
        [*command, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as piped:
        assert piped.stdout is not None
        assert piped.stderr is not None
        piped.stdout.readline()
        piped.stdout.close()
        assert piped.stderr.read() == b""
    assert piped.returncode == -signal.SIGPIPE
    typed = subprocess.run(command, input="one two\n", capture_output=True, text=True, env=environment, check=False)
    assert (typed.returncode, typed.stdout.strip()) == (0, lines[0])
    missing = subprocess.run([*command, "no-such-file"], capture_output=True, text=True, env=environment, check=False)
    assert missing.returncode == 2
    assert "no-such-file: there is no such file" in missing.stderr


def test_sources_ask_for_a_language(prepared: Path) -> None:
    words = Vocabulary.load(prepared)
    (row,) = words.sources(["one"], TO_KOREAN)
    assert (row[0], row[-1]) == (TO_KOREAN, END)
    assert min(row[1:-1]) >= FIRST_PIECE
    asked = {int(row[0]) for row in Sequences.load(prepared / "tokens/monolingual/train")}
    assert asked == {TO_ENGLISH, TO_KOREAN}
