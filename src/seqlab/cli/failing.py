"""How every command ends: what a user can cause in one line and status 2, an interruption with how to go on. And that
what it warns of is a line of its own, without the warnings of libraries."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, TextIO

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


def own_warnings_alone() -> None:
    """Have this process say in one line what seqlab's own code warns of, and nothing of what libraries do: that is for
    developers, who ask for it with `python -W`."""
    if not sys.warnoptions:
        warnings.showwarning = _show


def _show(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> None:  # fmt: skip
    # Not by `filename`, which a library may have say where it was called from.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") == warnings.__name__:
        frame = frame.f_back
    module = "" if frame is None else str(frame.f_globals.get("__name__"))
    if category is UserWarning and module.partition(".")[0] == __name__.partition(".")[0]:
        print(f"seqlab: {' '.join(str(message).split())}", file=file or sys.stderr)
