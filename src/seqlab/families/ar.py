"""AR(τ): the next position depends on the last τ. Modified Kneser-Ney n-grams on symbols, a VAR(τ) on vectors."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from seqlab.data.sequences import Space
from seqlab.families.closed_form.by_kind import ByKind
from seqlab.settings import CountList, ShareList


class AR(ByKind):
    """P(x_t | x_{t-τ}, ..., x_{t-1}), τ chosen from the data.

    `orders` serve symbols (see KneserNey), `lags` and `criterion` vectors (see VectorAutoregression), and
    `prior_weights` both.
    """

    tasks = ("next_step", "classify", "label")
    on: ClassVar = {
        "symbols": "seqlab.families.closed_form.ngram.KneserNey",
        "vectors": "seqlab.families.closed_form.autoregression.VectorAutoregression",
    }

    def __init__(
        self,
        space: Space,
        *,
        orders: CountList,
        lags: CountList,
        criterion: Literal["valid", "aic", "bic"],
        prior_weights: ShareList,
    ):
        own: dict[str, Any] = {"orders": orders} if space.symbols else {"lags": lags, "criterion": criterion}
        super().__init__(space, **own, prior_weights=prior_weights)
