"""A translator as the model that MLflow serves: a list of texts in, a list of translations out.

MLflow runs this file when it loads the model; what it needs of seqlab travels with the model as code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel, PythonModelContext

from seqlab.families import saved
from seqlab.settings import Decoding, TrainerSettings
from seqlab.tracking import SERVED_SETTINGS


class Served(PythonModel):
    """The artifact `model` is the folder of a saved translation family."""

    def load_context(self, context: PythonModelContext) -> None:
        folder = Path(context.artifacts["model"])
        settings = json.loads((folder / SERVED_SETTINGS).read_text(encoding="utf-8"))
        self.system = saved.load(folder, TrainerSettings(**settings["trainer"]), Decoding(**settings["decoding"]))

    def predict(self, context: Any, model_input: list[str], params: Any = None) -> list[str]:
        return self.system.translate(list(model_input))


mlflow.models.set_model(Served())
