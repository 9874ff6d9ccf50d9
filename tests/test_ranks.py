"""Several processes train what one does: the same batches, shared by rows, and the same mean over each whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small import small

from seqlab.cli.places import rank_of
from seqlab.data.sequences import Batch
from seqlab.training.gradient.batches import shared

# Run as a file of its own, since Lightning starts the other ranks by running the command again.
SCRIPT = """
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from seqlab.data.sequences import Sequences, Space
from seqlab.families.gru import GRU
from seqlab.families.transformer import Transformer
from seqlab.training.gradient.fit import fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.resume import Checkpoint
from seqlab.settings import Budget, Optimizer, TrainerSettings

ranks, folder = int(sys.argv[1]), Path(sys.argv[2])
draw = np.random.default_rng(0)
labels = draw.integers(0, 2, 60)
rows = [(draw.integers(9) + (2 * k - 1) * np.arange(draw.integers(5, 40))) % 9 for k in labels]
symbols = replace(Sequences.from_arrays(rows), labels=labels)
walks = [draw.normal(size=(draw.integers(5, 40), 2)).cumsum(0).astype(np.float32) for _ in labels]
vectors = replace(Sequences.from_arrays(walks), labels=labels)
torch.manual_seed(0)
common = {"hidden_size": 16, "layers": 2, "dropout": 0.0, "density": "gaussian"}
cases = {
    "next_step": (GRU(Space("symbols", 9), None, truncation=None, **common), symbols),
    "classify": (
        Transformer(Space("vectors", 2), 2, heads=2, feedforward_size=32, rotary_base=1e4, **common),
        vectors,
    ),
}
found = {}
for task, (model, data) in cases.items():
    report, _ = fit(
        model,
        loss_of(task),
        data.subset(np.arange(40)),
        data.subset(np.arange(40, 60)),
        budget=Budget(steps=50, tokens=90, evaluations=10),
        optimizer=Optimizer(1e-3, 0.1, [0.9, 0.99], 0.5, 0.2, 0.1),
        trainer=TrainerSettings("cpu", ranks, 1, "ddp" if ranks > 1 else "auto", "32-true", 1, False, None),
        seed=3,
        checkpoint=Checkpoint(folder / f"{task}{ranks}", 1e9),
        log=lambda *_: None,
    )
    found[task] = {"curves": report.curves, "flops": report.flops, "seen": [report.sequences, report.positions]}
    # A rank that is not the first must have found the same.
    (folder / f"{ranks}-{torch.distributed.get_rank() if ranks > 1 else 0}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_give_the_loss_of_one(tmp_path: Path) -> None:
    """To 1e-6 nats over 50 steps, of ragged batches, some of which have but one row."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    source = Path(__file__).parents[1] / "src"
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    for ranks in (1, 2):
        command = [sys.executable, str(script), str(ranks), str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert not done.returncode, done.stderr[-2000:]
    alone, *both = (json.loads((tmp_path / name).read_text()) for name in ("1-0.json", "2-0.json", "2-1.json"))
    for one in both:
        for task, expected in alone.items():
            assert {name: one[task][name] for name in ("flops", "seen")} == {
                name: expected[name] for name in ("flops", "seen")
            }
            for found, point in zip(one[task]["curves"], expected["curves"], strict=True):
                assert found == pytest.approx(point, rel=0, abs=1e-6)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_have_all_of_a_batch_between_them(ranks: int) -> None:
    """Labels, marks and sources with their rows, whatever a batch has, and no column that is padding alone."""
    draw = np.random.default_rng(0)
    lengths, read = np.array([7, 2, 5, 1]), np.array([3, 9, 1, 4])
    mask, source = (np.arange(widest) < sizes[:, None] for widest, sizes in ((9, lengths), (9, read)))
    x = draw.integers(1, 9, (4, 9)) * mask
    whole = Batch(x, mask, mask & (x > 2), np.arange(4), source * draw.integers(1, 9, (4, 9)), x * 3)
    for rank in range(ranks):
        part = shared(whole, rank, ranks)
        rows = np.arange(rank, 4, ranks) if rank < 4 else np.array([0])  # it has a row to stand there
        width, wide = lengths[rows].max(), read[rows].max()
        for name, cut in (("x", width), ("mask", width), ("scored", width), ("marks", width), ("source", wide)):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows, :cut])
        np.testing.assert_array_equal(part.labels, whole.labels[rows])


def test_who_is_the_first() -> None:
    assert rank_of({}) == rank_of({"RANK": "3"}) == 0, "a word that others use as well"
    assert rank_of({"LOCAL_RANK": "0", "NODE_RANK": "0", "RANK": "0"}) == 0
    found = {rank_of({"LOCAL_RANK": str(i), "NODE_RANK": str(node)}) for node in range(3) for i in range(4)}
    assert len(found) == 12
    assert rank_of({"LOCAL_RANK": "0", "RANK": "4"}) == 4


@pytest.mark.slow
def test_a_stage_of_two_processes_is_one_stage(tmp_path: Path) -> None:
    """In the pipeline and by hand, where the source is learned on the way: data and models are those of the first, and
    nothing of the second stays."""
    lab = small(tmp_path / "lab", "rnn")
    words = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.max_steps=6"]
    lab.run("seqlab", "repro", *words, "--only", "family=rnn")
    assert (lab.folder / "models/strings/rnn/scratch/0/report.json").exists()
    by_hand = ["seqlab", "run", "finetune", "domain=strings", "family=rnn", "strategy=full", *words]
    for folder, more in (("outputs", []), ("hand", ["hydra.run.dir=hand"])):
        lab.run(*by_hand, *more)
        assert len(list((lab.folder / folder).rglob("models/**/report.json"))) == 2, "of the source and of the task"
    assert not [path for path in (lab.folder / ".seqlab/ranks").rglob("*") if path.is_file()]
