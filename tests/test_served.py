"""The registered translator answers as the system that was saved."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from compare import register_best
from stage import compose as composed

from seqlab import config
from seqlab.data import vocabulary
from seqlab.data.pairs import TextPairs
from seqlab.evaluation import leaderboard, translation
from seqlab.evaluation.leaderboard import CONTROL, Cell
from seqlab.families import saved
from seqlab.families.saved import Recipe
from seqlab.settings import Decoding, TrainerSettings
from seqlab.tracking import SERVED_SETTINGS, Run, Tracking, journal, spool

mlflow = pytest.importorskip("mlflow")
from mlflow import MlflowClient  # noqa: E402

from seqlab.tracking import upload  # noqa: E402

# One process imports mlflow and creates the tables.
pytestmark = pytest.mark.xdist_group("tracking")

TRAINER = TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, None, 1e9)
DECODING = Decoding(2, 1.0, 1.0, 1.0, 5, 8)
TEXTS = ["I love this movie.", "", "no\x00w"]


def test_a_registered_model_translates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(journal, "ensure_uploader", lambda *_: None)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "model"
    parameters = {"hidden_size": 16, "layers": 1, "dropout": 0.0, "label_smoothing": 0.0}
    recipe = Recipe("seqlab.families.seq2seq_rnn.Seq2SeqRNN", parameters, "gradient", "pairs", 400, None)
    torch.manual_seed(0)
    saved.save(folder, recipe, {name: part.numpy() for name, part in recipe.build().state_dict().items()})
    (folder / "tokenizer.json").write_text(vocabulary.train(["one two", "하나 둘"], 400).to_str())
    (folder / SERVED_SETTINGS).write_text(json.dumps({"trainer": asdict(TRAINER), "decoding": asdict(DECODING)}))

    tracking = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", prefix="seqlab", system_interval=0.0, results=[])
    root = Path(".seqlab/tracking")
    with Run(root, tracking, experiment="translation", name="compare", tags={}, params={}) as run:
        run.model(folder, "seqlab-translation")
    with Run(root, tracking, experiment="translation", name="compare", tags={}, params={}) as run:
        run.model(folder, "seqlab-translation")  # the same model, which is not another version
        expected = saved.load(folder, TRAINER, DECODING).translate(TEXTS)
        shutil.rmtree(folder)
    upload.Uploader(tmp_path / root).deliver_all()
    assert not spool.journals(tmp_path / root)
    client = MlflowClient(tracking_uri=tracking.uri)
    (version,) = client.search_model_versions("name = 'seqlab-translation'")
    mlflow.set_tracking_uri(tracking.uri)
    model = mlflow.pyfunc.load_model(f"models:/seqlab-translation/{version.version}")
    assert list(model.predict(TEXTS)) == expected

    (tmp_path / "texts.json").write_text(json.dumps({"inputs": TEXTS}))
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "predict",
        "-m",
        f"models:/seqlab-translation/{version.version}",
    ]
    options = ["-i", "texts.json", "-o", "answers.json", "--env-manager", "local"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking.uri}
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "answers.json").read_text()) == {"predictions": expected}


@pytest.mark.parametrize("trained", [True, False])
def test_the_best_system_of_the_comparison_is_registered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: bool
) -> None:
    experiment = config.experiment(composed("config", ["suite=translation", "trainer=gpu"])[0])
    monkeypatch.chdir(tmp_path)
    cells = []
    test = TextPairs(["a b"] * 3, [["하나 둘"]] * 3, ["x"] * 3)
    scorers = translation.Scorers.of("char")
    answers = {("rule_based", "full"): "하나", ("seq2seq_rnn", "scratch"): "하나 둘", ("copy", CONTROL): "하나 둘"}
    for (family, strategy), made in answers.items():
        folder = Path(f"models/translation/{family}/{strategy}/0/translate")
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(family)
        if trained or strategy == CONTROL:
            scored = translation.scores("in_domain", [made] * 3, test, scorers)
            cells.append(Cell("translation", family, strategy, 0, scored))
    registered = []

    class Recorded:
        def model(self, folder: Path, name: str) -> None:
            settings = json.loads((folder / SERVED_SETTINGS).read_text())
            registered.append((name, (folder / "model.json").read_text(), settings["trainer"]["accelerator"]))

    settings = experiment.domains["translation"].evaluate
    register_best(Recorded(), experiment, "translation", settings, leaderboard.build(cells, 20, seed=0))  # type: ignore[arg-type]
    assert registered == ([("seqlab-translation", "seq2seq_rnn", "auto")] if trained else [])
