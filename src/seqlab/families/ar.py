"""AR(τ): the next position depends on the last τ. Modified Kneser-Ney n-grams on symbols, a VAR(τ) on vectors."""

from __future__ import annotations

from typing import Literal

from seqlab.data.sequences import Space
from seqlab.families.closed_form import ByKind, KneserNey, VectorAutoregression


class AR(ByKind):
    """P(x_t | x_{t-τ}, ..., x_{t-1}), τ chosen from the data.

    `orders` serve symbols (see KneserNey), `lags` and `criterion` vectors (see VectorAutoregression), and
    `prior_weights` both.
    """

    def __init__(
        self,
        space: Space,
        *,
        orders: list[int],
        lags: list[int],
        criterion: Literal["valid", "aic", "bic"],
        prior_weights: list[float],
    ):
        self.space = space
        if space.symbols:
            self.model = KneserNey(space, orders=orders, prior_weights=prior_weights)
        else:
            self.model = VectorAutoregression(space, lags=lags, criterion=criterion, prior_weights=prior_weights)
