"""Write the pages of the Python API, made from docstrings, to outputs/api/index.html."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from pathlib import Path

import pdoc
from pdoc import extract

import seqlab

PAGES = Path(__file__).parents[1] / "outputs/api"


def specs() -> list[str]:
    """The fewest names by which pdoc finds each module once: in a package with `__all__` it looks for no others."""
    names = ["seqlab", *(module.name for module in pkgutil.walk_packages(seqlab.__path__, "seqlab."))]
    for name in names:
        importlib.import_module(name)  # whose libraries may ask the machine, which pdoc's own import forbids
    found, asked = dict[str, None](), list[str]()
    for name in names:
        if name not in found:
            asked.append(name)
            found |= dict.fromkeys(extract.walk_specs([name]))
    return asked


def main(pages: Path = PAGES) -> Path:
    """A page for every module of the library. Returns the first one to open."""
    # They are imported when asked for, which pdoc does not do.
    vars(seqlab).update({name: getattr(seqlab, name) for name in seqlab.__all__})
    # Of a name that only a type checker imports pdoc shows the text, which says as much.
    warnings.filterwarnings("ignore", "Error parsing type annotation", category=UserWarning)
    pdoc.pdoc(*specs(), output_directory=pages)
    return pages / "seqlab.html"


if __name__ == "__main__":
    print(f"seqlab: {main()}")
