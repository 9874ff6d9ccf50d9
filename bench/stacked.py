"""Several seeds of one cell trained at once: one more dimension of every tensor, and one kernel for all of them.

A small model leaves a card idle while it waits for launches; with N seeds side by side a launch does N times the work.
Models of one family are functions of their stacked parameters under `torch.vmap`. Each reads its own batches, in the
order of its own seed, padded to a common shape; gradients are clipped, and the best validation kept, for each alone.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F
from torch.optim import AdamW

from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.families.gradient import GradientFamily, Recurrent, State
from seqlab.families.gradient import device as devices
from seqlab.settings import Budget, Optimizer, TrainerSettings
from seqlab.training.gradient.batches import Stream, TensorBatch, validation_batches
from seqlab.training.gradient.loss import loss_of
from seqlab.training.gradient.muon import MuonAdamW
from seqlab.training.gradient.optim import build_optimizer, build_schedule
from stacked_layers import LAYERS

VALIDATION_SHARE = 0.5  # as of `fit`
IGNORED = -100  # the label of a row that only fills a batch, which torch's cross-entropy leaves out


class SeedReport(NamedTuple):
    """What the training of one seed did, as `fit.FitReport` has it."""

    best_step: int
    best_loss: float
    curves: list[dict[str, float]]


def fit_seeds(
    models: Sequence[GradientFamily],
    task: str,
    train: Sequences,
    valid: Sequences,
    *,
    budget: Budget,
    optimizer: Optimizer,
    settings: TrainerSettings,
    seeds: Sequence[int],
    log: Callable[[int, dict[str, float], int], None],
) -> list[SeedReport]:
    """Train `models`, one a seed, in place, and leave each with the weights of its best validation, on the CPU.

    Each as `fit` trains it alone, up to the order of sums and to what dropout draws; it cannot be resumed. log: gets
    each seed's number in `seeds`, losses and step. Raises UserError when a seed diverges.
    """
    torch.set_num_threads(settings.threads)
    torch.manual_seed(seeds[0])
    device = devices.chosen(settings)
    stack = Stack(models, task, device, settings.precision == "bf16-mixed")
    together = merged([build_optimizer(twin, optimizer) for twin in stack.twins])
    schedule = build_schedule(together, budget.steps, optimizer)
    share = int(VALIDATION_SHARE * budget.steps * budget.tokens / budget.evaluations)
    held_out = [validation_batches(valid, budget.tokens, share, seed) for seed in seeds]
    validated = {round(k * budget.steps / budget.evaluations) for k in range(1, budget.evaluations + 1)}
    curves: list[list[dict[str, float]]] = [[] for _ in seeds]
    best = [(math.inf, 0) for _ in seeds]
    kept: list[dict[str, Tensor]] = [{} for _ in seeds]

    def validate(step: int, trained: np.ndarray | None) -> None:
        losses = stack.losses(valid, held_out)
        for i, loss in enumerate(losses):
            point = {"step": step, "valid_loss": loss}
            if trained is not None:
                point["train_loss"] = float(trained[i])
            curves[i].append(point)
            log(i, {name: value for name, value in point.items() if name != "step"}, step)
            if loss < best[i][0]:
                best[i], kept[i] = (loss, step), stack.weights(i)

    validate(0, None)
    sums = torch.zeros(2, len(seeds), dtype=torch.float64, device=device)
    streams = [iter(Stream(train, budget.tokens, seed)) for seed in seeds]
    for step in range(1, budget.steps + 1):
        batch = side_by_side([next(stream) for stream in streams])
        totals, numbers = stack.loss(batch)
        norms = stack.gradients((totals / numbers.clamp(min=1)).sum(), optimizer.clip)
        together.step()
        schedule.step()
        sums += torch.stack([totals.detach(), numbers]).double()
        if step in validated:
            wrong = ~(sums[0].isfinite() & norms.isfinite())
            if wrong.any():
                raise UserError(
                    f"training diverged by step {step}: seed {seeds[int(wrong.nonzero()[0])]}; "
                    "try a lower optimizer.learning_rate"
                )
            validate(step, (sums[0] / sums[1].clamp(min=1)).cpu().numpy())
            sums.zero_()
    for model, weights in zip(models, kept, strict=True):
        model.load_state_dict(weights)
    return [SeedReport(step, loss, curve) for (loss, step), curve in zip(best, curves, strict=True)]


class Stack:
    """N models of one family as one function.

    parameters: by name, each (N, ...) and a leaf that has a gradient. twins: the models, whose parameters are parts of
    these: what an optimiser changes in them, it changes here.
    """

    def __init__(self, models: Sequence[GradientFamily], task: str, device: torch.device, bf16: bool):
        self.device, self.bf16, self.task_loss = device, bf16, loss_of(task)
        self.twins = [deepcopy(model).to(device) for model in models]
        parameters, self.buffers = stack_module_state(self.twins)
        self.parameters = {name: part.detach().requires_grad_() for name, part in parameters.items()}
        for i, twin in enumerate(self.twins):
            for name, parameter in twin.named_parameters():
                parameter.data = self.parameters[name].data[i]
        self.skeleton = deepcopy(models[0]).to("meta").train()
        if isinstance(self.skeleton, Recurrent):
            beside_each_other(self.skeleton)

    def __call__(self, batch: TensorBatch) -> tuple[Tensor, Tensor]:
        """Parts (N, B, T, ...) -> summed losses and what they are summed over, (N,) each."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], parts: list[Tensor]) -> tuple[Tensor, ...]:
            x, mask, scored, *labels = parts
            loss = self.task_loss(
                Called(self.skeleton, parameters | buffers),
                TensorBatch(x, mask, scored, labels[0] if labels else None),
            )
            number = (labels[0] != IGNORED).sum().float() if self.task_loss.labelled else loss.number
            return loss.total, number

        parts = [part.to(self.device) for part in batch[:4] if part is not None]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16), warnings.catch_warnings():
            # The CPU's attention is called once a model; that costs no more than a model alone.
            warnings.filterwarnings("ignore", ".*batching rule for aten::_scaled_dot_product_flash_attention_for_cpu.*")
            totals, numbers = torch.vmap(one, randomness="different")(self.parameters, self.buffers, parts)
        return totals, numbers

    def loss(self, batch: TensorBatch) -> tuple[Tensor, Tensor]:
        self.skeleton.train()
        return self(batch)

    @torch.no_grad()
    def losses(self, data: Sequences, batches: list[list[np.ndarray]]) -> list[float]:
        """The mean loss of each model over its own batches of `data`."""
        self.skeleton.eval()
        sums = torch.zeros(2, len(batches), dtype=torch.float64, device=self.device)
        for k in range(max(map(len, batches))):
            none = np.zeros(0, np.int64)
            parts = [own[k] if k < len(own) else none for own in batches]
            found = self(side_by_side([TensorBatch.of(data.batch(indices)) for indices in parts]))
            sums += torch.stack(found).double()
        totals, numbers = sums.tolist()
        return [total / number for total, number in zip(totals, numbers, strict=True)]

    def gradients(self, loss: Tensor, most: float) -> Tensor:
        """Give every twin the gradient of `loss`, its norm over all parameters `most` at most; (N,) the norms before.

        What has no part in the loss has no gradient, and is left alone by decay as well.
        """
        for part in self.parameters.values():
            part.grad = None
        loss.backward()
        norms = clip([part.grad for part in self.parameters.values() if part.grad is not None], most)
        for i, twin in enumerate(self.twins):
            for name, parameter in twin.named_parameters():
                whole = self.parameters[name].grad
                parameter.grad = None if whole is None else whole[i]
        return norms

    def weights(self, i: int) -> dict[str, Tensor]:
        """Of one model, on the CPU."""
        state = self.parameters | self.buffers
        return {name: part[i].detach().cpu().clone() for name, part in state.items()}


