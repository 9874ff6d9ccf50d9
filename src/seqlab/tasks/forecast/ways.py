"""Which way each network forecasts, as validation chose and its report says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIRECT, SAMPLES = "all steps at once", "by samples of the next step"


def way(report: Mapping[str, Any]) -> str | None:
    """From a cell's report.json; None of what had no such choice."""
    details = report.get("forecast", {}).get("details", {})
    if "best_step" not in details:
        return None
    # What is validated before the first step are samples (`loss.Loss`).
    return DIRECT if details["best_step"] else SAMPLES


def sentence(ways: Mapping[str, str]) -> str:
    """ways: by system; at least one."""
    parts = [
        f"{way}: {', '.join(systems)}"
        for way in (DIRECT, SAMPLES)
        if (systems := [name for name, own in ways.items() if own == way])
    ]
    return f"Networks forecast as validation chose, {'; '.join(parts)}."
