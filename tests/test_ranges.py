"""Every number of conf/ has a range: one outside it is refused in a line that names its key, before torch is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from annotated_types import Len
from pydantic import BaseModel

from seqlab import config, schema, settings
from seqlab.cli.composing import compose
from seqlab.diagnostics.settings import Diagnostics
from seqlab.errors import UserError
from seqlab.evaluation.settings import PairEvaluation, SequenceEvaluation
from seqlab.execution import Execution

ROOT = Path(__file__).resolve().parent.parent
Key = tuple[str | int, ...]


def files(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def suite(tree: dict[str, Any]) -> None:
    found = schema.check(config.Suite, tree, "suite")
    for i, part in enumerate(found.parts):
        schema.check(config.Part, part, f"suite.parts.{i}")


CHECKS: dict[str, Callable[[dict[str, Any]], object]] = {
    "family": lambda tree: config.family("one", tree),
    "domain": lambda tree: config.domain("one", tree),
    "strategy": config.strategy,
    "objective": config.objective,
    "trainer": config.trainer,
    "execution": config.execution,
    "tracking": config.tracking,
    "suite": suite,
    "diagnostics": lambda tree: schema.check(Diagnostics, tree, "diagnostics"),
}
SHIPPED = [(group, name) for group in CHECKS for name in files(group)]


@cache
def shipped(group: str, name: str) -> dict[str, Any]:
    """One yaml of conf/, composed where it is built on others."""
    tree: dict[str, Any] = yaml.safe_load((ROOT / f"conf/{group}/{name}.yaml").read_text(encoding="utf-8"))
    if group == "suite":
        tree = compose("config", [f"suite={name}"])["suite"]
    elif "defaults" in tree:
        tree = compose("cell", ["family=rnn", "domain=strings", f"{group}={name}"])[group]
    return tree


def leaves(tree: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every value of a section that is a number, or none where there might be one."""
    if isinstance(tree, dict | list):
        for name, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(part, (*key, name))
    elif tree is None or (isinstance(tree, int | float) and not isinstance(tree, bool)):
        yield key, tree


def replaced(tree: dict[str, Any], key: Key, value: Any) -> dict[str, Any]:
    found = deepcopy(tree)
    node: Any = found
    for part in key[:-1]:
        node = node[part]
    node[key[-1]] = value
    return found


@pytest.mark.parametrize(("group", "name"), SHIPPED, ids=[f"{group}-{name}" for group, name in SHIPPED])
def test_no_number_may_be_negative(group: str, name: str) -> None:
    check, tree = CHECKS[group], shipped(group, name)
    check(tree)
    for key, value in leaves(tree):
        with pytest.raises(UserError) as refused:
            check(replaced(tree, key, -1.0 if isinstance(value, float) else -1))
        assert str(refused.value).startswith(".".join(map(str, (group, *key))) + ": ")
        assert "\n" not in str(refused.value)
        # Neither is infinity a number of anything.
        with pytest.raises(UserError):
            check(replaced(tree, key, float("inf")))


# What has a range, by what it is said with.