class Called:
    """A family whose methods are called with parameters that it does not hold."""

    def __init__(self, skeleton: GradientFamily, state: dict[str, Tensor]):
        self.skeleton, self.state = skeleton, state

    def log_prob(self, x: Tensor, mask: Tensor) -> Tensor:
        return self._call("log_prob", x, mask)

    def class_logits(self, x: Tensor, mask: Tensor) -> Tensor:
        return self._call("class_logits", x, mask)

    def _call(self, name: str, *arguments: Tensor) -> Tensor:
        found: Tensor = functional_call(Method(self.skeleton, name), prefixed(self.state), arguments)
        return found


class Method(nn.Module):
    """A method as the forward pass of a module, which is what `functional_call` calls."""

    def __init__(self, owner: nn.Module, name: str):
        super().__init__()
        self.owner, self.name = owner, name

    def forward(self, *arguments: Tensor) -> Tensor:
        found: Tensor = getattr(self.owner, self.name)(*arguments)
        return found


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"owner.{name}": part for name, part in state.items()}


def beside_each_other(model: Recurrent) -> None:
    """Let a recurrent family's layers be those that take N models' inputs at once."""
    kernel = LAYERS[model.torch_stack]

    def layer(x: Tensor, state: State, weights: Sequence[Tensor]) -> tuple[Tensor, State]:
        outputs, *after = kernel(x, *state, *weights)
        return outputs, tuple(after)

    vars(model).update(layer=layer, run_stack=model.unroll)


def side_by_side(batches: Sequence[TensorBatch]) -> TensorBatch:
    """(B_i, T_i, ...) of N models -> (N, B, T, ...), filled with rows and positions that do not exist."""
    rows, steps = (max(batch.mask.shape[axis] for batch in batches) for axis in (0, 1))

    def filled(part: Tensor, steps: int | None, value: int = 0) -> Tensor:
        after = (0, 0) * (part.ndim - (1 if steps is None else 2))
        over = () if steps is None else (0, steps - part.shape[1])
        return F.pad(part, (*after, *over, 0, rows - len(part)), value=value)

    columns = zip(*((batch.x, batch.mask, batch.scored) for batch in batches), strict=True)
    x, mask, scored = (torch.stack([filled(part, steps) for part in parts]) for parts in columns)
    labels = [batch.labels for batch in batches if batch.labels is not None]
    return TensorBatch(
        x, mask, scored, torch.stack([filled(part, None, IGNORED) for part in labels]) if labels else None
    )


def merged(optimizers: Sequence[AdamW | MuonAdamW]) -> AdamW | MuonAdamW:
    """The first of several optimisers of the same kind, with the parameters of all: one kernel, or product, for all."""
    first, *others = optimizers
    for other in others:
        for group, more in zip(first.param_groups, other.param_groups, strict=True):
            group["params"] += more["params"]
    return first


def clip(gradients: Sequence[Tensor], most: float) -> Tensor:
    """Scale each model's gradients (N, ...) so that their norm over all parameters is `most` at most; norms before."""
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    norm: Tensor = torch.linalg.vector_norm(norms, dim=0)
    scale = (most / (norm + 1e-6)).clamp(max=1.0)  # as torch.nn.utils.clip_grad_norm_
    for gradient in gradients:
        gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))
    return norm
