"""Models that MLflow has registered, as folders on this machine."""

from __future__ import annotations

from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from seqlab.errors import UserError

ARTIFACT = "model"
"""What a registered model calls its folder of models."""


def download(uri: str) -> Path:
    """The folder of models behind `models:/NAME@ALIAS` or `models:/NAME/VERSION`. Raises UserError where none is."""
    try:
        folder = Path(download_artifacts(uri))
    except MlflowException as error:
        raise UserError(f"{uri}: {error.message}; set MLFLOW_TRACKING_URI if it is registered elsewhere") from None
    found = folder / "artifacts" / ARTIFACT
    if not found.is_dir():
        raise UserError(f"{uri}: no system of seqlab's; expected artifacts/{ARTIFACT} in it")
    return found
