"""What a stage tells while it works, to whoever listens: tracking, a test, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, SupportsFloat

CHANGES_NO_BIT = True  # of any result: no stage is run again for an edit here


class Watch(Protocol):
    def metrics(self, values: Mapping[str, SupportsFloat], step: int | None = None) -> None:
        """Values by name, at a step of a training or once."""

    def text(self, text: str, to: str) -> None:
        """A text under a path of its own."""


class Nobody:
    """Listens to nothing."""

    def metrics(self, values: Mapping[str, SupportsFloat], step: int | None = None) -> None:
        pass

    def text(self, text: str, to: str) -> None:
        pass


NOBODY = Nobody()
