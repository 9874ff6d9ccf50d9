"""What the configuration says about training, as plain typed objects (no torch, so that checking them is instant)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Register = Literal["plain", "polite"]
"""How Korean speaks to its readers: 한다 or 합니다."""


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
    """AdamW, and Muon where asked for, with linear warm-up and cosine decay (Loshchilov and Hutter 2017, 2019)."""

    learning_rate: float
    weight_decay: float
    betas: list[float]
    clip: float  # largest gradient norm over all parameters
    warmup: float  # fraction of the steps
    floor: float  # final learning rate, as a fraction of the largest
    matrix_learning_rate: float | None = None  # Muon's, of the body's matrices; None: AdamW trains these too

    def scaled(self, factor: float) -> Optimizer:
        """With all rates multiplied by `factor`."""
        matrices = self.matrix_learning_rate
        return replace(
            self,
            learning_rate=self.learning_rate * factor,
            matrix_learning_rate=None if matrices is None else matrices * factor,
        )


@dataclass(frozen=True)
class Hiding:
    """Which positions the masked objective hides."""

    share: float  # of the positions, about
    span: int  # neighbours that are hidden together


@dataclass(frozen=True)
class Objective:
    """What pretraining predicts: the next position, or hidden ones from both sides."""

    predicts: Literal["next", "hidden"]
    hidden: Hiding | None = None

    @property
    def task(self) -> Literal["next_step", "masked"]:
        return "next_step" if self.predicts == "next" else "masked"


@dataclass(frozen=True)
class Slanted:
    """The slanted triangular rate of Howard and Ruder (2018), in place of the optimiser's own schedule."""

    cut: float  # share of the steps over which the rate rises
    ratio: float  # of the largest rate to the smallest


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters (Hu et al. 2022): a matrix W becomes W + alpha / rank B A, of which B and A are trained."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class Decoding:
    """How translations are searched for. Every neural system of a domain gets the same."""

    beam_size: int  # 1: greedy
    length_penalty: float  # scores are log-probabilities over length to this power
    patience: float | None  # stop at patience * beam_size finished hypotheses; null: when none can win any more
    longest_factor: float  # a translation has at most factor * source + constant symbols
    longest_constant: int
    batch: int  # sources decoded at once


@dataclass(frozen=True)
class Distillation:
    """Targets from a teacher: soft ones (Hinton, Vinyals and Dean 2015), or translations (Kim and Rush 2016)."""

    temperature: float  # of symbols and classes; a density has none, and a translation is not softened
    weight: float  # of the soft targets, 0 to 1; the labels get the rest
    decoding: Decoding | None = None  # of a teacher that translates


@dataclass(frozen=True)
class PseudoLabels:
    """Self-training (Lee 2013): the model's own classes for target data that has none."""

    confidence: float  # least probability of a class that is believed
    rounds: int


@dataclass(frozen=True)
class Strategy:
    """How the source is used on the target. A part that is None is not used.

    init: scratch, pretrained (the source's model), or the path of a safetensors file in the family's own layout.
    teacher: the strategy whose model of the same domain, family, fraction and seed teaches. sizes: factors of the
    family's own sizes, where it has them, for a smaller or larger model of the same kind. control: the strategy it is
    compared with on the same share of the target; None: scratch. order: of the positions within each sequence, in
    training, validation and test; shuffled, the next step is the one task, and the value of order its result.
    """

    init: str
    learning_rate_factor: float  # multiplies the family's learning rate
    frozen: Literal["body"] | None = None  # only the task's own output end, or head, is trained
    depth_factor: float | None = None  # a layer group's rate, as a fraction of the rate of the group above it
    unfreezing: float | None = None  # share of the steps over which the groups join the training, from the top
    slanted: Slanted | None = None
    adapters: Adapters | None = None
    sizes: dict[str, float] | None = None
    teacher: str | None = None
    distillation: Distillation | None = None
    pseudo_labels: PseudoLabels | None = None
    control: str | None = None
    order: Literal["kept", "shuffled"] = "kept"

    @property
    def grouped(self) -> bool:
        """Whether parameters are trained in groups: not all, not from the first step, or not at one rate."""
        parts = (self.frozen, self.depth_factor, self.unfreezing, self.slanted, self.adapters)
        return any(part is not None for part in parts)

    @property
    def stepped(self) -> bool:
        """Whether it speaks of steps, layers or gradients, which a closed form has not."""
        return self.grouped or self.distillation is not None


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
