"""The stages as plain functions of paths and values, from raw files to a comparison, without the frame around them."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from seqlab import config
from seqlab.artifacts import read_json, sha256
from seqlab.cells import Cell
from seqlab.data.prepared import LABELLED, TARGET, Meta, Prepared
from seqlab.data.sequences import SPLITS
from seqlab.diagnostics.settings import Diagnostics
from seqlab.errors import UserError
from seqlab.evaluation import scores
from seqlab.evaluation.leaderboard import MeanCost
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import Comparing
from seqlab.families import loading
from seqlab.families.base import Use
from seqlab.settings import Component, Objective, Strategy
from seqlab.stages.compare import Compared, Comparison, Measured, compare
from seqlab.stages.controls import controls
from seqlab.stages.diagnose import diagnose
from seqlab.stages.draw import draw
from seqlab.stages.evaluate import Evaluated, evaluate
from seqlab.stages.finetune import finetune
from seqlab.stages.prepare import prepare
from seqlab.stages.pretrain import pretrain
from seqlab.tasks import judging
from seqlab.training.resume import Checkpoint

ROOT = Path(__file__).resolve().parent.parent
WORDS = ("the film is a good bad long short story of love war light dark and in with no some").split()  # noqa: SIM905
FRAME = ("hydra", "omegaconf", "dvc", "mlflow")


def shipped(file: str) -> Any:
    return yaml.safe_load((ROOT / "conf" / file).read_text(encoding="utf-8"))


TRAINER = config.trainer(shipped("trainer/cpu.yaml"))
DOMAIN = config.domain("strings", shipped("domain/strings.yaml"))
FAMILIES = {
    "markov": config.family("markov", shipped("family/markov.yaml") | {"concentrations": [1.0, 100.0]}),
    "rnn": config.family("rnn", shipped("family/rnn.yaml") | {"hidden_size": 8}),
}
STRATEGIES = {"scratch": Strategy("scratch", 1.0), "full": Strategy("pretrained", 0.5, control="scratch")}
BUDGETS = {task: replace(budget, steps=30, evaluations=2) for task, budget in config.budgets(DOMAIN).items()}
TASKS = config.judged(DOMAIN.evaluate.headline)
CELLS = [Cell("strings", family, strategy, 0) for family in FAMILIES for strategy in STRATEGIES]
COMPARISON = Comparison(
    cells=CELLS, domains={"strings": DOMAIN.evaluate}, judges=config.judges(), judged={"strings": TASKS},
    strategies=STRATEGIES, replicates=50, comparing=Comparing("markov", 5),
)  # fmt: skip
EXAMPLES = 40


@dataclass(frozen=True)
class Lab:
    """A folder in which everything ran, and what the stages returned: of cells by path."""

    home: Path
    meta: Meta
    evaluated: dict[str, Evaluated]
    controls: dict[str, Scores]
    compared: Compared

    @property
    def prepared(self) -> Path:
        return self.home / "data/prepared/strings"


def raw(home: Path) -> dict[str, Path]:
    """A user's own texts, whose class a word tells."""
    rng, found = random.Random(0), {}
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 9))) for _ in range(600)]
    lines = [f"{'positive' if 'good' in text else 'negative'},{text}" for text in texts[300:]]
    for name, suffix, own in (("source", "txt", texts[:300]), ("target", "csv", ["label,text", *lines])):
        found[name] = home / f"{name}.{suffix}"
        found[name].write_text("\n".join(own), encoding="utf-8")
    return found


def tuned(home: Path, cell: Cell, out: Path, **changed: Any) -> None:
    own = {"start": home / "models" / cell.source / "next_step" if cell.strategy == "full" else None} | changed
    finetune(
        home / "data/prepared/strings", out, domain="strings", family=FAMILIES[cell.family], budgets=BUDGETS,
        strategy=STRATEGIES[cell.strategy], teacher=None, fraction=1.0, steps=1.0, positions=None, seed=cell.seed,
        trainer=TRAINER, checkpoint=Checkpoint(home / "resume" / cell.path, 1e9), **own,
    )  # fmt: skip


