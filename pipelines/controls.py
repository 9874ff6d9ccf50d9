"""Score a domain's controls on the same test examples: what every family must beat."""

from __future__ import annotations

from dataclasses import replace

import warm  # noqa: F401
from stage import Stage, main

from seqlab.data.domains.base import Prepared, task_set
from seqlab.evaluation import controls, judge, metrics, scores
from seqlab.evaluation.scores import Scores

SMOOTHING = 0.5  # added to each symbol's count
RIDGES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]  # penalties from which the order-free control chooses on validation


def score_controls(stage: Stage) -> None:
    prepared = Prepared.open(stage.prepared)
    meta, settings = prepared.meta, stage.domain.evaluate
    with stage.run({"prepared": stage.prepared}, follows={"prepare": stage.label}) as run:
        found: dict[str, Scores] = {}
        for task in meta.tasks:
            train, valid, test = (prepared.split(task_set(task), split) for split in ("train", "valid", "test"))
            test = stage.first(test)
            if task == "classify":
                for name, classifier in controls.classifiers(train, valid, meta.space, RIDGES).items():
                    found[name] = judge.classes(classifier, test)
                continue
            for name, predictor in controls.next_step(train, meta.space, SMOOTHING).items():
                found[name] = judge.next_step(predictor, meta, test, name)[0]
            if not settings.horizons:
                continue
            # Where values are returns, zero means something: so controls see values, not standardised ones.
            raw = replace(test, centre=None, scale=None)
            returns = meta.transform == "log_return"
            for name, forecaster in controls.forecasters(settings.period, returns=returns).items():
                made = judge.forecasts(forecaster, meta, raw, settings, name)
                found[name] = found.get(name, Scores()) | metrics.forecast_scores(made, settings.horizons)
        for name, part in found.items():
            scores.write(part, stage.controls / name)
            run.metrics(
                {
                    f"test/{task}/{metric}/{name}": metrics.value_of(part, task, metric)
                    for task, metric in metrics.names_of(part)
                }
            )
        stage.finished(run, {}, {"scores": stage.controls})
    print(f"controls {stage.label}: {', '.join(found)}")


if __name__ == "__main__":
    main(score_controls, needs=("domain",))
