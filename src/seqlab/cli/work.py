"""What one execution of a stage works on, from a cell of the pipeline or from overrides typed in a shell.

    python pipelines/finetune.py strings/rnn/full/0
        as DVC calls it: values from params.yaml, results in the pipeline's own places
    python pipelines/finetune.py domain=strings family=rnn family.hidden_size=96
        by hand: composed by Hydra, any override, results under outputs/

Nothing here imports torch, lightning or mlflow: a wrong key fails in a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqlab import config, schema
from seqlab.cells import Cell, split_arm
from seqlab.cli.places import PIPELINE, Places, Workspace
from seqlab.config import Domain, Experiment, Trainer
from seqlab.errors import UserError
from seqlab.execution import Execution, Tracking
from seqlab.settings import Family, Fraction, Natural, Objective, Positive, Strategy, TrainerSettings

# What tells one execution of a stage from others, in the order of a label: strings/rnn/full/0.
DOMAIN, ARCHIVE, SOURCE, CELL, FAMILY, SUITE = (
    ("domain",),
    ("domain", "archive"),
    ("domain", "family", "seed"),
    ("domain", "family", "strategy", "seed"),
    ("family",),
    (),
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Of every stage. steps: a factor of every budget's. tree: the configuration that this execution depends on."""

    verb: str
    label: str
    suite: str
    steps: float
    positions: int | None
    examples: int | None
    trainer: Trainer
    execution: Execution
    tracking: Tracking
    tree: dict[str, Any]
    workspace: Workspace
    places: Places

    @property
    def settings(self) -> TrainerSettings:
        """What its stage computes with."""
        return self.trainer.settings

    @property
    def by_hand(self) -> bool:
        return self.places.out is not None


@dataclass(frozen=True, kw_only=True)
class DomainWork(Work):
    """Of a stage on one domain. cells: of the suite, on this domain. archive: the one that is acquired; None: all."""

    domain: Domain
    cells: tuple[Cell, ...] = ()
    archive: str | None = None


@dataclass(frozen=True, kw_only=True)
class CellWork(DomainWork):
    """Of a stage on one cell. given: by hand, the tuned model to evaluate, or that teaches."""

    cell: Cell
    family: Family
    strategy: Strategy
    objective: Objective
    given: Path | None = None

    @property
    def members(self) -> dict[str, Path]:
        """The pipeline's tuned models of the families that this one is made of."""
        return {name: PIPELINE.model(replace(self.cell, family=name)) for name in self.family.members}

    @property
    def start(self) -> Path | None:
        """The source's model, or a user's own tensors, that the strategy begins with."""
        if self.family.members:
            return None
        if self.strategy.init == "pretrained":
            return self.places.source(self.cell) / "next_step"
        return None if self.strategy.init == "scratch" else Path(self.strategy.init)

    @property
    def teacher(self) -> Path | None:
        """The tuned models that teach this one's."""
        if self.strategy.teacher is None:
            return None
        return self.given or PIPELINE.model(replace(self.cell, strategy=self.strategy.teacher))


@dataclass(frozen=True, kw_only=True)
class FamilyWork(Work):
    """Of a stage on one family alone."""

    family: Family
    experiment: Experiment


@dataclass(frozen=True, kw_only=True)
class SuiteWork(Work):
    """Of a stage on the whole suite."""

    experiment: Experiment


def from_pipeline(verb: str, label: str, needs: tuple[str, ...], workspace: Workspace) -> Work:
    """The work of a cell such as strings/rnn/full/0, with the values of params.yaml."""
    tree, found = config.of_params(workspace.home / "params.yaml")
    parts = label.split("/") if label else []
    if len(parts) != len(needs) and not (needs == ARCHIVE and len(parts) == 1):
        raise UserError(f"{label!r}: expected {'/'.join(needs)}")
    names: dict[str, Any] = dict(zip(needs, parts, strict=False))
    used = {"suite": tree["suite"]}
    picked: dict[str, Any] = {}
    for key, section in (("domain", "domains"), ("family", "families"), ("strategy", "strategies")):
        if key not in names:
            continue
        name, fraction = split_arm(names[key]) if key == "strategy" else (names[key], 1.0)
        known = getattr(found, section)
        if name not in known:
            raise UserError(f"{key} {name!r}: not in this suite; there are {', '.join(known)}")
        picked[key], used[key] = known[name], tree[section][name]
        if key == "strategy":
            names["strategy"], names["fraction"], used["fraction"] = name, fraction, fraction
    if "seed" in names:
        names["seed"] = int(names["seed"]) if names["seed"].isdecimal() else _no_seed(names["seed"])
        used |= {"objective": tree["objective"], "trainer": tree["trainer"]}
    if needs in (FAMILY, SUITE):
        used |= {"diagnostics": tree["diagnostics"]}
    common = Common(
        verb=verb,
        label=label,
        suite=found.suite.name,
        steps=found.suite.steps,
        positions=found.suite.positions,
        examples=found.suite.examples,
        trainer=found.trainer,
        execution=found.execution,
        tracking=found.tracking,
        tree=used,
        workspace=workspace,
        places=PIPELINE,
    )
    return assembled(common, found, found.objective, names, picked, None)


