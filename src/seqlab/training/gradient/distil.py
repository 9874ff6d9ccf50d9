"""What a student learns from its teacher beside the labels: soft targets, or whole translations."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seqlab.artifacts import seed_of
from seqlab.data.pairs import Pairs
from seqlab.data.sequences import Sequences
from seqlab.families.gradient import GradientFamily, SymbolEnds, VectorEnds
from seqlab.families.gradient.ends import lagged
from seqlab.training.gradient.batches import TensorBatch
from seqlab.training.gradient.task import Loss, TaskName
from seqlab.training.settings import Distillation


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(..., K) logits twice -> (...): T² KL(teacher || student), both softened by T.

    Its gradient with respect to the student's logits is T (softmax(student / T) - softmax(teacher / T)), as large as
    that of the labels whatever T is.
    """
    ours, theirs = (F.log_softmax(logits / temperature, -1) for logits in (student, teacher))
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(-1)


def taught(pairs: Pairs, translated: Callable[[list[list[int]]], list[list[int]]], share: float, seed: int) -> Pairs:
    """Pairs of which about `share`, drawn by `seed`, have the teacher's translation of their source as target:
    sequence-level distillation (Kim and Rush 2016)."""
    chosen = np.flatnonzero(np.random.default_rng(seed_of(seed, "taught")).random(len(pairs)) < share)
    targets = list(pairs.target)
    for i, symbols in zip(chosen, translated([pairs.source[int(i)].tolist() for i in chosen]), strict=True):
        targets[i] = np.array(symbols, pairs.target.values.dtype)
    return Pairs(pairs.source, Sequences.from_arrays(targets))


class Distilled:
    """Soft targets (Hinton, Vinyals and Dean 2015) beside the labels.

    weight x soft loss + (1 - weight) x the labels' loss, summed over what the task's own loss is summed over.

    Symbols and classes are softened by the temperature. A density has none: there the soft loss is -log P, under the
    student, of one value that the teacher draws at each position, which is their cross-entropy on average.
    """

    def __init__(self, teacher: GradientFamily, task: TaskName, settings: Distillation):
        self.teacher, self.settings = teacher.eval().requires_grad_(False), settings
        self.loss = self.classify if task == "classify" else self.next_step

    def __call__(self, model: GradientFamily, batch: TensorBatch) -> Loss:
        if self.teacher.device != batch.x.device:
            self.teacher.to(batch.x.device)
        return self.loss(model, batch)

    def classify(self, model: GradientFamily, batch: TensorBatch) -> Loss:
        assert batch.labels is not None, "classification needs labels"
        student, teacher = (one.class_logits(batch.x, batch.mask) for one in (model, self.teacher))
        soft = soft_loss(student, teacher, self.settings.temperature)
        hard = F.cross_entropy(student, batch.labels, reduction="none")
        return Loss(self.mixed(soft, hard).sum(), torch.full_like(soft.sum(), len(soft)))

    def next_step(self, model: GradientFamily, batch: TensorBatch) -> Loss:
        student, teacher = (one.encode(batch.x[:, :-1])[:, : batch.x.shape[1]] for one in (model, self.teacher))
        if isinstance(model.ends, SymbolEnds):
            channels = 1
            ours, theirs = model.ends.leave(student).float(), self.teacher.ends.leave(teacher).float()
            soft = soft_loss(ours, theirs, self.settings.temperature)
            hard = F.cross_entropy(ours.flatten(0, 1), batch.x.flatten(), reduction="none").view(batch.x.shape)
        else:
            channels, last = batch.x.shape[2], lagged(batch.x)[:, :-1]
            ours = model.ends.predictive(student, last)
            drawn = cast(VectorEnds, self.teacher.ends).predictive(teacher, last).draw()
            soft, hard = -ours.log_prob(drawn), -ours.log_prob(batch.x)
        total = self.mixed(soft, hard).masked_fill(~batch.scored, 0).sum()
        return Loss(total, batch.scored.sum().float() * channels)

    def mixed(self, soft: Tensor, hard: Tensor) -> Tensor:
        return self.settings.weight * soft + (1 - self.settings.weight) * hard
