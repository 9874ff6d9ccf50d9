"""Answer new data with a trained model of a domain: forecasts, classes, labels, likelihoods, texts, translations.

    seqlab predict sales new.csv --steps 12 --levels 0.1,0.5,0.9 -o out.parquet
    seqlab predict reviews new.txt --question classify

The model is the winner of the domain's leaderboard for that question, or the folder that --model names. New data are
read as the domain's own were: the same columns, the same way of writing times. A forecast goes on from the past of each
series: its rows in the new file and, before them, those of the domain's own file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import config, schema
from seqlab.cli.compose import PARAMS
from seqlab.cli.composing import compose, own_suite
from seqlab.cli.new_data import NewSequence, Wanted, read_sequences, read_texts, say, some
from seqlab.cli.places import PIPELINE, ROOT, SUITES, Workspace
from seqlab.cli.results import LEADERBOARD, leaderboard
from seqlab.config import read_params
from seqlab.errors import UserError
from seqlab.evaluation import kinds

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.config import Experiment
    from seqlab.data.beside import Names
    from seqlab.settings import Register

MOST_STEPS = 10_000
STEPS, LEVELS = 12, (0.1, 0.5, 0.9)  # where none were asked for
STEPPED = ("forecast", "generate")  # questions that take --steps
# For each question, the table whose best system answers it.
TABLES = {
    "forecast": ("forecast",),
    "classify": ("classify",),
    "label": ("label",),
    "score": ("next_step",),
    "generate": ("next_step",),
    "translate": ("in_domain", "translate"),
}


@dataclass(frozen=True)
class Asked:
    """What `seqlab predict` was asked. question: None: the foremost of the model, or of the domain. model: a folder;
    None: the winner's. steps, levels: None: the usual ones.
    """

    domain: str
    file: Path
    question: str | None
    model: Path | None
    steps: int | None
    levels: tuple[float, ...] | None
    out: Path | None


def predict(asked: Asked) -> None:
    """Write the answers to `out`, or print them as CSV. Raises UserError for what is wrong with data or model."""
    import seqlab

    workspace, params = workspace_of(asked.domain, asked.model)
    checked(asked)
    tree = params["domains"][asked.domain]
    headline: dict[str, str] = tree["evaluate"]["headline"]
    model = None if asked.model is None else seqlab.load(asked.model)
    question = asked.question or foremost(headline, tree["prepare"], None if model is None else model.answers)
    fitting(asked, question)
    folder = asked.model or winner(workspace, asked.domain, question, headline)
    model = model or seqlab.load(folder)
    if question not in model.answers:
        raise UserError(f"{folder}: it answers {', '.join(model.answers)}, not {question}")
    if asked.model is not None:
        of_another_domain(model, folder, workspace, asked.domain)
    unused = unused_of(config.experiment(params), asked.domain, folder)
    raw = raw_of(workspace, asked.domain, tree)
    judged = tree["evaluate"]
    registers = judged.get("registers", {})
    register = next((registers[table] for table in TABLES["translate"] if table in registers), None)
    period = int(judged.get("period") or 1)
    answers = answer(model, question, asked, tree["prepare"], raw, unused, period, register)
    say(f"{question} by {shown(folder)}")
    write(answers, asked.out)


def foremost(headline: dict[str, str], prepare: dict[str, Any], answers: Sequence[str] | None = None) -> str:
    """The question that a domain is mostly asked: of whole sequences with classes these, then forecasts where it has
    them, then classes and labels. answers: of a model, to which the question is put.
    """
    order = dict.fromkeys(["classify", *TABLES] if prepare.get("data") and prepare.get("classes") else TABLES)
    asked = [question for question in order if any(table in headline for table in TABLES[question])]
    if answers is None:
        return asked[0]
    return next((question for question in (*asked, *order) if question in answers), asked[0])


def of_another_domain(model: Any, folder: Path, workspace: Workspace, domain: str) -> None:
    """Say that a model is one of another domain. Raises UserError where it takes data of another kind."""
    from seqlab.data.prepared import Prepared
    from seqlab.data.units import Units
    from seqlab.families import bundle

    home = folder.resolve().parents[2].name if bundle.in_workspace(folder) else None
    prepared = workspace.home / PIPELINE.prepared(domain)
    if home == domain or not prepared.is_dir():  # of a domain that is not prepared any more, nothing is known
        return
    own, found = Units.of(Prepared.open(prepared)), model.units
    named = "this model" if home is None else f"a model of the domain {home}"
    for word, mine, its in (
        ("sequences", own.kind, found.kind),
        ("numbers a step", own.channels, found.channels),
        ("transform", own.transform, found.transform),
        ("characters", own.alphabet, found.alphabet),
    ):
        if mine != its:
            raise UserError(f"{folder}: {named}, for {word} {its!r}; those of {domain} are {mine!r}")
    if home is not None:
        classes = f"; its classes are {', '.join(found.classes)}" if found.classes != own.classes else ""
        say(f"{shown(folder)}: {named}, which takes data of the same kind{classes}")


def fitting(asked: Asked, question: str) -> None:
    """Raises UserError for an option that the question has no use for, and for a name that its answers cannot have."""
    from seqlab.intake.sniff import TABLES as FORMS
    from seqlab.intake.sniff import UNREADABLE

    if asked.steps is not None and question not in STEPPED:
        raise UserError(f"--steps {asked.steps}: {question} looks at no steps ahead; leave it out")
    if asked.levels is not None and question != "forecast":
        raise UserError(f"--levels: {question} answers no quantiles; leave it out")
    if asked.out is None or asked.out.suffix in (".csv", ".parquet"):
        return
    if question not in ("generate", "translate"):
        raise UserError(f"{asked.out}: expected a name that ends in .parquet or .csv")
    if asked.out.suffix in (*FORMS, *UNREADABLE):
        raise UserError(f"{asked.out}: expected a name that ends in .txt, .parquet or .csv")


def workspace_of(domain: str, model: Path | None) -> tuple[Workspace, dict[str, Any]]:
    """The workspace that compared the domain, its own or the checkout, and what that is composed of.

    A model of another place needs no comparison: the domain's yaml says how data are read.
    """
    for home in (ROOT / SUITES / domain, ROOT):
        if (home / PARAMS).exists() and domain in (params := read_params(home / PARAMS))["domains"]:
            return Workspace(home), params
    known = [path.stem for path in (ROOT / "conf/domain").glob("*.yaml")]
    if domain not in known:
        raise UserError(f"domain {domain!r}: unknown{schema.hint(domain, known)}")
    if model is None:
        raise UserError(f"domain {domain!r}: nothing was compared on it; `seqlab compare {domain}` does that")
    return Workspace(ROOT / SUITES / domain), compose("config", own_suite(domain))


def raw_of(workspace: Workspace, domain: str, tree: dict[str, Any]) -> Path:
    """The domain's own files: what the comparison took, or where nothing was compared the file that its yaml names."""
    raw, target = workspace.home / PIPELINE.raw(domain), tree["prepare"].get("target")
    if not raw.exists() and isinstance(target, dict):
        paths = (Path(str(archive.get("path"))) for archive in tree["archives"].values())
        return next((ROOT / path for path in paths if path.name == target.get("file")), raw)
    return raw


