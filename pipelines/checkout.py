"""Puts this checkout's own library first on the path, and starts what a script is named for.

A queued experiment of DVC runs its own copy of the code, whatever is installed.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))


def stage(verb: str) -> None:
    """Run a stage, in a warm process where one waits."""
    from seqlab.executors.handover import hand_over
    from seqlab.threads import pin

    pin(1)  # until the configuration says how many
    hand_over()
    from seqlab.cli.stage import main

    main(verb, sys.argv[1:])


def command(name: str) -> None:
    """Run a subcommand of `seqlab`."""
    from seqlab.cli.main import main
    from seqlab.executors.handover import end_with_runner

    end_with_runner()
    main([name, *sys.argv[1:]])
