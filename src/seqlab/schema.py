"""Sections of the configuration checked against the types that code declares, without importing that code.

A dataclass says what a section holds. A section with a `_target_` is held against the signature of the constructor that
it names, read from the source file: so a wrong key fails in milliseconds, before torch is imported, and the constructor
stays the only list of its parameters. A class that has no constructor of its own takes its base's. A parameter that is
a mapping is a section of its own where its annotation is a TypedDict.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
from collections.abc import Iterable, Iterator
from dataclasses import MISSING
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_type_hints

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from seqlab.errors import UserError
from seqlab.naming import checked_target
from seqlab.settings import Component

T = TypeVar("T")
ROOT = Path(__file__).parent
ALLOWED = "seqlab."
COMPONENTS = ("seqlab.families", "seqlab.data.domains")  # no other class is named by configuration
ANNOTATIONS: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, bool, str, list, dict, tuple)},
    **{name: getattr(annotated_types, name) for name in ("Ge", "Gt", "Le", "Len", "Lt")},
    "Literal": Literal,
    "Annotated": Annotated,
    "Any": Any,
    "inf": float("inf"),
}


def check(kind: type[T], tree: Any, where: str) -> T:
    """`tree` as the frozen dataclass `kind`; a field that is a dataclass, or none, is a section of its own."""
    model, sections = _section(cast(Any, kind))
    found = _validate(model, tree, where)
    for name, part in sections.items():
        if found[name] is not None:
            found[name] = check(part, found[name], f"{where}.{name}")
    return kind(**found)


def component(tree: dict[str, Any], where: str, also: tuple[str, ...] = ()) -> Component:
    """Check a section with a `_target_` against the constructor it names. also: keys that are checked elsewhere."""
    target = tree.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{where}._target_: expected the dotted name of a class, found {target!r}")
    checked_target(target, f"{where}._target_", COMPONENTS)
    parameters = {key: value for key, value in tree.items() if key != "_target_"}
    _validate(signature(target, where), parameters, where, also)
    return Component(target, parameters)


def only(tree: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Exactly these keys."""
    prefix = f"{where}." if where else ""
    for key in tree:
        if key not in keys:
            raise UserError(f"{prefix}{key}: unknown key{hint(key, keys)}")
    for key in keys:
        if key not in tree:
            raise UserError(f"{prefix}{key}: missing")


def value(kind: Any, found: Any, where: str) -> Any:
    """A single value of a type."""
    return _validate(_closed("value", {"value": (kind, ...)}), {"value": found}, where, single=True)["value"]


def hint(found: str, known: Iterable[Any]) -> str:
    """What was probably meant, or what there is."""
    names = sorted(map(str, known))
    meant = close(found, names)
    return f"; did you mean {meant!r}?" if meant else f"; there are {', '.join(names)}" if names else ""


def close(found: str, known: Iterable[str]) -> str | None:
    """The known name that is nearest, if one is near."""
    return next(iter(difflib.get_close_matches(found, list(known), n=1)), None)


# What classes say of themselves, read from their source.


@dataclasses.dataclass(frozen=True)
class Definition:
    """A class as it stands in a file."""

    name: str
    node: ast.ClassDef
    file: Path
    tree: ast.Module


@cache
def definition(target: str, where: str) -> Definition:
    """The class that a dotted name stands for. Raises UserError when there is none."""
    module, _, name = target.rpartition(".")
    path = source(module)
    if path is None:
        raise UserError(f"{where}._target_: no module {module!r}")
    found = _find(name, path)
    if found is None:
        classes = [node.name for node in parsed(path).body if isinstance(node, ast.ClassDef)]
        raise UserError(f"{where}._target_: {path.name} has no class {name!r}{hint(name, classes)}")
    return found


@cache
def lineage(target: str, where: str = "") -> tuple[Definition, ...]:
    """A class and those that it is built on, nearest first, as far as seqlab defines them."""
    first = definition(target, where)
    waiting, found = [first], []
    while waiting:
        found.append(one := waiting.pop(0))
        bases = (_find(base.id, one.file) for base in one.node.bases if isinstance(base, ast.Name))
        waiting += [base for base in bases if base is not None and base not in found]
    return tuple(found)


@cache
def stated(target: str, name: str) -> Any:
    """The literal that a class, or the nearest that it is built on, assigns to `name`. None where nobody does."""
    for one in lineage(target):
        for node in one.node.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                assigned = cast(ast.Assign | ast.AnnAssign, node).value
                return None if assigned is None else ast.literal_eval(assigned)
    return None


