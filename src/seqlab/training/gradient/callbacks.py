"""What happens around the steps: validation and the best weights, checkpoints to resume from, progress."""

from __future__ import annotations

import math
import random
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor

from seqlab.artifacts import flush, write_tensors
from seqlab.data.sequences import Data
from seqlab.errors import Interrupted, UserError
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.module import Module
from seqlab.training.interruption import Request
from seqlab.training.job import Log

# A validation this far (nats, or as a multiple of the first one's size) above the one before training has diverged.
DIVERGED_NATS, DIVERGED_TIMES = 100.0, 10.0


def interval(trainer: Trainer) -> int:
    """Steps between looks at results.

    A look waits for a GPU to finish what it was given, and every rank must take it at the same step.
    """
    return 1 if trainer.world_size == 1 and trainer.strategy.root_device.type == "cpu" else 16


class Validation(Callback):
    """Validates at `steps` and before the first, keeps the best weights, and stops a training that diverges.

    Raises UserError naming the step when the loss or the gradient is not finite, or when the validation loss is far
    above its first value; the best weights so far are then left in `folder`.
    """

    def __init__(self, data: Data, batches: list[np.ndarray], steps: set[int], folder: Path, log: Log):
        self.data, self.batches, self.steps, self.folder = data, batches, steps, folder
        self.tell = log  # Lightning gives every callback a `log` of its own
        self.recent: list[Tensor] = []
        self.train_total = self.train_count = 0.0
        self.curves: list[dict[str, float]] = []
        self.best_loss, self.best_step = math.inf, 0
        self.best: dict[str, Tensor] = {}
        self.seconds = 0.0  # spent on validation

    def state_dict(self) -> dict[str, Any]:
        names = ("train_total", "train_count", "curves", "best_loss", "best_step", "best", "seconds")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        vars(self).update(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            self.validate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: TensorBatch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Module)
        self.recent.append(torch.stack([outputs["total"], outputs["number"], pl_module.norm]))
        due = trainer.global_step in self.steps
        if due or trainer.global_step % interval(trainer) == 0:
            self.inspect(trainer)
        if due:
            self.validate(trainer, pl_module)

    def inspect(self, trainer: Trainer) -> None:
        """Read the losses since the last look; stop if one of them, or a gradient, is not finite."""
        losses = torch.stack(self.recent).tolist()
        for step, (total, count, norm) in enumerate(losses, trainer.global_step - len(losses) + 1):
            if not (math.isfinite(total) and math.isfinite(norm)):
                what = f"loss {total / max(1, count):.4g}, gradient norm {norm:.4g}"
                self.diverged(trainer, step, what)
            self.train_total += total
            self.train_count += count
        self.recent.clear()

    def validate(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, Module)
        began, step = time.perf_counter(), trainer.global_step
        module.eval()
        losses = []
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for indices in self.batches[trainer.global_rank :: trainer.world_size]:
                batch = trainer.strategy.batch_to_device(TensorBatch.of(self.data.batch(indices)))
                losses.append(torch.stack(module.loss(module.model, batch)))
        module.train()
        valid_total, valid_count = torch.stack(losses).cpu().double().sum(0).tolist() if losses else (0.0, 0.0)
        local = torch.tensor([valid_total, valid_count, self.train_total, self.train_count], dtype=torch.float64)
        sums = trainer.strategy.reduce(local.to(trainer.strategy.root_device), reduce_op="sum")
        valid_total, valid_count, train_total, train_count = sums.tolist()
        self.train_total = self.train_count = 0.0
        if not valid_count:
            raise UserError("validation set: it has no scored position, expected at least one")
        valid_loss = valid_total / valid_count
        point = {"step": step, "valid_loss": valid_loss}
        if step:
            point["train_loss"] = train_total / max(1.0, train_count)
        first = self.curves[0]["valid_loss"] if self.curves else valid_loss
        if not valid_loss - first <= max(DIVERGED_NATS, DIVERGED_TIMES * abs(first)):
            self.diverged(trainer, step, f"validation loss {valid_loss:.4g}, before training {first:.4g}")
        self.curves.append(point)
        if valid_loss < self.best_loss:
            self.best_loss, self.best_step = valid_loss, step
            self.best = {name: part.detach().cpu().clone() for name, part in module.model.state_dict().items()}
        self.tell({name: value for name, value in point.items() if name != "step"}, step)
        self.seconds += time.perf_counter() - began

    def diverged(self, trainer: Trainer, step: int, what: str) -> None:
        kept = self.folder / "last_good.safetensors"
        if self.best and trainer.is_global_zero:
            write_tensors(kept, {name: part.numpy() for name, part in self.best.items()})
        where = f"weights of step {self.best_step} (validation loss {self.best_loss:.4g}) are in {kept}"
        raise UserError(
            f"training diverged at step {step}: {what}; "
            f"{where if self.best else 'nothing was trained'}; try a lower optimizer.learning_rate"
        )


