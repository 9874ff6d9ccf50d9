"""The frame of every stage: from a cell of the pipeline, or from Hydra overrides typed in a shell, to a typed Stage.

    python pipelines/finetune.py strings/rnn/full/0
        as DVC calls it: values from params.yaml
    python pipelines/finetune.py domain=strings family=rnn family.hidden_size=96
        by hand: composed by Hydra, any override, results under outputs/

Nothing here imports torch, lightning or mlflow: a wrong key fails in a fraction of a second.
"""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Read when NumPy is first imported. Torch, where the arithmetic is, gets trainer.threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(ROOT / "src"))  # a queued experiment runs its own copy of the code

from seqlab import config  # noqa: E402
from seqlab.artifacts import read_json, replacing, seed_of, sha256, write_json  # noqa: E402
from seqlab.config import Domain, Experiment, Family  # noqa: E402
from seqlab.data.sequences import Sequences  # noqa: E402
from seqlab.errors import UserError  # noqa: E402
from seqlab.tracking import Run, Tracking, Unrecorded  # noqa: E402
from seqlab.training.settings import Objective, Strategy, TrainerSettings  # noqa: E402

# Where the repository keeps what belongs to no version: a queued experiment shares it with the workspace it came from.
HOME = Path(os.environ.get("DVC_ROOT", ROOT))
PRIVATE = HOME / ".seqlab"
CELL_KEYS = ("domain", "family", "strategy", "seed")
# Lightning's DDP starts the script again for each further device: such a rank trains, but keeps and reports nothing.
RANK = int(os.environ.get("LOCAL_RANK", "0"))


@dataclass(frozen=True)
class Stage:
    """What one execution of a stage works on. `family`, `strategy` and `seed` are None before training."""

    verb: str
    domain: Domain
    family: Family | None
    strategy: Strategy | None
    strategy_name: str | None
    fraction: float  # of the target's training examples
    objective: Objective  # of pretraining
    seed: int | None
    suite: str
    steps: float  # factor of every budget's steps
    positions: int | None  # of each training and validation set
    examples: int | None  # test examples of a task
    trainer: TrainerSettings
    tracking: Tracking
    tree: dict[str, Any]  # the configuration this execution depends on, resolved
    out: Path | None  # by hand: the folder that gets everything; None: the pipeline's own places
    given: Path | None  # by hand: the tuned model to evaluate, or that teaches

    @property
    def raw(self) -> Path:
        return Path("data/raw") / self.domain.name

    @property
    def prepared(self) -> Path:
        return Path("data/prepared") / self.domain.name

    @property
    def pretrained(self) -> Path:
        """The weights, or the prior, from the source."""
        return self.place("models", "pretrain")

    @property
    def model(self) -> Path:
        """The tuned models, one folder a task. Evaluating by hand reads the pipeline's, or the one that is given."""
        if self.verb == "evaluate" and self.out is not None:
            return self.given or replace(self, out=None).model
        return self.place("models", str(self.arm))

    @property
    def teacher(self) -> Path | None:
        """The tuned models that teach this one's."""
        if self.strategy is None or self.strategy.teacher is None:
            return None
        return self.given or replace(self, out=None, strategy_name=self.strategy.teacher, strategy=None).model

    @property
    def arm(self) -> str | None:
        """The strategy, and on which share of the target."""
        return self.strategy_name and config.arm(self.strategy_name, self.fraction)

    @property
    def scores(self) -> Path:
        return self.place("scores", str(self.arm))

    @property
    def controls(self) -> Path:
        """Scores of the domain's controls, one folder each."""
        return Path("scores") / self.domain.name / "controls"

    def place(self, top: str, part: str) -> Path:
        assert self.family is not None
        root = Path() if self.out is None else self.out if RANK == 0 else self.out / f"rank{RANK}"
        return root / top / self.domain.name / self.family.name / part / str(self.seed)

    @property
    def pretrained_label(self) -> str:
        assert self.family is not None
        return f"{self.domain.name}/{self.family.name}/{self.seed}"

    @property
    def label(self) -> str:
        """What tells this execution from others: strings/rnn/full/0."""
        parts = (self.domain.name, self.family and self.family.name, self.arm, self.seed)
        return "/".join(str(part) for part in parts if part is not None)

    def seed_for(self, purpose: str) -> int:
        """Equal for every strategy of a cell, so that a strategy and its control differ in nothing else."""
        assert self.family is not None
        return seed_of(self.seed, self.domain.name, self.family.name, purpose)

    def first(self, sequences: Sequences) -> Sequences:
        """The test examples that the suite asks for: the first of a fixed permutation, or all."""
        import numpy as np

        if self.examples is None or self.examples >= len(sequences):
            return sequences
        order = np.random.default_rng(seed_of("examples", self.domain.name)).permutation(len(sequences))
        return sequences.subset(np.sort(order[: self.examples]))

    def record(self) -> Path:
        """Where this execution notes its run and measured cost, outside everything that is hashed."""
        return PRIVATE / "records" / self.verb / f"{self.label}.json"

    def writing(self, path: Path) -> AbstractContextManager[Path]:
        """`replacing(path)`, or on a further rank of the pipeline's own run a folder that is thrown away."""
        return replacing(path) if RANK == 0 or self.out is not None else replacing(PRIVATE / "ranks" / str(RANK) / path)

    def run(self, inputs: dict[str, Path], follows: dict[str, str] | None = None, key: str | None = None) -> Run:
        """The tracked run of this execution. inputs: what it reads. follows: earlier verbs it builds on, by label."""
        tags = {"family": self.family and self.family.name, "strategy": self.arm, "seed": self.seed}
        archives = {
            f"archive {a.name}": {
                "path": f"{a.registry} {a.package} {a.version} {a.file}",
                "sha256": a.sha256 or "unpinned",
            }
            for a in self.domain.archives.values()
        }
        return new_run(
            self.tracking,
            experiment=self.domain.name,
            name=f"{self.verb} {self.label.replace('/', '·')}",
            tags={"phase": self.verb, "suite": self.suite, "domain": self.domain.name}
            | {name: value for name, value in tags.items() if value is not None},
            tree=self.tree,
            inputs=hashed(inputs) | archives,
            follows=follows or {},
            key=key,
        )

    def finished(self, run: Run, cost: dict[str, dict[str, float]], outputs: dict[str, Path]) -> None:
        """Note the run and what each of its tasks cost, and tag it with the hashes of what it wrote."""
        if RANK:
            return
        run.tags({f"output.{name}": content_hash(path) for name, path in outputs.items()})
        write_json(self.record(), {"run": run.key, "suite": self.suite, "cost": cost})


