"""The experiment as typed objects: what conf/ says, checked without importing torch; its cells, and what has a meaning.

conf/ owns every value, `seqlab.settings` and the constructors own their types.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

from annotated_types import Len

from seqlab import schema
from seqlab.artifacts import read_json
from seqlab.cells import Cell
from seqlab.data.archive import Archive
from seqlab.data.beside import ROLES
from seqlab.diagnostics.settings import Diagnostics
from seqlab.errors import UserError
from seqlab.evaluation.settings import Comparing, Evaluation, PairEvaluation, SequenceEvaluation
from seqlab.execution import Execution, Tracking
from seqlab.naming import checked_name
from seqlab.settings import (
    Component,
    Count,
    Family,
    Fraction,
    Natural,
    Objective,
    Optimizer,
    Positive,
    SourceBudget,
    Strategy,
    TaskBudget,
    TrainerSettings,
    named,
)
from seqlab.yaml_files import read_yaml

FAMILIES = "seqlab.families."
RECIPES = "seqlab.data.domains."
# What a domain's kind of data is judged by, where it is not sequences.
EVALUATIONS: dict[str, type[Evaluation]] = {"pairs": PairEvaluation}


@dataclass(frozen=True)
class Suite:
    """Which seeds a repro covers, and on what budget."""

    name: str
    seeds: Annotated[list[Natural], Len(1)]
    steps: Positive
    positions: Count | None  # of each training and validation set, about; None: all of them
    examples: Count | None
    replicates: Count
    fractions: Annotated[list[Fraction], Len(1)]  # of the target's training examples, nested; 1.0 is all of them
    parts: list[dict[str, Any]]  # each a Part, where not everything is crossed with everything; empty: all of it
    retrained: list[str]  # families that the probe for leaks trains again, where they are not fitted by steps


@dataclass(frozen=True)
class Part:
    """Some of a suite's domains, families and strategies, crossed, at fractions of their own.

    seeds: None: the suite's.
    """

    domains: list[str]
    families: list[str]
    strategies: list[str]
    fractions: list[Fraction]
    seeds: list[Natural] | None = None


@dataclass(frozen=True)
class Domain:
    """A domain as configured. kind: of its sequences, as its recipe states. unfit: families that its data are too few
    for, and why, which are not compared there."""

    name: str
    title: str
    archives: dict[str, Archive]
    prepare: Component
    pretrain: SourceBudget | None  # None: it has no source
    finetune: dict[str, TaskBudget]  # by task
    evaluate: Evaluation
    kind: str
    unfit: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def pretraining(self) -> str | None:
        """The task on the source, where its kind of data and not the objective says what that is."""
        found: str | None = schema.stated(self.prepare.target, "pretraining")
        return found


@dataclass(frozen=True)
class Trainer(TrainerSettings):
    """portable: with one set of instructions and in one thread, for the same bits on all x86-64 processors.

    What a process is started with: no stage reads it.
    """

    portable: bool

    @property
    def settings(self) -> TrainerSettings:
        """What a stage computes with."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(TrainerSettings)}
        return TrainerSettings(**values | ({"threads": 1} if self.portable else {}))


@dataclass(frozen=True)
class Experiment:
    """Everything conf/ says, checked."""

    suite: Suite
    domains: dict[str, Domain]
    families: dict[str, Family]
    strategies: dict[str, Strategy]
    objective: Objective  # of all pretraining
    diagnostics: Diagnostics
    trainer: Trainer
    tracking: Tracking
    execution: Execution
    comparing: Comparing

    def diagnosed(self) -> list[str]:
        """The families of the suite whose memory is measured."""
        return [name for name in self.diagnostics.families if name in self.families]

    def cells(self) -> list[Cell]:
        """Every cell of the suite that has a meaning."""
        return [cell for cell in self.asked() if self.not_applicable(cell) is None]

    def asked(self) -> list[Cell]:
        """Every cell that the suite names, each once."""
        everything = Part(list(self.domains), list(self.families), list(self.strategies), self.suite.fractions)
        parts = [schema.check(Part, part, f"suite.parts.{i}") for i, part in enumerate(self.suite.parts)] or [
            everything
        ]
        return list(
            dict.fromkeys(
                Cell(domain, family, strategy, seed, fraction)
                for domain in self.domains
                for part in parts
                for family in part.families
                for strategy in part.strategies
                for fraction in part.fractions
                for seed in part.seeds or self.suite.seeds
                if domain in part.domains
            )
        )

    def not_applicable(self, cell: Cell) -> str | None:
        """Why a cell has no meaning, or None: the one place that says so is the function of this name."""
        family, strategy = self.families[cell.family], self.strategies[cell.strategy]
        reason = not_applicable(self.domains[cell.domain], family, strategy, self.objective, cell.fraction)
        for member in family.members if reason is None else ():
            if member not in self.families:
                return f"its member {member} is not in the suite"
            if why := self.not_applicable(dataclasses.replace(cell, family=member)):
                return f"its member {member}: {why}"
        return reason


