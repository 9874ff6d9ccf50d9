"""Arithmetic of training, counted: every family of conf/family beside 6 operations a weight and position."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from seqlab import config
from seqlab.data.pairs import Pairs
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.families.closed_form.bayes import BayesClassifier
from seqlab.families.closed_form.direct import pairs
from seqlab.families.gradient import Recurrent
from seqlab.families.gru import GRU
from seqlab.families.lstm import LSTM
from seqlab.families.rnn import RNN
from seqlab.training.gradient.batches import Stream
from seqlab.training.gradient.flops import Counter, train_flops
from seqlab.training.gradient.loss import loss_of

CONF = Path(__file__).parents[1] / "conf" / "family"
SHIPPED = {
    path.stem: config.family(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
    for path in sorted(CONF.glob("*.yaml"))
}
GRADIENT = [
    (name, kind)
    for name, family in SHIPPED.items()
    if family.optimizer is not None
    for kind in (("pairs",) if "pairs" in family.kinds else ("symbols", "vectors"))
]
CLOSED = [(name, kind) for name, family in SHIPPED.items() if family.fit == "closed_form" for kind in family.kinds]
SIZES = {"symbols": 64, "vectors": 3, "pairs": 64}
ROWS, LENGTH = 8, 48


def rows(kind: str, seed: int = 0, count: int = ROWS, length: int = LENGTH) -> Sequences:
    draw = np.random.default_rng(seed)
    if kind == "vectors":
        return Sequences.from_arrays([draw.normal(size=(length, 3)).astype(np.float32) for _ in range(count)])
    return Sequences.from_arrays([draw.integers(6, SIZES[kind], length) for _ in range(count)])


def counted(model: nn.Module, kind: str) -> float:
    """FLOPs of a training, a position."""
    data = Pairs(rows(kind), rows(kind, 1)) if kind == "pairs" else rows(kind)
    stream, steps = Stream(data, 4 * LENGTH, 0), 10
    task: Any = "translate" if kind == "pairs" else "next_step"
    found = train_flops(model, loss_of(task), stream, steps) / (steps * 4 * LENGTH)
    assert all(p.grad is None for p in model.parameters()), "counting leaves the model alone"
    return found


def expected(name: str, kind: str, model: Any) -> float:
    """What the architecture says: six for each weight that a position meets, and what each family has beside that."""
    matrices = {n: p.numel() for n, p in model.named_parameters() if p.ndim >= 2}
    if kind != "pairs":
        # Looked up, not multiplied. A translator's embedding gives the weights of its output.
        matrices.pop("ends.enter.weight" if kind == "symbols" else "", None)
    found = 6.0 * sum(matrices.values())
    if isinstance(model, Recurrent) and kind == "vectors":
        # The first layer reads the vectors, a mark of the start and a one for the constant in place of embeddings; its
        # own map and the input end's are multiplied once a batch, which here is one sequence.
        first, read = model.stack.all_weights[0][0], SIZES[kind] + 2
        found += 6 * (len(first) * read - first.numel() - SIZES[kind] * model.width + first.numel() * read / LENGTH)
    if "transformer" in name:
        # Two products of T positions by D channels, forward; five back, as the fused kernel makes one again. Three
        # attentions in a pair of layers that translate.
        layers = 3 * len(model.encoder) if kind == "pairs" else len(model.blocks)
        found += 14 * layers * model.width * LENGTH
    if name in ("seq2seq_rnn", "seq2seq_attention"):
        # The decoder's first state is made once a source.
        found -= 6 * matrices["bridge.weight"] * (1 - 1 / LENGTH)
    if name == "seq2seq_attention":
        # Every position asks all of the source's: a score from A numbers each, and a mean of their H.
        found += 6 * (LENGTH * (model.width + model.energy.in_features) - model.energy.in_features)
    return found


@pytest.mark.parametrize(("name", "kind"), GRADIENT, ids=map("-".join, GRADIENT))
def test_flops_are_six_a_weight_and_position_and_what_the_family_adds(name: str, kind: str) -> None:
    torch.manual_seed(0)
    model = SHIPPED[name].component.build(Space(kind, SIZES[kind]), None).train()
    # Of the first inputs and the last states some products are not needed.
    assert counted(model, kind) == pytest.approx(expected(name, kind, model), rel=0.003)


@pytest.mark.parametrize("kind", ["symbols", "vectors"])
def test_gates_are_what_recurrent_families_differ_in(kind: str) -> None:
    """One, three and four of them at equal width; the ends are small beside them."""
    sizes: dict[str, Any] = {"hidden_size": 256, "layers": 2, "dropout": 0.0, "truncation": None, "density": "gaussian"}
    rnn, gru, lstm = (counted(family(Space(kind, SIZES[kind]), None, **sizes), kind) for family in (RNN, GRU, LSTM))
    assert gru / rnn == pytest.approx(3, rel=0.1)
    assert lstm / gru == pytest.approx(4 / 3, rel=0.05)


class Bilinear(nn.Module):
    """What torch computes in one operation of its own, for which there is no formula here."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 4, 3))

    def forward(self, a: Tensor, b: Tensor, copied: bool) -> Tensor:
        weight = self.weight.transpose(1, 2)
        return torch._trilinear(a, weight.clone() if copied else weight, b, [1, 3], [0], [1, 2], [2, 3])


