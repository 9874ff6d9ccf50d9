"""The two ways in which a command ends that are no bugs: what a user can cause, and a signal."""

from __future__ import annotations

import signal

CHANGES_NO_BIT = True  # of any result: no stage is run again for an edit here


class UserError(Exception):
    """Bad input: the message names the file, row or key, what was found and what was expected. One line, status 2."""


class Interrupted(BaseException):
    """A signal that asks the process to end. One line, and the status by which a shell tells it: 128 + the signal.

    Like KeyboardInterrupt it is no Exception: nothing that handles errors may take it for one. note: how to go on.
    """

    def __init__(self, number: int, note: str):
        super().__init__(number, note)
        self.number, self.note = number, note

    @property
    def status(self) -> int:
        return 128 + self.number

    def __str__(self) -> str:
        return f"ended by {signal.Signals(self.number).name}; {self.note}"
