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
from seqlab.cli.places import ROOT, SUITES, Workspace
from seqlab.cli.results import LEADERBOARD, leaderboard
from seqlab.config import read_params
from seqlab.errors import UserError
from seqlab.evaluation import kinds

if TYPE_CHECKING:
    import numpy as np
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
    if question in ("generate", "translate") or model.units.kind == "symbols":
        texts = texts_of(asked.file, tree["prepare"])
        if question == "generate":
            return model.generate(texts, asked.steps)
        return getattr(model, question)(texts)
    frame, names = table(asked.file, tree["prepare"])
    beside = covariates_of(tree["prepare"])
    used = model.covariates if question == "forecast" else None
    if beside and used is None:
        frame = frame.drop(columns=beside)
        values = [column for column in frame.columns if column not in names.values()]
        frame = frame[before_last(frame, values, names)]
        print(f"seqlab: covariates are not used by this model for {question}: {', '.join(beside)}", file=sys.stderr)
    if question == "forecast":
        return model.forecast(frame, asked.steps, levels=asked.levels, **names)
    return getattr(model, question)(frame, **names)


def covariates_of(prepare: dict[str, Any]) -> list[str]:
    """Columns of covariates of a domain's own table."""
    from seqlab.data.beside import ROLES

    layout = prepare.get("target") or {}
    return [name for role in ROLES for name in layout.get(role) or []]


def before_last(frame: pd.DataFrame, values: Sequence[str], names: dict[str, str]) -> np.ndarray:
    """(rows,) bool: which are no later than the last of their sequence that has values. names: of id and time."""
    there = frame[list(values)].notna().any(axis=1)
    latest_first = (
        frame.index[::-1] if "time" not in names else frame[names["time"]].sort_values(kind="stable").index[::-1]
    )
    there = there.loc[latest_first]
    found = there.groupby(frame[names["id"]]).cummax() if "id" in names else there.cummax()
    needed: np.ndarray = found.loc[frame.index].to_numpy(bool)
    return needed


def texts_of(path: Path, prepare: dict[str, Any]) -> list[str]:
    """One a line, or, of a table, the cells of the column in which the domain's own file has its texts.

    Raises UserError where that is a file of lines.
    """
    from seqlab.data.readers import Dialect, plain_suffix, read_lines, read_table
    from seqlab.intake import sniff

    if plain_suffix(path) not in sniff.TABLES:
        return [line for _, line in read_lines(path) if line.strip()]
    columns = prepare.get("target_columns")  # a list of a file without a header
    named = [columns["text"]] if isinstance(columns, dict) else []
    named += [
        c.get("columns", ["english"])[0] for c in (prepare.get("corpora") or {}).values() if c["format"] == "table"
    ]
    if not named:
        raise UserError(f"{path}: a table, but the domain's own file has one text a line; give such a file, as .txt")
    rows = read_table(path, named[:1], [], Dialect.of(path, prepare.get("dialect")))
    return [text for _, (text,) in rows if text.strip()]


def table(path: Path, prepare: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, str]]:
    """New rows with the columns of the domain's own: id, time, value(s) and covariates, and what these are called.

    Where the domain has covariates, values may be empty after the last one of a sequence.
    """
    import numpy as np
    import pandas as pd

    from seqlab.data import time
    from seqlab.data.readers import Dialect, read_table

    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    layout = prepare.get("target") or prepare
    keys = list(layout.get("key") or [])
    values = layout.get("channels") or layout.get("value")
    columns = [values] if isinstance(values, str) else list(values or [])
    if not columns:
        raise UserError(f"{path}: the domain's yaml names no columns of values, so a table cannot be read; use Python")
    stamp = layout.get("time")
    beside = covariates_of(prepare)
    wanted = [*keys, *([stamp] if stamp else []), *columns, *beside]
    dialect = Dialect.of(path, layout.get("dialect") or prepare.get("dialect"))
    rows = list(read_table(path, wanted, [], dialect))
    frame = pd.DataFrame([cells for _, cells in rows], columns=wanted)
    for column in (*columns, *(name for name in beside if name not in (layout.get("static") or []))):
        cells = zip((row for row, _ in rows), frame[column], strict=True)
        numbers = [dialect.number(cell, path, row, column) for row, cell in cells]
        frame[column] = numbers
    names: dict[str, str] = {}
    if keys:
        frame.insert(0, "id", frame[keys].agg(" / ".join, axis=1))
        frame = frame.drop(columns=keys)
        names["id"] = "id"
    if stamp:
        distinct = list(dict.fromkeys(frame[stamp]))
        times = time.read(distinct)
        found = times.instant if times.local is None else pd.to_datetime(times.local, unit="us")
        frame[stamp] = frame[stamp].map(dict(zip(distinct, found, strict=True)))
        names["time"] = stamp
    needed = before_last(frame, columns, names) if beside else np.ones(len(frame), bool)
    missing = frame[columns].isna() & needed[:, None]
    carried = int(prepare.get("carried") or 0)  # as in the data that models were trained on
    if carried and missing.to_numpy().any():
        in_time = frame if not stamp else frame.sort_values(stamp, kind="stable")
        known = (in_time.groupby("id")[columns] if keys else in_time[columns]).ffill(limit=carried).loc[frame.index]
        frame[columns] = frame[columns].where(~missing, known)
        number = int((missing & frame[columns].notna()).to_numpy().sum())
        print(f"seqlab: for {number} missing values stands the last one before each", file=sys.stderr)
    for column in columns:
        if len(without := np.flatnonzero(frame[column].isna() & needed)):
            row = rows[int(without[0])][0]
            said = f", with no value in the {carried} steps before" if carried else ""
            raise UserError(
                f"{path}, row {row}, column {column}: missing{said}; a model needs every step before a forecast"
            )
    return frame, names


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
