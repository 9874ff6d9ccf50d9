"""The pages of the API: every module of the library has one, with the words of its docstrings."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import seqlab

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_every_module_has_a_page_and_the_front_door_its_words(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    import pdoc

    # Of the pages' sources, which take most of the time, pdoc is the judge.
    pdoc.render.configure(show_source=False)
    first = runpy.run_path(str(ROOT / "docs/api.py"))["main"](tmp_path)
    # Each once, and without what its own import would forbid.
    assert not [one for one in recwarn if "already been added" in str(one.message) or "Suppressed" in str(one.message)]
    found = {page.relative_to(tmp_path).with_suffix("") for page in tmp_path.rglob("*.html")}
    files = {path.relative_to(ROOT / "src") for path in (ROOT / "src/seqlab").rglob("*.py")}
    assert {path.parent if path.name == "__init__.py" else path.with_suffix("") for path in files} <= found
    assert seqlab.load.__doc__
    assert seqlab.load.__doc__.split(".")[0].split("`")[0] in first.read_text(encoding="utf-8")
