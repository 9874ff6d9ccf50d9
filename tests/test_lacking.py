"""What a domain asks for and its data do not have is said when they are prepared, and has no table; what a training
asks for and is not there, with what makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from seqlab import config
from seqlab.cli.places import ROOT, Workspace
from seqlab.cli.verbs import finetune, lacking, missing
from seqlab.cli.work import CELL, CellWork, from_pipeline
from seqlab.data.prepared import Meta
from seqlab.errors import UserError


def test_classes_need_labels_and_nothing_else_does() -> None:
    tree = yaml.safe_load((ROOT / "conf/domain/strings.yaml").read_text(encoding="utf-8"))
    domain = config.domain("strings", tree)
    assert lacking(domain, Meta("symbols", 256, ["next_step"], [])) == ["classify"]
    assert lacking(domain, Meta("symbols", 256, ["next_step", "classify"], ["no", "yes"])) == []


@pytest.fixture(scope="module")
def work() -> CellWork:
    found = from_pipeline("finetune", "series/rnn/full/0", CELL, Workspace(ROOT))
    assert isinstance(found, CellWork)
    return found


def test_where_a_strategy_has_no_meaning_the_one_that_has_is_named(work: CellWork) -> None:
    own = replace(work, domain=replace(work.domain, pretrain=None))
    with pytest.raises(UserError, match=r"^strategy full of .*: the domain has no source; strategy=scratch is$"):
        finetune(own)
    other = replace(work, domain=replace(work.domain, kind="symbols"))  # for which the controls have no meaning either
    with pytest.raises(UserError, match=r"^strategy full of (?!.*strategy=scratch is)"):
        finetune(replace(other, family=replace(work.family, kinds=["pairs"])))


def test_what_a_training_reads_and_lacks_is_named_with_what_makes_it(work: CellWork) -> None:
    own = replace(work, strategy=replace(work.strategy, init="nowhere/weights.safetensors"))
    with pytest.raises(
        UserError, match=r"^strategy\.init=nowhere/weights\.safetensors: no such file; expected a file of"
    ):
        finetune(own)
    taught = replace(work, strategy=replace(work.strategy, teacher="scratch"))
    for name, asked, maker in (
        ("pretrained", work, "begins with; `seqlab run pretrain series/rnn/0` makes it"),
        ("teacher", taught, "is taught by; `seqlab run finetune series/rnn/scratch/0` makes it"),
        ("member gru", work, "mixes; `seqlab run finetune series/gru/full/0` makes it"),
        ("prepared", work, "learns from; `seqlab run prepare series` makes it"),
    ):
        assert missing(asked, name, Path("there")) == f"there: missing, which series/rnn/full/0 {maker}"
