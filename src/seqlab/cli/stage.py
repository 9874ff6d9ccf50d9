"""A stage started: by DVC with a label, or by hand with overrides as Hydra takes them."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from seqlab import config, instructions
from seqlab.artifacts import write_json
from seqlab.cli import environment, runs
from seqlab.cli.composing import alternatives, compose, composed
from seqlab.cli.failing import errors_in_one_line, one_line
from seqlab.cli.places import RANK, ROOT, Workspace
from seqlab.cli.verbs import VERBS, Verb
from seqlab.cli.words import words_of
from seqlab.cli.work import Work, from_overrides, from_pipeline
from seqlab.errors import UserError
from seqlab.executors.handover import FORKED
from seqlab.heap import keep_freed
from seqlab.naming import check_interpolations
from seqlab.threads import pin

OUT = "SEQLAB_OUT"  # the folder of a stage by hand
# Hydra's own flags that show something and run nothing.
SHOWING = ("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
RESULT = "result.json"  # in the folder of a stage by hand that ended well: what it found, last of all
FAILED = "failed.txt"  # in the folder of a sweep: the jobs that a user's error ended


def main(verb: str, arguments: list[str]) -> None:
    """Run a stage on what the command line names, and end with one line and status 2 on bad input."""
    errors_in_one_line(lambda: start(verb, arguments))


def start(verb: str, arguments: list[str]) -> None:
    found, arguments = VERBS[verb], words_of(arguments)
    labelled = bool(found.needs) and len(arguments) == 1 and "=" not in arguments[0]
    labelled = labelled and not arguments[0].startswith(("-", "~", "+"))
    if labelled or (not arguments and not found.needs):
        workspace = Workspace.current()
        os.chdir(workspace.home)
        run_checked(found, from_pipeline(verb, arguments[0] if labelled else "", found.needs, workspace))
        return
    os.chdir(ROOT)
    if any(word.split("=")[0] in ("--help", "-h") for word in arguments):
        print(usage(verb, found))
        return
    if "domain" not in found.needs:
        what = "a family" if found.needs else "nothing: it works on the whole suite"
        raise UserError(f"{' '.join(arguments) or 'nothing'!r}: {verb} takes {what}")
    by_hand(verb, found, arguments)


def prepare_forks() -> None:
    """Do here, once, what every stage would do again that a warm process forks itself for."""
    with suppress(UserError):  # which a stage that is concerned will name
        config.of_params(Workspace.current().home / "params.yaml")
    environment.libraries()
    runs.code_hash()
    if "numba" in sys.modules:
        from numba.core.registry import cpu_target

        # What compiled functions may call is otherwise looked up when the first one is loaded.
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()


def run_checked(verb: Verb, work: Work) -> None:
    """Run it in the threads that the configuration says.

    Raises UserError where its values changed meanwhile: what DVC then noted would be of other values.
    """
    handle(verb, work)
    now, _ = config.of_params(work.workspace.home / "params.yaml")
    changed = [
        key for key, part in work.tree.items() if key in ("suite", "trainer", "objective") and now.get(key) != part
    ]
    if changed:
        raise UserError(f"params.yaml: {changed[0]} changed while {work.verb} {work.label} ran; run it again")


def by_hand(verb: str, found: Verb, arguments: list[str]) -> None:
    """One cell of one's own: composed once, checked once, before anything heavy is imported.

    Hydra's own main for its flags and for sweeps, of which every job runs, whatever becomes of the others, and those
    that failed are listed at the end.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    workspace = Workspace(ROOT)
    overrides = [word for word in arguments if ("=" in word and not word.startswith("-")) or word.startswith("~")]
    hidden = [] if "family" in found.needs else ["~family"]  # conf/cell.yaml asks for one
    if arguments == overrides and not any(word.lstrip("+~").startswith("hydra") for word in overrides):
        tree, names = composed("cell", [*overrides, *hidden])
        # Named by the first process of a training, for all.
        out = Path(os.environ[OUT] if RANK else time.strftime(f"outputs/{verb}/%Y-%m-%d/%H-%M-%S"))
        os.environ[OUT] = str(out)
        noted(found, from_overrides(verb, tree, names, out, found.needs, workspace), out)
        return
    if not any(word.split("=")[0] in SHOWING for word in arguments):
        # Of a sweep: before the first job begins, every value of it.
        for chosen in alternatives([*overrides, *hidden]):
            compose("cell", chosen)

    def task(chosen: DictConfig) -> float | None:
        check_interpolations(OmegaConf.to_container(chosen, resolve=False))
        tree: Any = OmegaConf.to_container(chosen, resolve=True)
        hydra_config = HydraConfig.get()
        out = Path(os.path.relpath(hydra_config.runtime.output_dir))
        try:
            names = dict(hydra_config.runtime.choices)
            return noted(found, from_overrides(verb, tree, names, out, found.needs, workspace), out)
        except UserError as error:
            if hydra_config.mode == RunMode.MULTIRUN:
                print(one_line(error), file=sys.stderr)
                with open(Path(hydra_config.sweep.dir) / FAILED, "a", encoding="utf-8") as file:
                    file.write(f"{' '.join(hydra_config.overrides.task)}: {error}\n")
            raise

    # With it Hydra raises what a job raised, instead of printing it and ending the process.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Overrides stand together, before flags: a flag whose value is left out would take one for it.
    flags = [word for word in arguments if word not in overrides]
    # A script that Lightning can start again, for another process of the same training.
    sys.argv = [str(ROOT / "pipelines" / f"{verb}.py"), *overrides, *hidden, f"hydra.job.name={verb}", *flags]
    began = set(Path("outputs").glob(f"*/*/*/{FAILED}"))
    try:
        hydra.main(version_base=None, config_path=str(ROOT / "conf"), config_name="cell")(task)()
    except UserError as error:
        new = sorted(path for path in Path("outputs").glob(f"*/*/*/{FAILED}") if path not in began)
        lines = [line for path in new for line in path.read_text(encoding="utf-8").splitlines()]
        if not lines:
            raise
        raise UserError(
            f"of the sweep's jobs these failed ({len(lines)}), any other ran: {'; '.join(lines)}"
        ) from error
    except hydra_errors() as error:
        from seqlab.cli.composing import explained

        raise UserError(explained(error, "cell", overrides)) from None


