"""Training steps, compiled or recorded: a card is told the step of a shape once, and repeats it at one launch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from seqlab.families.gradient.graphs import Graphs
from seqlab.settings import TrainerSettings
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.lookup import by_product
from seqlab.training.gradient.loss import LossFunction, TaskLoss
from seqlab.training.gradient.module import Module
from seqlab.training.gradient.muon import BatchedMuon

# Recorded steps at most: each keeps the card's copies of its kernels' arguments. Further shapes run as written.
MOST = 256
# Where a step is compiled, or recorded and of more than SHAPES shapes, lengths are multiples of this.
MULTIPLE, SHAPES = 32, 16


def chosen(stream: Stream, settings: TrainerSettings, loss: LossFunction) -> type[Module]:
    """Who runs the steps of `stream`, which then has few shapes, where they are compiled or run on a card."""
    # Of several ranks each would record how it waits for the others.
    records = stream.ranks == 1 and not settings.compile and isinstance(loss, TaskLoss) and loss.recordable
    if settings.compile or (records and shapes(stream) > SHAPES):
        stream.multiple = MULTIPLE
    return RecordedModule if records else CompiledModule if settings.compile else Module


def shapes(stream: Stream) -> int:
    """How many shapes an epoch's batches have."""
    sizes = stream.data.sizes.reshape(len(stream.data), -1)
    return len({(len(part), *sizes[part].max(0)) for part in stream.epoch(0)})


class OnCard(Module):
    """Few symbols are looked up by a product, where the model is on a card."""

    def __init__(self, model: nn.Module, *others: Any):
        by_product(model)
        super().__init__(model, *others)


class CompiledModule(OnCard):
    """Its optimiser's steps are compiled as its loss is, where they are not one kernel as they are."""

    def __init__(self, model: nn.Module, *others: Any):
        # What earlier trainings of this process compiled counts against a limit, past which nothing is compiled.
        torch.compiler.reset()
        super().__init__(model, *others)

    def configure_optimizers(self) -> Any:
        found = super().configure_optimizers()
        for part in getattr(found["optimizer"], "parts", ()):
            if isinstance(part, BatchedMuon):
                compile_steps(part)
        return found


def compile_steps(muon: BatchedMuon) -> None:
    """Sums, casts and norms around the products, which read and write every matrix a dozen times, become a few."""
    compiled: dict[torch.Size, Callable[..., None]] = {}

    def apply(parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], group: Any, *by: float) -> None:
        shape = parameters[0].shape
        if shape not in compiled:
            # Of a code of its own: of one code only so many shapes are compiled.
            own = FunctionType(BatchedMuon.apply.__code__.replace(), BatchedMuon.apply.__globals__)
            compiled[shape] = torch.compile(own, dynamic=False)
        # A number would be compiled in: of the rate's, which a schedule changes, anew at every step.
        constants = {name: group[name] for name in ("momentum", "ns_coefficients", "ns_steps", "eps")}
        factors = (torch.full((), float(factor), device=parameters[0].device) for factor in by)
        compiled[shape]([p.detach() for p in parameters], gradients, momenta, constants, *factors)

    muon.apply = apply  # type: ignore[method-assign]


class RecordedModule(OnCard):
    """Its training step is the whole step, and what the Trainer would do beside it is left out."""

    recorded: Recorded

    def on_train_start(self) -> None:
        prepare(self.trainer.optimizers[0], self.device)
        self.recorded = Recorded(self.whole_step)

    def on_train_end(self) -> None:
        del self.recorded  # which holds this module: records go now, and not when cycles are looked for

    def training_step(self, batch: TensorBatch, batch_idx: int) -> dict[str, Tensor]:
        phase = None if self.tuning is None else tuple(p.requires_grad for p in self.model.parameters())
        mean, total, number, self.norm = self.recorded(batch, phase)
        return {"loss": mean, "total": total, "number": number}

    def whole_step(self, batch: TensorBatch) -> tuple[Tensor, ...]:
        """The mean loss, its total and number, and the gradient's norm before clipping."""
        kind, optimizer = self.device.type, self.trainer.optimizers[0]
        half, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        # The way back is not under autocast, as it is not in the Trainer.
        with torch.autocast(kind, enabled=False):
            optimizer.zero_grad()
            # What was cast once would be of this step's weights in all that repeat it.
            with torch.autocast(kind, dtype, enabled=half, cache_enabled=False):
                loss = self.training_loss(self.model, batch)
            loss.mean.backward()
            norm = nn.utils.clip_grad_norm_(self.parameters(), self.settings.clip)
            optimizer.step()
        return loss.mean.detach(), loss.total.detach(), loss.number, norm

    def optimizer_zero_grad(self, *_: Any) -> None: ...

    def backward(self, *_: Any, **__: Any) -> None: ...

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer_closure()  # the training step


class Recorded:
    """A training step, as a function of a batch, on one CUDA device.

    The first step of a shape runs as written, which prepares what kernels of that shape need; the second is recorded;
    it and all later ones are repeated from the record.

    step: all that it reads beside the batch and all that it changes lies at one address from step to step; it looks at
    no value, and draws from CUDA's own generator alone.
    """

    def __init__(self, step: Callable[[TensorBatch], tuple[Tensor, ...]]):
        self.step = step
        self.met: set[Hashable] = set()
        self.graphs: dict[Hashable, tuple[list[Tensor], Any, tuple[Tensor, ...]]] = {}
        self.recorder = Graphs()

    def __call__(self, batch: TensorBatch, phase: Hashable = None) -> tuple[Tensor, ...]:
        """What `step` returns, to be read before the next step. phase: what else a step's kernels depend on."""
        key = (phase, tuple(None if part is None else part.shape for part in batch[:-1]))
        if key not in self.graphs:
            if key not in self.met or len(self.graphs) >= MOST:
                self.met.add(key)
                return self.as_written(batch)
            self.graphs[key] = self.record(batch)
        inputs, graph, outputs = self.graphs[key]
        for held, part in zip(inputs, tensors(batch), strict=True):
            held.copy_(part, non_blocking=True)
        graph.replay()
        return outputs

    def as_written(self, batch: TensorBatch) -> tuple[Tensor, ...]:
        return self.recorder.as_written(lambda: self.step(batch))

    def record(self, batch: TensorBatch) -> tuple[list[Tensor], Any, tuple[Tensor, ...]]:
        """Nothing is computed yet."""
        held = TensorBatch(*(None if part is None else part.clone() for part in batch[:-1]))  # type: ignore[arg-type]
        return tensors(held), *self.recorder.record(lambda: self.step(held))


def tensors(batch: TensorBatch) -> list[Tensor]:
    return [part for part in batch[:-1] if part is not None]


def prepare(optimizer: Optimizer, device: torch.device) -> None:
    """Let steps of `optimizer` be recorded: a rate is a tensor there, which its schedule fills anew at every step.

    After a checkpoint was read, whose tensors come from elsewhere.
    """
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
        group["capturable"] = True
    for part in getattr(optimizer, "parts", (optimizer,)):
        # It warns of steps that are not recorded, as the first of each shape is not.
        part._warned_capturable_if_run_uncaptured = True