def new_run(
    tracking: Tracking,
    *,
    experiment: str,
    name: str,
    tags: dict[str, Any],
    tree: dict[str, Any],
    inputs: dict[str, Any],
    follows: dict[str, str],
    key: str | None = None,
) -> Run:
    """A tracked run with the resolved configuration `tree`, linked to the latest runs of the stages it follows."""
    import yaml

    records = {verb: PRIVATE / "records" / verb / f"{label}.json" for verb, label in follows.items()}
    return (Unrecorded if RANK else Run)(
        PRIVATE / "tracking",
        tracking,
        experiment=experiment,
        name=name,
        tags=tags,
        params=flat(tree),
        config_text=yaml.dump(tree, sort_keys=False, allow_unicode=True),
        inputs=inputs,
        links={verb: read_json(record)["run"] for verb, record in records.items() if record.exists()},
        key=key,
    )


def hashed(inputs: dict[str, Path]) -> dict[str, dict[str, str]]:
    return {name: {"path": str(path), "sha256": content_hash(path)} for name, path in inputs.items() if path.exists()}


def content_hash(path: Path) -> str:
    """SHA-256 of a file or folder; that of a prepared domain was taken when it was written."""
    meta = path / "meta.json"
    return str(read_json(meta)["sha256"]) if meta.exists() else sha256(path)


def main(function: Callable[[Stage], float | None], needs: tuple[str, ...] = CELL_KEYS) -> None:
    """Run a stage's function on what the command line names, and end with one line and status 2 on bad input."""
    os.chdir(ROOT)
    verb = Path(sys.argv[0]).stem
    arguments = [word for argument in sys.argv[1:] for word in shlex.split(argument)]
    if len(arguments) == 1 and "=" not in arguments[0] and not arguments[0].startswith("-"):
        errors_in_one_line(lambda: function(from_pipeline(verb, arguments[0], needs)))
    else:
        errors_in_one_line(lambda: by_hand(verb, function, arguments, needs))


def from_pipeline(verb: str, label: str, needs: tuple[str, ...]) -> Stage:
    """The stage of a cell such as strings/rnn/full/0, with the values of params.yaml."""
    tree = config.read_params(Path("params.yaml"))
    found: Experiment = config.experiment(tree)
    names = dict(zip(needs, label.split("/"), strict=False))
    if len(names) != len(needs) or label.count("/") != len(needs) - 1:
        raise UserError(f"{label!r}: expected {'/'.join(needs)}")
    names["strategy"], fraction = config.split_arm(names["strategy"]) if "strategy" in names else (None, 1.0)

    def pick(group: str, known: dict[str, Any]) -> Any:
        name = names.get(group)
        if name is not None and name not in known:
            raise UserError(f"{group} {name!r}: not in this suite; there are {', '.join(known)}")
        return known.get(name) if name else None

    domain = pick("domain", found.domains)
    used = {"suite": tree["suite"], "objective": tree["objective"], "domain": tree["domains"][domain.name]}
    for group, section in (("family", "families"), ("strategy", "strategies")):
        if names.get(group):
            pick(group, getattr(found, section))
            used[group] = tree[section][names[group]]
    return Stage(
        verb=verb,
        domain=domain,
        family=pick("family", found.families),
        strategy=pick("strategy", found.strategies),
        strategy_name=names.get("strategy"),
        fraction=fraction,
        objective=found.objective,
        seed=int(names["seed"]) if "seed" in names else None,
        suite=found.suite.name,
        steps=found.suite.steps,
        positions=found.suite.positions,
        examples=found.suite.examples,
        trainer=found.trainer,
        tracking=found.tracking,
        tree=used
        | ({"trainer": tree["trainer"]} if "seed" in names else {})
        | ({"fraction": fraction} if names.get("strategy") else {}),
        out=None,
        given=None,
    )


