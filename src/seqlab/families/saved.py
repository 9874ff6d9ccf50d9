"""A fitted model on disk: `model.safetensors` with its tensors and `model.json` with what rebuilds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqlab.artifacts import read_json, read_tensors, write_json, write_tensors
from seqlab.data.sequences import Space
from seqlab.errors import UserError
from seqlab.naming import checked_target
from seqlab.settings import named

TENSORS = ".safetensors"
WEIGHTS, RECIPE = f"model{TENSORS}", "model.json"
FAMILIES = ("seqlab.families",)
KINDS = ("symbols", "vectors", "pairs")
TASKS = ("seqlab.tasks",)


@dataclass(frozen=True)
class Recipe:
    """What rebuilds a model, and what tells whether a pretrained one is the one that is wanted."""

    target: str  # dotted name of the family's class
    parameters: dict[str, Any]  # of its constructor
    fit: str  # "closed_form" | "gradient" | "rules"
    kind: str  # of the space
    size: int
    classes: int | None  # of a classifier
    around: str | None = None  # dotted name of what a task builds around the family, where it needs more than that

    @property
    def space(self) -> Space:
        return Space(self.kind, self.size)

    def family(self) -> Any:
        """The family's class, which is imported."""
        return named(self.target)

    def build(self) -> Any:
        """The model with nothing estimated: of the family's own class or, for a task of another shape, around it."""
        family = self.family()
        if self.around is not None:
            return named(self.around)(family, self.space, self.classes, self.parameters)
        return family.assemble(self.space, self.classes, self.parameters)

    def as_json(self) -> dict[str, Any]:
        return {name: part for name, part in asdict(self).items() if name != "around" or part is not None}


def save(
    folder: Path, recipe: Recipe, tensors: Mapping[str, np.ndarray], files: Mapping[str, bytes] | None = None
) -> None:
    """Write both files, and any others; `folder` must not be in use by a reader."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    for name, content in (files or {}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    write_json(folder / RECIPE, recipe.as_json())


def load_recipe(folder: Path) -> Recipe:
    """What `save` wrote of a model, anybody's: it names a family of seqlab, and nothing is imported to see that.

    Raises UserError when there is no model, it is of another layout, or it names anything else.
    """
    path = folder / RECIPE
    found = read_json(path)
    try:
        recipe = Recipe(**found)
    except TypeError:
        raise UserError(f"{path}: expected the keys {', '.join(Recipe.__dataclass_fields__)}") from None
    checked_target(recipe.target, f"{path}: target", FAMILIES)
    if recipe.around is not None:
        checked_target(recipe.around, f"{path}: around", TASKS)
    if recipe.kind not in KINDS:
        raise UserError(f"{path}: kind: found {recipe.kind!r:.80}, expected one of {', '.join(KINDS)}")
    # JSON's true is an int of Python's.
    if type(recipe.size) is not int or recipe.size < 1:
        raise UserError(f"{path}: size: found {recipe.size!r:.80}, expected a whole number of at least 1")
    if recipe.classes is not None and (type(recipe.classes) is not int or recipe.classes < 2):
        raise UserError(
            f"{path}: classes: found {recipe.classes!r:.80}, expected a whole number of at least 2, or null"
        )
    return recipe


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """Those of a model's folder, or of a user's own safetensors file."""
    return read_tensors(path if path.suffix == TENSORS else path / WEIGHTS)
