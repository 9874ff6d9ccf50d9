"""Systems as models that MLflow registers and serves, and back to folders on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import Array, ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from seqlab.api import LEVELS, Model
from seqlab.data.beside import Names
from seqlab.errors import UserError
from seqlab.families import bundle
from seqlab.families.bundle import Bundle
from seqlab.families.saved import RECIPE, load_recipe
from seqlab.serving.requirements import requirements

ARTIFACT, ANSWER = "model", "answer"
"""What a registered model calls its folder of models, and the param that names a question."""
# What MLflow's own template asks for, where a request says nothing.
STEPS, LENGTH, SEED = 12, 100, 0
EXAMPLE = "This is an example."


def save(folder: Path, answer: str, out: Path) -> None:
    """Make a pyfunc model of a system at `out`, with the code and the packages that it needs.

    folder: named ARTIFACT, since MLflow keeps the name. answer: what it is asked unless a request says otherwise.
    """
    parts = bundle.read(folder)
    code = Path(__file__).parents[1]
    # A model may be made of others, in folders below its own.
    models = [path.parent for model in parts.models.values() for path in sorted(model.rglob(RECIPE))]
    targets = [load_recipe(model).target.rpartition(".")[0] for model in models]
    beside = Model(parts).covariates or Names()
    mlflow.pyfunc.save_model(
        out,
        python_model=str(Path(__file__).with_name("pyfunc.py")),
        artifacts={ARTIFACT: str(folder)},
        code_paths=[str(code)],
        pip_requirements=requirements(["seqlab.serving.pyfunc", *targets]),
        signature=signature(parts, answer, beside),
        input_example=(example(parts, beside), {ANSWER: answer}),
        model_config={ANSWER: answer},
    )


def example(parts: Bundle, beside: Names) -> Any:
    """One request of a system: a text, or a sequence with its covariates."""
    import pandas as pd

    if parts.units.kind != "vectors":
        return [EXAMPLE]
    channels = parts.units.channels
    ramp = [[float(t + c + 1) for c in range(channels)] for t in range(24)]
    row: dict[str, Any] = {"id": "a", "values": ramp if channels > 1 else [step[0] for step in ramp]}
    row |= {name: [1.0] * (24 + STEPS) for name in beside.known} | {name: [1.0] * 24 for name in beside.past}
    row |= {name: beside.levels[name][0] if name in beside.levels else 1.0 for name in beside.static}
    return pd.DataFrame([row])


def signature(parts: Bundle, answer: str, beside: Names) -> ModelSignature:
    """What a request may hold, and what comes back. beside: covariates, which other questions than forecasts leave."""
    text, number, whole = DataType.string, DataType.double, DataType.long
    rows = Array(number) if parts.units.channels == 1 else Array(Array(number))
    if parts.units.kind == "vectors":
        columns = [ColSpec(text, "id", required=False), ColSpec(rows, "values")]
        columns += [ColSpec(Array(number), name, required=False) for name in beside.stepwise]
        words = {name: text if name in beside.levels else number for name in beside.static}
        asked = Schema([*columns, *(ColSpec(kind, name, required=False) for name, kind in words.items())])
    else:
        asked = Schema([ColSpec(text)])
    params = ParamSchema(
        [
            ParamSpec(ANSWER, text, answer),
            ParamSpec("steps", whole, STEPS),
            ParamSpec("levels", number, list(LEVELS), shape=(-1,)),
            ParamSpec("length", whole, LENGTH),
            ParamSpec("seed", whole, SEED),
        ]
    )
    classes: list[ColSpec | TensorSpec] = [
        ColSpec(text, "label"),
        *(ColSpec(number, name) for name in parts.units.classes),
    ]
    place: list[ColSpec | TensorSpec] = [
        ColSpec(text, "id"),
        ColSpec(whole, "byte" if parts.units.kind == "symbols" else "step"),
    ]
    answers: dict[str, list[ColSpec | TensorSpec]] = {
        "forecast": [*place, *(ColSpec(number, name) for name in ("mean", *map(str, LEVELS)))],
        "classify": [ColSpec(text, "id"), *classes],
        "score": [*place, ColSpec(number, "log_prob")],
        "label": [*place, *classes],
    }
    if answer == "forecast" and parts.units.channels > 1:
        answers[answer].insert(2, ColSpec(whole, "channel"))
    return ModelSignature(asked, Schema(answers.get(answer, [ColSpec(text)])), params)


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
