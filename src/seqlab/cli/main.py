"""The command `seqlab`. What a subcommand needs is imported when it runs: `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from seqlab.cli.words import Intermixed, words_of

if TYPE_CHECKING:
    from seqlab.execution import Where

STAGES = (
    "acquire", "prepare", "pretrain", "finetune", "evaluate", "controls", "draw", "probe", "diagnose", "diagnostics",
    "compare", "report",
)  # fmt: skip

EXECUTORS = ("local", "dask", "slurm")  # as in execution.py, which imports more than --help may wait for

TOP = """\
examples:
  seqlab repro                                      everything, what is up to date left alone
  seqlab repro suite=quick                          every cell on a tiny budget, in a workspace of its own
  seqlab run finetune domain=strings family=rnn     one cell by hand, any override
  seqlab add sales.csv                              make a domain of a file of your own
  seqlab compare sales                              and compare every family on it
  seqlab score forecasts.csv --domain series --task forecast   a model of your own in the same tests
  seqlab status                                     what would run, and what ran last
  seqlab why compare                                what changed since that stage ran last
  seqlab blast src/seqlab/families/rnn.py           what an edit of that file would rerun
  seqlab diff . quick                               what differs between two workspaces, cells or runs
  seqlab verify strings-rnn-full-s0                 whether a result comes out to the bit once more
  seqlab ui                                         browse the runs
"""
REPRO = """\
examples:
  seqlab repro
  seqlab repro suite=quick --jobs 1
  seqlab repro --only family=rnn domain=series
  seqlab repro --keep-going
  seqlab repro --pull
  seqlab repro --executor dask --address tcp://head:8786
"""
RUN = """\
examples:
  seqlab run finetune domain=strings family=rnn family.hidden_size=96
  seqlab run finetune -m domain=series family=rnn,gru seed=0,1,2
  seqlab run evaluate strings/rnn/full/0
  seqlab run finetune --help
"""
SWEEP = """\
examples:
  seqlab sweep domain=strings family=rnn family.hidden_size=32,64,96 seed=0,1,2
  seqlab sweep domain=series family=gru,lstm 'seed=range(3)' trainer.max_steps=200 --keep-going
"""
BLAST = """\
examples:
  seqlab blast                                      every file and every key of conf/
  seqlab blast src/seqlab/families/rnn.py
  seqlab blast families.rnn.hidden_size
"""
WHY = """\
examples:
  seqlab why compare
  seqlab why finetune strings/rnn/full/0
  seqlab why finetune@strings-rnn-full-s0
"""
DIFF = """\
examples:
  seqlab diff 5680c2cf 420791ba                     two runs, by the beginnings of their ids in MLflow
  seqlab diff strings/rnn/full/0 strings/gru/full/0
  seqlab diff . quick                               two workspaces: a folder, or a suite below suites/
"""
ADD = """\
examples:
  seqlab add sales.csv
  seqlab add sensors.parquet --id machine --time stamp --value vibration --label fault
  seqlab add shops.csv --value sales --known price,holiday --past temperature --static region
  seqlab add recordings/ --name birds
"""
COMPARE = """\
examples:
  seqlab compare sales
  seqlab compare sales --time-limit 10m             a verdict within a minute, refined until the time is up
  seqlab compare sales suite.steps=0.1
"""
PREDICT = """\
examples:
  seqlab predict sales new.csv --steps 12 -o forecasts.parquet
  seqlab predict machines new.csv --question score
"""
SCORE = """\
examples:
  seqlab score --domain series --task forecast --ask asked/
  seqlab score predictions.parquet --domain series --task forecast
  seqlab score logistic.csv --domain strings --task classify --metric log_loss
"""
STATUS = """\
examples:
  seqlab status
  seqlab status suite=quick
"""
UI = """\
examples:
  seqlab ui
  seqlab ui --port 5001
