"""The registered winner answers every kind of request as the system that was saved, loaded or served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_api import prepare, trained, translator, walks

import seqlab
from seqlab.errors import UserError
from seqlab.serving.requirements import requirements
from seqlab.tracking import Run, Tracking, journal, spool

mlflow = pytest.importorskip("mlflow")
from mlflow import MlflowClient  # noqa: E402

from seqlab.tracking import upload  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(".seqlab/tracking")
TEXTS = ["I love this movie.", "now"]
ANSWERS = {"vectors": "forecast", "texts": "classify", "pairs": "translate"}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Path]:
    """A store in which a system of each kind is registered, twice."""
    root = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_store, root / "mlflow.db")
    systems = {
        "vectors": trained("markov", prepare("series", root), root / "systems/vectors"),
        "texts": trained("ar", prepare("texts", root), root / "systems/texts"),
        "pairs": translator("seq2seq_rnn", root / "systems/pairs"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(journal, "ensure_uploader", lambda *_: None)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        settings = Tracking(uri="sqlite:///mlflow.db", prefix="seqlab", system_interval=0.0, results=[])
        for _ in range(2):
            with Run(ROOT, settings, experiment="leaderboard", name="compare", tags={}, params={}) as run:
                for kind, folder in systems.items():
                    run.model(folder, f"seqlab-{kind}", ANSWERS[kind], {"family": folder.name, "mase@4": 1.5})
        upload.Uploader(root / ROOT).deliver_all()
        assert not spool.journals(root / ROOT), spool.kept(root / ROOT)
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        yield root


def test_a_winner_has_the_alias_and_is_registered_once(repository: Path) -> None:
    client = MlflowClient()
    for kind in ANSWERS:
        (version,) = client.search_model_versions(f"name = 'seqlab-{kind}'")
        best = client.get_model_version_by_alias(f"seqlab-{kind}", "best")
        assert best.version == version.version
        assert best.tags.items() >= {"family": kind, "mase_4": "1.5"}.items()


def test_another_winner_takes_the_alias_and_the_first_may_have_it_back(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client, name = MlflowClient(), "seqlab-changing"
    settings = Tracking(uri="sqlite:///mlflow.db", prefix="seqlab", system_interval=0.0, results=[])
    second = shutil.copytree(repository / "systems/vectors", tmp_path / "second")
    (second / "report.json").write_text("{}")
    seen = []
    for folder in (repository / "systems/vectors", second, repository / "systems/vectors"):
        with Run(ROOT, settings, experiment="leaderboard", name="compare", tags={}, params={}) as run:
            run.model(folder, name, "forecast", {})
        upload.Uploader(repository / ROOT).deliver_all()
        seen.append(int(client.get_model_version_by_alias(name, "best").version))
    assert seen == [1, 2, 1]


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_registered_system_has_a_signature_and_an_example_that_it_answers(repository: Path, kind: str) -> None:
    model = mlflow.pyfunc.load_model(f"models:/seqlab-{kind}@best")
    signature, example = model.metadata.signature, model.input_example
    assert signature.params.to_dict()[0]["default"] == ANSWERS[kind]
    found = model.predict(example)
    columns = list(found.columns) if isinstance(found, pd.DataFrame) else [None]
    assert columns == [column.name for column in signature.outputs.inputs]


def test_a_registered_system_answers_as_the_saved_one(repository: Path) -> None:
    saved, past = seqlab.load(repository / "systems/vectors"), [one[:, 0] for one in walks(1, 9, count=2)]
    expected = saved.forecast(past, 4, levels=[0.5], seed=3)
    same = seqlab.load("models:/seqlab-vectors@best").forecast(past, 4, levels=[0.5], seed=3)
    pd.testing.assert_frame_equal(same, expected)
    served = mlflow.pyfunc.load_model("models:/seqlab-vectors@best")
    rows = pd.DataFrame({"values": [one.tolist() for one in past]})
    found = served.predict(rows, params={"steps": 4, "levels": [0.5], "seed": 3})
    pd.testing.assert_frame_equal(found, expected.assign(id=expected["id"].astype(str)))
    classes = served.predict(rows, params={"answer": "classify"})
    pd.testing.assert_frame_equal(classes.drop(columns="id"), saved.classify(past).reset_index(drop=True))
    with pytest.raises(UserError, match="expected one of forecast, classify"):
        served.predict(rows, params={"answer": "guess"})
    with pytest.raises(UserError, match="an id stands twice"):
        served.predict(rows.assign(id="a"))


def test_what_is_not_registered_is_named(repository: Path) -> None:
    with pytest.raises(UserError, match=r"models:/nothing@best: .*set MLFLOW_TRACKING_URI"):
        seqlab.load("models:/nothing@best")


def test_packages_are_those_that_a_system_imports() -> None:
    def names(family: str) -> set[str]:
        return {one.partition("==")[0] for one in requirements(["seqlab.serving.pyfunc", f"seqlab.families.{family}"])}

    assert {"mlflow", "pandas", "numba", "safetensors"} <= names("markov")
    assert "torch" not in names("markov")
    assert {"torch", "pandas"} <= names("rnn")
    assert not names("rnn") & {"hydra-core", "dvc", "lightning", "matplotlib", "spacy"}
    assert {"spacy", "kiwipiepy"} <= names("rule_based")


@pytest.fixture
def server(repository: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """`mlflow models serve` of a registered system."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/seqlab-{request.param}@best"]
    command += ["-h", "127.0.0.1", "-p", str(port), "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with open(repository / "serve.log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=repository, env={**os.environ, "PATH": path}, stdout=log, stderr=log, start_new_session=True
        )
    uri, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{uri}/ping", timeout=1).close()
                break
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.2)
        else:
            pytest.fail((repository / "serve.log").read_text())
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(uri: str, **request: Any) -> Any:
    body = json.dumps(request).encode()
    asked = urllib.request.Request(f"{uri}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.parametrize("server", ["vectors"], indirect=True)
def test_a_server_forecasts_classifies_and_scores(repository: Path, server: str) -> None:
    saved, past = seqlab.load(repository / "systems/vectors"), {"a": walks(1, 9, count=1)[0][:, 0]}
    rows = [{"id": "a", "values": past["a"].tolist()}]
    found = ask(server, dataframe_records=rows, params={"steps": 3, "seed": 1})
    assert found == json.loads(saved.forecast(past, 3, seed=1).to_json(orient="records", double_precision=15))
    assert [row["step"] for row in found] == [1, 2, 3]
    (classes,) = ask(server, dataframe_records=rows, params={"answer": "classify"})
    assert classes["label"] == saved.classify(past)["label"].iloc[0]
    assert len(ask(server, dataframe_records=rows, params={"answer": "score"})) == len(past["a"])


@pytest.mark.parametrize("server", ["texts"], indirect=True)
def test_a_server_classifies_scores_and_continues_texts(repository: Path, server: str) -> None:
    saved = seqlab.load(repository / "systems/texts")
    found = ask(server, inputs=TEXTS)
    assert [row["label"] for row in found] == saved.classify(TEXTS)["label"].tolist()
    assert ask(server, inputs=TEXTS, params={"answer": "generate", "length": 9}) == saved.generate(TEXTS, 9)
    scores = ask(server, dataframe_records=[{"text": TEXTS[0]}], params={"answer": "score"})
    assert len(scores) == len(TEXTS[0]) + 1


@pytest.mark.parametrize("server", ["pairs"], indirect=True)
def test_a_server_translates(repository: Path, server: str) -> None:
    assert ask(server, inputs=TEXTS) == seqlab.load(repository / "systems/pairs").translate(TEXTS)
