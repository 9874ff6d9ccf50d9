"""A fitted model from its folder, ready to answer."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from seqlab.artifacts import read_tensors
from seqlab.errors import UserError
from seqlab.families.base import Use
from seqlab.families.saved import RECIPE, WEIGHTS, Recipe, load_recipe
from seqlab.naming import checked_parameters
from seqlab.settings import named


def load(folder: Path, use: Use) -> Any:
    """The fitted model as a Predictor, as a Classifier where the recipe has classes, or as a Translator.

    Raises UserError when a file is missing or its tensors do not fit the recipe.
    """
    recipe = load_recipe(folder)
    check_family(recipe, str(folder / RECIPE))
    tensors = read_tensors(folder / WEIGHTS)
    sizes: AbstractContextManager[None] = nullcontext()
    if recipe.fit == "gradient":
        # By name: what is not fitted by steps needs no torch.
        sizes = named("seqlab.families.gradient.sizes.bounded")(tensors, str(folder / RECIPE))
    with sizes:
        model = recipe.build()
    return model.opened(tensors, folder, use)


def check_family(recipe: Recipe, where: str) -> None:
    """Import the class that a loaded recipe names. Raises UserError when it is no family, or does not take this."""
    family = recipe.family()
    fitted_by = getattr(family, "fitted_by", None)
    if fitted_by is None:
        raise UserError(f"{where}: target: {recipe.target!r} is no family")
    if fitted_by != recipe.fit:
        raise UserError(f"{where}: fit: found {recipe.fit!r:.80}, expected {fitted_by!r}, as {recipe.target} is fitted")
    checked_parameters(family, recipe.parameters, f"{where}: parameters")
