"""Answer new data with a trained model of a domain: forecasts, classes, labels, likelihoods, texts, translations.

    seqlab predict sales new.csv --steps 12 --levels 0.1,0.5,0.9 -o out.parquet
    seqlab predict reviews new.txt --question classify

The model is the winner of the domain's leaderboard for that question, or the folder that --model names. New data are
read as the domain's own were: the same columns, the same way of writing times.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import config, schema
from seqlab.cli.compose import PARAMS
from seqlab.cli.new_data import read_sequences, read_texts, say
from seqlab.cli.places import PIPELINE, ROOT, SUITES, Workspace
from seqlab.cli.results import LEADERBOARD, leaderboard
from seqlab.config import read_params
from seqlab.errors import UserError
from seqlab.evaluation import kinds

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.config import Experiment

MOST_STEPS = 10_000
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
    """What `seqlab predict` was asked. question: None: the domain's foremost. model: a folder; None: the winner's."""

    domain: str
    file: Path
    question: str | None
    model: Path | None
    steps: int
    levels: tuple[float, ...]
    out: Path | None


def predict(asked: Asked) -> None:
    """Write the answers to `out`, or print them as CSV. Raises UserError for what is wrong with data or model."""
    import seqlab

    checked(asked)
    workspace = workspace_of(asked.domain)
    params = read_params(workspace.home / PARAMS)
    tree = params["domains"][asked.domain]
    headline: dict[str, str] = tree["evaluate"]["headline"]
    question = asked.question or foremost(headline)
    folder = asked.model or winner(workspace, asked.domain, question, headline)
    model = seqlab.load(folder)
    if question not in model.answers:
        raise UserError(f"{folder}: it answers {', '.join(model.answers)}, not {question}")
    say(f"{question} by {shown(folder)}")
    unused = unused_of(config.experiment(params), asked.domain, folder)
    raw = workspace.home / PIPELINE.raw(asked.domain)
    write(answer(model, question, asked, tree["prepare"], raw, unused), asked.out)


def foremost(headline: dict[str, str]) -> str:
    """The question that a domain is mostly asked: forecasts where it has them, then classes and labels."""
    return next(question for question, tables in TABLES.items() if any(table in headline for table in tables))


def workspace_of(domain: str) -> Workspace:
    """The workspace that compared the domain: its own, or the checkout."""
    for home in (ROOT / SUITES / domain, ROOT):
        if (home / PARAMS).exists() and domain in read_params(home / PARAMS)["domains"]:
            return Workspace(home)
    known = [path.stem for path in (ROOT / "conf/domain").glob("*.yaml")]
    if domain not in known:
        raise UserError(f"domain {domain!r}: unknown{schema.hint(domain, known)}")
    raise UserError(f"domain {domain!r}: nothing was compared on it; `seqlab compare {domain}` does that")


def winner(workspace: Workspace, domain: str, question: str, headline: dict[str, str]) -> Path:
    """The model of the best family in the question's table; what is ahead of it and is no single model is said."""
    path, rows = workspace.home / LEADERBOARD, leaderboard(workspace.home)
    if rows is None:
        raise UserError(f"{path}: missing; `seqlab compare {domain}` writes it, or name a model with --model")
    for table in TABLES[question]:
        ahead = []
        for row in rows:
            own = (row["domain"], row["task"], row["metric"]) == (domain, table, headline.get(table))
            if own and row["strategy"] in (kinds.ENSEMBLE, kinds.OUTSIDE):
                ahead.append(f"{row['family']} · {row['strategy']}")
            elif own and row["control"] != "true":
                if ahead:
                    passed = f"{', '.join(ahead)}: ahead in {table}, but no single model; {row['family']} answers"
                    print(f"seqlab: {passed}", file=sys.stderr)
                seed = read_params(workspace.home / PARAMS)["suite"]["seeds"][0]
                return workspace.home / "models" / domain / row["family"] / row["strategy"] / str(seed)
    raise UserError(f"{path}: no system of {domain} answers {question}; its tables are {', '.join(headline)}")


def answer(model: Any, question: str, asked: Asked, prepare: dict[str, Any], raw: Path, unused: Sequence[str]) -> Any:
    """What the model says of the file: a table, or of texts that it writes a list, a line of the file each.

    prepare: the domain's section. raw: its own files. unused: covariates that the model does not need.
    """
    if question in ("generate", "translate") or model.units.kind == "symbols":
        lines = read_texts(asked.file, prepare)
        texts = {i: text for i, text in enumerate(lines) if text.strip()}
        if question in ("generate", "translate"):
            written = model.generate(texts, asked.steps) if question == "generate" else model.translate(texts)
            answers = dict(zip(texts, written, strict=True))
            return [answers.get(i, "") for i in range(len(lines))]
        return getattr(model, question)(texts)
    names = model.covariates if question == "forecast" else None
    if names is None and (beside := covariates_of(prepare)):
        say(f"covariates are not used by this model for {question}: {', '.join(beside)}")
    ahead = asked.steps if question == "forecast" else 0
    found = read_sequences(asked.file, prepare, raw, ahead, names, unused)
    values = {name: one.values for name, one in found.items()}
    if question != "forecast":
        answers = getattr(model, question)(values)
        return timed(answers, {name: one.stamps for name, one in found.items()})
    if names is None:
        answers = model.forecast(values, asked.steps, levels=asked.levels)
    else:
        import pandas as pd

        frame = pd.concat([one.covariates for one in found.values()], ignore_index=True)
        answers = model.forecast(frame, asked.steps, levels=asked.levels, id="id")
    if any(one.ahead is None for one in found.values()):
        say("a step is from one row to the next: the answer counts steps")
    return timed(answers, {name: one.ahead for name, one in found.items()})


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
    if asked.steps > MOST_STEPS:
        raise UserError(f"--steps {asked.steps}: expected {MOST_STEPS} at most")
    if len(set(asked.levels)) < len(asked.levels):
        raise UserError(f"--levels {','.join(map(str, asked.levels))}: expected each level once")


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
    """Raises UserError where a level is no number between 0 and 1."""
    found: Sequence[str] = text.split(",")
    try:
        return tuple(float(part) for part in found)
    except ValueError:
        raise UserError(f"--levels {text!r}: expected numbers between 0 and 1, with commas") from None
