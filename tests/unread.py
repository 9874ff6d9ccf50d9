"""No value of a tensor may be looked at: as where a card records, on any machine.

What leaves torch unseen is not noticed here: tolist(), numpy().
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.bincount.default,
    torch.ops.aten.repeat_interleave.Tensor,
    torch.ops.aten.allclose.default,
}


class Unread(TorchDispatchMode):
    """Inside, what would make the processor wait for a card is an AssertionError."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in READS, f"{func}: looks at a value"
        assert not any(isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in indices(func, args))
        return func(*args, **(kwargs or {}))


def indices(func: Any, args: Any) -> Any:
    """Of what is read or written by an index; a mask's number of ones decides the shape."""
    return args[1] if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default) else ()