def ran(home: Path) -> Lab:
    """Everything, from raw files to a comparison and its pictures."""
    prepared = home / "data/prepared/strings"
    meta = prepare(DOMAIN.prepare, raw(home), prepared)
    for name, family in FAMILIES.items():
        pretrain(
            prepared, home / f"models/strings/{name}/pretrain/0", domain="strings", family=family, task="next_step",
            objective=Objective("next"), budget=replace(DOMAIN.pretrain, steps=40, evaluations=2), steps=1.0,
            positions=None, seed=0, trainer=TRAINER, checkpoint=Checkpoint(home / "resume" / name, 1e9),
        )  # fmt: skip
    evaluated = {}
    for cell in CELLS:
        model, scored, shown = (home / part / cell.path for part in ("models", "scores", "shown"))
        tuned(home, cell, model)
        evaluated[cell.path] = evaluate(
            prepared, model, scored, shown, domain="strings", family=cell.family, tasks=TASKS,
            settings=DOMAIN.evaluate, order="kept", examples=EXAMPLES, seed=0, trainer=TRAINER,
        )  # fmt: skip
    beaten = controls(
        prepared, home / "scores/strings/controls", domain="strings", tasks=TASKS, settings=DOMAIN.evaluate,
        examples=EXAMPLES,
    )  # fmt: skip
    drawn = {cell.path: TASKS for cell in CELLS}
    draw(drawn, *(home / part for part in ("models", "scores", "shown", "pictures")))
    compared = compare(COMPARISON, home / "models", home / "scores", home / "reports")
    return Lab(home, meta, evaluated, dict(beaten), compared)


