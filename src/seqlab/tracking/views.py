"""How MLflow's pages open: on model training, with the columns and charts that compare families.

MLflow's pages have two workflows, and the one of GenAI (traces, judges) is shown unless the address says
`workflowType=machine_learning` or the reader has clicked "Model training" at the top left, which the browser then
remembers. No tag of an experiment decides it (`mlflow.experimentKind`, which did before, is set for those versions). So
every address that seqlab writes or opens says it.

Columns, filters and charts of an experiment's runs are a *view*, which MLflow keeps as a tag of the experiment, lists
under "Views" and opens by `viewStateShareKey`. The layout of that tag is MLflow's own (experiment-page, SavedView); a
test opens it in a browser.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from seqlab.tracking.names import KIND, SYSTEM, clean

TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of every new experiment."""
WORKFLOW = {"workflowType": "machine_learning"}
VIEW = "mlflow.sharedViewState."
MOST_BARS = 100


@dataclass(frozen=True)
class View:
    """The systems of one suite beside each other.

    metrics: columns, a bar chart each, the first one sorts. lower: whether less of the first is better. scatters: pairs
    of metrics, one along each axis. others: metrics of the systems that get no chart: MLflow gives one to every metric
    that it is not told about.
    """

    suite: str
    metrics: Sequence[str]
    lower: bool
    scatters: Sequence[tuple[str, str]] = ()
    others: Sequence[str] = ()

    @property
    def key(self) -> str:
        return view_key(self.suite)

    def tag(self, time: int) -> tuple[str, str]:
        """The experiment's tag. time: of its making, in milliseconds."""
        metrics = [clean(metric) for metric in self.metrics]
        widths = dict.fromkeys((f"tags.`{name}`" for name in ("family", "strategy", "control")), 110)
        widths |= dict.fromkeys((f"metrics.`{metric}`" for metric in metrics), 150)
        section = f"{self.key}-section"
        charts: list[Mapping[str, Any]] = [
            {"type": "BAR", "metricKey": metric, "displayName": metric, "runsCountToCompare": MOST_BARS}
            for metric in metrics
        ]
        charts += [
            {
                "type": "SCATTER",
                "xaxis": {"key": clean(x), "type": "METRIC"},
                "yaxis": {"key": clean(y), "type": "METRIC"},
                "runsCountToCompare": MOST_BARS,
            }
            for x, y in self.scatters
        ]
        charts += [{"type": "BAR", "metricKey": clean(metric), "deleted": True} for metric in self.others]
        state = {
            "searchFilter": f"tags.{KIND} = '{SYSTEM}' AND tags.suite = '{self.suite}'",
            "orderByKey": f"metrics.`{metrics[0]}`",
            "orderByAsc": self.lower,
            "selectedColumns": list(widths),
            "columnOrder": list(widths),
            "columnWidths": widths,
            "runsHiddenMode": "SHOW_ALL",
            "hideEmptyCharts": True,
            "compareRunCharts": [
                {"uuid": f"{self.key}-{i}", "metricSectionId": section, "deleted": False, "isGenerated": False, **chart}
                for i, chart in enumerate(charts)
            ],
            "isAccordionReordered": True,  # or what is not ours comes first, where it is spelt so
            "compareRunSections": [
                {"uuid": section, "name": "Families", "display": True, "isReordered": False, "deleted": False}
                | {"isGenerated": False}
            ],
        }
        named = {"name": f"Families ({self.suite})", "createdAt": time, "updatedAt": time, "state": json.dumps(state)}
        return f"{VIEW}{self.key}", json.dumps(named)


def view_key(suite: str) -> str:
    return clean(f"families-{suite}").replace(" ", "-").replace("/", "-")


def runs_address(experiment_id: str, suite: str | None = None, charts: bool = False) -> str:
    """The part of an address after the server's: an experiment's runs, in the view of a suite, as table or charts."""
    query = dict(WORKFLOW)
    if suite is not None:
        query["viewStateShareKey"] = view_key(suite)
    if charts:
        query["compareRunsMode"] = "CHART"
    return f"#/experiments/{experiment_id}/runs?{urlencode(query)}"


def run_address(experiment_id: str, run_id: str) -> str:
    """The part of an address after the server's: one run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{urlencode(WORKFLOW)}"