def unbounded(kind: Any, bounded: bool = False) -> Iterator[Any]:
    """The numbers of an annotation that nothing bounds."""
    if kind in (int, float) and not bounded:
        yield kind
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for field in kind.model_fields.values():
            yield from unbounded(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
    first, *rest = get_args(kind) or (None,)
    if get_origin(kind) is Annotated:
        yield from unbounded(first, any(type(one).__name__ in ("Ge", "Gt") for one in rest))
    elif first is not None and kind is not Any:
        for part in (first, *rest):
            yield from unbounded(part)


def test_what_is_unbounded_is_seen() -> None:
    assert list(unbounded(dict[str, list[int] | None])) == [int]
    assert list(unbounded(Annotated[list[float], Len(1)])) == [float]
    assert not list(unbounded(settings.CountList | None))


TARGETS = sorted(
    {shipped("family", name)["_target_"] for name in files("family")}
    | {shipped("domain", name)["prepare"]["_target_"] for name in files("domain")}
    | {"seqlab.data.domains.labelled.Labelled"}
)


@pytest.mark.parametrize("target", TARGETS)
def test_every_number_of_a_constructor_has_a_range(target: str) -> None:
    assert not list(unbounded(schema.signature(target, "")))


@pytest.mark.parametrize(
    "kind",
    [
        config.Suite, config.Part, Execution, settings.Budget, settings.SourceBudget, settings.TaskBudget,
        settings.Noise, settings.Optimizer, settings.Hiding, settings.Slanted, settings.Adapters, settings.Decoding,
        settings.Distillation, settings.PseudoLabels, settings.Strategy, settings.TrainerSettings,
        SequenceEvaluation, PairEvaluation, Diagnostics,
    ],
)  # fmt: skip
def test_every_number_of_a_section_has_a_range(kind: type[Any]) -> None:
    for name, hint in get_type_hints(kind, include_extras=True).items():
        assert not list(unbounded(hint)), name


# What one value asks of another.

WRONG: list[tuple[str, str, Key, Any, str]] = [
    ("domain", "series", ("evaluate", "horizons"), [0, 16], "domain.evaluate.horizons.0: "),
    ("domain", "series", ("evaluate", "horizons"), [16, 1], "domain.evaluate.horizons: found [16, 1], expected rising"),
    ("domain", "series", ("evaluate", "horizons"), [16, 16], "domain.evaluate.horizons: found [16, 16], expected ris"),
    ("domain", "series", ("evaluate", "horizons"), [1, 16, 89], "found 89 steps ahead, expected at most 88"),
    ("domain", "series", ("prepare", "test_steps"), 24, "found 64 steps ahead, expected at most 24"),
    ("domain", "stocks", ("evaluate", "horizons"), [16, 65], "found 65 steps ahead, expected at most 64"),
    (
        "domain",
        "motion",
        ("evaluate", "horizons"),
        [16, 129],
        "at most 128, which is what is scored of a held-out sequ",
    ),
    ("domain", "motion", ("prepare", "context"), 256, "domain.prepare.context: found 256, expected less than window"),
    ("domain", "series", ("evaluate", "horizons"), [1, 4], "domain.evaluate.headline.forecast: mase@16 is of none of"),
    ("domain", "series", ("evaluate", "samples"), 0, "domain.evaluate.samples: found 0, expected at least 1 where"),
    ("domain", "series", ("evaluate", "origins"), 0, "domain.evaluate.origins: found 0, expected at least 1 where"),
    ("domain", "series", ("evaluate", "period"), 0, "domain.evaluate.period: "),
    ("domain", "strings", ("prepare", "valid"), 1.0, "domain.prepare.valid: "),
    ("domain", "strings", ("prepare", "max_length"), 0, "domain.prepare.max_length: "),
    ("domain", "stocks", ("prepare", "target", "prise"), "x", "target.prise: unknown key; did you mean 'price'?"),
    ("domain", "motion", ("prepare", "source", "train"), 0, "domain.prepare.source.train: "),
    ("domain", "speech_recordings", ("prepare", "recordings", "ratr"), 1, "recordings.ratr: unknown key; did you mean"),
    ("domain", "speech_recordings", ("prepare", "recordings", "valid"), 1, "domain.prepare.recordings.valid: "),
    ("family", "lstm", ("truncation",), 0, "family.truncation: "),
    ("family", "lstm", ("dropout",), 1.0, "family.dropout: "),
    ("family", "ar", ("lags",), [], "family.lags: "),
    ("family", "markov", ("prior_weights",), [0.0, 1.5], "family.prior_weights.1: "),
    ("family", "local_ar", ("order",), 0, "family.order: "),
    ("family", "local_ar", ("differences",), [], "family.differences: "),
    ("family", "gbdt", ("ways",), [], "family.ways: "),
    ("family", "gbdt", ("windows",), [2, 25], "family.windows.0: "),
    ("family", "gbdt", ("leaves",), 1, "family.leaves: "),
    ("family", "nlinear", ("windows",), [2, 25], "family.windows.0: "),
    ("family", "nlinear", ("penalties",), [0.0], "family.penalties.0: "),
    ("family", "mixture", ("members",), ["ar"], "family.members: "),
    ("family", "mixture", ("bins",), [0], "family.bins.0: "),
    ("family", "tfidf", ("words",), [1], "family.words: "),
    ("suite", "default", ("seeds",), [], "suite.seeds: "),
    ("suite", "default", ("fractions",), [0.0], "suite.fractions.0: "),
    ("suite", "default", ("steps",), 0.0, "suite.steps: "),
    ("trainer", "cpu", ("devices",), 0, "trainer.devices: "),
    ("strategy", "student", ("sizes", "hidden_size"), 0.0, "strategy.sizes.hidden_size: "),
]


@pytest.mark.parametrize(("group", "name", "key", "value", "said"), WRONG)
def test_a_value_that_cannot_be_meant_is_refused(group: str, name: str, key: Key, value: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        CHECKS[group](replaced(shipped(group, name), key, value))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_horizons_nothing_is_asked_of_forecasts() -> None:
    tree = shipped("domain", "series")
    config.domain("one", tree | {"evaluate": tree["evaluate"] | {"horizons": [], "origins": 0, "samples": 0}})


def test_a_range_is_held_before_torch_is_there() -> None:
    script = (
        "import sys, yaml; from seqlab import config\n"
        "tree = yaml.safe_load(open('conf/family/gru.yaml'))\n"
        "try: config.family('gru', tree | {'hidden_size': -4})\n"
        "except Exception as error: print(error)\n"
        "print(sorted({'torch', 'numba', 'lightning'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    refused, heavy = said.splitlines()
    assert refused == "family.hidden_size: input should be greater than or equal to 1, found -4"
    assert heavy == "[]"
