"""One card, full: what training reaches there, beside the card's own matrix product and Hugging Face's models.

    python bench/gpu.py [--tiny] [--steps N] [--processes N] [--part default|side|large|muon] [--family NAME]

On the first CUDA device; without one, or with --tiny, the same tables of tiny models, so that a CPU runs every line.
Shares are of a bfloat16 product of two 8192 x 8192 matrices, timed first, by 6 operations a weight and position and
12 L D T of attention, the same for all. The same seconds pay for all of a step: batch, forward, back, clipping,
optimiser. What is compiled is timed once compiled; the seconds that compiling takes stand beside.

default: the families of conf/family through `fit` at 4,096 and 65,536 positions a step, whose steps are recorded
(`recorded`), with each step as written, and in a loop without a Trainer. side: one cell of 4,096 positions alone, and
one in each of several processes of the same card at once, as stages run there that share it. large: a Transformer of 12
layers of 768, 32 x 1,024 symbols, in a bare loop with AdamW and with Muon through Lightning's Trainer, and Hugging
Face's Llama and GPT-2 of its size in the bare loop, where `transformers` is installed. muon: see bench/muon.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as processes
import yaml
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seqlab.config import family as checked
from seqlab.cost import Cost
from seqlab.data.sequences import Sequences, Space
from seqlab.families.gradient import device as devices
from seqlab.families.transformer import Transformer
from seqlab.settings import Budget, Family, Optimizer, TrainerSettings
from seqlab.training.gradient import recorded
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.fit import build_trainer, fit
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.measured import peak_memory_mb, product_rate
from seqlab.training.gradient.module import Module
from seqlab.training.gradient.optim import build_optimizer
from seqlab.training.gradient.progress import quiet_lightning
from seqlab.training.resume import Checkpoint

CONF = Path(__file__).resolve().parent.parent / "conf" / "family"
FAMILIES = ("mlp", "rnn", "gru", "lstm", "transformer")
ADAM = Optimizer(learning_rate=3e-4, weight_decay=0.1, betas=[0.9, 0.95], clip=1.0, warmup=0.1, floor=0.1)
WARM = 3  # steps before the clock


@dataclass(frozen=True)
class Large:
    """Sizes of the large model and of its batch."""

    width: int
    layers: int
    heads: int
    rows: int
    length: int
    symbols: int = 256

    @property
    def positions(self) -> int:
        return self.rows * self.length

    def flops(self, weights: int) -> float:
        """Of a step."""
        return self.positions * (6.0 * weights + 12 * self.layers * self.width * self.length)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrices(model: nn.Module) -> int:
    """Weights that a position meets: all matrices but those that are looked up."""
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return sum(p.numel() for p in model.parameters() if p.ndim >= 2 and id(p) not in looked_up)


# ---------------------------------------------------------------------------------------------------- default sizes


def families_of(tiny: bool, asked: list[str] | None) -> tuple[str, ...]:
    """One with layers of torch's own and one without say whether every line runs."""
    return tuple(asked) if asked else ("rnn", "transformer") if tiny else FAMILIES


def family_of(name: str) -> Family:
    return checked(name, yaml.safe_load((CONF / f"{name}.yaml").read_text()))


