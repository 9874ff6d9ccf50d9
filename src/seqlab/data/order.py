"""The same data with the order of time destroyed, for any family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from seqlab.data.sequences import POSITIONAL, Sequences


def shuffled(sequences: Sequences, seed: int) -> Sequences:
    """Each sequence in random order, its context (before `first`) and its scored part each within itself."""
    lengths = sequences.lengths
    step = np.arange(len(sequences.values)) - np.repeat(sequences.offsets[:-1], lengths)
    scored = np.zeros(len(step), bool) if sequences.first is None else step >= np.repeat(sequences.first, lengths)
    owner = np.repeat(np.arange(len(sequences)), lengths)
    order = np.lexsort((np.random.default_rng(seed).random(len(step)), scored, owner))
    parts = {name: part[order] for name in ("values", *POSITIONAL) if (part := getattr(sequences, name)) is not None}
    return replace(sequences, **parts)
