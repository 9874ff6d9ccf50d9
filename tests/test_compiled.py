"""What is compiled, and what a later process finds compiled, add in the same order."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
EXPECTED = """
import hashlib
import numpy as np
from seqlab.data.sequences import Sequences
from seqlab.families.closed_form.hmm import Chain, Counts, expect, score

draw = np.random.default_rng(0)
rows = Sequences.from_arrays([draw.integers(0, 90, 300) for _ in range(40)])
for states in (4, 16, 64):
    parts = draw.random(states), draw.random((states, states)), draw.random((90, states))
    chain = Chain.of(Counts(*parts))
    found, log_likelihood = expect(chain, rows)
    digest = hashlib.sha256(b"".join(part.tobytes() for part in (*found, score(chain, rows)))).hexdigest()
    print(states, digest, log_likelihood.hex())
"""


@pytest.mark.slow
def test_a_later_process_has_the_bits_of_the_one_that_compiled(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(SRC), "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", EXPECTED]
    first, later = (subprocess.run(command, env=env, capture_output=True, text=True, check=True) for _ in range(2))
    assert list(tmp_path.rglob("*.nbc")), "nothing was kept compiled"
    assert first.stdout == later.stdout