def remembered(out: Path, name: str = "rnn") -> dict[str, Any]:
    tree = shipped("diagnostics/default.yaml") | {"hidden_size": 4, "lags": 6, "truncation": 4, "horizons": [3, 5]}
    component: Component = FAMILIES[name].component
    return diagnose(
        out, family=name, component=component, settings=Diagnostics(**tree), steps=4 / tree["steps"], threads=1
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return ran(tmp_path_factory.mktemp("lab"))


@pytest.mark.slow
def test_prepare_says_what_it_wrote(lab: Lab) -> None:
    assert Prepared.open(lab.prepared).meta == lab.meta
    for split in SPLITS:
        assert lab.meta.counts[TARGET][split] == len(Prepared.open(lab.prepared).split(TARGET, split))
    assert sum(lab.meta.counts[TARGET][split] for split in SPLITS) <= 300


def test_prepare_quotes_a_hash_of_all_that_it_wrote(lab: Lab, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    files = raw(tmp_path)
    assert prepare(DOMAIN.prepare, files, again) == lab.meta
    assert sha256(again) == sha256(lab.prepared)
    files["target"].write_text(files["target"].read_text() + "\nnegative,one more text", encoding="utf-8")
    prepare(DOMAIN.prepare, files, other)
    assert read_json(other / "meta.json")["sha256"] != read_json(again / "meta.json")["sha256"]


def test_an_archive_that_a_recipe_reads_and_nobody_gave_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no 'source'.*found target"):
        prepare(DOMAIN.prepare, {"target": raw(tmp_path)["target"]}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_report_says_what_each_training_did(lab: Lab, cell: Cell) -> None:
    model = lab.home / "models" / cell.path
    report = read_json(model / "report.json")
    assert set(report) == {"next_step", "classify"} == {path.name for path in model.iterdir() if path.is_dir()}
    for task, part in report.items():
        assert part["steps"] == (BUDGETS[task].steps if cell.family == "rnn" else 0)
        assert part["parameters"] > 0


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_calls_give_equal_bits(lab: Lab, name: str, tmp_path: Path) -> None:
    cell = Cell("strings", name, "full", 0)
    tuned(lab.home, cell, tmp_path / "again")
    assert sha256(tmp_path / "again") == sha256(lab.home / "models" / cell.path)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_model_starts_from_changes_it(lab: Lab, name: str) -> None:
    one, other = (sha256(lab.home / f"models/strings/{name}/{strategy}/0/next_step") for strategy in STRATEGIES)
    assert one != other


def test_a_start_that_is_missing_is_named(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: missing; expected the source's model of strings/rnn"):
        tuned(lab.home, Cell("strings", "rnn", "full", 0), tmp_path / "out", start=tmp_path / "nowhere")
    assert not (tmp_path / "out").exists()


def test_a_task_of_the_data_that_has_no_budget_is_named(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(BUDGETS, "classify")
    with pytest.raises(UserError, match=r"domain\.finetune\.classify: missing; the data of strings have this task"):
        tuned(lab.home, CELLS[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_scores_are_those_of_the_model_itself(lab: Lab, cell: Cell) -> None:
    """On the same test examples: bits over characters, and the share of right classes."""
    model, prepared = lab.home / "models" / cell.path, Prepared.open(lab.prepared)
    found = lab.evaluated[cell.path].values
    rows = scores.read(lab.home / "scores" / cell.path)
    assert len(rows.ratios["next_step", "bits_per_character"].example) == EXAMPLES
    test = first(prepared, TARGET)
    predictor = loading.load(model / "next_step", Use(TRAINER))
    bits = -sum(predictor.log_prob(x[None], np.ones((1, len(x)), bool)).sum() for x in test) / np.log(2)
    # ASCII: a byte is a character.
    assert found["next_step", "bits_per_character"] == pytest.approx(bits / sum(map(len, test)), rel=1e-5)
    labelled = prepared.split(LABELLED, "test")
    classifier = loading.load(model / "classify", Use(TRAINER))
    examples = first(prepared, LABELLED)
    answers = [classifier.class_log_prob(x[None], np.ones((1, len(x)), bool))[0].argmax() for x in examples]
    truth = {bytes(labelled[i]): int(labelled.labels[i]) for i in range(len(labelled))}
    right = [truth[x.astype(np.uint8).tobytes()] == answer for x, answer in zip(examples, answers, strict=True)]
    assert found["classify", "accuracy"] == pytest.approx(np.mean(right))


def first(prepared: Prepared, part: str) -> list[np.ndarray]:
    """The test examples that are scored, as the judges take them."""
    test = judging.Test(prepared=prepared, settings=None, domain="strings", name="", seed=0, examples=EXAMPLES)
    return [x.astype(np.int64) for x in test.sequences(part)]


def test_controls_are_scored_on_the_same_examples(lab: Lab) -> None:
    folder = lab.home / "scores/strings/controls"
    assert {path.name for path in folder.iterdir()} == set(lab.controls) != set()
    cell = scores.read(lab.home / "scores" / CELLS[0].path)
    for name, found in lab.controls.items():
        written = scores.read(folder / name)
        assert written.ratios.keys() == found.ratios.keys()
        for key, one in found.ratios.items():
            assert one.value == written.ratios[key].value
            np.testing.assert_array_equal(one.example, cell.ratios[key].example)


def test_a_comparison_ranks_what_evaluate_found(lab: Lab) -> None:
    values = {(row.system, row.task, row.metric): row.value for row in lab.compared.rows}
    for cell in CELLS:
        for (task, metric), value in lab.evaluated[cell.path].values.items():
            assert values[f"{cell.family} · {cell.strategy}", task, metric] == pytest.approx(value, rel=1e-9)
    out = lab.home / "reports"
    assert (out / "leaderboard.md").read_text(encoding="utf-8") == lab.compared.text
    assert "bits_per_character" in (out / "leaderboard.csv").read_text(encoding="utf-8")
    # Nothing was measured, so nothing is quoted.
    assert not lab.compared.costs
    assert {entry.domain for entry in lab.compared.entries} == {"strings"} == set(lab.compared.verdicts)


@pytest.mark.slow
def test_what_was_measured_stays_quoted_where_a_stage_came_from_the_cache(lab: Lab, tmp_path: Path) -> None:
    for part in ("models", "scores"):
        (tmp_path / part).symlink_to(lab.home / part)
    spent = {"seconds": 2.0, "symbols_per_second": 3.0, "peak_memory_mb": 4.0}
    trainings = {cell.path: dict.fromkeys(("next_step", "classify"), spent) for cell in CELLS}
    everything = Measured(
        trainings,
        {cell.source: {"next_step": {"seconds": 5.0}} for cell in CELLS},
        {cell.path: {table: {"seconds": 6.0, "sentences_per_second": 7.0} for table in TASKS} for cell in CELLS},
    )
    quoted = []
    for measured in (everything, Measured(trainings), Measured()):
        found = compare(COMPARISON, tmp_path / "models", tmp_path / "scores", tmp_path / "reports", measured)
        own = {key: cost for key, cost in found.costs.items() if key[3] in STRATEGIES}  # and no ensemble
        assert set(own.values()) == {MeanCost(2, 3, 4, 6, 5, 7), MeanCost(2, 3, 4, 6, None, 7)}
        assert {key[3] for key, cost in own.items() if cost.pretraining_seconds} == {"full"}
        quoted.append([(tmp_path / "reports" / name).read_text() for name in ("cost.csv", "transfer.md")])
    assert quoted[0] == quoted[1] == quoted[2]
    assert " 2 + 5 " in quoted[0][1]


def test_pictures_are_drawn_of_every_cell(lab: Lab) -> None:
    drawn = lab.home / "pictures"
    for cell in CELLS:
        own = {path.name for path in (drawn / cell.path.partition("/")[2]).iterdir()}
        assert own
        # Only what is trained in steps has a curve.
        assert ({f"loss-{task}.png" for task in ("next_step", "classify")} <= own) == (cell.family == "rnn")


def test_what_is_drawn_does_not_hang_on_empty_folders(lab: Lab, tmp_path: Path) -> None:
    """DVC keeps none, so that an evaluation that comes back from its cache has none."""
    cell = CELLS[0].path
    shutil.copytree(lab.home / "shown" / cell, tmp_path / "shown" / cell)
    emptied = [part for part in (tmp_path / "shown" / cell).iterdir() if not any(part.iterdir())]
    assert emptied
    for part in emptied:
        part.rmdir()
    draw({cell: TASKS}, lab.home / "models", lab.home / "scores", tmp_path / "shown", tmp_path / "pictures")
    below = cell.partition("/")[2]
    again, drawn = (home / "pictures" / below for home in (tmp_path, lab.home))
    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in drawn.iterdir()
    }


def test_diagnose_returns_what_it_writes(tmp_path: Path) -> None:
    found = remembered(tmp_path / "rnn")
    assert read_json(tmp_path / "rnn/memory.json") == found
    for norms in (norms for part in found["gradients"].values() for norms in part.values()):
        assert len(norms) == 7
        assert np.isfinite(norms).all()
    assert all(not norm for norm in found["gradients"]["start"]["truncated"][4:])
    assert any(found["gradients"]["start"]["full"][4:])
    assert {task: [line["horizon"] for line in lines] for task, lines in found["tasks"].items()} == {
        "copy": [3, 5],
        "adding": [3, 5],
    }
    assert remembered(tmp_path / "again") == found


@pytest.mark.slow
def test_none_of_the_frame_is_imported(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_stages
test_stages.ran(Path(sys.argv[1]))
test_stages.remembered(Path(sys.argv[1]) / "memory")
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & {set(FRAME)!r}), "ran")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["ran"]
