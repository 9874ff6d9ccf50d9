"""What an edit reruns: the limits that the design promises, for every file of the library and every key."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from seqlab import schema
from seqlab.cli import blast, fingerprint
from seqlab.cli.blast import Blast
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.repro import current
from seqlab.config import Experiment

SEQLAB = "src/seqlab"
# What a class states of itself is read by the names of its cells: domains of vectors.
VECTORS = {"series", "stocks", "motion", "speech", "video"}


@cache
def files() -> dict[str, Blast]:
    return blast.of_files(Workspace(ROOT))


@cache
def keys() -> dict[str, Blast]:
    return blast.of_keys(Workspace(ROOT))


@cache
def experiment() -> Experiment:
    return current(Workspace(ROOT))


def work(found: Blast) -> set[str]:
    """Names of its trainings and evaluations, without their groups: DOMAIN-FAMILY-..."""
    groups = (*blast.TRAININGS, "mixture", "evaluate")
    return {name.split("@")[1] for name in found.stages if name.split("@")[0] in groups}


def files_of(*rooms: str) -> list[str]:
    return [name for name in files() if any(name.startswith(f"{SEQLAB}/{room}") for room in rooms)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "room",
    [
        *(
            "config.py",
            "cli/",
            "tracking/",
            "executors/",
            "serving/",
            "api.py",
            "errors.py",
            "execution.py",
            "schema.py",
        ),
        *("scratch.py", "cost.py", "evaluation/pictures.py", "evaluation/leaderboard.py", "stages/draw.py"),
        *("stages/compare.py", "training/gradient/progress.py", "training/gradient/checkpoints.py", "yaml_files.py"),
    ],
)
def test_what_configures_starts_tracks_draws_or_waits_trains_and_evaluates_nothing(room: str) -> None:
    found = files_of(room)
    assert found
    assert {name: work(files()[name]) for name in found if work(files()[name])} == {}


@pytest.mark.slow
def test_pictures_of_a_task_train_and_evaluate_nothing() -> None:
    found = [path for path in files() if path.startswith(f"{SEQLAB}/tasks/") and path.endswith("draw.py")]
    assert found
    assert not any(work(files()[path]) for path in found)
    assert all(files()[path].stages for path in found)  # but draw


def test_the_vocabulary_is_of_what_uses_subwords() -> None:
    found = files()[f"{SEQLAB}/data/vocabulary.py"].stages
    assert found
    assert {name.partition("@")[2].split("-")[0] for name in found} == {"translation"}


def test_kalman_is_of_latent_ar_on_vectors() -> None:
    found = work(files()[f"{SEQLAB}/families/closed_form/kalman.py"])
    assert found
    assert {tuple(name.split("-")[:2]) for name in found} <= {(domain, "latent_ar") for domain in VECTORS}


def test_distilling_and_pseudo_labels_are_of_who_asks_for_them() -> None:
    asked = {
        "training/gradient/distil.py": {n for n, s in experiment().strategies.items() if s.distillation is not None},
        "training/pseudo_labels.py": {n for n, s in experiment().strategies.items() if s.pseudo_labels is not None},
        "training/gradient/tuning.py": {n for n, s in experiment().strategies.items() if s.grouped},
    }
    for name, strategies in asked.items():
        if not any(f"-{s}-" in cell for s in strategies for cell in work(files()[f"{SEQLAB}/{name}"])):
            assert not work(files()[f"{SEQLAB}/{name}"]), name


@pytest.mark.parametrize("family", sorted(path.stem for path in (schema.ROOT / "families").glob("*.py")))
def test_a_familys_file_is_of_its_own_cells(family: str) -> None:
    if family not in experiment().families:
        pytest.skip("a part that families share, or a family that the default suite leaves out")
    mine = {family, *(name for name, other in experiment().families.items() if family in other.members)}
    relatives = {
        name
        for name, other in experiment().families.items()
        if schema.ROOT / f"families/{family}.py" in fingerprint.closure(*fingerprint.family_files(other, "symbols"))
    }
    found = {name.split("-")[1] for name in work(files()[f"{SEQLAB}/families/{family}.py"])}
    assert found
    assert found <= mine | relatives


def test_values_of_execution_are_of_no_stage() -> None:
    found = {key for key in keys() if key.startswith(("execution.", "tracking."))}
    assert found
    assert not [key for key in found if keys()[key].stages]


def test_a_familys_values_are_of_its_own_cells_and_a_trainers_of_what_is_trained_so() -> None:
    for key, found in keys().items():
        if key.startswith("families.rnn."):
            assert {name.split("-")[1] for name in work(found)} <= {"rnn"}, key
    fitted = {name: family.fit for name, family in experiment().families.items()}
    for name in keys()["trainer.precision"].stages:
        group, _, cell = name.partition("@")
        if group in ("pretrain", "scratch", "finetune", "mixture", "evaluate"):
            assert fitted[cell.split("-")[1]] in ("gradient", "mixture"), name


def test_finetuning_a_recurrent_network_on_text_runs_few_lines() -> None:
    domain, family = experiment().domains["strings"], experiment().families["rnn"]
    ran = fingerprint.closure(*fingerprint.finetunes(domain, family, experiment().strategies["full"]))
    assert sum(path.read_text(encoding="utf-8").count("\n") for path in ran) <= 3000


def test_comments_and_docstrings_are_no_part_of_a_fingerprint_and_a_message_is(tmp_path: Path) -> None:
    lines = ['"""Words."""', "", "", "def f() -> str:", '    """Words."""', '    return "message"  # words', ""]
    file = tmp_path / "module.py"

    def essence(text: str) -> bytes:
        file.write_text(text, encoding="utf-8")
        fingerprint.parsed.cache_clear()
        fingerprint.essence.cache_clear()
        return fingerprint.essence(file)

    text = "\n".join(lines)
    assert essence(text) == essence(text.replace("Words.", "Other words.").replace("# words", "# others"))
    assert essence(text) != essence(text.replace("message", "other"))
    # What follows a docstring on its line, and what lies within a string, is code.
    assert essence('"""한 줄"""; x = 1\n') != essence('"""한 줄"""; x = 2\n')
    assert essence('"""한 줄"""; x = 1\n') == essence('"""Words."""; x = 1\n')
    for one, other in (("a\\n\\nb", "a\\nb"), ("a  \\nb", "a\\nb"), ("\\n  a", "\\n a")):
        assert essence(f'x = """{one}"""\n'.replace("\\n", "\n")) != essence(
            f'x = """{other}"""\n'.replace("\\n", "\n")
        )
    assert essence("x = 1\n\n\ny = 2   \n") == essence("x = 1  # words\ny = 2\n")
