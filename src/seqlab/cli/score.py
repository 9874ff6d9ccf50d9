"""Put a model from elsewhere into a domain's comparison, by its predictions.

    seqlab score --domain series --task forecast --ask asked/        what there is to predict, as Parquet
    seqlab score predictions.parquet --domain series --task forecast

The examples are those on which the workspace judged its own cells; docs/outside.md says what a table holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqlab import config, schema
from seqlab.cli.places import PIPELINE, ROOT, Workspace
from seqlab.cli.predict import workspace_of
from seqlab.config import read_params
from seqlab.errors import UserError


@dataclass(frozen=True)
class Question:
    """What `seqlab score` was asked. predictions: None: nothing is judged, what there is to predict goes to `ask`.

    metric: that ranks the printed table; None: the domain's headline. out: a .csv of all metrics' rows, as
    leaderboard.csv has them.
    """

    predictions: Path | None
    domain: str
    task: str
    metric: str | None
    ask: Path | None
    out: Path | None


def takers() -> list[str]:
    """The tasks that take predictions from elsewhere."""
    return sorted(path.parent.name for path in (schema.ROOT / "tasks").glob("*/outside.py"))


def score(asked: Question) -> None:
    """Print the table of a task with the foreign rows in it, or write what there is to predict."""
    if asked.task not in takers():
        raise UserError(f"--task {asked.task}: takes no predictions from elsewhere{schema.hint(asked.task, takers())}")
    if (asked.predictions is None) == (asked.ask is None):
        raise UserError("seqlab score: expected a table of predictions, or --ask FOLDER for what there is to predict")
    workspace = compared(asked.domain)
    experiment = config.experiment(read_params(workspace.home / "params.yaml"))
    headline = experiment.domains[asked.domain].evaluate.headline
    if asked.task not in headline:
        raise UserError(f"domain {asked.domain}: it has no table {asked.task!r}{schema.hint(asked.task, headline)}")
    from seqlab.cli.verbs import comparison_of
    from seqlab.evaluation import leaderboard
    from seqlab.stages import score as stage

    home, examples = workspace.home, experiment.suite.examples
    prepared, whole = home / PIPELINE.prepared(asked.domain), comparison_of(experiment, experiment.cells())
    if asked.ask is not None:
        names = stage.ask(
            prepared, asked.ask, domain=asked.domain, task=asked.task, comparison=whole, examples=examples
        )
        print(
            f"seqlab: {', '.join(str(asked.ask / f'{name}.parquet') for name in names)}; docs/outside.md says of what"
        )
        return
    assert asked.predictions is not None
    found = stage.score(
        asked.predictions,
        prepared,
        home / "models",
        home / "scores",
        domain=asked.domain,
        task=asked.task,
        comparison=whole,
        examples=examples,
        command=command_of(workspace, experiment.suite.name, asked.domain),
    )
    metric = asked.metric or headline[asked.task]
    print(leaderboard.markdown(found.rows, {asked.domain: {asked.task: metric}}))
    for one in found.systems:
        for note in one.notes:
            print(f"- {one.name}: {note}.")
        if not any((row.family, row.metric) == (one.name, metric) for row in found.rows):
            print(f"- {one.name} is not in this table: it has no {metric}; --metric names another.")
    if found.lacking:
        print(f"- Not evaluated yet, and left out: {', '.join(found.lacking)}.")
    if asked.out is not None:
        leaderboard.write_csv(found.rows, asked.out)


def command_of(workspace: Workspace, suite: str, domain: str) -> Callable[[str], str]:
    """In words, what runs stages of a workspace by their attributes: of a user's own domain, all of them."""
    if workspace.home == ROOT:
        return "seqlab repro --only {}".format
    return f"seqlab repro suite={suite} --only {{}}".format if suite != domain else lambda _: f"seqlab compare {domain}"


def compared(domain: str) -> Workspace:
    """The workspace that this is asked in, if it has the domain, else the one that compared it."""
    here = Workspace.current()
    params = here.home / "params.yaml"
    return here if params.exists() and domain in read_params(params)["domains"] else workspace_of(domain, None)[0]