def winner(workspace: Workspace, domain: str, question: str, headline: dict[str, str]) -> Path:
    """The model of the best family in the question's table; what is ahead of it and is no single model is said."""
    path, rows = workspace.home / LEADERBOARD, leaderboard(workspace.home)
    if rows is None:
        raise UserError(f"{path}: missing; `seqlab compare {domain}` writes it, or name a model with --model")
    for table in TABLES[question]:
        joined, simple = list[str](), list[str]()
        for row in rows:
            if (row["domain"], row["task"], row["metric"]) != (domain, table, headline.get(table)):
                continue
            if row["strategy"] in (kinds.ENSEMBLE, kinds.OUTSIDE):
                joined.append(f"{row['family']} · {row['strategy']}")
            elif row["control"] == "true":
                simple.append(f"{row['family'].replace('_', ' ')} ({float(row['value']):.4g})")
            else:
                answers = f"{row['family']} · {row['strategy']} ({float(row['value']):.4g}) answers"
                for names, why in ((joined, "no single model"), (simple, "a control, and no model")):
                    if names:
                        print(f"seqlab: {', '.join(names)}: ahead in {table}, but {why}; {answers}", file=sys.stderr)
                seed = read_params(workspace.home / PARAMS)["suite"]["seeds"][0]
                return workspace.home / "models" / domain / row["family"] / row["strategy"] / str(seed)
    raise UserError(f"{path}: no system of {domain} answers {question}; its tables are {', '.join(headline)}")


