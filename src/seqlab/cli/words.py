"""The words of a command line."""

from __future__ import annotations

import shlex


def words_of(arguments: list[str]) -> list[str]:
    """Arguments, with what follows `--overrides` split at blanks outside quotes, which Hydra then reads itself.

    `mlflow run` hands several overrides over as one argument.
    """
    found: list[str] = []
    rest = iter(arguments)
    for word in rest:
        found += shlex.split(next(rest, ""), posix=False) if word == "--overrides" else [word]
    return found
