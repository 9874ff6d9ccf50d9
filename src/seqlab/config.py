"""The configuration as typed objects, checked without importing torch.

conf/ owns every value; this module owns their types. A family's or domain's own keys are checked against the signature
of the constructor that its `_target_` names, read from the source file, so that a wrong key fails in milliseconds and
the constructor stays the only place that lists its parameters.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
from dataclasses import MISSING, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from seqlab.data.archive import Archive
from seqlab.errors import UserError
from seqlab.tracking import Tracking
from seqlab.training.settings import (
    Decoding,
    Noise,
    Optimizer,
    SourceBudget,
    Strategy,
    TaskBudget,
    TrainerSettings,
)

T = TypeVar("T")
ALLOWED = "seqlab."  # a `_target_` outside this package is refused before anything is imported
TRANSLATING = ("seq2seq", "rules")  # kits of the families that translate
ANNOTATIONS = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "dict": dict, "Literal": Literal}


@dataclass(frozen=True)
class Suite:
    """Which seeds a repro covers, and on what budget."""

    name: str
    seeds: list[int]
    steps: float
    examples: int | None
    replicates: int


@dataclass(frozen=True)
class Evaluation:
    """How a domain's next-step models are judged."""

    horizons: list[int]  # steps ahead; empty: no forecasts
    origins: int  # rolling origins a series
    samples: int  # sample paths an origin
    period: int  # declared seasonal period, in steps
    headline: dict[str, str]  # the metric that ranks each task


@dataclass(frozen=True)
class TranslationEvaluation:
    """How a domain's translations are made and judged."""

    decoding: Decoding  # of every neural system
    tokenize: Literal["char", "ko-mecab"]  # of BLEU
    samples: int  # sentences of each test set that the report shows
    headline: dict[str, str]  # the metric that ranks each test set


class Component:
    """A section with a `_target_`: the dotted name of a class under seqlab and its keyword-only parameters."""

    def __init__(self, target: str, parameters: dict[str, Any]):
        self.target, self.parameters = target, parameters

    @property
    def file(self) -> str:
        """The module's own name, which is that of its file."""
        return self.target.split(".")[-2]

    def build(self, *late: Any) -> Any:
        """Import the class and construct it with what only the run knows (`late`) and the configured parameters."""
        module, _, name = self.target.rpartition(".")
        return getattr(importlib.import_module(module), name)(*late, **self.parameters)


@dataclass(frozen=True)
class Family:
    """A model family as configured."""

    name: str
    component: Component
    optimizer: Optimizer | None  # None: fitted in closed form

    @property
    def fit(self) -> str:
        """The package under training/ that fits it."""
        return "gradient" if self.optimizer is not None else "rules" if self.kit == "rules" else "closed_form"

    @property
    def kit(self) -> str:
        """The package under families/ that the family's module builds on, read from its source."""
        path = _source(self.component.target.rpartition(".")[0])
        assert path is not None  # or the section would not have been checked
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)]
        kits = [m.split(".")[2] for m in modules if m.startswith("seqlab.families.") and m != "seqlab.families.base"]
        return kits[0] if kits else ""

    @property
    def translates(self) -> bool:
        return self.kit in TRANSLATING


@dataclass(frozen=True)
class Domain:
    """A domain as configured."""

    name: str
    title: str
    archives: dict[str, Archive]
    prepare: Component
    pretrain: SourceBudget
    finetune: dict[str, TaskBudget]  # by task
    evaluate: Evaluation | TranslationEvaluation

    @property
    def translates(self) -> bool:
        return isinstance(self.evaluate, TranslationEvaluation)


@dataclass(frozen=True)
class Cell:
    """The unit of the comparison."""

    domain: str
    family: str
    strategy: str
    seed: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.family}-{self.strategy}-s{self.seed}"


@dataclass(frozen=True)
class Experiment:
    """Everything conf/ says, checked."""

    suite: Suite
    domains: dict[str, Domain]
    families: dict[str, Family]
    strategies: dict[str, Strategy]
    trainer: TrainerSettings
    tracking: Tracking

    def cells(self) -> list[Cell]:
        """Every cell of the suite: translation families on pairs, the others on single sequences."""
        return [
            Cell(domain, family, strategy, seed)
            for domain in self.domains
            for family in self.of(domain)
            for strategy in self.strategies
            # What is written by hand does not shrink with the data.
            if self.families[family].fit != "rules" or self.strategies[strategy].share == 1
            for seed in self.suite.seeds
        ]

    def of(self, domain: str) -> list[str]:
        """The families that a domain is for."""
        wanted = self.domains[domain].translates
        return [name for name, family in self.families.items() if family.translates == wanted]


def read_params(path: Path) -> dict[str, Any]:
    """params.yaml as nested dictionaries. Raises UserError when it is missing or is not YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; python pipelines/compose.py writes it") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def experiment(tree: dict[str, Any]) -> Experiment:
    """Check a composed experiment. Raises UserError naming the first key that is wrong and what was expected."""
    keys = ("suite", "domains", "families", "strategies", "trainer", "tracking")
    only(tree, keys, "")
    return Experiment(
        suite=_check(Suite, tree["suite"], "suite"),
        domains={name: domain(name, part, f"domains.{name}") for name, part in tree["domains"].items()},
        families={name: family(name, part, f"families.{name}") for name, part in tree["families"].items()},
        strategies={name: strategy(part, f"strategies.{name}") for name, part in tree["strategies"].items()},
        trainer=trainer(tree["trainer"]),
        tracking=_check(Tracking, tree["tracking"], "tracking"),
    )


def family(name: str, tree: dict[str, Any], where: str = "family") -> Family:
    """Check one family's section."""
    rest = dict(tree)
    optimizer = rest.pop("optimizer", None)
    checked = None if optimizer is None else _check(Optimizer, optimizer, f"{where}.optimizer")
    return Family(name, component(rest, where, also=("optimizer",)), checked)


