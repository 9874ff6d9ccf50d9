"""seqlab: a laboratory for sequence models. Every model is one way of writing P(x_t | x_1, ..., x_{t-1})."""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as typing's, whose import takes longer than all else that a stage's script begins with
if TYPE_CHECKING:
    from seqlab.api import Model, load

__version__ = "0.2.0"

__all__ = ["Model", "load"]


def __getattr__(name: str) -> object:
    """`load` and `Model`, imported when they are asked for (PEP 562): importing seqlab itself costs nothing."""
    if name in __all__:
        # By name: who imports seqlab does not depend on how its models answer.
        return getattr(importlib.import_module("seqlab.api"), name)
    raise AttributeError(f"module 'seqlab' has no attribute {name!r}")
