"""Measure how far a recurrent family remembers: gradient norms by lag, and tasks of memory at growing horizons."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from seqlab.artifacts import seed_of, write_json
from seqlab.data.sequences import Space
from seqlab.diagnostics.memory import Remembering, gradient_norms, learn
from seqlab.diagnostics.settings import Diagnostics
from seqlab.diagnostics.tasks import Task
from seqlab.scratch import replacing
from seqlab.settings import Component
from seqlab.threads import pin
from seqlab.watch import NOBODY, Watch

NAMES: tuple[Literal["copy", "adding"], ...] = ("copy", "adding")


def diagnose(
    out: Path,
    *,
    family: str,
    component: Component,
    settings: Diagnostics,
    steps: float,
    threads: int,
    watch: Watch = NOBODY,
) -> dict[str, Any]:
    """Write memory.json to `out`. component: the family's, whose size `settings` sets. steps: a factor of theirs."""
    own = {"hidden_size": settings.hidden_size, "layers": 1, "truncation": None}
    budget = max(2, round(settings.steps * steps))
    pin(threads)

    def model(task: Task) -> Remembering:
        torch.manual_seed(seed_of(settings.seed, family, task.name, task.horizon))
        sized = Component(component.target, component.parameters | own).build(Space("vectors", task.channels), None)
        return Remembering(sized, task.outputs)

    # Whole segments, so that truncated back-propagation reaches as far back from the end as it ever does.
    probe = Task("adding", -(-(settings.lags + 1) // settings.truncation) * settings.truncation)

    def norms(of: Remembering) -> dict[str, list[float]]:
        examples = probe.draw(settings.batch, settings.seed, 0)
        cuts = {"full": None, "truncated": settings.truncation}
        return {cut: gradient_norms(of, examples, settings.lags, steps).tolist() for cut, steps in cuts.items()}

    found: dict[str, list[dict[str, Any]]] = {}
    gradients = {"start": norms(model(probe))}
    for kind in NAMES:
        for horizon in settings.horizons:
            task = Task(kind, horizon)
            learner = model(task)

            def tell(loss: float, step: int, label: str = f"{kind}/{horizon}/loss") -> None:
                watch.metrics({label: loss}, step)

            learned = learn(
                learner,
                task,
                steps=budget,
                batch=settings.batch,
                learning_rate=settings.learning_rate,
                clip=settings.clip,
                solved=settings.solved,
                seed=settings.seed,
                tell=tell,
            )
            found.setdefault(kind, []).append({"horizon": horizon, "baseline": task.baseline, **asdict(learned)})
    gradients["trained"] = norms(learner)
    memory = {"gradients": gradients, "tasks": found}
    with replacing(out) as made:
        made.mkdir()
        write_json(made / "memory.json", memory)
    return memory
