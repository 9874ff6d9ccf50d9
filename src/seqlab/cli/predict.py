"""Answer new data with a trained model of a domain: forecasts, classes, labels, likelihoods, texts, translations.

    seqlab predict sales new.csv --steps 12 --levels 0.1,0.5,0.9 -o out.parquet
    seqlab predict reviews new.txt --question classify

The model is the winner of the domain's leaderboard for that question, or the folder that --model names. New data are
read as the domain's own were: the same columns, the same way of writing times.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqlab import schema
from seqlab.cli.compose import PARAMS
from seqlab.cli.new_data import covariates_of, read_rows, read_texts, say
from seqlab.cli.places import ROOT, SUITES, Workspace
from seqlab.cli.results import LEADERBOARD, leaderboard
from seqlab.config import read_params
from seqlab.errors import UserError
from seqlab.evaluation import kinds

if TYPE_CHECKING:
    import pandas as pd

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

    workspace = workspace_of(asked.domain)
    tree = read_params(workspace.home / PARAMS)["domains"][asked.domain]
    headline: dict[str, str] = tree["evaluate"]["headline"]
    question = asked.question or foremost(headline)
    folder = asked.model or winner(workspace, asked.domain, question, headline)
    model = seqlab.load(folder)
    if question not in model.answers:
        raise UserError(f"{folder}: it answers {', '.join(model.answers)}, not {question}")
    print(f"seqlab: {question} by {shown(folder)}", flush=True)
    write(answer(model, question, asked, tree), asked.out)


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


def answer(model: Any, question: str, asked: Asked, tree: dict[str, Any]) -> Any:
    """What the model says of the file."""
    prepare = tree["prepare"]
    if question in ("generate", "translate") or model.units.kind == "symbols":
        texts = read_texts(asked.file, prepare)
        if question == "generate":
            return model.generate(texts, asked.steps)
        return getattr(model, question)(texts)
    rows = read_rows(asked.file, prepare)
    beside = covariates_of(prepare)
    if beside and (question != "forecast" or model.covariates is None):
        rows = rows.without(beside)
        say(f"covariates are not used by this model for {question}: {', '.join(beside)}")
    if question != "forecast":
        return in_units(getattr(model, question)(rows.frame, **rows.names), rows.scale)
    if not rows.latest.all():
        cut = int((~rows.latest).sum())
        rows = rows.chosen(rows.latest)
        say(f"{cut} rows before a gap that is too long to carry values over are left out: a forecast needs even steps")
    frame, names = rows.frame, dict(rows.names)
    if "time" in names and prepare.get("steps") == "rows":
        frame = frame.sort_values(names["time"], kind="stable").drop(columns=names.pop("time"))
        say("times are uneven, and a step is from one row to the next: the answer counts steps")
    return in_units(model.forecast(frame, asked.steps, levels=asked.levels, **names), rows.scale)


def in_units(answers: pd.DataFrame, scale: int) -> pd.DataFrame:
    """Times that are numbers as the file has them."""
    return answers.assign(time=answers["time"] / scale) if scale > 1 and "time" in answers else answers


def write(answers: Any, out: Path | None) -> None:
    """A table as Parquet or CSV by the suffix of `out`, on standard output as CSV; texts a line each."""
    if isinstance(answers, list):
        text = "\n".join(answers) + "\n"
        if out is None:
            print(text, end="")
        else:
            out.write_text(text, encoding="utf-8")
        return
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
