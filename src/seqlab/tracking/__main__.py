"""python -m seqlab.tracking ROOT: deliver journals to MLflow in the background, or wait until they are delivered."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from seqlab.tracking.spool import IDLE_SECONDS, flush, redirect, uploader_lock

REQUESTS = {
    # The uploader itself tries again: a store that does not answer must not hold up the other ones.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m seqlab.tracking", description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=Path(".seqlab/tracking"), help="folder of the journals")
    parser.add_argument("--flush", action="store_true", help="wait for delivery; list the runs that are kept")
    parser.add_argument("--uri", help="with --flush: send kept runs here instead of where they were meant to go")
    parser.add_argument("--timeout", type=float, default=60.0, help="with --flush: seconds to wait")
    parser.add_argument("--idle", type=float, default=IDLE_SECONDS, help="seconds without work before it leaves")
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.uri and not arguments.flush:
        parser.error("--uri goes with --flush")
    root = arguments.root.resolve()
    if arguments.flush:
        return _flush(root, arguments.uri, arguments.timeout)
    lock = uploader_lock(root) if arguments.lock is None else arguments.lock
    if lock is None:
        return 0
    logging.basicConfig(format="%(asctime)s %(message)s")
    os.nice(10)
    for name, value in REQUESTS.items():
        os.environ.setdefault(name, value)
    from seqlab.tracking.upload import Uploader  # imports mlflow: 2 s

    Uploader(root).run(arguments.idle, lock)
    return 0


def _flush(root: Path, uri: str | None, timeout: float) -> int:
    if uri is not None:
        try:
            redirect(root, uri, timeout)
        except TimeoutError as error:
            print(error, file=sys.stderr)
            return 1
    undelivered = flush(root, timeout)
    for run in undelivered:
        print(f"kept: {run.name} ({run.key}) for {run.uri}: {run.reason}", file=sys.stderr)
    return 1 if undelivered else 0


if __name__ == "__main__":
    sys.exit(main())
