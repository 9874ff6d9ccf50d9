"""Tracking that cannot fail or delay training: stages write local journals, one background process feeds MLflow.

`journal` is what a stage imports (standard library only, psutil late); `spool` is the folder of journals, its locks and
the start of the uploader; `upload` is the uploader itself and, with what it registers, all that imports mlflow.
`names`, `systems` and `views` say how runs are called, which stand above others, and how MLflow's pages open;
`comparison` is what a comparison of systems sends there.
"""

from seqlab.execution import Tracking
from seqlab.tracking.journal import Run, Unrecorded
from seqlab.tracking.spool import Kept, announcement, flush, kept, notice, redirect
from seqlab.tracking.systems import Note, Sweep, System

__all__ = [
    "Kept",
    "Note",
    "Run",
    "Sweep",
    "System",
    "Tracking",
    "Unrecorded",
    "announcement",
    "flush",
    "kept",
    "notice",
    "redirect",
]
