"""Score a domain's controls on the same test examples: what every family must beat."""

from __future__ import annotations

from dataclasses import replace

import warm  # noqa: F401
from stage import Stage, main

from seqlab.config import TranslationEvaluation
from seqlab.data.domains.base import Prepared, task_set
from seqlab.data.pairs import TESTS, TextPairs
from seqlab.evaluation import controls, judge, metrics, scores, translation
from seqlab.evaluation.scores import Scores
from seqlab.tracking import Run

SMOOTHING = 0.5  # added to each symbol's count
RIDGES = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]  # penalties from which the order-free control chooses on validation


def score_controls(stage: Stage) -> None:
    prepared = Prepared.open(stage.prepared)
    meta, settings = prepared.meta, stage.domain.evaluate
    if isinstance(settings, TranslationEvaluation):
        score_translations(stage, prepared, settings)
        return
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
        keep(stage, run, found)


def score_translations(stage: Stage, prepared: Prepared, settings: TranslationEvaluation) -> None:
    """A copy of the source, and each word on its own."""
    with stage.run({"prepared": stage.prepared}, follows={"prepare": stage.label}) as run:
        train = TextPairs.load(prepared.folder / "pairs/train.jsonl")
        systems = {"copy": list[str], "word_for_word": controls.WordForWord(train).translate}
        scorers = translation.Scorers.of(settings.tokenize)
        found: dict[str, Scores] = {}
        for task, file in TESTS.items():
            test = stage.first(TextPairs.load(prepared.folder / f"pairs/{file}.jsonl"))
            for name, translate in systems.items():
                made = translation.scores(task, translate(test.sources), test, scorers)
                found[name] = found.get(name, Scores()) | made
            # Beside the copies, so that a report finds all that it shows among the scores.
            signatures = list(scorers.signatures(test).values())
            references = [" / ".join(references) for references in test.references]
            found["copy"] |= Scores(texts={f"{task}:references": references, f"{task}:signatures": signatures})
            run.text("\n".join(signatures), f"signatures/{task}.txt")
        keep(stage, run, found)


def keep(stage: Stage, run: Run, found: dict[str, Scores]) -> None:
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
