"""Checkpoints, from which a training that was killed goes on to the bits that it would have reached."""

from __future__ import annotations

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

from seqlab.errors import Interrupted
from seqlab.scratch import FULL, flush
from seqlab.training.gradient.batches import Stream
from seqlab.training.gradient.ranks import interval
from seqlab.training.interruption import Request

# Resumed or not, a training gives the same bits: tests hold it.
CHANGES_NO_BIT = True


class Checkpoints(Callback):
    """Every `seconds`, all that the rest of the training depends on, under one name that is replaced as a whole.

    Where a signal has asked the process to end, once more, and then raises Interrupted.
    """

    def __init__(self, path: Path, seconds: float, seed: int, stream: Stream, request: Request):
        self.path, self.seconds, self.seed, self.stream, self.request = path, seconds, seed, stream, request
        self.spent = 0.0  # seconds, by trainings that were killed
        self.generators: dict[str, Any] | None = None
        self.full = False  # whether the disk is, as was said

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before the first validation, and before a card that wakes at the first thing it is given."""
        self.began = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved = time.perf_counter()
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
        """Under the final name stands the old checkpoint or the new one, whatever fails, the power included.

        On a full disk the training goes on without: it is what a checkpoint is for.
        """
        fresh = self.path.with_suffix(".new")
        try:
            trainer.save_checkpoint(fresh, weights_only=False)
        except OSError as error:
            # Of several ranks the others would wait for this one.
            if error.errno not in FULL or trainer.world_size > 1:
                raise
            fresh.unlink(missing_ok=True)
            self.saved = time.perf_counter()
            if not self.full:
                print(f"seqlab: {self.path}: no checkpoint of step {trainer.global_step}: {error.strerror}; the "
                      "training goes on", file=sys.stderr)  # fmt: skip
            self.full = True
            return
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
