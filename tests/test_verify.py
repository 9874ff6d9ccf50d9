"""A result is proven or what differs is named: of files, values, code and environments."""

from __future__ import annotations

import hashlib
import json
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small import commit, small
from test_pipeline import Lab

from seqlab.artifacts import sha256, write_json, write_tensors
from seqlab.cli import environment
from seqlab.cli.behind import about, origins, verified
from seqlab.cli.claims import Book, Claim
from seqlab.cli.differences import first_difference, largest_difference, leaves
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.verify import Asked, chosen, verify
from seqlab.config import experiment, read_params
from seqlab.errors import UserError
from seqlab.executors.dvc import Cache

HERE = {
    "system": "Linux x86_64",
    "python": "3.11.7",
    "processor": "GenuineIntel family 6 model 143",
    "instructions": ["avx2", "avx512f"],
    "caps": {},
    "dispatch": {"torch": "AVX512", "openblas": "SkylakeX"},
    "libraries": {"numpy": "2.4.6", "torch": "2.13.0"},
}


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_one_weight_is_named_with_its_tensor_and_place(tmp_path: Path) -> None:
    tensors = {"bias": np.zeros(3, np.float32), "weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    write_tensors(tmp_path / "a/model.safetensors", tensors)
    tensors["weight"] = tensors["weight"].copy()
    tensors["weight"][1, 2] = np.nextafter(np.float32(5), np.float32(6))
    write_tensors(tmp_path / "b/model.safetensors", tensors)
    found = first_difference(files(tmp_path / "a"), files(tmp_path / "b"))
    assert found == "model.safetensors: tensor weight[1, 2]: recorded 5.0, here 5.0000005 (1 of 6 differ)"


def test_bits_are_compared_not_values(tmp_path: Path) -> None:
    for name, value in (("a", 0.0), ("b", -0.0)):
        write_tensors(tmp_path / name / "m.safetensors", {"x": np.array([np.nan, value])})
    found = first_difference(files(tmp_path / "a"), files(tmp_path / "b"))
    assert found == "m.safetensors: tensor x[1]: recorded 0.0, here -0.0 (1 of 2 differ)"
    assert first_difference(files(tmp_path / "a"), files(tmp_path / "a")) is None


def test_the_first_step_that_went_another_way_comes_before_what_followed_from_it(tmp_path: Path) -> None:
    for name, late, weight in (("a", 1.5, 1.0), ("b", 1.25, 2.0)):
        curves = [{"step": 0, "valid_loss": 3.0}, {"step": 40, "valid_loss": late}]
        write_json(tmp_path / name / "report.json", {"next_step": {"details": {"best_loss": late, "curves": curves}}})
        write_tensors(tmp_path / name / "model.safetensors", {"x": np.array([weight])})
    kept, here = files(tmp_path / "a"), files(tmp_path / "b")
    assert first_difference(kept, here) == "report.json: step 40, valid_loss: recorded 1.5, here 1.25"
    assert largest_difference(kept, here) == pytest.approx(0.25 / 1.5)


def test_curves_come_first_and_in_the_order_of_their_steps() -> None:
    tree = {"best_loss": 1.0, "details": {"curves": [{"step": 3}, {"step": 4}], "steps": 4}}
    assert list(leaves(tree)) == ["details.curves.0.step", "details.curves.1.step", "details.steps", "best_loss"]


def test_rows_and_bytes_are_named_and_so_is_a_file_that_one_side_lacks(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, value in (("a", 0.5), ("b", 0.75)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"example": [0, 1], "score": [0.25, value]}), tmp_path / name / "s.parquet")
    kept, here = files(tmp_path / "a"), files(tmp_path / "b")
    assert first_difference(kept, here) == "s.parquet: row 1, score: recorded 0.5, here 0.75"
    (tmp_path / "a/t.txt").write_bytes(b"abc")
    (tmp_path / "b/t.txt").write_bytes(b"abd")
    both = {"t.txt": tmp_path / "a/t.txt"}, {"t.txt": tmp_path / "b/t.txt"}
    assert first_difference(*both) == "t.txt: byte 2: recorded 99, here 100"
    assert first_difference(both[0], {}) == "t.txt: missing here"
    # A file that is damaged is told by its bytes, not by a traceback.
    for name in ("a", "b"):
        (tmp_path / name / "broken.npy").write_bytes(name.encode())
    broken = ({"broken.npy": tmp_path / name / "broken.npy"} for name in ("a", "b"))
    assert first_difference(*broken) == "broken.npy: byte 0: recorded 97, here 98"


