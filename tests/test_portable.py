"""trainer.portable: one set of instructions and one order of sums, whatever the shell or the processor offers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from seqlab import config
from seqlab.errors import UserError
from seqlab.instructions import FIXED, OTHERS, STARTED, fix, has_them

ROOT = Path(__file__).resolve().parent.parent
TRAINER = yaml.safe_load((ROOT / "conf/trainer/cpu.yaml").read_text(encoding="utf-8"))
needs_avx2 = pytest.mark.skipif(not has_them(), reason="a processor without AVX2 and FMA")

# A program that begins again, and then says what its libraries took.
BEGINS = """
import os, sys
from seqlab import instructions
print("begins", flush=True)
instructions.fixed(sys.orig_argv[1:])
import numpy, torch
from numpy._core._multiarray_umath import __cpu_features__ as features
from threadpoolctl import threadpool_info
import json
blas = sorted({pool["architecture"] for pool in threadpool_info() if pool.get("architecture")})
print(json.dumps([torch.backends.cpu.get_cpu_capability(), blas, features["X86_V4"], os.getcwd(), sys.argv[1:]]))
"""


def begun(folder: Path, **shell: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(BEGINS)
    env = {k: v for k, v in os.environ.items() if k not in (*FIXED, *OTHERS, STARTED)} | shell
    command = [sys.executable, "program.py", "a b"]
    env["PYTHONPATH"] = os.pathsep.join([str(folder / "site"), str(ROOT / "src")])
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@needs_avx2
@pytest.mark.slow
def test_a_program_begins_again_once_and_every_library_takes_the_same_kernels(tmp_path: Path) -> None:
    said = begun(tmp_path, ATEN_CPU_CAPABILITY="avx512", MKL_ENABLE_INSTRUCTIONS="AVX512").stdout.splitlines()
    assert said[:-1] == ["begins", "begins"]
    assert json.loads(said[-1]) == ["AVX2", ["Haswell"], False, str(tmp_path), ["a b"]]


@needs_avx2
def test_what_takes_the_variables_away_each_time_is_named_and_no_circle(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import os\nos.environ['MKL_CBWR'] = 'AUTO'\n")
    done = begun(tmp_path)
    assert done.stdout.splitlines() == ["begins", "begins"]
    assert "UserError: trainer.portable: MKL_CBWR: changed where Python starts" in done.stderr


def test_what_would_say_otherwise_is_taken_out_of_the_environment() -> None:
    found = fix({"MKL_ENABLE_INSTRUCTIONS": "AVX512", "ATEN_CPU_CAPABILITY": "default", "HOME": "/home"})
    assert found == FIXED | {"HOME": "/home"}


def test_it_computes_in_one_thread_and_only_on_processors() -> None:
    two = config.trainer(TRAINER | {"threads": 2})
    assert (two.portable, two.settings.threads) == (False, 2)
    assert config.trainer(TRAINER | {"threads": 2, "portable": True}).settings.threads == 1
    with pytest.raises(UserError, match=r"trainer\.portable: of processors alone; trainer\.accelerator is 'gpu'"):
        config.trainer(TRAINER | {"accelerator": "gpu", "portable": True})
    with pytest.raises(UserError, match=r"trainer\.portable"):
        config.trainer(TRAINER | {"portable": "yes"})


def test_it_is_a_value_of_every_training_and_evaluation() -> None:
    tree = yaml.safe_load((ROOT / "conf/config.yaml").read_text(encoding="utf-8"))
    assert tree["fitting"]["gradient"]["trainer"] == "${trainer}"
    parts = [tree["fitting"][fit] for fit in ("closed_form", "rules")] + list(tree["judging"].values())
    assert {part["portable"] for part in parts} == {"${trainer.portable}"}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dispatch", ROOT / "bench/dispatch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHELLS: dict[str, dict[str, str]] = {
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "OPENBLAS_CORETYPE": "SkylakeX"},
    "default, two threads": {
        "ATEN_CPU_CAPABILITY": "default",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
    },
}


@pytest.fixture(scope="module")
def portable(bench: Any) -> dict[str, dict[str, str]]:
    """The bits of every gradient family, by the shell in which a portable training was started."""
    return {
        shell: {name: one["bits"] for name, one in bench.measured(bench.NAMES, 16, fix(values)).items()}
        for shell, values in SHELLS.items()
    }


@needs_avx2
@pytest.mark.slow
def test_every_gradient_family_has_the_same_bits_in_every_shell(
    bench: Any, portable: dict[str, dict[str, str]]
) -> None:
    assert set(portable["avx512"]) == {
        path.stem for path in (ROOT / "conf/family").glob("*.yaml") if "\noptimizer:" in path.read_text("utf-8")
    }
    assert portable["default, two threads"] == portable["avx512"]
    # The bits do depend on what is held fixed.
    capped = bench.measured(("rnn", "transformer"), 16, bench.CAPPED["default"])
    assert all(capped[name]["bits"] != portable["avx512"][name] for name in capped)
