"""AR(1): the next position depends on the last one alone. A smoothed bigram on symbols, a VAR(1) on vectors."""

from __future__ import annotations

from seqlab.data.sequences import Space
from seqlab.families.closed_form import Bigram, ByKind, VectorAutoregression


class Markov(ByKind):
    """P(x_t | x_{t-1}).

    `concentrations` serve symbols (see Bigram), `prior_weights` vectors too (see VectorAutoregression).
    """

    def __init__(self, space: Space, *, concentrations: list[float], prior_weights: list[float]):
        self.space = space
        if space.symbols:
            self.model = Bigram(space, concentrations=concentrations, prior_weights=prior_weights)
        else:
            self.model = VectorAutoregression(space, lags=[1], criterion="valid", prior_weights=prior_weights)
