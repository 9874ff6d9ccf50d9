"""Prepare a domain: raw files become memory-mapped arrays, split by content or time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from seqlab.artifacts import read_json, sha256, write_json
from seqlab.data.prepared import Meta, Prepared
from seqlab.errors import UserError
from seqlab.scratch import replacing
from seqlab.settings import Component


class Archives(dict[str, Path]):
    """Unpacked archives by name; one that a recipe asks for and that is not there is named."""

    def __missing__(self, name: str) -> Path:
        raise UserError(f"archives: no {name!r}, which this kind of domain reads; found {', '.join(self) or 'none'}")


def prepare(recipe: Component, raw: Mapping[str, Path], out: Path) -> Meta:
    """Write the sets of a domain to `out`. recipe: names a class of data.domains; raw: unpacked archives by name."""
    with replacing(out) as made:
        made.mkdir()
        recipe.build().prepare(Archives(raw), made)
        # Later stages quote this hash instead of reading everything again.
        meta = read_json(made / "meta.json")
        write_json(made / "meta.json", meta | {"sha256": sha256(made)})
    return Prepared.open(out).meta
