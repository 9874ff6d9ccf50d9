"""Every private contract with DVC: what executors/dvc.py changes in DVC must not change what DVC finds or writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from dvc.dependency import param
from dvc.lock import Lock
from dvc_objects.fs import LocalFileSystem

from seqlab.executors import dvc

VALUES = """
steps: 1.0
empty: {}
none: null
domains:
  strings: {classes: [a, b], valid: 0.1}
"""
KEYS = [
    "steps",
    "empty",
    "none",
    "domains",
    "domains.strings.valid",
    "domains.strings.classes",
    "steps.more",
    "absent.a",
]


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """DVC's own reader of values, and the one that parses a file once."""
    own = param.read_param_file
    monkeypatch.setattr(param, "read_param_file", own)  # so that it is put back
    dvc.read_once(LocalFileSystem())
    return own, param.read_param_file


def test_values_are_those_that_dvc_reads(tmp_path: Path, readers: tuple[Any, Any]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(VALUES)
    own, once = (lambda *a, r=r: r(LocalFileSystem(), str(path), *a) for r in readers)
    for keys in (KEYS, KEYS[:1], []):
        assert once(keys, True) == own(keys, True)
    assert list(once(KEYS, True)) == list(own(KEYS, True))
    assert once() == own()
    assert (
        once(["domains.strings"])
        == own(["domains.strings"])
        == {"domains": {"strings": {"classes": ["a", "b"], "valid": 0.1}}}
    )


def test_a_changed_file_is_read_again(tmp_path: Path, readers: tuple[Any, Any]) -> None:
    path = tmp_path / "params.yaml"
    for i, value in enumerate((1, 2)):
        path.write_text(f"steps: {value}")
        os.utime(path, ns=(i, i))
        assert readers[1](LocalFileSystem(), str(path), ["steps"], True) == {"steps": value}


def test_a_stage_that_changes_its_values_changes_no_other_stage_s(tmp_path: Path, readers: tuple[Any, Any]) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(VALUES)
    read = lambda: readers[1](LocalFileSystem(), str(path), ["domains"], True)["domains"]["strings"]  # noqa: E731
    read()["valid"] = 0.5
    assert read()["valid"] == 0.1


def test_whoever_waits_for_dvcs_lock_looks_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, wanted = Lock(str(tmp_path / "lock")), Lock(str(tmp_path / "lock"), wait=True)
    dvc.look_often(wanted)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            held.unlock()

    monkeypatch.setattr(dvc.time, "sleep", sleep)
    held.lock()
    with wanted:
        assert wanted.is_locked
    assert pauses == [dvc.POLLING] * 3
