"""What a file may name: families of seqlab with parameters of theirs, and nothing is imported or called to find out."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seqlab import config
from seqlab.artifacts import write_json
from seqlab.data.sequences import Space
from seqlab.errors import UserError
from seqlab.families import loading, saved
from seqlab.families.ar import AR
from seqlab.families.base import Use
from seqlab.families.gradient.sizes import bounded
from seqlab.families.rnn import RNN
from seqlab.families.saved import Recipe
from seqlab.naming import SRC, checked_parameters, checked_target
from seqlab.settings import TrainerSettings

CONF = Path(__file__).parents[1] / "conf/family"
USE = Use(TrainerSettings("cpu", 1, 1, "auto", "32-true", 1, False, max_steps=None))
PARAMETERS = {"hidden_size": 8, "layers": 1, "dropout": 0.0, "truncation": None, "density": "gaussian"}
RECIPE = Recipe("seqlab.families.rnn.RNN", PARAMETERS, "gradient", "symbols", 9, None)

REFUSED = {
    "a class of the standard library": "subprocess.Popen",
    "a function of it": "os.system",
    "builtins": "builtins.eval",
    "a module of another package that begins alike": "seqlab_evil.families.rnn.RNN",
    "the package itself": "seqlab",
    "a package": "seqlab.families",
    "a module": "seqlab.families.rnn",
    "what a module imports": "seqlab.families.rnn.torch",
    "an attribute of what a module imports": "seqlab.families.rnn.nn.RNN",
    "through an import to another module": "seqlab.families.rule_based.json.loads",
    "an attribute of a class": "seqlab.families.rnn.RNN.__init__",
    "a dunder": "seqlab.families.rnn.__builtins__",
    "a private name": "seqlab.families.rule_based._one",
    "another part of seqlab": "seqlab.data.packages.acquire",
    "no such module": "seqlab.families.evil.Evil",
    "no such class": "seqlab.families.rnn.Evil",
    "another spelling of the file": "seqlab.families.RNN.RNN",
    "relative": ".rnn.RNN",
    "upwards": "seqlab.families...data.packages.acquire",
    "a path": "seqlab/families/rnn.RNN",
    "a path that leaves the package": "seqlab.families./tmp/evil.Evil",
    "white space": "seqlab.families.rnn.RNN ",
    "a line end": "seqlab.families.rnn.RNN\n",
    "a NUL": "seqlab.families.rnn.RNN\0",
    "letters that look alike": "seqlab.families.rnn.RN\u039d",
    "an interpolation": "${oc.env:HOME}",
    "code": "seqlab.families.rnn.RNN(__import__('os'))",
    "nothing": "",
    "no text": None,
    "a number": 5,
    "a list": ["seqlab.families.rnn.RNN"],
    "a million letters": "seqlab.families." + "a" * 1_000_000,
}


def write(folder: Path, **changes: Any) -> Path:
    """A model's folder, of which model.json was tampered with."""
    saved.save(folder, RECIPE, {name: part.numpy() for name, part in RECIPE.build().state_dict().items()})
    write_json(folder / saved.RECIPE, asdict(RECIPE) | changes)
    return folder


@pytest.mark.parametrize("target", REFUSED.values(), ids=REFUSED)
def test_other_names_are_refused_in_one_line(tmp_path: Path, target: Any) -> None:
    folder = write(tmp_path, target=target)
    for load in (
        lambda: saved.load_recipe(folder),
        lambda: loading.load(folder, USE),
    ):
        with pytest.raises(UserError, match=r"model\.json: target") as error:
            load()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000 or len(str(target)) > 1000


@given(st.text(max_size=30) | st.from_regex(r"seqlab(\.\w+){1,4}", fullmatch=True))
def test_a_name_that_passes_has_its_definition_in_a_file_of_the_package(target: str) -> None:
    try:
        path = checked_target(target, "here")
    except UserError:
        return
    assert path.is_relative_to(SRC / "seqlab")
    assert f"{target.rpartition('.')[2]}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_family_is_allowed(path: Path) -> None:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = checked_target(tree["_target_"], "here", saved.FAMILIES)
    assert found == SRC / "seqlab/families" / f"{tree['_target_'].split('.')[2]}.py"
    family = config.family(path.stem, tree)
    bound = {name: {"period": 7, "horizons": [1, 2]}[name] for name in family.bound}  # what the domain gives
    recipe = Recipe(family.component.target, family.component.parameters | bound, family.fit, "symbols", 9, None)
    loading.check_family(recipe, "here")


REFUSING = """
import sys
from pathlib import Path
from seqlab.errors import UserError
from seqlab.families import saved
before = set(sys.modules)
opened = []
watched = ("import", "subprocess.Popen", "os.system")
sys.addaudithook(lambda event, args: opened.append(event) if event in watched else None)
try:
    saved.load_recipe(Path(sys.argv[1]))
except UserError as error:
    print(error, set(sys.modules) - before, opened)
"""


