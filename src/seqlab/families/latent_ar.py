"""Latent AR: of the past only a hidden state is kept, and that in distribution.

A hidden Markov model on symbols, a linear-Gaussian state space on vectors.
"""

from __future__ import annotations

from typing import Any, ClassVar

from seqlab.data.sequences import Space
from seqlab.families.closed_form.by_kind import ByKind
from seqlab.settings import Count, CountList, Natural, NonNegative, Positive, ShareList


class LatentAR(ByKind):
    """P(x_t | x_<t) = sum over h_t of P(x_t | h_t) P(h_t | x_<t), the last updated from step to step:
    h_t = g(h_{t-1}, x_{t-1}), the filter.

    `states`, `restarts`, `seed`, `pseudo_count` and `block` serve symbols (see HiddenMarkov), `state_sizes` vectors
    (see LinearGaussian), and the rest both.
    """

    tasks = ("next_step", "classify", "label")
    on: ClassVar = {
        "symbols": "seqlab.families.closed_form.hmm.HiddenMarkov",
        "vectors": "seqlab.families.closed_form.kalman.LinearGaussian",
    }

    def __init__(
        self,
        space: Space,
        *,
        states: CountList,
        restarts: Count,
        seed: Natural,
        pseudo_count: Positive,
        block: Count,
        state_sizes: CountList,
        passes: Count,
        tolerance: NonNegative,
        prior_weights: ShareList,
    ):
        own: dict[str, Any] = {"state_sizes": state_sizes}
        if space.symbols:
            own = {"states": states, "restarts": restarts, "seed": seed, "pseudo_count": pseudo_count, "block": block}
        super().__init__(space, **own, passes=passes, tolerance=tolerance, prior_weights=prior_weights)
