"""What several processes of one training must do at the same step."""

from __future__ import annotations

from lightning.pytorch import Trainer


def interval(trainer: Trainer) -> int:
    """Steps between looks at results.

    A look waits for a GPU to finish what it was given, and every rank must take it at the same step.
    """
    return 1 if trainer.world_size == 1 and trainer.strategy.root_device.type == "cpu" else 16