def noted(verb: Verb, work: Work, out: Path) -> float | None:
    """Run it, and note what it found in its folder."""
    value = handle(verb, work)
    if RANK == 0:
        write_json(out / RESULT, {"label": work.label, "value": value})
    return value


def handle(verb: Verb, work: Work) -> float | None:
    """Run it in the threads, and with the instructions, that the configuration says."""
    if work.trainer.portable:
        instructions.fixed(sys.argv if FORKED in os.environ else sys.orig_argv[1:])
        if work.trainer.threads != work.settings.threads:
            print(f"{work.verb} {work.label}: portable: in one thread, not trainer.threads={work.trainer.threads}")
    pin(work.settings.threads)
    keep_freed()
    return verb.run(work)


def hydra_errors() -> tuple[type[Exception], ...]:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return HydraException, OmegaConfBaseException


def choices_of(overrides: list[str]) -> dict[str, str]:
    """The names that override words give to groups; what they leave open is conf/cell.yaml's."""
    words = dict(word.split("=", 1) for word in overrides if "=" in word)
    return {"domain": "", "family": "", "strategy": "full"} | {
        key: value for key, value in words.items() if key in ("domain", "family", "strategy")
    }


EXAMPLES: dict[str, tuple[str, ...]] = {
    "acquire": ("domain=strings",),
    "prepare": ("domain=series", "domain=strings domain.prepare.max_length=256"),
    "pretrain": ("domain=strings family=rnn", "domain=strings family=transformer objective=masked"),
    "finetune": (
        "domain=strings family=rnn family.hidden_size=96",
        "domain=series family=gru strategy=scratch trainer.max_steps=50",
        "-m domain=series family=rnn,transformer seed=0,1,2",
    ),
    "evaluate": ("domain=strings family=rnn", "domain=strings family=rnn model=outputs/…/models/strings/rnn/full/0"),
    "controls": ("domain=series",),
    "draw": ("series",),
    "probe": ("series",),
    "diagnose": ("rnn",),
    "diagnostics": ("",),
    "compare": ("",),
    "report": ("",),
}


def usage(verb: str, found: Verb) -> str:
    """What a stage does, what it takes, and commands that work as typed."""
    label = "/".join(name.upper() for name in found.needs)
    lines = [f"usage: seqlab run {verb} {label or ''}".rstrip() + "      a cell of the pipeline"]
    if "domain" in found.needs:
        lines.append(f"       seqlab run {verb} KEY=VALUE …      by hand: any override, results under outputs/")
    lines += ["", summary(verb), "", "examples:"]
    lines += [f"  seqlab run {verb} {example}".rstrip() for example in EXAMPLES[verb]]
    if "domain" in found.needs:
        groups = ["domain", *(name for name in ("family", "strategy") if name in found.needs), "trainer", "objective"]
        lines += ["", "groups:"]
        for group in groups:
            names = ", ".join(sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")))
            lines.append(f"  {group}={names}")
        lines += ["", "Hydra's flags work: --cfg job, --info, -m, --hydra-help"]
    return "\n".join(lines)


def summary(verb: str) -> str:
    """The first line of the stage's module, read and not imported."""
    import ast

    path = Path(__file__).parents[1] / f"stages/{verb}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]
