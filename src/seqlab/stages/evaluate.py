"""Evaluate a cell on the target's test split: scores of each example, and what shall be drawn of its answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqlab.artifacts import read_json, seed_of
from seqlab.data.prepared import Prepared
from seqlab.evaluation import metrics, scores
from seqlab.evaluation.kept import Kept
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import Evaluation
from seqlab.families import loading
from seqlab.families.base import Use
from seqlab.scratch import replacing
from seqlab.settings import TrainerSettings
from seqlab.tasks.judging import Test, judged_task
from seqlab.threads import pin
from seqlab.watch import NOBODY, Watch


@dataclass(frozen=True)
class Evaluated:
    """values: of the metrics, by (table, metric). speeds: measured, by table."""

    values: Mapping[tuple[str, str], float]
    speeds: Mapping[str, Mapping[str, float]]


def evaluate(
    prepared: Path,
    model: Path,
    out: Path,
    shown: Path,
    *,
    domain: str,
    family: str,
    tasks: list[str],
    settings: Evaluation,
    order: Literal["kept", "shuffled"],
    examples: int | None,
    seed: int,
    trainer: TrainerSettings,
    watch: Watch = NOBODY,
) -> Evaluated:
    """Write the scores to `out`, and to `shown` what drawing needs, a folder a task.

    model: a tuned model a task. tasks: that judge the domain. order: of the positions within each test sequence.
    examples: how many of each test set; None: all. Raises UserError when something is missing, or the model gives an
    event that happened a probability of zero.
    """
    pin(trainer.threads)
    test = Test(
        prepared=Prepared.open(prepared),
        settings=settings,
        domain=domain,
        name=f"{domain}/{seed}",
        seed=seed_of(seed, domain, family, "samples"),
        examples=examples,
        order=order,
    )
    report = read_json(model / "report.json")
    decoding: Any = getattr(settings, "decoding", None)
    found = Scores()
    speeds: dict[str, Mapping[str, float]] = {}
    loaded: dict[str, Any] = {}
    kept: dict[str, Kept] = {}
    with replacing(shown) as made:
        made.mkdir()
        for name in tasks:
            task = judged_task(name)
            trained = next((one for one in task.models if one in report), None)
            if trained is None:
                continue
            if trained not in loaded:
                loaded[trained] = loading.load(model / trained, Use(trainer, decoding))
            began = time.perf_counter()
            judged = task.judge(loaded[trained], test)
            seconds = time.perf_counter() - began
            found |= judged.scores
            for table in task.tables or (name,):
                speeds[table] = {**judged.speeds.get(table, {}), "seconds": seconds}
            judged.shown.write(made / name)
            kept[name] = judged.kept
    scores.write(found, out)
    for name, part in kept.items():
        part.write(out / name)
    values = {(table, metric): metrics.value_of(found, table, metric) for table, metric in metrics.names_of(found)}
    watch.metrics({f"{table}/{metric}": value for (table, metric), value in values.items()})
    watch.metrics({f"{table}/{name}": value for table, part in speeds.items() for name, value in part.items()})
    return Evaluated(values, speeds)
