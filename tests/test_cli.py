"""The command `seqlab`: what it imports, what its help shows, and that what the help shows works."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import yaml

from seqlab.cli import composing, failing
from seqlab.cli.composing import alternatives, compose
from seqlab.cli.main import COMMANDS, STAGES, main, parser
from seqlab.cli.stage import EXAMPLES, usage
from seqlab.cli.verbs import VERBS
from seqlab.cli.words import words_of
from seqlab.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "lightning", "mlflow", "dvc", "hydra", "omegaconf", "pydantic", "numpy", "pandas", "scipy")


def subcommands() -> dict[str, argparse.ArgumentParser]:
    actions = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices)


def lines(epilog: str | None) -> list[str]:
    """The commands of an epilog, without what is said of them."""
    return [line.split("   ")[0].strip() for line in (epilog or "").splitlines() if line.startswith("  seqlab ")]


def seqlab(*words: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seqlab.cli.main", *words], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **env},
    )  # fmt: skip


def test_help_at_any_level_imports_nothing_heavy() -> None:
    code = f"""
import io, sys
from contextlib import redirect_stdout
from seqlab.cli.main import main
for words in (["--help"], [], *([name, "--help"] for name in {[*COMMANDS, "run"]!r})):
    try:
        with redirect_stdout(io.StringIO()):
            main(words)
    except SystemExit as done:
        assert done.code == 0, words
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_subcommand_is_handled_and_every_stage_known() -> None:
    assert set(subcommands()) == {*COMMANDS, "run", "translate", "export"}
    assert set(STAGES) == set(EXAMPLES) <= set(VERBS)


@pytest.mark.parametrize("name", ["", *COMMANDS, "run"])
def test_help_shows_commands_that_its_own_parser_takes(name: str) -> None:
    shown = parser() if not name else subcommands()[name]
    commands = lines(shown.epilog)
    assert commands
    for command in commands:
        _, *words = shlex.split(command)
        if words[0] == "run":  # the rest is Hydra's
            assert words[1] in STAGES
        else:
            assert parser().parse_args(words).command == words[0]
            assert not name or words[0] == name


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_a_stage_shows_overrides_that_compose(stage: str) -> None:
    text = usage(stage, VERBS[stage])
    for example in EXAMPLES[stage]:
        assert f"seqlab run {stage} {example}".rstrip() in text
        words = [word for word in example.split() if "=" in word and "…" not in word]
        for chosen in alternatives(words) if words else []:
            assert compose("cell", [*chosen, *([] if any("family=" in word for word in chosen) else ["~family"])])


@pytest.mark.parametrize("command", ["translate", "export"])
def test_commands_with_flags_of_their_own_show_examples_too(command: str) -> None:
    done = seqlab(command, "--help")
    assert done.returncode == 0
    assert f"seqlab {command} family=" in done.stdout


