"""What a folder of trained models needs beside it to answer in the data's own units, written when it is trained.

    bundle.write(folder, Prepared.open(prepared), trainer=asdict(trainer), decoding=asdict(decoding), samples=32)

FOLDER/TASK/model.json, model.safetensors    a model a task (families.saved)
FOLDER/units.json, units.safetensors         from the data's units and back (data.units)
FOLDER/use.json                              how the models compute, search and sample
FOLDER/recalibration.safetensors             how intervals of forecasts are mended, where its evaluation said so
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab.artifacts import read_json, write_json
from seqlab.data import units
from seqlab.data.prepared import Prepared
from seqlab.data.units import Units
from seqlab.errors import UserError
from seqlab.families.saved import RECIPE

USE = "use.json"
RECALIBRATION = "recalibration.safetensors"
FORECASTS = ("covariates", "forecast")  # tasks that judge forecasts


@dataclass(frozen=True)
class Bundle:
    """models: a folder for each task. trainer, decoding: as configured. samples: paths of a forecast. recalibration:
    file of the map that its forecasts were judged with (evaluation.conformal); None where there is none.
    """

    models: dict[str, Path]
    units: Units
    trainer: dict[str, Any]
    decoding: dict[str, Any] | None
    samples: int | None
    recalibration: Path | None = None


def write(
    folder: Path,
    prepared: Prepared,
    *,
    trainer: Mapping[str, Any],
    decoding: Mapping[str, Any] | None,
    samples: int | None,
    recalibration: Path | None = None,
) -> None:
    """Write what stands beside the models of `folder`. trainer: of the configuration, as the models were trained.

    decoding: of a domain of translation; samples: of a domain that is forecast.
    """
    Units.of(prepared).save(folder)
    if recalibration is not None:
        shutil.copyfile(recalibration, folder / RECALIBRATION)
    write_json(
        folder / USE,
        {"trainer": dict(trainer), "decoding": None if decoding is None else dict(decoding), "samples": samples},
    )


def in_workspace(folder: Path) -> bool:
    """Whether it is a model of the pipeline (models/DOMAIN/FAMILY/STRATEGY/SEED) with nothing written beside it."""
    parents = folder.resolve().parents
    inside = len(parents) > 4 and parents[3].name == "models" and (parents[4] / "params.yaml").is_file()
    return inside and not (folder / units.FILE).exists() and (folder / "report.json").is_file()


def found(
    folder: Path,
    prepared: Prepared,
    *,
    trainer: Mapping[str, Any],
    decoding: Mapping[str, Any] | None,
    samples: int | None,
    recalibration: Path | None = None,
) -> Bundle:
    """As `write`, without writing."""
    found = None if decoding is None else dict(decoding)
    return Bundle(models_of(folder), Units.of(prepared), dict(trainer), found, samples, recalibration)


def recalibration_of(scores: Path) -> Path | None:
    """Of forecasts, in the folder where a system's evaluation keeps its scores."""
    return next((path for task in FORECASTS if (path := scores / task / RECALIBRATION).exists()), None)


def models_of(folder: Path) -> dict[str, Path]:
    """A model a task. Raises UserError when there is none."""
    models = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{RECIPE}"))}
    if not models:
        raise UserError(f"{folder}: no model; expected folders with a {RECIPE}, one a task")
    return models


def read(folder: Path) -> Bundle:
    """Raises UserError naming what is missing."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one of a trained system, or models:/NAME@ALIAS")
    models = models_of(folder)
    if not (folder / units.FILE).exists():
        raise UserError(f"{folder / units.FILE}: missing; train it again, or copy it from the folder it was trained in")
    use = read_json(folder / USE)
    try:
        path = folder / RECALIBRATION
        known = path if path.exists() else None
        return Bundle(models, Units.load(folder), use["trainer"], use["decoding"], use["samples"], known)
    except KeyError as error:
        raise UserError(f"{folder / USE}: no {error}; expected trainer, decoding and samples") from None
