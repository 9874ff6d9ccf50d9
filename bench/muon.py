"""A step of Muon with matrices of one shape side by side, beside torch's, which takes them one by one.

    python bench/muon.py [--device cpu|cuda] [--model NAME] [--steps N]

The matrices of conf/family's Transformers, and of one with 85 M parameters (12 layers of 768, on a card only unless it
is asked for). Step by step in turn in one process on one thread; a figure is the median over the steps, the last but
one that of each step's ratio. The last says whether both left the same bits.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from torch import nn

from seqlab.training.gradient.muon import BatchedMuon

# Shapes of a block's matrices, and how many blocks there are.
MODELS = {
    "transformer": ([(384, 128), (128, 128), (512, 128), (128, 512)], 2),
    "seq2seq_transformer": ([(256, 256)] * 6 + [(1024, 256), (256, 1024)], 4),
    "85M": ([(2304, 768), (768, 768), (3072, 768), (768, 3072)], 12),
}


def compare(name: str, device: torch.device, steps: int) -> tuple[float, float, float, bool]:
    """Medians: seconds of a step of ours, of torch's, and torch's / ours; and whether bits are the same."""
    shapes, blocks = MODELS[name]
    draw = torch.Generator(device).manual_seed(0)
    start = [torch.randn(shape, generator=draw, device=device) * 0.02 for shape in shapes * blocks]
    models = [[nn.Parameter(part.clone()) for part in start] for _ in range(2)]
    optimizers = [
        kind(model, lr=0.01, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        for kind, model in zip((BatchedMuon, torch.optim.Muon), models, strict=True)
    ]
    pairs = []
    for step in range(steps + 2):
        for ours, theirs in zip(*models, strict=True):
            ours.grad = torch.randn(ours.shape, generator=draw, device=device)
            theirs.grad = ours.grad.clone()
        seconds = {}
        for k in (0, 1) if step % 2 else (1, 0):
            if device.type == "cuda":
                torch.cuda.synchronize()
            began = time.perf_counter()
            optimizers[k].step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[k] = time.perf_counter() - began
        pairs.append((seconds[0], seconds[1]))
    mine, theirs_seconds = zip(*pairs[2:], strict=True)
    same = all(torch.equal(a, b) for a, b in zip(*models, strict=True))
    return median(mine), median(theirs_seconds), median(t / m for m, t in pairs[2:]), same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    names = arguments.model or [name for name in MODELS if name != "85M" or device.type == "cuda"]
    print("| matrices of | ours, ms a step | torch's, ms a step | torch's / ours | same bits |\n|---|--:|--:|--:|---|")
    for name in names:
        mine, theirs, ratio, same = compare(name, device, arguments.steps)
        print(
            f"| {name} | {1e3 * mine:.2f} | {1e3 * theirs:.2f} | {ratio:.2f} | {'yes' if same else 'no'} |", flush=True
        )


if __name__ == "__main__":
    main()