def domain(name: str, tree: dict[str, Any], where: str = "domain") -> Domain:
    """Check one domain's section."""
    only(tree, ("title", "archives", "prepare", "pretrain", "finetune", "evaluate"), where)
    return Domain(
        name=name,
        title=str(tree["title"]),
        archives={
            key: _check(Archive, {"name": key, **part}, f"{where}.archives.{key}")
            for key, part in tree["archives"].items()
        },
        prepare=component(tree["prepare"], f"{where}.prepare"),
        pretrain=_check(
            SourceBudget, _checked_part(Noise, tree["pretrain"], "noise", f"{where}.pretrain"), f"{where}.pretrain"
        ),
        finetune={
            task: _check(TaskBudget, part, f"{where}.finetune.{task}") for task, part in tree["finetune"].items()
        },
        evaluate=_evaluation(tree["evaluate"], f"{where}.evaluate"),
    )


def _evaluation(tree: dict[str, Any], where: str) -> Evaluation | TranslationEvaluation:
    if "decoding" not in tree:
        return _check(Evaluation, tree, where)
    return _check(TranslationEvaluation, _checked_part(Decoding, tree, "decoding", where), where)


def _checked_part(kind: type, tree: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    """The section with one of its own sections checked, where it has that."""
    return tree | {key: _check(kind, tree[key], f"{where}.{key}")} if key in tree else tree


def strategy(tree: dict[str, Any], where: str = "strategy") -> Strategy:
    """Check one strategy's section."""
    return _check(Strategy, tree, where)


def trainer(tree: dict[str, Any]) -> TrainerSettings:
    """Check the trainer's section."""
    return _check(TrainerSettings, tree, "trainer")


def tracking(tree: dict[str, Any]) -> Tracking:
    """Check the tracking section."""
    return _check(Tracking, tree, "tracking")


def component(tree: dict[str, Any], where: str, also: tuple[str, ...] = ()) -> Component:
    """Check a section with a `_target_` against the constructor it names."""
    target = tree.get("_target_")
    if not isinstance(target, str):
        raise UserError(f"{where}._target_: expected the dotted name of a class, found {target!r}")
    if not target.startswith(ALLOWED):
        raise UserError(f"{where}._target_: {target!r} is refused; expected a class under {ALLOWED[:-1]}")
    parameters = {key: value for key, value in tree.items() if key != "_target_"}
    _validate(signature(target, where), parameters, where, also)
    return Component(target, parameters)


@cache
def signature(target: str, where: str) -> type[BaseModel]:
    """The keyword-only parameters of a class's constructor as a closed section, read without importing its module."""
    module, _, name = target.rpartition(".")
    path = _source(module)
    if path is None:
        raise UserError(f"{where}._target_: no module {module!r}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        raise UserError(f"{where}._target_: {path.name} has no class {name!r}{_hint(name, classes)}")
    found = next((n for n in classes[name].body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    arguments = found.args.kwonlyargs if found else []
    fields: dict[str, Any] = {}
    for argument in arguments:
        if argument.annotation is None:
            raise TypeError(f"{target}: parameter {argument.arg!r} has no annotation")
        fields[argument.arg] = (_annotation(argument.annotation, tree), ...)
    return _closed(name, fields)


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
        if isinstance(statement, ast.ImportFrom) and any((a.asname or a.name) == name for a in statement.names):
            path = _source(statement.module or "")
            if path is not None:
                return _alias(name, ast.parse(path.read_text(encoding="utf-8")))
    raise TypeError(f"annotation {name!r}: neither built in nor an alias that seqlab defines")


def _source(module: str) -> Path | None:
    """The file of a module under seqlab, found without importing the packages above it."""
    root = Path(__file__).parent
    path = root.joinpath(*module.split(".")[1:])
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def _check(kind: type[T], tree: Any, where: str) -> T:
    """`tree` as the frozen dataclass `kind`."""
    hints = get_type_hints(kind)
    fields = {f.name: (hints[f.name], ... if f.default is MISSING else f.default) for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**_validate(_closed(kind.__name__, fields), tree, where))


def _closed(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    """A section without unknown keys and without silent conversion of types."""
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _validate(model: type[BaseModel], tree: Any, where: str, also: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a section; the first error becomes one line that names the full key and what was meant."""
    try:
        checked = model.model_validate(tree)
    except ValidationError as error:
        # A misspelled key is both unknown and missing: the unknown one says what was typed.
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        key = ".".join([where, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            raise UserError(f"{key}: unknown key{_hint(str(first['loc'][-1]), (*model.model_fields, *also))}") from None
        if first["type"] == "missing":
            raise UserError(f"{key}: missing") from None
        raise UserError(f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, found {first['input']!r}") from None
    return {name: getattr(checked, name) for name in model.model_fields}


def number(kind: type[T], value: Any, where: str) -> T:
    """A single value of a plain type."""
    return _validate(_closed("value", {"value": (kind, ...)}), {"value": value}, where)["value"]


def only(tree: dict[str, Any], keys: tuple[str, ...], where: str) -> None:
    """Exactly these keys."""
    prefix = f"{where}." if where else ""
    for key in tree:
        if key not in keys:
            raise UserError(f"{prefix}{key}: unknown key{_hint(key, keys)}")
    for key in keys:
        if key not in tree:
            raise UserError(f"{prefix}{key}: missing")


def _hint(found: str, known: Any) -> str:
    """What was probably meant, or what there is."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(found, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}" if names else ""