@cache
def signature(target: str, where: str) -> type[BaseModel]:
    """The keyword-only parameters of a class's constructor as a closed section."""
    definition(target, where)
    for one in lineage(target, where):
        constructor = next((n for n in one.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if constructor is not None:
            break
    else:
        return _closed(target, {})
    fields: dict[str, Any] = {}
    for argument in constructor.args.kwonlyargs:
        if argument.annotation is None:
            raise TypeError(f"{target}: parameter {argument.arg!r} has no annotation")
        fields[argument.arg] = (_annotation(argument.annotation, one.tree), ...)
    return _closed(one.name, fields)


def source(module: str) -> Path | None:
    """The file of a module under seqlab, found without importing the packages above it."""
    path = ROOT.joinpath(*module.split(".")[1:])
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _find(name: str, path: Path) -> Definition | None:
    """The class that `name` is in a file, or in the file from which that one imports it."""
    tree = parsed(path)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Definition(name, node, path, tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(ALLOWED):
            for alias in node.names:
                if (alias.asname or alias.name) == name and (other := source(node.module or "")) is not None:
                    return _find(alias.name, other)
    return None


def _annotation(node: ast.expr, tree: ast.Module) -> Any:
    """The type an annotation stands for; a name may be an alias in its module or in one of seqlab's it imports."""
    names: dict[str, Any] = dict(ANNOTATIONS)
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id not in names:
            names[part.id] = _alias(part.id, tree)
    return eval(ast.unparse(node), {"__builtins__": {}}, names)


def _alias(name: str, tree: ast.Module) -> Any:
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == name for t in statement.targets
        ):
            return _annotation(statement.value, tree)
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return _closed(name, {key: (_annotation(kind, tree), ...) for key, kind in _declared(statement)})
        if isinstance(statement, ast.ImportFrom) and any((a.asname or a.name) == name for a in statement.names):
            path = source(statement.module or "")
            if path is not None:
                return _alias(name, parsed(path))
    raise TypeError(f"annotation {name!r}: neither built in, nor an alias or a TypedDict that seqlab defines")


def _declared(node: ast.ClassDef) -> list[tuple[str, ast.expr]]:
    """The keys of a TypedDict, and their annotations."""
    if [ast.unparse(base) for base in node.bases] != ["TypedDict"]:
        raise TypeError(f"annotation {node.name!r}: of classes, a TypedDict alone can be read from its source")
    return [(ast.unparse(part.target), part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)]


@cache
def _section(kind: type[Any]) -> tuple[type[BaseModel], dict[str, type[Any]]]:
    """What the fields of a dataclass must be, and those that are sections of their own."""
    hints = get_type_hints(kind, include_extras=True)
    sections: dict[str, type[Any]] = {
        name: part
        for name, hint in hints.items()
        for part in (hint, *get_args(hint))
        if isinstance(part, type) and dataclasses.is_dataclass(part)
    }
    fields = {
        f.name: (Any if f.name in sections else hints[f.name], ... if f.default is MISSING else f.default)
        for f in dataclasses.fields(kind)
    }
    return _closed(kind.__name__, fields), sections


def _closed(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    """A section without unknown keys and without silent conversion of types."""
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False), **fields)


def _validate(
    model: type[BaseModel], tree: Any, where: str, also: tuple[str, ...] = (), single: bool = False
) -> dict[str, Any]:
    """The values of a section; the first error becomes one line that names the full key and what was meant."""
    try:
        checked = model.model_validate(tree)
    except ValidationError as error:
        # A misspelled key is both unknown and missing: the unknown one says what was typed.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        # Branches of a union, which pydantic names too, are no keys.
        parts = [str(part) for part in first["loc"] if not (isinstance(part, str) and part in BRANCHES)]
        key = ".".join([where, *(parts[1:] if single else parts)])
        if first["type"] == "extra_forbidden":
            known = (*_at(model, first["loc"][:-1]).model_fields, *(also if len(first["loc"]) == 1 else ()))
            raise UserError(f"{key}: unknown key{hint(str(first['loc'][-1]), known)}") from None
        if first["type"] == "missing":
            raise UserError(f"{key}: missing") from None
        raise UserError(f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, found {first['input']!r}") from None
    return checked.model_dump()


def _at(model: type[BaseModel], keys: tuple[int | str, ...]) -> type[BaseModel]:
    """The section that these keys, of which some may be places in a list, lead to."""
    for key in keys:
        if (field := model.model_fields.get(str(key))) is not None:
            model = next(_models(field.annotation))
    return model


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """Those of an annotation, at any depth."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from _models(part)


BRANCHES = ("int", "float", "str", "bool", "none", "constrained-int", "constrained-float")
