"""How every command ends: what a user can cause in one line and status 2, an interruption with how to go on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from seqlab.errors import Interrupted, UserError
from seqlab.training.interruption import heeded


def one_line(error: BaseException) -> str:
    return f"seqlab: {' '.join(str(error).split())}"


def errors_in_one_line(function: Callable[[], Any]) -> None:
    """Anything but a user's error is a bug and keeps its traceback."""
    try:
        with heeded("the same command goes on where this one stopped"):
            function()
    except UserError as error:
        print(one_line(error), file=sys.stderr)
        sys.exit(2)
    except PermissionError as error:
        print(f"seqlab: {error.filename}: no permission to write or read there; {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as error:
        print(f"\n{one_line(error)}", file=sys.stderr)
        sys.exit(error.status)
