"""Training symbols/s under Lightning's Trainer, with all that `fit` adds, beside a bare loop of the same model.

    python bench/training_step.py [--steps N] [--family rnn|transformer] [--precision 32-true|bf16-mixed]

The models and optimisers of conf/family. Both loops take the same batches of ragged symbols, step by step in turn in
one process on one thread, so that a noisy machine disturbs both alike; a figure is the median over the steps, the last
that of each step's ratio. The bare loop gathers its batch, goes forward and back, clips, and steps AdamW and its
schedule. The first epoch is not counted: oneDNN prepares a kernel for each new shape, and who comes first pays for it.
What a start costs comes before all.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

START = time.perf_counter()
import torch  # noqa: E402

TORCH = time.perf_counter()
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # imports torch._dynamo, with or without Lightning
ADAMW = time.perf_counter()
import numpy as np  # noqa: E402
import yaml  # noqa: E402
from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from seqlab.config import family as checked  # noqa: E402
from seqlab.data.sequences import Sequences, Space  # noqa: E402
from seqlab.settings import Optimizer, TrainerSettings  # noqa: E402
from seqlab.training.gradient.batches import Stream, validation_batches  # noqa: E402
from seqlab.training.gradient.checkpoints import Checkpoints  # noqa: E402
from seqlab.training.gradient.fit import build_trainer  # noqa: E402
from seqlab.training.gradient.loss import loss_of  # noqa: E402
from seqlab.training.gradient.module import Module  # noqa: E402
from seqlab.training.gradient.optim import build_optimizer, build_schedule  # noqa: E402
from seqlab.training.gradient.progress import Progressing, quiet_lightning  # noqa: E402
from seqlab.training.gradient.validation import Validation  # noqa: E402
from seqlab.training.interruption import Request  # noqa: E402

IMPORTED = time.perf_counter()
CONF = Path(__file__).resolve().parent.parent / "conf" / "family"
SYMBOLS, TOKENS = 128, 4096
SECONDS = 15.0  # between checkpoints
next_step_loss = loss_of("next_step")


class Turns(Callback):
    """After each of the Trainer's steps, one step of the bare loop; both timed."""

    def __init__(self, model: Any, settings: Optimizer, steps: int, stream: Stream, precision: str):
        self.model, self.settings = model, settings
        self.optimizer = build_optimizer(model, settings)
        self.schedule = build_schedule(self.optimizer, steps, settings)
        self.batches = iter(stream)
        self.context = torch.autocast("cpu", torch.bfloat16) if precision == "bf16-mixed" else nullcontext()
        self.trainer_seconds: list[float] = []
        self.bare_seconds: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        turn = time.perf_counter()
        self.trainer_seconds.append(turn - self.began)
        batch = next(self.batches)
        self.optimizer.zero_grad()
        with self.context:
            loss = next_step_loss(self.model, batch).mean
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.schedule.step()
        self.began = time.perf_counter()
        self.bare_seconds.append(self.began - turn)


def compare(name: str, steps: int, precision: Any) -> tuple[float, float, float]:
    """Medians over the steps: seconds of the Trainer, of the bare loop, and bare / Trainer."""
    family = checked(name, yaml.safe_load((CONF / f"{name}.yaml").read_text()))
    assert family.optimizer is not None
    draw = np.random.default_rng(0)
    data = Sequences.from_arrays([draw.integers(0, SYMBOLS, draw.integers(40, 160), np.uint8) for _ in range(400)])
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(family.component.build(Space("symbols", SYMBOLS), None).train())
    settings = TrainerSettings("cpu", 1, 1, "auto", precision, 1, False, max_steps=None)
    stream = Stream(data, TOKENS, 0)
    with TemporaryDirectory() as folder, quiet_lightning():
        validation = Validation(data, validation_batches(data, TOKENS, 1, 0), set(), Path(folder), lambda *_: None)
        checkpoints = Checkpoints(Path(folder) / "resume.ckpt", SECONDS, 0, stream, Request(""))
        warm = len(stream.epoch(0))
        steps += warm
        turns = Turns(models[1], family.optimizer, steps, Stream(data, TOKENS, 0), precision)
        trainer = build_trainer(settings, steps, [validation, checkpoints, Progressing(stream), turns])
        loader = DataLoader(stream, batch_size=None, generator=torch.Generator())
        trainer.fit(Module(models[0], next_step_loss, family.optimizer, steps, compile=False), loader)
    pairs = list(zip(turns.trainer_seconds, turns.bare_seconds, strict=True))[warm:]
    ours, bare = zip(*pairs, strict=True)
    return median(ours), median(bare), median(b / o for o, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--family", choices=("rnn", "transformer"), action="append")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| imported, in this order | s |\n|---|---|")
    print(f"| torch | {TORCH - START:.2f} |\n| what its first AdamW needs | {ADAMW - TORCH:.2f} |")
    print(f"| Lightning and the rest of fit | {IMPORTED - ADAMW:.2f} |\n")
    print(
        "| family | precision | Trainer, ms a step | bare loop, ms a step | Trainer's share of the bare loop's speed |"
    )
    print("|---|---|---|---|---|")
    for name in arguments.family or ("rnn", "transformer"):
        trainer, bare, share = compare(name, arguments.steps, arguments.precision)
        print(f"| {name} | {arguments.precision} | {1e3 * trainer:.1f} | {1e3 * bare:.1f} | {share:.3f} |")


if __name__ == "__main__":
    main()
