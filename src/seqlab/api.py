"""A trained system that answers in the data's own units, from pandas or lists:

    import seqlab
    model = seqlab.load("models/series/gru/full/0")      # or "models:/seqlab-series-forecast@best"
    model.forecast(frame, steps=12, id="shop", time="month")

Every answer is a pandas table (texts: a list). Sequences come as

* a list or array of one sequence, or a list of many; of several channels each step is a list of numbers
* a pandas Series, or a DataFrame whose index is the time: of one channel, each column is a sequence of its own
* a DataFrame of rows, with `id=` and `time=` naming columns, and `value=` those of the channels; without `value` every
  other column is a channel, and with it the others are left out, which is said. Of one channel, each of several `value`
  columns is a sequence of its own. Times may be text, as of a CSV file, in any notation that `seqlab predict` reads
* a dictionary of any of these one-sequence forms by name
* texts, as a list, a Series, or a DataFrame with a column `text`; blank ones have no answer, and are counted

A frame to forecast holds the past of each sequence, one row a step without a gap; nothing else of it is known here.

A system that forecasts with covariates wants them in a DataFrame of rows, in columns of their own names; those known
ahead in rows after the last value, whose values are empty, one a step (data.along).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data import along, stamps
from seqlab.data import time as times_of
from seqlab.data.beside import Beside, Names, Own
from seqlab.data.prepared import Prepared
from seqlab.data.readers import MISSING, as_text
from seqlab.data.scale import varies
from seqlab.data.sequences import Sequences, buckets
from seqlab.data.units import OWN
from seqlab.errors import UserError
from seqlab.evaluation.metrics import EXPLODED
from seqlab.families import bundle, loading
from seqlab.families.base import Use
from seqlab.families.bundle import Bundle
from seqlab.settings import Decoding, Register, TrainerSettings, named

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.evaluation.conformal import Recalibration

log = logging.getLogger(__name__)

TOKENS = 16384  # positions in a batch, sampled ones included
LEVELS = (0.1, 0.5, 0.9)
END = b"\n"  # of a text
REGISTRY = "models:/"
# For each question, the tasks whose model answers it, the first that is there.
ANSWERED_BY = {
    "forecast": ("covariates", "forecast", "next_step"),
    "classify": ("classify",),
    "score": ("next_step",),
    "label": ("label",),
    "generate": ("next_step",),
    "translate": ("translate",),
}


def load(where: str | Path) -> Model:
    """The system in a folder of models (`models/DOMAIN/FAMILY/STRATEGY/SEED`), or of MLflow's registry by `models:/…`.

    The registry is that of MLFLOW_TRACKING_URI, or of MLflow's own default. Raises UserError when nothing is there or a
    part is missing.
    """
    if str(where).startswith(REGISTRY):
        # By name: who opens a folder needs no MLflow.
        return Model(bundle.read(named("seqlab.serving.registry.download")(str(where))))
    folder = Path(where)
    return Model(of_workspace(folder) if bundle.in_workspace(folder) else bundle.read(folder))


def of_workspace(folder: Path) -> Bundle:
    """A model of the pipeline where it stands: units and settings are those of its workspace."""
    from seqlab import config

    home, domain = folder.resolve().parents[4], folder.resolve().parents[2].name
    tree = config.read_params(home / "params.yaml")
    evaluate = tree["domains"][domain]["evaluate"]
    return bundle.found(
        folder,
        Prepared.open(home / "data/prepared" / domain),
        trainer=asdict(config.trainer(tree["trainer"]).settings),
        decoding=evaluate.get("decoding"),
        samples=evaluate.get("samples") or None,
        recalibration=bundle.recalibration_of(home / "scores" / folder.resolve().relative_to(home / "models")),
    )


@dataclass(frozen=True)
class One:
    """One sequence. values: (T, channels) float64. index: a pandas index of its times, or None. calendar: that of times
    which were text.
    """

    name: Any
    values: np.ndarray
    index: pd.Index | None = None
    calendar: Calendar | None = None


@dataclass(frozen=True)
class Calendar:
    """Times of a table that were text. places: of each as pandas has it, its index in `times`. counts: (N,) on the
    calendar on which all series are most even. offset: whether they are written with one from UTC.
    """

    times: times_of.Times
    places: dict[Any, int]
    counts: dict[int, int]
    spacing: times_of.CalendarStep
    offset: bool

    def following(self, index: Any, steps: int, called: str) -> pd.Index:
        """The `steps` times after an index. Raises UserError where it has a gap, naming the times around it."""
        at = [self.places[stamp] for stamp in index]
        strides = np.diff([self.counts[place] for place in at])
        if len(bad := np.flatnonzero(strides != self.spacing.step)):
            before, after = index[bad[0]], index[bad[0] + 1]
            raise UserError(
                f"{called}: no row between {before} and {after}, where times go on {self.spacing.words}; fill the "
                "gaps, or give the values without times"
            )
        return stamps.following(self.times, at[-1], self.spacing, steps, self.offset)


class Model:
    """Answers questions by the models of one system. What a method cannot answer is a UserError that says what it can.

    seed: draws are equal for equal data, seed and batch, whatever was asked before.
    """

    def __init__(self, parts: Bundle) -> None:
        self.units, self._bundle = parts.units, parts
        self._model = cache(self._load)

    @property
    def answers(self) -> list[str]:
        """The methods that this system has a model for."""
        kind = {"generate": self.units.kind == "symbols", "forecast": self.units.kind == "vectors"}
        return [
            question
            for question, tasks in ANSWERED_BY.items()
            if any(task in self._bundle.models for task in tasks) and kind.get(question, True)
        ]

    def forecast(
        self,
        data: Any,
        steps: int,
        *,
        levels: Sequence[float] = LEVELS,
        samples: int | None = None,
        seed: int = 0,
        id: str | None = None,
        time: str | None = None,
        value: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """What comes next: id, time (or step), channel where there are several, mean, and a column for each quantile.

        data: the past of each sequence, in any of the forms that this module lists; of a DataFrame of rows, `id`,
        `time` and `value` name its columns, beside which only covariates of their own names are read. A past has to
        vary, since its spread is the unit of the forecast.

        samples: paths that mean and quantiles are taken over; None: as many as in the domain's evaluation. Of a domain
        of returns, data and answers are prices.
        """
        model = self._model("forecast")
        _at_least(steps, 1, "steps")
        for level in levels:
            if not 0 < level < 1:
                raise UserError(f"levels: found {level}, expected numbers between 0 and 1")
        count = self._bundle.samples if samples is None else samples
        if count is None:
            raise UserError("samples: missing, and the domain is not forecast; give a number")
        _at_least(count, 1, "samples")
        if (mended := self.recalibration) is not None and steps > (judged := int(mended.ends[-1])):
            log.warning(
                "steps after %d: %d of %d, further ahead than this model was judged; what its intervals are worth "
                "there nobody has measured", judged, steps - judged, steps,
            )  # fmt: skip
        names = self.covariates
        beside = None
        data, calendar = self._framed(data, id, time, value, names)
        if names is not None:
            data, beside = along.parted(data, names, self.units.channels, steps, id, time)
        data = self._vectors(data, id, time, calendar)
        past = [self.units.standardise(self._seen(one), _called(one)) for one in data]
        self._check_spread(data)
        if beside is not None:
            # From the first step that the model sees.
            beside = [own.tail(len(one.x) + steps) for own, one in zip(beside, past, strict=True)]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            paths = self._paths(model, [one.x for one in past], steps, count, seed, beside)
        _warn(caught, type(model).__module__.rpartition(".")[2], len(past))
        return _forecasts(data, [self.units.restore(*pair) for pair in zip(paths, past, strict=True)], steps, levels)

    def classify(
        self,
        data: Any,
        *,
        id: str | None = None,
        time: str | None = None,
        value: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The likeliest class of each sequence, `label`, and the probability of every class, by id."""
        import pandas as pd

        names, arrays = self._positions("classify", data, id, time, value)
        model = self._model("classify")
        found = np.zeros((len(arrays), len(self.units.classes)))
        for rows, x, mask in _batches(arrays):
            found[rows] = np.exp(model.class_log_prob(x, mask))
        table = pd.DataFrame(found, columns=self.units.classes, index=pd.Index(names, name="id"))
        table.insert(0, "label", [self.units.classes[best] for best in found.argmax(1)])
        return table

    def score(
        self,
        data: Any,
        *,
        id: str | None = None,
        time: str | None = None,
        value: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """How likely each step was after those before it: id, time (or step, or byte), log_prob in nats.

        The lower, the more surprising. Of vectors it is a density in the data's own units (of frames, of their
        projection); of texts, the probability of each byte.
        """
        model = self._model("score")
        if self.units.kind == "symbols":
            texts = _answerable(self._texts(data))
            pieces = [self._pieces(text) for text in texts.values()]
            found = self._log_prob(model, [piece for row in pieces for piece in row])
            scores = [np.concatenate([next(found) for _ in row]) for row in pieces]
            return _stepwise([One(name, np.empty(0)) for name in texts], scores, "byte")
        data, calendar = self._framed(data, id, time, value)
        sequences = self._vectors(data, id, time, calendar)
        seen = [self.units.standardise(one.values, _called(one)) for one in sequences]
        self._check_spread(sequences)
        found = self._log_prob(model, [one.x for one in seen])
        scores = [
            self.units.log_density(one.values, log_prob, past)
            for one, log_prob, past in zip(sequences, found, seen, strict=True)
        ]
        return _stepwise(sequences, scores, "step")

    def label(
        self,
        data: Any,
        *,
        id: str | None = None,
        time: str | None = None,
        value: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """The class of each position: id, step, label, and the probability of every class.

        What is likeliest together, which is the label, need not be likeliest one by one. Of a text with an alphabet, a
        position is a character; its spaces are none.
        """
        import pandas as pd

        names, arrays = self._positions("label", data, id, time, value)
        model = self._model("label")
        found: dict[int, np.ndarray] = {}
        chosen: dict[int, np.ndarray] = {}
        for rows, x, mask in _batches(arrays):
            answers, labels = np.exp(model.label_log_prob(x, mask)), model.labels(x, mask)
            for row, answer, label in zip(rows.tolist(), answers, labels, strict=True):
                found[row], chosen[row] = answer[: len(arrays[row])], label[: len(arrays[row])]
        flat = np.concatenate([found[i] for i in range(len(arrays))])
        table = pd.DataFrame(flat, columns=self.units.classes)
        table.insert(0, "label", [self.units.classes[k] for i in range(len(arrays)) for k in chosen[i]])
        table.insert(0, "step", np.concatenate([np.arange(1, len(one) + 1) for one in arrays]))
        table.insert(0, "id", np.repeat(np.array(names, object), [len(one) for one in arrays]))
        return table

    def generate(self, prompts: Any, length: int, *, seed: int = 0) -> list[str]:
        """How each text goes on, without the text itself: at most `length` bytes, up to the end that the model writes.

        Bytes that make no character, such as one cut in two by `length`, are left out. A blank one goes on by nothing.
        """
        model = self._model("generate")
        _at_least(length, 1, "length")
        texts = self._texts(prompts)
        begun = {
            name: np.frombuffer((" ".join(text.split()) + (" " if text[-1:].isspace() else "")).encode(), np.uint8)
            for name, text in _answerable(texts).items()
        }
        paths = self._paths(model, list(begun.values()), length, 1, seed)
        made = {
            name: bytes(path[0].astype(np.uint8)).split(END)[0].decode("utf-8", "ignore")
            for name, path in zip(begun, paths, strict=True)
        }
        return [made.get(name, "") for name in texts]

    def translate(self, texts: Any, register: Register | None = None) -> list[str]:
        """One translation for each text, of a blank one none: "". register: that it speaks in, where the system has
        several; None: its own."""
        model = self._model("translate")
        if register is not None:
            model = model.in_register(register)
        return list(model.translate(list(self._texts(texts).values())))

    @property
    def covariates(self) -> Names | None:
        """Those that forecasts are made with; None: values alone."""
        return self._model("forecast").names if self._tasks("forecast")[:1] == ["covariates"] else None

    # Models

    def _tasks(self, question: str) -> list[str]:
        return [task for task in ANSWERED_BY[question] if task in self._bundle.models]

    def _load(self, question: str) -> Any:
        tasks = self._tasks(question)
        if question not in self.answers:
            raise UserError(f"this system does not {question}; it can {', '.join(self.answers)}")
        return opened(self._bundle, tasks[0])

    @cached_property
    def recalibration(self) -> Recalibration | None:
        """What forecasts were judged with; None where no evaluation has said."""
        from seqlab.evaluation import conformal

        path = self._bundle.recalibration
        return None if path is None or self.units.kind != "vectors" else conformal.read(path)

    def _paths(
        self,
        model: Any,
        past: list[np.ndarray],
        steps: int,
        samples: int,
        seed: int,
        beside: list[Own] | None = None,
    ) -> list[np.ndarray]:
        """(samples, steps[, C]) after each of `past`, those that explode held where the leaderboard holds them.

        beside: covariates of each, up to `steps` after it.
        """
        found: dict[int, np.ndarray] = {}
        mended = self.recalibration
        for number, (rows, x, mask) in enumerate(_batches(past, samples * steps)):
            drawn = steps, samples, seed_of(seed, "api", number)
            if beside is None:
                made = model.forecast(x, mask, *drawn)
            else:
                made = model.forecast_along(x, mask, Beside.of_each([beside[row] for row in rows]), *drawn)
            if mended is not None:
                made = mended.paths(made)
            for row, path in zip(rows.tolist(), made, strict=True):
                found[row] = path if self.units.kind == "symbols" else _held(path, past[row])
        return [found[i] for i in range(len(past))]

    def _log_prob(self, model: Any, arrays: list[np.ndarray]) -> Iterator[np.ndarray]:
        found: dict[int, np.ndarray] = {}
        for rows, x, mask in _batches(arrays):
            scores = model.log_prob(x, mask)
            found |= {row: score[: len(arrays[row])] for row, score in zip(rows.tolist(), scores, strict=True)}
        return (found[i] for i in range(len(arrays)))

    # Data

    def _seen(self, one: One) -> np.ndarray:
        """The values that a forecast is made from."""
        if self.units.context is None:
            return one.values
        return one.values[-(self.units.context + (self.units.transform == "log_return")) :]

    def _positions(
        self, question: str, data: Any, id: str | None, time: str | None, value: str | Sequence[str] | None
    ) -> tuple[list[Any], list[np.ndarray]]:
        """Names, and what the model sees of each sequence or text."""
        self._model(question)
        if self.units.kind == "symbols":
            texts = _answerable(self._texts(data))
            pieces = [self._pieces(text) for text in texts.values()]
            if cut := sum(len(row) > 1 for row in pieces):
                log.warning(
                    "%s: %d of %d texts were cut to the %d %s that training saw",
                    question, cut, len(pieces), self.units.longest, "characters" if self.units.alphabet else "bytes",
                )  # fmt: skip
            return list(texts), [row[0] for row in pieces]
        data, calendar = self._framed(data, id, time, value)
        sequences = self._vectors(data, id, time, calendar)
        return [one.name for one in sequences], [
            self.units.standardise(one.values, _called(one)).x for one in sequences
        ]

    def _pieces(self, text: str) -> list[np.ndarray]:
        """The symbols of a text as the prepare stage cleans and cuts them."""
        if self.units.alphabet:
            known = {c: i for i, c in enumerate(self.units.alphabet)}
            whole = np.array([known.get(c, 0) for c in "".join(text.split())], np.uint32)
        else:
            whole = np.frombuffer(" ".join(text.split()).encode() + END, np.uint8)
        return [whole[at : at + self.units.longest] for at in range(0, len(whole), self.units.longest)]

    def _texts(self, data: Any) -> dict[Any, str]:
        """Texts by name, in order."""
        if self.units.kind not in ("symbols", "pairs"):
            raise UserError(f"expected sequences of {self.units.channels} numbers a step, found texts")
        import pandas as pd

        if isinstance(data, pd.DataFrame):
            if "text" not in data.columns and len(data.columns) != 1:
                raise UserError(f"no column 'text'; found {', '.join(map(str, data.columns))}")
            data = data["text"] if "text" in data.columns else data.iloc[:, 0]
        if isinstance(data, str):
            data = [data]
        found = dict(data.items()) if isinstance(data, (Mapping, pd.Series)) else dict(enumerate(data))
        if not found:
            raise UserError("no text: found an empty list")
        # A cell that is missing is blank, as in a file.
        found = {name: "" if pd.api.types.is_scalar(text) and pd.isna(text) else text for name, text in found.items()}
        for name, text in found.items():
            if not isinstance(text, str):
                raise UserError(f"text {name}: found {type(text).__name__} {text!r}; expected a string")
        return found

    def unfit(self, values: np.ndarray) -> str | None:
        """Why a past of (T, channels) values can be neither forecast nor scored: it has no spread, by which a model of
        this domain measures; None where it can.
        """
        if self.units.by != OWN:
            return None
        seen = self._seen(One(0, values))
        needed = 3 if self.units.transform == "log_return" else 2
        if len(seen) < needed:
            return f"it has {len(seen)} step(s); give {needed} at least, and better as many as training saw"
        changes = np.diff(np.log(seen), axis=0) if self.units.transform == "log_return" and (seen > 0).all() else seen
        if not varies(changes).any():
            return f"its {len(seen)} steps do not vary, so how sure a forecast is cannot be told; give more of its past"
        return None

    @property
    def shortest(self) -> int:
        """Steps below which a forecast is the last value carried on, by the family; 0 where it has no such bound."""
        model = self._model("forecast")
        needed = getattr(model, "needed", None)
        return int(min(needed)) if isinstance(needed, list) and needed else int(getattr(model, "shortest", 0))

    def _check_spread(self, data: list[One]) -> None:
        """Raises UserError naming the first sequence that has none, and how many have none."""
        found = {one.name: why for one in data if (why := self.unfit(one.values))}
        for name, why in found.items():
            more = f" ({len(found)} of {len(data)} sequences)" if len(data) > 1 else ""
            raise UserError(f"sequence {name!r}: {why}{more}")

    def _framed(
        self,
        data: Any,
        id: str | None,
        time: str | None,
        value: str | Sequence[str] | None,
        names: Names | None = None,
    ) -> tuple[Any, Calendar | None]:
        """A frame with the columns that are asked for alone, its times as pandas has them; anything else as it is."""
        import pandas as pd

        if isinstance(data, pd.DataFrame) and not len(data):
            raise UserError("no row: found an empty DataFrame")
        if not isinstance(data, pd.DataFrame) or (id, time, value) == (None, None, None):
            if value is not None:
                raise UserError(f"value names columns of a DataFrame; found {type(data).__name__}")
            return data, None
        values = [value] if isinstance(value, str) else value
        _check_columns(data, [column for column in (id, time, *(values or ())) if column is not None])
        beside = [] if names is None else names.all
        if values is not None:
            kept = [column for column in (id, time, *values, *beside) if column in data.columns]
            if left := [str(column) for column in data.columns if column not in kept]:
                log.warning("columns that are not used: %d (%s)", len(left), ", ".join(left))
            data = data[list(dict.fromkeys(kept))]
        others = [column for column in data.columns if column not in (id, time, *beside)]
        if values is not None and self.units.channels == 1 and len(others) > 1:
            data = _melted(data, others, id)
        elif len(others) != self.units.channels:
            raise UserError(
                f"columns of values: found {', '.join(map(str, others)) or 'none'}, {len(others)} channels; expected "
                f"{self.units.channels}: name with value= what to read, and the rest is left out"
            )
        if id is not None and len(empty := np.flatnonzero(data[id].isna())):
            raise UserError(f"row {empty[0] + 1}, column {id}: empty in {len(empty)} row(s), where others name theirs")
        return (data, None) if time is None else _timed(data, id, time)

    def _vectors(self, data: Any, id: str | None, time: str | None, calendar: Calendar | None = None) -> list[One]:
        """Sequences of the domain's channels. Raises UserError naming the sequence, and the row, at fault."""
        if self.units.kind != "vectors":
            raise UserError("expected texts, found sequences of numbers")
        found = sequences(data, self.units.channels, id, time)
        found = found if calendar is None else [replace(one, calendar=calendar) for one in found]
        if (first := next((one for one in found if one.index is not None and _is_text(one.index)), None)) is not None:
            log.warning("%s: its index is text and is read as no times; rows are steps, as they come", _called(first))
        for one in found:
            if one.values.shape[1] != self.units.channels:
                raise UserError(f"{_called(one)}: {one.values.shape[1]} channels; expected {self.units.channels}")
            if not len(one.values):
                raise UserError(f"{_called(one)}: empty; expected at least one step")
            if len(bad := np.flatnonzero(~np.isfinite(one.values).all(1))):
                raise UserError(
                    f"{_called(one)}, row {bad[0] + 1}: a value is missing or not finite ({len(bad)} such rows); "
                    "fill or cut them first"
                )
        return found


def opened(parts: Bundle, task: str) -> Any:
    """The model of a task, computing as it was trained, on whatever device there is here."""
    trainer = TrainerSettings(**parts.trainer | {"accelerator": "auto"})
    decoding = None if parts.decoding is None else Decoding(**parts.decoding)
    return loading.load(parts.models[task], Use(trainer, decoding))


def sequences(data: Any, channels: int, id: str | None, time: str | None) -> list[One]:
    """Any of the forms that the module's docstring lists, as sequences of (T, channels)."""
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return _of_rows(data, id, time) if id is not None or time is not None else _of_columns(data, channels)
    if id is not None or time is not None:
        raise UserError(f"id and time name columns of a DataFrame; found {type(data).__name__}")
    if isinstance(data, pd.Series):
        return [One(0 if data.name is None else data.name, _numbers(data, data.name, channels), data.index)]
    if isinstance(data, Mapping):
        return [
            One(name, _numbers(part, name, channels), part.index if hasattr(part, "iloc") else None)
            for name, part in data.items()
        ]
    if not len(data):
        raise UserError("no sequence: found an empty list")
    # A step is a number, or where there are several channels a list of numbers; a column is one sequence as well.
    column = isinstance(data, np.ndarray) and data.ndim == 2 and data.shape[1] == channels
    if column or np.ndim(data[0]) < (1 if channels == 1 else 2):
        return [One(0, _numbers(data, 0, channels))]
    return [
        One(i, _numbers(part, i, channels), part.index if hasattr(part, "iloc") else None)
        for i, part in enumerate(data)
    ]


def _of_rows(frame: pd.DataFrame, id: str | None, time: str | None) -> list[One]:
    """One sequence for each value of the column `id`, in order of the column `time`."""
    import pandas as pd

    columns = [column for column in frame.columns if column not in (id, time)]
    groups = [(0, frame)] if id is None else list(frame.groupby(id, sort=False))
    found = []
    for name, part in groups:
        ordered = part if time is None else part.set_index(time).sort_index()
        if time is not None and ordered.index.has_duplicates:
            double = ordered.index[ordered.index.duplicated()][0]
            raise UserError(f"sequence {name!r}: {time} {double} stands twice; expected each time once")
        # Not as a range, which says that one row follows another: numbers that were named are times.
        index = None if time is None else pd.Index(ordered.index.array)
        found.append(One(name, _numbers(ordered[columns], name, len(columns)), index))
    return found


def _check_columns(frame: pd.DataFrame, named: Sequence[str]) -> None:
    for column in named:
        if column not in frame.columns:
            index = "; it is the index: frame.reset_index() makes it one" if column in frame.index.names else ""
            raise UserError(f"no column {column!r}; found {', '.join(map(str, frame.columns))}{index}")


def _melted(frame: pd.DataFrame, values: list[str], id: str | None) -> pd.DataFrame:
    """Each column of values as a sequence of its own, called by its id and the column."""
    import pandas as pd

    if id is None:
        raise UserError(
            f"value: {', '.join(values)}: several series side by side; make the time the index, without time="
        )
    parts = [
        frame.drop(columns=[other for other in values if other != column])
        .rename(columns={column: values[0]})
        .assign(**{id: [f"{name}/{column}" for name in frame[id]]})
        for column in values
    ]
    return pd.concat(parts, ignore_index=True)


def _timed(frame: pd.DataFrame, id: str | None, time: str) -> tuple[pd.DataFrame, Calendar | None]:
    """Times that are text as pandas has times, on the calendar of all; others as they are. Raises UserError naming the
    row whose cell is no time.
    """
    import pandas as pd

    column = frame[time]
    if not (pd.api.types.is_string_dtype(column.dtype) or column.dtype == object):
        return frame, None
    texts = ["" if cell is None or cell is pd.NaT else as_text(cell).strip() for cell in column]
    first: dict[str, int] = {}
    for row, text in enumerate(texts, 1):
        if text in MISSING:
            raise UserError(f"row {row}, column {time}: an empty cell; expected a time")
        first.setdefault(text, row)
    distinct = list(first)
    try:
        times = times_of.read(distinct)
    except times_of.NotATime as error:
        raise UserError(f"row {first[distinct[error.index]]}, column {time}: {error.reason}") from None
    offset = stamps.zoned(distinct)
    codes = {text: i for i, text in enumerate(distinct)}
    at = np.array([codes[text] for text in texts], np.int64)
    made = stamps.recorded(times, np.arange(len(distinct)), offset)
    rows = [np.arange(len(at))] if id is None else [np.asarray(own) for own in frame.groupby(id).indices.values()]
    series = []
    for own in rows:
        _, once = np.unique(times.instant[at[own]], return_index=True)
        series.append(at[own][once])
    counts, spacing = times_of.spaced(times, series)
    counted = {
        int(p): int(c) for own, count in zip(series, counts, strict=True) for p, c in zip(own, count, strict=True)
    }
    # Two notations of one moment are one time.
    same = {int(instant): int(place) for own in series for place, instant in zip(own, times.instant[own], strict=True)}
    places = {stamp: same.get(int(times.instant[i]), i) for i, stamp in enumerate(made)}
    return frame.assign(**{time: [made[i] for i in at]}), Calendar(times, places, counted, spacing, offset)


def _answerable(texts: dict[Any, str]) -> dict[Any, str]:
    """Those that are not blank, which no model has anything to say of; said with their count."""
    blank = [name for name, text in texts.items() if not text.strip()]
    if len(blank) == len(texts):
        raise UserError("every text is blank; expected one text at least")
    if blank:
        log.warning("blank texts, which have no answer: %d of %d (first %r)", len(blank), len(texts), blank[0])
    return {name: text for name, text in texts.items() if text.strip()}


def _warn(caught: Sequence[warnings.WarningMessage], family: str, count: int) -> None:
    """Say once of all series what a family said of the pasts of each batch, and all else as it came."""
    from seqlab.families.closed_form.local import CarriedOn

    defeated: dict[str, int] = {}
    for one in caught:
        if isinstance(one.message, CarriedOn):
            defeated[one.message.why] = defeated.get(one.message.why, 0) + one.message.count
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    for why, number in defeated.items():
        warnings.warn(CarriedOn(family, min(number, count), count, why), stacklevel=3)


def _of_columns(frame: pd.DataFrame, channels: int) -> list[One]:
    if channels == 1:
        return [One(name, _numbers(column, name, 1), frame.index) for name, column in frame.items()]
    return [One(0, _numbers(frame, 0, channels), frame.index)]


def _numbers(values: Any, name: Any, channels: int) -> np.ndarray:
    """(T, channels') float64; a frame's pixels stand in one row."""
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"sequence {name!r}: {error}; expected numbers") from None
    if found.ndim == 1 and channels == 1:
        return found[:, None]
    if found.ndim < 2:
        raise UserError(f"sequence {name!r}: found numbers; expected {channels} of them for each step")
    return found.reshape(len(found), -1)


def _called(one: One) -> str:
    return f"sequence {one.name!r}"


def _at_least(value: int, least: int, name: str) -> None:
    if value < least:
        raise UserError(f"{name}: found {value}, expected {least} or more")


def _batches(arrays: list[np.ndarray], more: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Rows, x and mask of padded batches of similar length. more: further positions that a row will take."""
    whole = Sequences.from_arrays(arrays)
    for rows in buckets(whole.lengths + more, TOKENS):
        batch = whole.batch(rows)
        yield rows, batch.x, batch.mask


def _held(paths: np.ndarray, past: np.ndarray) -> np.ndarray:
    """(samples, steps, C), none further than EXPLODED deviations from the mean of the past."""
    middle, spread = past.mean(0), past.std(0)
    bound = EXPLODED * np.where(spread > 0, spread, 1)
    far = np.nan_to_num(np.asarray(paths, np.float64) - middle, nan=np.inf)
    return np.asarray(middle + np.clip(far, -bound, bound))


# Answers


def _forecasts(data: list[One], paths: list[np.ndarray], steps: int, levels: Sequence[float]) -> pd.DataFrame:
    """A row for each sequence, step and channel."""
    import pandas as pd

    tables = []
    for one, made in zip(data, paths, strict=True):
        channels = made.shape[-1]
        columns: dict[str, Any] = {"id": [one.name] * (steps * channels)}
        columns |= {name: np.repeat(values, channels) for name, values in _future(one, steps).items()}
        if channels > 1:
            columns["channel"] = np.tile(np.arange(1, channels + 1), steps)
        columns["mean"] = made.mean(0).ravel()
        for level, quantile in zip(levels, np.quantile(made, levels, axis=0), strict=True):
            columns[str(level)] = quantile.ravel()
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _future(one: One, steps: int) -> dict[str, Any]:
    """The times after a sequence, by the step between its times, or 1 to `steps` where it has none."""
    import pandas as pd

    index: Any = one.index
    if one.calendar is not None:
        return {"time": one.calendar.following(index, steps, _called(one))}
    if isinstance(index, pd.DatetimeIndex) and not index.is_monotonic_increasing:
        raise UserError(f"{_called(one)}: its times do not rise; sort it by them first")
    if isinstance(index, pd.PeriodIndex):
        return {"time": pd.period_range(index[-1] + 1, periods=steps, freq=index.freq)}
    if isinstance(index, pd.DatetimeIndex):
        with pd.option_context("future.infer_freq_returns_offset", True):
            step = index.freq or (pd.infer_freq(index) if len(index) > 2 else None)
        if step is None:
            raise UserError(
                f"{_called(one)}: its {len(index)} times have no one step between them; fill the gaps, or give the "
                "values without times"
            )
        return {"time": pd.date_range(index[-1], periods=steps + 1, freq=step)[1:]}
    if _told(index) and pd.api.types.is_integer_dtype(index.dtype):
        strides = np.unique(np.diff(index))
        if len(strides) != 1:
            raise UserError(f"{_called(one)}: its times have no one step between them, but {strides[:3].tolist()}")
        return {"time": index[-1] + strides[0] * np.arange(1, steps + 1)}
    return {"step": np.arange(1, steps + 1)}


def _is_text(index: Any) -> bool:
    import pandas as pd

    return len(index) > 0 and all(isinstance(cell, str) for cell in index[:1]) and not isinstance(index, pd.PeriodIndex)


def _told(index: Any) -> bool:
    """Whether an index says when, and not just that one row follows another."""
    import pandas as pd

    return index is not None and not (isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1))


def _stepwise(data: list[One], scores: list[np.ndarray], counter: str) -> pd.DataFrame:
    """A row for each step. Where the first step has no score, as of returns, rows begin with the second."""
    import pandas as pd

    tables = []
    for one, own in zip(data, scores, strict=True):
        skipped = max(0, len(one.values) - len(own))
        places: dict[str, Any] = {counter: np.arange(skipped + 1, skipped + len(own) + 1)}
        index: Any = one.index
        if _told(index):
            places = {"time": index[skipped:]}
        tables.append(pd.DataFrame({"id": [one.name] * len(own), **places, "log_prob": own}))
    return pd.concat(tables, ignore_index=True)
