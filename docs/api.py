"""Write the pages of the Python API, made from docstrings, to outputs/api/index.html."""

from __future__ import annotations

import pkgutil
import warnings
from pathlib import Path

import pdoc

import seqlab

PAGES = Path(__file__).parents[1] / "outputs/api"


def main(pages: Path = PAGES) -> Path:
    """A page for every module of the library. Returns the first one to open."""
    # They are imported when asked for, which pdoc does not do.
    vars(seqlab).update({name: getattr(seqlab, name) for name in seqlab.__all__})
    # Of a name that only a type checker imports pdoc shows the text, which says as much.
    warnings.filterwarnings("ignore", "Error parsing type annotation", category=UserWarning)
    pdoc.pdoc(
        "seqlab", *(module.name for module in pkgutil.walk_packages(seqlab.__path__, "seqlab.")), output_directory=pages
    )
    return pages / "seqlab.html"


if __name__ == "__main__":
    print(f"seqlab: {main()}")
