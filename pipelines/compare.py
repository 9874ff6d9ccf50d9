"""Compare every cell of the suite: leaderboard, pictures, DVC metrics and plots, and one tracked run of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path

import warm  # noqa: F401
from stage import PRIVATE, ROOT, errors_in_one_line, hashed, new_run

from seqlab import config
from seqlab.artifacts import read_json, replacing, write_json, write_text
from seqlab.config import Experiment, TranslationEvaluation, mismatch
from seqlab.evaluation import leaderboard, order, pictures, scores, transfer, translation_report
from seqlab.evaluation.leaderboard import Cell, Cost, Row
from seqlab.evaluation.order import Worth
from seqlab.evaluation.transfer import Key, Point, Training, Trainings
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
        everything, trainings = read_cells(experiment)
        controls = {name: one.control or leaderboard.SCRATCH for name, one in experiment.strategies.items()}
        shuffling = {name: controls[name] for name, one in experiment.strategies.items() if one.order == "shuffled"}
        worths = order.build(
            [cell for cell, fraction in everything if fraction == 1.0],
            shuffling,
            headlines,
            experiment.suite.replicates,
            seed=0,
        )
        order.write_csv(worths, REPORTS / "order.csv")
        # Their data are others than those of the tables.
        cells = [(cell, fraction) for cell, fraction in everything if cell.strategy not in shuffling]
        whole = [cell for cell, fraction in cells if fraction == 1.0]
        rows = leaderboard.build(whole, experiment.suite.replicates, seed=0)
        compared = [(cell, fraction) for cell, fraction in cells if cell.strategy != leaderboard.CONTROL]
        points, curves = transfer.build(compared, headlines, controls, trainings, experiment.suite.replicates, seed=0)
        transfer.write_points(points, REPORTS / "transfer.csv")
        transfer.write_curves(curves, REPORTS / "transfer_summary.csv")
        leaderboard.write_csv(rows, REPORTS / "leaderboard.csv")
        leaderboard.write_metrics(rows, headlines, REPORTS / "metrics")
        leaderboard.write_plots(rows, headlines, REPORTS / "plots")
        draw(rows, points, worths, headlines)
        draw_lengths(rows, experiment)
        # Measured cost differs from run to run: it and what quotes it stay outside everything that DVC hashes.
        costs = read_costs(experiment)
        leaderboard.write_costs(costs, REPORTS / "cost.csv")
        text = "\n".join(filter(None, (leaderboard.markdown(rows, headlines, costs), order.markdown(worths))))
        write_text(REPORTS / "leaderboard.md", text)
        worth = transfer.markdown(points, curves, read_seconds(experiment, costs), left_out(experiment))
        write_text(REPORTS / "transfer.md", worth)
        for name, domain in experiment.domains.items():
            if isinstance(domain.evaluate, TranslationEvaluation):
                report = translation_report.markdown(
                    name,
                    [cell for cell in whole if cell.domain == name],
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


def read_cells(experiment: Experiment) -> tuple[list[tuple[Cell, float]], Trainings]:
    """The scores of every cell and control of the suite, with its share of the target, and how each was trained."""
    cells: list[tuple[Cell, float]] = []
    trainings: dict[tuple[Key, float], list[Training]] = {}
    for cell in experiment.cells():
        report = read_json(Path("models") / cell.path / "report.json")
        found = scores.read(Path("scores") / cell.path)
        source = pretraining(experiment, cell)
        for task, details in report.items():
            own = found.of(task, *(other for other, model in leaderboard.MODEL_OF.items() if model == task))
            names = (cell.domain, cell.family, cell.strategy, cell.seed)
            size = details["parameters"], details["steps"], details["flops"]
            cells.append((leaderboard.Cell(*names, own, *size, *source), cell.fraction))
            curve = [(point["step"], point["valid_loss"]) for point in details["details"].get("curves", [])]
            key = cell.domain, task, cell.family, cell.strategy
            trainings.setdefault((key, cell.fraction), []).append(Training(*size[1:], *source, curve))
    for domain in experiment.domains:
        for folder in sorted((Path("scores") / domain / "controls").iterdir()):
            cells.append((Cell(domain, folder.name, leaderboard.CONTROL, 0, scores.read(folder)), 1.0))
    return cells, trainings


def pretraining(experiment: Experiment, cell: config.Cell) -> tuple[int, float | None]:
    """Steps and FLOPs behind what a cell starts from: none from scratch; of a student, those of its teacher."""
    strategy = experiment.strategies[cell.strategy]
    if strategy.teacher is not None:
        teacher = replace(cell, strategy=strategy.teacher)
        own = read_json(Path("models") / teacher.path / "report.json").values()
        steps, flops = pretraining(experiment, teacher)
        known = [flops, *(one["flops"] for one in own)]
        return steps + sum(one["steps"] for one in own), None if None in known else sum(known)
    if strategy.init != "pretrained":
        return 0, 0.0
    report = read_json(Path("models") / cell.domain / cell.family / "pretrain" / str(cell.seed) / "report.json")
    [only] = report.values()  # named after the objective
    return only["steps"], only["flops"]


def left_out(experiment: Experiment) -> list[tuple[str, str, str]]:
    """Where the suite's strategies have no meaning for a family that the domain is for: strategy, where, reason."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for cell in experiment.asked():
        if mismatch(experiment.domains[cell.domain], experiment.families[cell.family]):
            continue
        if reason := experiment.not_applicable(cell):
            found.setdefault((cell.strategy, reason), {})[f"{cell.domain} {cell.family}"] = None
    return [(strategy, ", ".join(where), reason) for (strategy, reason), where in found.items()]


