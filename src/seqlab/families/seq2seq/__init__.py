"""What the neural translation families share: the encoder–decoder, its recurrent parts, beam search, the translator."""

from seqlab.families.seq2seq.model import DecoderState, Memory, Seq2Seq
from seqlab.families.seq2seq.recurrent import BidirectionalGRU, Readout
from seqlab.families.seq2seq.search import Hypothesis, beam_search
from seqlab.families.seq2seq.translator import Translator, translator

__all__ = [
    "BidirectionalGRU",
    "DecoderState",
    "Hypothesis",
    "Memory",
    "Readout",
    "Seq2Seq",
    "Translator",
    "beam_search",
    "translator",
]
