"""Nested configuration as a flat list of keys, and what differs between two."""

from __future__ import annotations

from typing import Any


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a nested configuration by dotted key."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        k: v for key, part in tree.items() for k, v in flat(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, each with both; ABSENT where one side has no such key."""
    old, new = flat(before), flat(after)
    keys = (*old, *(key for key in new if key not in old))
    return {
        key: (old.get(key, ABSENT), new.get(key, ABSENT))
        for key in keys
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    }


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
