"""What a `torch.autograd.Function` of our own needs of torch, with the types that torch leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.autograd import Function

Pass = TypeVar("Pass", bound=Callable[..., Any])


def custom_fwd(forward: Pass) -> Pass:
    """A forward pass that the CPU's autocast leaves to choose its own types."""
    return cast(Pass, torch.amp.custom_fwd(forward, device_type="cpu"))


def custom_bwd(backward: Pass) -> Pass:
    """A backward pass under the autocast of its forward pass."""
    return cast(Pass, torch.amp.custom_bwd(backward, device_type="cpu"))


def applied(function: type[Function], *arguments: Any) -> Any:
    """The function's outputs, as autograd records them."""
    return function.apply(*arguments)
