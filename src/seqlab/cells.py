"""The unit of the comparison, and its names."""

from __future__ import annotations

from dataclasses import dataclass

from seqlab.errors import UserError


@dataclass(frozen=True)
class Cell:
    """One (domain, family, strategy, seed), on a share of the target's training examples."""

    domain: str
    family: str
    strategy: str
    seed: int
    fraction: float = 1.0

    def __str__(self) -> str:
        return f"{self.domain}-{self.family}-{self.arm}-s{self.seed}"

    @property
    def arm(self) -> str:
        return arm(self.strategy, self.fraction)

    @property
    def path(self) -> str:
        """Where its model and scores are, below models/ and scores/."""
        return f"{self.domain}/{self.family}/{self.arm}/{self.seed}"

    @property
    def source(self) -> str:
        """Where the model of its source is, below models/."""
        return f"{self.domain}/{self.family}/pretrain/{self.seed}"


def arm(strategy: str, fraction: float) -> str:
    """The name of a strategy on a share of the target; on all of it, the strategy's own."""
    return strategy if fraction == 1.0 else f"{strategy}-{fraction:g}"


def split_arm(name: str) -> tuple[str, float]:
    """The strategy and the fraction that `arm` joined. Raises UserError when the fraction is none."""
    strategy, _, share = name.partition("-")
    try:
        fraction = float(share or 1.0)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise UserError(f"strategy {name!r}: expected STRATEGY or STRATEGY-FRACTION, a fraction above 0 and up to 1")
    return strategy, fraction
