"""A gradient family that forecasts all steps at once, or by its own samples: whichever validation found better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from seqlab.data.ahead import Ahead, Look
from seqlab.data.sequences import Batch, Space
from seqlab.errors import UserError
from seqlab.families.base import Use
from seqlab.families.gradient.direct import LEVELS, DirectEnd, Windows, paths
from seqlab.families.gradient.model import GradientFamily
from seqlab.families.gradient.predictor import predictor
from seqlab.families.gradient.vector_ends import VectorEnds

TOKENS = 1 << 16  # positions in a batch while the training split is read
END = "ends.direct."


class Direct(GradientFamily):
    """Mixed into a family: everything keeps its name, so that the weights of any model of the family fit.

    The direct end lies in `ends.direct`. Its sizes follow from the data that it is trained on, and from the tensors
    where it was saved.
    """

    @property
    def direct(self) -> DirectEnd:
        return cast(DirectEnd, self.ends.direct)

    def layer_groups(self) -> list[tuple[str, list[torch.nn.Parameter]]]:
        groups = dict(super().layer_groups())
        groups["output"] = groups["output"] + list(self.direct.parameters())
        return list(groups.items())

    def quantiles(self, x: Tensor, rows: Tensor, ends: Tensor) -> tuple[Tensor, Windows]:
        """Of what follows x[rows, :ends], (N, C, H, K) in units of each window's scale, relative to its last value; and
        the windows. x: (B, T, C)."""
        window = self.direct.read(x, rows, ends)
        return self.direct(self.encode(x)[rows, ends], window.shape), window

    @torch.inference_mode()
    def forecast(self, prefix: Tensor, mask: Tensor, steps: int, samples: int, seed: int) -> Tensor:
        """(B, samples, steps, C). Beyond H steps each path goes on from itself."""
        if not self.direct.taken:
            return super().forecast(prefix, mask, steps, samples, seed)
        generator = torch.Generator(self.device).manual_seed(seed)
        lengths = mask.sum(1)
        made = self._paths(prefix[:, None], lengths, samples, generator)
        while made.shape[2] < steps:
            longer = appended(prefix, lengths, made)
            further = self._paths(longer, lengths + made.shape[2], samples, generator)
            made = torch.cat([made, further], 2)
        return made[:, :, :steps]

    def _paths(self, past: Tensor, lengths: Tensor, samples: int, generator: torch.Generator) -> Tensor:
        """(B, samples or 1, T, C) pasts of which `lengths` steps exist -> (B, samples, H, C)."""
        x = past.flatten(0, 1)
        rows, ends = torch.arange(len(x), device=x.device), lengths.repeat_interleave(past.shape[1])
        made, window = self.quantiles(x, rows, ends)
        quantiles = made * window.scale[..., None, None] + window.last[..., None, None]
        return paths(quantiles.unflatten(0, past.shape[:2]), samples, generator)

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> Any:
        """Raises UserError when the tensors of the direct end are missing or of no such end."""
        self.ends.direct = saved_end(tensors, self.space.size, self.width, str(folder))
        return predictor(self, tensors, use.trainer)


def forecaster(family: type[GradientFamily], space: Space, classes: None, parameters: Mapping[str, Any]) -> Direct:
    """A family's model, which gets its direct end from `begin` or from saved tensors."""
    made = type(family.__name__, (Direct, family), {})
    return cast(Direct, made(space, classes, **parameters))


def saved_end(tensors: Mapping[str, np.ndarray], channels: int, width: int, where: str) -> DirectEnd:
    """With the sizes of the tensors; what it holds is loaded with all else."""
    try:
        horizon, regressors = tensors[f"{END}highway.weight"].shape
        flags = {name: tensors[END + name].item() for name in ("season", "seasonal", "scaled")}
        if tensors[f"{END}leave.weight"].shape != (channels * horizon * len(LEVELS), width):
            raise ValueError
    except (KeyError, ValueError):
        raise UserError(f"{where}: its tensors hold no end of direct forecasts; train it again") from None
    differences, scaling = "season" if flags["seasonal"] else "last", "window" if flags["scaled"] else "none"
    look = Look(horizon, regressors + 1, int(flags["season"]), cast(Any, differences), cast(Any, scaling), 0.0)
    return DirectEnd(channels, width, look)


def begin(ends: VectorEnds, data: Ahead) -> None:
    """Give the ends of a model a direct one, which begins at the ridge regression of its training data.

    Raises UserError when a window has no season that a forecast could be a difference to, or the data too few windows.
    """
    if data.look.differences == "season" and data.look.season >= data.look.window:
        raise UserError(
            f"finetune.forecast.look: a window of {data.look.window} steps has no value of a season of "
            f"{data.look.season} steps before; lengthen window, or let differences be last"
        )
    ends.direct = end = DirectEnd(len(ends.carry), ends.enter.out_features, data.look)
    shapes, futures = [], []
    for _, batch in data.batches(TOKENS):
        rows, origins = whole(batch, data.look)
        x = torch.from_numpy(batch.x)
        window = end.read(x, rows, origins)
        future = ahead(x, rows, origins, data.look.horizon).transpose(1, 2)
        shapes.append(window.shape)
        futures.append((future - window.last[..., None]) / window.scale[..., None])
    found = sum(map(len, shapes))
    if found <= data.look.window:
        raise UserError(
            f"finetune.forecast.look: {found} windows of {data.look.window} steps with {data.look.horizon} steps after "
            f"them in the training split, expected more than {data.look.window}; shorten window or horizon, or let "
            "finetune.forecast.by be samples"
        )
    end.begin(torch.cat(shapes), torch.cat(futures), data.look.ridge)


def whole(batch: Batch, look: Look) -> tuple[Tensor, Tensor]:
    """Rows and origins, (N,) each, with a whole window behind and all H steps ahead.

    A window that is cut short has a scale of few changes, by which its future may be anything.
    """
    lengths = torch.from_numpy(batch.mask.sum(1))
    origins = torch.arange(batch.x.shape[1])
    kept = (origins >= look.window) & (origins <= lengths[:, None] - look.horizon)
    rows, found = kept.nonzero(as_tuple=True)
    return rows, found


def ahead(x: Tensor, rows: Tensor, origins: Tensor, steps: int) -> Tensor:
    """(B, T, ...) -> (N, steps, ...): what follows x[rows, :origins]; beyond the end its last position."""
    index = origins[:, None] + torch.arange(steps, device=x.device)
    return x[rows[:, None], index.clamp(max=x.shape[1] - 1)]


def appended(prefix: Tensor, lengths: Tensor, made: Tensor) -> Tensor:
    """(B, S, T + h, C): each path behind its prefix, of which `lengths` steps exist."""
    batch, samples, done, channels = made.shape
    longer = made.new_zeros(batch, samples, prefix.shape[1] + done, channels)
    longer[:, :, : prefix.shape[1]] = prefix[:, None]
    at = lengths[:, None] + torch.arange(done, device=made.device)
    longer[torch.arange(batch, device=made.device)[:, None], :, at] = made.transpose(1, 2)
    return longer
