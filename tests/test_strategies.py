"""Strategies: what each one changes and leaves alone, when, and on which share of the target."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_domains_vectors import RECIPES, prepared, video_recipe
from test_training import OPTIMIZER, classify_loss, job, next_step_loss, rnn, run, symbols, transformer, vectors
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab import config, schema
from seqlab.artifacts import write_tensors
from seqlab.cells import Cell, split_arm
from seqlab.data.domains.strings import Strings
from seqlab.data.pairs import Pairs
from seqlab.data.prepared import Prepared
from seqlab.data.sequences import Sequences, Space
from seqlab.data.subsets import share, within
from seqlab.errors import UserError
from seqlab.families import saved
from seqlab.families.gradient import GradientFamily
from seqlab.families.gradient.predictor import TorchPredictor
from seqlab.families.rnn import RNN
from seqlab.families.transformer import Transformer
from seqlab.settings import Adapters, Budget, Distillation, Family, Hiding, Objective, PseudoLabels, Slanted, Strategy
from seqlab.tasks.masked.loss import Hidden, hidden_log_prob
from seqlab.tasks.translate.distil import taught
from seqlab.training.closed_form import train as closed_form
from seqlab.training.gradient import train as gradient
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.distil import SoftTargets, soft_loss, teaching
from seqlab.training.gradient.flops import train_flops
from seqlab.training.gradient.optim import build_optimizer, slanted_factor
from seqlab.training.gradient.tuning import LowRank, attach, tuning_of
from seqlab.training.pseudo_labels import joined, pseudo_labelled
from seqlab.training.resume import Checkpoint
from seqlab.training.task import trained_task

ROOT = Path(__file__).resolve().parent.parent
STRATEGIES = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf/strategy").glob("*.yaml")}
FROZEN = Strategy("pretrained", 1.0, frozen="body")
GRADUAL = Strategy("pretrained", 1.0, depth_factor=0.5, unfreezing=0.6, slanted=Slanted(0.1, 32.0))
SYMBOLS = Space("symbols", 9)
BUDGET = Budget(steps=20, tokens=200, evaluations=4)


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: part.clone() for name, part in model.state_dict().items()}


class Normalised(RNN):
    """A body with running statistics, in the order-keeping place before the recurrence."""

    def __init__(self, space: Space, classes: int | None, **parameters: Any):
        super().__init__(space, classes, **parameters)
        self.statistics = nn.BatchNorm1d(self.width)

    def body(self, h: Tensor) -> Tensor:
        return super().body(self.statistics(h.transpose(1, 2)).transpose(1, 2))

    def body_groups(self) -> list[list[nn.Parameter]]:
        first, *rest = super().body_groups()
        return [[*self.statistics.parameters(), *first], *rest]


def normalised(space: Space, classes: int | None = None) -> Normalised:
    torch.manual_seed(1)
    return Normalised(space, classes, hidden_size=16, layers=2, dropout=0.1, truncation=None, density="gaussian")


# What is left alone


@pytest.mark.parametrize("make", [rnn, transformer, normalised])
@pytest.mark.parametrize("task", ["next_step", "classify"])
def test_a_frozen_body_stays_bit_by_bit_statistics_included(make: Any, task: Any, tmp_path: Path) -> None:
    model = make(SYMBOLS, 2 if task == "classify" else None)
    before = copied(model)
    data = symbols(40, 0)
    report = run(model, data, data, tmp_path, task, budget=BUDGET, tuning=tuning_of(model, FROZEN, ()))
    assert report.best_step, "nothing was trained"
    top = "head." if task == "classify" else "ends.leave."
    changed = {name for name, part in model.state_dict().items() if not torch.equal(part, before[name])}
    assert changed == {name for name in before if name.startswith(top)}


def test_without_freezing_the_statistics_do_move(tmp_path: Path) -> None:
    model = normalised(SYMBOLS)
    before = copied(model)
    run(model, symbols(40, 0), symbols(20, 1), tmp_path, budget=BUDGET)
    assert not torch.equal(model.state_dict()["statistics.running_mean"], before["statistics.running_mean"])


def test_what_is_frozen_costs_no_gradient() -> None:
    model = transformer(SYMBOLS)
    stream = Stream(symbols(20, 0), 200, 0)
    whole = train_flops(model, next_step_loss, stream, 10)
    assert train_flops(model, next_step_loss, stream, 10, tuning_of(model, FROZEN, ())) < 0.5 * whole
    gradual = train_flops(
        transformer(SYMBOLS), next_step_loss, stream, 10, tuning_of(transformer(SYMBOLS), GRADUAL, ())
    )
    assert gradual < whole or gradual == pytest.approx(whole)


# When and how fast


@pytest.mark.parametrize("make", [rnn, transformer])
def test_gradual_unfreezing_adds_a_group_at_a_time_from_the_top(make: Any, tmp_path: Path) -> None:
    model = make(SYMBOLS, classes=2)
    tuning = tuning_of(model, GRADUAL, ())
    assert tuning is not None
    names = {id(p): name for name, group in model.layer_groups() for p in group}
    trained: list[set[str]] = []

    class Watched(GradientFamily):  # the loss sees the model at every step, just before its gradient is taken
        pass

    def loss(model: GradientFamily, batch: TensorBatch) -> Any:
        if torch.is_grad_enabled() and not isinstance(model, Watched):
            trained.append({names[id(p)] for p in model.parameters() if p.requires_grad and id(p) in names})
        return classify_loss(model, batch)

    before = copied(model)
    run(model, symbols(40, 0), symbols(20, 1), tmp_path, "classify", budget=BUDGET, tuning=tuning, training_loss=loss)
    steps = [seen for seen in trained if seen]
    # Groups of a model of two layers: head, layer2, layer1, input. They join over 60% of 20 steps: at 0, 4, 8 and 12.
    wanted = [{"head"}, {"head", "layer2"}, {"head", "layer2", "layer1"}, {"head", "layer2", "layer1", "input"}]
    assert steps == [wanted[min(step // 4, 3)] for step in range(20)]
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("ends.leave"))


def test_rates_fall_with_depth() -> None:
    model = transformer(SYMBOLS)
    tuning = tuning_of(model, Strategy("pretrained", 1.0, depth_factor=0.5), ())
    optimizer = build_optimizer(model, OPTIMIZER, tuning)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for k, (_, group) in enumerate(reversed(model.layer_groups())):
        assert {rates[id(p)] for p in group} == {OPTIMIZER.learning_rate * 0.5**k}
    assert len(rates) == len(list(model.parameters()))


def test_slanted_triangular_rates_are_those_of_the_paper() -> None:
    steps, slanted = 200, Slanted(cut=0.1, ratio=32.0)
    for step in range(steps):
        cut = int(steps * 0.1)
        p = step / cut if step < cut else 1 - (step - cut) / (cut * (1 / 0.1 - 1))
        assert slanted_factor(step, steps, slanted) == pytest.approx((1 + p * 31) / 32)
    assert max(range(steps), key=lambda step: slanted_factor(step, steps, slanted)) == 20


# Adapters


def test_merged_weights_are_the_base_and_the_scaled_product(tmp_path: Path) -> None:
    model = transformer(SYMBOLS)
    base = copied(model)
    x, mask = torch.arange(9)[None], torch.ones(1, 9, dtype=torch.bool)
    before = model.log_prob(x, mask)
    tuning = tuning_of(model, replace(FROZEN, adapters=Adapters(rank=2, alpha=6.0)), Transformer.adapts)
    torch.testing.assert_close(model.log_prob(x, mask), before, rtol=0, atol=0)
    run(model, symbols(40, 0), symbols(20, 1), tmp_path, budget=BUDGET, tuning=tuning)
    adapters = {name: part for name, part in model.named_modules() if isinstance(part, LowRank)}
    assert len(adapters) == 2 * len(Transformer.adapts)
    products = {}
    for name, part in adapters.items():
        place = name.replace(".parametrizations.weight.0", ".weight")
        original = model.get_parameter(name.replace("weight.0", "weight.original"))
        assert torch.equal(original, base[place])
        products[place] = 3.0 * part.b.detach() @ part.a.detach()
        assert products[place].any()
    adapted = model.log_prob(x, mask)
    tuning.merge(model)
    merged = model.state_dict()
    assert merged.keys() == base.keys()
    for name, part in merged.items():
        if name in products:
            torch.testing.assert_close(part, base[name] + products[name])
        elif not name.startswith("ends.leave"):
            assert torch.equal(part, base[name])
    torch.testing.assert_close(model.log_prob(x, mask), adapted)


def test_adapters_go_where_the_family_says() -> None:
    model = transformer(SYMBOLS)
    found = attach(model, ("qkv",), Adapters(rank=3, alpha=3.0))
    assert [tuple(p.shape) for p in found] == [(3, 16), (48, 3)] * 2


# Teachers


def taught_by(teacher: GradientFamily, task: str, settings: Distillation) -> SoftTargets:
    """The loss of a student of this teacher, which is used as evaluation uses it."""
    found = teaching(task, TorchPredictor(teacher, "cpu", "fp32"), settings).loss()
    assert isinstance(found, SoftTargets)
    return found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.floats(0.5, 8.0))
def test_the_gradient_of_soft_targets_is_the_closed_form(seed: int, temperature: float) -> None:
    draw = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(4, 7, generator=draw, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    soft_loss(student, teacher, temperature).sum().backward()
    expected = temperature * ((student / temperature).softmax(-1) - (teacher / temperature).softmax(-1))
    torch.testing.assert_close(student.grad, expected.detach())


@pytest.mark.parametrize("task", ["next_step", "classify"])
def test_no_weight_on_the_teacher_is_the_labels_loss(task: Any) -> None:
    for data, space in ((symbols(6, 0), SYMBOLS), (vectors(6, 0), Space("vectors", 2))):
        labelled = replace(data, labels=np.arange(6) % 2)
        batch = TensorBatch.of(labelled.batch(np.arange(6)))
        student, teacher = rnn(space, 2), transformer(space, 2)
        plain = {"next_step": next_step_loss, "classify": classify_loss}[task](student, batch)
        mixed = taught_by(teacher, task, Distillation(temperature=3.0, weight=0.0))(student, batch)
        torch.testing.assert_close(mixed.mean, plain.mean)
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


@pytest.mark.slow
def test_soft_targets_of_a_density_are_its_cross_entropy_on_average() -> None:
    space = Space("vectors", 2)
    student, teacher = rnn(space), rnn(space)
    with torch.no_grad():
        teacher.ends.leave.bias += 0.3
        teacher.ends.coupling += 0.5
    batch = TensorBatch.of(vectors(3, 0, channels=2).batch(np.arange(3)))
    torch.manual_seed(0)
    loss = taught_by(teacher, "next_step", Distillation(temperature=1.0, weight=1.0))
    drawn = np.mean([loss(student, batch).mean.item() for _ in range(400)])
    with torch.no_grad():
        predictives = [
            m.ends.predictive(m.encode(batch.x[:, :-1]), F.pad(batch.x[:, :-1], (0, 0, 1, 0)))  # type: ignore[operator]
            for m in (teacher, student)
        ]
        p, q = (
            torch.distributions.MultivariateNormal(one.location, scale_tril=one.scale[..., None] * one.matrix.inverse())
            for one in predictives
        )
        exact = torch.distributions.kl_divergence(p, q) + p.entropy()
    assert drawn == pytest.approx(exact[batch.scored].mean().item() / 2, rel=0.02)


def test_a_student_of_a_translator_learns_from_its_translations() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(8, 20, n).astype(np.uint16) for n in rng.integers(2, 9, 400)]
    pairs = Pairs(Sequences.from_arrays(rows), Sequences.from_arrays([row[::-1].copy() for row in rows]))
    asked: list[list[int]] = []

    def translated(sources: list[list[int]]) -> list[list[int]]:
        asked.extend(sources)
        return [[*source, 2] for source in sources]

    found = taught(pairs, translated, 0.9, 3)
    own = np.array([np.array_equal(a, b) for a, b in zip(found.target, pairs.target, strict=True)])
    assert 0.05 < own.mean() < 0.2
    assert len(asked) == (~own).sum()
    assert found.target.values.dtype == np.uint16
    for source, target, kept in zip(rows, found.target, own, strict=True):
        assert kept or target.tolist() == [*source.tolist(), 2]
    again, other = (taught(pairs, translated, 0.9, seed).target.values for seed in (3, 4))
    np.testing.assert_array_equal(again, found.target.values)
    assert not np.array_equal(other, again)
    untouched = taught(pairs, translated, 0.0, 3)
    np.testing.assert_array_equal(untouched.target.values, pairs.target.values)


@pytest.mark.slow
def test_a_student_follows_its_teacher(tmp_path: Path) -> None:
    data = symbols(60, 0)
    teacher = transformer(SYMBOLS)
    run(teacher, data, data, tmp_path / "t", budget=replace(BUDGET, steps=60))
    recipe = saved.Recipe(
        "seqlab.families.transformer.Transformer",
        {"hidden_size": 16, "layers": 2, "heads": 2, "feedforward_size": 32, "rotary_base": 1e4, "dropout": 0.0}
        | {"density": "gaussian"},
        "gradient", "symbols", 9, None,
    )  # fmt: skip
    saved.save(tmp_path / "teacher", recipe, {name: part.numpy() for name, part in teacher.state_dict().items()})
    small = replace(recipe, parameters=recipe.parameters | {"hidden_size": 8})
    trained = gradient.train(job(
        small, "next_step", data, data, teacher=tmp_path / "teacher", checkpoint=Checkpoint(tmp_path / "c", 1e9),
        strategy=Strategy("scratch", 1.0, teacher="full", distillation=Distillation(1.0, 1.0)),
        budget=replace(BUDGET, steps=60),
    ))  # fmt: skip
    student = small.build()
    untrained = small.build()
    student.load_state_dict({name: torch.from_numpy(part) for name, part in trained.tensors.items()})
    batch = TensorBatch.of(data.batch(np.arange(20)))
    soft = taught_by(teacher, "next_step", Distillation(1.0, 1.0))
    assert soft(student, batch).mean < 0.5 * soft(untrained, batch).mean


# A user's own weights


def test_own_weights_are_taken_by_name_and_a_misfit_is_named(tmp_path: Path) -> None:
    parameters = {"hidden_size": 16, "layers": 1, "dropout": 0.0, "truncation": None, "density": "gaussian"}
    recipe = saved.Recipe("seqlab.families.rnn.RNN", parameters, "gradient", "symbols", 9, None)
    data, path = symbols(20, 0), tmp_path / "own.safetensors"

    def trained(recipe: saved.Recipe) -> Any:
        return gradient.train(job(
            recipe, "next_step", data, data, start=path, strategy=Strategy(str(path), 1.0),
            budget=replace(BUDGET, steps=2, evaluations=1), optimizer=replace(OPTIMIZER, learning_rate=0.0),
            checkpoint=Checkpoint(tmp_path / "c", 1e9),
        ))  # fmt: skip

    own = {name: part.numpy() for name, part in recipe.build().state_dict().items()}
    write_tensors(path, own | {"extra": np.zeros(3, np.float32)})
    found = trained(recipe)
    assert found.report["transfer"]["left"] == ["extra"]
    assert found.tensors.keys() == own.keys()
    assert all(np.array_equal(part, own[name]) for name, part in found.tensors.items())
    with pytest.raises(UserError, match=r"ends\.start is \(16,\), the model's is \(8,\)"):
        trained(replace(recipe, parameters=parameters | {"hidden_size": 8}))


def test_own_tensors_become_the_prior_of_a_closed_form(tmp_path: Path) -> None:
    parameters = {"lags": [1], "criterion": "valid", "prior_weights": [0.0, 0.9]}
    target = "seqlab.families.closed_form.autoregression.VectorAutoregression"
    recipe = saved.Recipe(target, parameters, "closed_form", "vectors", 2, None)
    source, few, valid = vectors(60, 0), vectors(1, 1), vectors(20, 2)
    model = recipe.build()
    model.fit(source, valid)
    path = tmp_path / "own.safetensors"
    write_tensors(path, model.state())
    how = {"start": path, "strategy": Strategy(str(path), 1.0)}
    alone = closed_form.train(job(recipe, "next_step", few, valid, start=path))
    tuned = closed_form.train(job(recipe, "next_step", few, valid, **how))
    assert tuned.validation < alone.validation
    with pytest.raises(UserError, match=r"writes for 3 vectors; it has"):
        closed_form.train(job(replace(recipe, size=3), "next_step", vectors(1, 1, 3), vectors(9, 2, 3), **how))
    write_tensors(path, {"other": np.zeros(2)})
    with pytest.raises(UserError, match=r"own\.safetensors: not what .*writes for 2 vectors; it has other \(2,\)"):
        closed_form.train(job(recipe, "next_step", few, valid, **how))


# Hidden positions


def masked(space: Space) -> Transformer:
    model = transformer(space)
    model.hidden = Hidden(model.width, Hiding(share=0.3, span=2))
    return model


@pytest.mark.parametrize("kind", ["symbols", "vectors"])
def test_a_hidden_position_is_predicted_from_both_sides_and_not_from_itself(kind: str) -> None:
    space = SYMBOLS if kind == "symbols" else Space("vectors", 2)
    model = masked(space).eval()
    data = symbols(1, 0) if kind == "symbols" else vectors(1, 0)
    batch = TensorBatch.of(data.batch(np.arange(1)))
    hidden = torch.zeros_like(batch.mask)
    hidden[0, [2, 3]] = True
    before = hidden_log_prob(model, batch.x, batch.mask, hidden)
    assert (before != 0).equal(hidden)

    def changed(t: int) -> Tensor:
        x = batch.x.clone()
        x[0, t] = (x[0, t] + 1) % 9
        return hidden_log_prob(model, x, batch.mask, hidden)

    # What else is hidden tells nothing; what is visible does, on either side.
    assert changed(2)[0, 3] == before[0, 3]
    assert changed(3)[0, 2] == before[0, 2]
    assert changed(1)[0, 3] != before[0, 3]
    assert changed(4)[0, 2] != before[0, 2]


def test_padding_is_out_of_sight_of_hidden_positions() -> None:
    model = masked(SYMBOLS).eval()
    batch = TensorBatch.of(symbols(1, 0).batch(np.arange(1)))
    hidden = torch.zeros_like(batch.mask)
    hidden[0, 3] = True
    alone = hidden_log_prob(model, batch.x, batch.mask, hidden)
    x, mask, over = (F.pad(part, (0, 5)) for part in (batch.x, batch.mask, hidden))
    torch.testing.assert_close(hidden_log_prob(model, x, mask, over)[:, : alone.shape[1]], alone)


def test_spans_cover_their_share_and_validation_hides_the_same() -> None:
    hidden = Hidden(8, Hiding(share=0.15, span=3))
    mask = torch.ones(50, 400, dtype=torch.bool)
    mask[:, 390:] = False
    torch.manual_seed(0)
    drawn = hidden.draw(mask)
    assert not drawn[:, 390:].any()
    assert drawn.sum() / mask.sum() == pytest.approx(1 - (1 - 0.05) ** 3, rel=0.05)
    assert not torch.equal(hidden.draw(mask), drawn)
    hidden.eval()
    assert torch.equal(hidden.draw(mask), hidden.draw(mask))


@pytest.mark.slow
def test_masked_pretraining_learns_and_moves_to_the_next_step_by_name(tmp_path: Path) -> None:
    parameters = {"hidden_size": 16, "layers": 1, "heads": 2, "feedforward_size": 32, "rotary_base": 1e4}
    parameters |= {"dropout": 0.0, "density": "gaussian"}
    recipe = saved.Recipe("seqlab.families.transformer.Transformer", parameters, "gradient", "symbols", 9, None)
    data = symbols(60, 0)
    pretrained = gradient.train(job(
        recipe, "masked", data, data, budget=replace(BUDGET, steps=60), checkpoint=Checkpoint(tmp_path / "p", 1e9),
        objective=Objective("hidden", Hiding(0.15, 1)),
    ))  # fmt: skip
    curves = pretrained.report["curves"]
    assert pretrained.validation < curves[0]["valid_loss"]
    saved.save(tmp_path / "source", recipe, pretrained.tensors)
    tuned = gradient.train(job(
        recipe, "next_step", data, data, start=tmp_path / "source", strategy=Strategy("pretrained", 1.0),
        budget=replace(BUDGET, steps=2, evaluations=1), checkpoint=Checkpoint(tmp_path / "t", 1e9),
    ))  # fmt: skip
    assert tuned.report["transfer"]["left"] == ["hidden.vector"]
    assert tuned.report["transfer"]["new"] == []
    assert schema.stated(recipe.target, "objectives") == ("next", "hidden")


# Shares of the target


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 60), seed=st.integers(0, 2**31), labelled=st.booleans())
def test_shares_are_nested_and_hold_every_class(count: int, seed: int, labelled: bool) -> None:
    draw = np.random.default_rng(count)
    data = Sequences.from_arrays([draw.normal(size=(3, 1)).astype(np.float32) for _ in range(count)])
    if labelled:
        data = replace(data, labels=draw.integers(0, 3, count))
    smaller: set[int] = set()
    for fraction in (0.01, 0.05, 0.1, 0.25, 1.0):
        taken, rest = share(data, fraction, seed)
        assert sorted([*taken, *rest]) == list(range(count))
        assert smaller <= set(taken)
        smaller = set(taken)
        if labelled:
            assert set(data.labels[taken]) == set(data.labels)  # type: ignore[index]
        else:
            assert len(taken) == max(1, round(fraction * count))
    assert len(smaller) == count


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 60), positions=st.integers(1, 200), seed=st.integers(0, 2**31))
def test_a_set_within_some_positions_keeps_about_as_many(count: int, positions: int, seed: int) -> None:
    data = Sequences.from_arrays([np.full((3, 1), i, np.float32) for i in range(count)])
    kept = within(data, positions, seed)
    assert abs(len(kept) - min(count, max(1, positions / 3))) <= 0.5
    assert {row[0, 0] for row in kept} <= {row[0, 0] for row in within(data, positions + 30, seed)}
    assert within(data, None, seed) is data


def test_a_share_follows_from_content_and_seed_and_from_no_order() -> None:
    data = replace(symbols(50, 0), labels=None)
    order = np.random.default_rng(0).permutation(50)
    one = {data[i].tobytes() for i in share(data, 0.2, 7)[0]}
    shuffled = data.subset(order)
    assert one == {shuffled[i].tobytes() for i in share(shuffled, 0.2, 7)[0]}
    assert one != {data[i].tobytes() for i in share(data, 0.2, 8)[0]}


# Pseudo-labels


class Oracle:
    """Sure of a sequence that starts below 4, and then right unless it starts with 0."""

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        first = x[:, 0]
        odds = np.where(first < 4, np.where(first == 0, 0.01, 0.99), 0.6)
        return np.log(np.stack([1 - odds, odds], 1))


def test_confident_answers_become_labels_and_their_accuracy_is_known() -> None:
    rows = [np.array([i % 8, 1, 2]) for i in range(40)]
    data = replace(Sequences.from_arrays(rows), labels=np.ones(40, np.int64))
    labelled, unlabelled = data.subset(np.arange(8)), data.subset(np.arange(8, 40))
    found, report = pseudo_labelled(Oracle(), labelled, unlabelled, 0.95)
    assert report == {"unlabelled": 32, "accepted": 16, "accuracy": 0.75}
    assert found.labels.tolist() == [1] * 8 + [0, 1, 1, 1] * 4  # type: ignore[union-attr]
    assert [row.tolist() for row in found][8:12] == [[k, 1, 2] for k in range(4)]
    same, report = pseudo_labelled(Oracle(), labelled, unlabelled, 0.999)
    assert same is labelled
    assert report == {"unlabelled": 32, "accepted": 0, "accuracy": None}


def test_joined_sets_keep_every_part() -> None:
    both = [replace(symbols(5, seed, first=2)) for seed in (0, 1)]
    found = joined(*both)
    np.testing.assert_array_equal(found.labels, np.concatenate([one.labels for one in both]))
    assert [row.tolist() for row in found] == [row.tolist() for one in both for row in one]
    assert found.first is not None


def data_of(domain: Prepared, task: str, split: str) -> Sequences:
    found = trained_task(task).data(domain, split, BUDGET)
    assert isinstance(found, Sequences)
    return found


def hashes(data: Sequences) -> set[bytes]:
    return {hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest() for row in data}


def strings_recipe(raw: Path) -> Strings:
    """A source that holds every text of the target, and lists some of them twice."""
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["good", "bad", "film", "war", "love"], 9)) for _ in range(300)]
    for name in ("source", "target"):
        (raw / name).mkdir(parents=True)
    (raw / "source/all.txt").write_text("\n".join([*texts, *texts[:50], *(f"scripture {i}" for i in range(100))]))
    lines = [f"{'positive' if 'good' in text else 'negative'},{text}" for text in texts]
    (raw / "target/own.csv").write_text("\n".join(["label,text", *lines]))
    return Strings(
        source_columns=["text"], target_columns=["text"], dialect=None, classes=["negative", "positive"],
        max_length=512, valid=0.1, test=0.2,
    )  # fmt: skip


# Without the films, whose small stand-ins repeat themselves.
@pytest.mark.parametrize("recipe", [strings_recipe, *(recipe for recipe in RECIPES if recipe is not video_recipe)])
def test_no_test_example_is_seen_by_pretraining_or_pseudo_labels(recipe: Any, tmp_path: Path) -> None:
    domain = prepared(recipe(tmp_path / "raw"), tmp_path)
    held = set().union(*(hashes(data_of(domain, task, "test")) for task in domain.meta.tasks))
    assert held
    for split in ("train", "valid"):
        assert not held & hashes(domain.split("source", split))
        for task in domain.meta.tasks:
            assert not held & hashes(data_of(domain, task, split))
    if "classify" in domain.meta.tasks:
        whole = domain.split("labelled", "train")
        taken, rest = share(whole, 0.25, 0)

        class Sure:
            def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
                return np.log(np.tile(np.eye(len(domain.meta.classes))[0] + 1e-9, (len(x), 1)))

        known, report = pseudo_labelled(Sure(), whole.subset(taken), whole.subset(rest), 0.9)
        assert report["accepted"] == len(rest)
        assert not held & hashes(known)


# Configuration


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_yaml_is_typed(name: str) -> None:
    config.strategy(STRATEGIES[name])


def family(name: str) -> Family:
    return config.family(name, yaml.safe_load((ROOT / f"conf/family/{name}.yaml").read_text()))


def domain(name: str) -> config.Domain:
    return config.domain(name, yaml.safe_load((ROOT / f"conf/domain/{name}.yaml").read_text()))


@pytest.mark.parametrize(
    ("where", "who", "how", "fraction", "reason"),
    [
        ("strings", "transformer", "lora", 0.1, None),
        ("strings", "rnn", "lora", 0.1, "names no linear maps"),
        ("strings", "ar", "gradual", 0.1, "closed form"),
        ("strings", "ar", "full", 0.1, None),
        ("strings", "ar", "self_training", 0.1, None),
        ("stocks", "rnn", "self_training", 0.1, "no classes"),
        ("strings", "rnn", "self_training", 1.0, "its label already"),
        ("strings", "ar", "student", 0.1, "no size called hidden_size"),
        ("stocks", "rnn", "distill", 1.0, None),
        ("stocks", "rnn", "hidden", 1.0, "does not look both ways"),
        ("stocks", "transformer", "hidden", 1.0, None),
        ("translation", "seq2seq_rnn", "full", 0.1, None),
        ("translation", "seq2seq_rnn", "hidden", 1.0, None),
        ("translation", "seq2seq_rnn", "gradual", 1.0, "no top layer"),
        ("translation", "seq2seq_rnn", "shuffled", 1.0, "no next step"),
        ("translation", "seq2seq_rnn", "distill", 1.0, None),
        ("translation", "seq2seq_transformer", "student", 0.1, None),
        ("translation", "rule_based", "distill", 1.0, "no size called"),
        ("translation", "rule_based", "full", 1.0, None),
        ("translation", "rule_based", "full", 0.1, "does not shrink"),
        ("translation", "gru", "full", 1.0, "models symbols and vectors, the domain has pairs"),
        ("strings", "rule_based", "full", 1.0, "models pairs, the domain has symbols"),
    ],
)
def test_where_a_strategy_has_no_meaning_one_place_says_why(
    where: str, who: str, how: str, fraction: float, reason: str | None
) -> None:
    objective = Objective("hidden", Hiding(0.15, 3)) if how == "hidden" else Objective("next")
    strategy = config.strategy(STRATEGIES["full" if how == "hidden" else how])
    found = config.not_applicable(domain(where), family(who), strategy, objective, fraction)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


def test_a_fraction_is_named_where_it_is_not_all() -> None:
    whole = Cell("strings", "rnn", "full", 0)
    part = replace(whole, fraction=0.05)
    assert (str(whole), whole.path) == ("strings-rnn-full-s0", "strings/rnn/full/0")
    assert (str(part), part.path) == ("strings-rnn-full-0.05-s0", "strings/rnn/full-0.05/0")
    assert split_arm(part.arm) == ("full", 0.05)
    assert split_arm("full") == ("full", 1.0)
    with pytest.raises(UserError, match="expected STRATEGY or STRATEGY-FRACTION"):
        split_arm("full-half")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"init": "pretraind"}, r"init: expected scratch, pretrained or a \.safetensors file, found 'pretraind'"),
        ({"slanted": {"cutt": 0.1, "ratio": 32.0}}, r"strategy\.slanted\.cutt: unknown key; did you mean 'cut'"),
        ({"distillation": {"temperature": 1.0, "weight": 1.0}}, r"strategy\.teacher: missing"),
    ],
)
def test_a_wrong_strategy_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        config.strategy(STRATEGIES["full"] | change)


def test_a_size_is_a_share_of_the_familys_own() -> None:
    assert family("transformer").sized({"hidden_size": 0.5, "feedforward_size": 0.25})["hidden_size"] == 64
    assert family("rnn").sized({"hidden_size": 0.5, "feedforward_size": 0.25})["hidden_size"] == 128
    assert PseudoLabels(**STRATEGIES["self_training"]["pseudo_labels"]).rounds > 0


@pytest.mark.parametrize("name", ["causal", "masked"])
def test_every_objective_yaml_is_typed(name: str) -> None:
    tree = yaml.safe_load((ROOT / f"conf/objective/{name}.yaml").read_text())
    assert config.objective(tree).task == {"causal": "next_step", "masked": "masked"}[name]
    with pytest.raises(UserError, match="expected its share and span"):
        config.objective(
            {"predicts": {"next": "hidden", "hidden": "next"}[tree["predicts"]]}
            | {key: value for key, value in tree.items() if key != "predicts"}
        )


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """cells.json of two suites, composed from a copy of conf/."""
    folder = tmp_path_factory.mktemp("composed")
    for part in ("conf", "pipelines", "src"):
        shutil.copytree(ROOT / part, folder / part)
    found = {}
    for suite in ("default", "transfer"):
        subprocess.run([sys.executable, "pipelines/compose.py", f"suite={suite}"], cwd=folder, check=True)
        found[suite] = yaml.safe_load((folder / "cells.json").read_text())
    return found


@pytest.mark.slow
def test_the_default_suite_knows_no_fractions(composed: dict) -> None:
    cells = composed["default"]["cells"]
    assert {cell["arm"] for cell in cells.values()} == {"scratch", "full", "shuffled"}
    assert all(re.fullmatch(r"[a-z_]+-[a-z0-9_]+-(scratch|full|shuffled)-s0", name) for name in cells)


@pytest.mark.slow
def test_the_transfer_suite_starts_each_cell_from_what_it_builds_on(composed: dict) -> None:
    suite = composed["transfer"]
    made = {f"models/{c['domain']}/{c['family']}/{c['arm']}/{c['seed']}" for c in suite["cells"].values()}
    made |= {f"models/{c['domain']}/{c['family']}/pretrain/{c['seed']}" for c in suite["pretrain"].values()}
    assert {cell["start"] for cell in suite["finetune"].values()} <= made
    taught = [cell for cell in suite["finetune"].values() if cell["strategy"] == "distill"]
    assert taught
    assert all(cell["start"].split("/")[3] == cell["arm"].replace("distill", "full") for cell in taught)
    assert suite["scratch"].keys() | suite["finetune"].keys() == suite["cells"].keys()
    assert {cell["strategy"] for cell in suite["cells"].values()} == STRATEGIES.keys() - {"shuffled"}
    assert {cell["seed"] for cell in suite["cells"].values()} == {0, 1, 2}
