"""AR(1): the next position depends on the last one alone. A smoothed bigram on symbols, a VAR(1) on vectors."""

from __future__ import annotations

from typing import Any, ClassVar

from seqlab.data.sequences import Space
from seqlab.families.closed_form.by_kind import ByKind
from seqlab.settings import PositiveList, ShareList


class Markov(ByKind):
    """P(x_t | x_{t-1}).

    `concentrations` serve symbols (see Bigram), `prior_weights` vectors too (see VectorAutoregression).
    """

    tasks = ("next_step", "classify", "label")
    on: ClassVar = {
        "symbols": "seqlab.families.closed_form.ngram.Bigram",
        "vectors": "seqlab.families.closed_form.autoregression.VectorAutoregression",
    }

    def __init__(self, space: Space, *, concentrations: PositiveList, prior_weights: ShareList):
        own: dict[str, Any] = (
            {"concentrations": concentrations} if space.symbols else {"lags": [1], "criterion": "valid"}
        )
        super().__init__(space, **own, prior_weights=prior_weights)