def _no_seed(found: str) -> int:
    raise UserError(f"seed {found!r}: expected a whole number")


class Common(dict[str, Any]):
    """The fields that every Work has."""


SCRATCH = Strategy(init="scratch", learning_rate_factor=1.0)


def assembled(
    common: Common,
    experiment: Experiment | None,
    objective: Objective,
    names: dict[str, Any],
    picked: dict[str, Any],
    given: Path | None,
) -> Work:
    """The work that these names stand for."""
    if "domain" not in picked:
        assert experiment is not None  # only the pipeline has stages of no domain
        if "family" in picked:
            return FamilyWork(**common, family=picked["family"], experiment=experiment)
        return SuiteWork(**common, experiment=experiment)
    domain: Domain = picked["domain"]
    if "family" not in picked:
        archive = names.get("archive")
        if archive is not None and archive not in domain.archives:
            raise UserError(f"archive {archive!r}: {domain.name} has {', '.join(domain.archives)}")
        cells = experiment.cells() if experiment is not None else []
        own = tuple(cell for cell in cells if cell.domain == domain.name)
        return DomainWork(**common, domain=domain, cells=own, archive=archive)
    family: Family = picked["family"]
    cell = Cell(domain.name, family.name, names.get("strategy", "pretrain"), names["seed"], names.get("fraction", 1.0))
    strategy = picked.get("strategy", SCRATCH)
    return CellWork(
        **common, domain=domain, cell=cell, family=family, strategy=strategy, objective=objective, given=given
    )


def from_overrides(
    verb: str, tree: dict[str, Any], choices: dict[str, str], out: Path, needs: tuple[str, ...], workspace: Workspace
) -> Work:
    """The work of a composed conf/cell.yaml, which has no family where `needs` names none."""
    named = [key for key in CELL if key != "family" or "family" in needs]
    rest = ("trainer", "tracking", "execution", "steps", "fraction", "objective", "model")
    schema.only(tree, (*named, *rest), "")
    values = {
        "seed": schema.value(Natural, tree["seed"], "seed"),
        "fraction": schema.value(Fraction, tree["fraction"], "fraction"),
        "steps": schema.value(Positive, tree["steps"], "steps"),
    }
    strategy = config.strategy(tree["strategy"])
    picked: dict[str, Any] = {"domain": config.domain(choices["domain"], tree["domain"])}
    names: dict[str, Any] = {"domain": choices["domain"]}
    if "family" in needs:
        picked["family"] = config.family(choices["family"], tree["family"])
        names |= {"seed": values["seed"]}
    if "strategy" in needs:
        picked["strategy"] = strategy
        names |= {"strategy": choices["strategy"], "fraction": values["fraction"]}
    label = [choices["domain"]]
    if "family" in needs:
        cell = Cell(choices["domain"], choices["family"], names.get("strategy", ""), values["seed"], values["fraction"])
        label = [cell.path] if "strategy" in needs else [cell.domain, cell.family, str(cell.seed)]
    common = Common(
        verb=verb,
        label="/".join(label),
        suite="by hand",
        steps=values["steps"],
        positions=None,
        examples=None,
        trainer=config.trainer(tree["trainer"]),
        execution=config.execution(tree["execution"]),
        tracking=config.tracking(tree["tracking"]),
        tree=tree,
        workspace=workspace,
        places=Places(out),
    )
    given = None if tree["model"] is None else Path(schema.value(str, tree["model"], "model"))
    return assembled(common, None, config.objective(tree["objective"]), names, picked, given)