"""
SCORING = {
    "domain": "whose examples were predicted",
    "task": "forecast or classify",
    "metric": "that ranks the table that is printed (default: the domain's headline)",
    "ask": "a folder: write there what there is to predict, and judge nothing",
}
QUESTIONS = ("forecast", "classify", "score", "label", "generate", "translate")
HINTS = {
    "name": "of the domain; the file's own",
    "kind": "series, sequences, text, pairs, recordings or films",
    "time": "column of the time",
    "value": "column of the values; several with commas",
    "id": "column that tells series apart",
    "label": "column of the class",
    "text": "column of the text",
    "target": "column of the translation",
    "period": "seasonal period, in steps",
    "time_format": "how times are written, as in %%d.%%m.%%Y",
    "licence": "for people",
    "known": "columns of covariates that are known ahead, as prices and holidays; several with commas",
    "past": "columns of covariates that are measured, as temperatures",
    "static": "columns of covariates that do not change within a series, as regions",
}
LISTS = ("value", "id", "known", "past", "static")  # of them
VERIFY = """\
examples:
  seqlab verify strings-rnn-full-s0                 a cell: its source's model, its own, its scores
  seqlab verify 12                                  the twelfth row of reports/leaderboard.csv
  seqlab verify series/forecast/gru/scratch         a row by its name
  seqlab verify 0123456789abcdef0123456789abcdef    a run of MLflow
  seqlab verify --all --sample 10                   ten rows at random; it says the seed
"""
COMPOSE = """\
examples:
  seqlab compose                                    conf/ as it stands, with what was asked for last
  seqlab compose suite=full trainer=gpu             remembered until the next such call
  seqlab compose --reset
