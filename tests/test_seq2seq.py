"""The translation families and beam search against brute force, loops and torch's own modules."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from unread import Unread

from seqlab.data.pairs import Denoising, Pairs
from seqlab.data.sequences import Sequences, Space
from seqlab.data.vocabulary import CONTROLS, END, PAD, START
from seqlab.errors import UserError
from seqlab.families import saved
from seqlab.families.attention import attend, rotated
from seqlab.families.saved import Recipe
from seqlab.families.seq2seq import DecoderState, Memory, Seq2Seq, beam_search, recorded
from seqlab.families.seq2seq.recorded import RecordedSearch
from seqlab.families.seq2seq.search import padded
from seqlab.families.seq2seq_attention import Seq2SeqAttention
from seqlab.settings import Budget, Hiding, Noise, Objective, Optimizer, Strategy, TrainerSettings
from seqlab.training.gradient.train import train
from seqlab.training.job import Job
from seqlab.training.resume import Checkpoint

CONF = Path(__file__).parents[1] / "conf" / "family"
FAMILIES = ["seq2seq_rnn", "seq2seq_attention", "seq2seq_transformer"]
SIZE = 40
CPU = torch.device("cpu")


def recipe_of(name: str, **changes: Any) -> Recipe:
    """Small, as the yaml has it otherwise."""
    parameters = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    target = parameters.pop("_target_")
    del parameters["optimizer"]
    small = {"hidden_size": 32, "attention_size": 24, "feedforward_size": 48, "dropout": 0.0}
    parameters |= {key: value for key, value in (small | changes).items() if key in parameters}
    return Recipe(target, parameters, "gradient", "pairs", SIZE, None)


def build(name: str, seed: int = 0, **changes: Any) -> Seq2Seq:
    """With logits far enough apart for searches to differ."""
    torch.manual_seed(seed)
    model: Seq2Seq = recipe_of(name, **changes).build()
    with torch.no_grad():
        model.bias.normal_()
    return model


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Seq2Seq:
    return build(request.param).eval()


def sentences(seed: int, lengths: list[int]) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [[*rng.integers(len(CONTROLS), SIZE, n - 1).tolist(), END] for n in lengths]


SOURCES = sentences(1, [7, 1, 12, 4, 4, 9])
TARGETS = sentences(2, [5, 3, 1, 11, 8, 6])


def batch(rows: list[list[int]]) -> Tensor:
    return padded(rows, CPU)


# The contract


def test_probabilities_sum_to_one(model: Seq2Seq) -> None:
    source = batch(SOURCES[:1]).expand(SIZE, -1)
    target = torch.tensor([[9, 8, symbol] for symbol in range(SIZE)])
    target[PAD, 2] = 9  # padding is no symbol to ask for: its share is what the others leave
    found = model.log_prob(source, target)[:, 2].exp()
    logits = model.teacher_forced(source[:1], target[1:2])[0]
    assert found[1:].sum().item() == pytest.approx(1 - logits[2].softmax(-1)[PAD].item(), abs=1e-5)


def test_log_prob_does_not_depend_on_padding_or_on_the_batch(model: Seq2Seq) -> None:
    together = model.log_prob(batch(SOURCES), batch(TARGETS))
    assert together.dtype == torch.float32
    for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = model.log_prob(batch([source]), batch([target]))[0]
        torch.testing.assert_close(together[i, : len(target)], alone, rtol=1e-5, atol=1e-5)
        assert (together[i, len(target) :] == 0).all()


def test_a_symbol_depends_on_the_source_and_on_the_past_alone(model: Seq2Seq) -> None:
    source, target = batch(SOURCES[2:3]), batch(TARGETS[3:4])
    before = model.log_prob(source, target)
    changed = target.clone()
    changed[0, 6:-1] = 7
    torch.testing.assert_close(model.log_prob(source, changed)[:, :6], before[:, :6], rtol=1e-6, atol=1e-6)
    other = source.clone()
    other[0, 3] = 7 if other[0, 3] != 7 else 8
    assert not torch.allclose(model.log_prob(other, target), before)


def test_cached_equals_uncached_whatever_the_batch(model: Seq2Seq) -> None:
    """Three hypotheses of each source, reordered at every step and one source leaving halfway."""
    source, beams = batch(SOURCES), 3
    rng = np.random.default_rng(0)
    with torch.inference_mode():
        state = model.start(model.encode(source), beams)
        kept = torch.arange(len(source))
        written = torch.full((len(source) * beams, 1), START)
        for step in range(8):
            state, h = model.step(state, written[:, -1])
            owner = kept.repeat_interleave(beams)
            # The decoder over all positions; what follows END is of no interest here, so any symbols will do.
            full = model.decode(model.encode(source[owner]), written)[:, -1]
            torch.testing.assert_close(h, full, rtol=1e-5, atol=1e-5)
            stay = torch.arange(len(kept)) if step != 3 else torch.tensor([i for i in range(len(kept)) if i != 1])
            rows = stay.repeat_interleave(beams) * beams + torch.as_tensor(rng.integers(0, beams, len(stay) * beams))
            state = state.reordered(rows, None if len(stay) == len(kept) else stay)
            kept = kept[stay]
            fresh = torch.as_tensor(rng.integers(len(CONTROLS), SIZE, (len(rows), 1)))
            written = torch.cat([written[rows], fresh], 1)


def test_gradient_reaches_every_parameter(model: Seq2Seq) -> None:
    model.train().loss(batch(SOURCES), batch(TARGETS)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A key's bias adds the same to all scores of a query.
        if not name.endswith("_k.bias"):
            assert parameter.grad.abs().max() > 0, name


def test_layer_groups_hold_every_parameter_once(model: Seq2Seq) -> None:
    held = [id(parameter) for _, group in model.layer_groups() for parameter in group]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())


def test_loss_is_torchs_with_label_smoothing_and_its_gradient(model: Seq2Seq) -> None:
    """The reference: cross-entropy against the distribution that smoothing makes of the truth, by its definition."""
    source, target = batch(SOURCES), batch(TARGETS)
    model.train()
    model.label_smoothing = 0.1
    names, parameters = zip(*model.named_parameters(), strict=True)
    loss = model.loss(source, target)
    found = torch.autograd.grad(loss, parameters)
    logits, symbols = model.teacher_forced(source, target)
    truth = 0.9 * nn.functional.one_hot(symbols, SIZE) + 0.1 / SIZE
    reference = -(truth * logits.log_softmax(-1)).sum()
    torch.testing.assert_close(loss, reference)
    for name, own, other in zip(names, found, torch.autograd.grad(reference, parameters), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5, msg=name)
    module = nn.CrossEntropyLoss(reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(loss, module(logits, symbols))
    model.eval()
    torch.testing.assert_close(model.loss(source, target), -model.log_prob(source, target).sum())


def test_same_seed_same_weights() -> None:
    for name in FAMILIES:
        one, two, other = (build(name, seed).state_dict() for seed in (5, 5, 6))
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert not all(torch.equal(one[key], other[key]) for key in one)


def test_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UserError, match="pairs"):
        Recipe("seqlab.families.seq2seq_rnn.Seq2SeqRNN", PARAMETERS, "gradient", "symbols", SIZE, None).build()
    with pytest.raises(UserError, match="heads"):
        build("seq2seq_transformer", heads=5)


PARAMETERS = {"hidden_size": 8, "layers": 1, "dropout": 0.0, "label_smoothing": 0.0}


# Attention


def test_additive_attention_equals_loops() -> None:
    model = build("seq2seq_attention").eval()
    assert isinstance(model, Seq2SeqAttention)
    source = batch(SOURCES)
    with torch.no_grad():
        memory = model.encode(source)
        state = torch.randn(len(source), 2, model.width)
        context, weights = model.attend(memory, state)
        w, b = model.query.weight, model.query.bias
        u, v = model.key.weight, model.energy.weight[0]
        for row, ids in enumerate(SOURCES):
            for k in range(2):
                energies = [
                    float(v @ torch.tanh(w @ state[row, k] + b + u @ memory[0][row, i])) for i in range(len(ids))
                ]
                total = sum(np.exp(e) for e in energies)
                gathered = sum(np.exp(e) / total * memory[0][row, i].numpy() for i, e in enumerate(energies))
                np.testing.assert_allclose(context[row, k], gathered, rtol=1e-4, atol=1e-5)
                assert (weights[row, k, len(ids) :] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # by torch's kernel, and by plain products
@pytest.mark.parametrize("causal", [True, False])
def test_dot_product_attention_equals_loops(causal: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 4, dtype=dtype) for _ in range(3))
    real = [5, 3]
    bias = torch.zeros(2, 1, 1, 5)
    bias[1, ..., 3:] = float("-inf")
    found = (attend(q, k, v, causal=True) if causal else attend(q, k, v, bias)).float()
    q, k, v = q.float(), k.float(), v.float()
    exact = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.03, "atol": 0.03}
    for b, h, t in itertools.product(range(2), range(3), range(5)):
        seen = range(t + 1) if causal else range(real[b])
        scores = [float(q[b, h, t] @ k[b, h, s]) / 2 for s in seen]
        total = sum(np.exp(score) for score in scores)
        expected = sum(np.exp(score) / total * v[b, h, s] for score, s in zip(scores, seen, strict=True))
        torch.testing.assert_close(found[b, h, t], expected, **exact)


def test_positions_are_turns_of_the_plane() -> None:
    """Su et al. (2021), eq. 13 and 15."""
    model, x = build("seq2seq_transformer"), torch.randn(2, 5, 24, dtype=torch.float64)
    model.width, model.heads = 24, 3
    found = rotated(x, model.rotation(7, 5).double())
    angles = (7 + torch.arange(5.0, dtype=torch.float64))[:, None] / 10_000 ** (2 * torch.arange(4.0) / 8)
    expected = torch.complex(x[..., ::2], x[..., 1::2]) * torch.exp(1j * angles).repeat(1, 3)
    torch.testing.assert_close(found, torch.view_as_real(expected).flatten(-2), rtol=1e-6, atol=1e-6)
    # What two positions have to do with each other depends on their distance alone.
    later = rotated(x, model.rotation(20, 5).double())
    torch.testing.assert_close(later @ later.transpose(1, 2), found @ found.transpose(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["seq2seq_attention", "seq2seq_transformer"])
def test_alignment_rows_sum_to_one_over_the_source(name: str) -> None:
    model = build(name).eval()
    with torch.no_grad():
        found = model.alignment(batch(SOURCES), batch(TARGETS))
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:2]))
    for row, ids in enumerate(SOURCES):
        assert (found[row, :, len(ids) :] == 0).all()


# Beam search


class Toy(Seq2Seq):
    """P(next | last two symbols, first symbol of the source), from a table. Symbols: END and those after CONTROLS."""

    def __init__(self, symbols: int, seed: int):
        size = len(CONTROLS) + symbols
        super().__init__(Space("pairs", size), None, width=size, label_smoothing=0.0)
        self.table = torch.randn(size, size, size, size, generator=torch.Generator().manual_seed(seed)) * 2
        self.embedding.weight.data = torch.eye(size)
        self.spoken = [END, *range(len(CONTROLS), size)]

    def encode(self, source: Tensor) -> Memory:
        return (source[:, 0],)

    def decode(self, memory: Memory, inputs: Tensor) -> Tensor:
        before = torch.cat([torch.zeros_like(inputs[:, :1]), inputs[:, :-1]], 1)
        return self.table[memory[0][:, None], before, inputs]

    def start(self, memory: Memory, beams: int) -> DecoderState:
        return DecoderState(
            (), (torch.zeros(len(memory[0]) * beams, dtype=torch.int64), memory[0].repeat_interleave(beams)), 0
        )

    def step(self, state: DecoderState, inputs: Tensor) -> tuple[DecoderState, Tensor]:
        before, first = state.past
        return state.after(inputs, first), self.table[first, before, inputs]

    def best(self, source: list[int], longest: int, penalty: float) -> tuple[float, list[int]]:
        """By trying every sequence of at most `longest` symbols."""
        found = []
        for length in range(1, longest + 1):
            for inner in itertools.product(self.spoken[1:], repeat=length - 1):
                symbols = [*inner, END]
                log_prob = self.log_prob(torch.tensor([source]), torch.tensor([symbols])).sum().item()
                found.append((log_prob / length**penalty, symbols))
        return max(found)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), penalty=st.sampled_from([0.0, 0.6, 1.0]), patience=st.sampled_from([None, 10.0]))
def test_a_beam_as_wide_as_the_vocabulary_finds_the_best_of_two_symbols(
    seed: int, penalty: float, patience: float | None
) -> None:
    toy = Toy(5, seed)
    source = [[7, END], [8, END], [9, 9, END]]
    options = {"beam_size": toy.space.size, "length_penalty": penalty, "patience": patience}
    found = beam_search(toy, batch(source), [2, 2, 2], **options)
    for row, one in zip(source, found, strict=True):
        score, symbols = toy.best(row, 2, penalty)
        assert one.symbols == symbols
        assert one.score == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_as_wide_as_all_prefixes_finds_the_best_of_four_symbols(seed: int, penalty: float) -> None:
    toy = Toy(3, seed)
    source = [[7, END], [8, END], [9, END]]
    found = beam_search(toy, batch(source), [4, 3, 4], beam_size=4**3, length_penalty=penalty, patience=None)
    for row, longest, one in zip(source, [4, 3, 4], found, strict=True):
        score, symbols = toy.best(row, longest, penalty)
        assert (one.symbols, one.score) == (symbols, pytest.approx(score, rel=1e-5))


def test_greedy_takes_the_most_probable_symbol() -> None:
    toy = Toy(6, seed=3)
    found = beam_search(toy, batch([[7, END]]), [12], beam_size=1, length_penalty=1.0, patience=1.0)[0]
    written: list[int] = []
    while not written or written[-1] != END:
        past = [START, *written]
        row = toy.table[7, ([0, *past])[-2], past[-1]]
        written.append(END if len(written) == 11 else max(toy.spoken, key=lambda symbol: float(row[symbol])))
    assert found.symbols == written


def test_a_translation_does_not_depend_on_its_batch(model: Seq2Seq) -> None:
    sources = sentences(5, [3, 9, 1, 14, 6, 6, 2, 11])
    limits = [2 * len(row) + 5 for row in sources]
    options = {"beam_size": 4, "length_penalty": 1.0, "patience": 1.0}
    together = beam_search(model, batch(sources), limits, **options)
    for source, limit, one in zip(sources, limits, together, strict=True):
        alone = beam_search(model, batch([source]), [limit], **options)[0]
        assert alone.symbols == one.symbols
        assert alone.score == pytest.approx(one.score, abs=1e-5)
    assert len({len(one.symbols) for one in together}) > 1


class AsWritten:
    """In the place of a card's records."""

    def __init__(self) -> None:
        self.replays = 0

    def as_written(self, run: Any) -> None:
        run()

    def record(self, run: Any) -> tuple[Any, None]:
        def replay() -> None:
            self.replays += 1
            with Unread():
                run()

        return SimpleNamespace(replay=replay), None


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("patience", [None, 1.0, 2.0])
def test_steps_that_a_card_records_find_the_same(model: Seq2Seq, penalty: float, patience: float | None) -> None:
    """In batches of one shape and of others, in turn: nothing stays of one in the next."""
    options = {"beam_size": 4, "length_penalty": penalty, "patience": patience}
    search = RecordedSearch(model, AsWritten)
    for seed, lengths in enumerate([[3, 9, 1, 14, 6], [5, 5], [2, 14, 8, 3, 1, 7], [4], [20, 40, 33]]):
        sources = sentences(seed, lengths)
        limits = [2 * len(row) + 5 for row in sources]
        expected = beam_search(model, batch(sources), limits, **options)
        found = search(batch(sources), limits, **options)
        assert [one.symbols for one in found] == [one.symbols for one in expected]
        for values in ("score", "log_prob"):
            assert [getattr(one, values) for one in found] == pytest.approx(
                [getattr(one, values) for one in expected], abs=1e-4
            )
    assert len(search.shapes) == 4, "a batch of six is of the shape of one of five"
    assert search.graphs.replays > 20


