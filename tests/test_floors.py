"""The floors that docs/design.md draws: no file imports from one below its own, and folders make no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from seqlab.cli.fingerprint import SRC

ROOT = Path(__file__).parents[1]
SEQLAB = SRC / "seqlab"


def floors() -> dict[str, int]:
    """By file or folder of the library, the number of its floor, as drawn."""
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    drawn = text.split("<!-- floors -->")[1].split("<!-- /floors -->")[0]
    rows = [line.strip().split(", ") for line in drawn.splitlines() if line.strip()]
    return {name: number for number, names in enumerate(rows) for name in names}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """The line and the dotted name of what a file imports when it runs; what a type checker alone reads is left out."""
    body = [
        node
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            assert node.module is not None
            if node.module == "seqlab":
                yield from ((node.lineno, f"seqlab.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module


def room(file: Path) -> str:
    return file.relative_to(SEQLAB).parts[0].removesuffix(".py")


def edges() -> Iterator[tuple[str, str, str]]:
    """From which room, to which, and where that is written."""
    for file in SEQLAB.rglob("*.py"):
        if file == SEQLAB / "__init__.py":
            continue  # finds the API by name
        for line, name in imports(file):
            if name.startswith("seqlab.") and name != "seqlab.__version__":
                yield room(file), name.split(".")[1], f"{file.relative_to(SRC)}:{line} imports {name}"


def test_every_room_has_a_floor_and_every_floor_its_rooms() -> None:
    rooms = {room(file) for file in SEQLAB.rglob("*.py")} - {"__init__"}
    assert rooms == set(floors())


def test_no_file_imports_from_a_floor_below() -> None:
    order = floors()
    assert [where for one, other, where in edges() if order[one] < order[other]] == []


def test_rooms_of_one_floor_make_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for one, other, _ in edges():
        if one != other:
            graph.setdefault(one, set()).add(other)
    assert len(list(TopologicalSorter(graph).static_order())) == len(floors())
