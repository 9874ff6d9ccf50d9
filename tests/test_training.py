"""Training: batches, optimiser, losses, validation, divergence, equality with a plain loop; the closed-form verb."""

from __future__ import annotations

import math
import time
import warnings
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from seqlab.artifacts import read_tensors
from seqlab.data.pairs import Pairs
from seqlab.data.sequences import Batch, Data, Sequences, Space, buckets
from seqlab.errors import UserError
from seqlab.families import saved
from seqlab.families.gradient import GradientFamily
from seqlab.families.rnn import RNN
from seqlab.families.transformer import Transformer
from seqlab.settings import Budget, Optimizer, Strategy, TrainerSettings
from seqlab.training.closed_form import train as closed_form
from seqlab.training.gradient.batches import Stream, TensorBatch, validation_batches
from seqlab.training.gradient.carry import lag_one
from seqlab.training.gradient.fit import FitReport, fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.optim import build_optimizer, build_schedule, learning_rate_factor
from seqlab.training.gradient.progress import amount, clock, quiet_lightning
from seqlab.training.job import Job
from seqlab.training.resume import Checkpoint

OPTIMIZER = Optimizer(learning_rate=1e-2, weight_decay=0.1, betas=[0.9, 0.99], clip=0.5, warmup=0.2, floor=0.1)
CPU = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
BUDGET = Budget(steps=20, tokens=200, evaluations=1)
SCRATCH, FULL = Strategy("scratch", 1.0), Strategy("pretrained", 0.5)
NEVER = 1e9  # seconds between checkpoints
next_step_loss, classify_loss = loss_of("next_step"), loss_of("classify")


