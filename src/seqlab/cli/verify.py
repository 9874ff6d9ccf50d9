"""Whether a result can be had again to the bit: its own commit, values and inputs in a clean place, and what comes out.

What dvc.lock says of a stage is the claim. It is held against, in this order: the inputs, the values and the code of
the run's commit, and then the bits that the stage makes there. The first that differs is named.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from seqlab import config
from seqlab.artifacts import read_json, write_json
from seqlab.cli import environment
from seqlab.cli.behind import VERIFIED, write_page
from seqlab.cli.claims import OLDER, RUN, Book, Claim, Row
from seqlab.cli.compose import CELLS, CODE, PARAMS, remembered
from seqlab.cli.differences import first_difference, largest_difference
from seqlab.cli.git import git
from seqlab.cli.places import REPORTS, ROOT, Workspace
from seqlab.cli.repro import workspace_of
from seqlab.cli.runs import environments_of
from seqlab.cli.trees import at
from seqlab.config import read_params
from seqlab.errors import UserError
from seqlab.executors.dvc import Cache, md5
from seqlab.yaml_files import parsed

TAKEN = ("conf", "pipelines", "src", "dvc.yaml")  # of the commit
PRIVATE = ("SEQLAB_", "DVC_", "MLFLOW_", "PYTHON")  # variables of what started this process, not of the stage's
LONGEST = 20  # lines of a failed stage's output that are shown


@dataclass(frozen=True)
class Finding:
    """outcome: same, differs or failed. first: what differs first, in words. environment: what differs there."""

    stage: str
    outcome: str
    first: str = ""
    environment: tuple[str, ...] = ()
    seconds: float = 0.0
    commit: str = ""
    where: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def line(self) -> str:
        words = {"same": "same bits", "differs": f"differs: {self.first}", "failed": f"failed: {self.first}"}
        also = f"; the environments differ: {'; '.join(self.environment)}" if self.environment else ""
        took = f" ({self.seconds:.0f} s)" if self.seconds else ""
        return f"{self.stage}: {words[self.outcome]}{took}{also}"


@dataclass(frozen=True)
class Asked:
    """sample: rows of the leaderboard, taken at random; None: all. seed: of that choice; None: one from the clock."""

    names: Sequence[str]
    overrides: Sequence[str] = ()
    all: bool = False
    sample: int | None = None
    seed: int | None = None


def verify(asked: Asked) -> None:
    """Ends with status 1 where anything differs. Raises UserError for what is no run, cell or row."""
    if bool(asked.names) == asked.all:
        raise UserError("verify: name a run, a cell or a row, or ask for --all")
    workspace = workspace_of(list(asked.overrides)) if asked.overrides else Workspace.current()
    book, cache = Book(workspace.home), Cache.of(ROOT)
    rows, seed = chosen(book, cache, asked)
    if seed is not None:
        print(f"seqlab: {len(rows)} of the leaderboard's systems, chosen with --seed {seed}", flush=True)
    odd = 0
    with tempfile.TemporaryDirectory(prefix="seqlab-verify-") as folder:
        verifier = Verifier(workspace, cache, Path(folder))
        for row in rows:
            print(row.name, flush=True)
            findings = []
            for claim in row.claims:
                findings.append(verifier.finding(claim))
                print(f"  {findings[-1].line}", flush=True)
            append(workspace.home / VERIFIED, row, findings, seed)
            odd += any(finding.outcome != "same" for finding in findings)
    page = workspace.home / REPORTS / "index.html"
    if page.exists():
        write_page(workspace, config.experiment(read_params(workspace.home / PARAMS)))
    also = f" and {REPORTS / page.name} say" if page.exists() else " says"
    print(f"seqlab: {len(rows) - odd} of {len(rows)} have the same bits; {VERIFIED}{also} when and where")
    if odd:
        sys.exit(1)


def chosen(book: Book, cache: Cache, asked: Asked) -> tuple[list[Row], int | None]:
    """The rows that are asked for, of all of them those whose data are here, and the seed with which they were drawn.

    Raises UserError where the data of none are.
    """
    if not asked.all:
        return [of_run(book, cache, name) if RUN.fullmatch(name) else book.row(name) for name in asked.names], None
    every = list({row.name: row for row in book.rows()}.values())  # whatever the number of metrics
    seen: dict[tuple[str, str, bool], bool] = {}
    gone = {row.name: path for row in every if (path := lacking(book, cache, row, seen)) is not None}
    rows = [row for row in every if row.name not in gone]
    if gone:
        example = next(iter(gone.values()))
        can = f"{len(rows)} of the leaderboard's {len(every)} systems can be verified here"
        without = f"{can}; the others' data are not in DVC's cache, such as {example}; `dvc pull` may have them"
        if not rows:
            raise UserError(without)
        print(f"seqlab: {without}", flush=True)
    if asked.sample is None or asked.sample >= len(rows):
        return rows, None
    seed = time.time_ns() % 1_000_000 if asked.seed is None else asked.seed
    numbers = sorted(random.Random(seed).sample(range(len(rows)), asked.sample))
    return [rows[number] for number in numbers], seed


def lacking(book: Book, cache: Cache, row: Row, seen: dict[tuple[str, str, bool], bool]) -> str | None:
    """The first of a row's inputs, or lists of output files, that is not here; None: all are. seen: what rows share."""

    def gone(entry: dict[str, Any], content: bool) -> bool:
        own = book.home / entry["path"]
        if cache.file(entry["md5"]).is_file():
            return content and not all(cache.file(one).is_file() for one in cache.files(entry).values())
        if entry["md5"].endswith(".dir"):
            return True
        return content and not (own.is_file() and md5(own) == entry["md5"])  # a user's own file is in no cache

    for claim in row.claims:
        for entry, content in (*((one, True) for one in claim.inputs), *((one, False) for one in claim.outputs)):
            key = (entry["path"], entry["md5"], content)
            if key not in seen:
                seen[key] = gone(entry, content)
            if seen[key]:
                return str(entry["path"])
    return None


