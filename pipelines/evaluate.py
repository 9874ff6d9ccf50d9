"""Evaluate a cell on the target's test split: scores of each example, and pictures of what the model says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import warm  # noqa: F401
import numpy as np
from stage import PRIVATE, Stage, main

from seqlab.artifacts import read_json
from seqlab.config import Evaluation, TranslationEvaluation
from seqlab.data.domains.base import Prepared, task_set
from seqlab.data.order import arranged
from seqlab.data.pairs import TESTS, TextPairs
from seqlab.data.sequences import Sequences
from seqlab.evaluation import judge, metrics, pictures, scores, translation
from seqlab.evaluation.scores import Scores
from seqlab.families import saved
from seqlab.families.base import Predictor
from seqlab.tracking import Run

if TYPE_CHECKING:
    from seqlab.families.gradient import TorchPredictor

SHOWN = 4  # forecasts in a picture
SAMPLES = 3  # generated texts
ATTENDED, POSITIONS = 2, 48  # examples in pictures of attention, and how many of their positions


def evaluate(stage: Stage) -> None:
    assert stage.strategy is not None
    prepared = Prepared.open(stage.prepared)
    inputs = {"prepared": stage.prepared, "model": stage.model}
    with stage.run(inputs, follows={"finetune": stage.label}) as run:
        found, speeds = Scores(), {}
        trained = read_json(stage.model / "report.json")
        for task in [task for task in prepared.meta.tasks if task in trained]:
            if task == "translate":
                made, speeds = translated(stage, prepared, run)
                found |= made
                continue
            model = saved.load(stage.model / task, stage.trainer)
            test = prepared.split(task_set(task), "test")
            test = stage.first(arranged(test, stage.strategy.order, stage.domain.name, "test"))
            found |= judged(stage, prepared, task, model, test, run)
        draw_losses(stage, run)
        draw_growth(stage, run)
        scores.write(found, stage.scores)
        values = {f"test/{task}/{name}": metrics.value_of(found, task, name) for task, name in metrics.names_of(found)}
        run.metrics(values)
        run.artifact(stage.scores, "scores")
        stage.finished(run, speeds, {"scores": stage.scores})
    headline = stage.domain.evaluate.headline
    print(
        f"evaluate {stage.label}: "
        + ", ".join(f"{t} {m} {values[f'test/{t}/{m}']:.4g}" for t, m in headline.items() if f"test/{t}/{m}" in values)
    )


def judged(stage: Stage, prepared: Prepared, task: str, model: object, test: Sequences, run: Run) -> Scores:
    """The scores of one task, and its pictures."""
    folder = PRIVATE / "pictures" / stage.label
    name = f"{stage.domain.name}/{stage.seed}"
    if task == "classify":
        found = judge.classes(model, test)
        pictures.reliability({stage.label: found.predictions[metrics.CLASSIFY]}, folder / "reliability.png")
        run.artifact(folder / "reliability.png", "pictures")
        return found
    settings = stage.domain.evaluate
    assert isinstance(settings, Evaluation)
    found, transform = judge.next_step(model, prepared.meta, test, name)
    if transform is not None:
        pictures.coverage({stage.label: transform}, folder / "calibration.png")
        run.artifact(folder / "calibration.png", "pictures")
    if stage.strategy is not None and stage.strategy.order == "shuffled":
        return found
    if settings.horizons:
        made = judge.forecasts(model, prepared.meta, test, settings, name)
        found |= metrics.forecast_scores(made, settings.horizons)
        draw_forecasts(made, test, prepared.meta.transform, folder / "forecasts.png")
        run.artifact(folder / "forecasts.png", "pictures")
        if prepared.meta.frame:
            draw_frames(model, prepared, test, stage.seed_for("samples"), folder / "frames.png")
            run.artifact(folder / "frames.png", "pictures")
    elif prepared.meta.characters:
        run.text(continuations(model, test, stage.seed_for("samples")), "pictures/continuations.md")
    if stage.family is not None and stage.family.fit == "gradient":
        for path in draw_attention(model, prepared, test, folder):
            run.artifact(path, "pictures")
    return found


def translated(stage: Stage, prepared: Prepared, run: Run) -> tuple[Scores, dict[str, dict[str, float]]]:
    """Scores of the translations of every test set, and how fast each was translated."""
    settings = stage.domain.evaluate
    assert isinstance(settings, TranslationEvaluation)
    system = saved.load(stage.model / "translate", stage.trainer, settings.decoding)
    scorers = translation.Scorers.of(settings.tokenize)
    found, speeds = Scores(), {}
    for task, file in TESTS.items():
        test = stage.first(TextPairs.load(prepared.folder / f"pairs/{file}.jsonl"))
        asked = system.in_register(settings.registers[task])
        began = time.perf_counter()
        made = asked.translate(test.sources)
        speeds[task] = {"sentences_per_second": len(test) / (time.perf_counter() - began)}
        found |= translation.scores(task, made, test, scorers) | translation.unknown(task, asked.unknown(test.sources))
        chosen = translation.sampled(len(test), settings.samples)
        run.text(asked.explained([test.sources[i] for i in chosen]), f"explanations/{task}.html")
    run.metrics({f"test/{task}/{name}": value for task, part in speeds.items() for name, value in part.items()})
    return found, speeds


def draw_losses(stage: Stage, run: Run) -> None:
    """How training went, for a family that has curves."""
    for task, part in read_json(stage.model / "report.json").items():
        curves = part["details"].get("curves", [])
        if len(curves) > 1:
            named = {}
            for name in ("train_loss", "valid_loss"):
                points = np.array([(point["step"], point[name]) for point in curves if name in point])
                named[name.replace("_", " ")] = (points[:, 0], points[:, 1])
            path = PRIVATE / "pictures" / stage.label / f"loss-{task}.png"
            pictures.loss_curves(named, f"{task} loss, nats", path)
            run.artifact(path, "pictures")


def draw_growth(stage: Stage, run: Run) -> None:
    """What each more step of the past costs, for a family that reports it."""
    for task, part in read_json(stage.model / "report.json").items():
        if growth := part["details"].get("growth"):
            path = PRIVATE / "pictures" / stage.label / f"growth-{task}.png"
            pictures.growth(growth["t"], growth["counts"], growth["shares"], path)
            run.artifact(path, "pictures")


def draw_forecasts(made: list[metrics.Forecast], test: Sequences, transform: str, path: Path) -> None:
    """The longest forecast of a few series, evenly spread over the panel."""
    longest = {one.series: one for one in sorted(made, key=lambda one: len(one.truth))}
    chosen = [longest[k] for k in sorted(longest)][:: max(1, len(longest) // SHOWN)][:SHOWN]
    raw = judge.INVERSE[transform] or (lambda values: values)
    past = [raw(np.asarray(test[one.series][: one.origin], np.float64)) for one in chosen]
    pictures.forecasts(chosen, past, [f"series {one.series}" for one in chosen], path)


def draw_frames(model: Predictor, prepared: Prepared, test: Sequences, seed: int, path: Path) -> None:
    """What the model sees after the context of a few test films, below what came."""
    assert test.first is not None
    rows = []
    for i in np.unique(np.linspace(0, len(test) - 1, SAMPLES).astype(np.int64)):
        batch, start = test.batch(np.array([i])), int(test.first[i])
        past = batch.x[:, :start], batch.mask[:, :start]
        drawn = model.forecast(*past, batch.x.shape[1] - start, 1, seed)[0, 0]
        if test.centre is not None and test.scale is not None:
            drawn = drawn * test.scale[i] + test.centre[i]
        rows += [(f"test {i}", prepared.frames(test[i][start:])), ("sampled", prepared.frames(drawn))]
    pictures.frames(rows, path)


def draw_attention(model: TorchPredictor, prepared: Prepared, test: Sequences, folder: Path) -> list[Path]:
    """What each head of a family that attends looks at, at the beginning of the first long test examples."""
    paths = []
    for i in np.argsort(-np.minimum(test.lengths, POSITIONS), kind="stable")[:ATTENDED]:
        batch = test.batch(np.array([i]))
        maps = model.attention_maps(batch.x[:, :POSITIONS], batch.mask[:, :POSITIONS])
        if maps is not None:
            letters = None
            if prepared.meta.characters:
                letters = ["⊢", *(chr(c) if 32 < c < 127 else "␣" if c == 32 else "·" for c in batch.x[0, :POSITIONS])]
            path = folder / f"attention-{i}.png"
            pictures.attention(maps[0], letters, f"test {i}", path)
            paths.append(path)
    return paths


def continuations(model: object, test: Sequences, seed: int) -> str:
    """What the model writes after the first 32 bytes of a few test texts."""
    long = np.flatnonzero(test.lengths >= 64)[:SAMPLES]
    lines = []
    for i in long:
        prefix = np.asarray(test[i][:32], np.int64)[None]
        drawn = model.forecast(prefix, np.ones_like(prefix, bool), 120, 1, seed)[0, 0]
        text = bytes(drawn.astype(np.uint8)).decode("utf-8", "replace").split("\n")[0]
        lines.append(f"> {bytes(test[i][:32]).decode('utf-8', 'replace')}**{text}**\n")
    return "\n".join(lines)


if __name__ == "__main__":
    main(evaluate)
