"""The stage `probe` on a small domain and its models: nothing is found, until a leak of some kind is planted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from seqlab import config
from seqlab.artifacts import read_json, read_tensors, write_json, write_tensors
from seqlab.cells import Cell
from seqlab.data.domains.base import Scaler
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.errors import UserError
from seqlab.evaluation.settings import SequenceEvaluation
from seqlab.settings import Strategy, TaskBudget
from seqlab.stages import probe
from seqlab.stages.finetune import finetune
from seqlab.training.resume import Checkpoint

CONF = Path(__file__).resolve().parent.parent / "conf"
CELL = Cell("gait", "markov", "scratch", 0)
SETTINGS = SequenceEvaluation(headline={}, horizons=[], origins=0, samples=0, period=1)
BUDGETS = {task: TaskBudget(2, 256, 1, "source", 1.0) for task in ("next_step", "classify")}


def shipped(file: str) -> Any:
    return yaml.safe_load((CONF / file).read_text(encoding="utf-8"))


FAMILY = config.family("markov", shipped("family/markov.yaml"))
TRAINER = config.trainer(shipped("trainer/cpu.yaml")).settings


@dataclass(frozen=True)
class Domain:
    """Walks, slow and fast, standardised by those of training; and a Markov model of them."""

    folder: Path

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @classmethod
    def made(cls, folder: Path) -> Domain:
        rng, own = np.random.default_rng(0), cls(folder)
        labels = {split: np.arange(60) % 2 for split in SPLITS}
        rows = {
            split: [np.cumsum(rng.normal(size=(25, 1)) * (1 + 4 * k), 0) for k in labels[split]] for split in SPLITS
        }
        scaler = Scaler.fit(rows["train"])
        for split in SPLITS:
            found = Sequences.from_arrays([scaler(one) for one in rows[split]])
            scored = {} if split == "train" else {"first": np.full(60, 5)}
            replace(found, **scored).save(own.prepared / "target" / split)
            replace(found, labels=labels[split].astype(np.int64)).save(own.prepared / "labelled" / split)
        meta = {"kind": "vectors", "size": 1, "tasks": ["next_step", "classify"], "classes": ["slow", "fast"]}
        write_json(own.prepared / "meta.json", meta)
        finetune(
            own.prepared,
            own.models / CELL.path,
            domain="gait",
            family=FAMILY,
            budgets=BUDGETS,
            strategy=Strategy(init="scratch", learning_rate_factor=1.0),
            start=None,
            teacher=None,
            fraction=1.0,
            steps=1.0,
            positions=None,
            seed=0,
            trainer=TRAINER,
            checkpoint=Checkpoint(folder / "checkpoints", float("inf")),
        )
        return own

    def probe(self) -> probe.Probed:
        again = probe.Trainings(cells={CELL: FAMILY}, budgets=BUDGETS, bound={"markov": {}}, steps=1.0, positions=None)
        return probe.run_probe(
            self.prepared, self.models, self.folder / "reports/gait", domain="gait", cells=[CELL], again=again,
            settings=SETTINGS, trainer=TRAINER,
        )  # fmt: skip


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return Domain.made(tmp_path_factory.mktemp("gait"))


@pytest.fixture
def domain(clean: Domain, tmp_path: Path) -> Domain:
    shutil.copytree(clean.folder, tmp_path / "copy")
    return Domain(tmp_path / "copy")


def test_nothing_is_found_where_nothing_leaks(clean: Domain) -> None:
    made = clean.probe()
    assert made.findings == []
    assert {name: len(looked) for name, looked in made.looked.items()} == {
        "overlap": 1, "scalers": 1, "retrained": 1, "shuffled_labels": 1, "future": 1, "batches": 2
    }  # fmt: skip
    page = (clean.folder / "reports/gait.md").read_text(encoding="utf-8")
    assert page.count("| nothing |") == len(made.looked)
    assert read_json(clean.folder / "reports/gait.json")["findings"] == []


Plant = Callable[[Domain, pytest.MonkeyPatch], None]


def a_test_walk_in_training(domain: Domain, _: pytest.MonkeyPatch) -> None:
    train, test = (Sequences.load(domain.prepared / "target" / split) for split in ("train", "test"))
    # In place of one of training, so that nothing else about it changes but what a scaler would notice.
    rows = [np.array(one) for one in train]
    rows[3] = np.array(test[4])
    Sequences.from_arrays(rows).save(domain.prepared / "target/train")


def a_scaler_of_other_data(domain: Domain, _: pytest.MonkeyPatch) -> None:
    for split in SPLITS:
        found = Sequences.load(domain.prepared / "target" / split)
        replace(found, values=np.asarray(found.values * 1.01)).save(domain.prepared / "target" / split)


def a_model_that_read_the_test(domain: Domain, _: pytest.MonkeyPatch) -> None:
    path = domain.models / CELL.path / "next_step/model.safetensors"
    write_tensors(path, {name: part * (1 + 1e-3) for name, part in read_tensors(path).items()})


def labels_that_nobody_shuffled(_: Domain, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(probe.probe, "with_shuffled_labels", lambda sequences, seed, turn, classes: sequences)


def a_model_that_sees_the_batch(_: Domain, patch: pytest.MonkeyPatch) -> None:
    load = probe.loading.load

    def leaking(folder: Path, use: Any) -> Any:
        model = load(folder, use)
        if folder.name == "next_step":
            honest = model.log_prob
            model.log_prob = lambda x, mask: np.where(mask, honest(x, mask) + x.mean(), 0)
        return model

    patch.setattr(probe.loading, "load", leaking)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            a_test_walk_in_training,
            "overlap: target/test: 1 of 60 sequences stand in target/train as well, the first is 4",
        ),
        (a_scaler_of_other_data, "its scaler was fitted on other data than these"),
        (a_model_that_read_the_test, "is another where training has no test split to read"),
        (labels_that_nobody_shuffled, "trained on shuffled labels it is right on"),
        (a_model_that_sees_the_batch, "log_prob at position .* changes with positions from"),
        (a_model_that_sees_the_batch, "markov next step nll: example .* changes by .* with 1 positions instead of"),
    ],
)
def test_a_planted_leak_makes_the_stage_fail_with_one_line(
    plant: Plant, expected: str, domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(domain, monkeypatch)
    with pytest.raises(UserError) as failed:
        domain.probe()
    assert str(failed.value).startswith("probe of gait: ")
    assert "\n" not in str(failed.value)
    page = (domain.folder / "reports/gait.md").read_text(encoding="utf-8")
    found = [f"{one['probe']}: {one['subject']}: {one['found']}"
             for one in read_json(domain.folder / "reports/gait.json")["findings"]]  # fmt: skip
    assert any(re.search(expected, one) for one in found), found
    assert all(one.split(": ", 2)[2] in page for one in found)