"""


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="seqlab", description="A laboratory for sequence models.", epilog=TOP)
    top.add_argument("--version", action="store_true", help="print the version")
    top.add_argument("--shell-completion", metavar="install=SHELL", help="of bash, zsh or fish: to be evaluated there")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    repro = commands.add_parser("repro", help="bring every stage of a suite up to date", epilog=REPRO)
    repro.add_argument("overrides", nargs="*", help="Hydra overrides of conf/config.yaml, such as suite=quick")
    repro.add_argument("--jobs", type=positive, help="stages at a time (default: execution.jobs, else the cores)")
    repro.add_argument("--force", action="store_true", help="run every stage, up to date or not")
    repro.add_argument("--keep-going", action="store_true", help="after a failure run whatever does not follow from it")
    repro.add_argument("--pull", action="store_true", help="fetch what others pushed to DVC's remote, compute the rest")
    repro.add_argument(
        "--only",
        nargs="+",
        default=[],
        action="extend",
        metavar="KEY=VALUE",
        help="stages of a family, domain …",
    )
    repro.add_argument("--executor", choices=EXECUTORS, help="where stages run (default: execution.executor)")
    repro.add_argument("--address", help="of a scheduler of dask that runs already (default: execution.address)")
    repro.add_argument(
        "--no-shared-disk", action="store_true", help="workers have clones; data go through DVC's remote"
    )
    repro.add_argument("--reset", action="store_true", help="forget the overrides of the last composition")

    run = commands.add_parser("run", help="run one stage", epilog=RUN)
    run.add_argument("stage", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    run.add_argument("arguments", nargs="*", help="a label such as strings/rnn/full/0, or Hydra overrides and flags")

    _sweeping(commands)

    compose = commands.add_parser("compose", help="write params.yaml, cells.json and code.json", epilog=COMPOSE)
    compose.add_argument("overrides", nargs="*", help="Hydra overrides of conf/config.yaml")
    compose.add_argument("--reset", action="store_true", help="forget the overrides of the last composition")

    _looking(commands)

    add = commands.add_parser("add", help="make a domain of a file of your own", epilog=ADD)
    add.add_argument("file", help="CSV, TSV, Parquet, JSON lines, text, .ts, or a folder of text, wav or video files")
    for name, text in HINTS.items():
        add.add_argument(f"--{name}", help=text, type=positive if name == "period" else str)
    add.add_argument("--replace", action="store_true", help="overwrite what an earlier call wrote")

    compare = commands.add_parser("compare", help="compare every family on a domain of your own", epilog=COMPARE)
    compare.add_argument("name", help="of the domain, as seqlab add wrote it")
    compare.add_argument("overrides", nargs="*", help="Hydra overrides, such as suite.steps=0.1")
    compare.add_argument("--jobs", type=positive, help="stages at a time")
    compare.add_argument("--time-limit", metavar="TIME", help="such as 90s or 10m: as far as that reaches, cheap first")

    predict = commands.add_parser("predict", help="answer new data with the winner of a domain", epilog=PREDICT)
    predict.add_argument("domain")
    predict.add_argument(
        "file",
        help="new data, as the domain's own: a table with its columns; texts, one a line; or a folder. To forecast it "
        "holds the newest rows of each series: those that the domain's own file has before them are joined",
    )
    predict.add_argument("--question", choices=QUESTIONS, help="default: what the model, or the winner, is made for")
    predict.add_argument("--model", help="a folder of models, in place of the winner's")
    predict.add_argument(
        "--steps",
        type=positive,
        help="steps ahead, or bytes of a text (default: 12; with "
        "covariates that are known ahead, at most as many as the file has rows of them)",
    )
    predict.add_argument("--levels", help="of the quantiles of a forecast (default: 0.1,0.5,0.9)")
    predict.add_argument("-o", "--out", help="a .parquet or .csv file; default: standard output, as CSV")

    score = commands.add_parser("score", help="compare a model from elsewhere by its predictions", epilog=SCORE)
    score.add_argument("predictions", nargs="?", help="a .csv or .parquet table; docs/outside.md says of what")
    for name, text in SCORING.items():
        score.add_argument(f"--{name}", required=name in ("domain", "task"), help=text)
    score.add_argument("-o", "--out", help="a .csv file of the rows of all metrics")

    ui = commands.add_parser("ui", help="browse the runs in MLflow's pages, on this machine alone", epilog=UI)
    ui.add_argument("--port", type=port, default=5000)

    for name, text in (("translate", "translate a file or standard input"), ("export", "export a translator")):
        commands.add_parser(name, help=text)
    return top


def _sweeping(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep", help="train every combination of values, what is done left alone", epilog=SWEEP
    )
    sweep.add_argument("overrides", nargs="+", help="as of seqlab run; several values: seed=0,1,2, range(…), choice(…)")
    sweep.add_argument("--stage", choices=("finetune", "pretrain"), default="finetune", help="what is run (finetune)")
    sweep.add_argument("--jobs", type=positive, help="jobs at a time (default: execution.jobs, else the cores)")
    sweep.add_argument("--keep-going", action="store_true", help="after a failure run the others")


def _looking(commands: Any) -> None:
    """The subcommands that say what there is, what changed and what would run."""
    status = commands.add_parser("status", help="what would run, and what ran last", epilog=STATUS)
    status.add_argument("overrides", nargs="*", help="overrides that name the suite, such as suite=quick")

    why = commands.add_parser("why", help="what changed since a stage ran last: key, file, input", epilog=WHY)
    why.add_argument("stage", nargs="+", help="as DVC names it, or a verb and a label")

    blast = commands.add_parser("blast", help="what an edit of a file or a value would rerun", epilog=BLAST)
    blast.add_argument("what", nargs="*", help="files of src/seqlab, or keys of params.yaml; none: all of them")

    diff = commands.add_parser("diff", help="what differs between two runs, cells or workspaces", epilog=DIFF)
    diff.add_argument("one", help="a run, a cell or a workspace")
    diff.add_argument("other", help="another of its kind")
    diff.add_argument("--all", action="store_true", help="every line, not the first of each part")

    verify = commands.add_parser("verify", help="run a result's own commit and inputs again", epilog=VERIFY)
    verify.add_argument("what", nargs="*", help="runs, cells, stages or rows; overrides that name the suite")
    verify.add_argument("--all", action="store_true", help="every row of the leaderboard")
    verify.add_argument("--sample", type=positive, metavar="N", help="with --all: as many of them, at random")
    verify.add_argument("--seed", type=int, help="with --sample: that of an earlier choice")


class Once(argparse.Action):
    """Stores an option's value, and refuses another one, which argparse lets take the first one's place unsaid."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if option_string is not None and (before := getattr(namespace, self.dest)) is not self.default:
            raise argparse.ArgumentError(self, f"given twice, {before!r} and {values!r}; expected it once")
        setattr(namespace, self.dest, values)


