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

from seqlab.data import vocabulary
from seqlab.families import saved
from seqlab.families.saved import Recipe
from seqlab.tracking import SERVED_SETTINGS, Run, Tracking, journal, spool
from seqlab.training.settings import Decoding, TrainerSettings

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
