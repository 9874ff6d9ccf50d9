"""Score a domain's controls on the same test examples: what every family must beat; and peers from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seqlab.data.prepared import Prepared
from seqlab.evaluation import scores
from seqlab.evaluation.kinds import OUTSIDE
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import Evaluation
from seqlab.scratch import replacing
from seqlab.tasks.judging import Test, controls_of, judged_task, peers_of


def controls(
    prepared: Path,
    out: Path,
    *,
    domain: str,
    tasks: list[str],
    settings: Evaluation,
    examples: int | None,
) -> Mapping[str, Scores]:
    """Write the scores of each control to a folder of its name under `out`, those of a peer under `out`/outside.

    See `evaluate` for the rest.
    """
    test = Test(
        prepared=Prepared.open(prepared), settings=settings, domain=domain, name=domain, seed=0, examples=examples
    )
    found: dict[str, Scores] = {}
    for task in tasks:
        # A task whose model the data cannot train has nothing to beat either.
        if not set(judged_task(task).models) & set(test.prepared.meta.tasks):
            continue
        for name, part in controls_of(task)(test).items():
            found[name] = found.get(name, Scores()) | part
        if (peers := peers_of(task)) is not None:
            for name, part in peers(test).items():
                found[f"{OUTSIDE}/{name}"] = found.get(f"{OUTSIDE}/{name}", Scores()) | part
    with replacing(out) as made:
        made.mkdir()
        for name, part in found.items():
            (made / name).parent.mkdir(exist_ok=True)
            scores.write(part, made / name)
    return found