class Parser(Intermixed):
    """Examples stay as they are written. What is wrong with the words is one line of the subcommand, status 2."""

    def __init__(self, *arguments: Any, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*arguments, **options)
        self.register("action", None, Once)  # where no other is named

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Unknown words end here, where the options that they may have meant are known, and not in the parser above."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and not self.within:
            options = [option for action in self._actions for option in action.option_strings]
            if unknown[0].startswith("-"):
                word = unknown[0].partition("=")[0]
                self.error(f"{word!r} is no option{self._meant(word, options)}")
            self.error(f"{unknown[0]!r} is one word too many")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Of argparse, which lists all choices whatever is nearest."""
        if action.choices is not None and value not in action.choices:
            choices = list(map(str, action.choices))
            near = self._meant(str(value), choices, f"; expected one of {', '.join(choices)}")
            raise argparse.ArgumentError(action, f"found {value!r}{near}")

    def _meant(self, word: str, known: list[str], otherwise: str | None = None) -> str:
        from seqlab.schema import close

        near = close(word, known)
        return f"; did you mean {near}?" if near else otherwise or f"; `{self.prog} --help` lists them"

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.removeprefix('argument ').split())}\n")


def positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return value


def port(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if not 0 < value < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port, 1 to 65535")
    return value


def main(arguments: list[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    of_this_checkout(words)
    from seqlab.cli.failing import errors_in_one_line, own_warnings_alone
    from seqlab.threads import pin

    own_warnings_alone()
    pin(1)  # until the configuration says how many

    # These take flags of their own, or Hydra's, which are none of this parser's.
    if words[:1] == ["run"] and words[1:2] and words[1] in STAGES:
        errors_in_one_line(lambda: _run(words[1], words[2:]))
    elif words[:1] == ["translate"]:
        errors_in_one_line(lambda: _translate(words[1:]))
    elif words[:1] == ["export"]:
        errors_in_one_line(lambda: _export(words[1:]))
    elif words[:1] and words[0] in ("--shell-completion", "-sc"):
        errors_in_one_line(lambda: _complete(words))
    else:
        given = parser().parse_args(words_of(words) or ["--help"])
        if given.version:
            from seqlab import __version__

            print(f"seqlab {__version__}")
        elif given.command is None:
            parser().print_help()
        else:
            errors_in_one_line(lambda: COMMANDS[given.command](given))


def of_this_checkout(words: list[str]) -> None:
    """Start again with the library of the checkout that the current folder is in, where another one is installed."""
    here = next((p for p in (Path.cwd(), *Path.cwd().parents) if (p / "src/seqlab/cli/main.py").is_file()), None)
    own = Path(__file__).resolve().parents[2]
    if here is None or (here / "src").resolve() == own:
        return
    path = os.pathsep.join([str((here / "src").resolve()), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYTHONPATH"] = path
    os.execv(sys.executable, [sys.executable, "-m", "seqlab.cli.main", *words])


def _repro(given: argparse.Namespace) -> None:
    from seqlab.cli.repro import Options, repro
    from seqlab.errors import UserError

    if wrong := [word for word in given.only if "=" not in word]:
        raise UserError(f"--only {wrong[0]}: expected KEY=VALUE, such as family=rnn")
    only = dict(word.split("=", 1) for word in given.only)
    if len(only) < len(given.only):
        raise UserError(f"--only {' '.join(given.only)}: a stage has one value of a key; expected each key once")
    overrides = ["--reset"] if given.reset else given.overrides
    executor: Where | None = given.executor or (None if given.address is None else "dask")
    repro(
        Options(
            overrides,
            executor=executor,
            address=given.address,
            jobs=given.jobs,
            force=given.force,
            keep_going=given.keep_going,
            pull=given.pull,
            no_shared_disk=given.no_shared_disk,
            only=only,
        )
    )


def _run(stage: str, arguments: list[str]) -> None:
    from seqlab.cli.stage import start

    start(stage, arguments)


def _sweep(given: argparse.Namespace) -> None:
    from seqlab.cli.sweep import sweep

    sweep(given.stage, given.overrides, given.jobs, given.keep_going)


def _complete(words: list[str]) -> None:
    from seqlab.cli.completion import complete

    complete(words, [*COMMANDS, "run", "translate", "export"], STAGES)


def _compose(given: argparse.Namespace) -> None:
    from seqlab.cli.compose import composed
    from seqlab.cli.places import Workspace

    workspace = Workspace.current()
    with workspace.locked():
        composed(workspace, ["--reset"] if given.reset else given.overrides)


def _add(given: argparse.Namespace) -> None:
    from seqlab.cli.add import add

    hints = {name: value for name in HINTS if (value := getattr(given, name)) is not None}
    hints |= {name: tuple(hints[name].split(",")) for name in LISTS if name in hints}
    add(given.file, hints, given.replace)


def _compare(given: argparse.Namespace) -> None:
    from seqlab.cli.anytime import anytime, seconds_of, whole
    from seqlab.cli.composing import own_suite
    from seqlab.cli.repro import Options

    options = Options([*own_suite(given.name), *given.overrides], jobs=given.jobs, keep_going=True)
    if given.time_limit is not None:
        anytime(options, seconds_of(given.time_limit))
    else:
        whole(options)


def _predict(given: argparse.Namespace) -> None:
    from seqlab.cli.predict import Asked, levels_of, predict
    from seqlab.heap import keep_freed

    keep_freed()
    model, out = (None if path is None else Path(path).resolve() for path in (given.model, given.out))
    file, levels = Path(given.file).resolve(), None if given.levels is None else levels_of(given.levels)
    predict(Asked(given.domain, file, given.question, model, given.steps, levels, out))


def _score(given: argparse.Namespace) -> None:
    from seqlab.cli.score import Question, score

    predictions, ask, out = (
        None if one is None else Path(one).resolve() for one in (given.predictions, given.ask, given.out)
    )
    score(Question(predictions, given.domain, given.task, given.metric, ask, out))


def _status(given: argparse.Namespace) -> None:
    from seqlab.cli.status import status

    status(given.overrides)


def _why(given: argparse.Namespace) -> None:
    from seqlab.cli.why import why

    why(given.stage)


def _diff(given: argparse.Namespace) -> None:
    from seqlab.cli.diff import diff

    diff(given.one, given.other, given.all)


def _blast(given: argparse.Namespace) -> None:
    from seqlab.cli.blast import blast

    blast(given.what)


def _verify(given: argparse.Namespace) -> None:
    from seqlab.cli.verify import Asked, verify
    from seqlab.errors import UserError

    if (given.sample is not None and not given.all) or (given.seed is not None and given.sample is None):
        raise UserError("verify: --sample goes with --all, and --seed with --sample")
    names = [word for word in given.what if "=" not in word]
    verify(Asked(names, [word for word in given.what if "=" in word], given.all, given.sample, given.seed))


def _ui(given: argparse.Namespace) -> None:
    from seqlab.cli.ui import ui

    ui(given.port)


def _translate(arguments: list[str]) -> None:
    from seqlab.cli.translate import translate
    from seqlab.heap import keep_freed

    keep_freed()
    translate(arguments)


def _export(arguments: list[str]) -> None:
    from seqlab.cli.export import export

    export(arguments)


COMMANDS = {
    "repro": _repro,
    "sweep": _sweep,
    "compose": _compose,
    "add": _add,
    "compare": _compare,
    "predict": _predict,
    "score": _score,
    "status": _status,
    "why": _why,
    "diff": _diff,
    "blast": _blast,
    "verify": _verify,
    "ui": _ui,
}

if __name__ == "__main__":
    main()
