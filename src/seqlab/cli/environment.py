"""What a process computes with beside the code: its processor, the kernels that libraries chose for it, and libraries.

Every run notes it (a tag, environment.json), and reports/machines.json says for each stage of the committed lock where
it was computed. No result depends on what is written here, so it stands in nobody's parameters.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from seqlab.artifacts import read_json, write_json
from seqlab.instructions import FIXED, OTHERS, cpuinfo

MACHINES = Path("reports/machines.json")
# Sets of instructions for which libraries have kernels of their own, as Linux names them.
DISPATCHED = ("sse4_2", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile")
CARRYING = ("dask", "distributed")  # stages to other machines: no bit of a result is theirs
CAPS = (*FIXED, *OTHERS)  # by these a user, or trainer.portable, keeps a library from some of them


def environment() -> dict[str, Any]:
    """Plain values by name; what a library chose is there once it has been imported."""
    return {
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".rstrip(", "),
        "python": platform.python_version(),
        "processor": processor(),
        "instructions": instructions(),
        "caps": {name: os.environ[name] for name in CAPS if name in os.environ},
        "dispatch": dispatch(),
        "libraries": libraries(),
    }


def processor() -> str:
    """Vendor, family and model: processors that are alike in these take the same kernels."""
    info = cpuinfo()
    if "vendor_id" not in info:
        return platform.processor() or platform.machine()
    return f"{info['vendor_id']} family {info.get('cpu family')} model {info.get('model')}"


def instructions() -> list[str]:
    flags = cpuinfo().get("flags", "").split()
    return [name for name in DISPATCHED if name in flags]


def dispatch() -> dict[str, str]:
    """The kernels that the libraries of this process use, of those that are imported."""
    found: dict[str, str] = {}
    if "torch" in sys.modules:
        import torch

        found["torch"] = torch.backends.cpu.get_cpu_capability()
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_info

        for pool in threadpool_info():
            if pool.get("architecture"):
                found[str(pool["internal_api"])] = str(pool["architecture"])
    return found


@cache
def libraries() -> dict[str, str]:
    """The versions of what seqlab asks for, of which any may move a bit."""
    try:
        asked = metadata.requires("seqlab") or []
    except metadata.PackageNotFoundError:  # used from its folder
        asked = []
    found = {}
    for requirement in asked:
        if "extra == 'test'" in requirement.replace('"', "'"):
            continue
        name = re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0]
        if name in CARRYING:
            continue
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # of an extra
            continue
    return dict(sorted(found.items()))


def named(found: Mapping[str, Any]) -> str:
    """A short name of a machine class: equal for equal environments."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:8]


def in_words(found: Mapping[str, Any]) -> str:
    """One line: the processor, and the kernels it was given."""
    kernels = ", ".join(f"{library} {kernel}" for library, kernel in found["dispatch"].items())
    return f"{found['processor']}; {kernels or 'no dispatched kernels'}"


def differing(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, a line each: system, processor, caps, kernels and libraries.

    The kernels of a library that one of them had not imported say nothing.
    """
    lines = [
        f"{key}: recorded {recorded[key]}, here {here[key]}"
        for key in ("system", "python", "processor")
        if recorded[key] != here[key]
    ]
    for key in ("caps", "dispatch", "libraries"):
        names = set(recorded[key]) & set(here[key]) if key == "dispatch" else set(recorded[key]) | set(here[key])
        for name in sorted(names.difference(CARRYING)):  # which older records name
            before, now = recorded[key].get(name, "none"), here[key].get(name, "none")
            if before != now:
                lines.append(f"{WORDS[key]} {name}: recorded {before}, here {now}")
    if recorded["instructions"] != here["instructions"]:
        odd = sorted(set(recorded["instructions"]) ^ set(here["instructions"]))
        lines.append(f"instructions that one of them lacks: {', '.join(odd)}")
    return lines


WORDS = {"caps": "variable", "dispatch": "kernels of", "libraries": "library"}


def of_stages(path: Path) -> dict[str, dict[str, Any]]:
    """The environment in which each stage was computed, by verb and label; nothing where nobody wrote it down."""
    if not path.exists():
        return {}
    written = read_json(path)
    return {stage: written["machines"][machine] for stage, machine in written["stages"].items()}


def write_stages(path: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Each environment once, under its name, and that name for each stage."""
    machines = {named(one): dict(one) for one in found.values()}
    write_json(path, {"machines": machines, "stages": {stage: named(one) for stage, one in found.items()}})