def test_help_takes_a_subcommand_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for words in (["help", "predict"], ["predict", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["reprp"], ["reprp", "repro"]),
        (["run", "finetun"], ["finetun", "finetune"]),
        (["repro", "sute=quick"], ["sute", "did you mean 'suite'"]),
        (["repro", "--jobs", "0"], ["--jobs", "at least 1"]),
        pytest.param(["repro", "suite=quik"], ["quik", "quick"], marks=pytest.mark.slow),
        pytest.param(["repro", "trainer.max_stepz=3"], ["trainer.max_stepz", "max_steps"], marks=pytest.mark.slow),
        (["repro", "+trainer.max_stepz=3"], ["trainer.max_stepz", "max_steps"]),
        pytest.param(["compose", "families.rnn.hiden_size=3"], ["hiden_size", "hidden_size"], marks=pytest.mark.slow),
        (["run", "finetune", "domain=strings", "family=rnn", "family.hiden_size=3"], ["hiden_size", "hidden_size"]),
        pytest.param(
            ["run", "finetune", "domain=strings", "family=rnn", "+family.hiden_size=3"],
            ["hiden_size", "hidden_size"],
            marks=pytest.mark.slow,
        ),
        (["run", "finetune", "domain=strings", "family=rnn", "seed='"], ["seed='", "quotes"]),
        (["repro", "--only", "rnn"], ["--only rnn", "KEY=VALUE"]),
        (["repro", "--only", "famly=rnn"], ["--only famly=rnn", "did you mean 'family'"]),
        (["repro", "--only", "family=rnn", "family=gru"], ["--only family=rnn family=gru", "each key once"]),
        (["ui", "--port", "99999"], ["99999", "65535"]),
        (["predict", "serie", "new.csv"], ["serie", "did you mean 'series'"]),
        (["--shell-completion", "install=tcsh"], ["install=tcsh", "bash"]),
        (["--shell-completion", "instal=bash"], ["instal=bash", "install"]),
    ],
)
def test_a_typo_ends_in_a_line_that_names_it_and_status_2(words: list[str], named: list[str], tmp_path: Path) -> None:
    done = seqlab(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    *_, last = done.stderr.strip().splitlines()
    assert last.startswith("seqlab")
    for part in named:
        assert part in last
    for inner in ("Traceback", "hydra.cc", "HYDRA_FULL_ERROR", "omegaconf", "struct"):
        assert inner not in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["add"], "seqlab add: the following arguments are required: file"),
        (["add", "a.csv", "--nmae", "x"], "seqlab add: '--nmae' is no option; did you mean --name?"),
        (["add", "a.csv", "--nmae=x"], "seqlab add: '--nmae' is no option; did you mean --name?"),
        (["add", "a.csv", "--zz"], "seqlab add: '--zz' is no option; `seqlab add --help` lists them"),
        (["add", "a.csv", "b.csv"], "seqlab add: 'b.csv' is one word too many"),
        (["add", "a.csv", "--name"], "seqlab add: --name: expected one argument"),
        (["add", "a.csv", "--period", "x"], "seqlab add: --period: 'x': expected a whole number of at least 1"),
        (["add", "a.csv", "--period", "0"], "seqlab add: --period: '0': expected a whole number of at least 1"),
        (["add", "a.csv", "--period", "a\nb"], "seqlab add: --period: 'a\\nb': expected a whole number of at least 1"),
        (["repro", "--executor", "dsk"], "seqlab repro: --executor: found 'dsk'; did you mean dask?"),
        (["repro", "--executor", "x"], "seqlab repro: --executor: found 'x'; expected one of local, dask, slurm"),
        (
            ["add", "a.csv", "--known", "a", "--known=b"],
            "seqlab add: --known: given twice, 'a' and 'b'; expected it once",
        ),
        (
            ["repro", "--jobs", "1", "a=1", "--jobs", "2"],
            "seqlab repro: --jobs: given twice, 1 and 2; expected it once",
        ),
        (["ad"], "seqlab: COMMAND: found 'ad'; did you mean add?"),
        (["--jbs"], "seqlab: '--jbs' is no option; `seqlab --help` lists them"),
    ],
)
def test_words_that_are_wrong_are_one_line_of_their_subcommand(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", f"{line}\n")


def test_a_file_of_conf_that_is_no_yaml_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    with open(tmp_path / "conf/domain/series.yaml", "a", encoding="utf-8") as file:
        file.write("  : bad: [\n")
    lines = len((tmp_path / "conf/domain/series.yaml").read_text(encoding="utf-8").splitlines())
    monkeypatch.setattr(composing, "ROOT", tmp_path)
    with pytest.raises(UserError, match=rf"conf/domain/series\.yaml, line ({lines}|{lines + 1}): not YAML: ") as said:
        compose("cell", ["domain=series", "family=ar"])
    assert "\n" not in str(said.value)


def test_a_configuration_is_shown_as_hydras_users_expect() -> None:
    shown = seqlab("run", "finetune", "domain=series", "family=rnn", "family.hidden_size=7", "--cfg", "job")
    assert shown.returncode == 0, shown.stderr
    assert yaml.safe_load(shown.stdout)["family"]["hidden_size"] == 7
    path = seqlab("run", "finetune", "domain=series", "family=rnn", "--info", "searchpath")
    assert str(ROOT / "conf") in path.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("seqlab rep", {"repro"}),
        ("seqlab run fine", {"finetune"}),
        ("seqlab run finetune domain=mot", {"domain=motion", "domain=motion_small"}),
        ("seqlab run finetune domain=strings family=rnn family.hid", {"family.hidden_size="}),
        ("seqlab repro suite=qui", {"suite=quick"}),
    ],
)
def test_a_shell_is_told_what_may_come_next(line: str, words: set[str]) -> None:
    done = seqlab("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert set(done.stdout.split()) == words, done.stderr


def test_bash_itself_completes_an_override(tmp_path: Path) -> None:
    (tmp_path / "seqlab").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m seqlab.cli.main "$@"\n')
    (tmp_path / "seqlab").chmod(0o755)
    script = """
eval "$(seqlab --shell-completion install=bash)"
COMP_LINE="seqlab run finetune domain=vid"; COMP_POINT=${#COMP_LINE}; COMP_CWORD=3
hydra_bash_completion
echo "${COMPREPLY[@]}"
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "domain=video", done.stderr


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        ("compare stores --time-limit 60s suite.steps=0.1", ["suite.steps=0.1"]),
        ("compare --jobs 2 stores a=1 --time-limit 60s b=2", ["a=1", "b=2"]),
        ("repro suite=quick --jobs 1 a=1", ["suite=quick", "a=1"]),
        ("repro --only family=rnn --jobs 1 a=1", ["a=1"]),
        ("sweep a=1 --keep-going b=2,3 --jobs 1 c=4", ["a=1", "b=2,3", "c=4"]),
        ("compose --reset a=1", ["a=1"]),
        ("repro --overrides", []),
    ],
)
def test_overrides_stand_before_between_and_after_options(words: str, listed: list[str]) -> None:
    given = parser().parse_args(words_of(shlex.split(words)))
    assert given.overrides == listed
    assert getattr(given, "name", "stores") == "stores"


def test_stages_are_asked_for_together_or_one_by_one() -> None:
    for words in ("repro --only family=rnn domain=series", "repro --only family=rnn --jobs 1 --only domain=series"):
        assert parser().parse_args(shlex.split(words)).only == ["family=rnn", "domain=series"]


def test_options_that_there_are_not_and_words_that_are_missing_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        ("compare stores --time-limt 60s a=1", "'--time-limt' is no option; did you mean --time-limit?"),
        ("sweep --jobs 1", "required: overrides"),
        ("compare --jobs 1", "required: name"),
    ):
        with pytest.raises(SystemExit) as ended:
            parser().parse_args(shlex.split(words))
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


def test_of_warnings_a_terminal_shows_seqlabs_own_alone_a_line_each() -> None:
    code = """
import sys, types, warnings
from seqlab.cli.failing import own_warnings_alone

def module(name):
    made = types.ModuleType(name)
    exec("import warnings\\ndef warn(kind, level): warnings.warn('a  model\\\\nfell back', kind, level)", vars(made))
    return made

own_warnings_alone()
library, family = module("library.core"), module("seqlab.families.one")
library.warn(UserWarning, 1)
vars(family)["call"] = lambda: library.warn(UserWarning, 2)
family.call()
family.warn(RuntimeWarning, 1)
family.warn(UserWarning, 2)
"""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"} | {
        "PYTHONPATH": str(ROOT / "src")
    }
    for options, said in (([], "seqlab: a model fell back\n"), (["-W", "always"], "RuntimeWarning")):
        command = [sys.executable, *options, "-c", code]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stderr == said if not options else said in done.stderr


def test_the_command_begins_with_its_own_warnings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings():
        main(["--version"])
        assert warnings.showwarning is failing._show
