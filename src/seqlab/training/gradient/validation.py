"""Validation between steps: the best weights are kept, and a training that diverges ends."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seqlab.artifacts import write_tensors
from seqlab.data.sequences import Data
from seqlab.errors import UserError
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.module import Module
from seqlab.training.gradient.ranks import interval
from seqlab.training.job import Log

# A validation this far (nats, or as a multiple of the first one's size) above the one before training has diverged.
DIVERGED_NATS, DIVERGED_TIMES = 100.0, 10.0


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
        found = where if self.best else "nothing was trained"
        raise UserError(f"training diverged at step {step}: {what}; {found}; try a lower optimizer.learning_rate")
