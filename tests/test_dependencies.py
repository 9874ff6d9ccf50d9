"""Walls between rooms, and fingerprints that cover exactly the code that a stage runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqlab import schema
from seqlab.cli import fingerprint as module
from seqlab.cli.fingerprint import SRC, closure, fingerprint, stage_of

SEQLAB = SRC / "seqlab"
HEAVY = {"hydra", "omegaconf", "mlflow", "dvc", "lightning"}
# Who may import what of the frameworks; every other file of src/ imports none.
ALLOWED = {
    "seqlab/tracking/lookup.py": {"mlflow"},
    "seqlab/tracking/upload.py": {"mlflow"},
    "seqlab/serving/pyfunc.py": {"mlflow"},
    "seqlab/serving/registry.py": {"mlflow"},
    "seqlab/training/gradient/": {"lightning"},
    "seqlab/cli/composing.py": {"hydra", "omegaconf"},
    "seqlab/cli/stage.py": {"hydra", "omegaconf"},
    "seqlab/executors/dvc.py": {"dvc"},
}


def names(*files: Path) -> set[str]:
    return {path.stem for path in closure(*files)}


def test_mlflow_tells_nobody_that_it_was_imported() -> None:
    """Whatever imports it says so first: its own process, or the package that every import of it goes through."""
    first = {"tracking/upload": "tracking/__main__", "serving/pyfunc": "serving/__init__"}
    first |= {"serving/registry": "serving/__init__", "tracking/lookup": "tracking/lookup"}
    asked = {path.removeprefix("seqlab/").removesuffix(".py") for path, names in ALLOWED.items() if "mlflow" in names}
    assert asked == first.keys()
    for file in first.values():
        assert "MLFLOW_DISABLE_TELEMETRY" in (SEQLAB / f"{file}.py").read_text(encoding="utf-8")


def test_a_closure_follows_imports_at_any_depth_and_in_functions() -> None:
    recurrent = names(
        stage_of("finetune"), *(SEQLAB / f"{file}.py" for file in ("families/rnn", "training/gradient/train"))
    )
    assert {"finetune", "fitting", "job", "saved", "rnn", "recurrence", "sequences", "validation"} <= recurrent
    # Neither what a sibling needs, nor what judges, draws and compares, nor what only starts and tracks it.
    assert not recurrent & {"transformer", "markov", "ngram", "metrics", "leaderboard", "pictures", "upload"}
    assert not recurrent & {"config", "execution", "schema", "compose", "work", "verbs", "warm", "journal"}
    # Nor what only waits, shows and keeps.
    assert not recurrent & {"progress", "checkpoints"}


class Library:
    """A library of a few files, where fingerprints are taken of a.py."""

    def __init__(self, folder: Path, **files: str):
        self.folder = folder / "src/seqlab"
        self.folder.mkdir(parents=True)
        for name, text in {"__init__": '"""A library."""\n', **files}.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(text, encoding="utf-8")

    def fingerprint(self) -> str:
        for cached in (module._digest, module.essence, module.parsed, module.imported):
            cached.cache_clear()
        return fingerprint([self.folder / "a.py"])


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    found = Library(
        tmp_path,
        a="from seqlab import b\n",
        b="def f():\n    from seqlab import c\n    return c.x\n",
        c="x = 1\n",
        d="x = 1\n",
    )
    monkeypatch.setattr(schema, "ROOT", found.folder)
    monkeypatch.setattr(module, "SRC", found.folder.parent)
    yield found
    monkeypatch.undo()
    for cached in (module._digest, module.essence, module.parsed, module.imported):
        cached.cache_clear()


def test_a_fingerprint_changes_with_every_file_of_the_closure_and_no_other(library: Library) -> None:
    before = library.fingerprint()
    for name in ("d", "__init__"):
        library.write(name, "x = 2\n")
        assert library.fingerprint() == before
    library.write("c", "x = 2\n")
    assert library.fingerprint() != before


@pytest.mark.parametrize("file", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_frameworks_stay_in_their_rooms(file: Path) -> None:
    place = str(file.relative_to(SRC))
    allowed = set().union(*(names for room, names in ALLOWED.items() if place.startswith(room)))
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0])
    assert found & HEAVY <= allowed
    if place.startswith(("seqlab/families/closed_form", "seqlab/training/closed_form", "seqlab/evaluation")):
        assert "torch" not in found