class Checkpoints(Callback):
    """Every `seconds`, all that the rest of the training depends on, under one name that is replaced as a whole.

    Where a signal has asked the process to end, once more, and then raises Interrupted.
    """

    def __init__(self, path: Path, seconds: float, seed: int, stream: Stream, request: Request):
        self.path, self.seconds, self.seed, self.stream, self.request = path, seconds, seed, stream, request
        self.spent = 0.0  # seconds, by trainings that were killed
        self.generators: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = self.saved = time.perf_counter()
        self.request.install()  # over Lightning's, which makes a success of SIGTERM
        if trainer.global_step:
            self.kept(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.generators is not None:
            if trainer.is_global_zero:
                set_generators(self.generators)
            else:
                torch.manual_seed(self.seed + trainer.global_rank + trainer.global_step)
            self.generators = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % interval(trainer):
            return
        asked = self.request.number is not None
        due = asked or time.perf_counter() - self.saved >= self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self.save(trainer)
            # Whichever rank the signal reached, all end at the same step.
            if trainer.strategy.reduce_boolean_decision(asked, all=False):
                raise Interrupted(self.request.number or signal.SIGTERM, self.request.note)

    def save(self, trainer: Trainer) -> None:
        """Under the final name stands the old checkpoint or the new one, whatever fails, the power included."""
        fresh = self.path.with_suffix(".new")
        trainer.save_checkpoint(fresh, weights_only=False)
        if trainer.is_global_zero:
            flush(fresh)
            fresh.replace(self.path)
            flush(self.path.parent)
        self.saved = time.perf_counter()
        self.kept(trainer)

    def kept(self, trainer: Trainer) -> None:
        note = f"step {trainer.global_step} of {trainer.max_steps} is kept, and the same command goes on there"
        self.request.note = note

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.spent += time.perf_counter() - self.began

    def state_dict(self) -> dict[str, Any]:
        return {"generators": get_generators(), "spent": self.spent + time.perf_counter() - self.began}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.generators, self.spent = state_dict["generators"], state_dict["spent"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.stream.start = checkpoint["global_step"]


def usable(path: Path, model: LightningModule, callbacks: list[Callback], first: bool) -> Path | None:
    """The checkpoint at `path` if there is one and a training of `model` with these `callbacks` can go on from it.

    One that is cut short, damaged or of something else is put aside under another name, and one line says so: the
    training then starts anew. first: of several ranks the one that renames and speaks; all of them decide alike.
    """
    if not path.exists():
        return None
    if (reason := fault(path, model, callbacks)) is None:
        return path
    if first:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        print(f"seqlab: {path}: {reason}; put aside as {aside.name}, the training starts anew", file=sys.stderr)
    return None


def fault(path: Path, model: LightningModule, callbacks: list[Callback]) -> str | None:
    """What is wrong with a checkpoint, in a few words, or None."""
    try:
        with zipfile.ZipFile(path) as parts:
            # torch does not look at checksums.
            if (damaged := parts.testzip()) is not None:
                return f"the checkpoint is damaged at {damaged}"
        found = torch.load(path, map_location="cpu", weights_only=True)
        shapes = {name: part.shape for name, part in found["state_dict"].items()}
        states, step = found["callbacks"].keys(), found["global_step"]
    # What a damaged archive, and a pickle that names anything but tensors, raise is of many kinds.
    except Exception as error:
        return f"no checkpoint can be read here: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
    missing = {callback.state_key for callback in callbacks} - states
    if shapes != {name: part.shape for name, part in model.state_dict().items()} or missing or not step > 0:
        return "the checkpoint is of another training"
    return None


def get_generators() -> dict[str, Any]:
    """The state of every global random generator, in types that torch.load(weights_only=True) takes."""
    # A model that draws from NumPy's legacy generator must resume to the same bits too.
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": {**legacy, "state": {**legacy["state"], "key": legacy["state"]["key"].tolist()}},
        "python": random.getstate(),
    }


def set_generators(state: dict[str, Any]) -> None:
    """What `get_generators` returned."""
    torch.set_rng_state(state["torch"].cpu())
    for device, part in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(part.cpu(), device)
    np.random.set_state(state["numpy"])  # noqa: NPY002
    random.setstate(state["python"])


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
