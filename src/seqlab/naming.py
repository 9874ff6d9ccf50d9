"""Names and parameters that a file gives to code: what may be followed is decided by reading, before any import."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from seqlab.errors import UserError

CHANGES_NO_BIT = True  # of any result: no stage is run again for an edit here

SRC = Path(__file__).resolve().parents[1]
PLAIN = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
# Keys and values of another section are no more than a reference to it; whatever else has a colon calls something.
CALL = re.compile(r"\$\{(?!oc\.dict\.(?:keys|values):)[^${}]*:")
DOTTED = re.compile(r"seqlab(\.[A-Za-z]\w*){2,8}", re.ASCII)


def checked_target(target: object, where: str, under: Sequence[str] = ("seqlab",)) -> Path:
    """The file that defines what a dotted name stands for. Nothing is imported.

    The name is MODULE.NAME. MODULE is a file below one of the packages `under`, NAME a class or function defined at its
    top level: nothing that it imports, no attribute, no private part. where: what a message begins with, such as the
    file and the key. Raises UserError naming what was found and what is allowed.
    """
    allowed = " or ".join(f"{package}.*" for package in under)
    if not isinstance(target, str) or not DOTTED.fullmatch(target):
        raise UserError(f"{where}: {_short(target)} is refused; expected the dotted name of a class in {allowed}")
    if not any(target.startswith(f"{package}.") for package in under):
        raise UserError(f"{where}: {target!r} is refused; expected a class in {allowed}")
    module, _, name = target.rpartition(".")
    path = SRC.joinpath(*module.split(".")).with_suffix(".py")
    # A package's own file holds nothing of its own; a file system that ignores case would find others.
    if not path.is_file() or path.name not in {part.name for part in path.parent.iterdir()}:
        raise UserError(f"{where}: {target!r}: there is no module {module}")
    defined = _defined(path, path.stat().st_mtime_ns)
    if name not in defined:
        classes = ", ".join(name for name, kind in defined.items() if kind is ast.ClassDef) or "none"
        raise UserError(f"{where}: {target!r}: {path.relative_to(SRC)} defines no {name!r}; its classes: {classes}")
    return path


@cache
def _defined(path: Path, _: int) -> dict[str, type[ast.AST]]:
    """The classes and functions at the top level of a file, which is read anew when it has changed."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: type(node) for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def checked_parameters(kind: type[Any], parameters: object, where: str) -> dict[str, Any]:
    """Parameters as the constructor of `kind` declares them, keyword-only or `bound`: exactly these, of these types.

    Raises UserError naming the first that is missing, unknown or of another type.
    """
    from pydantic import ConfigDict, ValidationError, create_model

    hints = get_type_hints(kind.__init__, include_extras=True)
    names = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    names += getattr(kind, "bound", ())  # what the domain gave when the model was trained
    fields: dict[str, Any] = {name: (hints[name], ...) for name in names}
    if not isinstance(parameters, Mapping):
        raise UserError(f"{where}: expected {', '.join(names)}, found {_short(parameters)}")
    closed = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    try:
        checked = create_model(kind.__name__, __config__=closed, **fields).model_validate(dict(parameters))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *map(str, first["loc"])])
        message = {"missing": "missing", "extra_forbidden": f"unknown; there are {', '.join(names)}"}
        raise UserError(
            f"{key}: {message.get(first['type']) or first['msg'] + ', found ' + _short(first['input'])}"
        ) from None
    return {name: getattr(checked, name) for name in names}


def checked_name(name: object, where: str) -> str:
    """A name that may become part of a path and of a shell's command line. Raises UserError for any other."""
    if not isinstance(name, str) or not PLAIN.fullmatch(name) or ".." in name:
        raise UserError(f"{where}: {_short(name)}: expected letters, digits, '_', '-' and '.' alone, a letter first")
    return name


def check_interpolations(tree: Any, where: str = "") -> None:
    """Refuse values that call something (`${oc.env:HOME}`, `${now:%Y}`): a value may only refer to another one.

    What a resolver returns may be a secret of the environment, or another value on every run. tree: unresolved.
    Raises UserError naming the key.
    """
    if isinstance(tree, Mapping):
        for key, part in tree.items():
            check_interpolations(key, where)
            check_interpolations(part, f"{where}.{key}" if where else str(key))
    elif isinstance(tree, (list, tuple)):
        for number, part in enumerate(tree):
            check_interpolations(part, f"{where}.{number}")
    elif isinstance(tree, str) and (found := CALL.search(tree)):
        raise UserError(f"{where}: {_short(tree)}: {found[0]}…}} calls a resolver, which no value may do")


def _short(found: object) -> str:
    """A value as one line of bounded length: what a stranger's file holds may be anything."""
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:77]}..."
