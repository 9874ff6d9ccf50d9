"""Walls between rooms, and fingerprints that cover exactly the code that a stage runs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from fingerprint import PIPELINES, SRC, closure, fingerprint

HEAVY = {"hydra", "omegaconf", "mlflow", "dvc", "lightning"}
# Who may import what of the frameworks; every other file of src/ imports none.
ALLOWED = {
    "seqlab/tracking/upload.py": {"mlflow"},
    "seqlab/serving/pyfunc.py": {"mlflow"},
    "seqlab/serving/registry.py": {"mlflow"},
    "seqlab/training/gradient/": {"lightning"},
}


def names(*files: Path) -> set[str]:
    return {path.stem for path in closure(*files)}


def test_a_closure_follows_imports_at_any_depth_and_in_functions() -> None:
    recurrent = names(PIPELINES / "finetune.py", SRC / "seqlab/families/rnn.py")
    assert {"finetune", "fitting", "stage", "warm", "rnn", "recurrence", "sequences", "spool"} <= recurrent
    # Neither what a sibling needs, nor what draws and compares.
    assert not recurrent & {"transformer", "markov", "ngram", "leaderboard", "pictures", "upload"}


def test_a_fingerprint_changes_with_every_file_of_the_closure_and_no_other(tmp_path, monkeypatch) -> None:
    import fingerprint as module

    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/a.py").write_text("import b\n")
    (tmp_path / "pipelines/b.py").write_text("def f():\n    from seqlab import c\n")
    package = tmp_path / "src/seqlab"
    package.mkdir(parents=True)
    for file in ("__init__", "c", "d"):
        (package / f"{file}.py").write_text(f'"""{file}"""\n')
    for name, path in (("ROOT", tmp_path), ("SRC", tmp_path / "src"), ("PIPELINES", tmp_path / "pipelines")):
        monkeypatch.setattr(module, name, path)

    def now() -> str:
        for cached in (module.content, module.parsed, module.imported):
            cached.cache_clear()
        return fingerprint(tmp_path / "pipelines/a.py")

    before = now()
    for file in ("__init__", "d"):
        (package / f"{file}.py").write_text('"""changed"""\n')
    assert now() == before
    (package / "c.py").write_text('"""changed"""\n')
    assert now() != before


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
