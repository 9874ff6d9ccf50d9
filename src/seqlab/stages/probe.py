"""Look for leaks in a prepared domain and in its trained models, rather than assume that there are none."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import read_json, read_tensors, seed_of, write_json, write_text
from seqlab.cells import Cell
from seqlab.data.prepared import ALPHABET, LABELLED, SOURCE, TARGET, TEXTS, Prepared
from seqlab.data.sequences import SPLITS, Sequences
from seqlab.data.text_pairs import TESTS, read_pairs
from seqlab.errors import UserError
from seqlab.evaluation import judge, metrics, probe
from seqlab.evaluation.probe import Finding
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import Evaluation, SequenceEvaluation
from seqlab.families import loading
from seqlab.families.base import Use
from seqlab.settings import Family, Strategy, TaskBudget, TrainerSettings, named
from seqlab.stages.finetune import finetune
from seqlab.threads import pin
from seqlab.training.resume import Checkpoint

EXAMPLES, SERIES = 12, 2  # test sequences that a model answers again and again; of forecasts, each fitted anew
PATHS, AHEAD = 8, 8  # sample paths and steps of these forecasts
TOKENS = (judge.TOKENS, 1)  # positions in a batch: as evaluated, and every sequence alone
SCRATCH = Strategy(init="scratch", learning_rate_factor=1.0)
HELD_OUT = ("test", *(name for name in TESTS.values() if name != "test"))  # files of a domain of pairs among them


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """What the probe trains again, from scratch: cells by the family as configured, and what their trainings are given.

    bound: by family, what the domain gives its constructor. steps, positions: as of the suite.
    """

    cells: Mapping[Cell, Family]
    budgets: Mapping[str, TaskBudget]
    bound: Mapping[str, Mapping[str, Any]]
    steps: float
    positions: int | None


@dataclass
class Probed:
    """looked: by probe, the subjects. findings: each a leak, or a score that depends on what it must not depend on.
    unstable: scores that rounding changes, and by how much. left_out: what has no probe, and why.
    """

    looked: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unstable: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, name: str, subject: str, found: Sequence[Finding]) -> None:
        self.looked.setdefault(name, []).append(subject)
        self.findings += found


def run_probe(
    prepared: Path,
    models: Path,
    out: Path,
    *,
    domain: str,
    cells: Sequence[Cell],
    again: Trainings,
    settings: Evaluation,
    trainer: TrainerSettings,
) -> Probed:
    """Write out.json and out.md. cells: whose models are looked at.

    Raises UserError when anything was found, after both files were written.
    """
    pin(trainer.threads)
    opened, made = Prepared.open(prepared), Probed()
    data(opened, made)
    for cell, family in again.cells.items():
        training(opened, models, cell, family, again, trainer, made)
    for cell in cells:
        answers(opened, models, cell, settings, trainer, made)
    write_json(out.with_suffix(".json"), asdict(made))
    write_text(out.with_suffix(".md"), markdown(domain, made))
    if made.findings:
        first, more = made.findings[0], len(made.findings) - 1
        rest = f"; {more} more in {out.with_suffix('.md')}" if more else ""
        raise UserError(f"probe of {domain}: {first.probe}: {first.subject}: {first.found}{rest}")
    return made


# The data


def data(prepared: Prepared, made: Probed) -> None:
    """Overlaps of the splits, and what was made from training alone."""
    splits = dict(texts(prepared.folder) if prepared.meta.kind == "pairs" else arrays(prepared))
    made.add("overlap", f"{len(splits)} splits", probe.overlaps(splits))
    if prepared.meta.kind == "vectors":
        made.add("scalers", f"{len(splits)} splits", probe.scalers(splits))
    if (prepared.folder / ALPHABET).exists():
        made.add("symbols", ALPHABET, probe.symbols(splits, prepared.meta.size))
    if prepared.meta.kind == "pairs":
        made.add("retrained", "the vocabulary", vocabulary(prepared))
    if prepared.meta.frame:
        made.left_out.append("the axes of the projection: arrays do not tell on which frames they were fitted")


def arrays(prepared: Prepared) -> Iterator[tuple[tuple[str, str], Sequences]]:
    for name in (SOURCE, TARGET, LABELLED):
        for split in SPLITS:
            if (prepared.folder / name / split).is_dir():
                yield (name, split), prepared.split(name, split)


def texts(folder: Path) -> Iterator[tuple[tuple[str, str], Sequences]]:
    """What is translated, as bytes, a test set of its own being a set; and the English that a denoiser reads.

    Two English texts may have one Korean translation, so a shared reference is no overlap.
    """
    for path in sorted((folder / "pairs").glob("*.jsonl")):
        key = (TARGET, path.stem) if path.stem in SPLITS else (path.stem, "test")
        yield key, _bytes(row["source"] for row in read_pairs(path))
    if (alone := folder / "monolingual/en.txt").exists():
        yield (SOURCE, "train"), _bytes(alone.read_text(encoding="utf-8").split("\n")[:-1])


def _bytes(lines: Iterable[str]) -> Sequences:
    return Sequences.from_arrays([np.frombuffer(line.encode(), np.uint8) for line in lines])


def vocabulary(prepared: Prepared) -> list[Finding]:
    """A vocabulary of subwords, learned again from the training pairs alone."""
    # By name: whose data have no subwords runs nothing of these.
    name, train = (named(f"seqlab.data.vocabulary.{part}") for part in ("NAME", "train"))
    rows = read_pairs(prepared.folder / "pairs/train.jsonl")
    again = train((text for row in rows for text in (row["source"], *row["references"])), prepared.meta.size)
    if again.to_str(pretty=False) == (prepared.folder / name).read_text(encoding="utf-8"):
        return []
    return [Finding("retrained", name, "another vocabulary than that of the training pairs")]


# What training reads


def training(
    prepared: Prepared,
    models: Path,
    cell: Cell,
    family: Family,
    again: Trainings,
    trainer: TrainerSettings,
    made: Probed,
) -> None:
    """Train a cell where there is no test split, and, if it classifies, on shuffled labels."""
    with tempfile.TemporaryDirectory() as folder:

        def trained(name: str, data: Path) -> Path:
            out = Path(folder, name)
            finetune(
                data,
                out,
                domain=cell.domain,
                family=family,
                budgets=again.budgets,
                strategy=SCRATCH,
                start=None,
                teacher=None,
                fraction=1.0,
                steps=again.steps,
                positions=again.positions,
                seed=cell.seed,
                trainer=trainer,
                checkpoint=Checkpoint(Path(folder, "checkpoints", name), float("inf")),
                bound=again.bound[family.name],
            )
            return out

        blind = copied(prepared.folder, Path(folder, "blind"), lambda path: not held_out(path))
        try:
            found = probe.retrained(contents(models / cell.path), contents(trained("again", blind)), str(cell))
        except (UserError, OSError) as error:
            found = [Finding("retrained", str(cell), f"its training reads the test split: {error}")]
        made.add("retrained", str(cell), found)
        if "classify" not in prepared.meta.tasks or "classify" not in family.tasks:
            return
        answered, classes = [], len(prepared.meta.classes)
        for turn in range(classes):
            mixed = shuffled(prepared, Path(folder, f"turn{turn}"), turn)
            model = loading.load(trained(f"trained{turn}", mixed) / "classify", Use(trainer))
            test = prepared.split(LABELLED, "test")
            answered.append(judge.classes(model, test).predictions[metrics.CLASSIFY])
        made.add("shuffled_labels", str(cell), probe.shuffled_labels(answered, str(cell)))


def shuffled(prepared: Prepared, to: Path, turn: int) -> Path:
    """A copy in which training and validation have the labels of others."""
    copied(prepared.folder, to, lambda path: path.name != "labels.npy" or held_out(path))
    for split in ("train", "valid"):
        seed, classes = seed_of("labels", split), len(prepared.meta.classes)
        labels = probe.with_shuffled_labels(prepared.split(LABELLED, split), seed, turn, classes).labels
        assert labels is not None
        np.save(to / LABELLED / split / "labels.npy", labels)
    return to


def copied(folder: Path, to: Path, wanted: Callable[[Path], bool]) -> Path:
    """Links to the files of a prepared domain that are wanted; wanted: of a path below it."""
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if path.is_file() and wanted(below):
            (to / below).parent.mkdir(parents=True, exist_ok=True)
            (to / below).symlink_to(path.resolve())
    return to


def held_out(path: Path) -> bool:
    """Whether a file of a prepared domain holds test content."""
    return bool({*path.parts, path.stem} & set(HELD_OUT)) or path.name == TEXTS


def contents(folder: Path) -> dict[str, np.ndarray]:
    """Everything in a cell's models: tensors, and the bytes of other files."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*/*")):
        name = f"{path.parent.name}/{path.name}"
        if path.suffix == ".safetensors":
            found |= {f"{name}:{key}": part for key, part in read_tensors(path).items()}
        else:
            found[name] = np.frombuffer(path.read_bytes(), np.uint8)
    return found


