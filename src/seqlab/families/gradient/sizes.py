"""Sizes that a file promises, held against the tensors beside it while the model is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from seqlab.errors import UserError

CHANGES_NO_BIT = True  # of what is built: it ends what cannot be built


class _Beyond(Exception):
    """More parameters than there are tensors for."""


@contextmanager
def bounded(tensors: Mapping[str, np.ndarray], where: str) -> Iterator[None]:
    """Stop the building of a model in the block where it outgrows the saved `tensors`.

    Modules register a parameter before they fill it, and memory is taken when it is filled: a width of 10^5 or 10^9
    layers cost what the file is worth. Raises UserError beginning with `where`, also for what makes no model at all.
    """
    names, elements = set[tuple[int, str]](), 0
    most = sum(part.size for part in tensors.values())

    def count(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal elements
        # A parameter may be set again, shared by two modules, or belong to a module that is thrown away.
        names.add((id(module), name))
        elements += 0 if parameter is None else parameter.numel()
        if len(names) > 4 * len(tensors) + 64 or elements > 4 * most + 1024:
            raise _Beyond

    hook: Any = register_module_parameter_registration_hook(count)
    try:
        yield
    except _Beyond:
        raise UserError(f"{where}: its parameters make a larger model than its tensors are of") from None
    except (ArithmeticError, AssertionError, IndexError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{where}: its parameters make no model: {reason[0]}") from None
    finally:
        hook.remove()
