"""Beam search over any encoder–decoder, for a batch of sources at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from seqlab.data.vocabulary import CONTROLS, END, PAD, START
from seqlab.families.seq2seq.model import Seq2Seq

# Control symbols that are never written.
SILENT = [i for i in range(len(CONTROLS)) if i != END]


@dataclass(frozen=True)
class Hypothesis:
    """symbols: with END. log_prob: of them all, in nats. score: log_prob / length ** length_penalty."""

    symbols: list[int]
    log_prob: float
    score: float


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
    device, size = source.device, model.space.size
    exhaustive = patience is None or length_penalty == 0
    enough = float("inf") if exhaustive else max(1, round(beam_size * cast(float, patience)))
    best: list[Hypothesis | None] = [None] * len(source)
    numbers = list(range(len(source)))  # of the sources that are not done
    limit = torch.tensor(limits, device=device)
    finished = torch.zeros(len(source), dtype=torch.int64, device=device)
    top = torch.full((len(source),), float("-inf"), device=device)  # the best finished score
    scores = torch.full((len(source), beam_size), float("-inf"), device=device)
    scores[:, 0] = 0.0
    written = torch.zeros(len(source), beam_size, 0, dtype=torch.int64, device=device)
    inputs = torch.full((len(source) * beam_size,), START, device=device)
    silent = torch.tensor(SILENT, device=device)
    considered = min(2 * beam_size, beam_size * size)
    state = model.start(model.encode(source), beam_size)
    for length in range(1, max(limits) + 1):
        state, h = model.step(state, inputs)
        scored, parents, symbols = continuations(model.logits(h), scores, considered, limit == length, silent)
        ends = (symbols == END) & scored.isfinite()
        rank = torch.arange(considered, device=device)
        # What ends within the beam is finished; what ends below it is forgotten.
        ending = ends & (rank < beam_size)
        normalised = torch.where(ending, scored / length**length_penalty, float("-inf"))
        value, place = normalised.max(1)
        improved = value > top
        top = torch.maximum(top, value)
        finished += ending.sum(1)
        for row in improved.nonzero()[:, 0].tolist():
            origin = int(parents[row, place[row]])
            log_prob = float(scored[row, place[row]])
            symbols_so_far = [*written[row, origin].tolist(), END]
            best[numbers[row]] = Hypothesis(symbols_so_far, log_prob, float(value[row]))
        # The best that do not end, in order: of twice the beam at most half can end.
        order = torch.where(symbols == END, considered, 0).add(rank).argsort(1)[:, :beam_size]
        scores = torch.where(symbols == END, float("-inf"), scored).gather(1, order)
        parents, symbols = parents.gather(1, order), symbols.gather(1, order)
        written = torch.cat([written.gather(1, parents[..., None].expand(-1, -1, length - 1)), symbols[..., None]], 2)
        # No log-probability grows, so a hypothesis scores best if it costs nothing more and is as long as allowed.
        bound = scores[:, 0] / limit.to(scores.dtype) ** length_penalty
        done = (finished >= enough) | (top >= bound) | (limit == length)
        kept = (~done).nonzero()[:, 0]
        if not len(kept):
            break
        rows = parents + torch.arange(len(parents), device=device)[:, None] * beam_size
        sources = None
        if len(kept) < len(done):
            sources = kept
            numbers = [numbers[row] for row in kept.tolist()]
            rows, symbols, scores, written = rows[kept], symbols[kept], scores[kept], written[kept]
            limit, finished, top = limit[kept], finished[kept], top[kept]
        state = state.reordered(rows.flatten(), sources)
        inputs = symbols.flatten()
    assert all(found is not None for found in best)
    return [found for found in best if found is not None]


def continuations(
    logits: Tensor, scores: Tensor, count: int, last: Tensor, silent: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The `count` best one-symbol continuations of each source: log-probabilities, hypotheses they continue, symbols.

    logits: (B K, V). scores: (B, K). last: (B,), where only END may follow.
    """
    log_probs = logits.float().log_softmax(1)  # three times as fast as the logarithm of a sum, for all that it writes
    log_probs.index_fill_(1, silent, float("-inf"))
    if last.any():
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
