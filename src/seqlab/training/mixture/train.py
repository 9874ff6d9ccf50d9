"""A mixture from trained members to weights: the same verb as `training.gradient.train`."""

from __future__ import annotations

import time

from seqlab.cost import Cost, peak_memory_mb, product_rate
from seqlab.data.sequences import Sequences
from seqlab.errors import UserError
from seqlab.families import loading
from seqlab.families.base import Use
from seqlab.families.mixture import member_files
from seqlab.training.job import Job
from seqlab.training.trained import Trained


def train(job: Job) -> Trained:
    """Estimate the weights of the members on validation; what it costs to train these is theirs.

    Raises UserError when a member's model is missing or of other data.
    """
    for name, folder in job.members.items():
        if not folder.is_dir():
            raise UserError(f"member {name}: {folder} is missing; train it on the same target first")
    assert isinstance(job.valid, Sequences)
    model = job.recipe.build().joined(
        {name: loading.load(folder, Use(job.trainer)) for name, folder in job.members.items()}
    )
    began = time.perf_counter()
    report = model.fit(job.valid)
    seconds = time.perf_counter() - began
    valid = job.valid
    losses = report["candidates"]
    return Trained(
        tensors=model.state(),
        report=report,
        validation=min(one["valid_loss"] for one in losses),
        parameters=model.parameters,
        steps=0,
        flops=model.flops(valid),
        cost=Cost(
            seconds=seconds,
            sequences_per_second=len(valid) / seconds,
            symbols_per_second=int(valid.offsets[-1]) / seconds,
            peak_memory_mb=peak_memory_mb(),
            flops_per_second=model.flops(valid) / seconds,
            product_share=model.flops(valid) / seconds / product_rate(),
        ),
        files=member_files(job.members),
    )