def test_many_shapes_threads_and_broken_weights_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """As served on a card: shapes come and go, requests come at once, and a model without a probability is an error."""
    model = build("seq2seq_transformer").eval()
    monkeypatch.setattr(recorded, "MOST", 2)
    search = RecordedSearch(model, AsWritten)
    options = {"beam_size": 3, "length_penalty": 1.0, "patience": 1.0}
    batches = [sentences(seed, lengths) for seed, lengths in enumerate([[5, 9], [3], [40, 7, 12], [6, 4], [8, 2]])]
    limits = [[2 * len(row) + 3 for row in rows] for rows in batches]

    def found(i: int, by: Any) -> list[list[int]]:
        return [one.symbols for one in by(batch(batches[i]), limits[i], **options)]

    plain = partial(beam_search, model)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda i: found(i % 5, search), range(20)))
    assert answers == [found(i % 5, plain) for i in range(20)]
    assert len(search.shapes) == 2
    weights = model.bias.data.clone()
    model.bias.data.fill_(float("nan"))
    for by in (plain, search):
        with pytest.raises(UserError, match="no translation has a probability above zero"):
            found(0, by)
    model.bias.data.copy_(weights)
    assert found(0, search) == found(0, plain)


def test_scores_are_the_models(model: Seq2Seq) -> None:
    sources = sentences(6, [3, 9, 5])
    for one, source in zip(
        beam_search(model, batch(sources), [9, 7, 3], beam_size=3, length_penalty=0.6, patience=2.0),
        sources,
        strict=True,
    ):
        log_prob = model.log_prob(batch([source]), batch([one.symbols])).sum().item()
        assert one.log_prob == pytest.approx(log_prob, abs=1e-4)
        assert one.score == pytest.approx(log_prob / len(one.symbols) ** 0.6, abs=1e-4)
        assert one.symbols[-1] == END
        assert not set(one.symbols[:-1]) & set(range(len(CONTROLS)))


