"""The runs that stand above others, and what a run says of itself.

A system is a line of the leaderboard: a family trained by a strategy, or a control. Its run is the parent of the stages
of all its seeds, and carries what the comparison found: mean, spread and interval over seeds, and the cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seqlab.tracking.names import KIND, SWEEP, SYSTEM


@dataclass(frozen=True)
class System:
    """family: a control's own name where `control`. strategy: as the leaderboard writes it, share of the data included.

    Runs of one suite are apart from those of another: their budgets differ.
    """

    suite: str
    domain: str
    family: str
    strategy: str
    control: bool = False

    @property
    def name(self) -> str:
        """What differs comes first: MLflow's table cuts long names."""
        return self.family.replace("_", " ") if self.control else f"{self.family}·{self.strategy}"

    @property
    def tags(self) -> dict[str, str]:
        return {
            KIND: SYSTEM,
            "suite": self.suite,
            "domain": self.domain,
            "family": self.family,
            "strategy": self.strategy,
            "control": str(self.control).lower(),
        }

    def event(self, repository: str) -> dict[str, Any]:
        """As a journal has it. repository: what tells its runs from those of another one on the same server."""
        parts = "\0".join((repository, self.suite, self.domain, self.family, self.strategy))
        key = hashlib.sha256(parts.encode()).hexdigest()[:32]
        return {"key": key, "name": self.name, "experiment": self.domain, "tags": self.tags}


@dataclass(frozen=True)
class Sweep:
    """A sweep by hand: the parent of its jobs. name: follows from them."""

    name: str
    verb: str

    def event(self, repository: str) -> dict[str, Any]:
        """As that of a system."""
        key = hashlib.sha256("\0".join((repository, "sweep", self.name)).encode()).hexdigest()[:32]
        tags = {KIND: SWEEP, "phase": self.verb, "sweep": self.name}
        return {"key": key, "name": f"sweep {self.name} {self.verb}", "experiment": "sweeps", "tags": tags}


@dataclass(frozen=True)
class Note:
    """A run's description, for a person who found it: Markdown.

    columns: the metrics and tags worth a look, with what they mean.
    """

    what: str
    means: str
    rerun: str
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        parts = [f"**What this is:** {self.what}", f"**What it means:** {self.means}"]
        if self.columns:
            rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in self.columns.items())
            parts.append(f"| column | meaning |\n|:--|:--|\n{rows}")
        parts.append(f"**Rerun with:** `{self.rerun}`")
        return "\n\n".join(parts)
