"""YAML from anywhere: plain values, or one line that says what is wrong."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from seqlab.artifacts import LONGEST_TEXT, check_file
from seqlab.errors import UserError

DEEPEST = 100
"""Levels of nesting."""
CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
"""Plain scalars that are no text (YAML 1.2.2, section 10.3.2): a pattern, and the letters that it may begin with."""
MERGE_MARKS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


@cache
def _loader() -> Any:
    """Libyaml's safe loader where it is there, with what YAML 1.2 takes for other than text.

    DVC writes 1e-07 for a number, and `no` and 12:30 for texts; to YAML 1.1, which libyaml's loader follows, they are a
    text, a truth value and a number.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    for tag, (pattern, first) in CORE.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), first)
    return Loader


def parsed(text: str) -> Any:
    """Plain values of YAML that this project, Hydra or DVC wrote. Raises yaml.YAMLError."""
    import yaml

    return yaml.load(text, Loader=_loader())


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file: no tags that build objects, and no aliases that multiply.

    Raises UserError naming the line when the file is missing, is not YAML or holds the marks of a merge; and when its
    values are more, or deeper, than the file is worth.
    """
    import yaml

    check_file(path, LONGEST_TEXT)
    loader = _loader()
    try:
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith(MERGE_MARKS):
                raise UserError(f"{path}, line {number}: {line.split()[0]} of an unfinished merge; choose one side")
        if not _shallow(text, loader):  # libyaml descends without a look at the stack, which ends the process
            raise UserError(f"{path}: not YAML that can be read: it is nested more than {DEEPEST} deep")
        found = parsed(text)
    except ValueError as error:  # of UTF-8, or of a date
        raise UserError(f"{path}: not YAML: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    # An alias is one object at many places: whoever walks the tree meets it as often as it is named.
    waiting, met = [found], 0
    while waiting:
        part = waiting.pop()
        waiting += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        met += 1
        if met > len(text):
            raise UserError(f"{path}: its aliases stand for more values than the file has letters")
    return found


def _shallow(text: str, loader: Any) -> bool:
    """Whether YAML is nested at most DEEPEST deep: seen from its signs where they are few, else from its events."""
    import yaml

    signs = (
        text.count("[") + text.count("{") + max((len(s) - len(s.lstrip(" -?")) for s in text.splitlines()), default=0)
    )
    if signs <= DEEPEST:
        return True
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            return False
    return True
