"""What the configuration says, as plain typed objects that stages take (no torch, so that checking them is instant).

Only what can change a bit of a result is here; where, when and how often anything is done is in `seqlab.execution`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt

# Numbers with their ranges: pydantic holds them wherever configuration is checked (seqlab.schema).
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0), Lt(inf)]
NonNegative = Annotated[float, Ge(0), Lt(inf)]
Share = Annotated[float, Ge(0), Le(1)]
ProperShare = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Gt(0), Le(1)]
ProperFraction = Annotated[float, Gt(0), Lt(1)]
# Candidates of which validation chooses one.
CountList = Annotated[list[Count], Len(1)]
PositiveList = Annotated[list[Positive], Len(1)]
ShareList = Annotated[list[Share], Len(1)]

Register = Literal["plain", "polite"]
"""How Korean speaks to its readers: 한다 or 합니다."""


@dataclass(frozen=True)
class Budget:
    """How long one training may take. Every family of a domain gets the same."""

    steps: Count  # optimiser steps
    tokens: Count  # positions in a batch, padding included
    evaluations: Count  # validations, evenly spaced; the best one is kept

    def scaled(self, factor: float, most: int | None = None) -> Budget:
        """The suite's share of the steps, at least two and `most` at most, with no more validations than steps."""
        steps = max(2, round(self.steps * factor))
        steps = steps if most is None else min(steps, most)
        return replace(self, steps=steps, evaluations=min(self.evaluations, steps))


@dataclass(frozen=True)
class Noise:
    """What is done to a text that a denoiser is to restore (Song et al. 2019; Lewis et al. 2020)."""

    masked: Share  # share of the tokens, in spans, each token replaced by a mask
    span: Annotated[float, Ge(1)]  # mean tokens of a span
    shuffled: NonNegative  # no remaining token moves further than this many places (Lample et al. 2018)


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
    learning_rate_factor: NonNegative  # multiplies the family's learning rate


@dataclass(frozen=True)
class Optimizer:
    """AdamW, and Muon where asked for, with linear warm-up and cosine decay (Loshchilov and Hutter 2017, 2019)."""

    learning_rate: NonNegative
    weight_decay: NonNegative
    betas: Annotated[list[ProperShare], Len(2, 2)]
    clip: Positive  # largest gradient norm over all parameters
    warmup: Share  # fraction of the steps
    floor: Share  # final learning rate, as a fraction of the largest
    matrix_learning_rate: NonNegative | None = None  # Muon's, of the body's matrices; None: AdamW trains these too

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

    share: Fraction  # of the positions, about
    span: Count  # neighbours that are hidden together


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

    cut: ProperFraction  # share of the steps over which the rate rises
    ratio: Annotated[float, Ge(1)]  # of the largest rate to the smallest


@dataclass(frozen=True)
class Adapters:
    """Low-rank adapters (Hu et al. 2022): a matrix W becomes W + alpha / rank B A, of which B and A are trained."""

    rank: Count
    alpha: Positive


@dataclass(frozen=True)
class Decoding:
    """How translations are searched for. Every neural system of a domain gets the same."""

    beam_size: Count  # 1: greedy
    length_penalty: NonNegative  # scores are log-probabilities over length to this power
    patience: Positive | None  # stop at patience * beam_size finished hypotheses; null: when none can win any more
    longest_factor: NonNegative  # a translation has at most factor * source + constant symbols
    longest_constant: Count
    batch: Count  # sources decoded at once


@dataclass(frozen=True)
class Distillation:
    """Targets from a teacher: soft ones (Hinton, Vinyals and Dean 2015), or translations (Kim and Rush 2016)."""

    temperature: Positive  # of symbols and classes; a density has none, and a translation is not softened
    weight: Share  # of the soft targets, 0 to 1; the labels get the rest
    decoding: Decoding | None = None  # of a teacher that translates


@dataclass(frozen=True)
class PseudoLabels:
    """Self-training (Lee 2013): the model's own classes for target data that has none."""

    confidence: Share  # least probability of a class that is believed
    rounds: Count


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
    learning_rate_factor: NonNegative  # multiplies the family's learning rate
    frozen: Literal["body"] | None = None  # only the task's own output end, or head, is trained
    depth_factor: Fraction | None = None  # a layer group's rate, as a fraction of the rate of the group above it
    unfreezing: Share | None = None  # share of the steps over which the groups join the training, from the top
    slanted: Slanted | None = None
    adapters: Adapters | None = None
    sizes: dict[str, Positive] | None = None
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
    devices: Count
    num_nodes: Count
    strategy: str
    precision: Literal["32-true", "bf16-mixed"]
    threads: Count  # of a process
    compile: bool
    max_steps: Count | None  # of every training, whatever the budget says; null: no such limit


@dataclass(frozen=True)
class Component:
    """A section with a `_target_`: the dotted name of a class under seqlab and its keyword-only parameters."""

    target: str
    parameters: dict[str, Any]

    @property
    def module(self) -> str:
        return self.target.rpartition(".")[0]

    def build(self, *late: Any) -> Any:
        """Import the class and construct it with what only the run knows (`late`) and the configured parameters."""
        return named(self.target)(*late, **self.parameters)


def named(target: str) -> Any:
    """Import what a dotted name stands for. Whoever takes the name from a file checks it first (seqlab.naming)."""
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Family:
    """A model family as configured, and what its class states of itself.

    fit: the package under training/ that fits it. kinds: of spaces that it models. tasks: that it can be trained for.
    objectives: what it can be pretrained to predict; (): it learns from no source. adapts: linear maps that an adapter
    may change. bound: what its constructor is given by the domain.
    """

    name: str
    component: Component
    optimizer: Optimizer | None  # None: no steps of an optimiser
    fit: Literal["closed_form", "gradient", "rules", "mixture"]
    kinds: tuple[str, ...]
    tasks: tuple[str, ...]
    objectives: tuple[str, ...]
    adapts: tuple[str, ...]
    bound: tuple[str, ...] = ()

    @property
    def members(self) -> list[str]:
        """The families whose trained models it is made of."""
        return list(self.component.parameters["members"]) if self.fit == "mixture" else []

    def sized(self, factors: dict[str, float] | None) -> dict[str, Any]:
        """The constructor's parameters, those that `factors` names multiplied and rounded."""
        found = self.component.parameters
        return found | {key: max(1, round(found[key] * by)) for key, by in (factors or {}).items() if key in found}
