"""A registered system as the model that MLflow serves; MLflow runs this file when it loads it (models from code).

A request holds texts, or rows with `values` (of one sequence: a list of numbers, of several channels a list of lists)
and, where wanted, an `id`. Its params choose the question, `answer`, and what the question takes:

    {"inputs": ["I love this movie."]}
    {"dataframe_records": [{"id": "a", "values": [1, 2, 3]}], "params": {"answer": "forecast", "steps": 12}}

What it needs of seqlab travels with the model as code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from seqlab.api import ANSWERED_BY, Model
from seqlab.errors import UserError
from seqlab.families import bundle
from seqlab.serving.registry import ANSWER, ARTIFACT

TAKES = {"forecast": ("steps", "levels", "samples", "seed"), "generate": ("length", "seed")}
"""The params that a question takes beside `answer`."""


class Served(PythonModel):
    """A system of models, asked by default for what it was registered for."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model = Model(bundle.read(Path(context.artifacts[ARTIFACT])))
        self.answer: str = context.model_config[ANSWER]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame | list[str]:
        given = {name: value for name, value in (params or {}).items() if value is not None}
        answer = given.get(ANSWER, self.answer)
        if answer not in ANSWERED_BY:
            raise UserError(f"{ANSWER}: found {answer!r}, expected one of {', '.join(ANSWERED_BY)}")
        taken = {name: given[name] for name in TAKES.get(answer, ()) if name in given}
        found = getattr(self.model, answer)(self._data(model_input), **taken)
        if isinstance(found, list):
            return found
        if answer == "classify":
            found = found.reset_index()
        return found.assign(id=found["id"].astype(str))

    def _data(self, rows: pd.DataFrame) -> Any:
        if self.model.units.kind != "vectors":
            return rows
        if "values" not in rows.columns:
            raise UserError(f"no column 'values'; found {', '.join(map(str, rows.columns))}")
        names = rows["id"] if "id" in rows.columns else range(len(rows))
        if len(set(names)) < len(rows):
            raise UserError("an id stands twice; expected one row a sequence")
        return dict(zip(names, rows["values"], strict=True))


mlflow.models.set_model(Served())
