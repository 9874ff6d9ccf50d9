"""Sweeps by hand: what a job is known by, what runs again, and the table of all."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from small import small
from test_pipeline import Lab

from seqlab.cli.sweep import jobs_of, show
from seqlab.errors import UserError

WORDS = ["domain=strings", "family=rnn", "strategy=scratch"]


def names(*words: str) -> dict[str, str]:
    return {job.said: job.name for job in jobs_of("finetune", [*WORDS, *words])}


@pytest.mark.slow
def test_a_job_is_known_by_what_it_is_and_not_by_how_it_was_asked_for() -> None:
    found = names("family.hidden_size=8,16", "seed=range(2)")
    assert list(found) == [f"family.hidden_size={size} seed={seed}" for size in (8, 16) for seed in (0, 1)]
    assert len(set(found.values())) == 4
    # Another sweep, other words: the same jobs. Where and how often is no part of them.
    again = names("seed=choice(1,3)", "family.hidden_size=16", "execution.checkpoint_seconds=1.0", "tracking=server")
    assert again["seed=1"] == found["family.hidden_size=16 seed=1"]
    assert again["seed=3"] not in found.values()
    assert len(names("seed=1,1")) == 1
    [own] = names().values()
    assert own != found["family.hidden_size=8 seed=0"]
    assert names("trainer.max_steps=3")["the only one"] != own


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed=interval(0,1)", "interval"),
        ("strategy=glob(*)", "glob"),
        ("family.hiden_size=1,2", "did you mean"),
        ("seed=0,-1", "seed"),
    ],
)
def test_a_wrong_word_is_one_line_before_anything_runs(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        names(word)


def test_the_table_has_the_best_first_and_the_failed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = jobs_of("finetune", [*WORDS, "seed=range(4)"])
    monkeypatch.chdir(tmp_path)
    for job, value in zip(jobs, ("2.5", "1.25", "null"), strict=False):
        job.folder.mkdir(parents=True)
        (job.folder / "result.json").write_text(f'{{"value": {value}}}')
    show("finetune", jobs, {jobs[3].name: Path("log")}, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", encoding="utf-8") as file:
        rows = [(row["seed"], row["loss"], row["state"]) for row in csv.DictReader(file)]
    assert rows == [("1", "1.25", "done"), ("0", "2.5", "done"), ("2", "", "done"), ("3", "", "failed")]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:6]] == ["1", "0", "2", "3"]


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
def test_only_what_is_missing_or_failed_runs_again(tmp_path: Path) -> None:
    lab = small(tmp_path / "lab", "markov")
    words = ["domain=strings", "family=markov", "strategy=scratch", "steps=0.005"]
    files = "domain.archives.target.path=own/target.csv,own/later.csv"
    said = lab.run("seqlab", "sweep", *words, "seed=0,1", files, "--keep-going", "--jobs", "2", fails=True)
    assert "4 of 4 jobs to run" in said
    assert "2 of 4 jobs failed: seed=0 domain.archives.target.path=own/later.csv" in said
    assert "Traceback" not in said
    assert len(results(lab)) == 2
    assert len(list((lab.folder / "outputs/data").iterdir())) == 2  # made once, by whichever job came first
    before = {path: path.stat().st_mtime_ns for path in results(lab)}
    (lab.folder / "own/later.csv").write_bytes(lab.read("own/target.csv").replace(b"good", b"bad"))
    said = lab.run("seqlab", "sweep", *words, "seed=0,1", files)
    assert "2 of 4 jobs to run" in said
    assert len(results(lab)) == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "0 of 4 jobs to run" in lab.run("seqlab", "sweep", *words, files, "seed=range(2)")
    assert lab.run("git", "status", "--porcelain", "--", "dvc.lock", "params.yaml") == ""


PLUGINS = {
    "joblib": ["seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["seed=0,1", "hydra/launcher=submitit_local"],
    "optuna": ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1", "seed=choice(0,1)"],
}


@pytest.mark.slow
@pytest.mark.xdist_group("sweep")
@pytest.mark.parametrize("name", sorted(PLUGINS))
def test_hydras_plugins_run_every_job(tmp_path: Path, name: str) -> None:
    kind = "sweeper" if name == "optuna" else "launcher"
    pytest.importorskip(f"hydra_plugins.hydra_{name}_{kind}", reason=f"pip install hydra-{name}-{kind}")
    lab = small(tmp_path / "lab", "markov")
    words = ["domain=strings", "family=markov", "strategy=scratch", "steps=0.005"]
    lab.run(sys.executable, "pipelines/finetune.py", "-m", *words, *PLUGINS[name])
    assert len(list((lab.folder / "outputs/finetune").rglob("result.json"))) == 2


def results(lab: Lab) -> list[Path]:
    return list((lab.folder / "outputs/sweeps/jobs").glob("*/result.json"))
