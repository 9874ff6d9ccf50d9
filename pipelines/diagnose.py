"""Measure how far a recurrent family remembers: gradient norms by lag, and tasks of memory at growing horizons.

python pipelines/diagnose.py rnn
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import warm  # noqa: F401
from stage import ROOT, errors_in_one_line, new_run

from seqlab import config
from seqlab.artifacts import replacing, seed_of, write_json
from seqlab.config import Component
from seqlab.data.sequences import Space
from seqlab.diagnostics.tasks import Task
from seqlab.errors import UserError

FOLDER = Path("diagnostics")
NAMES = ("copy", "adding")


def diagnose(name: str) -> None:
    import torch

    from seqlab.diagnostics.memory import Remembering, gradient_norms, learn

    tree = config.read_params(Path("params.yaml"))
    experiment = config.experiment(tree)
    settings = experiment.diagnostics
    if name not in experiment.diagnosed():
        raise UserError(f"family {name!r}: not diagnosed in this suite; there are {', '.join(experiment.diagnosed())}")
    component = experiment.families[name].component
    own = {"hidden_size": settings.hidden_size, "layers": 1, "truncation": None}
    budget = max(2, round(settings.steps * experiment.suite.steps))
    torch.set_num_threads(experiment.trainer.threads)

    def model(task: Task) -> Remembering:
        torch.manual_seed(seed_of(settings.seed, name, task.name, task.horizon))
        family = Component(component.target, component.parameters | own).build(Space("vectors", task.channels), None)
        return Remembering(family, task.outputs)

    # Whole segments, so that truncated back-propagation reaches as far back from the end as it ever does.
    probe = Task("adding", -(-(settings.lags + 1) // settings.truncation) * settings.truncation)

    def norms(of: Remembering) -> dict[str, list[float]]:
        examples = probe.draw(settings.batch, settings.seed, 0)
        cuts = {"full": None, "truncated": settings.truncation}
        return {cut: gradient_norms(of, examples, settings.lags, steps).tolist() for cut, steps in cuts.items()}

    with new_run(
        experiment.tracking,
        experiment="diagnostics",
        name=f"diagnose {name}",
        tags={"phase": "diagnose", "suite": experiment.suite.name, "family": name},
        tree={"diagnostics": tree["diagnostics"], "family": tree["families"][name]},
        inputs={},
        follows={},
    ) as run:
        found: dict[str, list[dict[str, Any]]] = {}
        gradients = {"start": norms(model(probe))}
        for kind in NAMES:
            for horizon in settings.horizons:
                task = Task(kind, horizon)
                learner = model(task)

                def tell(loss: float, step: int, label: str = f"{kind}/{horizon}/loss") -> None:
                    run.metrics({label: loss}, step)

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
        with replacing(FOLDER / name) as made:
            made.mkdir()
            write_json(made / "memory.json", {"gradients": gradients, "tasks": found})
        run.artifact(FOLDER / name)
    solved = {kind: max((one["horizon"] for one in ones if one["solved"]), default=0) for kind, ones in found.items()}
    print(f"diagnose {name}: " + ", ".join(f"{kind} up to {horizon} steps" for kind, horizon in solved.items()))


if __name__ == "__main__":
    os.chdir(ROOT)
    if len(sys.argv) != 2:
        sys.exit("usage: python pipelines/diagnose.py FAMILY")
    errors_in_one_line(lambda: diagnose(sys.argv[1]))
