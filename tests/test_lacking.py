"""What a domain asks for and its data do not have is said when they are prepared, and has no table."""

from __future__ import annotations

import yaml

from seqlab import config
from seqlab.cli.places import ROOT
from seqlab.cli.verbs import lacking
from seqlab.data.prepared import Meta


def test_classes_need_labels_and_nothing_else_does() -> None:
    tree = yaml.safe_load((ROOT / "conf/domain/strings.yaml").read_text(encoding="utf-8"))
    domain = config.domain("strings", tree)
    assert lacking(domain, Meta("symbols", 256, ["next_step"], [])) == ["classify"]
    assert lacking(domain, Meta("symbols", 256, ["next_step", "classify"], ["no", "yes"])) == []
