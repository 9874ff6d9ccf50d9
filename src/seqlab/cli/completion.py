"""Completion of `seqlab` in a shell, by Hydra's own scripts: `eval "$(seqlab --shell-completion install=bash)"`.

Such a script asks `seqlab -sc query=SHELL` what may follow the line in COMP_LINE. Hydra knows what follows a
configuration's overrides; which configuration that is, and what stands before them, is seqlab's to say.
"""

from __future__ import annotations

import os
import sys

from seqlab.cli.places import ROOT
from seqlab.errors import UserError

FLAGS = ("--shell-completion", "-sc")
VERBS, SHELLS = ("install", "uninstall", "query"), ("bash", "fish", "zsh")
SUITE = ("repro", "compose", "status")  # they take overrides of conf/config.yaml


def complete(arguments: list[str], commands: list[str], stages: tuple[str, ...]) -> None:
    """Answer a shell: Hydra's script to install or remove, or the words that may come next.

    arguments: as typed, the first of them one of FLAGS.
    """
    line = os.environ.get("COMP_LINE", "")
    before = line.split() if line.endswith(" ") or not line else line.split()[:-1]
    started = "" if line.endswith(" ") or not line else line.split()[-1]
    verb, _, shell = (arguments[1:] or [""])[0].partition("=")
    if verb not in VERBS or shell not in SHELLS:
        raise UserError(
            f"{arguments[0]} {verb}={shell}: expected {'|'.join(VERBS)}=SHELL, a shell of {', '.join(SHELLS)}"
        )
    if verb != "query":
        _hydra("cell", arguments)
    elif len(before) < 2:
        print("\n".join(word for word in commands if word.startswith(started)))
    elif before[1] == "run" and len(before) < 3:
        print("\n".join(word for word in stages if word.startswith(started)))
    elif before[1] == "run" or before[1] in SUITE:
        skipped = 3 if before[1] == "run" else 2
        os.environ["COMP_LINE"] = " ".join(["seqlab", *before[skipped:], started])
        _hydra("cell" if before[1] == "run" else "config", arguments)


def _hydra(name: str, arguments: list[str]) -> None:
    import hydra

    sys.argv = ["seqlab", *arguments]
    hydra.main(version_base=None, config_path=str(ROOT / "conf"), config_name=name)(lambda _: None)()