def symbols(count: int, seed: int, size: int = 9, first: int | None = None) -> Sequences:
    """Noisy cycles through the alphabet, so that there is something to learn, labelled by their direction."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    rows = [
        (draw.integers(size) + (2 * label - 1) * np.arange(draw.integers(5, 30)) + (draw.random() < 0.1)) % size
        for label in labels
    ]
    starts = None if first is None else np.full(count, first)
    return replace(Sequences.from_arrays(rows), labels=labels, first=starts)


def vectors(count: int, seed: int, channels: int = 2) -> Sequences:
    draw = np.random.default_rng(seed)
    return Sequences.from_arrays(
        [draw.normal(size=(draw.integers(5, 30), channels)).cumsum(0).astype(np.float32) for _ in range(count)]
    )


def rnn(space: Space, classes: int | None = None, dropout: float = 0.0) -> RNN:
    torch.manual_seed(1)
    return RNN(space, classes, hidden_size=16, layers=2, dropout=dropout, truncation=None, density="gaussian")


def transformer(space: Space, classes: int | None = None) -> Transformer:
    torch.manual_seed(1)
    return Transformer(
        space,
        classes,
        hidden_size=16,
        layers=2,
        heads=2,
        feedforward_size=32,
        rotary_base=1e4,
        dropout=0.0,
        density="gaussian",
    )


def run(
    model: GradientFamily,
    train: Sequences,
    valid: Sequences,
    folder: Path,
    task: str = "next_step",
    seconds: float = NEVER,
    **changes: Any,
) -> FitReport:
    arguments: dict[str, Any] = {
        "budget": BUDGET,
        "optimizer": OPTIMIZER,
        "trainer": CPU,
        "seed": 3,
        "log": lambda *_: None,
    }
    report, cost = fit(
        model, loss_of(task), train, valid, checkpoint=Checkpoint(folder, seconds), **(arguments | changes)
    )
    assert cost.seconds > 0
    assert cost.symbols_per_second > cost.sequences_per_second > 0
    assert cost.peak_memory_mb > 1
    assert cost.flops_per_second * cost.seconds >= report.flops  # validation excluded from the time
    assert 0 < cost.product_share < 1
    return report


def job(recipe: saved.Recipe, task: str, train: Sequences, valid: Sequences, **changes: Any) -> Job:
    """One training from scratch, without what a test does not ask for."""
    nowhere = Path("nowhere")
    how: dict[str, Any] = {
        "prepared": nowhere,
        "start": None,
        "teacher": None,
        "members": {},
        "objective": None,
        "strategy": SCRATCH,
        "budget": BUDGET,
        "optimizer": OPTIMIZER,
        "trainer": CPU,
        "seed": 0,
        "checkpoint": Checkpoint(nowhere, NEVER),
        "log": lambda *_: None,
    }
    return Job(recipe=recipe, task=task, train=train, valid=valid, **(how | changes))


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: part.clone() for name, part in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Batches


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    tokens=st.integers(1, 60),
    seed=st.integers(0, 2**63 - 1),
    start=st.integers(0, 40),
    multiple=st.integers(1, 5),
)
def test_a_stream_started_late_is_the_stream_without_its_beginning(
    lengths: list[int], tokens: int, seed: int, start: int, multiple: int
) -> None:
    data = Sequences.from_arrays([np.full(length, i, np.int64) for i, length in enumerate(lengths)])
    whole, late = Stream(data, tokens, seed, multiple), Stream(data, tokens, seed, multiple)
    late.start = start
    expected = islice(whole, start, start + 5)
    for ours, theirs in zip(islice(late, 5), expected, strict=True):
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.mask, theirs.mask)
    batches = list(islice(whole, start))
    real, all_positions = sum(int(b.mask.sum()) for b in batches), sum(b.mask.numel() for b in batches)
    assert whole.seen(start) == (sum(len(b.x) for b in batches), real, all_positions - real)


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    ranks=st.integers(1, 4),
    seed=st.integers(0, 100),
    pairs=st.booleans(),
)
def test_ranks_share_the_rows_of_every_batch(lengths: list[int], ranks: int, seed: int, pairs: bool) -> None:
    """Each row once, with what belongs to it, and no padding that its share does not need; who has none stands idle."""
    rows = [np.full(length, 1 + i, np.int64) for i, length in enumerate(lengths)]
    targets = replace(Sequences.from_arrays(rows), labels=None if pairs else np.arange(len(rows)))
    data: Data = Pairs(Sequences.from_arrays([row[: 1 + len(row) // 2] for row in rows]), targets) if pairs else targets
    alone, streams = Stream(data, 20, seed), [Stream(data, 20, seed) for _ in range(ranks)]
    for rank, stream in enumerate(streams):
        stream.rank, stream.ranks = rank, ranks
    for whole, *parts in islice(zip(alone, *streams, strict=False), 2 * len(alone.epoch(0))):
        working = [part for part in parts if not part.idle]
        assert len(working) == min(ranks, len(whole.x))
        assert sorted(row[0].item() for part in working for row in part.x) == sorted(whole.x[:, 0].tolist())
        for part in working:
            assert part.mask.any(0).all()
            for k, row in enumerate(part.x):
                number = int(row[0]) - 1
                assert int(part.mask[k].sum()) == int(part.scored[k].sum()) == lengths[number]
                assert part.labels is None or part.labels[k] == number
                assert part.source is None or int((part.source[k] == number + 1).sum()) == 1 + lengths[number] // 2


def test_epochs_differ_and_seeds_differ() -> None:
    data = symbols(60, 0)
    first, second = ([part.tolist() for part in Stream(data, 100, 0).epoch(number)] for number in (0, 1))
    assert first != second
    assert first != [part.tolist() for part in Stream(data, 100, 1).epoch(0)]


def test_padding_to_a_multiple_adds_only_padding() -> None:
    for data in (symbols(8, 0), vectors(8, 0)):
        plain = data.batch(np.arange(8))
        padded = TensorBatch.of(plain, 32)
        width = plain.mask.shape[1]
        assert padded.mask.shape[1] == padded.x.shape[1] == padded.scored.shape[1] == 32
        np.testing.assert_array_equal(padded.x[:, :width], plain.x)
        assert not padded.mask[:, width:].any()
        assert not padded.scored[:, width:].any()


def test_validation_is_the_whole_set_or_a_fixed_part_of_it() -> None:
    data = symbols(100, 0)
    whole = np.concatenate(validation_batches(data, 200, 10**6, seed=0))
    assert sorted(whole) == list(range(100))
    part = np.concatenate(validation_batches(data, 200, 400, seed=0))
    np.testing.assert_array_equal(part, np.concatenate(validation_batches(data, 200, 400, seed=0)))
    assert len(set(part)) == len(part) < 100
    assert 400 <= data.lengths[part].sum() < 400 + data.lengths.max()
    assert len(np.concatenate(validation_batches(data, 200, 0, seed=0))) == 1


# Optimiser and schedule


def test_decay_acts_on_matrices_and_neither_on_embeddings_nor_on_vectors() -> None:
    model = transformer(Space("symbols", 9), classes=2)
    decayed, spared = build_optimizer(model, OPTIMIZER).param_groups
    names = {id(part): name for name, part in model.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert {names[id(p)] for p in decayed["params"]} == {
        name for name, p in model.named_parameters() if p.ndim == 2 and name != "ends.enter.weight"
    }
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(("steps", "warmup", "floor"), [(50, 0.2, 0.1), (7, 0.0, 0.0), (10, 1.0, 0.5), (1, 0.5, 0.2)])
def test_schedule_equals_torchs_linear_then_cosine(steps: int, warmup: float, floor: float) -> None:
    config = replace(OPTIMIZER, warmup=warmup, floor=floor, learning_rate=1.0)
    rise = round(warmup * steps)
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    parts: list[Any] = [CosineAnnealingLR(reference, max(1, steps - rise - 1), eta_min=floor)]
    if rise:
        parts.insert(0, LinearLR(reference, 1 / rise, total_iters=rise - 1))
    schedule = SequentialLR(reference, parts, [rise]) if rise else parts[0]
    for step in range(steps):
        assert learning_rate_factor(step, steps, config) == pytest.approx(reference.param_groups[0]["lr"], abs=1e-12)
        reference.step()
        with warnings.catch_warnings():
            # SequentialLR's own use of an argument that torch deprecates.
            warnings.simplefilter("ignore", UserWarning)
            schedule.step()


# Losses


def test_next_step_loss_is_per_scored_symbol_or_per_step_and_channel() -> None:
    data = symbols(5, 0, first=3)
    model = rnn(Space("symbols", 9))
    total, number = 0.0, 0
    for i in range(5):
        row = torch.as_tensor(data[i])[None]
        log_prob = model.log_prob(row, torch.ones_like(row, dtype=torch.bool))[0, 3:]
        total, number = total - log_prob.sum().item(), number + len(log_prob)
    assert next_step_loss(model, TensorBatch.of(data.batch(np.arange(5)))).mean.item() == pytest.approx(total / number)

    series = vectors(4, 0)
    model = rnn(Space("vectors", 2))
    batch = TensorBatch.of(series.batch(np.arange(4)))
    expected = -model.log_prob(batch.x, batch.mask).sum() / (2 * series.lengths.sum())
    assert next_step_loss(model, batch).mean.item() == pytest.approx(expected.item())


def test_nothing_scored_is_no_loss() -> None:
    mask = np.ones((1, 4), bool)
    batch = TensorBatch.of(Batch(np.zeros((1, 4), np.int64), mask, ~mask, None))
    assert next_step_loss(rnn(Space("symbols", 9)), batch).mean.item() == 0


def test_classify_loss_is_cross_entropy_a_sequence() -> None:
    data = symbols(6, 0)
    model = rnn(Space("symbols", 9), classes=2)
    batch = TensorBatch.of(data.batch(np.arange(6)))
    probability = model.class_logits(batch.x, batch.mask).softmax(-1)
    expected = -np.mean([math.log(probability[i, label].item()) for i, label in enumerate(data.labels)])  # type: ignore[arg-type]
    assert classify_loss(model, batch).mean.item() == pytest.approx(expected, rel=1e-6)


# Training


@pytest.mark.parametrize(
    ("task", "kind"), [("next_step", "symbols"), ("next_step", "vectors"), ("classify", "symbols")]
)
def test_trainer_equals_a_plain_loop_bit_for_bit(task: str, kind: str, tmp_path: Path) -> None:
    train, valid = (symbols(60, 0), symbols(20, 1)) if kind == "symbols" else (vectors(60, 0), vectors(20, 1))
    space = Space(kind, 9 if kind == "symbols" else 2)
    classes = 2 if task == "classify" else None
    model = rnn(space, classes, dropout=0.2)
    report = run(model, train, valid, tmp_path, task)
    assert report.best_step == BUDGET.steps, "the last weights must be the best for this comparison"

    plain = rnn(space, classes, dropout=0.2)
    optimizer = build_optimizer(plain, OPTIMIZER)
    schedule: LambdaLR = build_schedule(optimizer, BUDGET.steps, OPTIMIZER)
    torch.manual_seed(3)
    plain.train()
    epoch = 0
    order: list[np.ndarray] = []
    for _ in range(BUDGET.steps):
        if not order:
            order = buckets(train.lengths, BUDGET.tokens, np.random.default_rng((3, epoch)))
            epoch += 1
        batch = train.batch(order.pop(0))
        x, mask = torch.from_numpy(batch.x), torch.from_numpy(batch.mask)
        if task == "classify":
            labels = torch.from_numpy(batch.labels)
            loss = nn.functional.cross_entropy(plain.class_logits(x, mask), labels, reduction="sum") / len(labels)
        else:
            loss = -plain.log_prob(x, mask).sum() / (batch.mask.sum() * (1 if kind == "symbols" else 2))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), OPTIMIZER.clip)
        optimizer.step()
        schedule.step()
    assert same(weights(model), weights(plain))


def test_what_validations_take_is_no_training(tmp_path: Path) -> None:
    """The one before the first step among them, for which a card wakes."""
    pause, train = 0.3, symbols(60, 0)
    report, cost = fit(
        rnn(Space("symbols", 9)), next_step_loss, train, symbols(20, 1),
        budget=BUDGET, optimizer=OPTIMIZER, trainer=CPU, seed=3, checkpoint=Checkpoint(tmp_path, NEVER),
        log=lambda *_: time.sleep(pause),
    )  # fmt: skip
    assert len(report.curves) == 2
    trained = report.positions / cost.symbols_per_second
    assert 0 < trained <= cost.seconds - 2 * pause
    assert trained == pytest.approx(report.sequences / cost.sequences_per_second)


def test_equal_inputs_give_equal_bits_and_another_seed_does_not(tmp_path: Path) -> None:
    train, valid = symbols(60, 0), symbols(20, 1)
    models = [rnn(Space("symbols", 9), dropout=0.2) for _ in range(3)]
    reports = [run(model, train, valid, tmp_path / str(i), seed=3 + i // 2) for i, model in enumerate(models)]
    assert reports[0] == reports[1] != reports[2]
    assert same(weights(models[0]), weights(models[1]))
    assert not same(weights(models[0]), weights(models[2]))


def test_the_best_validation_is_what_remains(tmp_path: Path) -> None:
    # Six sequences are soon learned by heart, at the cost of others.
    train, valid = symbols(6, 0), symbols(40, 1)
    model = rnn(Space("symbols", 9))
    seen: list[tuple[dict[str, float], int]] = []
    report = run(
        model,
        train,
        valid,
        tmp_path,
        budget=Budget(steps=150, tokens=200, evaluations=7),
        optimizer=replace(OPTIMIZER, learning_rate=0.03),
        log=lambda metrics, step: seen.append((metrics, step)),
    )
    steps = [int(point["step"]) for point in report.curves]
    assert steps == [0, 21, 43, 64, 86, 107, 129, 150]
    assert [({k: v for k, v in point.items() if k != "step"}, point["step"]) for point in report.curves] == seen
    losses = [point["valid_loss"] for point in report.curves]
    assert 0 < report.best_step < 150
    assert report.best_loss == min(losses) == losses[steps.index(report.best_step)]
    assert report.curves[-1]["train_loss"] < report.curves[1]["train_loss"]
    batch = TensorBatch.of(valid.batch(np.arange(len(valid))))
    assert next_step_loss(model.eval(), batch).mean.item() == pytest.approx(report.best_loss, rel=1e-5)
    sequences, positions, padding = Stream(train, 200, 3).seen(150)
    assert (report.sequences, report.positions) == (sequences, positions)
    assert report.padding == padding / (positions + padding)


def test_lines_of_progress_where_there_is_no_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(rnn(Space("symbols", 9)), symbols(20, 0), symbols(5, 1), tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("step 20/20 loss ")
    assert err.endswith("symbols/s 0:00 left\n")
    assert (amount(930), amount(42_400), amount(1_240_000)) == ("930", "42k", "1.2M")
    assert (clock(31.4), clock(725), clock(3723)) == ("0:31", "12:05", "1:02:03")


# What stops a training


def test_a_loss_that_is_not_finite_names_its_step_and_keeps_the_last_good_weights(tmp_path: Path) -> None:
    train, valid = vectors(40, 0), vectors(10, 1)
    train.values[train.offsets[17]] = np.inf
    order = [part for number in range(9) for part in Stream(train, BUDGET.tokens, 3).epoch(number)]
    step = 1 + next(i for i, part in enumerate(order) if 17 in part)
    assert step > 1
    model = rnn(Space("vectors", 2))
    initial = weights(model)
    with pytest.raises(
        UserError, match=rf"diverged at step {step}: loss (nan|inf).* weights of step 0 .*last_good\.safetensors"
    ) as error:
        run(model, train, valid, tmp_path)
    assert "\n" not in str(error.value)
    kept = read_tensors(tmp_path / "last_good.safetensors")
    assert same({name: torch.from_numpy(part) for name, part in kept.items()}, initial)


def test_a_loss_that_explodes_is_a_divergence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"at step 10: validation loss \S+, before training 2\.\d+; weights of step 0"):
        run(
            rnn(Space("symbols", 9)),
            symbols(40, 0),
            symbols(10, 1),
            tmp_path,
            budget=replace(BUDGET, evaluations=2),
            optimizer=replace(OPTIMIZER, learning_rate=100.0, warmup=0.0),
        )


def test_impossible_requests(tmp_path: Path) -> None:
    data, model = symbols(5, 0), rnn(Space("symbols", 9), classes=2)
    empty = data.subset(np.arange(0))
    with pytest.raises(UserError, match="validation set: it is empty"):
        run(model, data, empty, tmp_path)
    with pytest.raises(UserError, match="training set: it has no labels"):
        run(model, replace(data, labels=None), data, tmp_path, "classify")
    with pytest.raises(UserError, match="evaluations: found 0, expected at least 1"):
        run(model, data, data, tmp_path, budget=replace(BUDGET, evaluations=0))
    with pytest.raises(UserError, match="no scored position"):
        run(model, data, symbols(5, 0, first=99), tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"trainer\.accelerator: 'gpu', but torch finds no CUDA device"):
            run(model, data, data, tmp_path, trainer=replace(CPU, accelerator="gpu"))


def test_bfloat16_trains_like_float32(tmp_path: Path) -> None:
    train, valid = symbols(60, 0), symbols(20, 1)
    reports = [
        run(rnn(Space("symbols", 9)), train, valid, tmp_path / precision, trainer=replace(CPU, precision=precision))
        for precision in ("32-true", "bf16-mixed")
    ]
    assert reports[0].best_loss != reports[1].best_loss
    assert reports[0].best_loss == pytest.approx(reports[1].best_loss, rel=0.02)


# Closed form


def recipe(classes: int | None) -> saved.Recipe:
    parameters = {"lags": [1, 2], "criterion": "valid", "prior_weights": [0.5]}
    return saved.Recipe(
        "seqlab.families.closed_form.autoregression.VectorAutoregression",
        parameters,
        "closed_form",
        "vectors",
        2,
        classes,
    )


def test_closed_form_takes_the_source_as_prior(tmp_path: Path) -> None:
    source, train, valid = vectors(50, 0), vectors(4, 1), vectors(10, 2)
    pretrained = closed_form.train(job(recipe(None), "next_step", source, valid))
    saved.save(tmp_path, recipe(None), pretrained.tensors)
    alone = closed_form.train(job(recipe(None), "next_step", train, valid, start=tmp_path))
    tuned = closed_form.train(job(recipe(None), "next_step", train, valid, start=tmp_path, strategy=FULL))
    # Both are the same random walk, of which four sequences say little.
    assert tuned.validation < alone.validation
    assert tuned.steps == 0
    assert tuned.flops is not None
    assert tuned.flops >= train.values.size
    assert tuned.cost.symbols_per_second > 0
    assert tuned.cost.flops_per_second == pytest.approx(tuned.flops / tuned.cost.seconds)
    assert 0 < tuned.cost.product_share < 1

    model = recipe(None).build()
    model.load_state(dict(tuned.tensors))
    total = sum(model.log_prob(row[None], np.ones((1, len(row)), bool)).sum() for row in valid)
    assert tuned.validation == pytest.approx(-total / valid.values.size)

    with pytest.raises(UserError, match="run the pretrain stage first"):
        closed_form.train(job(recipe(None), "next_step", train, valid, strategy=FULL))
    with pytest.raises(UserError, match=r"on 2 vectors, expected .* on 3 vectors"):
        closed_form.train(job(replace(recipe(None), size=3), "next_step", train, valid, start=tmp_path, strategy=FULL))
    with pytest.raises(UserError, match="training set: it is empty"):
        closed_form.train(job(recipe(None), "next_step", train.subset(np.arange(0)), valid))


def test_closed_form_classifies() -> None:
    still, moving = vectors(20, 0), vectors(20, 1)
    values = np.concatenate([np.diff(still.values, axis=0, prepend=still.values[:1]), moving.values])
    offsets = np.concatenate([still.offsets, moving.offsets[1:] + still.offsets[-1]])
    data = Sequences(values, offsets, labels=np.repeat([0, 1], 20))
    trained = closed_form.train(job(recipe(2), "classify", data, data))
    assert 0 < trained.validation < math.log(2) / 2


# Where the vectors' output end begins


def test_lag_one_has_the_least_absolute_deviations_from_the_value_before_and_ignores_padding() -> None:
    data = Sequences.from_arrays([values - values.mean(0) for values in vectors(30, 0)])
    before, after = (np.concatenate(parts) for parts in ([y[:-1] for y in data], [y[1:] for y in data]))
    for c, found in enumerate(lag_one(data)):
        # Piecewise linear and convex: its least value is at one of the ratios.
        sums = np.abs(after[:, c] - np.outer(after[:, c] / before[:, c], before[:, c])).sum(1)
        assert np.abs(after[:, c] - found * before[:, c]).sum() == pytest.approx(sums.min(), rel=1e-6)
    cuts = np.repeat(np.random.default_rng(0).choice([-1.0, 1.0], 40), 6)[:, None].astype(np.float32)
    assert lag_one(Sequences.from_arrays([cuts])) == [1]  # what stands still between cuts stays
    noise = Sequences.from_arrays([np.random.default_rng(0).normal(size=(5000, 1)).astype(np.float32)])
    assert abs(lag_one(noise)[0]) < 0.05
    assert lag_one(Sequences.from_arrays([np.zeros((4, 1), np.float32), np.ones((1, 1), np.float32)])) == [0]


def test_an_untrained_model_forecasts_its_carry_of_the_last_value() -> None:
    model = rnn(Space("vectors", 2)).eval()
    data = vectors(6, 1).batch(np.arange(6))
    x, mask = torch.from_numpy(data.x), torch.from_numpy(data.mask)
    with torch.no_grad():
        model.ends.carry.copy_(torch.tensor([1.0, 0.0]))  # type: ignore[union-attr, operator]
        mean, _ = model.moments(x, mask)
    torch.testing.assert_close(mean[:, 1:, 0], (x[:, :-1, 0] * mask[:, 1:]))
    assert not mean[..., 1].any()
    assert not mean[:, 0].any()


def test_muon_turns_the_bodys_matrices_and_adam_the_rest():
    """One step of both is the step of torch's Muon on the body's matrices and of torch's AdamW on all else."""
    settings = replace(OPTIMIZER, matrix_learning_rate=0.02)
    model, twin = (transformer(Space("symbols", 9)) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    optimizer = build_optimizer(model, settings)
    matrices = [p for block in twin.blocks for p in block.parameters() if p.ndim == 2]
    inner = {id(p) for p in matrices}
    embeddings = {id(p) for m in twin.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    rest = [p for p in twin.parameters() if id(p) not in inner]
    plain = [p for p in rest if p.ndim < 2 or id(p) in embeddings]
    references = [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [p for p in rest if id(p) not in {id(q) for q in plain}], "weight_decay": 0.1},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=1e-2,
            betas=(0.9, 0.99),
        ),
    ]
    assert len(matrices) == 8  # qkv, mix, up, down of two blocks
    for step in range(4):
        if step == 2:  # saved and resumed on the way
            kept = deepcopy(optimizer.state_dict())
            optimizer = build_optimizer(model, settings)
            optimizer.load_state_dict(kept)
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn(ours.shape, generator=torch.Generator().manual_seed(step))
            theirs.grad = ours.grad.clone()
        optimizer.step()
        for reference in references:
            reference.step()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_lightning_does_not_advise_srun_wherever_slurm_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    from lightning.fabric.plugins.environments import SLURMEnvironment

    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME"):
        monkeypatch.delenv(name, raising=False)
    SLURMEnvironment.detect()
    assert [str(one.message)[:18] for one in recwarn] == ["The `srun` command"]
    recwarn.clear()
    with quiet_lightning():
        SLURMEnvironment.detect()
    assert not recwarn.list
