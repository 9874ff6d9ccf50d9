"""What each further seed costs when seeds are a batch dimension, as a share of a training step of one alone.

    python bench/seeds.py [--family NAME] [--seeds 2,4,8] [--tokens N] [--ragged] [--device cpu|cuda]
                          [--precision fp32|bf16] [--written]

The families, sizes and optimisers of conf/family on symbols, the batches of each seed in its own order. A step is
forward, back, clipping and optimiser. Alone and side by side in turn in one process on one thread; a figure is the
median over the steps, the last that of each step's. The first epoch is not counted: oneDNN prepares a kernel for each
new shape. On a card steps are recorded, as `fit` records them, unless --written. Sequences are 100 symbols long or,
ragged, 40 to 160: the seeds' batches then differ in shape, and padding to one shape costs what the last column says,
positions side by side over positions of their own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from seqlab.config import family as checked
from seqlab.data.sequences import Sequences, Space
from seqlab.settings import Optimizer
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.optim import build_optimizer
from seqlab.training.gradient.recorded import Recorded, prepare
from stacked import Stack, merged, side_by_side

CONF = Path(__file__).resolve().parent.parent / "conf" / "family"
FAMILIES = ("mlp", "rnn", "gru", "lstm", "transformer")
SYMBOLS, ROWS = 128, 100
next_step_loss = loss_of("next_step")


class Alone:
    """One model after another."""

    def __init__(self, model: Any, settings: Optimizer, device: torch.device, bf16: bool):
        self.model, self.device, self.bf16, self.clip = model.to(device), device, bf16, settings.clip
        self.optimizer = build_optimizer(model, settings)

    def step(self, batch: TensorBatch) -> tuple[Tensor, ...]:
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = next_step_loss(self.model, batch).mean
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return (loss.detach(),)


class Together:
    """N at once."""

    def __init__(self, models: list[Any], settings: Optimizer, device: torch.device, bf16: bool):
        self.stack, self.clip = Stack(models, "next_step", device, bf16), settings.clip
        self.optimizer = merged([build_optimizer(twin, settings) for twin in self.stack.twins])

    def step(self, batch: TensorBatch) -> tuple[Tensor, ...]:
        totals, numbers = self.stack.loss(batch)
        self.stack.gradients((totals / numbers.clamp(min=1)).sum(), self.clip)
        self.optimizer.step()
        return (totals.detach(),)


def moved(batch: TensorBatch, device: torch.device) -> TensorBatch:
    return TensorBatch(batch.x.to(device), batch.mask.to(device), batch.scored.to(device), None)


def compare(
    name: str, seeds: int, tokens: int, steps: int, device: torch.device, bf16: bool, ragged: bool, recorded: bool
) -> tuple[float, float, float, float]:
    """Medians: seconds of a step of one alone, and of `seeds` side by side; what a further seed costs, as a share of
    the first; and by how much padding multiplies the positions."""
    family = checked(name, yaml.safe_load((CONF / f"{name}.yaml").read_text()))
    assert family.optimizer is not None
    draw = np.random.default_rng(0)
    lengths = draw.integers(40, 160, ROWS) if ragged else np.full(ROWS, 100)
    data = Sequences.from_arrays([draw.integers(0, SYMBOLS, length, np.uint8) for length in lengths])
    models = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        models.append(family.component.build(Space("symbols", SYMBOLS), None).train())
    together = Together(models, family.optimizer, device, bf16)
    alone = Alone(models[0], family.optimizer, device, bf16)
    streams = [Stream(data, tokens, seed) for seed in range(seeds)]
    run_alone: Callable[[TensorBatch], Any] = alone.step
    run_together: Callable[[TensorBatch], Any] = together.step
    if recorded:
        for optimizer in (alone.optimizer, together.optimizer):
            prepare(optimizer, device)
        run_alone, run_together = Recorded(alone.step), Recorded(together.step)
    # A shape's first step is as written, and its second is recorded.
    warm = (2 if recorded else 1) * len(streams[0].epoch(0))
    pairs, padded = [], []
    for batches in islice(zip(*streams, strict=False), warm + steps):
        seconds = []
        whole = moved(side_by_side(batches), device)
        for step in (partial(run_alone, moved(batches[0], device)), partial(run_together, whole)):
            if device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        pairs.append(seconds)
        padded.append(side_by_side(batches).mask.numel() / sum(batch.mask.numel() for batch in batches))
    one, many = zip(*pairs[warm:], strict=True)
    further = median((b / a - 1) / (seeds - 1) for a, b in pairs[warm:])
    return median(one), median(many), further, sum(padded) / len(padded)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=FAMILIES, action="append")
    parser.add_argument("--seeds", default="2,4,8")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--ragged", action="store_true")
    parser.add_argument("--written", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| family | seeds | one alone, ms a step | side by side, ms | each further seed | padding |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in arguments.family or FAMILIES:
        for seeds in map(int, arguments.seeds.split(",")):
            one, many, further, padding = compare(
                name, seeds, arguments.tokens, arguments.steps, torch.device(arguments.device),
                arguments.precision == "bf16", arguments.ragged, arguments.device == "cuda" and not arguments.written,
            )  # fmt: skip
            print(
                f"| {name} | {seeds} | {1e3 * one:.1f} | {1e3 * many:.1f} | {further:.2f} | {padding:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
