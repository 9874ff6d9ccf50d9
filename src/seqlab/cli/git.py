"""What git knows of a checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(home: Path, *words: str) -> str:
    """What git answers there, without the last line's end; "" where it knows nothing, or is not there."""
    try:
        done = subprocess.run(["git", *words], cwd=home, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.rstrip("\n") if done.returncode == 0 else ""