def of_run(book: Book, cache: Cache, run: str) -> Row:
    from seqlab.tracking.lookup import tags_of
    from seqlab.tracking.spool import absolute_uri

    settings = config.tracking(read_params(book.home / PARAMS)["tracking"])
    return book.of_run(run, tags_of(absolute_uri(settings.uri, ROOT), run), cache)


def append(path: Path, row: Row, findings: Sequence[Finding], seed: int | None) -> None:
    """One more entry at the end: what the report shows of a row is the last that names it."""
    entries = read_json(path) if path.exists() else []
    odd = next((finding for finding in findings if finding.outcome != "same"), None)
    where = next((finding.where for finding in reversed(findings) if finding.where), {})
    entries.append({
        "row": row.name,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "outcome": "same" if odd is None else odd.outcome,
        "first": None if odd is None else f"{odd.stage}: {odd.first}",
        "stages": [{key: value for key, value in asdict(one).items() if key != "where"} for one in findings],
        "where": {"machine": environment.named(where), **where} if where else None,
        "seed": seed,
    })  # fmt: skip
    write_json(path, entries)


class Verifier:
    """Clean places by commit, and what was found of a stage: rows share the models of their source."""

    def __init__(self, workspace: Workspace, cache: Cache, folder: Path):
        self.workspace, self.cache, self.folder = workspace, cache, folder
        # Of what ran here that is told by its record: reports/machines.json waits for the next comparison.
        self.recorded = environment.of_stages(workspace.home / environment.MACHINES) | environments_of(workspace)
        self.overrides = remembered(workspace.home / CELLS).get("overrides", [])
        self.clean: dict[str, Path] = {}
        self.found: dict[tuple[str, str], Finding] = {}

    def finding(self, claim: Claim) -> Finding:
        key = (claim.stage, str(claim.entry))
        if key not in self.found:
            self.found[key] = self._finding(claim)
        return self.found[key]

    def _finding(self, claim: Claim) -> Finding:
        for entry, kind in (*((one, "input") for one in claim.inputs), *((one, "output") for one in claim.outputs)):
            if (changed := self.changed_here(entry)) is not None:
                return Finding(claim.stage, "differs", f"{kind} {changed}")
        commit = commit_of(claim)
        place = self.place(commit)
        if values := claim.changed_values({name: read_params(place / name) for name in (PARAMS, CELLS)}):
            return Finding(
                claim.stage, "differs", f"config {values[0]}{more(values)} (conf/ at {commit[:10]})", commit=commit
            )
        if (odd := self.changed_code(claim, place, commit)) is not None:
            return Finding(claim.stage, "differs", f"code {odd}", commit=commit)
        with self.inputs(claim, place) as wrong:
            if wrong is not None:
                return Finding(claim.stage, "differs", f"input {wrong}", commit=commit)
            return self.rerun(claim, place, commit)

    def changed_here(self, entry: dict[str, Any]) -> str | None:
        """Where the workspace has other content under an entry's path than dvc.lock says; None: the same, or nothing.

        A file that the cache has lost or that has another content there is told by its hash alone.
        """
        top = self.workspace.home / entry["path"]
        if not top.exists():
            return None
        recorded = self.cache.files(entry) if self.known(entry) else None
        here = files_of(top)
        if recorded is None:
            single = entry["md5"] if top.is_file() else None
            changed = single is not None and md5(top) != single
            return f"{entry['path']}: recorded {single}, here {md5(top)}" if changed else None
        if {name: md5(path) for name, path in here.items()} == recorded:
            return None
        kept = {name: self.cache.file(one) for name, one in recorded.items()}
        return named(entry, differs(kept, recorded, here))

    def known(self, entry: dict[str, Any]) -> bool:
        """Whether the cache knows what an entry is made of; it never has what is a user's own file."""
        return self.cache.file(entry["md5"]).exists()

    def place(self, commit: str) -> Path:
        """A folder with the commit's code and configuration, composed there as the workspace was."""
        if commit in self.clean:
            return self.clean[commit]
        place = self.folder / commit[:12]
        (place / ".seqlab").mkdir(parents=True)
        paths = [name for name in TAKEN if git(ROOT, "ls-tree", "--name-only", commit, "--", name)]
        packed = subprocess.run(["git", "archive", commit, "--", *paths], cwd=ROOT, capture_output=True, check=False)
        if packed.returncode:
            raise UserError(
                f"commit {commit}: {packed.stderr.decode(errors='replace').strip()}; `git fetch` may have it"
            )
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            # Before 3.11.4 Python has no filter; what is unpacked is git's own.
            archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            archive.extractall(place)
        said = run_in(place, ["pipelines/compose.py", *(self.overrides or ["--reset"])])
        if said.returncode:
            raise UserError(f"commit {commit}: conf/ does not compose there: {last_line(said)}")
        self.clean[commit] = place
        return place

    def changed_code(self, claim: Claim, place: Path, commit: str) -> str | None:
        read = read_params(place / CODE)
        odd = [(key, value, at(read, key)) for key, value in claim.code.items() if at(read, key) != value]
        if not odd:
            return None
        key, recorded, now = odd[0]
        of_tree = self.workspace.home / CODE
        if of_tree.exists() and at(read_params(of_tree), key) == recorded:
            files = git(ROOT, "diff", "--name-only", commit, "--", "src/seqlab").split()
            names = ", ".join(files[:5]) or "files that git does not follow"
            return f"{names}: changed since {commit[:10]} and in no commit; {key} recorded {recorded}, there {now}"
        return f"{key}: recorded {recorded}, at {commit[:10]} {now}; no commit of the last {OLDER} has it"

    @contextmanager
    def inputs(self, claim: Claim, place: Path) -> Iterator[str | None]:
        """The recorded inputs under their names; in words, the first whose content is not the recorded one."""
        import shutil

        wrong = None
        for entry in claim.inputs:
            target = place / entry["path"]
            if not self.known(entry):
                source = self.workspace.home / entry["path"]
                if not source.is_file() or md5(source) != entry["md5"]:
                    raise UserError(f"{entry['path']}: {entry['md5']} is neither in DVC's cache nor here")
                pairs = {"": (source, entry["md5"])}
            else:
                pairs = {name: (self.cache.file(one), one) for name, one in self.cache.files(entry).items()}
            for name, (source, hashed) in pairs.items():
                if not source.is_file():
                    raise UserError(f"{entry['path']}/{name}: {hashed} is not in DVC's cache; `dvc pull` may have it")
                if md5(source) != hashed:
                    wrong = wrong or f"{Path(entry['path']) / name}: the cache has {md5(source)} as {hashed}"
                link = target / name if name else target
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(source)
        try:
            yield wrong
        finally:
            for entry in (*claim.inputs, *claim.outputs):
                shutil.rmtree(place / entry["path"], ignore_errors=True)
                (place / entry["path"]).unlink(missing_ok=True)

    def rerun(self, claim: Claim, place: Path, commit: str) -> Finding:
        from seqlab.tracking.spool import uploader_lock

        # Whoever holds it is the uploader: what this run would report to MLflow goes with the folder.
        held = uploader_lock(place / ".seqlab/tracking")
        began = time.monotonic()
        try:
            done = run_in(place, claim.entry["cmd"].split()[1:])
        finally:
            if held is not None:
                os.close(held)
        seconds = time.monotonic() - began
        record = place / ".seqlab/records" / f"{claim.key.replace(' ', '/')}.json"
        noted = read_json(record).get("environment") if record.exists() else None
        where = noted or environment.environment()
        before = self.recorded.get(claim.key)
        elsewhere = tuple(environment.differing(before, where)) if before is not None else ()
        if done.returncode:
            return Finding(claim.stage, "failed", last_line(done), elsewhere, seconds, commit, where)
        for entry in claim.outputs:
            here = files_of(place / entry["path"])
            recorded = self.cache.files(entry)
            if {name: md5(path) for name, path in here.items()} == recorded:
                continue
            kept = {name: self.cache.file(one) for name, one in recorded.items()}
            text = f"output {named(entry, differs(kept, recorded, here))}"
            if elsewhere:
                far = largest_difference({n: p for n, p in kept.items() if p.is_file()}, here)
                text = f"environment {elsewhere[0]}; then {text}; losses agree within {far:.2g} of their size"
            return Finding(claim.stage, "differs", text, elsewhere, seconds, commit, where)
        return Finding(claim.stage, "same", "", elsewhere, seconds, commit, where)


