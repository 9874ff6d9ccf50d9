"""Trained models in the formats of other engines. Imported before MLflow is: nobody is told that it was."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
