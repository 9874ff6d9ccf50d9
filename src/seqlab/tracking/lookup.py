"""A run of MLflow by its id, read."""

from __future__ import annotations

import os

from seqlab.errors import UserError


def tags_of(uri: str, run: str) -> dict[str, str]:
    """Raises UserError when the store at `uri` does not answer or has no such run."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return dict(MlflowClient(uri).get_run(run).data.tags)
    except MlflowException as error:
        raise UserError(f"run {run!r}: not at {uri}: {' '.join(str(error).split())}") from None
