"""Compare every cell of the suite: leaderboard, pictures, DVC metrics and plots, and one tracked run of its own."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

from stage import PRIVATE, ROOT, errors_in_one_line, hashed, new_run

from seqlab import config
from seqlab.artifacts import read_json, replacing, write_json
from seqlab.config import Experiment
from seqlab.evaluation import leaderboard, pictures, scores
from seqlab.evaluation.leaderboard import Cell, Cost, Row

REPORTS = Path("reports")


def compare() -> None:
    tree = config.read_params(Path("params.yaml"))
    experiment = config.experiment(tree)
    headlines = {name: domain.evaluate.headline for name, domain in experiment.domains.items()}
    with new_run(
        experiment.tracking,
        experiment="leaderboard",
        name=f"compare {experiment.suite.name}",
        tags={"phase": "compare", "suite": experiment.suite.name},
        tree=tree,
        inputs=hashed({"scores": Path("scores")}),
        follows={},
    ) as run:
        rows = leaderboard.build(read_cells(experiment), experiment.suite.replicates, seed=0)
        leaderboard.write_csv(rows, REPORTS / "leaderboard.csv")
        leaderboard.write_metrics(rows, REPORTS / "metrics.json")
        leaderboard.write_plots(rows, headlines, REPORTS / "plots")
        draw(rows, headlines)
        # Measured cost differs from run to run: it and what quotes it stay outside everything that DVC hashes.
        costs = read_costs(experiment)
        leaderboard.write_costs(costs, REPORTS / "cost.csv")
        text = leaderboard.markdown(rows, headlines, costs)
        with replacing(REPORTS / "leaderboard.md") as made:
            made.write_text(text, encoding="utf-8")
        for part in sorted(REPORTS.iterdir()):
            run.artifact(part)
        run.metrics({f"{r.domain}/{r.task}/{r.metric}/{r.family}/{r.strategy}": r.value for r in rows})
        write_json(PRIVATE / "records" / "compare" / "suite.json", {"run": run.key})
    print(text)


def read_cells(experiment: Experiment) -> list[Cell]:
    """The scores of every cell and control of the suite."""
    cells = []
    for cell in experiment.cells():
        report = read_json(Path("models") / cell.path / "report.json")
        found = scores.read(Path("scores") / cell.path)
        for task, details in report.items():
            own = found.of(task, *(["forecast"] if task == "next_step" else []))
            names = (cell.domain, cell.family, cell.strategy, cell.seed)
            cells.append(Cell(*names, own, details["parameters"], details["steps"], details["flops"]))
    for domain in experiment.domains:
        for folder in sorted((Path("scores") / domain / "controls").iterdir()):
            cells.append(Cell(domain, folder.name, leaderboard.CONTROL, 0, scores.read(folder)))
    return cells


def draw(rows: list[Row], headlines: dict[str, dict[str, str]]) -> None:
    """A picture of each headline table, and one of what transfer brings."""
    with replacing(REPORTS / "pictures") as made:
        made.mkdir()
        for domain, metrics in headlines.items():
            for task, metric in metrics.items():
                table = [row for row in rows if row.table == (domain, task, metric)]
                pictures.leaderboard(table, made / f"{domain}-{task}.png")
                pictures.gains(table, made / f"{domain}-{task}-transfer.png")


def read_costs(experiment: Experiment) -> dict[tuple[str, str, str, str], Cost]:
    """Means over seeds of what training took; a cell that DVC restored instead of running keeps its earlier line."""
    found: dict[tuple[str, str, str, str], list[dict[str, float]]] = {}
    for cell in experiment.cells():
        record = PRIVATE / "records" / "finetune" / f"{cell.domain}/{cell.family}/{cell.strategy}/{cell.seed}.json"
        if record.exists():
            for task, cost in read_json(record)["cost"].items():
                found.setdefault((cell.domain, task, cell.family, cell.strategy), []).append(cost)
    fresh = {
        key: Cost(*(sum(cost[column.name] for cost in costs) / len(costs) for column in fields(Cost)))
        for key, costs in found.items()
    }
    return leaderboard.read_costs(REPORTS / "cost.csv") | fresh


if __name__ == "__main__":
    os.chdir(ROOT)
    errors_in_one_line(compare)
