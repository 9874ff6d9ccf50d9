"""Browse the runs: MLflow's own pages on the loopback interface, opened on the newest comparison."""

from __future__ import annotations

import webbrowser

from seqlab.cli.compose import PARAMS
from seqlab.cli.places import ROOT
from seqlab.config import read_params, tracking


def ui(port: int) -> None:
    """Serve them until interrupted. Raises UserError when no server answers."""
    from seqlab.tracking.ui import serve

    settings = tracking(read_params(ROOT / PARAMS)["tracking"])
    with serve(settings.uri, ROOT, port) as pages:
        address = pages.newest(settings.prefix)
        print(f"seqlab: {address} (Ctrl-C ends it)", flush=True)
        webbrowser.open(address)
        pages.wait()
