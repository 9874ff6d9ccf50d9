"""The words of a command line."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any


class Intermixed(argparse.ArgumentParser):
    """Takes words of a list, such as overrides, before, between and after options."""

    within = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        listed = any(action.nargs in ("*", "+") for action in self._get_positional_actions())
        if self.within or not listed:
            return super().parse_known_args(args, namespace)
        self.within = True  # what intermixes calls this again, once for options and once for words
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.within = False


def words_of(arguments: list[str]) -> list[str]:
    """Arguments, with what follows `--overrides` split at blanks outside quotes, which Hydra then reads itself.

    `mlflow run` hands several overrides over as one argument.
    """
    found: list[str] = []
    rest = iter(arguments)
    for word in rest:
        found += shlex.split(next(rest, ""), posix=False) if word == "--overrides" else [word]
    return found
