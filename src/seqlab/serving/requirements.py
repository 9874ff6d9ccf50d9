"""The packages that a system needs where it is served, read from the source of what it runs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

SRC = Path(__file__).parents[2]
OWN = "seqlab"


def requirements(modules: Iterable[str]) -> list[str]:
    """`package==version` of every package that these modules of seqlab import, at any depth, as it is installed here.

    What a class states in literals, such as the one that serves its kind of space, is followed by its dotted name. Of
    what a type checker alone reads there is none. A package that comes with the language is none either.
    """
    known = packages_distributions()
    roots = {name.partition(".")[0] for name in _imported(modules)}
    # Several packages may share a root; the one of its name holds what is imported. A build for one device, 2.1+cpu,
    # is not on every index.
    packages = {root if root in known[root] else known[root][0] for root in roots if root in known}
    return sorted(f"{package}=={version(package).partition('+')[0]}" for package in packages)


def _imported(modules: Iterable[str]) -> set[str]:
    """Names of foreign modules."""
    waiting, seen, foreign = list(modules), set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.partition(".")[0] != OWN:
            foreign.add(name)
        elif (file := _file(name)) is not None:
            waiting += [*_above(name), *_imports(file)]
    return foreign


def _file(name: str) -> Path | None:
    path = SRC.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _imports(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_bytes())
    body = [node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            if node.module.startswith(OWN):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, (ast.Assign, ast.AnnAssign)):
                    yield from _stated(statement)


def _stated(assignment: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    """Modules of seqlab that a class finds by name: `used_by` holds one, `on` a class of each kind of space."""
    for node in ast.walk(assignment.value) if assignment.value is not None else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(f"{OWN}."):
            yield from (node.value, node.value.rpartition(".")[0])