def test_of_two_environments_every_difference_is_a_line() -> None:
    other = json.loads(json.dumps(HERE))
    other["libraries"]["numpy"] = "2.4.5"
    other["dispatch"] = {"torch": "AVX2"}  # openblas was not imported there: that says nothing
    other["caps"] = {"MKL_CBWR": "COMPATIBLE"}
    other["instructions"] = ["avx2"]
    assert environment.differing(other, HERE) == [
        "variable MKL_CBWR: recorded COMPATIBLE, here none",
        "kernels of torch: recorded AVX2, here AVX512",
        "library numpy: recorded 2.4.5, here 2.4.6",
        "instructions that one of them lacks: avx512f",
    ]
    assert environment.differing(HERE, HERE) == []
    other = HERE | {"libraries": HERE["libraries"] | {"dask": "2026.8.0"}}  # type: ignore[operator]
    assert environment.differing(HERE, other) == environment.differing(other, HERE) == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert tuple(sorted(one.partition("==")[0] for one in extras["cluster"])) == environment.CARRYING


def test_environments_are_written_once_each_and_found_by_stage(tmp_path: Path) -> None:
    stages = {"finetune a/b/c/0": HERE, "evaluate a/b/c/0": HERE, "prepare a": {**HERE, "python": "3.12.0"}}
    environment.write_stages(tmp_path / "machines.json", stages)
    assert environment.of_stages(tmp_path / "machines.json") == stages
    assert len(json.loads((tmp_path / "machines.json").read_text())["machines"]) == 2
    assert environment.of_stages(tmp_path / "nowhere.json") == {}


def test_this_process_says_what_it_computes_with() -> None:
    found = environment.environment()
    assert found["libraries"]["numpy"] == np.__version__
    assert found["dispatch"]["openblas"]
    assert environment.named(found) == environment.named(json.loads(json.dumps(found)))


ENTRY: dict[str, Any] = {
    "cmd": "python pipelines/finetune.py strings/rnn/full/0",
    "deps": [{"path": "models/strings/rnn/pretrain/0", "md5": "1.dir"}, {"path": "data/prepared/strings", "md5": "2"}],
    "params": {
        "params.yaml": {"families.rnn": {"hidden_size": 8, "layers": 1}, "suite.positions": None},
        "cells.json": {"bound.strings.rnn": {}},
        "code.json": {"finetune.strings.rnn.full": "abc"},
    },
    "outs": [{"path": "models/strings/rnn/full/0", "md5": "3.dir"}],
}


