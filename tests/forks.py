"""Scripts run as from a fresh interpreter, each in a fork of one that has imported what they share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Reads lines of a folder, a script and its arguments; answers with lines of status, output and errors.
SERVER = """
import json, os, runpy, sys, tempfile, traceback

exec(sys.argv[1])
answers = os.fdopen(os.dup(1), "w")

def run(folder, script, arguments):
    os.chdir(folder)
    sys.argv = [script, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            status = 1
            try:
                status = run(*json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode())
    print(json.dumps([status, *said]), file=answers, flush=True)
"""


class Forks:
    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def run(self, folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """In a folder, from which the script's path begins."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([str(folder), script, arguments]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, f"it ended: {self.process.wait()}"
        return subprocess.CompletedProcess([script, *arguments], *json.loads(answer))


@contextmanager
def forking(ahead: str, env: Mapping[str, str]) -> Iterator[Forks]:
    """ahead: code that an interpreter of this environment runs once, before all of them; imports above all."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, ahead],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        yield Forks(process)
        process.stdin.close()
