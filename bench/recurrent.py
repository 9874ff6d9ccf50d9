"""Training steps/s of the recurrent families beside a bare loop of torch.nn.RNN, LSTM and GRU on the same batches.

    python bench/recurrent.py [--steps N] [--family rnn|lstm|gru] [--precision 32-true|bf16-mixed]

Both sides have the family's ends, the optimiser and sizes of conf/family and equal weights; only the body differs: the
peer's is torch's own module. Step by step in turn in one process on one thread, so that a noisy machine disturbs both
alike; a figure is the median over the steps, the last that of each step's ratio. The first epoch is not counted:
oneDNN prepares a kernel for each new shape.
"""

from __future__ import annotations

import argparse
import copy
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from types import MethodType

import numpy as np
import torch
import yaml
from torch import Tensor

from seqlab.config import family as checked
from seqlab.data.sequences import Sequences, Space
from seqlab.families.gradient import Recurrent
from seqlab.settings import Optimizer
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.optim import build_optimizer

CONF = Path(__file__).resolve().parent.parent / "conf" / "family"
SYMBOLS, TOKENS = 128, 4096
next_step_loss = loss_of("next_step")


class Loop:
    """Forward, backward, clipping and AdamW."""

    def __init__(self, model: Recurrent, settings: Optimizer, precision: str):
        self.model, self.settings, self.precision = model, settings, precision
        self.optimizer = build_optimizer(model, settings)

    def step(self, batch: TensorBatch) -> float:
        """Seconds of one step."""
        began = time.perf_counter()
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16-mixed" else nullcontext():
            loss = next_step_loss(self.model, batch).mean
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        return time.perf_counter() - began


def torch_body(model: Recurrent, h: Tensor) -> Tensor:
    out: Tensor = model.stack(h.transpose(0, 1))[0].transpose(0, 1)
    return out


def compare(name: str, steps: int, precision: str) -> tuple[float, float, float]:
    """Medians over the steps: seconds of ours, of torch.nn's, and torch.nn's / ours."""
    family = checked(name, yaml.safe_load((CONF / f"{name}.yaml").read_text()))
    assert family.optimizer is not None
    draw = np.random.default_rng(0)
    data = Sequences.from_arrays([draw.integers(0, SYMBOLS, draw.integers(40, 160), np.uint8) for _ in range(400)])
    stream = Stream(data, TOKENS, 0)
    torch.manual_seed(0)
    ours = family.component.build(Space("symbols", SYMBOLS), None).train()
    peer = copy.deepcopy(ours)
    peer.body = MethodType(torch_body, peer)
    loops = [Loop(model, family.optimizer, precision) for model in (ours, peer)]
    warm = len(stream.epoch(0))
    pairs = []
    for i, batch in zip(range(warm + steps), stream, strict=False):
        # Who comes second finds the batch in the cache, so they take turns at that too.
        seconds = {k: loops[k].step(batch) for k in ((0, 1) if i % 2 else (1, 0))}
        pairs.append((seconds[0], seconds[1]))
    mine, theirs = zip(*pairs[warm:], strict=True)
    return median(mine), median(theirs), median(t / m for m, t in zip(mine, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--family", choices=("rnn", "lstm", "gru"), action="append")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| family | precision | ours, ms a step | torch.nn, ms a step | our speed as a share of torch.nn's |")
    print("|---|---|---|---|---|")
    for name in arguments.family or ("rnn", "lstm", "gru"):
        mine, theirs, share = compare(name, arguments.steps, arguments.precision)
        print(f"| {name} | {arguments.precision} | {1e3 * mine:.0f} | {1e3 * theirs:.0f} | {share:.2f} |", flush=True)


if __name__ == "__main__":
    main()
