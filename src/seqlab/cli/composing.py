"""The one place that composes conf/ by Hydra: an override typed in a shell becomes a checked tree, or one line."""

from __future__ import annotations

import itertools
import re
import warnings
from typing import Any

from seqlab import schema
from seqlab.cli.places import ROOT
from seqlab.errors import UserError
from seqlab.naming import check_interpolations


def compose(name: str, overrides: list[str]) -> dict[str, Any]:
    """conf/NAME.yaml with overrides, resolved. Raises UserError naming the key that is wrong."""
    return composed(name, overrides)[0]


def own_suite(domain: str) -> list[str]:
    """Overrides that put a domain of one's own into the suite that compares it, in a workspace of its name."""
    return ["suite=own", f"+domain@domains.{domain}={domain}", f"suite.name={domain}"]


def composed(name: str, overrides: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """As `compose`, and which yaml each group was given."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException
    from yaml import MarkedYAMLError

    parsed(overrides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Hydra's notes on version_base are for its own developers
        try:
            with initialize_config_dir(str(ROOT / "conf"), version_base=None):
                found = hydra_compose(name, overrides, return_hydra_config=True)
            choices = dict(found.hydra.runtime.choices)
            with open_dict(found):
                del found.hydra
            check_interpolations(OmegaConf.to_container(found, resolve=False))
            OmegaConf.resolve(found)
            tree: Any = OmegaConf.to_container(found, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explained(error, name, overrides)) from None
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = "conf/" if mark is None else f"{mark.name}, line {mark.line + 1}"
            raise UserError(f"{where}: not YAML: {error.problem or error.context}") from None
    return tree, choices


def parsed(overrides: list[str]) -> list[Any]:
    """Hydra's own reading of override words. Raises UserError naming the word that is none."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    found = []
    for word in overrides:
        try:
            found += OverridesParser.create().parse_overrides([word])
        except HydraException:
            raise UserError(
                f"override {word!r}: not understood; expected KEY=VALUE, with quotes around a value that holds quotes, "
                """commas, braces or line ends: "KEY='VALUE'" """
            ) from None
    return found


def alternatives(overrides: list[str]) -> list[list[str]]:
    """Override lists that together hold every value of every sweep (`family=rnn,ar`), each sweep varied alone."""
    found = parsed(overrides)
    values = [
        list(o.sweep_string_iterator()) if o.is_discrete_sweep() else [None] if o.is_sweep_override() else [word]
        for o, word in zip(found, overrides, strict=True)
    ]
    options = [
        [f"{o.input_line.split('=')[0]}={v}" if o.is_discrete_sweep() else v for v in choices]
        for o, choices in zip(found, values, strict=True)
    ]
    first = [choices[0] for choices in options]
    lists = [first] + [[*first[:i], v, *first[i + 1 :]] for i, choices in enumerate(options) for v in choices[1:]]
    return [[word for word in words if word and not word.lstrip("+~").startswith("hydra")] for words in lists]


def combinations(overrides: list[str]) -> list[tuple[tuple[str, ...], dict[str, str]]]:
    """Every choice of one value of each sweep: its override words, and of the swept keys the values.

    Raises UserError for a sweep whose values cannot be counted.
    """
    from hydra.core.override_parser.types import Glob

    words = parsed(overrides)
    several = [word for word in words if word.is_sweep_override()]
    for word in several:
        if word.is_interval_sweep() or isinstance(word.value(), Glob):
            raise UserError(f"{word.input_line}: expected values, choice(…) or range(…), which can be counted")
    keys = [word.get_key_element() for word in several]
    options = [
        [f"{word.get_key_element()}={value}" for value in word.sweep_string_iterator()]
        if word in several
        else [word.input_line]
        for word in words
    ]
    values = [(chosen, dict(word.partition("=")[::2] for word in chosen)) for chosen in itertools.product(*options)]
    return [(chosen, {key: named[key] for key in keys}) for chosen, named in values]


def explained(error: Exception, name: str, overrides: list[str]) -> str:
    """Hydra's message in one line, in words of this project: which override or key, and what there is instead."""
    text = str(error)
    keys = [re.split(r"[=@]", word.lstrip("+~"))[0] for word in overrides]
    if match := re.search(r"Key '([^']+)' is not in struct\s+full_key: (\S+)", f"{text}\n{error.__cause__ or ''}"):
        return unknown_key(match[2], name, overrides)
    if match := re.search(r"Could not override '([^']+)'|Could not append to config.*?'([^']+)'", text):
        return unknown_key(match[1] or match[2], name, overrides)
    if match := re.search(r"Could not find '([^']+)'", text):
        group, _, choice = match[1].rpartition("/")
        known = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
        near = f"; did you mean {meant!r}?" if (meant := schema.close(choice, known)) else ""
        return f"{group} {choice!r}: there is none{near}; there are {', '.join(known)}"
    if match := re.search(r"You must specify '([^']+)'", text):
        known = sorted(path.stem for path in (ROOT / "conf" / match[1]).glob("*.yaml"))
        return f"{match[1]}: missing; {match[1]}=NAME with one of {', '.join(known)}"
    if "Ambiguous value" in text or "multirun" in text:
        return f"{' '.join(text.split())} (several values need -m)"
    kept = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(HYDRAS_OWN)]
    return f"{' '.join(kept)} (overrides: {' '.join(keys)})" if keys and not kept else " ".join(kept)


HYDRAS_OWN = ("    object_type", "    reference_type", "Set the environment", "To append")


def unknown_key(key: str, name: str, overrides: list[str]) -> str:
    """One line that names a key that conf/ does not have, and the nearest that it has."""
    from seqlab.cli.trees import flat

    kept = [word for word in overrides if re.split(r"[=@]", word.lstrip("+~"))[0] != key]
    try:
        known = list(flat(compose(name, kept))) if kept != overrides else []
    except UserError:
        known = []
    group = key.rpartition(".")[0]
    known += sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir() and not group)
    siblings = [other for other in known if other.rpartition(".")[0] == group]
    return f"{key}: unknown key{schema.hint(key, known if schema.close(key, known) else siblings)}"
