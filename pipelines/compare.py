"""Compare every cell of the suite: leaderboard, pictures, DVC metrics and plots, and one tracked run of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

from stage import PRIVATE, ROOT, errors_in_one_line, hashed, new_run

from seqlab import config
from seqlab.artifacts import read_json, replacing, write_json, write_text
from seqlab.config import Experiment, TranslationEvaluation
from seqlab.evaluation import leaderboard, pictures, scores, translation_report
from seqlab.evaluation.leaderboard import Cell, Cost, Row
from seqlab.tracking import SERVED_SETTINGS, Run

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
        cells = read_cells(experiment)
        rows = leaderboard.build(cells, experiment.suite.replicates, seed=0)
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
        for name, domain in experiment.domains.items():
            if isinstance(domain.evaluate, TranslationEvaluation):
                report = translation_report.markdown(
                    name,
                    [cell for cell in cells if cell.domain == name],
                    read_speeds(experiment, name),
                    domain.evaluate,
                    experiment.suite.replicates,
                )
                write_text(REPORTS / f"{name}.md", report)
                register_best(run, experiment, name, domain.evaluate, rows)
        for part in sorted(REPORTS.iterdir()):
            run.artifact(part)
        run.metrics({f"{r.domain}/{r.task}/{r.metric}/{r.family}/{r.strategy}": r.value for r in rows})
        write_json(PRIVATE / "records" / "compare" / "suite.json", {"run": run.key})
    print(text)


def read_cells(experiment: Experiment) -> list[Cell]:
    """The scores of every cell and control of the suite."""
    cells = []
    for cell in experiment.cells():
        part = f"{cell.domain}/{cell.family}/{cell.strategy}/{cell.seed}"
        report = read_json(Path("models") / part / "report.json")
        found = scores.read(Path("scores") / part)
        for task, details in report.items():
            own = found.of(task, *(other for other, model in leaderboard.MODEL_OF.items() if model == task))
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


def register_best(
    run: Run, experiment: Experiment, domain: str, settings: TranslationEvaluation, rows: list[Row]
) -> None:
    """The system that translates the in-domain test set best becomes the newest version of a registered model."""
    task, metric = next(iter(settings.headline.items()))
    best = next(row for row in rows if row.table == (domain, task, metric) and not row.control)
    model = Path("models") / domain / best.family / best.strategy / str(experiment.suite.seeds[0]) / "translate"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        parts = {"trainer": asdict(experiment.trainer), "decoding": asdict(settings.decoding)}
        write_json(Path(folder) / SERVED_SETTINGS, parts)
        run.model(Path(folder), f"{experiment.tracking.prefix}-{domain}")


def read_speeds(experiment: Experiment, domain: str) -> dict[tuple[str, str, str], float]:
    """Sentences a second by (task, family, strategy), of the first seed."""
    found: dict[tuple[str, str, str], float] = {}
    for cell in experiment.cells():
        record = PRIVATE / "records" / "evaluate" / f"{cell.domain}/{cell.family}/{cell.strategy}/{cell.seed}.json"
        if cell.domain == domain and record.exists():
            for task, cost in read_json(record)["cost"].items():
                found.setdefault((task, cell.family, cell.strategy), cost["sentences_per_second"])
    return found


if __name__ == "__main__":
    os.chdir(ROOT)
    errors_in_one_line(compare)
