"""What all gradient families share: ends, the model around a causal body, recurrence, and the predictor in NumPy."""

from seqlab.families.gradient.ends import Density, SymbolEnds, VectorEnds
from seqlab.families.gradient.model import GradientFamily, State
from seqlab.families.gradient.predictor import Precision, TorchPredictor, predictor
from seqlab.families.gradient.recurrence import Recurrent

__all__ = [
    "Density",
    "GradientFamily",
    "Precision",
    "Recurrent",
    "State",
    "SymbolEnds",
    "TorchPredictor",
    "VectorEnds",
    "predictor",
]
