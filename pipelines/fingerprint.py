"""What code a stage runs: every project file that its script imports, at any depth, read from the source.

`compose` writes a hash of that code for each kind of stage into code.yaml, which dvc.yaml's stages have among their
parameters. So a change of code reruns the stages that import it and no other, and no list of files needs keeping.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PIPELINES = ROOT / "pipelines"
DATA = r"\w+\.(yaml|jsonl|tsv)"  # names of files of data


def fingerprint(*files: Path) -> str:
    """A hash of `files` and of all that they import."""
    digest = hashlib.sha256()
    for path in sorted(closure(*files)):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + content(path) + b"\0")
    return digest.hexdigest()[:16]


def closure(*files: Path) -> set[Path]:
    """`files` and every project file they import, at any depth, imports inside functions included; and files of data
    that lie beside a module and that it names.

    A package that does nothing but describe itself (its __init__ holds a docstring and constants) is left out: a change
    of it changes no result.
    """
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported(file) if file.suffix == ".py" else ()
    return {file for file in found if not (file.name == "__init__.py" and only_words(file))}


@cache
def content(file: Path) -> bytes:
    return file.read_bytes()


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(content(file))


@cache
def imported(file: Path) -> tuple[Path, ...]:
    """The project files that a file imports itself."""
    names: list[str] = []
    # What a type checker alone reads is never run.
    body = [n for n in parsed(file).body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    found = [path for name in names for path in (modules(name) if name.startswith("seqlab") else script(file, name))]
    words = (n.value for n in ast.walk(parsed(file)) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    beside = (file.with_name(word) for word in words if re.fullmatch(DATA, word))
    return (*found, *(path for path in beside if path.is_file()))


def modules(name: str) -> list[Path]:
    """The file of a dotted name and the packages above it, which importing it runs as well."""
    parts = name.split(".")
    found = [SRC.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    return [path for path in (*found, SRC.joinpath(*parts).with_suffix(".py")) if path.is_file()]


def script(file: Path, name: str) -> list[Path]:
    """pipelines/ is on the path of the scripts in it."""
    path = PIPELINES / f"{name}.py"
    return [path] if file.parent == PIPELINES and path.is_file() else []


def only_words(file: Path) -> bool:
    return all(isinstance(node, (ast.Expr, ast.Assign)) for node in parsed(file).body)
