"""Browse the runs: MLflow's own pages, on the loopback interface."""

from __future__ import annotations

import os
import sys

from seqlab.cli.places import ROOT


def ui(port: int) -> None:
    """Become `mlflow ui` in the checkout, where the data base of the runs is."""
    os.chdir(ROOT)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    print(f"seqlab: http://127.0.0.1:{port} (Ctrl-C ends it)", flush=True)
    os.execv(sys.executable, command)