def from_overrides(
    verb: str, tree: dict[str, Any], choices: dict[str, str], out: Path, needs: tuple[str, ...]
) -> Stage:
    """The stage of a composed conf/cell.yaml, which has no family where `needs` names none."""
    named = [key for key in CELL_KEYS if key != "family" or "family" in needs]
    config.only(tree, (*named, "trainer", "tracking", "steps", "fraction", "objective", "model"), "")
    strategy = config.strategy(tree["strategy"])
    return Stage(
        verb=verb,
        domain=config.domain(choices["domain"], tree["domain"]),
        family=config.family(choices["family"], tree["family"]) if "family" in needs else None,
        strategy=strategy if "strategy" in needs else None,
        strategy_name=choices["strategy"] if "strategy" in needs else None,
        fraction=config.number(float, tree["fraction"], "fraction"),
        objective=config.objective(tree["objective"]),
        seed=config.number(int, tree["seed"], "seed") if "seed" in needs else None,
        suite="by hand",
        steps=config.number(float, tree["steps"], "steps"),
        positions=None,
        examples=None,
        trainer=config.trainer(tree["trainer"]),
        tracking=config.tracking(tree["tracking"]),
        tree=tree,
        out=out,
        given=None if tree["model"] is None else Path(config.number(str, tree["model"], "model")),
    )


def by_hand(verb: str, function: Callable[[Stage], float | None], arguments: list[str], needs: tuple[str, ...]) -> None:
    """Hydra's own main, with every override checked first, before anything heavy is imported."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    if "family" not in needs:  # conf/cell.yaml asks for one
        arguments = [*arguments, "~family"]
    for overrides in alternatives(arguments):
        tree, _ = compose("cell", overrides)
        from_overrides(verb, tree, dict.fromkeys(("domain", "family", "strategy"), ""), Path(), needs)

    def task(chosen: DictConfig) -> float | None:
        tree: Any = OmegaConf.to_container(chosen, resolve=True)
        runtime = HydraConfig.get().runtime
        out = Path(os.path.relpath(runtime.output_dir))
        try:
            return function(from_overrides(verb, tree, dict(runtime.choices), out, needs))
        except UserError as error:
            sys.exit(one_line(error))

    sys.argv[1:] = [*arguments, f"hydra.job.name={verb}"]
    hydra.main(version_base=None, config_path=str(ROOT / "conf"), config_name="cell")(task)()


def alternatives(arguments: list[str]) -> list[list[str]]:
    """Override lists that together hold every value of every sweep (`family=rnn,ar`), each sweep varied alone."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    words = [word for word in arguments if not word.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(words)
    except OverrideParseException as error:
        raise UserError(f"override {error.override!r}: {' '.join(str(error).split())}") from None
    values = [
        list(o.sweep_string_iterator()) if o.is_discrete_sweep() else [None] if o.is_sweep_override() else [word]
        for o, word in zip(parsed, words, strict=True)
    ]
    options = [
        [f"{o.input_line.split('=')[0]}={v}" if o.is_discrete_sweep() else v for v in choices]
        for o, choices in zip(parsed, values, strict=True)
    ]
    first = [choices[0] for choices in options]
    lists = [first] + [[*first[:i], v, *first[i + 1 :]] for i, choices in enumerate(options) for v in choices[1:]]
    return [[word for word in words if word and not word.startswith("hydra")] for words in lists]


def compose(name: str, overrides: list[str]) -> tuple[dict[str, Any], str]:
    """conf/NAME.yaml with overrides, resolved: as a tree and as YAML. Raises UserError naming the key that is wrong."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Hydra's notes on version_base are for its own developers
        try:
            with initialize_config_dir(str(ROOT / "conf"), version_base=None):
                found = hydra_compose(name, overrides)
            OmegaConf.resolve(found)
            tree: Any = OmegaConf.to_container(found, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explained(error)) from None
    return tree, OmegaConf.to_yaml(found)


def explained(error: Exception) -> str:
    """Hydra's message in one line: which override or key, and what there is instead."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [
        line
        for line in lines
        if not line.startswith(("object_type", "reference_type", "Set the environment", "To append"))
    ]
    cause = error.__cause__
    if cause is not None and str(cause) not in str(error):
        kept += [line.strip() for line in str(cause).splitlines() if "full_key" in line or "is not in struct" in line]
    return " ".join(kept).replace("You must specify", "specify")


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a nested configuration by dotted key."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    return {
        k: v for key, part in tree.items() for k, v in flat(part, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def one_line(error: UserError) -> str:
    return f"seqlab: {' '.join(str(error).split())}"


def errors_in_one_line(function: Callable[[], Any]) -> None:
    """What a user can cause ends in one line and status 2; anything else is a bug and keeps its traceback."""
    try:
        function()
    except UserError as error:
        print(one_line(error), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
