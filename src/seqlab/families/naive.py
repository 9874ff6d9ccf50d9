"""The whole past, as the chain rule says: n-grams without a longest n on symbols, a regression a step on vectors."""

from __future__ import annotations

from typing import ClassVar

from seqlab.data.sequences import Space
from seqlab.families.closed_form.by_kind import ByKind
from seqlab.settings import Count, CountList, PositiveList, ShareList


class Naive(ByKind):
    """P(x_t | x_1, ..., x_{t-1}).

    `mixings` serve symbols (see SuffixModel), the others vectors (see WholePast). The report of a fit shows under
    `growth` what the regression, or table, on t past steps costs and how few data there are for it.
    """

    on: ClassVar = {
        "symbols": "seqlab.families.closed_form.suffix.SuffixModel",
        "vectors": "seqlab.families.closed_form.whole_past.WholePast",
    }

    def __init__(
        self,
        space: Space,
        *,
        mixings: ShareList,
        ridges: PositiveList,
        prior_weights: ShareList,
        supports: CountList,
        regressors: Count,
    ):
        if space.symbols:
            super().__init__(space, mixings=mixings)
        else:
            super().__init__(
                space, ridges=ridges, prior_weights=prior_weights, supports=supports, regressors=regressors
            )
