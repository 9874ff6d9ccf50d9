"""Beam search over any encoder–decoder, for a batch of sources at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor

from seqlab.data.vocabulary import CONTROLS, END, PAD, START
from seqlab.errors import UserError
from seqlab.families.seq2seq.model import Seq2Seq

# Control symbols that are never written.
SILENT = [i for i in range(len(CONTROLS)) if i != END]


@dataclass(frozen=True)
class Hypothesis:
    """symbols: with END. log_prob: of them all, in nats. score: log_prob / length ** length_penalty."""

    symbols: list[int]
    log_prob: float
    score: float


class Standing(NamedTuple):
    """Where the search of B sources stands, each with K hypotheses of at most L symbols: tensors of B rows."""

    limit: Tensor  # (B,), the most symbols, END included
    length: Tensor  # (B,), symbols that each hypothesis has so far
    scores: Tensor  # (B, K), log-probabilities, best first
    written: Tensor  # (B, K, L) symbols, of which the first `length` count
    finished: Tensor  # (B,), how many hypotheses have ended
    top: Tensor  # (B,), the best finished score
    best: Tensor  # (B, L), that hypothesis's symbols without its END
    best_log_prob: Tensor  # (B,)
    best_length: Tensor  # (B,), END included
    done: Tensor  # (B,)

    @classmethod
    def begin(cls, limits: Tensor, beam_size: int, room: int) -> Standing:
        """Before any symbol. room: L."""
        rows = len(limits)
        scores = torch.full((rows, beam_size), float("-inf"), device=limits.device)
        scores[:, 0] = 0.0
        none = torch.zeros_like(limits)
        written = none.new_zeros(rows, beam_size, room)
        return cls(
            limit=limits,
            length=none,
            scores=scores,
            written=written,
            finished=none,
            top=torch.full_like(scores[:, 0], float("-inf")),
            best=written[:, 0],
            best_log_prob=torch.zeros_like(scores[:, 0]),
            best_length=none,
            done=none.bool(),
        )

    def hypotheses(self, rows: Tensor) -> list[Hypothesis]:
        """The best finished ones of `rows` (an index). Raises UserError where none has a probability."""
        parts = (self.best, self.best_length, self.best_log_prob, self.top)
        if not bool((self.best_length[rows] > 0).all()):
            raise UserError("beam search: no translation has a probability above zero; are the weights finite?")
        return [
            Hypothesis([*symbols[: length - 1], END], log_prob, score)
            for symbols, length, log_prob, score in zip(*(part[rows].tolist() for part in parts), strict=True)
        ]


@dataclass(frozen=True)
class Rules:
    """How a beam is searched. sizes: length ** length_penalty of each length from 0, float32. blind: look at no value,
    even where that would save work."""

    beam_size: int
    length_penalty: float
    patience: float | None
    sizes: Tensor
    silent: Tensor
    blind: bool

    @classmethod
    def of(
        cls, beam_size: int, length_penalty: float, patience: float | None, like: Standing, blind: bool = False
    ) -> Rules:
        """Where `like` stands and for as many symbols."""
        device, room = like.limit.device, like.written.shape[2]
        # Nothing of length 0 is ever scored.
        sizes = torch.tensor([1.0, *(float(n**length_penalty) for n in range(1, room + 1))], device=device)
        return cls(beam_size, length_penalty, patience, sizes, torch.tensor(SILENT, device=device), blind)

    @property
    def enough(self) -> float:
        """So many finished hypotheses end a search."""
        exhaustive = self.patience is None or self.length_penalty == 0
        return float("inf") if exhaustive else max(1, round(self.beam_size * cast(float, self.patience)))

    def advance(self, now: Standing, logits: Tensor) -> tuple[Standing, Tensor, Tensor]:
        """One symbol further: logits (B K, V) -> where the search stands then, and of each of its hypotheses which one
        it continues, (B, K), and by which symbol, (B, K). What is done finds nothing any more."""
        size = logits.shape[1]
        considered = min(2 * self.beam_size, self.beam_size * size)
        length = now.length + 1
        last = now.limit == length
        scored, parents, symbols = continuations(logits, now.scores, considered, last, self.silent, self.blind)
        ends = (symbols == END) & scored.isfinite()
        rank = torch.arange(considered, device=logits.device)
        # What ends within the beam is finished; what ends below it is forgotten.
        ending = ends & (rank < self.beam_size) & ~now.done[:, None]
        normalised = torch.where(ending, scored / self.sizes[length][:, None], float("-inf"))
        value, place = normalised.max(1)
        improved, place = value > now.top, place[:, None]
        top = torch.maximum(now.top, value)
        finished = now.finished + ending.sum(1)
        # The best that do not end, in order: of twice the beam at most half can end.
        order = torch.where(symbols == END, considered, 0).add(rank).argsort(1)[:, : self.beam_size]
        scores = torch.where(symbols == END, float("-inf"), scored).gather(1, order)
        # No log-probability grows, so a hypothesis scores best if it costs nothing more and is as long as allowed.
        bound = scores[:, 0] / now.limit.to(scores.dtype) ** self.length_penalty
        origin, goes_on = parents.gather(1, place), parents.gather(1, order)
        added = symbols.gather(1, order)
        slot = torch.arange(now.written.shape[2], device=logits.device) == now.length[:, None, None]
        return (
            Standing(
                limit=now.limit,
                length=length,
                scores=scores,
                written=torch.where(slot, added[..., None], chosen(now.written, goes_on)),
                finished=finished,
                top=top,
                best=torch.where(improved[:, None], chosen(now.written, origin)[:, 0], now.best),
                best_log_prob=torch.where(improved, scored.gather(1, place)[:, 0], now.best_log_prob),
                best_length=torch.where(improved, length, now.best_length),
                done=now.done | (finished >= self.enough) | (top >= bound) | last,
            ),
            goes_on,
            added,
        )


def chosen(written: Tensor, hypotheses: Tensor) -> Tensor:
    """(B, K, L), (B, J) -> (B, J, L)."""
    return written.gather(1, hypotheses[..., None].expand(-1, -1, written.shape[2]))


@torch.inference_mode()
def beam_search(
    model: Seq2Seq, source: Tensor, limits: list[int], *, beam_size: int, length_penalty: float, patience: float | None
) -> list[Hypothesis]:
    """The best translation found of each source (B, S).

    At each step the `beam_size` best continuations of a source's hypotheses are taken; those that end are finished, and
    the best that do not end go on, as many (Sutskever, Vinyals and Le 2014). A source is done when beam_size * patience
    hypotheses are finished (Kasai et al. 2022), or when none that goes on can beat the best finished one any more; with
    patience None, or without a length penalty, only then. limits: the most symbols of each translation, END included,
    which is forced there. beam_size 1 is greedy search. Of two equal scores the earlier finished one wins.
    """
    device = source.device
    found: dict[int, Hypothesis] = {}
    numbers = torch.arange(len(source), device=device)  # of the sources that are not done
    now = Standing.begin(torch.tensor(limits, device=device), beam_size, max(limits))
    rules = Rules.of(beam_size, length_penalty, patience, now)
    inputs = torch.full((len(source) * beam_size,), START, device=device)
    state = model.start(model.encode(source), beam_size)
    while True:
        state, h = model.step(state, inputs)
        now, parents, symbols = rules.advance(now, model.logits(h))
        rows = parents + torch.arange(len(parents), device=device)[:, None] * beam_size
        kept, leaving = ((~now.done).nonzero()[:, 0], now.done.nonzero()[:, 0])
        if len(leaving):
            found.update(zip(numbers[leaving].tolist(), now.hypotheses(leaving), strict=True))
            if not len(kept):
                return [found[number] for number in range(len(source))]
            numbers, rows, symbols = numbers[kept], rows[kept], symbols[kept]
            now = Standing(*(part[kept] for part in now))
        state = state.reordered(rows.flatten(), kept if len(leaving) else None)
        inputs = symbols.flatten()


def continuations(
    logits: Tensor, scores: Tensor, count: int, last: Tensor, silent: Tensor, blind: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best one-symbol continuations of each source: log-probabilities, hypotheses they continue, symbols.

    logits: (B K, V). scores: (B, K). last: (B,), where only END may follow. blind: as of Rules.
    """
    log_probs = logits.float().log_softmax(1)  # three times as fast as the logarithm of a sum, for all that it writes
    log_probs.index_fill_(1, silent, float("-inf"))
    if blind or last.any():
        ends = log_probs[:, END].clone()
        log_probs.masked_fill_(last.repeat_interleave(scores.shape[1])[:, None], float("-inf"))
        log_probs[:, END] = ends
    each = min(count, logits.shape[1])
    # Nothing below a hypothesis's own best `count` can be among the best of its source.
    values, symbols = log_probs.topk(each, 1)
    values = (values.view(*scores.shape, each) + scores[..., None]).flatten(1)
    symbols = symbols.view(*scores.shape, each).flatten(1)
    found, place = values.topk(count, 1)
    return found, place // each, symbols.gather(1, place)


def padded(rows: list[list[int]], device: torch.device) -> Tensor:
    """(B, S), PAD on the right."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows], device=device)
