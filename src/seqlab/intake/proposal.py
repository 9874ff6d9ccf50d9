"""What looking at a file leads to: a domain, the reason of every choice in it, and a card of what the file holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from seqlab.errors import UserError

Kind = Literal["series", "sequences", "text", "pairs", "recordings", "films"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a person knows better than any look at the file; None and (): to be found out.

    value: columns of numbers. id: columns that together name a series or sequence. label: a column, or the table of
    labels in a folder. period: seasonal, in steps. text: the column of texts, or of the sentences to translate. target:
    the column, or the file, of their translations. time_format: of `datetime.strptime`. licence: for people. known,
    past, static: covariates of series, columns that are known ahead, measured beside, or the same throughout a series.
    """

    name: str | None = None
    kind: str | None = None
    time: str | None = None
    value: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    label: str | None = None
    period: int | None = None
    text: str | None = None
    target: str | None = None
    time_format: str | None = None
    licence: str | None = None
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    static: tuple[str, ...] = ()

    @property
    def covariates(self) -> tuple[str, ...]:
        return (*self.known, *self.past, *self.static)

    @property
    def columns(self) -> set[str]:
        """All that may be names of columns."""
        single = (self.time, self.label, self.text, self.target)
        return {name for name in (*single, *self.value, *self.id, *self.covariates) if name is not None}

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise UserError(f"kind: found {self.kind!r}, expected one of {', '.join(KINDS)}")
        if self.period is not None and self.period < 1:
            raise UserError(f"period: found {self.period}, expected at least 1 step")


@dataclass(frozen=True)
class Choice:
    """One thing that was decided: its key in the domain's file, what it is, and why, in one line."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Card:
    """What a file holds, as facts by topic: "rows", "lengths", "gaps" and so on, each a number, a text or a mapping.

    warnings: what a reader of results should know, a line each.
    """

    facts: dict[str, Any]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Proposal:
    """A domain as it would be written.

    tree: what conf/domain/NAME.yaml holds. choices: of its keys, with dots. card: what the file holds.
    """

    name: str
    path: Path
    kind: Kind
    tree: dict[str, Any]
    choices: list[Choice]
    card: Card

    @property
    def title(self) -> str:
        return str(self.tree["title"])

    @property
    def lines(self) -> list[str]:
        """What was decided and why, for a terminal."""
        width = max((len(choice.key) for choice in self.choices), default=0)
        return [f"{choice.key:<{width}}  {choice.value}: {choice.reason}" for choice in self.choices]