def answer(
    model: Any, question: str, asked: Asked, prepare: dict[str, Any], raw: Path, unused: Sequence[str],
    period: int = 1, register: Register | None = None,
) -> Any:  # fmt: skip
    """What the model says of the file: a table, or of texts that it writes a list, a line of the file each.

    prepare: the domain's section. raw: its own files. unused: covariates that the model does not need. period: the
    domain's season, in steps. register: that its translations are ordered in.
    """
    steps = STEPS if asked.steps is None else asked.steps
    if question in ("generate", "translate") or model.units.kind in ("symbols", "pairs"):
        every = read_texts(asked.file, prepare)
        texts = {name: text for name, text in every.items() if text.strip()}
        if question in ("generate", "translate"):
            given = model.generate(texts, steps) if question == "generate" else model.translate(texts, register)
            answers = dict(zip(texts, given, strict=True))
            return [answers.get(name, "") for name in every]
        return getattr(model, question)(texts)
    names = model.covariates if question == "forecast" else None
    if names is None and (beside := covariates_of(prepare)):
        say(f"covariates are not used by this model for {question}: {', '.join(beside)}")
    if question == "forecast":
        wanted = Wanted(max(period, model.shortest), model.unfit, asked.steps is not None)
    else:
        # What a step's likelihood rests on comes before it; a class is one of the new rows alone.
        steps, wanted = 0, Wanted(unfit=model.unfit, joined=question == "score")
    found = read_sequences(asked.file, prepare, raw, steps, names, unused, wanted)
    return keyed(_told(model, question, asked, prepare, names, found), found)


def _told(
    model: Any, question: str, asked: Asked, prepare: dict[str, Any], names: Names | None,
    found: dict[str, NewSequence],
) -> pd.DataFrame:  # fmt: skip
    """What the model says of sequences, at their times."""
    values = {name: one.values for name, one in found.items()}
    if question != "forecast":
        answers = getattr(model, question)(values)
        if question == "score":
            answers = answers[answers["step"] > answers["id"].map({name: one.past for name, one in found.items()})]
        return timed(answers, {name: one.stamps for name, one in found.items()})
    least = int(prepare.get("min_length") or 0)
    if short := [f"{name!r}: {len(own)}" for name, own in values.items() if len(own) < least]:
        say(
            f"pasts shorter than the {least} steps that every series had in training: {len(short)} of {len(values)} "
            f"series ({some(short)}); what is forecast from so little is less sure than it looks"
        )
    steps, levels = STEPS if asked.steps is None else asked.steps, asked.levels or LEVELS
    if names is None:
        answers = model.forecast(values, steps, levels=levels)
    else:
        import pandas as pd

        frames = [one.covariates for one in found.values() if one.covariates is not None]
        # Fewer than were asked for, where covariates are known of fewer.
        steps = len(frames[0]) - len(next(iter(values.values())))
        answers = model.forecast(pd.concat(frames, ignore_index=True), steps, levels=levels, id="id")
    if any(one.ahead is None for one in found.values()):
        say("a step is from one row to the next: the answer counts steps")
    return timed(answers, {name: one.ahead for name, one in found.items()})