# What models answer


def answers(
    prepared: Prepared, models: Path, cell: Cell, settings: Evaluation, trainer: TrainerSettings, made: Probed
) -> None:
    """A changed future changes no past score; neither does the batch, nor the order of the examples."""
    if not isinstance(settings, SequenceEvaluation):
        made.left_out.append(f"{cell}: translations, whose batches the search itself holds to one answer")
        return
    for task in read_json(models / cell.path / "report.json"):
        model = loading.load(models / cell.path / task, Use(trainer))
        name = f"{cell.family} {task.replace('_', ' ')}"
        if task == "next_step":
            test = few(prepared.split(TARGET, "test"), EXAMPLES)
            made.add("future", name, probe.future(model, test, name, seed_of("future", cell)))
            made.add("batches", name, batches(next_step(model, prepared), test, name, cell, made))
        elif task == "classify":
            test = few(prepared.split(LABELLED, "test"), EXAMPLES)
            made.add("batches", name, batches(classes(model), test, name, cell, made))
        elif task == "forecast":
            test = few(prepared.split(TARGET, "test"), SERIES)
            made.add("batches", name, batches(forecasts(model, prepared, settings), test, name, cell, made))
        else:
            made.left_out.append(f"{name}: no score of it is probed")


def few(sequences: Sequences, count: int) -> Sequences:
    """Evenly spread over the set."""
    return sequences.subset(np.unique(np.linspace(0, len(sequences) - 1, count).astype(np.int64)))