# Training


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_denoising_learns_whatever_the_objective_and_moves_to_translation_by_name(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name)
    sources, targets = (Sequences.from_arrays([np.array(row) for row in part]) for part in (SOURCES, TARGETS))
    common: dict[str, Any] = {
        "recipe": recipe,
        "prepared": tmp_path,
        "members": {},
        "teacher": None,
        "optimizer": Optimizer(1e-2, 0.0, [0.9, 0.99], clip=1.0, warmup=0.1, floor=0.1),
        "trainer": TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None),
        "seed": 0,
        "log": lambda *_: None,
    }
    text = Denoising(targets.subset(np.flatnonzero(targets.lengths > 2)), Noise(masked=0.3, span=2.0, shuffled=3.0))
    pretrained = train(Job(
        task="denoise", train=text, valid=text, start=None, strategy=Strategy("scratch", 1.0),
        checkpoint=Checkpoint(tmp_path / "p", 60.0), budget=Budget(steps=20, tokens=60, evaluations=4),
        objective=Objective("hidden", Hiding(0.15, 3)), **common,
    ))  # fmt: skip
    assert pretrained.validation < pretrained.report["curves"][0]["valid_loss"]
    saved.save(tmp_path / "source", recipe, pretrained.tensors)
    pairs = Pairs(sources, targets)
    tuned = train(Job(
        task="translate", train=pairs, valid=pairs, start=tmp_path / "source", strategy=Strategy("pretrained", 1.0),
        budget=Budget(steps=2, tokens=60, evaluations=1), checkpoint=Checkpoint(tmp_path / "t", 60.0), objective=None,
        **common,
    ))  # fmt: skip
    assert tuned.report["transfer"]["new"] == tuned.report["transfer"]["left"] == []
