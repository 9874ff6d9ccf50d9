"""A gradient family with a head over positions in place of the pooled one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.families.base import Use
from seqlab.families.gradient.model import GradientFamily
from seqlab.families.gradient.predictor import TorchPredictor, predictor


class PerPosition(GradientFamily):
    """Mixed into a family: everything keeps its name, so that the weights of any model of the family fit.

    A causal body decides on a position when it has read it, from it and what came before. A family with a method
    `around` decides with both sides in view.
    """

    def with_classes(self, classes: int) -> Self:
        self.head = nn.Linear(self.width, classes, device=self.device)
        return self

    def label_logits(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T[, C]), (B, T) -> (B, T, K) float32; on padding they mean nothing."""
        assert self.head is not None
        if hasattr(self, "around"):
            around: Any = self.around
            h = around(self.ends.inputs(x), F.pad(mask, (1, 0), value=True))
        else:
            h = self.encode(x)
        logits: Tensor = self.head(h[:, 1:]).float()
        return logits

    def opened(self, tensors: Mapping[str, np.ndarray], folder: Path, use: Use) -> LabelPredictor:
        found = predictor(self, tensors, use.trainer)
        return LabelPredictor(found.model, found.device, found.precision)


class LabelPredictor(TorchPredictor):
    """A trained one as evaluation sees it."""

    def label_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T, K) float64: log P(class of each position), 0 on padding."""
        with self._evaluating() as model:
            logits = cast(PerPosition, model).label_logits(self._in(x), self._in(mask))
            return self._out(logits.double().log_softmax(-1).masked_fill(~self._in(mask)[..., None], 0))

    def labels(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T) int64: the likeliest class of each position."""
        likeliest: np.ndarray = self.label_log_prob(x, mask).argmax(-1)
        return likeliest


def labeller(family: type[GradientFamily], space: Space, classes: int, parameters: Mapping[str, Any]) -> PerPosition:
    """A family's model that gives each position one of `classes`."""
    made = type(family.__name__, (PerPosition, family), {})
    return cast(PerPosition, made(space, classes, **parameters))
