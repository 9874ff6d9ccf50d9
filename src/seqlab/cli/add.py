"""A file of one's own becomes a domain: look at it, say what it is and why, write a yaml and a card."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from seqlab.cli.places import ROOT

CARDS = "cards"


def add(path: str, hints: dict[str, Any], replace: bool) -> None:
    """Write conf/domain/NAME.yaml and cards/NAME.md. Raises UserError for what is wrong with the file."""
    from seqlab.intake import Hints, look, write_card, write_domain

    known = {field.name for field in fields(Hints)}
    proposal = look(Path(path).resolve(), Hints(**{key: value for key, value in hints.items() if key in known}))
    for line in proposal.lines:
        print(line)
    if "name" not in hints and Path(path).stem.casefold() != proposal.name:
        print(f"seqlab: its name here is {proposal.name}, of letters from a to z and digits; --name gives another")
    for line in proposal.card.warnings:
        print(f"seqlab: to know: {line}")
    domain = write_domain(proposal, ROOT / "conf", replace=replace)
    card = write_card(proposal, ROOT / CARDS)
    print(f"seqlab: wrote {_shown(domain)} and {_shown(card)}; the file itself is as it was")
    print(f"seqlab: next, `seqlab compare {proposal.name}`")


def _shown(path: Any) -> str:
    path = path if isinstance(path, Path) else path[0]
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
