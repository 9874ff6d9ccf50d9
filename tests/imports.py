"""The modules of seqlab and pipelines/ that a file imports, followed through, read from the source."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"


def closure(*files: Path) -> set[Path]:
    """`files` and every project file they import, at any depth, imports inside functions included.

    A package that does nothing but describe itself (its __init__ holds a docstring and constants) is left out: a change
    of it changes no result.
    """
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        waiting += imported(file)
    return {file for file in found if not (file.name == "__init__.py" and only_words(file))}


def imported(file: Path) -> list[Path]:
    names: list[str] = []
    tree = ast.parse(file.read_text(encoding="utf-8"))
    # What a type checker alone reads is never run.
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    files = [path for name in names for path in (modules(name) if name.startswith("seqlab") else sibling(file, name))]
    return files


def modules(name: str) -> list[Path]:
    """The file of a dotted name and the packages above it, which importing it runs as well."""
    parts = name.split(".")
    found = [SRC.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    return [path for path in (*found, SRC.joinpath(*parts).with_suffix(".py")) if path.is_file()]


def sibling(file: Path, name: str) -> list[Path]:
    """pipelines/ is on the path of the scripts in it."""
    path = file.parent / f"{name}.py"
    return [path] if file.parent == ROOT / "pipelines" and path.is_file() else []


def only_words(file: Path) -> bool:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return all(isinstance(node, (ast.Expr, ast.Assign)) for node in body)
