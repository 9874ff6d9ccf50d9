"""Write a proposal down: conf/domain/NAME.yaml, with the reasons beside the values, and a card of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from seqlab.artifacts import write_json, write_text
from seqlab.errors import UserError
from seqlab.intake.proposal import Proposal

FLAT = 96  # characters of a mapping that stays on one line
BLOCKS = ("archives", "prepare", "finetune", "evaluate")
MARK = "# Proposed from a look at"


def write_domain(proposal: Proposal, conf_dir: Path, replace: bool = False) -> Path:
    """Write conf_dir/domain/NAME.yaml and return its path.

    Raises UserError when a file of that name is there that no look at data wrote, or that differs and may not be
    replaced: a person may have edited it.
    """
    path = conf_dir / "domain" / f"{proposal.name}.yaml"
    text = render(proposal)
    if path.exists():
        old = path.read_text(encoding="utf-8")
        if not old.startswith(MARK):
            raise UserError(f"{path}: a domain of this name is there; choose another name")
        if old != text and not replace:
            raise UserError(f"{path}: there, and different; --name gives another name, --replace writes over it")
    write_text(path, text)
    return path


def render(proposal: Proposal) -> str:
    """The file as YAML that says why."""
    reasons = {choice.key: choice.reason for choice in proposal.choices}
    head = f"{MARK} {_line(proposal.path.name)}. Edit it freely: every value can be changed."
    return "\n".join([head, *_lines(proposal.tree, reasons, "", 0)]) + "\n"


def _lines(tree: dict[str, Any], reasons: dict[str, str], prefix: str, depth: int) -> list[str]:
    """A mapping in block style, with comments; one without comments inside, on one line where it is short."""
    lines = []
    for key, value in tree.items():
        where = f"{prefix}{key}"
        label = "  " * depth + _scalar(key) + ":"
        reason = f" # {_line(reasons[where])}" if where in reasons else ""
        inside = any(name.startswith(f"{where}.") for name in reasons)
        flat = _flow(value)
        block = key in BLOCKS or prefix == "archives." or inside or (len(flat) > FLAT and not reason)
        if isinstance(value, dict) and value and block:
            lines += [label + reason, *_lines(value, reasons, f"{where}.", depth + 1)]
        else:
            lines.append(f"{label} {flat}{reason}")
    return lines


def _line(text: str) -> str:
    """On one line, whatever a file is called or says."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _flow(value: Any) -> str:
    return _dump(value, default_flow_style=True)


def _scalar(value: Any) -> str:
    return _dump(value)


def _dump(value: Any, **style: Any) -> str:
    text: str = yaml.dump(_literal(value), Dumper=_Plain, allow_unicode=True, sort_keys=False, width=10**9, **style)
    return text.removesuffix("\n").removesuffix("\n...")


class _Plain(yaml.SafeDumper):
    """Repeats what occurs twice, in place of anchors that a person must follow."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _literal(value: Any) -> Any:
    """Texts of the data as they are: `${` would be an interpolation of the configuration."""
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, dict):
        return {_literal(key): _literal(part) for key, part in value.items()}
    return [_literal(part) for part in value] if isinstance(value, (list, tuple)) else value


def write_card(proposal: Proposal, folder: Path) -> Path:
    """Write folder/NAME.md for people and folder/NAME.json for programs; return the first."""
    card, name = proposal.card, proposal.name
    choices = [{"key": one.key, "value": one.value, "reason": one.reason} for one in proposal.choices]
    facts = {"name": name, "title": proposal.title, "path": str(proposal.path), **card.facts}
    write_json(folder / f"{name}.json", {**facts, "warnings": card.warnings, "choices": choices})
    rows = [f"| {_cell(topic)} | {_cell(_words(value))} |" for topic, value in card.facts.items()]
    warnings = [f"- {_cell(warning)}" for warning in card.warnings] or ["None."]
    decided = [f"| `{one.key}` | {_cell(_words(one.value))} | {_cell(one.reason)} |" for one in proposal.choices]
    text = "\n".join(
        [f"# {name}", "", _cell(proposal.title), "", "| | |", "|:--|:--|", *rows, "", "## What to know", "", *warnings,
         "", "## What was decided", "", "| key | value | why |", "|:--|:--|:--|", *decided, ""]
    )  # fmt: skip
    path = folder / f"{name}.md"
    write_text(path, text)
    return path


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(part)}" for key, part in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value)) or "none"
    return "none" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
