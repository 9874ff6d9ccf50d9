"""What the neural translation families share: the encoder–decoder, its recurrent parts, beam search, the translator."""

from seqlab.families.seq2seq.model import Memory, Seq2Seq, State
from seqlab.families.seq2seq.recurrent import BidirectionalGRU, Readout
from seqlab.families.seq2seq.search import Hypothesis, beam_search
from seqlab.families.seq2seq.translator import Translator, translator

__all__ = [
    "BidirectionalGRU",
    "Hypothesis",
    "Memory",
    "Readout",
    "Seq2Seq",
    "State",
    "Translator",
    "beam_search",
    "translator",
]
