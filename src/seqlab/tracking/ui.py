"""MLflow's pages on the loopback interface, opened on the newest comparison.

    with serve(uri, Path.cwd(), port=5000) as pages:
        webbrowser.open(pages.newest("seqlab"))
        pages.wait()

Nothing here imports mlflow: the server is a process of its own, and is asked over its REST interface.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from seqlab.errors import UserError
from seqlab.tracking.names import COMPARISON, KIND
from seqlab.tracking.spool import absolute_uri
from seqlab.tracking.views import WORKFLOW, run_address, runs_address

LOOPBACK = "127.0.0.1"
SECONDS = 120.0
"""In which a server must answer: importing it takes some ten seconds, making the tables of a new database more."""
LEADERBOARD = "leaderboard"
"""The experiment of the comparisons, after the prefix."""


class Pages:
    """MLflow's pages at `address`, which ends without a slash."""

    def __init__(self, address: str) -> None:
        self.address = address

    def wait(self) -> None:
        """Nothing of ours serves them."""

    def newest(self, prefix: str) -> str:
        """The address of the newest comparison's run; of the list of experiments where nothing was compared yet."""
        experiment = self._experiment(f"{prefix}/{LEADERBOARD}")
        if experiment is not None:
            question = {
                "experiment_ids": [experiment],
                "filter": f"tags.{KIND} = '{COMPARISON}'",
                "order_by": ["attributes.start_time DESC"],
                "max_results": 1,
            }
            for run in self._ask("runs/search", question).get("runs", []):
                return f"{self.address}/{run_address(experiment, run['info']['run_id'])}"
        return f"{self.address}/#/experiments?workflowType={WORKFLOW['workflowType']}"

    def systems(self, prefix: str, domain: str, suite: str, charts: bool = False) -> str:
        """The address of a domain's systems beside each other. Raises UserError when it was not compared."""
        experiment = self._experiment(f"{prefix}/{domain}")
        if experiment is None:
            raise UserError(f"{prefix}/{domain}: no such experiment at {self.address}")
        return f"{self.address}/{runs_address(experiment, suite, charts)}"

    def _experiment(self, name: str) -> str | None:
        try:
            found = self._ask(f"experiments/get-by-name?experiment_name={quote(name)}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None
        return str(found["experiment"]["experiment_id"])

    def _ask(self, path: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if question is None else json.dumps(question).encode()
        request = urllib.request.Request(
            f"{self.address}/api/2.0/mlflow/{path}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


class Server(Pages):
    """Pages that a process of ours serves; it ends with the block, and with this process."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        super().__init__(address)
        self._process = process

    def wait(self) -> None:
        """Until the server ends or somebody interrupts."""
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def serve(uri: str, folder: Path, port: int) -> AbstractContextManager[Pages]:
    """MLflow's pages over the store at `uri`, on loopback, once they answer. A store that is a server shows its own.

    folder: the repository, where a relative SQLite path begins and artifacts are. port: 0 takes a free one. Raises
    UserError when the port is taken or the server does not answer; the message has the server's last line.
    """
    if uri.startswith(("http://", "https://")):
        return nullcontext(Pages(uri.rstrip("/")))
    port = _free(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    # In the environment, so that a password in it is not in the list of processes.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": absolute_uri(uri, folder.resolve()),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes for judges of language models
        "PYTHONWARNINGS": "ignore",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # with its workers, which end with it
        )
        server = Server(f"http://{LOOPBACK}:{port}", process)
        try:
            _answering(server, process)
        except BaseException as error:
            server.__exit__(None, None, None)
            if not isinstance(error, TimeoutError):
                raise
            log.seek(0)
            last = (log.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"])[-1]
            raise UserError(f"mlflow ui: no answer at {server.address}: {last}") from None
    return server


def _answering(server: Pages, process: subprocess.Popen[bytes]) -> None:
    """Wait for the first answer. Raises TimeoutError when the process ends, or after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{server.address}/health", timeout=1).close()
        except OSError:  # refused, reset, or too slow
            time.sleep(0.1)
        else:
            return
    raise TimeoutError


def _free(port: int) -> int:
    """`port` itself where nobody listens there, for 0 a free one."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((LOOPBACK, port))
        except OSError as error:
            raise UserError(f"port {port}: {error.strerror}; choose another one") from None
        return int(tried.getsockname()[1])
