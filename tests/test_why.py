"""What changed since a stage ran last: by value, file and input, from dvc.lock against what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seqlab.cli import fingerprint, why
from seqlab.cli.listed import Listed, listed
from seqlab.cli.places import ROOT
from seqlab.cli.trees import ABSENT, differences
from seqlab.cli.why import Now
from seqlab.errors import UserError

PIPELINE = """
stages:
  prepare:
    foreach: ${domains}
    do:
      cmd: python pipelines/prepare.py ${key}
      deps: ["raw/${key}"]
      params: [{code.json: ["prepare.${key}"]}, "domains.${key}"]
      outs: ["data/${key}"]
  finetune:
    foreach: ${cells}
    do:
      cmd: python pipelines/finetune.py ${item.domain}/rnn
      deps: ["data/${item.domain}"]
      params: ["families.rnn"]
      outs: [{"models/${item.domain}": {cache: false}}]
  compare:
    cmd: python pipelines/compare.py
    deps: [models]
"""
CELLS = {"domains": {"a": {}}, "cells": {"a-rnn": {"domain": "a"}}}
FAMILY = fingerprint.schema.ROOT / "families/markov.py"
RNN = {"size": 64, "tied": [1, 2]}


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@pytest.fixture
def now(tmp_path: Path) -> Now:
    """A workspace in which everything ran."""
    (tmp_path / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    for name in ("raw/a", "data/a", "models/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    entry = {name: {"path": name, "md5": md5(name), "size": len(name)} for name in ("raw/a", "data/a", "models/a")}
    code = fingerprint.fingerprint([FAMILY])
    before = {
        "prepare@a": {
            "cmd": "python pipelines/prepare.py a",
            "deps": [entry["raw/a"]],
            "params": {"code.json": {"prepare.a": code}, "params.yaml": {"domains.a": {"valid": 0.1}}},
            "outs": [entry["data/a"]],
        },
        "finetune@a-rnn": {
            "cmd": "python pipelines/finetune.py a/rnn",
            "deps": [entry["data/a"]],
            "params": {"params.yaml": {"families.rnn": RNN}},
            "outs": [entry["models/a"]],
        },
        "compare": {
            "cmd": "python pipelines/compare.py",
            "deps": [{"path": "models", "md5": "x.dir", "size": 8, "nfiles": 1}],
        },
    }  # fmt: skip
    values = {
        "params.yaml": {"domains": {"a": {"valid": 0.1}}, "families": {"rnn": RNN}},
    }
    return Now(tmp_path, listed(tmp_path / "dvc.yaml", CELLS), values, {"prepare.a": [FAMILY]}, before)


def test_the_loops_of_a_pipeline_are_written_out(now: Now) -> None:
    assert now.stages["finetune@a-rnn"] == Listed(
        "python pipelines/finetune.py a/rnn", ["data/a"], {"params.yaml": ["families.rnn"]}, ["models/a"]
    )
    assert why.before(now, "compare") == ["finetune@a-rnn", "prepare@a"]


def test_nothing_changed(now: Now) -> None:
    assert [line for name in now.stages for line in why.reasons(now, name)] == []


def with_value(now: Now) -> Now:
    families = {"rnn": {"size": 96, "tied": [2, 3]}}
    return replace(now, values={"params.yaml": now.values["params.yaml"] | {"families": families}})


def without_a_record(now: Now) -> Now:
    return replace(now, before={name: entry for name, entry in now.before.items() if name != "finetune@a-rnn"})


def with_other_data(now: Now) -> Now:
    made = now.before["prepare@a"] | {"outs": [{"path": "data/a", "md5": "new", "size": 6}]}
    return replace(now, before=now.before | {"prepare@a": made})


def without_a_model(now: Now) -> Now:
    (now.home / "models/a").unlink()
    return now


def with_another_model(now: Now) -> Now:
    (now.home / "models/a").write_text("modelX/a", encoding="utf-8")
    return now


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (with_value, ["value    families.rnn.size: 64 → 96", "value    families.rnn.tied: adds 3, drops 1"]),
        (without_a_record, ["it never ran"]),
        (with_other_data, ["input    data/a was made anew by prepare@a"]),
        (without_a_model, ["output   models/a is missing"]),
        (with_another_model, ["output   models/a has other content"]),
    ],
)
def test_what_changed_is_named(now: Now, change: Callable[[Now], Now], expected: list[str]) -> None:
    assert list(why.reasons(change(now), "finetune@a-rnn")) == expected


def test_an_input_of_the_user_and_a_folder_are_looked_at(now: Now) -> None:
    (now.home / "raw/a").write_text("other", encoding="utf-8")
    (now.home / "models/b").write_text("one more", encoding="utf-8")
    assert list(why.reasons(now, "prepare@a")) == ["input    raw/a has other content"]
    assert list(why.reasons(now, "compare")) == ["input    models has 2 files, had 1"]
    (now.home / "models/b").unlink()
    (now.home / "models/a").write_text("longer by far", encoding="utf-8")
    assert list(why.reasons(now, "compare")) == ["input    models has 13 bytes, had 8"]


def test_code_that_changed_is_named_by_file_where_it_was_noted(now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fingerprint.files_of([FAMILY])
    entry = now.before["prepare@a"]
    params = entry["params"] | {"code.json": {"prepare.a": "other"}}
    changed = replace(now, before=now.before | {"prepare@a": entry | {"params": params}})
    assert list(why.reasons(changed, "prepare@a")) == [
        "code     prepare.a differs; which files it had then is not known here"
    ]
    then = {path: found for path, found in old.items() if not path.endswith("/naming.py")}
    then["seqlab/families/markov.py"] = "as it was"
    joined = [f"code     {path} joined" for path in old if path.endswith("/naming.py")]
    monkeypatch.setattr(fingerprint, "noted", lambda *_: then)
    expected = ["code     seqlab/families/markov.py changed", *joined]
    assert sorted(why.reasons(changed, "prepare@a")) == sorted(expected)


def test_notes_of_code_are_kept_once_for_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "roots", lambda _: {"prepare.a": [FAMILY]})
    unused: Any = None
    for _ in range(2):
        fingerprint.keep_notes(unused, tmp_path)
        assert len(list((tmp_path / fingerprint.NOTES).iterdir())) == 2
    assert fingerprint.noted(tmp_path, fingerprint.fingerprint([FAMILY])) == fingerprint.files_of([FAMILY])
    assert fingerprint.noted(tmp_path, "never") is None


@pytest.mark.parametrize("words", ["finetune@a-rnn", "finetune a/rnn"])
def test_a_stage_is_named_as_dvc_does_or_by_verb_and_label(now: Now, words: str) -> None:
    assert why.named(words.split(), now.stages) == "finetune@a-rnn"


def test_an_unknown_stage_is_one_line_with_the_nearest(now: Now) -> None:
    with pytest.raises(
        UserError, match="stage 'finetune a/rn': there is none in this suite; did you mean 'finetune@a-rnn'"
    ):
        why.named(["finetune", "a/rn"], now.stages)


@pytest.mark.slow
def test_every_stage_of_the_shipped_pipeline_is_read_as_dvc_reads_it() -> None:
    from dvc.repo import Repo

    from seqlab.config import read_params

    stages = listed(ROOT / "dvc.yaml", read_params(ROOT / "cells.json"))
    with Repo(str(ROOT)) as repo:
        theirs = {stage.addressing: stage for stage in repo.index.stages}
        assert set(theirs) == set(stages)
        for name, stage in theirs.items():
            assert stages[name].command == stage.cmd
            assert set(stages[name].outputs) == {out.def_path for out in stage.outs}
            assert set(stages[name].inputs) == {dep.def_path for dep in stage.deps if not hasattr(dep, "params")}


def test_differences_are_short() -> None:
    assert list(differences({"a": 1, "b": {"c": [1]}}, {"a": 1, "b": {"c": [1]}})) == []
    assert list(differences({"a": ABSENT}, {"a": "x" * 99})) == [f"a: absent → {'x' * 60}…"]
    assert list(differences({"a": [1, 2]}, {"a": [2, 1]})) == ["a: in another order"]
