"""A trained neural family as evaluation and people see it: texts in, texts out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqlab.data.vocabulary import TO_KOREAN, Vocabulary
from seqlab.errors import UserError
from seqlab.families.base import Use
from seqlab.families.gradient.device import chosen
from seqlab.families.seq2seq.model import Seq2Seq
from seqlab.families.seq2seq.search import Hypothesis, beam_search, padded
from seqlab.families.translated import Translated
from seqlab.settings import Decoding, Register, named
from seqlab.threads import pin

# A longer source is cut after a sentence, a clause or a word, and its parts are translated one by one.
LONGEST = 400  # characters


@dataclass(frozen=True)
class Translator:
    """`model` with its vocabulary, ready to translate English to Korean."""

    model: Seq2Seq
    vocabulary: Vocabulary
    device: torch.device
    bf16: bool
    decoding: Decoding

    def in_register(self, register: Register) -> Translator:
        """This translator whatever the register: it speaks as its training pairs do."""
        return self

    def translate(self, texts: Sequence[str]) -> list[str]:
        """One translation for each text, whatever the others are; of nothing, nothing."""
        return self.translated(texts).translations

    def translated(self, texts: Sequence[str]) -> Translated:
        """Their translations; unknown: the words with a character that training never saw."""
        parts = [pieces(text) for text in texts]
        sources = self.vocabulary.sources([part for row in parts for part in row], TO_KOREAN)
        found = self.search(sources)
        made = iter(self.vocabulary.decode([one.symbols for one in found]))
        translations = [" ".join(next(made) for _ in row) for row in parts]
        searched = iter(zip(sources, found, strict=True))
        of_text = [[next(searched) for _ in row] for row in parts]
        return Translated(
            translations,
            lambda: [self.vocabulary.unknown_words(text) for text in texts],
            lambda chosen: self.explained([(texts[i], translations[i], of_text[i]) for i in chosen]),
        )

    def search(self, sources: Sequence[Sequence[int]]) -> list[Hypothesis]:
        """The best hypothesis of each source, in batches of similar length."""
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        found: dict[int, Hypothesis] = {}
        with self.evaluating():
            for start in range(0, len(order), self.decoding.batch):
                part = order[start : start + self.decoding.batch]
                limits = [self.limit(len(sources[i])) for i in part]
                batch = padded([list(sources[i]) for i in part], self.device)
                hypotheses = self.searching(
                    batch,
                    limits,
                    beam_size=self.decoding.beam_size,
                    length_penalty=self.decoding.length_penalty,
                    patience=self.decoding.patience,
                )
                found.update(zip(part, hypotheses, strict=True))
        return [found[i] for i in range(len(sources))]

    @cached_property
    def searching(self) -> Callable[..., list[Hypothesis]]:
        """Beam search with this model."""
        if self.device.type != "cuda":
            return partial(beam_search, self.model)
        # By name: who decodes on a CPU does not depend on how a card records.
        recorded: Callable[..., list[Hypothesis]] = named("seqlab.families.seq2seq.recorded.RecordedSearch")(self.model)
        return recorded

    def limit(self, length: int) -> int:
        """The most symbols of the translation of a source of `length` symbols."""
        return int(self.decoding.longest_factor * length) + self.decoding.longest_constant

    def alignment(self, source: Sequence[int], best: Hypothesis) -> tuple[list[str], list[str], np.ndarray]:
        """The pieces of a source and of its translation, and where the decoder looked for each of these, (T, S).

        Only of a family that attends.
        """
        attending: Any = self.model
        with self.evaluating(), torch.inference_mode():
            weights: Tensor = attending.alignment(*(padded([row], self.device) for row in (list(source), best.symbols)))
        read, written = ([str(self.vocabulary.tokenizer.id_to_token(i)) for i in row] for row in (source, best.symbols))
        return read, written, weights[0].float().cpu().numpy()

    def explained(self, made: Sequence[tuple[str, str, Sequence[tuple[Sequence[int], Hypothesis]]]]) -> str:
        """HTML with a heat map of each alignment, or with the translations alone where a family does not attend.

        made: texts, their translations, and the sources that each became with what was found for them.
        """
        parts = ["<meta charset='utf-8'><style>td{padding:2px 5px;font:12px sans-serif}</style>"]
        if not hasattr(self.model, "alignment"):
            return "\n".join([*parts, *(f"<p>{escape(text)}<br>{escape(one)}</p>" for text, one, _ in made)])
        for text, _, searched in made:
            maps = "".join(f"<table>{heat_map(*self.alignment(*one))}</table>" for one in searched)
            parts.append(f"<p>{escape(text)}</p>{maps}")
        return "\n".join(parts)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                yield
        finally:
            self.model.train(training)


def heat_map(source: Sequence[str], target: Sequence[str], weights: np.ndarray) -> str:
    """Rows of an HTML table: a line for each piece of the target, as dark as the weights (T, S) of the source's."""
    rows = ["<tr><td></td>" + "".join(f"<td>{escape(piece)}</td>" for piece in source) + "</tr>"]
    for piece, row in zip(target, weights, strict=True):
        cells = "".join(f"<td style='background:rgba(0,114,178,{w:.2f})'></td>" for w in row)
        rows.append(f"<tr><td>{escape(piece)}</td>{cells}</tr>")
    return "".join(rows)


def pieces(text: str) -> list[str]:
    """`text` in parts of at most LONGEST characters, cut after the last sentence, clause or word that fits."""
    text, found = " ".join(text.split()), []
    while len(text) > LONGEST:
        ends = ([m.end() for m in re.finditer(mark, text[:LONGEST])] for mark in (r"[.!?] ", r"[,;:] ", " ", ""))
        cut = next(places[-1] for places in ends if places)
        found.append(text[:cut].strip())
        text = text[cut:]
    return [*found, text] if text else found


def translator(model: Seq2Seq, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Translator:
    """`model` with the saved `tensors` and the vocabulary in `folder`, where and how the trainer would run it.

    Sets the process's threads. Raises UserError when the tensors are not exactly those of the model, or nothing says
    how to search.
    """
    if use.decoding is None:
        raise UserError(f"{folder}: a translator; expected settings of its decoding")
    trainer = use.trainer
    vocabulary = Vocabulary.load(folder)
    wanted, found = model.state_dict(), dict(tensors)
    wrong = sorted(set(wanted) ^ set(found)) or [n for n in wanted if tuple(wanted[n].shape) != found[n].shape]
    if wrong:
        raise UserError(f"saved tensors do not fit {type(model).__name__}: {', '.join(wrong)}")
    model.load_state_dict({name: torch.from_numpy(part) for name, part in found.items()})
    pin(trainer.threads)
    device = chosen(trainer)
    return Translator(model.to(device).eval(), vocabulary, device, trainer.precision == "bf16-mixed", use.decoding)