def commit_of(claim: Claim) -> str:
    """The run's own commit, or the newest whose code.json has the claim's code and, if one has both, its values too.

    HEAD where none has: what differs from it is then named. Raises UserError outside a repository.
    """
    head = git(ROOT, "rev-parse", "HEAD")
    if not head:
        raise UserError(f"{ROOT}: no git repository with a commit: what a run's own code was cannot be known")
    if claim.commit is not None:
        return claim.commit
    older = git(ROOT, "log", f"-{OLDER}", "--format=%H", "--", CODE, PARAMS).split()
    commits = list(dict.fromkeys((head, *older)))
    same = [one for one in commits if all(at(committed(one, CODE), key) == value for key, value in claim.code.items())]
    whole = (one for one in same if not claim.changed_values({name: committed(one, name) for name in (PARAMS, CELLS)}))
    # The values may be those of overrides that the workspace remembers, which no commit has.
    return next(whole, next(iter(same), head))


@cache
def committed(commit: str, name: str) -> Any:
    """A generated file as a commit has it; nothing where it has none that can be read."""
    import yaml

    try:
        return (json.loads if name.endswith(".json") else parsed)(git(ROOT, "show", f"{commit}:{name}"))
    except (yaml.YAMLError, ValueError):
        return None


def run_in(place: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """A script of a clean place, with its own library and nothing of the process that started this one."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    env |= {"PYTHONPATH": str(place / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=place, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr.strip() or done.stdout.strip()).splitlines() or [f"status {done.returncode}"])[-1]


def more(lines: Sequence[str]) -> str:
    return f" and {len(lines) - 1} more" if len(lines) > 1 else ""


def named(entry: Mapping[str, Any], found: str) -> str:
    return f"{entry['path']}/{found}" if entry["md5"].endswith(".dir") else f"{entry['path']}: {found.lstrip(': ')}"


def differs(kept: Mapping[str, Path], recorded: Mapping[str, str], here: Mapping[str, Path]) -> str:
    """The first difference of the files here, in words; by their hashes where the recorded ones are gone."""
    whole = {name: path for name, path in kept.items() if path.is_file()}
    if whole.keys() == kept.keys() and (found := first_difference(whole, here)) is not None:
        return found
    names = sorted(recorded.keys() | here.keys())
    now = {name: md5(path) for name, path in here.items()}
    name = next(name for name in names if recorded.get(name) != now.get(name))
    return f"{name}: recorded {recorded.get(name, 'no such file')}, here {now.get(name, 'no such file')}"


def files_of(top: Path) -> dict[str, Path]:
    """Files by their path below `top`; "" of a file itself."""
    if not top.is_dir():
        return {"": top} if top.exists() else {}
    return {path.relative_to(top).as_posix(): path for path in sorted(top.rglob("*")) if path.is_file()}