def test_one_value_is_named_by_its_key() -> None:
    claim = Claim("finetune@strings-rnn-full-s0", ENTRY)
    read: dict[str, Any] = {
        "params.yaml": {"families": {"rnn": {"hidden_size": 8, "layers": 1}}, "suite": {"positions": None}},
        "cells.json": {"bound": {"strings": {"rnn": {}}}},
    }
    assert claim.changed_values(read) == []
    read["params.yaml"]["families"]["rnn"] = {"hidden_size": 9, "layers": 1, "dropout": 0.1}
    assert claim.changed_values(read) == [
        "families.rnn.hidden_size: recorded 8, there 9",
        "families.rnn.dropout: recorded absent, there 0.1",
    ]
    assert claim.key == "finetune strings/rnn/full/0"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    source = {"cmd": "python pipelines/pretrain.py strings/rnn/0", "outs": [{"path": "models/strings/rnn/pretrain/0"}]}
    score = {"deps": [{"path": "models/strings/rnn/full/0"}], "outs": [{"path": "scores/strings/rnn/full/0"}]}
    stages = {
        "evaluate@strings-rnn-full-s0": {"cmd": "python pipelines/evaluate.py strings/rnn/full/0", **score},
        "finetune@strings-rnn-full-s0": ENTRY,
        "pretrain@strings-rnn-s0": source,
        "controls@strings": {"cmd": "python pipelines/controls.py strings", "outs": [{"path": "scores/c"}]},
        "report": {"cmd": "python pipelines/report.py", "deps": [{"path": "scores/c"}]},  # as DVC keeps it: no outs
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    (tmp_path / "reports").mkdir()
    rows = ["domain,task,family,strategy", "strings,next_step,rnn,full", "strings,next_step,unigram,control"]
    (tmp_path / "reports/leaderboard.csv").write_text("\n".join(rows))
    return Book(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["strings-rnn-full-s0", "strings/rnn/full/0", "strings/next_step/rnn/full", "strings/rnn/full", "1"],
)
def test_a_row_is_its_scores_after_every_model_that_they_come_from(book: Book, name: str) -> None:
    stages = [claim.stage for claim in book.row(name).claims]
    assert stages == ["pretrain@strings-rnn-s0", "finetune@strings-rnn-full-s0", "evaluate@strings-rnn-full-s0"]


def test_a_control_is_a_row_too_and_what_is_no_row_says_what_there_is(book: Book) -> None:
    assert [claim.stage for claim in book.row("strings/unigram/control").claims] == ["controls@strings"]
    for wrong in ("strings-rn-full-s0", "3", "0"):
        with pytest.raises(UserError, match="did you mean strings-rnn-full-s0"):
            book.row(wrong)
    with pytest.raises(UserError, match=r"report: dvc\.lock holds no output"):
        book.row("report")


def test_a_sample_is_drawn_by_its_seed(book: Book, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    monkeypatch.setattr("seqlab.cli.verify.lacking", lambda *_: None)
    first = chosen(book, cache, Asked((), all=True, sample=1, seed=3))
    assert chosen(book, cache, Asked((), all=True, sample=1, seed=3)) == first
    assert {chosen(book, cache, Asked((), all=True, sample=1, seed=s))[0][0].name for s in range(9)} == {
        row.name for row in book.rows()
    }
    assert chosen(book, cache, Asked((), all=True, sample=5)) == (book.rows(), None)
    with pytest.raises(UserError, match="name a run"):
        verify(Asked(()))


def test_of_all_rows_those_are_verified_whose_data_are_here(
    book: Book, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Cache(tmp_path / "cache")
    for stage in book.stages.values():
        for entry in (*stage.get("deps", ()), *stage.get("outs", ())):
            entry["md5"] = "3.dir"
    own = tmp_path / "own.csv"
    book.stages["controls@strings"] |= {"deps": [{"path": own.name, "md5": hashlib.md5(b"a").hexdigest()}]}
    book.stages["controls@strings"]["outs"][0]["md5"] = "a file, whose content is not needed"
    with pytest.raises(UserError, match=r"^0 of the .* 2 systems .* `dvc pull` may have them$"):
        chosen(book, cache, Asked((), all=True))
    own.write_text("a")
    rows, seed = chosen(book, cache, Asked((), all=True, sample=1, seed=0))
    assert ([row.name for row in rows], seed) == (["strings/next_step/unigram/control"], None)
    said = capsys.readouterr().out
    assert "1 of the leaderboard's 2 systems can be verified here" in said
    assert "such as models/strings/rnn/full/0;" in said or "such as models/strings/rnn/pretrain/0;" in said


def test_a_run_of_mlflow_is_known_by_what_it_wrote(book: Book, tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_json(model / "report.json", {"a": 1})
    write_json(model / "next_step/model.json", {"b": 2})
    parts = {name: hashlib.md5(path.read_bytes()).hexdigest() for name, path in files(model).items()}
    cache = Cache(tmp_path / "cache")
    for name, one in parts.items():
        cache.file(one).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(model / name, cache.file(one))
    listed = json.dumps([{"relpath": name, "md5": one} for name, one in parts.items()])
    book.stages["finetune@strings-rnn-full-s0"]["outs"][0]["md5"] = "ab3.dir"
    (tmp_path / "cache/ab").mkdir(exist_ok=True)
    cache.file("ab3.dir").write_text(listed)
    tags = {"phase": "finetune", "domain": "strings", "family": "rnn", "strategy": "full", "seed": "0"}
    tags |= {"mlflow.source.git.commit": "c0ffee", "output.model": sha256(model)}
    (claim,) = book.of_run("0" * 32, tags, cache).claims
    assert (claim.stage, claim.commit) == ("finetune@strings-rnn-full-s0", "c0ffee")
    with pytest.raises(UserError, match="in none of the last"):
        book.of_run("0" * 32, tags | {"output.model": "another"}, cache)
    with pytest.raises(UserError, match=r"no stage of .* is that"):
        book.of_run("0" * 32, {"phase": "finetune", "mlflow.runName": "by hand"}, cache)


MADE = (".dvc/cache", "data", "models", "scores", "shown")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = small(tmp_path_factory.mktemp("verified"), "markov")
    lab.run("seqlab", "repro", "--only", "family=markov", "stage=evaluate")
    records = {
        path.parts[-5]: path for path in (lab.folder / ".seqlab/records").glob("*/strings/markov/scratch/0.json")
    }
    found = {
        f"{verb} strings/markov/scratch/0": json.loads(p.read_text())["environment"] for verb, p in records.items()
    }
    environment.write_stages(lab.folder / environment.MACHINES, found)
    commit(lab, "results")
    for name in MADE:
        shutil.copytree(lab.folder / name, lab.folder / ".git/kept" / name)
    return lab


def test_what_the_report_says_of_a_row_is_how_it_last_came_out(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert verified(workspace) == {}
    entry = {
        "row": "strings/rnn",
        "first": None,
        "stages": [{"stage": "scratch@strings-rnn"}, {"stage": "evaluate@strings-rnn"}],
    }
    before = entry | {
        "when": "2026-11-26T10:00:00+00:00",
        "outcome": "failed",
        "first": "scratch@…: no disk",
        "where": None,
    }
    after = entry | {
        "when": "2026-11-27T10:00:00+00:00",
        "outcome": "same",
        "where": {"machine": "c0ffee", "processor": "a Z80"},
    }
    for entries, expected in (
        ([before], ("failed", "failed: scratch@…: no disk, 2026-11-26 10:00 UTC")),
        ([before, after], ("same", "same bits, 2026-11-27 10:00 UTC on a Z80 (c0ffee)")),
    ):
        (tmp_path / "reports").mkdir(exist_ok=True)
        write_json(tmp_path / "reports/verified.json", entries)
        assert verified(workspace) == {"evaluate@strings-rnn": expected}
    compared = experiment(read_params(ROOT / "params.yaml"))
    rows = origins(workspace, compared, {"evaluate@strings-rnn-full-s0": "same bits", "controls@video": "same bits"})
    assert rows["strings"]["rnn/full"].verified == ["seed 0: same bits"]
    assert rows["strings"]["rnn/scratch"].verified == []
    assert about("default", ["same", "failed"])["made again"] == "2 systems, 1 to the same bits"


@pytest.fixture
def clean(lab: Lab) -> Iterator[Lab]:
    yield lab
    lab.run("git", "checkout", "-q", ".")
    for name in MADE:
        shutil.rmtree(lab.folder / name, ignore_errors=True)
        shutil.copytree(lab.folder / ".git/kept" / name, lab.folder / name)


LABEL, STAGE = "strings-markov-scratch-s0", "scratch@strings-markov-scratch-s0"


@pytest.mark.slow
def test_a_run_is_proven_in_a_clean_place_and_a_planted_version_is_named(clean: Lab) -> None:
    path = clean.folder / environment.MACHINES
    recorded = environment.of_stages(path)
    library = recorded["evaluate strings/markov/scratch/0"]["libraries"]["numpy"]
    recorded["evaluate strings/markov/scratch/0"]["libraries"]["numpy"] = "0.0.1"
    environment.write_stages(path, recorded)
    record = clean.folder / ".seqlab/records/evaluate/strings/markov/scratch/0.json"
    # What ran here is told by its record; of what was computed elsewhere there is none.
    assert "the environments differ" not in clean.run("seqlab", "verify", LABEL)
    record.rename(clean.folder / ".seqlab/kept.json")
    try:
        said = clean.run("seqlab", "verify", LABEL)
    finally:
        (clean.folder / ".seqlab/kept.json").rename(record)
    assert f"{STAGE}: same bits" in said
    assert f"the environments differ: library numpy: recorded 0.0.1, here {library}" in said
    entry = json.loads(clean.read("reports/verified.json"))[-1]
    assert (entry["row"], entry["outcome"], entry["first"], entry["seed"]) == (LABEL, "same", None, None)
    assert entry["where"]["processor"] == environment.processor()
    assert clean.run("git", "worktree", "list").count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["weight", "input", "cached input", "value", "code"])
def test_one_planted_change_is_named(clean: Lab, what: str) -> None:
    expected = PLANTS[what](clean)
    said = clean.run("seqlab", "verify", LABEL, fails=True)
    assert f"{STAGE}: differs: {expected}" in said
    assert "Traceback" not in said


def weight(lab: Lab) -> str:
    from safetensors.numpy import load_file

    path = lab.folder / "models/strings/markov/scratch/0/next_step/model.safetensors"
    tensors = {name: array.copy() for name, array in load_file(path).items()}
    name = next(name for name, array in tensors.items() if array.dtype.kind == "f")
    tensors[name].reshape(-1)[0] += 1
    write_tensors(path, tensors)
    place = ", ".join("0" * tensors[name].ndim)
    return f"output models/strings/markov/scratch/0/next_step/model.safetensors: tensor {name}[{place}]: recorded "


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def an_input(lab: Lab) -> str:
    path = lab.folder / "data/prepared/strings/target/train/offsets.npy"
    flipped(path)
    return "input data/prepared/strings/target/train/offsets.npy: element ["


def cached_input(lab: Lab) -> str:
    entry = yaml.safe_load(lab.read("dvc.lock"))["stages"][STAGE]["deps"][0]
    cache = Cache(lab.folder / ".dvc/cache/files/md5")
    flipped(cache.file(cache.files(entry)["target/train/offsets.npy"]))
    # What is checked out is held against dvc.lock, and would be named first.
    shutil.rmtree(lab.folder / "data/prepared")
    # Content that two files share is named by the first.
    return "input data/prepared/strings/labelled/train/offsets.npy: the cache has "


def value(lab: Lab) -> str:
    path = lab.folder / "dvc.lock"
    tree = yaml.safe_load(path.read_text())
    tree["stages"][STAGE]["params"]["params.yaml"]["strategies.scratch"]["learning_rate_factor"] = 0.5
    path.write_text(yaml.safe_dump(tree))
    return "config strategies.scratch.learning_rate_factor: recorded 0.5, there 1.0"


def code(lab: Lab) -> str:
    lab.append("src/seqlab/families/markov.py", "\nEDITED = 1\n")
    lab.run("seqlab", "repro", "--only", "family=markov", "stage=evaluate")
    return "code src/seqlab/families/markov.py: changed since "


PLANTS = {"weight": weight, "input": an_input, "cached input": cached_input, "value": value, "code": code}
