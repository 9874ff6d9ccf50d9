"""A registered system as the model that MLflow serves; MLflow runs this file when it loads it (models from code).

A request holds texts, or rows with `values` (of one sequence: a list of numbers, of several channels a list of lists)
and, where wanted, an `id`. Its params choose the question, `answer`, and what the question takes:

    {"inputs": ["I love this movie."]}
    {"dataframe_records": [{"id": "a", "values": [1, 2, 3]}], "params": {"answer": "forecast", "steps": 12}}
    {"dataframe_records": [{"values": [1, 2], "price": [5, 5, 6], "region": "north"}], "params": {"steps": 1}}

A system that forecasts with covariates takes them by their names beside the values: of those known ahead a list of
numbers for the steps of the values and those to forecast, of those measured as many as values, of static ones one.

What it needs of seqlab travels with the model as code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from seqlab.api import ANSWERED_BY, Model
from seqlab.data.beside import Names
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
        if answer == "forecast" and (names := self.model.covariates) is not None:
            found = self.model.forecast(along(self._data(model_input), model_input, names), id="id", **taken)
        else:
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


def along(values: dict[Any, Any], rows: pd.DataFrame, names: Names) -> pd.DataFrame:
    """A row for each step of each sequence, and for each step that something is known ahead of. values: by id.

    Raises UserError naming the request's row and column: a covariate is missing, or of another length.
    """
    if lacking := [name for name in names.all if name not in rows.columns]:
        raise UserError(f"no column {lacking[0]!r}, a covariate that this system forecasts with")
    parts = []
    for number, (name, own) in enumerate(values.items()):
        given = rows.iloc[number]
        steps = max([len(own), *(len(given[known]) for known in names.known)])
        columns: dict[str, Any] = {"id": [name] * steps}
        channels = np.asarray(own, np.float64).reshape(len(own), -1)
        columns |= {f"value {i + 1}": padded(column, steps) for i, column in enumerate(channels.T)}
        for column in names.stepwise:
            least = steps if column in names.known else len(own)
            if len(given[column]) != least:
                raise UserError(
                    f"row {number + 1}, {column}: {len(given[column])} numbers for {len(own)} values; expected {least}"
                )
            columns[column] = padded(given[column], steps)
        parts.append(pd.DataFrame(columns | {static: [given[static]] * steps for static in names.static}))
    return pd.concat(parts, ignore_index=True)


def padded(values: Any, length: int) -> np.ndarray:
    found = np.full(length, np.nan)
    found[: len(values)] = values
    return found


mlflow.models.set_model(Served())