def keyed(answers: pd.DataFrame, sequences: Mapping[str, NewSequence]) -> pd.DataFrame:
    """The columns that together name a series in place of `id`, where they are several."""
    columns = list(next(iter(sequences.values())).key)
    if not columns or "id" not in answers:
        return answers
    place = answers.columns.get_loc("id")
    found = answers.drop(columns="id")
    for i, column in enumerate(columns):
        name = column if column not in found else f"id {column}"
        found.insert(place + i, name, [sequences[one].key[column] for one in answers["id"]])
    return found


def timed(answers: pd.DataFrame, stamps: Mapping[str, Sequence[Any] | None]) -> pd.DataFrame:
    """The column `time` in place of `step`, where answers have steps and every sequence has times."""
    if "step" not in answers or any(one is None for one in stamps.values()):
        return answers
    known = {(name, i): at for name, one in stamps.items() for i, at in enumerate(one or (), 1)}
    times = [known[name, step] for name, step in zip(answers["id"], answers["step"], strict=True)]
    place = answers.columns.get_loc("step")
    found = answers.drop(columns="step")
    found.insert(place, "time", times)
    return found


def covariates_of(prepare: dict[str, Any]) -> list[str]:
    """Columns of covariates of a domain's own table."""
    from seqlab.data.beside import ROLES

    layout = prepare.get("target")
    return [name for role in ROLES for name in layout.get(role) or []] if isinstance(layout, dict) else []


def unused_of(experiment: Experiment, domain: str, folder: Path) -> list[str]:
    """The covariates of the domain that a model of the pipeline does not use, by where it stands."""
    family = experiment.families.get(folder.parent.parent.name)
    if family is None:
        return []
    own = experiment.domains[domain]
    target = own.prepare.parameters.get("target", {})
    return [name for role in config.unused_covariates(own, family) for name in target[role]]


def checked(asked: Asked) -> None:
    """Raises UserError for what can be known to be wrong before anything is loaded."""
    if asked.out is not None and not asked.out.parent.is_dir():
        raise UserError(f"{asked.out}: there is no folder {asked.out.parent}")
    if asked.out is not None and asked.out.is_dir():
        raise UserError(f"{asked.out}: a folder; expected the name of a file")
    if asked.steps is not None and asked.steps > MOST_STEPS:
        raise UserError(f"--steps {asked.steps}: expected {MOST_STEPS} at most")
    levels = asked.levels or ()
    if outside := [level for level in levels if not 0 < level < 1]:
        raise UserError(f"--levels: found {outside[0]:g}, expected numbers between 0 and 1")
    if len(set(levels)) < len(levels):
        raise UserError(f"--levels {','.join(map(str, levels))}: expected each level once")
    if not asked.file.exists():
        raise UserError(f"{asked.file}: there is no such file")


def write(answers: Any, out: Path | None) -> None:
    """A table as Parquet or CSV by the suffix of `out`, on standard output as CSV; texts a line each, or as a table."""
    import pandas as pd

    if isinstance(answers, list):
        if out is None or out.suffix not in (".csv", ".parquet"):
            text = "\n".join(answers) + "\n"
            if out is None:
                print(text, end="")
            else:
                out.write_text(text, encoding="utf-8")
            return
        answers = pd.DataFrame({"text": answers}, index=pd.RangeIndex(len(answers), name="id"))
    frame = answers if answers.index.name is None else answers.reset_index()
    if out is None:
        print(frame.to_csv(index=False), end="")
    elif out.suffix == ".parquet":
        frame.to_parquet(out, index=False)
    elif out.suffix == ".csv":
        frame.to_csv(out, index=False)
    else:
        raise UserError(f"{out}: expected a name that ends in .parquet or .csv")


def shown(folder: Path) -> str:
    return str(folder.relative_to(ROOT)) if folder.is_relative_to(ROOT) else str(folder)


def levels_of(text: str) -> tuple[float, ...]:
    """Raises UserError where a level is no number."""
    found: Sequence[str] = text.split(",")
    try:
        return tuple(float(part) for part in found)
    except ValueError:
        raise UserError(f"--levels {text!r}: expected numbers between 0 and 1, with commas") from None