@pytest.mark.parametrize("copied", [False, True])
def test_a_product_without_a_formula_stops_the_count(copied: bool) -> None:
    """And not what it reads beside parameters, nor a formula of torch's."""
    model, a, b = Bilinear(), torch.randn(2, 3), torch.randn(2, 4)
    unknown = pytest.raises(UserError, match=r"aten\._trilinear\.default reads parameters, and there is no formula")
    with unknown, Counter(model.parameters()):
        model(a, b, copied)
    with Counter([]) as counter:
        model(a, b, copied)
    assert counter.total == 0
    convolution = nn.Conv1d(2, 3, 5, bias=False)
    with Counter(convolution.parameters()) as counter:
        convolution(torch.randn(1, 2, 9))
    assert counter.total == 2 * convolution.weight.numel() * 5


# Closed form


BOUND: dict[str, Any] = {"period": 4, "horizons": [1, 4]}  # of a domain that is forecast


def fitted(name: str, kind: str, train: Sequences) -> Any:
    family, space, valid = SHIPPED[name], Space(kind, SIZES[kind]), rows(kind, 1, ROWS, int(train.lengths[0]))
    if "classify" in family.tasks and "next_step" not in family.tasks:
        train, valid = (replace(part, labels=np.arange(len(part)) % 2) for part in (train, valid))
        model = family.component.build(space, 2)
    else:
        model = family.component.build(space, *(BOUND[key] for key in family.bound))
    model.fit(train, valid)
    return model


@pytest.mark.parametrize(("name", "kind"), CLOSED, ids=map("-".join, CLOSED))
def test_every_closed_form_says_what_it_costs(name: str, kind: str) -> None:
    """At least an operation a number that it reads, and more on more data."""
    count, length = (10, 80) if SHIPPED[name].bound else (40, LENGTH)
    train, more = rows(kind, 2, count, length), rows(kind, 2, 2 * count, length)
    model = fitted(name, kind, train)
    assert model.flops(more) > model.flops(train) >= train.values.size


def test_no_family_is_left_out_of_the_count() -> None:
    """A mixture's has a test of its own; rules are written, and what is induced for them is words."""
    counted = {name for name, _ in (*GRADIENT, *CLOSED)}
    assert {name: SHIPPED[name].fit for name in SHIPPED.keys() - counted} == {
        "mixture": "mixture",
        "rule_based": "rules",
    }


def test_a_local_model_costs_a_fit_of_each_series() -> None:
    """Of an AR the products of Gram matrices of every order; channels are series of their own."""
    train = rows("vectors", 2, 5, 100)
    model = fitted("local_ar", "vectors", train)
    products = 2 * 15 * 100 * sum(range(2, model.order + 2))
    solved = 15 * sum(2 / 3 * size**3 for size in range(2, model.order + 2))
    assert model.flops(train) == pytest.approx(products + solved + 6 * train.values.size)


def test_a_direct_map_costs_its_moments_and_its_ridge() -> None:
    train = rows("vectors", 2, 40, 60)
    model = fitted("nlinear", "vectors", train)
    expected = 0.0
    for length in model.lengths:
        windows = sum(found.windows.shape[0] for found in pairs(train, length, 4, whole=True))
        expected += 2 * windows * (length + 4) ** 2
    solved = sum(9 * (length - 1) ** 3 for length in model.lengths)
    assert model.flops(train) == pytest.approx(expected + solved, rel=0.1)


def test_a_mixture_costs_the_weights_alone() -> None:
    valid = rows("symbols", 4)
    model = SHIPPED["mixture"].component.build(Space("symbols", 64))
    once = len(model.members) * len(valid.values)
    assert model.flops(valid) == once * (4 * 64 + 12 * model.passes)


def test_least_squares_cost_what_their_products_do() -> None:
    """Beside the textbook's count, of the whole Gram matrix: lags are read from each other, so p² products are p."""
    train = rows("vectors", 2, 40, 400)
    model = fitted("ar", "vectors", train)
    order, channels = model.model.order, 3
    products = 2 * len(train.values) * (order + 1) * channels**2
    assert products < model.flops(train) < 2 * products + 2 * (1 + order * channels) ** 3 * (order + 1)


def test_expectation_maximisation_costs_by_the_pass() -> None:
    train = rows("symbols", 2, 40)
    model = fitted("latent_ar", "symbols", train).model
    once = model.flops(train) / model.passed
    # Three products with the transitions a symbol.
    assert once == pytest.approx(6 * len(model.counts.start) ** 2 * len(train.values), rel=0.5)


def test_a_classifier_costs_its_models() -> None:
    """All sequences once for what classes share, and once for their own."""
    train = replace(rows("symbols", 2, 40), labels=np.arange(40) % 2)
    held_out = replace(rows("symbols", 3, 40), labels=np.arange(40) % 2)
    component = SHIPPED["markov"].component
    classifier = BayesClassifier(lambda: component.build(Space("symbols", 64)), 2)
    classifier.fit(train, held_out)
    one = fitted("markov", "symbols", train)
    table = 3 * one.model.table.size
    assert classifier.flops(train) == 2 * len(train.values) + 3 * table
