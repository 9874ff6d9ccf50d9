"""Train a gradient family by steps of an optimiser, under Lightning's Trainer."""

from __future__ import annotations

import random
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from seqlab.cost import Cost
from seqlab.data.sequences import Data
from seqlab.errors import UserError
from seqlab.families.gradient import device as devices
from seqlab.settings import Budget, Optimizer, TrainerSettings, named
from seqlab.threads import pin
from seqlab.training.gradient.batches import Stream, validation_batches
from seqlab.training.gradient.checkpoints import Checkpoints, usable
from seqlab.training.gradient.flops import train_flops
from seqlab.training.gradient.loss import LossFunction, TaskLoss
from seqlab.training.gradient.measured import peak_memory_mb, product_rate
from seqlab.training.gradient.module import Module
from seqlab.training.gradient.progress import Progressing, quiet_lightning
from seqlab.training.gradient.validation import Validation
from seqlab.training.interruption import noted
from seqlab.training.job import Log
from seqlab.training.resume import Checkpoint, writing

if TYPE_CHECKING:
    from seqlab.families.gradient import GradientFamily
    from seqlab.families.seq2seq import Seq2Seq
    from seqlab.training.gradient.tuning import Tuning

# All validations of a training together read at most this share of the positions that it trains on.
VALIDATION_SHARE = 0.5


@dataclass(frozen=True)
class FitReport:
    """What a training did; the same on every run with the same inputs, resumed or not.

    Losses are in nats, per symbol, per step and channel, or per sequence. curves: {step, train_loss, valid_loss} of
    each validation; the first comes before any training and so has no train_loss. positions: trained on, no padding.
    padding: the share of the batches' positions that is padding.
    """

    steps: int
    best_step: int
    best_loss: float
    sequences: int
    positions: int
    padding: float
    flops: int
    curves: list[dict[str, float]]


def fit(
    model: GradientFamily | Seq2Seq,
    loss: TaskLoss,
    train: Data,
    valid: Data,
    *,
    budget: Budget,
    optimizer: Optimizer,
    trainer: TrainerSettings,
    seed: int,
    checkpoint: Checkpoint,
    log: Log,
    tuning: Tuning | None = None,
    training_loss: LossFunction | None = None,
) -> tuple[FitReport, Cost]:
    """Train `model` in place and leave it with the weights of the best validation, on the CPU.

    checkpoint: of this training's own. Where a killed one left off there, this one goes on to the same bits; its folder
    stays until `resume.finish(folder)`. log: gets each validation's losses and its step. The number of threads,
    determinism and the global random generators are set for the whole process. tuning: which parameters are trained
    when; None: all, always. training_loss: what is trained on, where that is not the task's own loss.

    Raises Interrupted after the step in which a signal asks the process to end, with a checkpoint of that step.
    Raises UserError when the training diverges, another process trains in `checkpoint`, the data are empty or lack
    labels, or there is no such device.
    """
    check(loss, train, valid, budget, trainer)
    pin(trainer.threads)
    stream = Stream(train, budget.tokens, seed)
    share = int(VALIDATION_SHARE * budget.steps * budget.tokens / budget.evaluations)
    validated = {round(k * budget.steps / budget.evaluations) for k in range(1, budget.evaluations + 1)}
    held_out = validation_batches(valid, budget.tokens, share, seed)
    validation = Validation(valid, held_out, validated, checkpoint.folder, log)
    resumable = checkpoint.folder / "resume.ckpt"
    with quiet_lightning(), noted("the same command begins anew") as request:
        checkpoints = Checkpoints(resumable, checkpoint.seconds, seed, stream, request)
        loop = build_trainer(trainer, budget.steps, [validation, checkpoints, Progressing(stream)])
        stream.rank, stream.ranks = loop.global_rank, loop.world_size
        flops = train_flops(model, training_loss or loss, stream, budget.steps, tuning)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed + loop.global_rank)
        device = loop.strategy.root_device
        devices.claim(device)
        on_gpu = device.type == "cuda"
        # By name: who trains on a CPU does not depend on how a card records.
        chosen = named("seqlab.training.gradient.recorded.chosen") if on_gpu or trainer.compile else lambda *_: Module
        build = chosen(stream, trainer, training_loss or loss)
        module = build(model.train(), loss, optimizer, budget.steps, trainer.compile, tuning, training_loss)
        # A generator of its own, since a loader draws a seed that would shift the model's draws.
        loader = DataLoader(stream, batch_size=None, num_workers=0, pin_memory=on_gpu, generator=torch.Generator())
        with writing(checkpoint.folder) if loop.is_global_zero else nullcontext():
            resumed = usable(resumable, module, [validation, checkpoints], loop.is_global_zero)
            with suppress(SIGTERMException):  # of a signal before the first step, which `request` knows of too
                loop.fit(module, loader, ckpt_path=resumed, weights_only=True)
    model.load_state_dict(validation.best)
    sequences, positions, padding = stream.seen(budget.steps)
    report = FitReport(
        steps=budget.steps,
        best_step=validation.best_step,
        best_loss=validation.best_loss,
        sequences=sequences,
        positions=positions,
        padding=padding / max(1, positions + padding),
        flops=flops,
        curves=validation.curves,
    )
    seconds = checkpoints.spent - validation.seconds
    memory = peak_memory_mb(device)  # before a product is timed, which takes some itself
    rate = product_rate(device, torch.bfloat16 if trainer.precision == "bf16-mixed" else torch.float32)
    cost = Cost(
        seconds=checkpoints.spent,
        sequences_per_second=sequences / seconds,
        symbols_per_second=positions / seconds,
        peak_memory_mb=memory,
        flops_per_second=flops / seconds,
        product_share=flops / seconds / (rate * stream.ranks),
    )
    return report, cost


def build_trainer(settings: TrainerSettings, steps: int, callbacks: list[Callback]) -> Trainer:
    """Lightning's Trainer for a number of steps, deterministic, with nothing of its own beside them."""
    # Comes with determinism as an aid for finding reads of uninitialised memory, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property that torch's types lack
    return Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        # A task leaves the other task's output end without a gradient.
        strategy="ddp_find_unused_parameters_true" if settings.strategy == "ddp" else settings.strategy,
        precision=settings.precision,
        deterministic="warn",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def check(loss: TaskLoss, train: Data, valid: Data, budget: Budget, settings: TrainerSettings) -> None:
    """Raises UserError for what the data or the configuration make impossible."""
    for name in ("steps", "tokens", "evaluations"):
        if getattr(budget, name) < 1:
            raise UserError(f"{name}: found {getattr(budget, name)}, expected at least 1")
    for name, data in (("training", train), ("validation", valid)):
        if not len(data):
            raise UserError(f"{name} set: it is empty, expected at least one sequence")
        if loss.labelled and data.labels is None:
            raise UserError(f"{name} set: it has no labels, expected a class for each sequence")
    devices.check(settings)
