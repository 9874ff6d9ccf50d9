"""What differs between two runs, cells or workspaces: only that, by part."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from seqlab.cli import diff
from seqlab.cli.places import ROOT, Workspace
from seqlab.errors import UserError

HEAD = "domain,task,family,strategy,metric,value\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with two cells that were trained."""
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "code.json", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)

    def training(family: str, size: int) -> dict[str, object]:
        values = {f"families.{family}": {"hidden_size": size, "layers": 1}, "domains.strings.finetune": {"steps": 9}}
        model = f"models/strings/{family}/pretrain/0"
        deps = [{"path": "data/prepared/strings", "md5": "d"}, {"path": model, "md5": family}]
        return {"params": {"params.yaml": values, "code.json": {"finetune.x": family}}, "deps": deps}

    stages = {
        "finetune@strings-rnn-full-s0": training("rnn", 64),
        "finetune@strings-gru-full-s0": training("gru", 96),
        "prepare@strings": {"outs": [{"path": "data/prepared/strings", "md5": "d"}]},
    }
    (tmp_path / "dvc.lock").write_text(yaml.dump({"schema": "2.0", "stages": stages}), encoding="utf-8")
    (tmp_path / "reports").mkdir()
    values = {"rnn": 2.5, "gru": 2.25}
    lines = [f"strings,next_step,{name},full,bits_per_character,{value}\n" for name, value in values.items()]
    (tmp_path / "reports/leaderboard.csv").write_text(HEAD + "".join(lines), encoding="utf-8")
    return tmp_path


def test_two_cells(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Workspace.current().home == home
    diff.diff("strings/rnn/full/0", "strings/gru/full/0")
    assert capsys.readouterr().out.splitlines() == [
        "config:",
        "  families.FAMILY.hidden_size: 64 → 96",
        "data:",
        "  models/DOMAIN/FAMILY/pretrain/0: rnn → gru",
        "code:",
        "  train: rnn → gru",
        "result:",
        "  next_step bits_per_character: 2.5 → 2.25 (-0.25)",
    ]
    diff.diff("strings/rnn/full/0", "strings/rnn/full/0")
    assert capsys.readouterr().out.splitlines() == [f"{part}: the same" for part in diff.PARTS]


def test_two_workspaces(
    home: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path_factory.mktemp("other") / "lab"
    shutil.copytree(home, other)
    tree = yaml.safe_load((other / "params.yaml").read_text(encoding="utf-8"))
    tree["families"]["rnn"]["hidden_size"] += 1
    tree["execution"]["jobs"] = 7  # changes no result
    (other / "params.yaml").write_text(yaml.dump(tree), encoding="utf-8")
    report = other / "reports/leaderboard.csv"
    report.write_text(report.read_text(encoding="utf-8").replace("2.5", "2"), encoding="utf-8")
    size = tree["families"]["rnn"]["hidden_size"]
    diff.diff(str(home), str(other))
    assert capsys.readouterr().out.splitlines() == [
        "config:",
        f"  families.rnn.hidden_size: {size - 1} → {size}",
        "data: the same",
        "code: the same",
        "result:",
        "  strings next_step rnn full: 2.5 → 2 (-0.5)",
    ]


def test_long_parts_are_cut_and_counted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"strings,next_step,f{i},full,bits_per_character,{i}\n" for i in range(30)]
    text = HEAD + "".join(lines)
    (home / "other/reports").mkdir(parents=True)
    shutil.copy(home / "params.yaml", home / "other/params.yaml")
    (home / "other/reports/leaderboard.csv").write_text(text, encoding="utf-8")
    diff.diff(".", "other")
    assert "  and 12 more (--all shows them)" in capsys.readouterr().out
    diff.diff(".", "other", everything=True)
    assert "more (" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("strings/rnn/full/1", "strings/rnn/full/0"), "cell strings/rnn/full/1: .*dvc.lock has no training of it"),
        ((".", "strings/rnn/full/0"), r"\. is a workspace and strings/rnn/full/0 a cell; expected two of one kind"),
        (("nonsense", "."), "'nonsense': neither a run"),
    ],
)
def test_what_is_no_pair_is_one_line(home: Path, words: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        diff.diff(*words)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> tuple[Path, list[str]]:
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("runs")
    shutil.copy(empty_store, folder / "mlflow.db")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    runs = []
    for size in (64, 96):
        run = client.create_run(
            "0", tags={"seqlab.key": f"{size}" * 16, "mlflow.source.git.dirty": "false"}
        ).info.run_id
        client.log_param(run, "family.hidden_size", size)
        client.log_param(run, "execution.jobs", size)
        client.set_tag(run, "input.prepared.sha256", "same")
        client.log_metric(run, "next_step/nll", 1 / size)
        client.log_metric(run, "system/cpu", size)
        runs.append(run)
    return folder, runs


@pytest.mark.slow
def test_two_runs(
    store: tuple[Path, list[str]], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, runs = store
    monkeypatch.setattr(diff, "ROOT", folder)
    diff.diff(runs[0][:12], "96969696")  # by its id in MLflow, and by the key that seqlab gave it
    assert capsys.readouterr().out.splitlines() == [
        "config:",
        "  family.hidden_size: 64 → 96",
        "data: the same",
        "code: the same",
        "result:",
        "  next_step/nll: 0.015625 → 0.0104167 (-0.00521)",
    ]
    with pytest.raises(UserError, match="run 00000000: no run has it"):
        diff.diff("00000000", "96969696")
