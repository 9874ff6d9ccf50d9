"""What all gradient families share: ends, the model around a causal body, and recurrence."""

from seqlab.families.gradient import products as products  # at work once imported
from seqlab.families.gradient.ends import Density, SymbolEnds
from seqlab.families.gradient.model import GradientFamily, State
from seqlab.families.gradient.recurrence import Recurrent

__all__ = [
    "Density",
    "GradientFamily",
    "Recurrent",
    "State",
    "SymbolEnds",
]
