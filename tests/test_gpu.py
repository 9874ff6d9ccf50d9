"""On a card: every family trains, twice with the same bits, and its scores there are the CPU's.

Skipped without one, save two families that take the CPU for a card, so that what is written here stays right.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from seqlab import config
from seqlab.data.pairs import Pairs
from seqlab.data.sequences import Data, Sequences, Space
from seqlab.families.gradient import device as devices
from seqlab.families.gradient.predictor import TorchPredictor
from seqlab.families.seq2seq import Hypothesis, beam_search
from seqlab.families.seq2seq.recorded import RecordedSearch
from seqlab.settings import Adapters, Budget, Hiding, Objective, Strategy, TrainerSettings
from seqlab.training.gradient import recorded
from seqlab.training.gradient.fit import FitReport, fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.tuning import tuning_of
from seqlab.training.resume import Checkpoint

CONF = Path(__file__).parents[1] / "conf" / "family"
SHIPPED = {
    path.stem: config.family(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
    for path in sorted(CONF.glob("*.yaml"))
}
KINDS = {"symbols": ("next_step", "classify"), "vectors": ("next_step", "classify"), "pairs": ("translate",)}
CASES = [
    (name, kind, task)
    for name, family in SHIPPED.items()
    if family.optimizer is not None
    for kind in (("pairs",) if "pairs" in family.kinds else ("symbols", "vectors"))
    for task in KINDS[kind]
] + [("transformer", "symbols", "masked"), ("transformer", "symbols", "adapted")]
SIZES = {"symbols": 40, "vectors": 3, "pairs": 40}
CPU = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None)
HIDDEN = Objective("hidden", Hiding(0.2, 3))
BUDGET = Budget(steps=16, tokens=1024, evaluations=2)
DRY_BUDGET = replace(BUDGET, steps=2)  # the CPU against itself differs in nothing, however long
# Of a loss in nats. Sums run in another order on a card, and training passes a difference on from step to step; in
# bfloat16 each product rounds to eight bits as well.
TOLERANCE = {"32-true": 5e-3, "bf16-mixed": 5e-2}
SCORE_TOLERANCE = 1e-3  # of a log-probability in nats, with the same weights, in float32

CARD = pytest.param("gpu", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no card")])
DRY = [("rnn", "symbols", "next_step"), ("seq2seq_rnn", "pairs", "translate")]


def over(cases: list[tuple[str, str, str]], dry: list[tuple[str, str, str]]) -> pytest.MarkDecorator:
    """The cases on a card, and `dry` of them on the CPU in its place."""
    params = [pytest.param(*case, *CARD.values, marks=CARD.marks, id="-".join(case)) for case in cases]
    slow = [pytest.mark.slow]
    params += [
        pytest.param(*case, "cpu", id="-".join(("dry", *case)), marks=slow if case[1] == "pairs" else ())
        for case in dry
    ]
    return pytest.mark.parametrize(("name", "kind", "task", "place"), params)


def data(kind: str, seed: int, count: int = 48) -> Data:
    """Of ragged lengths, with something to learn."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(12, 40, count)
    if kind == "vectors":
        rows = [draw.normal(size=(n, 3)).cumsum(0).astype(np.float32) / 5 for n in lengths]
    else:
        rows = [6 + (draw.integers(20) + np.arange(n) * draw.integers(1, 3)) % 30 for n in lengths]
    sequences = Sequences.from_arrays(rows, labels=draw.integers(0, 2, count))
    if kind != "pairs":
        return sequences
    # A translation ends, here by a symbol of the controls, and the source is its mirror image.
    targets = Sequences.from_arrays([np.append(row, 2) for row in rows])
    return Pairs(Sequences.from_arrays([row[::-1].copy() for row in rows]), targets)


def build(name: str, kind: str, task: str, drops: bool = False) -> Any:
    """As shipped but, unless it `drops`, for dropout, whose draws differ between devices."""
    component = SHIPPED[name].component
    dropout = {"dropout": 0.2 if drops else 0.0} if "dropout" in component.parameters else {}
    parameters = component.parameters | dropout
    torch.manual_seed(0)
    model = type(component)(component.target, parameters).build(
        Space(kind, SIZES[kind]), 2 if task == "classify" else None
    )
    if task == "masked":
        loss_of(task, HIDDEN).attach(model)
    return model


def train(
    model: Any, kind: str, task: str, name: str, folder: Path, settings: TrainerSettings, budget: Budget
) -> FitReport:
    optimizer = SHIPPED[name].optimizer
    assert optimizer is not None
    strategy = Strategy("scratch", 1.0, adapters=Adapters(4, 8.0) if task == "adapted" else None)
    torch.manual_seed(1)  # adapters draw where they begin
    loss = loss_of("next_step") if task == "adapted" else loss_of(task, HIDDEN if task == "masked" else None)
    report, cost = fit(
        model,
        loss,
        data(kind, 0),
        data(kind, 1, 16),
        budget=budget,
        optimizer=optimizer,
        trainer=settings,
        seed=3,
        checkpoint=Checkpoint(folder, 1e9),
        log=lambda *_: None,
        tuning=tuning_of(model, strategy, model.adapts) if strategy.grouped else None,
    )
    assert cost.peak_memory_mb > 0
    assert cost.product_share > 0
    return report


