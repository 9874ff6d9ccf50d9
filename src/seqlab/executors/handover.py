"""The beginning of a stage's script: hand over to a warm process (seqlab.executors.warm), and wait for it.

Every stage starts an interpreter for this, so no more is imported than that takes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from pathlib import Path

VARIABLE = "SEQLAB_WARM"
RUNNER = "SEQLAB_RUNNER"  # the process that brings a stage up to date, with which the stage ends
FORKED = "SEQLAB_FORKED"  # set in a child of a warm process
STREAMS = 3  # standard input, output and error
SIZE = 4  # bytes that hold the length of a request
SUPPORTED = sys.platform == "linux"


def hand_over() -> None:
    """Have the warm process do what this one was started for, and end with its status; return if there is none."""
    end_with_runner()
    if FORKED in os.environ:
        return
    door = os.environ.get(VARIABLE)
    if not door and "DVC_STAGE" in os.environ and SUPPORTED:
        from seqlab.executors.warm import door_of_dvc

        door = door_of_dvc()
    if not door:
        return
    with socket.socket(socket.AF_UNIX) as link:
        try:
            link.connect(door)
        except OSError:
            return
        request = json.dumps({"argv": sys.argv, "cwd": str(Path.cwd()), "env": dict(os.environ)}).encode()
        socket.send_fds(link, [len(request).to_bytes(SIZE, "big")], range(STREAMS))
        link.sendall(request)
        # The link stays open until the answer comes: its end means that this process was killed, or asked to end. Then
        # the stage is asked too, and this one waits for it.
        signal.signal(signal.SIGTERM, lambda *_: link.shutdown(socket.SHUT_WR))
        status = link.recv(16)
    sys.exit(int(status) if status else f"{sys.argv[0]}: the warm process ended before the stage did")


def end_with_runner() -> None:
    """End at once when whoever started this stage is killed: between the two is a shell, which would not.

    The next repro would otherwise write the same files beside it.
    """
    runner = int(os.environ.pop(RUNNER, "0"))
    if not SUPPORTED or FORKED in os.environ or not (runner or "DVC_STAGE" in os.environ):
        return
    try:
        life = os.pidfd_open(runner or dvc_process())
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)

    def end() -> None:
        select.select([life], [], [])  # until it is no more
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=end, daemon=True).start()


def dvc_process() -> int:
    """The nearest ancestor of this process that is no shell."""
    pid = os.getppid()
    while pid > 1 and Path(f"/proc/{pid}/comm").read_text().strip() in ("sh", "dash", "bash"):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid
