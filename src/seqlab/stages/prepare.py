"""Prepare a domain: raw files become memory-mapped arrays, split by content or time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seqlab.artifacts import read_json, replacing, sha256, write_json
from seqlab.data.prepared import Meta, Prepared
from seqlab.settings import Component


def prepare(recipe: Component, raw: Mapping[str, Path], out: Path) -> Meta:
    """Write the sets of a domain to `out`. recipe: names a class of data.domains; raw: unpacked archives by name."""
    with replacing(out) as made:
        made.mkdir()
        recipe.build().prepare(dict(raw), made)
        # Later stages quote this hash instead of reading everything again.
        meta = read_json(made / "meta.json")
        write_json(made / "meta.json", meta | {"sha256": sha256(made)})
    return Prepared.open(out).meta
