"""Configuration: every shipped yaml composes and is typed; whatever is wrong fails early, in one line that names it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from forks import Forks, forking

from seqlab import config, schema
from seqlab.cli.composing import compose
from seqlab.cli.places import Workspace
from seqlab.cli.work import CELL, DOMAIN, CellWork, from_overrides
from seqlab.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = sorted(path.stem for path in (ROOT / "conf/family").glob("*.yaml"))
DOMAINS = sorted(path.stem for path in (ROOT / "conf/domain").glob("*.yaml"))


# Hydra looks through all that is installed for its plugins, once in a process.
AHEAD = """
import hydra.core.override_parser.overrides_parser, hydra.main
import seqlab.cli.compose, seqlab.cli.main, seqlab.cli.stage, seqlab.executors.warm
from hydra.core.plugins import Plugins
Plugins.instance()
"""


@dataclass
class Checkout:
    """A copy of this one, whose torch, lightning and mlflow betray whoever imports them."""

    folder: Path
    forks: Forks

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.forks.run(self.folder, f"pipelines/{script}.py", *arguments)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    heavy = tmp_path_factory.mktemp("heavy")
    for name in ("torch", "lightning", "mlflow"):
        (heavy / f"{name}.py").write_text("raise SystemExit('a heavy package was imported')")
    folder = tmp_path_factory.mktemp("checkout")
    for part in ("conf", "pipelines", "src"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("params.yaml", "cells.json"):
        shutil.copy(ROOT / part, folder / part)
    env = {"PYTHONPATH": os.pathsep.join([str(heavy), str(folder / "src")]), "PATH": "/usr/bin:/bin"}
    with forking(AHEAD, env) as forks:
        yield Checkout(folder, forks)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["family=rnn", "domain=strings", "family.hiden_size=96"], ["hiden_size"]),
        (["family=rnn", "domain=strings", "+family.hiden_size=96"], ["family.hiden_size", "mean 'hidden_size'"]),
        (["family=rnn", "domain=strings", "+key=1"], ["key: unknown key"]),
        (["family=rnn", "domain=strings", "family.hidden_size=wide"], ["family.hidden_size", "integer", "'wide'"]),
        (["family=rnn", "domain=strings", "family.optimizer.clip=fast"], ["family.optimizer.clip", "'fast'"]),
        (["family=rnn", "domain=strings", "trainer.precision=16"], ["trainer.precision", "bf16-mixed"]),
        (["family=rmm", "domain=strings"], ["rmm", "rnn"]),
        (["family=rnn", "domain=stings"], ["stings", "strings"]),
        (["family=rnn"], ["domain"]),
        (["family=rnn", "domain=strings", "family._target_=os.system"], ["family._target_", "refused"]),
        (["family=rnn", "domain=strings", "family._target_=seqlab.families.rnn.Rnn"], ["Rnn", "RNN"]),
        (["family=rnn", "domain=strings", "strategy=none"], ["strategy", "none", "scratch"]),
        (["strings/lstmm/full/0"], ["lstmm", "rnn"]),
        (["strings/rnn/full"], ["domain/family/strategy/seed"]),
    ],
)  # fmt: skip
def test_a_wrong_override_fails_before_torch_in_one_line(
    checkout: Checkout, overrides: list[str], named: list[str]
) -> None:
    done = checkout.run("finetune", *overrides)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("seqlab: ")
    for part in named:
        assert part in lines[0]


@pytest.mark.slow
def test_a_sweep_of_wrong_values_names_each_before_torch(checkout: Checkout) -> None:
    words = ("-m", "family=rnn,transformer", "domain=strings", "family.layers=one,two")
    done = checkout.run("finetune", *words)
    assert done.returncode == 2, done.stdout + done.stderr
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("seqlab: of the sweep's jobs these failed (4), any other ran: ")
    for name, layers in itertools.product(("rnn", "transformer"), ("one", "two")):
        assert f"family={name} domain=strings family.layers={layers}: family.layers: input should be a valid" in last


@pytest.mark.parametrize(("verb", "needs"), [("acquire", DOMAIN), ("finetune", CELL)])
def test_only_what_trains_needs_a_family(tmp_path: Path, verb: str, needs: tuple[str, ...]) -> None:
    tree = compose("cell", ["domain=translation", *(["family=rnn"] if "family" in needs else ["~family"])])
    choices = {"domain": "translation", "family": "rnn", "strategy": "full"}
    work = from_overrides(verb, tree, choices, tmp_path, needs, Workspace(ROOT))
    assert isinstance(work, CellWork) == ("family" in needs)
    # What follows a stage finds its record under the pipeline's own label.
    assert work.label == ("translation" if needs == DOMAIN else "translation/rnn/full/0")


def test_acquiring_by_hand_asks_for_a_domain_alone(checkout: Checkout) -> None:
    done = checkout.run("acquire", "+key=1")
    assert done.returncode == 2
    assert done.stderr.startswith("seqlab: domain: missing; domain=NAME with one of "), done.stderr
    assert "family" not in done.stderr
    done = checkout.run("acquire", "domain=translation", "domain.archives.scratch.registry=pipy")
    assert done.returncode == 2
    assert "domain.archives.scratch.registry" in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("family/rnn.yaml", "hidden_size:", "hiden_size:", ["families.rnn.hiden_size", "did you mean 'hidden_size'"]),
        ("family/rnn.yaml", "layers: 1", "layers: one", ["families.rnn.layers", "'one'"]),
        ("domain/strings.yaml", "max_length:", "max_len:", ["domains.strings.prepare.max_len", "max_length"]),
        (
            "domain/strings.yaml",
            "registry: pypi",
            "registry: pipy",
            ["domains.strings.archives.source.registry", "'pipy'"],
        ),
        ("domain/translation.yaml", "everyday: plain", "everyday: rude", ["evaluate.registers.everyday", "'rude'"]),
        ("domain/translation.yaml", "everyday: plain", "evryday: plain", ["registers.evryday", "mean 'everyday'"]),
        ("suite/default.yaml", "replicates: 2000", "replicates: many", ["suite.replicates", "'many'"]),
        ("suite/default.yaml", "positions: null", "positions: 0", ["suite.positions", "0"]),
        ("suite/default.yaml", "families.rnn: rnn", "families.rnn: rmm", ["rmm"]),
        ("trainer/cpu.yaml", "threads: 1", "threads: 1\nthread: 1", ["trainer.thread", "threads"]),
    ],
)
def test_a_wrong_yaml_fails_before_torch_in_one_line(
    checkout: Checkout, file: str, old: str, new: str, named: list[str]
) -> None:
    path, written = checkout.folder / "conf" / file, checkout.folder / "params.yaml"
    right, before = path.read_text(), written.stat()
    assert old in right
    path.write_text(right.replace(old, new, 1))
    done = checkout.run("compose")
    path.write_text(right)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in named:
        assert part in done.stderr
    assert (written.stat().st_ino, written.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.slow
@pytest.mark.parametrize(("suite", "arms"), [("default", 2), ("quick", 2)])
def test_the_suite_holds_translation_beside_the_other_domains(suite: str, arms: int) -> None:
    tree = compose("config", [f"suite={suite}"])
    found = config.experiment(tree)
    translators = {name for name, family in found.families.items() if "translate" in family.tasks}
    assert translators == {"rule_based", "seq2seq_rnn", "seq2seq_attention", "seq2seq_transformer"}
    cells = found.cells()
    own = [cell for cell in cells if cell.domain == "translation"]
    assert {cell.family for cell in own} == translators
    assert {cell.strategy for cell in own} == {"scratch", "full"}
    assert len(own) == arms * len(translators)
    others = [cell for cell in cells if cell.domain != "translation"]
    assert {cell.family for cell in others} == set(found.families) - translators
    assert {cell.domain for cell in cells} == set(found.domains)
    assert "seq2seq_rnn" not in found.diagnosed()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_yaml_fits_its_constructor(name: str) -> None:
    tree = yaml.safe_load((ROOT / f"conf/family/{name}.yaml").read_text())
    family = config.family(name, tree)
    assert family.component.target.startswith("seqlab.families.")
    missing = {key: value for key, value in tree.items() if key != next(k for k in tree if k != "_target_")}
    with pytest.raises(UserError, match=r"missing"):
        config.family(name, missing)


@pytest.mark.parametrize("name", DOMAINS)
def test_every_domain_yaml_is_typed(name: str) -> None:
    # Composed as a stage does: one yaml may extend another.
    domain = config.domain(name, compose("cell", [f"domain={name}", "family=markov"])["domain"])
    assert all(archive.licence for archive in domain.archives.values())


def test_a_target_outside_seqlab_is_never_imported() -> None:
    with pytest.raises(UserError, match="refused"):
        schema.component({"_target_": "antigravity.anything"}, "family")
    assert "antigravity" not in sys.modules


def test_a_family_that_a_domain_calls_unfit_is_not_compared_there_and_a_typo_is_named() -> None:
    tree = compose("config", [])
    tree["suite"]["parts"] = []
    reason = "too few steps"
    tree["domains"]["series"]["unfit"] = {"nlinear": reason}
    found = config.experiment(tree)
    assert config.mismatch(found.domains["series"], found.families["nlinear"]) == reason
    cells = {(cell.domain, cell.family) for cell in found.cells()}
    assert ("series", "nlinear") not in cells
    assert {("series", "gbdt"), ("stocks", "nlinear")} <= cells
    for wrong, said in (
        ({"nlinar": reason}, r"domains\.series\.unfit\.nlinar: no such family; did you mean 'nlinear'\?"),
        ({"nlinear": 3}, r"domains\.series\.unfit.*nlinear"),
        (None, r"domains\.series\.unfit"),
    ):
        tree["domains"]["series"]["unfit"] = wrong
        with pytest.raises(UserError, match=said):
            config.experiment(tree)
    del tree["families"]["nlinear"]  # what a domain says of a family need not be in every suite
    tree["families"].pop("mixture")
    tree["domains"]["series"]["unfit"] = {"nlinear": reason}
    config.experiment(tree)
