"""Training symbols/s of recurrent families and `transformer` beside torch's stock layers: same sizes, loss, precision.

    python bench/language_model.py [--steps N] [--family rnn|lstm|gru|transformer] [--size small|large]

Ours and the stock layers take training steps turn by turn in one process on one thread (forward, backward, AdamW; batch
32 x 128 of random symbols), so that a noisy machine disturbs both alike; a figure is the median of the steps. The stock
model has the same ends; torch.nn.TransformerEncoder has no positions, so it is also spared their cost.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from seqlab.data.sequences import Space
from seqlab.families.gradient import GradientFamily
from seqlab.families.gradient.ends import SymbolEnds
from seqlab.families.gru import GRU
from seqlab.families.lstm import LSTM
from seqlab.families.rnn import RNN
from seqlab.families.transformer import Transformer

BATCH, STEPS = 32, 128
SIZES = {"small": (128, 2, 256), "large": (256, 4, 8192)}  # width, layers, symbols
RECURRENT = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
FAMILIES = [*RECURRENT, "transformer"]


class Stock(nn.Module):
    """torch's own layers between the same ends."""

    def __init__(self, ours: GradientFamily, body: nn.Module):
        super().__init__()
        self.ends, self.body = SymbolEnds(ours.space.size, ours.width), body

    def log_prob(self, x: Tensor, mask: Tensor) -> Tensor:
        h = self.ends.inputs(x[:, :-1])
        if isinstance(self.body, nn.RNNBase):
            h, _ = self.body(h)
        else:
            causal = nn.Transformer.generate_square_subsequent_mask(h.shape[1])
            h = self.body(h, mask=causal, is_causal=True)
        return self.ends.log_prob(h, x).masked_fill(~mask, 0)


def models(family: str, width: int, layers: int, symbols: int) -> dict[str, nn.Module]:
    space = Space("symbols", symbols)
    ours: GradientFamily
    stock: nn.Module
    if family in RECURRENT:
        own, torchs = RECURRENT[family]
        ours = own(space, None, hidden_size=width, layers=layers, dropout=0.0, truncation=None, density="student_t")
        stock = torchs(width, width, layers, batch_first=True)
    else:
        ours = Transformer(
            space,
            None,
            hidden_size=width,
            layers=layers,
            heads=4,
            feedforward_size=4 * width,
            rotary_base=10000.0,
            dropout=0.0,
            density="student_t",
        )
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        stock = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
    return {"ours": ours, "torch.nn": Stock(ours, stock)}


def trainer(model: Any, symbols: int, bf16: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(symbols, (BATCH, STEPS), generator=generator)
    mask = torch.ones_like(x, dtype=torch.bool)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = -model.log_prob(x, mask).mean()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="timed training steps of each model")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--size", choices=list(SIZES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = "{:<12}{:>6}{:>7}{:>8}  {:<9}{:<10}{:>10}  {}"
    print(columns.format("family", "width", "layers", "symbols", "model", "precision", "symbols/s", "to torch.nn"))
    for family in [options.family] if options.family else FAMILIES:
        for size in [options.size] if options.size else list(SIZES):
            width, layers, symbols = SIZES[size]
            runs = {
                (name, precision): trainer(model, symbols, precision == "bf16")
                for precision in ("fp32", "bf16")
                for name, model in models(family, width, layers, symbols).items()
            }
            seconds: dict[tuple[str, str], list[float]] = {run: [] for run in runs}
            for i in range(options.steps + 2):
                for run, step in runs.items():
                    begin = time.perf_counter()
                    step()
                    if i >= 2:  # the first steps warm up allocator and caches
                        seconds[run].append(time.perf_counter() - begin)
            rate = {run: BATCH * STEPS / median(times) for run, times in seconds.items()}
            for (name, precision), value in rate.items():
                ratios = "  ".join(f"{value / rate['torch.nn', other]:.2f} ({other})" for other in ("fp32", "bf16"))
                print(columns.format(family, width, layers, symbols, name, precision, f"{value:,.0f}", ratios))


if __name__ == "__main__":
    main()
