"""One subword vocabulary for two languages: byte-pair encoding (Sennrich, Haddow and Birch 2016), bytes for the rest.

Ids begin with the control symbols, which no text can spell: the model file holds them as entries that no merge makes.
The first symbol of a source says what is wanted of it (Johnson et al. 2017): its translation, or in denoising itself.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seqlab.artifacts import write_text
from seqlab.data.sequences import Sequences
from seqlab.data.text_pairs import read_pairs
from seqlab.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROLS = ("<pad>", "<s>", "</s>", "<mask>", "<unk>", "<to-en>", "<to-ko>")
PAD, START, END, MASK, UNKNOWN, TO_ENGLISH, TO_KOREAN = range(len(CONTROLS))
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
FIRST_PIECE = len(CONTROLS) + len(BYTES)
NAME = "tokenizer.json"
# Of the monolingual sentences, chosen by content: what pretraining validates on.
HELD_OUT_SHARE = 0.02


class Vocabulary:
    """Text to ids and back."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Raises UserError when tokenizer.json is missing or is no tokeniser."""
        from tokenizers import Tokenizer

        path = folder / NAME
        if not path.exists():
            raise UserError(f"{path}: missing; run the prepare stage")
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises no narrower type
            raise UserError(f"{path}: not a tokenizer: {error}") from None

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without control symbols."""
        return [found.ids for found in self.tokenizer.encode_batch_fast([tidy(text) for text in texts])]

    def sources(self, texts: Sequence[str], wanted: int) -> list[list[int]]:
        """What an encoder reads. wanted: TO_ENGLISH or TO_KOREAN."""
        return [[wanted, *ids, END] for ids in self.encode(texts)]

    def targets(self, texts: Sequence[str]) -> list[list[int]]:
        """What a decoder writes."""
        return [[*ids, END] for ids in self.encode(texts)]

    def decode(self, ids: Iterable[Sequence[int]]) -> list[str]:
        """Texts; control symbols are dropped, and bytes that are no UTF-8 become U+FFFD."""
        kept = [[i for i in row if i >= len(CONTROLS)] for row in ids]
        return [text.strip() for text in self.tokenizer.decode_batch(kept, skip_special_tokens=False)]

    def unknown_words(self, text: str) -> tuple[int, int]:
        """How many words of `text` hold a character that the training split had not, and how many words it has."""
        words = tidy(text).split()
        spelt = self.tokenizer.encode_batch_fast(words)
        return sum(any(len(CONTROLS) <= i < FIRST_PIECE for i in word.ids) for word in spelt), len(words)


def tidy(text: str) -> str:
    """Canonical Unicode on one line, single spaces, without control and unassigned characters."""
    text = "".join(
        " " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c
        for c in unicodedata.normalize("NFC", text)
        if unicodedata.category(c) not in ("Cf", "Cs", "Cn")
    )
    return " ".join(text.split())


def train(texts: Iterable[str], size: int) -> Tokenizer:
    """A vocabulary of at most `size` entries, control symbols and bytes included; equal texts give an equal one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if size <= FIRST_PIECE:
        raise UserError(f"vocabulary_size: found {size}, expected more than {FIRST_PIECE} control symbols and bytes")
    learning = Tokenizer(models.BPE())
    learning.pre_tokenizer = pre_tokenizers.Metaspace()
    room = size - FIRST_PIECE
    # Half of the room at most goes to single characters: rarer ones are spelt in bytes.
    trainer = trainers.BpeTrainer(
        vocab_size=room, limit_alphabet=max(1, room // 2), min_frequency=2, show_progress=False
    )
    learning.train_from_iterator((tidy(text) for text in texts), trainer)
    learnt = json.loads(learning.to_str())["model"]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)
    found = Tokenizer(
        models.BPE(
            vocab={piece: i for i, piece in enumerate([*CONTROLS, *BYTES, *pieces])},
            merges=[tuple(pair) for pair in learnt["merges"]],
            byte_fallback=True,
            unk_token=CONTROLS[UNKNOWN],
        )
    )
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return found


def build(folder: Path, size: int) -> None:
    """Train on the training split under `folder` and write tokenizer.json and tokens/.

    Read: pairs/{train,valid}.jsonl and monolingual/{en,ko}.txt. Written, as Sequences: tokens/{train,valid}/source and
    /target, one pair for each reference; tokens/monolingual/{train,valid}, sources that ask for themselves.
    """
    pairs = {split: read_pairs(folder / f"pairs/{split}.jsonl") for split in ("train", "valid")}
    texts = [text for row in pairs["train"] for text in (row["source"], *row["references"])]
    tokenizer = train(texts, size)
    write_text(folder / NAME, tokenizer.to_str(pretty=False))
    vocabulary = Vocabulary(tokenizer)
    dtype = np.uint16 if size <= 1 << 16 else np.uint32

    def save(rows: list[list[int]], name: str) -> None:
        arrays = [np.array(row, dtype) for row in rows] or [np.zeros(0, dtype)]
        Sequences.from_arrays(arrays).save(folder / "tokens" / name)

    for split, rows in pairs.items():
        flat = [(row["source"], reference) for row in rows for reference in row["references"]]
        save(vocabulary.sources([source for source, _ in flat], TO_KOREAN), f"{split}/source")
        save(vocabulary.targets([target for _, target in flat]), f"{split}/target")
    alone: dict[str, list[list[int]]] = {"train": [], "valid": []}
    for language, wanted in (("en", TO_ENGLISH), ("ko", TO_KOREAN)):
        lines = (folder / f"monolingual/{language}.txt").read_text(encoding="utf-8").split("\n")[:-1]
        for line, ids in zip(lines, vocabulary.sources(lines, wanted), strict=True):
            alone["valid" if _held_out(line) else "train"].append(ids)
    for split, found in alone.items():
        save(found, f"monolingual/{split}")


def _held_out(line: str) -> bool:
    return int.from_bytes(hashlib.sha256(line.encode()).digest()[:8], "big") < HELD_OUT_SHARE * 2**64
