"""What the configuration says about training, as plain typed objects (no torch, so that checking them is instant)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Budget:
    """How long one training may take. Every family of a domain gets the same."""

    steps: int  # optimiser steps
    tokens: int  # positions in a batch, padding included
    evaluations: int  # validations, evenly spaced; the best one is kept

    def scaled(self, factor: float, most: int | None = None) -> Budget:
        """The suite's share of the steps, at least two and `most` at most, with no more validations than steps."""
        steps = max(2, round(self.steps * factor))
        steps = steps if most is None else min(steps, most)
        return replace(self, steps=steps, evaluations=min(self.evaluations, steps))


@dataclass(frozen=True)
class Noise:
    """What is done to a text that a denoiser is to restore (Song et al. 2019; Lewis et al. 2020)."""

    masked: float  # share of the tokens, in spans, each token replaced by a mask
    span: float  # mean tokens of a span
    shuffled: float  # no remaining token moves further than this many places (Lample et al. 2018)


@dataclass(frozen=True)
class SourceBudget(Budget):
    """How the source's model is trained: on the next step or, where there is noise, on restoring what it hid."""

    noise: Noise | None = None


@dataclass(frozen=True)
class TaskBudget(Budget):
    """How a task on the target is trained.

    start: whose model a gradient family begins with. source: what the strategy says (the source's model, or none).
    target: the next-step model that this cell has just tuned on the target, in every strategy, the control included
    (Howard and Ruder 2018); the strategy's own rate is then not applied, so that arms differ in the source alone.
    """

    start: Literal["source", "target"]
    learning_rate_factor: float  # multiplies the family's learning rate


@dataclass(frozen=True)
class Optimizer:
    """AdamW with linear warm-up and cosine decay (Loshchilov and Hutter 2017, 2019)."""

    learning_rate: float
    weight_decay: float
    betas: list[float]
    clip: float  # largest gradient norm over all parameters
    warmup: float  # fraction of the steps
    floor: float  # final learning rate, as a fraction of the largest


@dataclass(frozen=True)
class Strategy:
    """How the source is used on the target."""

    init: Literal["scratch", "pretrained"]
    learning_rate_factor: float  # multiplies the family's learning rate
    share: float = 1.0  # of the target's training examples: the first of a fixed permutation, so that shares are nested


@dataclass(frozen=True)
class TrainerSettings:
    """Where and how the arithmetic is done; the names are those of Lightning's Trainer where it has them."""

    accelerator: Literal["cpu", "gpu", "auto"]
    devices: int
    num_nodes: int
    strategy: str
    precision: Literal["32-true", "bf16-mixed"]
    threads: int  # OpenMP threads of a process
    compile: bool
    max_steps: int | None  # of every training, whatever the budget says; null: no such limit
    checkpoint_seconds: float  # between checkpoints from which a killed stage resumes


@dataclass(frozen=True)
class Decoding:
    """How translations are searched for. Every neural system of a domain gets the same."""

    beam_size: int  # 1: greedy
    length_penalty: float  # scores are log-probabilities over length to this power
    patience: float | None  # stop at patience * beam_size finished hypotheses; null: when none can win any more
    longest_factor: float  # a translation has at most factor * source + constant symbols
    longest_constant: int
    batch: int  # sources decoded at once