@over(CASES, DRY)
@pytest.mark.parametrize("precision", TOLERANCE)
def test_training_repeats_and_is_that_of_the_cpu(
    name: str, kind: str, task: str, place: Any, precision: Any, tmp_path: Path
) -> None:
    if task == "masked" and precision == "bf16-mixed":
        pytest.skip("what is hidden is drawn on the CPU, so that one precision shows all there is")
    settings = replace(CPU, accelerator=place, precision=precision)
    first, again = build(name, kind, task), build(name, kind, task)
    budget = DRY_BUDGET if place == "cpu" else BUDGET
    reports = [
        train(model, kind, task, name, tmp_path / f"{i}", settings, budget) for i, model in enumerate((first, again))
    ]
    assert reports[0] == reports[1]
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    reference = train(build(name, kind, task), kind, task, name, tmp_path / "cpu", CPU, budget)
    assert reports[0].flops == reference.flops, "an estimate that no machine changes"
    found, expected = ([point["valid_loss"] for point in report.curves] for report in (reports[0], reference))
    assert found == pytest.approx(expected, rel=TOLERANCE[precision], abs=TOLERANCE[precision])


RECORDED = [case for case in CASES if case[2] in ("next_step", "classify", "adapted")]


@over(RECORDED, [])
@pytest.mark.parametrize("precision", TOLERANCE)
def test_recorded_steps_have_the_bits_of_written_ones(
    name: str, kind: str, task: str, place: Any, precision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout among them, whose draws go on from step to step."""
    settings = replace(CPU, accelerator=place, precision=precision)
    replays: list[int] = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(1), replay(graph)))
    repeated, written = build(name, kind, task, drops=True), build(name, kind, task, drops=True)
    found = train(repeated, kind, task, name, tmp_path / "repeated", settings, BUDGET)
    assert len(replays) > BUDGET.steps / 2
    monkeypatch.setattr(recorded, "MOST", 0)
    assert found == train(written, kind, task, name, tmp_path / "written", settings, BUDGET)
    assert len(replays) < BUDGET.steps
    parts = zip(repeated.state_dict().values(), written.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in parts)


SCORED = [case for case in CASES if case[2] in ("next_step", "classify")]


@over(SCORED, DRY[:1])
def test_scores_are_those_of_the_cpu(name: str, kind: str, task: str, place: Any) -> None:
    """With the same weights, in float32; what is sampled there repeats."""
    device = devices.chosen(replace(CPU, accelerator=place))
    batch = data(kind, 2, 12).batch(np.arange(12))
    card, cpu = (TorchPredictor(build(name, kind, task), where, "fp32") for where in (device, "cpu"))
    asked = {
        "classify": ["class_log_prob"],
        "symbols": ["log_prob", "distribution"],
        "vectors": ["log_prob", "moments"],
    }["classify" if task == "classify" else kind]
    for question in asked:
        answers = [np.stack(getattr(one, question)(batch.x, batch.mask)) for one in (card, card, cpu)]
        np.testing.assert_array_equal(answers[0], answers[1])
        np.testing.assert_allclose(answers[0], answers[2], rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE)
    if task == "next_step":
        paths = [card.forecast(batch.x, batch.mask, 5, 4, seed) for seed in (0, 0, 1)]
        np.testing.assert_array_equal(paths[0], paths[1])
        assert not np.array_equal(paths[0], paths[2])


TRANSLATED = [case for case in CASES if case[1] == "pairs"]


@over(TRANSLATED, DRY[1:])
def test_translations_are_those_of_the_cpu(name: str, kind: str, task: str, place: Any, tmp_path: Path) -> None:
    """Of a model that has learned a little; log-probabilities agree, and so do most of the symbols, recorded or not."""
    device = devices.chosen(replace(CPU, accelerator=place))
    model = build(name, kind, task)
    train(model, kind, task, name, tmp_path, CPU, DRY_BUDGET if place == "cpu" else BUDGET)
    model.eval()
    pairs = data(kind, 2, 12)
    assert isinstance(pairs, Pairs)
    batch = pairs.batch(np.arange(12))
    source, target = torch.from_numpy(batch.source), torch.from_numpy(batch.x)

    def scored(where: torch.device) -> Tensor:
        with torch.inference_mode():
            return model.to(where).log_prob(source.to(where), target.to(where)).cpu()

    def searched(where: torch.device, search: Callable[..., list[Hypothesis]]) -> list[Hypothesis]:
        return search(source.to(where), [30] * 12, beam_size=3, length_penalty=1.0, patience=None)

    cpu = torch.device("cpu")
    expected, reference = scored(cpu), searched(cpu, partial(beam_search, model))
    torch.testing.assert_close(scored(device), expected, rtol=SCORE_TOLERANCE, atol=SCORE_TOLERANCE)
    searches: list[Callable[..., list[Hypothesis]]] = [partial(beam_search, model)]
    if device.type == "cuda":
        searches.append(RecordedSearch(model))
    for search in searches:
        found = searched(device, search)
        assert found == searched(device, search)
        # Two hypotheses whose scores are as good as equal may change places.
        assert np.mean([a.symbols == b.symbols for a, b in zip(found, reference, strict=True)]) >= 0.75
        assert [a.score for a in found] == pytest.approx([b.score for b in reference], abs=10 * SCORE_TOLERANCE)


@pytest.mark.slow
def test_the_bench_of_a_card_runs_without_one() -> None:
    command = [sys.executable, "bench/gpu.py", "--tiny", "--steps", "1"]
    done = subprocess.run(command, cwd=CONF.parents[1], capture_output=True, text=True, check=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| rnn |", "| ours |", "| Muon"))]
    assert len(rows) == 2 + 3 + 1