def mismatch(domain: Domain, family: Family) -> str | None:
    """Why a family is not for a domain at all, or None."""
    if domain.kind not in family.kinds:
        return f"the family models {' and '.join(family.kinds)}, the domain has {domain.kind}"
    if not tasks_of(domain, family):
        return f"the family does {', '.join(family.tasks)}; the domain asks for {', '.join(domain.finetune)}"
    return domain.unfit.get(family.name)


def tasks_of(domain: Domain, family: Family) -> list[str]:
    """The domain's tasks that the family is trained for, in the domain's order. One that is built around the family is
    trained where the domain gives it a budget and does not decide against it."""
    found = [
        task
        for task in budgets(domain)
        if task in family.tasks and (family.fit not in heads(task) or _wanted(domain.finetune.get(task)))
    ]
    replaced = {replaces(task) for task in found}
    return [task for task in found if task not in replaced]


def judged_of(domain: Domain, family: Family) -> list[str]:
    """The tasks that judge the domain's tables of a family's models: what it is trained for in another's place."""
    instead = {replaces(task): task for task in tasks_of(domain, family)}
    return [instead.get(task, task) for task in judged(domain.evaluate.headline)]


def unused_covariates(domain: Domain, family: Family) -> list[str]:
    """The roles of a domain's covariates that the family's forecasts do not use."""
    offered = [role for role in ROLES if domain.prepare.parameters.get("target", {}).get(role)]
    trained = tasks_of(domain, family)
    used = [role for task in trained for role in (around(task) or {}).get(family.component.target, ())]
    return [role for role in offered if role not in used]


def _wanted(budget: TaskBudget | None) -> bool:
    return budget is not None and getattr(budget, "by", None) != "samples"


def budgets(domain: Domain) -> dict[str, TaskBudget]:
    """Of every task that the domain trains. One that it judges, and that some families must be trained for (forecasts
    without a density), has the first one's where the domain gives it none of its own.
    """
    first = next(iter(domain.finetune.values()))
    others = [task for task in judged(domain.evaluate.headline) if task in trainable() and task not in domain.finetune]
    return domain.finetune | dict.fromkeys(others, first)


def source_task(domain: Domain, family: Family, objective: Objective) -> str:
    """What is trained on a domain's source: a family that has no next step learns there what it does on the target."""
    if domain.pretraining is not None:
        return domain.pretraining
    return objective.task if "next_step" in family.tasks else tasks_of(domain, family)[0]


def bound(domain: Domain, family: Family) -> dict[str, Any]:
    """What the family's constructor is given by the domain, such as the declared period."""
    return {name: getattr(domain.evaluate, name) for name in family.bound}


