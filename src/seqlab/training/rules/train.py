"""A rule-based family from recipe to lexicon: the same verb as `training.gradient.train`, with no torch."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from seqlab.cost import Cost, peak_memory_mb
from seqlab.errors import UserError
from seqlab.families import loading
from seqlab.families.base import Use
from seqlab.training.job import Job
from seqlab.training.trained import Trained


def train(job: Job) -> Trained:
    """Learn the lexicon from the training pairs under `prepared`, with the source's, in `start`, as prior.

    A share of the pairs has no meaning here: the lexicon says itself how many pairs it reads. Raises UserError when the
    prior is missing and what the family's fit raises.
    """
    prior = None
    if job.strategy.init == "pretrained":
        if job.start is None:
            raise UserError("strategy.init: 'pretrained' needs a model of the source; run the pretrain stage first")
        prior = loading.load(job.start, Use(job.trainer))
    model = job.recipe.build()
    began = time.perf_counter()
    model.fit(job.prepared, prior)
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    lengths = job.train.lengths
    return Trained(
        tensors={},
        report={},
        validation=None,
        parameters=model.parameters,
        steps=0,
        flops=None,
        cost=Cost(
            seconds=seconds,
            sequences_per_second=len(lengths) / seconds,
            symbols_per_second=int(lengths.sum()) / seconds,
            peak_memory_mb=peak_memory_mb(),
            flops_per_second=0.0,
            product_share=0.0,
        ),
        files=files,
    )