def cells(tokens: int) -> Sequences:
    draw = np.random.default_rng(0)
    return Sequences.from_arrays(
        [draw.integers(0, 128, draw.integers(tokens // 64, tokens // 16), np.uint8) for _ in range(64)]
    )


def cell(name: str, settings: TrainerSettings, tokens: int, steps: int) -> Cost:
    family, data = family_of(name), cells(tokens)
    assert family.optimizer is not None
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        _, cost = fit(
            family.component.build(Space("symbols", 128), None),
            loss_of("next_step"),
            data,
            data.subset(np.arange(4)),
            budget=Budget(steps=steps, tokens=tokens, evaluations=1),
            optimizer=family.optimizer,
            trainer=settings,
            seed=0,
            checkpoint=Checkpoint(Path(folder), 1e9),
            log=lambda *_: None,
        )
    return cost


def bare(name: str, settings: TrainerSettings, tokens: int, steps: int) -> float:
    """Symbols/s of the same steps without a Trainer, as written, after an epoch that does not count."""
    family, device = family_of(name), devices.chosen(settings)
    assert family.optimizer is not None
    torch.manual_seed(0)
    model = family.component.build(Space("symbols", 128), None).to(device).train()
    optimizer, loss, stream = (
        build_optimizer(model, family.optimizer),
        loss_of("next_step"),
        Stream(cells(tokens), tokens, 0),
    )
    warm, symbols = len(stream.epoch(0)), 0
    for step, batch in enumerate(islice(stream, warm + steps)):
        if step == warm:
            synchronize(device)
            began = time.perf_counter()
        symbols += int(batch.mask.sum()) if step >= warm else 0
        moved = TensorBatch(*(None if part is None else part.to(device) for part in batch[:-1]))  # type: ignore[arg-type]
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            total = loss(model, moved).mean
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), family.optimizer.clip)
        optimizer.step()
    synchronize(device)
    return symbols / (time.perf_counter() - began)


def default_sizes(families: tuple[str, ...], settings: TrainerSettings, steps: int, tiny: bool) -> None:
    print("\n| family | positions a step | symbols/s | as written | bare loop | share | MB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in families:
        for tokens in (256,) if tiny else (4096, 65536):
            many = steps if tokens < 65536 else max(1, steps // 8)
            cell(name, settings, tokens, 2)  # wakes libraries
            found = cell(name, settings, tokens, many)
            most, recorded.MOST = recorded.MOST, 0
            written = cell(name, settings, tokens, many)
            recorded.MOST = most
            loop = bare(name, settings, tokens, many)
            print(
                f"| {name} | {tokens:,} | {found.symbols_per_second:,.0f} | {written.symbols_per_second:,.0f} "
                f"| {loop:,.0f} | {found.product_share:.1%} | {found.peak_memory_mb:,.0f} |",
                flush=True,
            )


# ------------------------------------------------------------------------------------------------------ side by side


def side_by_side(families: tuple[str, ...], settings: TrainerSettings, count: int, steps: int, tiny: bool) -> None:
    """A line a family, of the seconds of the training that ends last."""
    context = processes.get_context("spawn")
    barrier, found = context.Barrier(count), context.SimpleQueue()
    shared = (barrier, found, families, settings, steps, tiny)
    others = [context.Process(target=beside, args=(i, *shared)) for i in range(count)]
    for process in others:
        process.start()
    print(f"\n| family | one alone, s | {count} at once, s | times |\n|---|--:|--:|--:|")
    for _ in families:
        seconds = [found.get() for _ in range(1 + count)]
        name, alone = seconds[0]
        last = max(rest for _, rest in seconds[1:])
        print(f"| {name} | {alone:.2f} | {last:.2f} | {last / alone:.2f} |", flush=True)
    for process in others:
        process.join()


def beside(
    number: int, barrier: Any, found: Any, families: tuple[str, ...], settings: TrainerSettings, steps: int, tiny: bool
) -> None:
    """One of the processes: of each family first the one called 0 alone, then all at once."""
    torch.set_num_threads(1)
    tokens = 256 if tiny else 4096
    for name in families:
        cell(name, settings, tokens, 2)
        barrier.wait()
        if number == 0:
            found.put((name, cell(name, settings, tokens, steps).seconds))
        barrier.wait()
        seconds = cell(name, settings, tokens, steps).seconds
        found.put((name, seconds))


# ------------------------------------------------------------------------------------------------------ large models


def ours(size: Large) -> Transformer:
    torch.manual_seed(0)
    return Transformer(
        Space("symbols", size.symbols),
        None,
        hidden_size=size.width,
        layers=size.layers,
        heads=size.heads,
        feedforward_size=4 * size.width,
        rotary_base=1e4,
        dropout=0.0,
        density="gaussian",
    )


def peers(size: Large) -> dict[str, Callable[[], nn.Module]]:
    """Hugging Face's, with as many weights: Llama's MLP has three matrices, of two thirds the width."""
    if importlib.util.find_spec("transformers") is None:
        return {}
    import transformers

    llama = {
        "vocab_size": size.symbols,
        "hidden_size": size.width,
        "intermediate_size": 8 * size.width // 3,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "max_position_embeddings": size.length,
        "attn_implementation": "sdpa",
    }
    gpt2 = {
        "vocab_size": size.symbols,
        "n_embd": size.width,
        "n_layer": size.layers,
        "n_head": size.heads,
        "n_positions": size.length,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "attn_implementation": "sdpa",
    }
    return {
        "Hugging Face Llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**llama)),
        "Hugging Face GPT-2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2)),
    }


def own_loss(model: Any, x: Tensor) -> Tensor:
    found: Tensor = -model.log_prob(x, torch.ones_like(x, dtype=torch.bool)).mean()
    return found


def their_loss(model: Any, x: Tensor) -> Tensor:
    found: Tensor = model(input_ids=x, labels=x).loss
    return found


def bare_loop(
    model: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    size: Large,
    device: torch.device,
    steps: int,
    compiled: bool,
) -> tuple[float, float]:
    """Seconds a step, and of all that came before the clock."""
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    step_loss = torch.compile(loss) if compiled else loss
    draw = torch.Generator().manual_seed(0)
    began = clock = time.perf_counter()
    for step in range(WARM + steps):
        if step == WARM:
            synchronize(device)
            clock = time.perf_counter()
        x = torch.randint(size.symbols, (size.rows, size.length), generator=draw).to(device, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            total = step_loss(model, x)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    synchronize(device)
    return (time.perf_counter() - clock) / steps, clock - began


class Clock(Callback):
    """Seconds before and after step WARM of a Trainer."""

    def __init__(self, device: torch.device):
        self.device = device

    def on_train_start(self, *_: Any) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == WARM:
            synchronize(self.device)
            self.clock = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        synchronize(self.device)
        self.ended = time.perf_counter()


def through_trainer(
    model: Transformer, size: Large, settings: TrainerSettings, optimizer: Optimizer, steps: int
) -> tuple[float, float]:
    """As `bare_loop`, with what `fit` trains by."""
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, size.symbols, size.length, np.uint8) for _ in range(2 * size.rows)]
    stream = Stream(Sequences.from_arrays(rows), size.positions, 0)
    with quiet_lightning():
        trainer = build_trainer(settings, WARM + steps, [])
        device = trainer.strategy.root_device
        devices.claim(device)
        clock = Clock(device)
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]  # which Lightning sets elsewhere
        loss = loss_of("next_step")
        build = recorded.chosen(stream, settings, loss) if device.type == "cuda" else Module
        task = build(model.train(), loss, optimizer, WARM + steps, settings.compile)
        loader: DataLoader[TensorBatch] = DataLoader(stream, batch_size=None, generator=torch.Generator())
        trainer.fit(task, loader)
    return (clock.ended - clock.clock) / steps, clock.clock - clock.began


def large(size: Large, settings: TrainerSettings, device: torch.device, peak: float, steps: int) -> None:
    print("\n| model | optimiser | loop | compiled | symbols/s | share | MB | s before the clock |")
    print("|---|---|---|---|--:|--:|--:|--:|")

    def row(name: str, optimizer: str, loop: str, compiled: bool, model: nn.Module, run: Callable[[], Any]) -> None:
        weights = matrices(model)
        devices.claim(device)
        seconds, before = run()
        print(
            f"| {name} | {optimizer} | {loop} | {'yes' if compiled else 'no'} | {size.positions / seconds:,.0f} "
            f"| {size.flops(weights) / seconds / peak:.1%} | {peak_memory_mb(device):,.0f} | {before:.1f} |",
            flush=True,
        )

    makers: dict[str, tuple[Callable[[], nn.Module], Any]] = {"ours": (lambda: ours(size), own_loss)}
    makers |= {name: (make, their_loss) for name, make in peers(size).items()}
    for compiled in (False, True) if device.type == "cuda" else (False,):
        for name, (make, loss) in makers.items():
            model = make()
            row(
                name, "AdamW", "bare", compiled, model,
                partial(bare_loop, model, loss, size, device, steps, compiled),
            )  # fmt: skip
        for kind, rate in (("AdamW", None), ("Muon", 1e-2)):
            own, optimizer = ours(size), replace(ADAM, matrix_learning_rate=rate)
            where = replace(settings, compile=compiled)
            row(
                "ours", kind, "Trainer", compiled, own,
                partial(through_trainer, own, size, where, optimizer, steps),
            )  # fmt: skip


def muon(size: Large, device: torch.device, steps: int) -> None:
    """A step of the optimiser alone, of the large model's matrices."""
    print("\n| optimiser of the large model | ms a step |\n|---|--:|")
    for name, rate in (("AdamW", None), ("Muon and AdamW", 1e-2)):
        model = ours(size).to(device)
        optimizer = build_optimizer(model, replace(ADAM, matrix_learning_rate=rate))
        for p in model.parameters():
            p.grad = torch.full_like(p, 1e-3)
        began = 0.0
        for step in range(WARM + steps):
            if step == WARM:
                synchronize(device)
                began = time.perf_counter()
            optimizer.step()
        synchronize(device)
        print(f"| {name} | {1e3 * (time.perf_counter() - began) / steps:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--processes", type=int, default=None)
    parser.add_argument("--part", choices=("default", "side", "large", "muon"), action="append")
    parser.add_argument("--family", choices=FAMILIES, action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    on_card = torch.cuda.is_available() and not arguments.tiny
    where: Any = "gpu" if on_card else "cpu"
    settings = TrainerSettings(where, 1, 1, "auto", "bf16-mixed", 1, False, max_steps=None)
    device = devices.chosen(settings)
    size = Large(768, 12, 12, 32, 1024) if on_card else Large(64, 2, 4, 4, 32)
    steps = arguments.steps or (30 if on_card else 3)
    name = torch.cuda.get_device_name(device) if on_card else "one CPU core"
    peak = product_rate(device, torch.bfloat16)
    single = product_rate(device, torch.float32)
    print(f"{name}, torch {torch.__version__}: bfloat16 product {peak / 1e12:.3g} TFLOP/s, float32 {single / 1e12:.3g}")
    parts = arguments.part or ["default", "side", "large", "muon"]
    many, families = steps if not on_card else 400, families_of(not on_card, arguments.family)
    if "default" in parts:
        default_sizes(families, settings, max(2, many), not on_card)
    if "side" in parts:
        side_by_side(families, settings, arguments.processes or (16 if on_card else 2), max(2, many), not on_card)
    if "large" in parts:
        large(size, settings, device, peak, steps)
    if "muon" in parts:
        muon(size, device, steps)


if __name__ == "__main__":
    main()