Score = Callable[[Sequences, int, int], Scores]


def batches(score: Score, test: Sequences, name: str, cell: Cell, made: Probed) -> list[Finding]:
    seed = seed_of("batches", cell)
    base = probe.as_evaluated(score, test, TOKENS[0], seed)
    unstable = {} if test.symbols else probe.amplified(score, test, TOKENS[0], seed, base)
    made.unstable += [
        f"{name} {metric} changes by up to {np.abs(change).max():.2g} when each value becomes the next float"
        for (_, metric), change in unstable.items()
    ]
    return probe.batches(score, test, TOKENS, name, seed, unstable, base)


def next_step(model: Any, prepared: Prepared) -> Score:
    def score(sequences: Sequences, tokens: int, seed: int) -> Scores:
        if sequences.symbols:
            return metrics.next_symbols(model, sequences, np.ones(prepared.meta.size, np.int64), tokens)
        return metrics.next_vectors(metrics.one_step(model, sequences, tokens, judge.POSITIONS, judge.DRAWS, seed))

    return score


def classes(model: Any) -> Score:
    return lambda sequences, tokens, _: metrics.classify(model, sequences, tokens)


def forecasts(model: Any, prepared: Prepared, settings: SequenceEvaluation) -> Score:
    horizons = [steps for steps in settings.horizons if steps <= AHEAD] or settings.horizons[:1]

    def score(sequences: Sequences, tokens: int, seed: int) -> Scores:
        made = metrics.rolling_origin(
            model,
            sequences,
            origins=1,
            horizons=horizons,
            season=settings.period,
            samples=PATHS,
            tokens=tokens * PATHS // 8,
            seed=seed,
            inverse=judge.INVERSE[prepared.meta.transform],
        )
        return metrics.forecast_scores(made, horizons)

    return score


# For people

MEANS = {
    "overlap": "no held-out sequence occurs in another split, or in the source",
    "scalers": "what standardises saw training alone, or what lies before the first scored position",
    "symbols": "every symbol of the alphabet occurs in training",
    "retrained": "trained where there is no test split, it is the same",
    "shuffled_labels": "trained on shuffled labels, it falls to the majority",
    "future": "a changed future changes no past score",
    "batches": "no score depends on the evaluation's batches, or on the order of the examples",
}


def markdown(domain: str, made: Probed) -> str:
    counts = Counter(one.probe for one in made.findings)
    rows = [
        f"| {name.replace('_', ' ')} | {MEANS[name]} | {', '.join(looked)} | {counts[name] or 'nothing'} |"
        for name, looked in made.looked.items()
    ]
    lines = [f"- {one.probe}, {one.subject}: {one.found}." for one in made.findings]
    lines += [f"- Rounding: {one}." for one in made.unstable]
    lines += [f"- Not probed: {one}." for one in made.left_out]
    table = ["| probe | holds | looked at | found |", "|:--|:--|:--|--:|", *rows]
    return "\n".join([f"# Leaks and invariances of {domain}", "", *table, "", *lines]).rstrip() + "\n"
