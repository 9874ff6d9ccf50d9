"""A trained system that answers in the data's own units, from pandas or lists:

    import seqlab
    model = seqlab.load("models/series/gru/full/0")      # or "models:/seqlab-series-forecast@best"
    model.forecast(frame, steps=12, id="shop", time="month")

Every answer is a pandas table (texts: a list). Sequences come as

* a list or array of one sequence, or a list of many; of several channels each step is a list of numbers
* a pandas Series, or a DataFrame whose index is the time: of one channel, each column is a sequence of its own
* a DataFrame of rows, with `id=` and `time=` naming columns: every other column is a channel
* a dictionary of any of these one-sequence forms by name
* texts, as a list, a Series, or a DataFrame with a column `text`

A system that forecasts with covariates wants them in a DataFrame of rows, in columns of their own names; those known
ahead in rows after the last value, whose values are empty, one a step (data.along).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data import along
from seqlab.data.beside import Beside, Names, Own
from seqlab.data.prepared import Prepared
from seqlab.data.sequences import Sequences, buckets
from seqlab.errors import UserError
from seqlab.evaluation.metrics import EXPLODED
from seqlab.families import bundle, loading
from seqlab.families.base import Use
from seqlab.families.bundle import Bundle
from seqlab.settings import Decoding, TrainerSettings, named

if TYPE_CHECKING:
    import pandas as pd

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
    )


@dataclass(frozen=True)
class One:
    """One sequence. values: (T, channels) float64. index: a pandas index of its times, or None."""

    name: Any
    values: np.ndarray
    index: pd.Index | None = None


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
    ) -> pd.DataFrame:
        """What comes next: id, time (or step), channel where there are several, mean, and a column for each quantile.

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
        names = self.covariates
        beside = None
        if names is not None:
            data, beside = along.parted(data, names, self.units.channels, steps, id, time)
        data = self._vectors(data, id, time)
        past = [self.units.standardise(self._seen(one), _called(one)) for one in data]
        if beside is not None:
            # From the first step that the model sees.
            beside = [own.tail(len(one.x) + steps) for own, one in zip(beside, past, strict=True)]
        paths = self._paths(model, [one.x for one in past], steps, count, seed, beside)
        return _forecasts(data, [self.units.restore(*pair) for pair in zip(paths, past, strict=True)], steps, levels)

    def classify(self, data: Any, *, id: str | None = None, time: str | None = None) -> pd.DataFrame:
        """The likeliest class of each sequence, `label`, and the probability of every class, by id."""
        import pandas as pd

        names, arrays = self._positions("classify", data, id, time)
        model = self._model("classify")
        found = np.zeros((len(arrays), len(self.units.classes)))
        for rows, x, mask in _batches(arrays):
            found[rows] = np.exp(model.class_log_prob(x, mask))
        table = pd.DataFrame(found, columns=self.units.classes, index=pd.Index(names, name="id"))
        table.insert(0, "label", [self.units.classes[best] for best in found.argmax(1)])
        return table

    def score(self, data: Any, *, id: str | None = None, time: str | None = None) -> pd.DataFrame:
        """How likely each step was after those before it: id, time (or step, or byte), log_prob in nats.

        The lower, the more surprising. Of vectors it is a density in the data's own units (of frames, of their
        projection); of texts, the probability of each byte.
        """
        model = self._model("score")
        if self.units.kind == "symbols":
            texts = self._texts(data)
            pieces = [self._pieces(text) for text in texts.values()]
            found = self._log_prob(model, [piece for row in pieces for piece in row])
            scores = [np.concatenate([next(found) for _ in row]) for row in pieces]
            return _stepwise([One(name, np.empty(0)) for name in texts], scores, "byte")
        sequences = self._vectors(data, id, time)
        seen = [self.units.standardise(one.values, _called(one)) for one in sequences]
        found = self._log_prob(model, [one.x for one in seen])
        scores = [
            self.units.log_density(one.values, log_prob, past)
            for one, log_prob, past in zip(sequences, found, seen, strict=True)
        ]
        return _stepwise(sequences, scores, "step")

    def label(self, data: Any, *, id: str | None = None, time: str | None = None) -> pd.DataFrame:
        """The class of each position: id, step, label, and the probability of every class.

        What is likeliest together, which is the label, need not be likeliest one by one. Of a text with an alphabet, a
        position is a character; its spaces are none.
        """
        import pandas as pd

        names, arrays = self._positions("label", data, id, time)
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

        Bytes that make no character, such as one cut in two by `length`, are left out.
        """
        model = self._model("generate")
        _at_least(length, 1, "length")
        begun = []
        for name, text in self._texts(prompts).items():
            start = " ".join(text.split()) + (" " if text[-1:].isspace() else "")
            if not start.strip():
                raise UserError(f"text {name}: empty; expected a beginning")
            begun.append(np.frombuffer(start.encode(), np.uint8))
        paths = self._paths(model, begun, length, 1, seed)
        return [bytes(path[0].astype(np.uint8)).split(END)[0].decode("utf-8", "ignore") for path in paths]

    def translate(self, texts: Any) -> list[str]:
        """One translation for each text."""
        return list(self._model("translate").translate(list(self._texts(texts).values())))

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
        for number, (rows, x, mask) in enumerate(_batches(past, samples * steps)):
            drawn = steps, samples, seed_of(seed, "api", number)
            if beside is None:
                made = model.forecast(x, mask, *drawn)
            else:
                made = model.forecast_along(x, mask, Beside.of_each([beside[row] for row in rows]), *drawn)
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
        self, question: str, data: Any, id: str | None, time: str | None
    ) -> tuple[list[Any], list[np.ndarray]]:
        """Names, and what the model sees of each sequence or text."""
        self._model(question)
        if self.units.kind == "symbols":
            texts = self._texts(data)
            pieces = [self._pieces(text) for text in texts.values()]
            if cut := sum(len(row) > 1 for row in pieces):
                log.warning(
                    "%s: %d of %d texts were cut to the %d %s that training saw",
                    question, cut, len(pieces), self.units.longest, "characters" if self.units.alphabet else "bytes",
                )  # fmt: skip
            return list(texts), [row[0] for row in pieces]
        sequences = self._vectors(data, id, time)
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
        for name, text in found.items():
            if not isinstance(text, str):
                raise UserError(f"text {name}: found {type(text).__name__} {text!r}; expected a string")
        return found

    def _vectors(self, data: Any, id: str | None, time: str | None) -> list[One]:
        """Sequences of the domain's channels. Raises UserError naming the sequence, and the row, at fault."""
        if self.units.kind != "vectors":
            raise UserError("expected texts, found sequences of numbers")
        found = sequences(data, self.units.channels, id, time)
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

    for column in (id, time):
        if column is not None and column not in frame.columns:
            raise UserError(f"no column {column!r}; found {', '.join(map(str, frame.columns))}")
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
