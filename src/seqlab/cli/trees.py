"""Nested configuration as a flat list of keys, and what differs between two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a nested configuration by dotted key."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        k: v for key, part in tree.items() for k, v in flat(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def at(tree: Any, key: str) -> Any:
    """The value at a dotted key; ABSENT where there is none."""
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return ABSENT
        tree = tree[part]
    return tree


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, each with both; ABSENT where one side has no such key."""
    old, new = flat(before), flat(after)
    keys = (*old, *(key for key in new if key not in old))
    return {
        key: (old.get(key, ABSENT), new.get(key, ABSENT))
        for key in keys
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    }


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """What differs between two trees, a line each for people; a part that only one of them has is one line."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            below = f"{key}.{name}" if key else str(name)
            yield from differences(old.get(name, ABSENT), new.get(name, ABSENT), below)
    elif isinstance(old, list) and isinstance(new, list) and not any(isinstance(one, dict) for one in (*old, *new)):
        joined, left = [one for one in new if one not in old], [one for one in old if one not in new]
        parts = [f"{verb} {short(part)}" for verb, part in (("adds", joined), ("drops", left)) if part]
        yield f"{key}: {', '.join(parts) or 'in another order'}"
    else:
        yield f"{key}: {short(old)} → {short(new)}"


LONGEST = 60  # characters of a value that are shown


def short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def merged(tree: dict[str, Any], changed: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """A copy of the tree with the second values of `changed`; an ABSENT one takes the key away."""
    found: dict[str, Any] = _copied(tree)
    for key, (_, value) in changed.items():
        *parents, last = key.split(".")
        node = found
        for parent in parents:
            if not isinstance(node.get(parent), dict):
                node[parent] = {}
            node = node[parent]
        if value is ABSENT:
            node.pop(last, None)
        else:
            node[last] = value
    return found


def _copied(tree: Any) -> Any:
    return {key: _copied(part) for key, part in tree.items()} if isinstance(tree, dict) else tree


class Absent:
    """No value."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = Absent()
