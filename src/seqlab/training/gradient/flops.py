"""An estimate of training's arithmetic that depends on the model and the data, never on the machine."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from seqlab.training.gradient.batches import Stream, TensorBatch
from seqlab.training.gradient.loss import LossFunction
from seqlab.training.gradient.tuning import Tuning

aten = torch.ops.aten
# Of products that the counter does not know, from the shapes of their arguments.
FORMULAS: dict[Any, Any] = {
    aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1],
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
}


def train_flops(
    model: nn.Module,
    loss: LossFunction,
    stream: Stream,
    steps: int,
    tuning: Tuning | None = None,
) -> int:
    """Floating-point operations of `steps` steps: matrix products and attention, forward and backward, with padding.

    Counted by torch's FlopCounterMode on one sequence, on the CPU whatever trains (so 6 per weight and position, and
    attention's T² term uncut by causality), times the positions of the steps. The sequence is as long as a position's
    padded batch on average, which makes the product exact for a cost per position that grows linearly with T.
    Element-wise operations, validation and the optimiser are not counted. tuning: what is not trained costs no
    gradient. loss: what is trained on (a teacher's forward pass counts).
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
        with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
            loss(deepcopy(model).cpu(), batch).total.backward()
        total += counter.get_total_flops() * number
    return round(total * stream.ranks * positions.mean() / length)
