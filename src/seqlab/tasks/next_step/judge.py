"""Next step: likelihood, and for vectors CRPS and coverage; shown by calibration, continuations and attention."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqlab.data.prepared import TARGET, Prepared
from seqlab.data.sequences import Sequences
from seqlab.evaluation import conformal, judge
from seqlab.evaluation.kept import Kept
from seqlab.tasks.judging import Judged, JudgedTask, Shown, Test

TEXTS = 3  # that are continued
PREFIX, LONGEST = 32, 120  # bytes before and of a continuation
ATTENDED, POSITIONS = 2, 48  # examples whose attention is shown, and how many of their positions


class Judge(JudgedTask):
    models = ("next_step",)

    def judge(self, model: Any, test: Test) -> Judged:
        prepared, sequences = test.prepared, test.sequences(TARGET)
        arrays: dict[str, np.ndarray] = {}
        kept = Kept()
        if sequences.symbols:
            scores = judge.next_symbols(model, prepared.meta, sequences)
        else:
            scores, made, found = conformal.next_vectors(model, test.sequences(TARGET, "valid"), sequences, test.name)
            arrays["transform"], kept = made.transform.ravel(), Kept(recalibration=found)
        if test.order == "shuffled":
            return Judged(scores, Shown(arrays))
        texts = {}
        if prepared.meta.characters and not test.settings.horizons:
            texts["continuations.md"] = continuations(model, sequences, test.seed)
        if hasattr(model, "attention_maps"):
            arrays |= attention(model, sequences)
            texts |= {
                f"positions/{key.split('/')[1]}": letters(prepared, sequences, key) for key in arrays if "/" in key
            }
        return Judged(scores, Shown(arrays, texts), kept=kept)


def continuations(model: Any, test: Sequences, seed: int) -> str:
    """What the model writes after the first bytes of a few test texts."""
    lines = []
    for i in np.flatnonzero(test.lengths >= 2 * PREFIX)[:TEXTS]:
        prefix = np.asarray(test[i][:PREFIX], np.int64)[None]
        drawn = model.forecast(prefix, np.ones_like(prefix, bool), LONGEST, 1, seed)[0, 0]
        text = bytes(drawn.astype(np.uint8)).decode("utf-8", "replace").split("\n")[0]
        lines.append(f"> {bytes(test[i][:PREFIX]).decode('utf-8', 'replace')}**{text}**\n")
    return "\n".join(lines)


def attention(model: Any, test: Sequences) -> dict[str, np.ndarray]:
    """What each head of a family that attends looks at, (layers, heads, T, T), at the beginning of long examples."""
    found = {}
    for i in np.argsort(-np.minimum(test.lengths, POSITIONS), kind="stable")[:ATTENDED]:
        batch = test.batch(np.array([i]))
        maps = model.attention_maps(batch.x[:, :POSITIONS], batch.mask[:, :POSITIONS])
        if maps is not None:
            found[f"attention/{i}"] = maps[0].astype(np.float32)
    return found


def letters(prepared: Prepared, test: Sequences, key: str) -> str:
    """What stands at each position of an example whose attention is shown, where that can be written; else nothing."""
    if not prepared.meta.characters:
        return ""
    symbols = test[int(key.split("/")[1])][:POSITIONS]
    return "⊢" + "".join(chr(c) if 32 < c < 127 else "␣" if c == 32 else "·" for c in symbols.tolist())
