"""An estimate of training's arithmetic that depends on the model and the data, never on the machine."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from seqlab.errors import UserError
from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.loss import LossFunction

if TYPE_CHECKING:
    from seqlab.training.gradient.tuning import Tuning

aten = torch.ops.aten


def layer_flops(x: torch.Size, weight_ih: torch.Size, weight_hh: torch.Size) -> int:
    """A recurrent layer going forward: both weights meet every position of x (T, B, D)."""
    return 2 * x[0] * x[1] * (prod(weight_ih) + prod(weight_hh))


# Of products that torch's own table does not have, from the shapes of their arguments.
FORMULAS: dict[Any, Any] = {
    aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1],
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
    aten.mkldnn_rnn_layer: lambda x, ih, hh, *_, **__: layer_flops(x, ih, hh),
    # Of the inputs, or states, and of the weights.
    aten.mkldnn_rnn_layer_backward: lambda x, ih, hh, *_, **__: 2 * layer_flops(x, ih, hh),
}
# What moves, chooses or fills, beside what torch itself tags as element-wise or a reduction: no product.
MOVES = {
    *(aten.cat, aten.stack, aten.embedding, aten.index, aten.index_select, aten.gather, aten.repeat, aten.roll),
    *(aten._to_copy, aten.copy_, aten.clone, aten.constant_pad_nd, aten.unsafe_split, aten._unsafe_view),
    *(aten.new_empty, aten.new_zeros, aten.new_full, aten.empty_like, aten.zeros_like, aten.ones_like, aten.full_like),
    *(aten.rand_like, aten.randn_like, aten.bernoulli_, aten.native_dropout, aten.new_empty_strided),
}


class Counter(TorchDispatchMode):
    """Adds up the floating-point operations of the products that are run under it, in `total`.

    torch's own counter passes over what it has no formula for. This one raises UserError where that reads a matrix of
    `parameters`, or a copy of one, and is not known to be no product: arithmetic would vanish from the count.
    """

    def __init__(self, parameters: Iterable[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own has no types
        self.total = 0
        # Held, so that no other tensor comes to lie where one of them lay.
        self.weights = {address(p): p for p in parameters if p.ndim >= 2}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet, found = func._overloadpacket, func(*args, **kwargs)
        formula = FORMULAS.get(packet)
        if formula is not None:
            args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.shape, (args, kwargs))
            self.total += formula(*args, **kwargs)
        elif packet in flop_registry:
            self.total += flop_registry[packet](*args, **kwargs, out_val=found)
        else:
            read = [part for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)]
            known = [address(part) in self.weights for part in read]
            tags = {torch.Tag.pointwise, torch.Tag.reduction} & set(func.tags)
            if any(known) and not (func.is_view or tags or packet in MOVES):
                raise UserError(
                    f"FLOPs of training: {func} reads parameters, and there is no formula for it; "
                    "expected one in seqlab.training.gradient.flops.FORMULAS (or the name in MOVES)"
                )
            if read and all(known):
                self.weights |= {address(part): part for part in tree_leaves(found) if isinstance(part, Tensor)}
        return found


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def train_flops(
    model: nn.Module,
    loss: LossFunction,
    stream: Stream,
    steps: int,
    tuning: Tuning | None = None,
) -> int:
    """Floating-point operations of `steps` steps: matrix products and attention, forward and backward, with padding.

    Counted (`Counter`) on one sequence, on the CPU whatever trains (so 6 per weight and position, and attention's T²
    term uncut by causality), times the positions of the steps. The sequence is as long as a position's
    padded batch on average, which makes the product exact for a cost per position that grows linearly with T.
    Element-wise operations, validation and the optimiser are not counted. tuning: what is not trained costs no
    gradient. loss: what is trained on (a teacher's forward pass counts). Raises UserError as `Counter` does.
    """
    sizes = stream.data.sizes.reshape(len(stream.data), -1)
    shapes = np.array([(len(part), *sizes[part].max(0)) for part in stream.epoch(0)], np.float64)
    positions = shapes[:, 0] * shapes[:, 1]
    # The last column is the sources' where there are any, else the sequences' own again.
    length, source_length = (max(1, round(float(np.average(shapes[:, i], weights=positions)))) for i in (1, -1))
    batch = TensorBatch.of(stream.data.longest()).cut(length, source_length)
    total = 0
    for first, number in [(0, steps)] if tuning is None else tuning.phases(steps):
        if tuning is not None:
            tuning.set_step(model, first, steps)
        copy = deepcopy(model).cpu()
        with Counter(copy.parameters()) as counter:
            loss(copy, batch).total.backward()
        total += counter.total * number
    return round(total * float(positions.mean()) / length)
