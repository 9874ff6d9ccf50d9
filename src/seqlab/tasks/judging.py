"""What evaluation, controls and drawing ask of a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np

from seqlab.artifacts import read_json, read_tensors, seed_of, write_json, write_tensors
from seqlab.data.prepared import Prepared
from seqlab.data.sequences import Sequences
from seqlab.data.subsets import arranged
from seqlab.evaluation.kept import Kept
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import Evaluation
from seqlab.settings import named

if TYPE_CHECKING:
    from seqlab.data.text_pairs import TextPairs

    Examples = TypeVar("Examples", Sequences, TextPairs)

ARRAYS, TEXTS = "arrays.safetensors", "texts.json"


@dataclass(frozen=True)
class Test:
    """What is judged, and how. domain: its name. examples: how many of each test set; None: all. order: of positions.

    name: of this judgement, from which random draws follow: equal for everybody who is judged on the same examples.
    seed: of what is drawn to be shown.
    """

    prepared: Prepared
    settings: Any  # the domain's `evaluate` section, of the kind that the task knows
    domain: str
    name: str
    seed: int
    examples: int | None
    order: Literal["kept", "shuffled"] = "kept"

    def sequences(self, part: str, split: Literal["valid", "test"] = "test") -> Sequences:
        """The test examples of one of the domain's sets, or of its validation what is asked for as well."""
        found = arranged(self.prepared.split(part, split), self.order, self.domain, split)
        return self.first(found)

    def first(self, examples: Examples) -> Examples:
        """Those that are asked for: the first of a fixed permutation, or all."""
        if self.examples is None or self.examples >= len(examples):
            return examples
        order = np.random.default_rng(seed_of("examples", self.domain)).permutation(len(examples))
        return examples.subset(np.sort(order[: self.examples]))


@dataclass(frozen=True)
class Shown:
    """What is drawn later: arrays and texts by name. A name may have parts: `attention/3`."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Two files, where there is anything to write."""
        folder.mkdir(parents=True)
        if self.arrays:
            write_tensors(folder / ARRAYS, self.arrays)
        if self.texts:
            write_json(folder / TEXTS, self.texts)

    @classmethod
    def read(cls, folder: Path) -> Shown:
        arrays, texts = folder / ARRAYS, folder / TEXTS
        return cls(
            read_tensors(arrays) if arrays.exists() else {},
            read_json(texts) if texts.exists() else {},
        )

    def part(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a name with parts, by the rest of their names."""
        return {key.removeprefix(f"{name}/"): a for key, a in self.arrays.items() if key.startswith(f"{name}/")}


@dataclass(frozen=True)
class Judged:
    """What judging one model by one task gave. kept: for what joins systems later. speeds: measured, by table: never
    among hashed outputs."""

    scores: Scores
    shown: Shown = field(default_factory=Shown)
    speeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)


class JudgedTask(ABC):
    """A task's scores. tasks/NAME/judge.py calls its own Judge, and states as literals:

    models: the trained tasks whose model answers it, the first that a cell has. tables: of scores; (): one, of the
    task's own name.
    """

    models: tuple[str, ...]
    tables: tuple[str, ...] = ()

    @abstractmethod
    def judge(self, model: Any, test: Test) -> Judged: ...


def judged_task(name: str) -> JudgedTask:
    return cast(JudgedTask, named(f"seqlab.tasks.{name}.judge.Judge")())


def answered(headline: Iterable[str], trained: Iterable[str], judges: Mapping[str, str]) -> dict[str, str]:
    """Of each table that is asked for, the trained task whose model answers it; none where the cell has no such model.

    judges: the task that judges each table (seqlab.config.judges).
    """
    trained = list(trained)
    found = {}
    for table in headline:
        models = judged_task(judges[table]).models
        if model := next((one for one in models if one in trained), None):
            found[table] = model
    return found


Controls = Callable[[Test], Mapping[str, Scores]]


def controls_of(name: str) -> Controls:
    """tasks/NAME/controls.py: what every family must beat, by name."""
    return cast(Controls, named(f"seqlab.tasks.{name}.controls.controls"))


def peers_of(name: str) -> Controls | None:
    """tasks/NAME/peers.py, where there is one: systems that were trained elsewhere, by name."""
    module = f"seqlab.tasks.{name}.peers"
    try:
        return cast(Controls, named(f"{module}.peers"))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return None


Draw = Callable[[Scores, Shown, str, Path], None]


def draw_of(name: str) -> Draw:
    """tasks/NAME/draw.py: draw(scores, shown, label, folder) makes pictures of one model's answers in a folder."""
    return cast(Draw, named(f"seqlab.tasks.{name}.draw.draw"))


def require(settings: Evaluation, kind: type[Any]) -> Any:
    """A domain's `evaluate` section as the kind that a task knows."""
    assert isinstance(settings, kind), f"{type(settings).__name__} is no {kind.__name__}"
    return settings
