"""What code a stage runs: every file of the library that its function imports, at any depth, read from the source.

`compose` writes a hash of that code for each stage into code.json, which dvc.yaml's stages have among their parameters.
So a change of code reruns the stages that run it and no other, and no list of files needs keeping. The fingerprint of a
stage begins at its function in seqlab.stages: what only places, tracks or starts it is no part of it.

Comments and docstrings run nowhere, and are not hashed.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

from seqlab import config, schema
from seqlab.artifacts import read_json, write_json
from seqlab.cells import Cell
from seqlab.config import Domain, Experiment, judged
from seqlab.settings import Family, Objective, Strategy

SRC = schema.ROOT.parent
DATA = r"\w+\.(yaml|jsonl|tsv|html|css|js)"  # names of files that a module reads


def fingerprint(files: Iterable[Path]) -> str:
    """A hash of `files` and of all that they import."""
    return _digest(frozenset(closure(*files)))


def files_of(files: Iterable[Path]) -> dict[str, str]:
    """A hash of what each of `files`, and of those that they import, does; by its path below src."""
    return {
        path.relative_to(SRC).as_posix(): hashlib.sha256(essence(path)).hexdigest()[:16]
        for path in sorted(closure(*files))
    }


NOTES = Path(".seqlab/code")  # of a workspace: index.json has a note's name by fingerprint; a note, hashes by file


def keep_notes(experiment: Experiment, home: Path) -> None:
    """Note what the files of every new fingerprint are, so that `seqlab why` can name those that change."""
    started = list(roots(experiment).values())
    known = read_json(home / NOTES / "index.json") if (home / NOTES / "index.json").exists() else {}
    if new := {fingerprint(files) for files in started} - known.keys():
        found = files_of(file for files in started for file in files)
        name = hashlib.sha256(repr(found).encode()).hexdigest()[:16]
        write_json(home / NOTES / f"{name}.json", found)
        write_json(home / NOTES / "index.json", known | dict.fromkeys(new, name))


def noted(home: Path, found: str) -> dict[str, str] | None:
    """What the files were when a fingerprint was new here; those of other stages may be among them."""
    index = home / NOTES / "index.json"
    name = read_json(index).get(found) if index.exists() else None
    note = home / NOTES / f"{name}.json"
    return read_json(note) if name is not None and note.exists() else None


@cache
def _digest(files: frozenset[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(SRC)}\0".encode() + essence(path) + b"\0")
    return digest.hexdigest()[:16]


def closure(*files: Path) -> set[Path]:
    """`files` and every file of the library they import, at any depth, imports inside functions included; and files of
    data that lie beside a module and that it names.

    A package that does nothing but describe itself (its __init__ holds a docstring and constants) is left out, and so
    is seqlab's own, which holds the version and finds the API by name. So is a module that says that it changes no bit
    of a result (errors, temporaries, signals, measured cost), with what it alone imports.
    """
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in found and not changes_no_bit(file):
            found.add(file)
            waiting += imported(file) if file.suffix == ".py" else ()
    described = schema.ROOT / "__init__.py"
    return {file for file in found if file != described and not (file.name == "__init__.py" and only_words(file))}


@cache
def changes_no_bit(file: Path) -> bool:
    """Whether a module states so, by a constant of that name."""
    if file.suffix != ".py":
        return False
    stated = (n for n in parsed(file).body if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name))
    return any(cast(ast.Name, n.targets[0]).id == "CHANGES_NO_BIT" for n in stated)


@cache
def essence(file: Path) -> bytes:
    """What of a file can change what it does: of Python all but comments, docstrings and empty lines."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text.encode()
    # As bytes, in which a syntax tree counts columns.
    rows = text.split("\n")
    lines = [row.encode() for row in rows]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = rows[row - 1][:column].encode()
    inside: set[int] = set()  # rows that begin within a string, where blanks and empty lines are its own
    for node in ast.walk(parsed(file)):
        if isinstance(node, (ast.Constant, ast.JoinedStr)):
            inside.update(range(node.lineno, node.end_lineno or node.lineno))
    for words in docstrings(file):
        first, last = words.lineno - 1, (words.end_lineno or words.lineno) - 1
        # A body of a docstring alone needs some statement: it keeps its place, without its words.
        rest = lines[last][words.end_col_offset :]
        lines[first] = lines[first][: words.col_offset] + b"..." + rest
        lines[first + 1 : last + 1] = [b""] * (last - first)
        inside.difference_update(range(first + 1, last + 1))
    # A string may go on below an empty line: such a row is kept as it is, and so is the blank before it.
    kept = (line if row + 1 in inside or row in inside else line.rstrip() for row, line in enumerate(lines))
    return b"\n".join(line for row, line in enumerate(kept) if line or row in inside)


