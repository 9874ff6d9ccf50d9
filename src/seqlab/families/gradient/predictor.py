"""A trained gradient family as evaluation sees it: the Predictor and Classifier protocols of families.base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from seqlab.errors import UserError
from seqlab.families.gradient.device import chosen
from seqlab.families.gradient.model import GradientFamily
from seqlab.settings import TrainerSettings
from seqlab.threads import pin

Precision = Literal["fp32", "bf16"]


class TorchPredictor:
    """NumPy in, NumPy float64 out; in evaluation mode and without gradients, the model's own mode restored after.

    precision: "fp32", or "bf16" for autocast to bfloat16.
    """

    def __init__(self, model: GradientFamily, device: torch.device | str, precision: Precision):
        self.model, self.device, self.precision = model.to(device), torch.device(device), precision
        self.space = model.space

    @contextmanager
    def _evaluating(self) -> Iterator[GradientFamily]:
        training = self.model.training
        self.model.eval()
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
            ):
                yield self.model
        finally:
            self.model.train(training)

    def _in(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    @staticmethod
    def _out(tensor: Tensor) -> np.ndarray:
        return tensor.double().cpu().numpy()

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T)."""
        with self._evaluating() as model:
            return self._out(model.log_prob(self._in(x), self._in(mask)))

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, T + 1, V)."""
        with self._evaluating() as model:
            return self._out(model.distribution(self._in(x), self._in(mask)))

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Two of (B, T, C)."""
        with self._evaluating() as model:
            mean, deviation = model.moments(self._in(x), self._in(mask))
            return self._out(mean), self._out(deviation)

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        """(B, samples, steps[, C]): float64 for vectors, int64 for symbols."""
        with self._evaluating() as model:
            path = model.forecast(self._in(prefix), self._in(mask), steps, samples, seed)
            return path.cpu().numpy() if self.space.symbols else self._out(path)

    def attention_maps(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
        """(B, layers, heads, T + 1, T + 1), rows summing to one; None of a family that does not attend."""
        with self._evaluating() as model:
            maps = model.attention_maps(self._in(x), self._in(mask))
            return None if maps is None else self._out(maps)

    def class_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """(B, K), rows summing to one."""
        with self._evaluating() as model:
            return self._out(model.class_logits(self._in(x), self._in(mask)).double().log_softmax(-1))


def predictor(model: GradientFamily, tensors: Mapping[str, np.ndarray], trainer: TrainerSettings) -> TorchPredictor:
    """`model` with the saved `tensors`, where and how the trainer would run it. Sets the process's threads.

    Raises UserError when the tensors are not exactly those of the model.
    """
    wanted, found = model.state_dict(), dict(tensors)
    wrong = sorted(set(wanted) ^ set(found)) or [n for n in wanted if tuple(wanted[n].shape) != found[n].shape]
    if wrong:
        raise UserError(f"saved tensors do not fit {type(model).__name__}: {', '.join(wrong)}")
    model.load_state_dict({name: torch.from_numpy(part) for name, part in found.items()})
    pin(trainer.threads)
    return TorchPredictor(model, chosen(trainer), "bf16" if trainer.precision == "bf16-mixed" else "fp32")
