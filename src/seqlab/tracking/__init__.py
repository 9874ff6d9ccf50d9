"""Tracking that cannot fail or delay training: stages write local journals, one background process feeds MLflow.

`journal` is what a stage imports (standard library only, psutil late); `spool` is the folder of journals, its locks and
the start of the uploader; `upload` is the uploader itself and the only module of seqlab that imports mlflow.
"""

from seqlab.tracking.journal import Run, Tracking, Unrecorded
from seqlab.tracking.spool import Kept, flush, kept, notice, redirect

SERVED_SETTINGS = "served.json"  # beside a model to be served: how it computes and searches

__all__ = ["SERVED_SETTINGS", "Kept", "Run", "Tracking", "Unrecorded", "flush", "kept", "notice", "redirect"]
