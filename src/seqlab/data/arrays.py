"""A dataclass of arrays as one file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

from seqlab.artifacts import read_tensors
from seqlab.errors import UserError

T = TypeVar("T")


def read_parts(path: Path, kind: type[T]) -> T:
    """A dataclass whose fields `artifacts.write_tensors` wrote. Raises UserError when the file is missing or holds
    something else."""
    tensors = read_tensors(path)
    try:
        return kind(**tensors)
    except TypeError:
        expected = ", ".join(field.name for field in fields(cast(Any, kind)))
        raise UserError(f"{path}: found {', '.join(sorted(tensors))}; expected {expected}") from None
