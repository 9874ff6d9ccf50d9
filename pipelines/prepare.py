"""Prepare a domain: raw files become memory-mapped arrays, split by content or time."""

from __future__ import annotations

import warm  # noqa: F401
from stage import Stage, main

from seqlab.artifacts import read_json, replacing, sha256, write_json
from seqlab.data.sequences import SPLITS


def prepare(stage: Stage) -> None:
    with stage.run({"raw": stage.raw}, follows={"acquire": stage.label}) as run:
        with replacing(stage.prepared) as made:
            made.mkdir()
            stage.domain.prepare.build().prepare({name: stage.raw / name for name in stage.domain.archives}, made)
            # Later stages quote this hash instead of reading everything again.
            meta = read_json(made / "meta.json")
            write_json(made / "meta.json", meta | {"sha256": sha256(made)})
        counts = read_json(stage.prepared / "meta.json")["counts"]
        run.metrics({f"{part}/{split}": n for part, splits in counts.items() for split, n in splits.items()})
        run.artifact(stage.prepared / "meta.json")
        stage.finished(run, {}, {"prepared": stage.prepared})
    # A source needs no test split.
    sizes = {name: "/".join(str(found[split]) for split in SPLITS if split in found) for name, found in counts.items()}
    print(f"prepare {stage.label}: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))


if __name__ == "__main__":
    main(prepare, needs=("domain",))
