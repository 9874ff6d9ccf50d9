"""What a training says to the one who waits for it: how far it is, and none of Lightning's notices."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from seqlab.training.gradient.batches import Stream

CHANGES_NO_BIT = True


class Progressing(Callback):
    """On standard error: a bar in a terminal, elsewhere a line every ten seconds at most."""

    def __init__(self, stream: Stream):
        self.stream = stream
        self.bar: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = self.shown = time.perf_counter()
        self.epoch_steps = len(self.stream.epoch(0))
        _, self.epoch_positions, _ = self.stream.seen(self.epoch_steps)
        self.first = trainer.global_step
        if trainer.is_global_zero and sys.stderr.isatty():
            # Drawn from the steps: a thread of its own would take the interpreter from the training.
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}"),
                console=Console(stderr=True),
                auto_refresh=False,
            )
            self.bar.start()
            self.bar.add_task("train", total=trainer.max_steps, completed=trainer.global_step, status="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.perf_counter(), trainer.global_step
        last = step == trainer.max_steps
        if not trainer.is_global_zero or not (last or now - self.shown >= (10.0 if self.bar is None else 0.2)):
            return
        self.shown = now
        pace = (step - self.first) / (now - self.began)  # steps/s
        symbols = amount(pace * self.epoch_positions / self.epoch_steps)
        left = clock((trainer.max_steps - step) / pace)
        status = f"loss {outputs['loss'].item():.3f} {symbols} symbols/s {left} left"
        if self.bar is None:
            print(f"step {step}/{trainer.max_steps} {status}", file=sys.stderr, flush=True)
        else:
            self.bar.update(self.bar.task_ids[0], completed=step, status=status, refresh=True)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.stop()


def amount(value: float) -> str:
    """Three significant digits or fewer: 930, 42k, 1.2M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.{0 if value >= 10 * size else 1}f}{unit}"
    return f"{value:.0f}"


def clock(seconds: float) -> str:
    """0:31, 12:05 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and notices to itself, but not its warnings, save three."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Batches are gathered from memory: a worker process would only add its transport.
            warnings.filterwarnings("ignore", ".*does not have many workers.*", category=PossibleUserWarning)
            # Wherever Slurm is installed, whatever is meant: processes are started as trainer.devices says.
            warnings.filterwarnings("ignore", ".*`srun` command is available.*", category=PossibleUserWarning)
            # Lightning's own use of a name that torch deprecates.
            warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