def not_applicable(
    domain: Domain, family: Family, strategy: Strategy, objective: Objective, fraction: float
) -> str | None:
    """Why a strategy has no meaning for a family on a share of a domain's target, or None."""
    if mismatched := mismatch(domain, family):
        return mismatched
    sizes = strategy.sizes or {}
    pairs = domain.kind == "pairs"
    reasons = {
        "the domain has no source": strategy.init == "pretrained" and domain.pretrain is None,
        "the family learns nothing from a source: its `scratch` is all there is": (
            strategy.init == "pretrained" and not family.objectives and not family.members
        ),
        f"the family cannot be pretrained on {objective.predicts} positions: it does not look both ways": (
            strategy.init == "pretrained"
            and domain.pretraining is None
            and not family.members
            and objective.predicts not in family.objectives
        ),
        "fitted in closed form: there are no steps, rates or layers, and `full` is its MAP estimate": strategy.stepped
        and family.fit in ("closed_form", "mixture"),
        "the family names no linear maps (`adapts`) that a low-rank adapter could change": strategy.adapters is not None
        and not family.adapts,
        f"the family has no size called {' or '.join(sizes)}": bool(sizes)
        and not set(sizes) & set(family.component.parameters),
        "the domain has no classes that a pseudo-label could name": strategy.pseudo_labels is not None
        and "classify" not in domain.finetune,
        "a translator has one matrix for input and output: no top layer to begin with": pairs and strategy.grouped,
        "a domain of pairs has no next step on which order could be worth something": strategy.order == "shuffled"
        and pairs,
        "order is worth something on the next step, which the domain or the family does not have": (
            strategy.order == "shuffled" and not pairs and "next_step" not in tasks_of(domain, family)
        ),
        "what is written by hand does not shrink with the data": family.fit == "rules" and fraction < 1,
        "every example of the target has its label already": strategy.pseudo_labels is not None and fraction == 1.0,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def read_params(path: Path) -> dict[str, Any]:
    """A generated file as nested dictionaries. Raises UserError when it is missing, damaged or in conflict."""
    try:
        tree = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except UserError as error:
        raise UserError(f"{error}; python pipelines/compose.py writes it") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: empty or no mapping; python pipelines/compose.py writes it anew")
    return tree


def of_params(path: Path) -> tuple[dict[str, Any], Experiment]:
    """params.yaml as nested dictionaries, which nobody may change, and checked: once for each content.

    A process that was forked from one that has read it does neither again. Raises UserError as `read_params` and
    `experiment`.
    """
    return _of_content(path, path.read_bytes() if path.is_file() else None)


@cache
def _of_content(path: Path, _: bytes | None) -> tuple[dict[str, Any], Experiment]:
    tree = read_params(path)
    return tree, experiment(tree)


SECTIONS = (
    "suite",
    "domains",
    "families",
    "strategies",
    "objective",
    "diagnostics",
    "trainer",
    "tracking",
    "execution",
    "fitting",
    "judging",
    "comparing",
)


def experiment(tree: dict[str, Any]) -> Experiment:
    """Check a composed experiment. Raises UserError naming the first key that is wrong and what was expected."""
    schema.only(tree, SECTIONS, "")
    for section in ("domains", "families", "strategies"):
        for name in tree[section]:
            checked_name(name, section)
    checked_name(tree["suite"].get("name"), "suite.name")
    found = Experiment(
        suite=schema.check(Suite, tree["suite"], "suite"),
        domains={name: domain(name, part, f"domains.{name}") for name, part in tree["domains"].items()},
        families={name: family(name, part, f"families.{name}") for name, part in tree["families"].items()},
        strategies={name: strategy(part, f"strategies.{name}") for name, part in tree["strategies"].items()},
        objective=objective(tree["objective"]),
        diagnostics=schema.check(Diagnostics, tree["diagnostics"], "diagnostics"),
        trainer=trainer(tree["trainer"]),
        tracking=tracking(tree["tracking"]),
        execution=execution(tree["execution"]),
        comparing=schema.check(Comparing, tree["comparing"], "comparing"),
    )
    for name, own in found.domains.items():
        for unfit in own.unfit:
            if unfit not in found.families and schema.source(f"{FAMILIES}{unfit}") is None:
                raise UserError(f"domains.{name}.unfit.{unfit}: no such family{schema.hint(unfit, found.families)}")
    asked = dict.fromkeys(found.asked())
    for cell in asked:
        for group, name in (("domains", cell.domain), ("families", cell.family), ("strategies", cell.strategy)):
            if name not in (known := getattr(found, group)):
                raise UserError(f"suite.parts: {name!r} is not among the suite's {group}{schema.hint(name, known)}")
        teacher = found.strategies[cell.strategy].teacher
        if teacher is not None and dataclasses.replace(cell, strategy=teacher) not in asked:
            raise UserError(f"strategies.{cell.strategy}.teacher: {teacher!r} is not in the suite beside {cell}")
    return found


def family(name: str, tree: dict[str, Any], where: str = "family") -> Family:
    """Check one family's section, and read what its class states."""
    rest = dict(tree)
    optimizer = rest.pop("optimizer", None)
    checked = None if optimizer is None else schema.check(Optimizer, optimizer, f"{where}.optimizer")
    built = schema.component(rest, where, also=("optimizer",))
    if not built.target.startswith(FAMILIES):
        raise UserError(f"{where}._target_: {built.target!r} is no family; expected a class under {FAMILIES[:-1]}")
    states = {key: schema.stated(built.target, key) for key in ("fitted_by", "kinds", "tasks")}
    if lacking := [key for key, value in states.items() if value is None]:
        raise UserError(f"{where}._target_: {built.target} states no {lacking[0]!r}; see seqlab.families.base")
    if (states["fitted_by"] == "gradient") != (checked is not None):
        raise UserError(
            f"{where}.optimizer: "
            + ("missing" if checked is None else f"a family fitted by {states['fitted_by']} has none")
        )
    return Family(
        name,
        built,
        checked,
        fit=states["fitted_by"],
        kinds=states["kinds"],
        tasks=(*states["tasks"], *headed(built.target, states["fitted_by"], states["kinds"], states["tasks"])),
        objectives=("next",) if (stated := schema.stated(built.target, "objectives")) is None else stated,
        adapts=schema.stated(built.target, "adapts") or (),
        bound=schema.stated(built.target, "bound") or (),
    )


def domain(name: str, tree: dict[str, Any], where: str = "domain") -> Domain:
    """Check one domain's section."""
    keys = ("title", "archives", "prepare", "pretrain", "finetune", "evaluate")
    schema.only(tree, (*keys, *(["unfit"] if "unfit" in tree else [])), where)
    prepare = schema.component(tree["prepare"], f"{where}.prepare")
    if not prepare.target.startswith(RECIPES):
        raise UserError(f"{where}.prepare._target_: {prepare.target!r}: expected a class under {RECIPES[:-1]}")
    kind = schema.stated(prepare.target, "kind")
    if kind is None:
        raise UserError(f"{where}.prepare._target_: {prepare.target} states no `kind`; see seqlab.data.domains.base")
    for task in tree["finetune"]:
        checked_name(task, f"{where}.finetune")
        if schema.source(f"seqlab.tasks.{task}.train") is None:
            raise UserError(f"{where}.finetune.{task}: no such task{schema.hint(task, trainable())}")
    evaluate = _evaluation(kind, tree["evaluate"], f"{where}.evaluate")
    if isinstance(evaluate, SequenceEvaluation):
        _check_forecasts(evaluate, prepare, where)
    for table in evaluate.headline:
        if table not in judges():
            raise UserError(f"{where}.evaluate.headline.{table}: nobody judges it{schema.hint(table, judges())}")
    return Domain(
        name=name,
        title=schema.value(str, tree["title"], f"{where}.title"),
        archives={
            key: schema.check(Archive, {"name": key, **part}, f"{where}.archives.{key}")
            for key, part in tree["archives"].items()
        },
        prepare=prepare,
        pretrain=None
        if tree["pretrain"] is None
        else schema.check(SourceBudget, tree["pretrain"], f"{where}.pretrain"),
        finetune={
            task: schema.check(budget_of(task), part, f"{where}.finetune.{task}")
            for task, part in tree["finetune"].items()
        },
        evaluate=evaluate,
        kind=kind,
        unfit=schema.value(dict[str, str], tree.get("unfit", {}), f"{where}.unfit"),
    )


def _evaluation(kind: str, tree: dict[str, Any], where: str) -> Evaluation:
    found = schema.check(EVALUATIONS.get(kind, SequenceEvaluation), tree, where)
    if isinstance(found, PairEvaluation):
        schema.only(found.registers, tuple(found.headline), f"{where}.registers")
    return found


def _check_forecasts(evaluate: SequenceEvaluation, prepare: Component, where: str) -> None:
    """Horizons rise and fit into what the recipe holds out; where there are any, so are origins and paths, and the one
    that ranks is among them."""
    horizons = evaluate.horizons
    if horizons != sorted(set(horizons)):
        raise UserError(f"{where}.evaluate.horizons: found {horizons}, expected rising numbers of steps")
    for key in ("origins", "samples"):
        if horizons and not getattr(evaluate, key):
            raise UserError(f"{where}.evaluate.{key}: found 0, expected at least 1 where there are horizons")
    for table, metric in evaluate.headline.items():
        ahead = metric.partition("@")[2]
        if horizons and ahead.isdecimal() and int(ahead) not in horizons:
            raise UserError(f"{where}.evaluate.headline.{table}: {metric} is of none of the horizons {horizons}")
    names: tuple[str, ...] = schema.stated(prepare.target, "scored") or ()
    sizes = [prepare.parameters[name] for name in names]
    if not sizes or None in sizes:
        return
    scored = sizes[0] - sum(sizes[1:])
    if scored < 1:
        raise UserError(f"{where}.prepare.{names[1]}: found {sizes[1]}, expected less than {names[0]}, {sizes[0]}")
    if horizons and horizons[-1] > scored:
        less = "".join(f" less prepare.{name}" for name in names[1:])
        raise UserError(
            f"{where}.evaluate.horizons: found {horizons[-1]} steps ahead, expected at most {scored}, which is what is "
            f"scored of a held-out sequence (prepare.{names[0]}{less})"
        )


@cache
def trainable() -> list[str]:
    """The tasks that a model can be trained for, from the folders."""
    return sorted(path.parent.name for path in (schema.ROOT / "tasks").glob("*/train.py"))


def heads(task: str) -> dict[str, str]:
    """What the task builds around any family of its kind that has a next step, by how the family is fitted."""
    found: dict[str, str] | None = schema.stated(f"seqlab.tasks.{task}.train.Train", "heads")
    return found or {}


def replaces(task: str) -> str | None:
    """The task in whose place a family is trained for this one, and answers its table; None of most."""
    found: str | None = schema.stated(f"seqlab.tasks.{task}.train.Train", "instead_of")
    return found


def around(task: str) -> dict[str, tuple[str, ...]] | None:
    """Where the task is built around some families alone: these, and the roles of covariates that each uses."""
    found: dict[str, tuple[str, ...]] | None = schema.stated(f"seqlab.tasks.{task}.train.Train", "families")
    return found


def headed(target: str, fit: str, kinds: tuple[str, ...], tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that a family gets so, beside those that its class states: of one that names families, these."""

    def open_to(task: str) -> bool:
        families = around(task)
        return "next_step" in tasks if families is None else target in families

    return tuple(
        task
        for task in trainable()
        if fit in heads(task)
        and task not in tasks
        and open_to(task)
        and set(kinds) & set(schema.stated(f"seqlab.tasks.{task}.train.Train", "kinds"))
    )


def budget_of(task: str) -> type[TaskBudget]:
    """What the domain's section of a task holds: the task's own TrainingBudget, where it has one."""
    module = f"seqlab.tasks.{task}.settings"
    return TaskBudget if schema.source(module) is None else cast(type[TaskBudget], named(f"{module}.TrainingBudget"))


@cache
def judges() -> dict[str, str]:
    """The task whose folder judges each table of scores: most have the task's own name, a test set its own. Not those
    that judge in another's place."""
    found: dict[str, str] = {}
    for path in sorted((schema.ROOT / "tasks").glob("*/judge.py")):
        name = path.parent.name
        if name in trainable() and replaces(name):
            continue
        tables = schema.stated(f"seqlab.tasks.{name}.judge.Judge", "tables") or (name,)
        found |= dict.fromkeys(tables, name)
    return found


def answering(domains: Iterable[Domain]) -> dict[str, str]:
    """As `judges`, in a suite of these domains: of one that is trained in another's place, it."""
    instead = {replaces(task): task for domain in domains for task in domain.finetune if replaces(task)}
    return {table: instead.get(task, task) for table, task in judges().items()}


def judged(headline: Mapping[str, str]) -> list[str]:
    """The tasks that judge a domain's tables, each once, in the order of the tables."""
    return list(dict.fromkeys(judges()[table] for table in headline))


def strategy(tree: dict[str, Any], where: str = "strategy") -> Strategy:
    """Check one strategy's section."""
    found = schema.check(Strategy, tree, where)
    if found.init not in ("scratch", "pretrained") and not found.init.endswith(".safetensors"):
        raise UserError(f"{where}.init: expected scratch, pretrained or a .safetensors file, found {found.init!r}")
    if found.distillation is not None and found.teacher is None:
        raise UserError(f"{where}.teacher: missing; soft targets need the strategy whose model gives them")
    if found.order == "shuffled" and found.init != "scratch":
        raise UserError(f"{where}.init: expected scratch where the order is shuffled, found {found.init!r}")
    return found


def objective(tree: dict[str, Any]) -> Objective:
    """Check the section of what pretraining predicts."""
    found = schema.check(Objective, tree, "objective")
    if (found.predicts == "hidden") != (found.hidden is not None):
        raise UserError("objective.hidden: expected its share and span where `predicts` is hidden, and only there")
    return found


def trainer(tree: dict[str, Any]) -> Trainer:
    """Check the trainer's section."""
    found = schema.check(Trainer, tree, "trainer")
    if found.portable and found.accelerator != "cpu":
        raise UserError(
            f"trainer.portable: of processors alone; trainer.accelerator is {found.accelerator!r}, not 'cpu'"
        )
    return found


def tracking(tree: dict[str, Any]) -> Tracking:
    """Check the tracking section."""
    return schema.check(Tracking, tree, "tracking")


def execution(tree: dict[str, Any]) -> Execution:
    """Check the section of execution."""
    return schema.check(Execution, tree, "execution")