@pytest.mark.parametrize("target", ["subprocess.Popen", "antigravity.webbrowser", "seqlab.cost.Cost"])
def test_refusing_imports_nothing_and_runs_nothing(tmp_path: Path, target: str) -> None:
    write(tmp_path, target=target)
    done = subprocess.run(
        [sys.executable, "-c", REFUSING, tmp_path], capture_output=True, text=True, check=True, cwd=SRC
    )
    assert f"'{target}' is refused" in done.stdout
    assert done.stdout.strip().endswith("set() []")


def test_a_class_beside_the_families_is_none(tmp_path: Path) -> None:
    for target in ("seqlab.families.saved.Recipe", "seqlab.families.transformer.Block"):
        with pytest.raises(UserError, match=f"target: '{target}' is no family"):
            loading.load(write(tmp_path, target=target), USE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fit": "closed_form"}, "fit: found 'closed_form', expected 'gradient'"),
        ({"fit": ["rules"]}, r"fit: found \['rules'\], expected 'gradient'"),
        ({"kind": "code"}, "kind: found 'code', expected one of symbols, vectors, pairs"),
        ({"size": 0}, "size: found 0, expected a whole number of at least 1"),
        ({"size": True}, "size: found True"),
        ({"size": 9.5}, "size: found 9.5"),
        ({"classes": -1}, "classes: found -1"),
        ({"classes": "4"}, "classes: found '4'"),
        ({"parameters": [1]}, r"parameters: expected hidden_size, .*, found \[1\]"),
        ({"parameters": PARAMETERS | {"hook": "os.system"}}, r"parameters\.hook: unknown; there are hidden_size"),
        ({"parameters": {k: v for k, v in PARAMETERS.items() if k != "layers"}}, r"parameters\.layers: missing"),
        ({"parameters": PARAMETERS | {"hidden_size": "8"}}, r"parameters\.hidden_size: .*integer, found '8'"),
        ({"parameters": PARAMETERS | {"layers": True}}, r"parameters\.layers: .*integer, found True"),
        ({"parameters": PARAMETERS | {"density": "uniform"}}, r"parameters\.density: "),
        ({"parameters": PARAMETERS | {"hidden_size": -4}}, r"parameters\.hidden_size: .*, found -4"),
        ({"parameters": PARAMETERS | {"layers": 0}}, r"parameters\.layers: .*, found 0"),
        # Of what is too large for the machine the allocator speaks first.
        ({"parameters": PARAMETERS | {"hidden_size": 10**12}}, "its parameters make"),
        ({"parameters": PARAMETERS | {"hidden_size": 10**40}}, "its parameters make no model"),
        ({"parameters": PARAMETERS | {"hidden_size": 100_000}}, "its parameters make"),
        ({"parameters": PARAMETERS | {"layers": 10**9}}, "make a larger model than its tensors are of"),
        ({"size": 10**10}, "its parameters make"),
        ({"classes": 10**10}, "its parameters make"),
    ],
    ids=str,
)
def test_what_the_constructor_does_not_take_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder, before = write(tmp_path, **changes), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=rf"model\.json: {message}|{message}") as error:
        loading.load(folder, USE)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_parameters_are_finite(tmp_path: Path, value: str) -> None:
    path = write(tmp_path) / saved.RECIPE
    path.write_text(path.read_text().replace('"dropout": 0.0', f'"dropout": {value}'))
    with pytest.raises(UserError, match=r"parameters\.dropout: .*finite"):
        loading.load(tmp_path, USE)


def test_parameters_keep_their_types() -> None:
    tree = yaml.safe_load((CONF / "ar.yaml").read_text())
    del tree["_target_"]
    assert checked_parameters(AR, json.loads(json.dumps(tree)), "here") == tree
    with pytest.raises(UserError, match=r"here\.orders\.1: .*integer, found 'x'"):
        checked_parameters(AR, tree | {"orders": [2, "x"]}, "here")


def test_what_is_built_beside_its_tensors_is_what_is_built_alone() -> None:
    def build() -> RNN:
        torch.manual_seed(0)
        return RNN(Space("symbols", 9), 4, **PARAMETERS | {"hidden_size": 64, "layers": 3})

    alone = {name: part.numpy() for name, part in build().state_dict().items()}
    with bounded(alone, "here"):
        found = build().state_dict()
    assert all(np.array_equal(part.numpy(), alone[name]) for name, part in found.items())
    with pytest.raises(UserError, match="here: its parameters make a larger model"), bounded({}, "here"):
        build()
    assert build().width == 64  # and no bound is left behind


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    assert loading.load(write(tmp_path), USE).space == RECIPE.space
    assert saved.load_recipe(write(tmp_path, classes=3)) == replace(RECIPE, classes=3)