def draw(rows: list[Row], points: list[Point], worths: list[Worth], headlines: dict[str, dict[str, str]]) -> None:
    """A picture of each headline table, of what transfer brings, of that over shares of the target, and of order."""
    with replacing(REPORTS / "pictures") as made:
        made.mkdir()
        for domain, metrics in headlines.items():
            for task, metric in metrics.items():
                table = [row for row in rows if row.table == (domain, task, metric)]
                pictures.leaderboard(table, made / f"{domain}-{task}.png")
                pictures.gains(table, made / f"{domain}-{task}-transfer.png")
                curves = [point for point in points if (point.domain, point.task) == (domain, task)]
                if len({point.fraction for point in curves}) > 1:
                    pictures.label_curves(curves, made / f"{domain}-{task}-labels.png")
        if worths:
            pictures.order(worths, made / "order.png")


def draw_lengths(rows: list[Row], experiment: Experiment) -> None:
    """How translations fare with longer sources: what a fixed vector between encoder and decoder costs."""
    for name, domain in experiment.domains.items():
        for task, metric in domain.evaluate.headline.items() if domain.translates else ():
            if tables := translation_report.by_length(rows, name, task, metric):
                pictures.lengths(tables, REPORTS / "pictures" / f"{name}-{task}-lengths.png")


def read_costs(experiment: Experiment) -> dict[tuple[str, str, str, str], Cost]:
    """Means over seeds of what training took; a cell that DVC restored instead of running keeps its earlier line."""
    found: dict[tuple[str, str, str, str], list[dict[str, float]]] = {}
    for cell in [cell for cell in experiment.cells() if cell.fraction == 1.0]:
        record = PRIVATE / "records" / "finetune" / f"{cell.path}.json"
        if record.exists():
            for task, cost in read_json(record)["cost"].items():
                found.setdefault((cell.domain, task, cell.family, cell.strategy), []).append(cost)
    fresh = {
        key: Cost(*(sum(cost[column.name] for cost in costs) / len(costs) for column in fields(Cost)))
        for key, costs in found.items()
    }
    return leaderboard.read_costs(REPORTS / "cost.csv") | fresh


def read_seconds(
    experiment: Experiment, costs: dict[tuple[str, str, str, str], Cost]
) -> dict[Key, tuple[float | None, float | None]]:
    """Seconds on the whole target and of pretraining, means over seeds, of what ran here."""
    found: dict[Key, tuple[float | None, float | None]] = {}
    for (domain, task, family, strategy), cost in costs.items():
        if strategy not in experiment.strategies:  # of another suite
            continue
        seconds = []
        for seed in experiment.suite.seeds if experiment.strategies[strategy].init == "pretrained" else ():
            record = PRIVATE / "records" / "pretrain" / f"{domain}/{family}/{seed}.json"
            if record.exists():
                seconds += [one["seconds"] for one in read_json(record)["cost"].values()]
        found[domain, task, family, strategy] = cost.seconds, sum(seconds) / len(seconds) if seconds else None
    return found


def register_best(
    run: Run, experiment: Experiment, domain: str, settings: TranslationEvaluation, rows: list[Row]
) -> None:
    """The system that translates the in-domain test set best becomes the newest version of a registered model."""
    task, metric = next(iter(settings.headline.items()))
    best = next((row for row in rows if row.table == (domain, task, metric) and not row.control), None)
    if best is None:  # a suite may train its translators on shares of the target alone
        return
    model = Path("models") / domain / best.family / best.strategy / str(experiment.suite.seeds[0]) / "translate"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        # Whoever serves it may have no such device as trained it.
        trainer = replace(experiment.trainer, accelerator="auto")
        parts = {"trainer": asdict(trainer), "decoding": asdict(settings.decoding)}
        write_json(Path(folder) / SERVED_SETTINGS, parts)
        run.model(Path(folder), f"{experiment.tracking.prefix}-{domain}")


def read_speeds(experiment: Experiment, domain: str) -> dict[tuple[str, str, str], float]:
    """Sentences a second by (task, family, strategy), of the first seed."""
    found: dict[tuple[str, str, str], float] = {}
    for cell in experiment.cells():
        record = PRIVATE / "records" / "evaluate" / f"{cell.path}.json"
        if cell.domain == domain and cell.fraction == 1.0 and record.exists():
            for task, cost in read_json(record)["cost"].items():
                found.setdefault((task, cell.family, cell.strategy), cost["sentences_per_second"])
    return found


if __name__ == "__main__":
    os.chdir(ROOT)
    errors_in_one_line(compare)
