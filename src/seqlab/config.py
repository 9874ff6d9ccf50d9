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
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from seqlab.data.archive import Archive
from seqlab.errors import UserError
from seqlab.tracking import Tracking
from seqlab.training.settings import (
    Decoding,
    Objective,
    Optimizer,
    Register,
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
    positions: int | None  # of each training and validation set, about; None: all of them
    examples: int | None
    replicates: int
    fractions: list[float]  # of the target's training examples, nested; 1.0 is all of them
    parts: list[dict[str, Any]]  # each a Part, where not everything is crossed with everything; empty: all of it


@dataclass(frozen=True)
class Part:
    """Some of a suite's domains, families and strategies, crossed, at fractions of their own."""

    domains: list[str]
    families: list[str]
    strategies: list[str]
    fractions: list[float]


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
    registers: dict[str, Register]  # that each test set is ordered in
    headline: dict[str, str]  # the metric that ranks each test set


@dataclass(frozen=True)
class Diagnostics:
    """How far families remember: gradient norms by lag, and tasks of memory at growing horizons."""

    families: list[str]
    hidden_size: int
    lags: int  # steps back of the gradient norms
    truncation: int  # of truncated back-propagation, in steps
    batch: int
    horizons: list[int]  # steps
    steps: int  # most steps of a training
    learning_rate: float
    clip: float
    solved: float  # held-out loss, as a share of the least one without memory
    seed: int


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
        """The package under families/ that the family's module builds on."""
        return built_on(self.component.target)

    @property
    def translates(self) -> bool:
        return self.kit in TRANSLATING

    def states(self, name: str) -> tuple[str, ...]:
        """What the class itself says it can do, such as `adapts`: a tuple of names, empty where it says nothing."""
        return stated(self.component.target, name)

    def can_predict(self, objective: Objective) -> bool:
        """Whether it can be pretrained for that; a family that states nothing predicts the next position."""
        return objective.predicts in (self.states("objectives") or ("next",))

    def sized(self, factors: dict[str, float] | None) -> dict[str, Any]:
        """The constructor's parameters, those that `factors` names multiplied and rounded."""
        found = self.component.parameters
        return found | {key: max(1, round(found[key] * by)) for key, by in (factors or {}).items() if key in found}


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
    fraction: float = 1.0  # of the target's training examples

    def __str__(self) -> str:
        return f"{self.domain}-{self.family}-{self.arm}-s{self.seed}"

    @property
    def arm(self) -> str:
        return arm(self.strategy, self.fraction)

    @property
    def path(self) -> str:
        """Where its model and scores are, below models/ and scores/."""
        return f"{self.domain}/{self.family}/{self.arm}/{self.seed}"


def arm(strategy: str, fraction: float) -> str:
    """The name of a strategy on a share of the target; on all of it, the strategy's own."""
    return strategy if fraction == 1.0 else f"{strategy}-{fraction:g}"


def split_arm(name: str) -> tuple[str, float]:
    """The strategy and the fraction that `arm` joined. Raises UserError when the fraction is no number."""
    strategy, _, share = name.partition("-")
    try:
        return strategy, float(share or 1.0)
    except ValueError:
        raise UserError(f"strategy {name!r}: expected STRATEGY or STRATEGY-FRACTION") from None


@dataclass(frozen=True)
class Experiment:
    """Everything conf/ says, checked."""

    suite: Suite
    domains: dict[str, Domain]
    families: dict[str, Family]
    strategies: dict[str, Strategy]
    objective: Objective  # of all pretraining
    diagnostics: Diagnostics
    trainer: TrainerSettings
    tracking: Tracking

    def diagnosed(self) -> list[str]:
        """The families of the suite whose memory is measured."""
        return [name for name in self.diagnostics.families if name in self.families]

    def cells(self) -> list[Cell]:
        """Every cell of the suite that has a meaning."""
        return [cell for cell in self.asked() if self.not_applicable(cell) is None]

    def asked(self) -> list[Cell]:
        """Every cell that the suite names, each once."""
        everything = Part(list(self.domains), list(self.families), list(self.strategies), self.suite.fractions)
        parts = [_check(Part, part, "suite.parts") for part in self.suite.parts] or [everything]
        return list(
            dict.fromkeys(
                Cell(domain, family, strategy, seed, fraction)
                for domain in self.domains
                for part in parts
                for family in part.families
                for strategy in part.strategies
                for fraction in part.fractions
                for seed in self.suite.seeds
                if domain in part.domains
            )
        )

    def not_applicable(self, cell: Cell) -> str | None:
        """Why a cell has no meaning, or None: the one place that says so is the function of this name."""
        family, strategy = self.families[cell.family], self.strategies[cell.strategy]
        return not_applicable(self.domains[cell.domain], family, strategy, self.objective, cell.fraction)


def mismatch(domain: Domain, family: Family) -> str | None:
    """Why a family is not for a domain at all, or None."""
    if family.translates == domain.translates:
        return None
    return "the family translates, the domain has no pairs" if family.translates else "the family does not translate"


def not_applicable(
    domain: Domain, family: Family, strategy: Strategy, objective: Objective, fraction: float
) -> str | None:
    """Why a strategy has no meaning for a family on a share of a domain's target, or None."""
    if mismatched := mismatch(domain, family):
        return mismatched
    sizes = strategy.sizes or {}
    reasons = {
        "the family cannot be pretrained on hidden positions: it does not look both ways": strategy.init == "pretrained"
        and not family.translates
        and not family.can_predict(objective),
        "fitted in closed form: there are no steps, rates or layers, and `full` is its MAP estimate": strategy.stepped
        and family.fit == "closed_form",
        "the family names no linear maps (`adapts`) that a low-rank adapter could change": strategy.adapters is not None
        and not family.states("adapts"),
        f"the family has no size called {' or '.join(sizes)}": bool(sizes)
        and not set(sizes) & set(family.component.parameters),
        "the domain has no classes that a pseudo-label could name": strategy.pseudo_labels is not None
        and "classify" not in domain.finetune,
        "a translator has one matrix for input and output: no top layer to begin with": family.translates
        and strategy.grouped,
        "a domain of pairs has no next step on which order could be worth something": strategy.order == "shuffled"
        and domain.translates,
        "what is written by hand does not shrink with the data": family.fit == "rules" and fraction < 1,
        "every example of the target has its label already": strategy.pseudo_labels is not None and fraction == 1.0,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


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
    keys = ("suite", "domains", "families", "strategies", "objective", "diagnostics", "trainer", "tracking")
    only(tree, keys, "")
    found = Experiment(
        suite=_check(Suite, tree["suite"], "suite"),
        domains={name: domain(name, part, f"domains.{name}") for name, part in tree["domains"].items()},
        families={name: family(name, part, f"families.{name}") for name, part in tree["families"].items()},
        strategies={name: strategy(part, f"strategies.{name}") for name, part in tree["strategies"].items()},
        objective=objective(tree["objective"]),
        diagnostics=_check(Diagnostics, tree["diagnostics"], "diagnostics"),
        trainer=trainer(tree["trainer"]),
        tracking=_check(Tracking, tree["tracking"], "tracking"),
    )
    asked = dict.fromkeys(found.asked())
    if (most := found.suite.positions) is not None and most < 1:
        raise UserError(f"suite.positions: expected at least 1, or null for all, found {most}")
    for cell in asked:
        for group, name in (("domains", cell.domain), ("families", cell.family), ("strategies", cell.strategy)):
            if name not in (known := getattr(found, group)):
                raise UserError(f"suite.parts: {name!r} is not among the suite's {group}{_hint(name, known)}")
        if not 0 < cell.fraction <= 1:
            raise UserError(f"suite.fractions: expected fractions above 0 and up to 1, found {cell.fraction}")
        teacher = found.strategies[cell.strategy].teacher
        if teacher is not None and dataclasses.replace(cell, strategy=teacher) not in asked:
            raise UserError(f"strategies.{cell.strategy}.teacher: {teacher!r} is not in the suite beside {cell}")
    return found


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
        pretrain=_check(SourceBudget, tree["pretrain"], f"{where}.pretrain"),
        finetune={
            task: _check(TaskBudget, part, f"{where}.finetune.{task}") for task, part in tree["finetune"].items()
        },
        evaluate=_evaluation(tree["evaluate"], f"{where}.evaluate"),
    )


def _evaluation(tree: dict[str, Any], where: str) -> Evaluation | TranslationEvaluation:
    if "decoding" in tree:
        found = _check(TranslationEvaluation, tree, where)
        only(found.registers, tuple(found.headline), f"{where}.registers")
        return found
    return _check(Evaluation, tree, where)


def strategy(tree: dict[str, Any], where: str = "strategy") -> Strategy:
    """Check one strategy's section."""
    found = _check(Strategy, tree, where)
    if found.init not in ("scratch", "pretrained") and not found.init.endswith(".safetensors"):
        raise UserError(f"{where}.init: expected scratch, pretrained or a .safetensors file, found {found.init!r}")
    if found.distillation is not None and found.teacher is None:
        raise UserError(f"{where}.teacher: missing; soft targets need the strategy whose model gives them")
    if found.order == "shuffled" and found.init != "scratch":
        raise UserError(f"{where}.init: expected scratch where the order is shuffled, found {found.init!r}")
    return found


def objective(tree: dict[str, Any]) -> Objective:
    """Check the section of what pretraining predicts."""
    found = _check(Objective, tree, "objective")
    if (found.predicts == "hidden") != (found.hidden is not None):
        raise UserError("objective.hidden: expected its share and span where `predicts` is hidden, and only there")
    return found


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


@cache
def built_on(target: str) -> str:
    """The package under families/ that a family's module imports, read without importing it; "" where it has none."""
    path = _source(target.rpartition(".")[0])
    assert path is not None  # or the section would not have been checked
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = [n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)]
    names = (module.split(".")[2] for module in modules if module.startswith("seqlab.families."))
    packages = Path(__file__).parent / "families"
    return next((name for name in names if (packages / name).is_dir()), "")


@cache
def stated(target: str, name: str) -> tuple[str, ...]:
    """The tuple of names that a class assigns to its attribute `name`, read without importing its module."""
    module, _, called = target.rpartition(".")
    path = _source(module)
    body = ast.parse(path.read_text(encoding="utf-8")).body if path else []
    for node in (n for c in body if isinstance(c, ast.ClassDef) and c.name == called for n in c.body):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    return ()


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
    """`tree` as the frozen dataclass `kind`; a field that is a dataclass, or none, is a section of its own."""
    model, sections = _section(kind)  # type: ignore[arg-type]
    found = _validate(model, tree, where)
    for name, part in sections.items():
        if found[name] is not None:
            found[name] = _check(part, found[name], f"{where}.{name}")
    return kind(**found)


@cache
def _section(kind: type[Any]) -> tuple[type[BaseModel], dict[str, type[Any]]]:
    """What the fields of a dataclass must be, and those that are sections of their own."""
    hints = get_type_hints(kind)
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