def docstrings(file: Path) -> Iterator[ast.Constant]:
    for node in ast.walk(parsed(file)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.body:
            words = node.body[0].value if isinstance(node.body[0], ast.Expr) else None
            if isinstance(words, ast.Constant) and isinstance(words.value, str):
                yield words


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imported(file: Path) -> tuple[Path, ...]:
    """The files of the library that a file imports itself."""
    names: list[str] = []
    # What a type checker alone reads is never run.
    body = [n for n in parsed(file).body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    for node in ast.walk(ast.Module(body, [])):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    found = [path for name in names if name.split(".")[0] == "seqlab" for path in modules(name)]
    words = (n.value for n in ast.walk(parsed(file)) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    beside = (file.with_name(word) for word in words if re.fullmatch(DATA, word))
    return (*found, *(path for path in beside if path.is_file()))


def modules(name: str) -> list[Path]:
    """The file of a dotted name and the packages above it, which importing it runs as well."""
    parts = name.split(".")
    found = [SRC.joinpath(*parts[:i], "__init__.py") for i in range(1, len(parts) + 1)]
    return [path for path in (*found, SRC.joinpath(*parts).with_suffix(".py")) if path.is_file()]


def only_words(file: Path) -> bool:
    return all(isinstance(node, (ast.Expr, ast.Assign)) for node in parsed(file).body)


# What each stage begins with: its function, and what that finds by name at run time.


def stage_of(verb: str) -> Path:
    return schema.ROOT / f"stages/{verb}.py"


def task_parts(tasks: Iterable[str], *parts: str) -> list[Path]:
    """tasks/NAME/PART.py, those that there are."""
    files = (schema.ROOT / f"tasks/{task}/{part}.py" for task in tasks for part in parts)
    return [file for file in files if file.is_file()]


def family_files(family: Family, kind: str) -> list[Path]:
    """The file of a family's class, and of what serves its kind of space where that is another class."""
    target = family.component.target
    served = (schema.stated(target, "on") or {}).get(kind)
    files = [schema.definition(one, "").file for one in (target, served) if one is not None]
    if family.fit == "gradient" and kind == "vectors":
        files.append(schema.ROOT / "families/gradient/vector_ends.py")
    return files


def used(family: Family) -> list[Path]:
    """The file by which a fitted model of the family is used."""
    module = schema.stated(family.component.target, "used_by")
    path = None if module is None else schema.source(module)
    return [] if path is None else [path]


def prepares(domain: Domain) -> list[Path]:
    return [stage_of("prepare"), schema.definition(domain.prepare.target, "").file, *subwords(domain)]


def subwords(domain: Domain) -> list[Path]:
    return [schema.ROOT / "data/vocabulary.py"] if domain.kind == "pairs" else []


def trains(verb: str, domain: Domain, family: Family, tasks: Iterable[str]) -> list[Path]:
    parts = ("train", "loss") if family.fit == "gradient" else ("train",)
    around = [schema.ROOT / f"tasks/{task}/{family.fit}.py" for task in tasks]
    asked = {
        "carry": family.fit == "gradient" and domain.kind == "vectors",
        "muon": family.optimizer is not None and family.optimizer.matrix_learning_rate is not None,
    }
    return [
        stage_of(verb),
        *family_files(family, domain.kind),
        schema.ROOT / f"training/{family.fit}/train.py",
        *task_parts(tasks, *parts),
        *(file for file in around if file.is_file()),
        *(schema.ROOT / f"training/gradient/{name}.py" for name, needed in asked.items() if needed),
    ]


def pretrains(experiment: Experiment, domain: Domain, family: Family) -> list[Path]:
    return trains("pretrain", domain, family, [config.source_task(domain, family, experiment.objective)])


def finetunes(domain: Domain, family: Family, strategy: Strategy, members: Iterable[Family] = ()) -> list[Path]:
    tasks = config.tasks_of(domain, family)
    files = trains("finetune", domain, family, tasks)
    files += [file for member in members for file in (*family_files(member, domain.kind), *used(member))]
    if strategy.grouped and family.fit == "gradient":
        files.append(schema.ROOT / "training/gradient/tuning.py")
    if strategy.distillation is not None:
        files += [schema.ROOT / f"{name}.py" for name in ("families/loading", "training/gradient/distil")]
        files += [*used(family), *task_parts(tasks, "distil")]
    if strategy.pseudo_labels is not None:
        files += [schema.ROOT / "training/pseudo_labels.py", *used(family)]
    return files + ordering(strategy)


def by_hand(domain: Domain, family: Family, strategy: Strategy, objective: Objective) -> list[Path]:
    """Of a training by hand, which makes its data and its source's model where they differ from the pipeline's."""
    source = [config.source_task(domain, family, objective)] if family.objectives else []
    files = [*prepares(domain), *finetunes(domain, family, strategy)]
    return files + trains("pretrain", domain, family, source)


def ordering(strategy: Strategy) -> list[Path]:
    return [schema.ROOT / "data/order.py"] if strategy.order == "shuffled" else []


def evaluates(domain: Domain, family: Family, strategy: Strategy, members: Iterable[Family] = ()) -> list[Path]:
    tasks = config.judged_of(domain, family)
    trained = config.tasks_of(domain, family)
    around = [schema.ROOT / f"tasks/{task}/{family.fit}.py" for task in tasks if task in trained]
    files = [stage_of("evaluate"), *family_files(family, domain.kind), *used(family), *task_parts(tasks, "judge")]
    files += [file for member in members for file in (*family_files(member, domain.kind), *used(member))]
    return files + [file for file in around if file.is_file()] + ordering(strategy)


def controls(domain: Domain) -> list[Path]:
    return [stage_of("controls"), *task_parts(judged(domain.evaluate.headline), "controls", "peers", "judge")]


def draws(domain: Domain) -> list[Path]:
    return [stage_of("draw"), *task_parts(judged(domain.evaluate.headline), "draw")]


def in_place(domain: Domain) -> list[str]:
    """The tasks that some of its families are trained for and judged by in another's place."""
    return [task for task in domain.finetune if config.replaces(task)]


def probes(experiment: Experiment, domain: Domain) -> list[Path]:
    """What is trained again, and all whose models are asked."""
    cells = [cell for cell in experiment.cells() if cell.domain == domain.name]
    families = [experiment.families[name] for name in dict.fromkeys(cell.family for cell in cells)]
    files = [stage_of("probe"), *subwords(domain)]
    for family in families:
        files += [*family_files(family, domain.kind), *used(family)]
        files += [file for name in family.members for file in family_files(experiment.families[name], domain.kind)]
        if family.name in experiment.suite.retrained:
            files += trains("finetune", domain, family, config.tasks_of(domain, family))
    return files


def diagnoses(family: Family) -> list[Path]:
    return [stage_of("diagnose"), *family_files(family, "vectors")]


def compares(experiment: Experiment) -> list[Path]:
    domains = experiment.domains.values()
    tasks = [task for domain in domains for task in (*judged(domain.evaluate.headline), *in_place(domain))]
    return [stage_of("compare"), *task_parts(dict.fromkeys(tasks), "judge", "report")]


def roots(experiment: Experiment) -> dict[str, list[Path]]:
    """The files that every stage begins with, by its key in code.json."""
    domains, families = experiment.domains, experiment.families
    found = {"acquire": [stage_of("acquire")]}
    for name, domain in domains.items():
        found |= {
            f"prepare.{name}": prepares(domain),
            f"controls.{name}": controls(domain),
            f"draw.{name}": draws(domain),
            f"probe.{name}": probes(experiment, domain),
        }
    for cell in experiment.cells():
        domain, family, strategy = domains[cell.domain], families[cell.family], experiment.strategies[cell.strategy]
        if strategy.init == "pretrained" and not family.members:
            found[f"pretrain.{cell.domain}.{cell.family}"] = pretrains(experiment, domain, family)
        key = key_of(cell)
        members = [families[name] for name in family.members]
        found[f"finetune.{key}"] = finetunes(domain, family, strategy, members)
        found[f"evaluate.{key}"] = evaluates(domain, family, strategy, members)
    for name in experiment.diagnosed():
        found[f"diagnose.{name}"] = diagnoses(families[name])
    return found | {
        "diagnostics": [stage_of("diagnostics")],
        "compare": compares(experiment),
        "report": [stage_of("report")],
    }


def key_of(cell: Cell) -> str:
    """Of its training and evaluation in code.json: seeds and shares of the target run the same code."""
    return f"{cell.domain}.{cell.family}.{cell.strategy}"


def code(experiment: Experiment) -> dict[str, object]:
    """The fingerprint of every stage, nested as code.json is."""
    tree: dict[str, Any] = {}
    for key, files in roots(experiment).items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = fingerprint(files)
    return tree
