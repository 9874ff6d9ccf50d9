"""What things are called in MLflow: one convention, so that a chart finds a metric under one name everywhere."""

from __future__ import annotations

import re
from typing import Final

LONGEST_NAME = 250
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or of an experiment, as Markdown."""

KIND = "kind"
"""The tag that says what a run is: SYSTEM, STAGE, COMPARISON or SWEEP."""
SYSTEM: Final = "system"
STAGE: Final = "stage"
COMPARISON: Final = "comparison"
SWEEP: Final = "sweep"


def clean(name: str) -> str:
    """A name with what MLflow does not allow (brackets and @, say) replaced by underscores."""
    return re.sub(r"[^/\w.\- :]", "_", name)[:LONGEST_NAME]


def score(task: str, metric: str) -> str:
    """A score of the test set, of whatever family and domain: `forecast/mase_16`."""
    return clean(f"{task}/{metric}")


def cost(name: str) -> str:
    """What a training took: `cost/seconds`."""
    return clean(f"cost/{name}")
