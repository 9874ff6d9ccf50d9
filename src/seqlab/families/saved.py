"""A fitted model on disk: `model.safetensors` with its tensors and `model.json` with what rebuilds it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import read_json, read_tensors, write_json, write_tensors
from seqlab.data.sequences import Space
from seqlab.errors import UserError
from seqlab.training.settings import Decoding, TrainerSettings

PAIRS = "pairs"  # the kind of a space of translations
TENSORS = ".safetensors"
WEIGHTS, RECIPE = f"model{TENSORS}", "model.json"


@dataclass(frozen=True)
class Recipe:
    """What rebuilds a model, and what tells whether a pretrained one is the one that is wanted."""

    target: str  # dotted name of the family's class
    parameters: dict[str, Any]  # of its constructor
    fit: str  # "closed_form" | "gradient" | "rules"
    kind: str  # of the space
    size: int
    classes: int | None  # of a classifier

    @property
    def space(self) -> Space:
        return Space(self.kind, self.size)

    def build(self) -> Any:
        """The model with nothing estimated: a GradientFamily, a ClosedForm family or a BayesClassifier over one."""
        module, _, name = self.target.rpartition(".")
        family = getattr(importlib.import_module(module), name)
        if self.fit == "gradient":
            return family(self.space, self.classes, **self.parameters)
        if self.fit == "rules":
            return family(**self.parameters)
        if self.classes is None:
            return family(self.space, **self.parameters)
        bayes = importlib.import_module("seqlab.families.closed_form")
        return bayes.BayesClassifier(lambda: family(self.space, **self.parameters), self.classes)


def save(
    folder: Path, recipe: Recipe, tensors: Mapping[str, np.ndarray], files: Mapping[str, bytes] | None = None
) -> None:
    """Write both files, and any others; `folder` must not be in use by a reader."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    write_json(folder / RECIPE, asdict(recipe))


def load_recipe(folder: Path) -> Recipe:
    """Raises UserError when there is no model or it is of another layout."""
    found = read_json(folder / RECIPE)
    try:
        return Recipe(**found)
    except TypeError:
        raise UserError(f"{folder / RECIPE}: expected the keys {', '.join(Recipe.__dataclass_fields__)}") from None


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """Those of a model's folder, or of a user's own safetensors file."""
    return read_tensors(path if path.suffix == TENSORS else path / WEIGHTS)


def load_rules(folder: Path) -> Any:
    """A fitted family of rules. Raises UserError when a file is missing."""
    return load_recipe(folder).build().load(folder)


def load(folder: Path, trainer: TrainerSettings, decoding: Decoding | None = None) -> Any:
    """The fitted model as a Predictor, as a Classifier where the recipe has classes, or as a Translator.

    trainer: where and how a gradient family computes. decoding: how a neural
    translator searches. Raises UserError when a file is missing or its tensors do not fit
    the recipe.
    """
    recipe = load_recipe(folder)
    if recipe.fit == "rules":
        return load_rules(folder)
    tensors = read_tensors(folder / WEIGHTS)
    model = recipe.build()
    if recipe.fit == "gradient" and recipe.kind == PAIRS:
        return importlib.import_module("seqlab.families.seq2seq").translator(model, tensors, folder, trainer, decoding)
    if recipe.fit == "gradient":
        return importlib.import_module("seqlab.families.gradient").predictor(model, tensors, trainer)
    model.load_state(tensors)
    return model
