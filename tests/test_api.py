"""A saved system answers in the data's own units as its models do in theirs, whatever the family."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import seqlab
from seqlab import api, config
from seqlab.artifacts import seed_of, write_json, write_tensors
from seqlab.data import vocabulary
from seqlab.data.domains.base import Scaler, write_meta
from seqlab.data.prepared import Meta, Prepared
from seqlab.data.sequences import SPLITS, Sequences, Space
from seqlab.data.units import Units
from seqlab.errors import UserError
from seqlab.evaluation import conformal, kept
from seqlab.evaluation.conformal import Recalibration
from seqlab.evaluation.metrics import LEVELS
from seqlab.families import bundle, loading, saved
from seqlab.families.base import Use
from seqlab.families.closed_form.local import CarriedOn
from seqlab.families.saved import Recipe
from seqlab.settings import TrainerSettings

CONF = Path(__file__).parents[1] / "conf" / "family"
FAMILIES = {
    path.stem: config.family(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
    for path in sorted(CONF.glob("*.yaml"))
}
# The mixture, which is made of others, has a suite of its own.
PREDICTORS = [name for name, one in FAMILIES.items() if "next_step" in one.tasks and one.fit != "mixture"]
SPECIALISTS = [name for name, one in FAMILIES.items() if one.tasks in (("forecast",), ("classify",))]
TRANSLATORS = [name for name, one in FAMILIES.items() if "translate" in one.tasks]
SLOW = ("latent_ar", "naive", "rule_based")  # what is compiled or read before they begin


def slow_marked(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in names]


BOUND = {"period": 4, "horizons": [1, 4]}  # what a domain gives a constructor
TRAINER = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true", "threads": 1}
TRAINER |= {"compile": False, "max_steps": None}
DECODING = {"beam_size": 2, "length_penalty": 1.0, "patience": 1.0, "longest_factor": 1.0, "longest_constant": 5}
DECODING |= {"batch": 8}
CLASSES = ["calm", "wild"]
TEXTS = ["the cat sat on the mat and the dog", "a rose is a rose is a rose", "to be or not to be that is"]


def walks(channels: int, seed: int, count: int = 12, steps: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.abs(rng.normal(size=(steps, channels)).cumsum(0)) + 20.0 for _ in range(count)]


def prepare(kind: str, folder: Path) -> Prepared:
    """A small prepared domain of each way in which values are standardised."""
    out, rng = folder / kind, np.random.default_rng(0)
    optional: dict[str, Any] = {}
    meta = Meta(kind="vectors", size=1, tasks=["next_step", "classify"], classes=CLASSES)
    arrays = walks(1, 1)
    if kind == "texts":
        meta = Meta(kind="symbols", size=256, tasks=["next_step", "classify"], classes=CLASSES, characters=True)
        arrays = [np.frombuffer(TEXTS[i % 3].encode() + b"\n", np.uint8) for i in range(12)]
    elif kind in ("series", "counts", "returns"):
        transform = {"series": "none", "counts": "log1p", "returns": "log_return"}[kind]
        meta = Meta(**vars(meta) | {"transform": transform})
        change: Callable[..., np.ndarray] = {
            "series": np.asarray,
            "counts": np.log1p,
            "returns": lambda y: np.diff(np.log(y), axis=0),
        }[kind]
        arrays = [change(one) for one in arrays]
        optional = {"centre": np.stack([y.mean(0) for y in arrays]), "scale": np.stack([y.std(0) for y in arrays])}
    elif kind == "channels":
        arrays = walks(3, 1)
        scaler = Scaler.fit(arrays)
        arrays = [scaler(one) for one in arrays]
        meta = Meta(**vars(meta) | {"size": 3})
        write_tensors(out / "scaler.safetensors", scaler.tensors)
    else:
        axes = np.linalg.qr(rng.normal(size=(6, 2)))[0].T * np.array([[2.0], [0.5]])
        arrays = walks(2, 1)
        meta = Meta(**vars(meta) | {"size": 2, "frame": [2, 3]})
        write_tensors(out / "projection.safetensors", {"origin": rng.normal(size=6), "axes": axes})
    labels = np.arange(len(arrays)) % 2
    if meta.kind == "vectors":
        arrays = [one.astype(np.float32) for one in arrays]
    for split in SPLITS:
        Sequences.from_arrays(arrays, **optional).save(out / "target" / split)
        Sequences.from_arrays(arrays, labels=labels, **optional).save(out / "labelled" / split)
    write_meta(out, meta)
    return Prepared.open(out)


def recipe(name: str, space: Space, classes: int | None) -> Recipe:
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    target = values.pop("_target_")
    values.pop("optimizer", None)
    values |= {name: BOUND[name] for name in FAMILIES[name].bound}
    return Recipe(target, values, FAMILIES[name].fit, space.kind, space.size, classes)


def trained(name: str, prepared: Prepared, folder: Path) -> Path:
    """A system of a model for each task: closed forms fitted, networks as their seed made them."""
    torch.manual_seed(0)
    for task in (task for task in ("next_step", "forecast", "classify") if task in FAMILIES[name].tasks):
        classes = 2 if task == "classify" else None
        made = recipe(name, prepared.meta.space, classes)
        model = made.build()
        if made.fit == "gradient":
            tensors = {key: part.numpy() for key, part in model.state_dict().items()}
        else:
            data = prepared.split("labelled" if classes else "target", "train")
            model.fit(data, data)
            tensors = model.state()
        saved.save(folder / task, made, tensors)
    bundle.write(folder, prepared, trainer=TRAINER, decoding=None, samples=8)
    return folder


def direct(folder: Path, task: str) -> Any:
    return loading.load(folder / task, Use(TrainerSettings(**TRAINER)))


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    root, made, domains = tmp_path_factory.mktemp("systems"), {}, {}

    def system(name: str, kind: str) -> Path:
        if (name, kind) not in made:
            domains[kind] = domains.get(kind) or prepare(kind, root)
            made[name, kind] = trained(name, domains[kind], root / name / kind)
        return made[name, kind]

    return system


@pytest.mark.parametrize("name", PREDICTORS)
@pytest.mark.parametrize("kind", ["series", "channels"])
def test_vectors_are_answered_as_by_the_models_themselves(name: str, kind: str, systems: Any) -> None:
    folder = systems(name, kind)
    model = seqlab.load(folder)
    assert model.answers == ["forecast", "classify", "score"]
    past = walks(model.units.channels, 2, count=3)
    if kind == "series":
        centre, scale = np.stack([y.mean(0) for y in past]), np.stack([y.std(0) for y in past])
    else:
        centre, scale = model.units.tensors["mean"][None], model.units.tensors["deviation"][None]
    x = ((np.stack(past) - centre[:, None]) / scale[:, None]).astype(np.float32)
    mask = np.ones(x.shape[:2], bool)

    ahead = "forecast" if (folder / "forecast").is_dir() else "next_step"  # a network may have an end of its own for it
    paths = direct(folder, ahead).forecast(x, mask, 4, 8, seed_of(0, "api", 0))
    paths = paths * scale[:, None, None] + centre[:, None, None]
    table = model.forecast(past, 4)
    np.testing.assert_allclose(table["mean"], paths.mean(1).ravel(), rtol=1e-5)
    np.testing.assert_allclose(table["0.9"], np.quantile(paths, 0.9, axis=1).ravel(), rtol=1e-5)
    assert table["id"].tolist() == np.repeat([0, 1, 2], 4 * model.units.channels).tolist()

    answers = np.exp(direct(folder, "classify").class_log_prob(x, mask))
    classes = model.classify(past)
    np.testing.assert_allclose(classes[CLASSES], answers, rtol=1e-5, atol=1e-9)
    assert classes["label"].tolist() == [CLASSES[i] for i in answers.argmax(1)]

    density = direct(folder, "next_step").log_prob(x, mask) - np.log(scale).sum(1, keepdims=True)
    np.testing.assert_allclose(model.score(past)["log_prob"], density.ravel(), rtol=1e-5, atol=1e-5)


def test_forecasts_have_the_intervals_that_they_were_judged_with(systems: Any, tmp_path: Path) -> None:
    assert bundle.RECALIBRATION == kept.MAP, "what an evaluation keeps is found"
    folder = tmp_path / "system"
    shutil.copytree(systems("ar", "series"), folder)
    past = walks(1, 2, count=3)
    plain = seqlab.load(folder).forecast(past, 4)
    shifts = np.zeros((1, 1, len(LEVELS)))
    for moved in (0.0, 0.5):  # every quantile by half of the forecast's spread
        found = Recalibration(np.array([4]), shifts + moved, np.array([False]), np.array([99]))
        conformal.write(found, folder / bundle.RECALIBRATION)
        mended = seqlab.load(folder).forecast(past, 4)
        wide = (mended["0.9"] - mended["0.1"]).to_numpy()
        np.testing.assert_allclose(wide, plain["0.9"] - plain["0.1"], rtol=1e-4)
        # The spread that a map goes by is that of quantiles as they are judged, which few paths place further out.
        shift = ((mended["mean"] - plain["mean"]) / wide).to_numpy()
        assert (shift >= moved - 1e-9).all()
        assert moved or np.abs(shift).max() < 1e-9


def test_what_goes_further_ahead_than_anything_was_judged_is_said(
    systems: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "system"
    shutil.copytree(systems("ar", "series"), folder)
    found = Recalibration(np.array([2, 4]), np.zeros((2, 1, len(LEVELS))), np.array([False, False]), np.array([9, 9]))
    conformal.write(found, folder / bundle.RECALIBRATION)
    model, past = seqlab.load(folder), walks(1, 2, count=3)
    model.forecast(past, 4)
    assert not caplog.messages
    model.forecast(past, 7)
    [said] = caplog.messages
    assert said.startswith("steps after 4: 3 of 7, further ahead than this model was judged")


@pytest.mark.parametrize("name", [name for name in SPECIALISTS if "vectors" in FAMILIES[name].kinds])
def test_a_family_of_one_task_answers_that(name: str, systems: Any) -> None:
    folder = systems(name, "series")
    model, past = seqlab.load(folder), walks(1, 2, count=3)
    assert model.answers == list(FAMILIES[name].tasks)
    centre, scale = np.stack([y.mean(0) for y in past]), np.stack([y.std(0) for y in past])
    x = ((np.stack(past) - centre[:, None]) / scale[:, None]).astype(np.float32)
    mask = np.ones(x.shape[:2], bool)
    if model.answers == ["forecast"]:
        paths = direct(folder, "forecast").forecast(x, mask, 4, 8, seed_of(0, "api", 0))
        expected = paths * scale[:, None, None] + centre[:, None, None]
        np.testing.assert_allclose(model.forecast(past, 4)["mean"], expected.mean(1).ravel(), rtol=1e-5)
    else:
        answers = np.exp(direct(folder, "classify").class_log_prob(x, mask))
        np.testing.assert_allclose(model.classify(past)[CLASSES], answers, rtol=1e-5, atol=1e-9)
    with pytest.raises(UserError, match=f"does not score; it can {model.answers[0]}"):
        model.score(past)


@pytest.mark.parametrize("name", slow_marked(PREDICTORS))
def test_texts_are_answered_as_by_the_models_themselves(name: str, systems: Any) -> None:
    folder = systems(name, "texts")
    model = seqlab.load(folder)
    assert model.answers == ["classify", "score", "generate"]
    texts = ["the dog  sat", "a cat"]
    found = model.score(texts)
    for i, text in enumerate(("the dog sat\n", "a cat\n")):
        x = np.frombuffer(text.encode(), np.uint8).astype(np.int64)[None]
        expected = direct(folder, "next_step").log_prob(x, np.ones_like(x, bool))[0]
        np.testing.assert_allclose(found[found["id"] == i]["log_prob"], expected, rtol=1e-4, atol=1e-5)
    probabilities = model.classify(texts)[CLASSES].to_numpy()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    made = model.generate(texts, 20, seed=1)
    assert made == model.generate(texts, 20, seed=1)
    assert all(isinstance(one, str) and "\n" not in one for one in made)


def translator(name: str, folder: Path) -> Path:
    """A system of one small translator, as its seed or its lexicon made it."""
    made = recipe(name, Space("pairs", 400), None)
    if made.fit == "rules":
        saved.save(folder / "translate", made, {})
        made.build().save(folder / "translate")
    else:
        sizes = {key: 16 if key == "hidden_size" else value for key, value in made.parameters.items()}
        made = replace(made, parameters=sizes)
        torch.manual_seed(0)
        tensors = {key: part.numpy() for key, part in made.build().state_dict().items()}
        saved.save(folder / "translate", made, tensors)
        tokenizer = vocabulary.train(["one two", "하나 둘"], 400).to_str()
        (folder / "translate/tokenizer.json").write_text(tokenizer)
    (folder / "prepared").mkdir()
    write_json(folder / "prepared/meta.json", asdict(Meta("pairs", 400, ["translate"], [])))
    bundle.write(folder, Prepared.open(folder / "prepared"), trainer=TRAINER, decoding=DECODING, samples=None)
    return folder


@pytest.mark.parametrize("name", slow_marked(TRANSLATORS))
def test_a_translator_is_answered_as_by_itself(name: str, tmp_path: Path) -> None:
    if name == "rule_based":
        pytest.importorskip("spacy")
    translator(name, tmp_path)
    model = seqlab.load(tmp_path)
    assert model.answers == ["translate"]
    texts = ["I love this movie.", "", "The cat sleeps."]
    found = model.translate(texts)
    assert len(found) == 3
    assert found[1] == ""
    assert found == model.translate(pd.DataFrame({"text": texts})) == model.translate(pd.Series(texts))
    polite, plain = (model.translate(["Open the file."], register) for register in ("polite", "plain"))
    assert (polite != plain) == (name == "rule_based"), "which alone has several"
    with pytest.raises(UserError, match="does not classify; it can translate"):
        model.classify(texts)


@pytest.mark.parametrize("kind", ["series", "counts", "returns", "channels", "frames"])
def test_values_come_back_from_what_the_model_sees(kind: str, tmp_path: Path) -> None:
    units = Units.of(prepare(kind, tmp_path))
    units.save(tmp_path)
    units = Units.load(tmp_path)
    if kind == "frames":  # frames in the plane of the projection, the only ones that it can give back
        values = units.tensors["origin"] + walks(2, 5)[0] @ units.tensors["axes"]
    else:
        values = walks(units.channels, 5)[0]
    past, future = values[:30], values[30:]
    seen = units.standardise(past, "one")
    if kind == "returns":
        x = (np.diff(np.log(values), axis=0)[29:] - seen.centre) / seen.scale
    elif kind == "counts":
        x = (np.log1p(future) - seen.centre) / seen.scale
    elif kind == "series":
        x = (future - seen.centre) / seen.scale
    else:
        x = units.standardise(future, "one").x
    np.testing.assert_allclose(units.restore(x, seen), future, rtol=1e-9)


@pytest.mark.parametrize("kind", ["series", "counts", "returns", "channels"])
def test_a_density_is_one_of_the_values_themselves(kind: str, tmp_path: Path) -> None:
    """The score of a step is the derivative of the probability of values up to it: by finite differences."""
    units = Units.of(prepare(kind, tmp_path))
    values = walks(units.channels, 5)[0]
    seen = units.standardise(values, "one")
    log_prob = np.random.default_rng(0).normal(size=len(seen.x))
    found = units.log_density(values, log_prob, seen)
    # d x / d y at each step, channel by channel: what a density is multiplied with.
    step, jacobian = 1e-5, np.zeros(len(seen.x))
    for channel in range(units.channels):
        up = values.copy()
        up[:, channel] += step
        change = {
            "series": lambda y: y,
            "counts": np.log1p,
            "returns": lambda y: np.log(y)[1:],
            "channels": lambda y: (y - units.tensors["mean"]) / units.tensors["deviation"],
        }[kind]
        jacobian += np.log((change(up) - change(values))[:, channel] / step / seen.scale[channel])
    np.testing.assert_allclose(found, log_prob + jacobian, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1000), st.floats(-1e4, 1e4))
def test_a_forecast_has_the_units_of_its_data(systems: Any, factor: float, shift: float) -> None:
    model = seqlab.load(systems("ar", "series"))
    past = walks(1, 3, count=2)
    before = model.forecast(past, 3)
    after = model.forecast([one * factor + shift for one in past], 3)
    for column in ("mean", "0.1", "0.5", "0.9"):
        np.testing.assert_allclose(after[column], before[column] * factor + shift, rtol=1e-4, atol=1e-3 * factor)


def test_every_form_of_the_same_data_has_the_same_answer(systems: Any) -> None:
    model = seqlab.load(systems("markov", "series"))
    first, second = (one[:, 0] for one in walks(1, 4, count=2))
    days = pd.date_range("2024-01-01", periods=40, freq="D")
    wide = pd.DataFrame({"a": first, "b": second}, index=days)
    rows = wide.rename_axis("day").reset_index().melt("day", var_name="shop", value_name="sold")
    rows = rows.sample(frac=1, random_state=0).sort_values("shop", kind="stable")  # times in any order
    expected = model.forecast([first, second], 3)
    for data, named in (
        ([first.tolist(), second.tolist()], {}),
        (wide, {}),
        (rows, {"id": "shop", "time": "day"}),
        ({"a": first, "b": pd.Series(second, index=days)}, {}),
    ):
        found = model.forecast(data, 3, **named)
        np.testing.assert_allclose(found["mean"], expected["mean"])
    table = model.forecast(rows, 3, id="shop", time="day")
    assert table["id"].tolist() == ["a"] * 3 + ["b"] * 3
    assert table["time"].tolist() == [*pd.date_range("2024-02-10", periods=3, freq="D")] * 2
    alone = model.forecast(first, 3)
    np.testing.assert_allclose(alone["mean"], model.forecast([first], 3)["mean"])
    assert alone["step"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.period_range("2023-01", periods=40, freq="M"), pd.period_range("2026-05", periods=2, freq="M").tolist()),
        (pd.date_range("2020-01-31", periods=40, freq="ME"), [pd.Timestamp("2023-05-31"), pd.Timestamp("2023-06-30")]),
        (pd.bdate_range("2024-01-01", periods=40), [pd.Timestamp("2024-02-26"), pd.Timestamp("2024-02-27")]),
        (pd.Index(range(1900, 2100, 5)), [2100, 2105]),
    ],
)
def test_times_go_on_by_their_own_step(systems: Any, index: pd.Index, expected: list[Any]) -> None:
    model = seqlab.load(systems("markov", "series"))
    table = model.forecast(pd.Series(walks(1, 4)[0][:, 0], index=index, name="x"), 2)
    assert table["time"].tolist() == expected
    assert table["id"].unique().tolist() == ["x"]


def test_a_price_is_forecast_and_scored_as_a_price(systems: Any) -> None:
    model = seqlab.load(systems("markov", "returns"))
    prices = walks(1, 6)[0]
    near, far = model.forecast(prices, 3, seed=3), model.forecast(prices * 1000, 3, seed=3)
    np.testing.assert_allclose(far["0.5"], near["0.5"] * 1000, rtol=1e-9)
    assert np.abs(near["0.5"] / prices[-1] - 1).max() < 1
    assert model.score(prices)["step"].tolist() == list(range(2, 41)), "the first price has no return"


def test_positions_are_labelled(systems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = systems("markov", "channels")
    model = seqlab.load(folder)
    with pytest.raises(UserError, match="does not label; it can forecast, classify, score"):
        model.label(walks(3, 1))

    class Labels:
        def label_log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
            wild = np.where(x[..., 0] > 0, 0.9, 0.2)
            return np.log(np.stack([1 - wild, wild], axis=-1))

        def labels(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
            return np.ones(mask.shape, np.int64)

    parts = bundle.read(folder)
    parts.models["label"] = parts.models["next_step"]
    monkeypatch.setattr("seqlab.api.opened", lambda *_: Labels())
    model = seqlab.Model(parts)
    data = [np.array([[30.0, 20, 20]] * 3), np.array([[1.0, 20, 20]])]
    table = model.label(data)
    # What is likeliest together is what the model says, and not what is likeliest one by one.
    assert table["label"].tolist() == ["wild"] * 4
    np.testing.assert_allclose(table["wild"], [0.9, 0.9, 0.9, 0.2])
    assert table[["id", "step"]].to_numpy().tolist() == [[0, 1], [0, 2], [0, 3], [1, 1]]


def test_a_text_beyond_what_training_saw_is_cut_and_said(systems: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = seqlab.load(systems("markov", "texts"))
    longest = model.units.longest
    long, short = "ab " * 30, "ab"
    found = model.classify([long, short])
    assert f"1 of 2 texts were cut to the {longest} bytes" in caplog.text
    np.testing.assert_allclose(
        found.loc[0, CLASSES].astype(float), model.classify([long[:longest]]).loc[0, CLASSES].astype(float)
    )
    assert len(model.score([long])) == len(" ".join(long.split())) + 1, "a score leaves nothing out"


def test_a_prompt_may_end_within_a_word_or_after_one(systems: Any) -> None:
    model = seqlab.load(systems("ar", "texts"))
    assert model.generate(["the cat sat on the"], 4, seed=0) != model.generate(["the cat sat on the "], 4, seed=0)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (lambda m: m.forecast([1.0, np.nan, 2.0], 3), "sequence 0, row 2: a value is missing"),
        (lambda m: m.forecast([1.0, 2.0], 0), "steps: found 0"),
        (lambda m: m.forecast([1.0, 2.0], 3, levels=[5]), "levels: found 5"),
        (lambda m: m.forecast([1.0, 2.0], 3, samples=0), "samples: found 0"),
        (lambda m: m.forecast([], 3), "empty list"),
        (lambda m: m.forecast([[], [1.0]], 3), "sequence 0: empty"),
        (lambda m: m.forecast(["a", "b"], 3), "could not convert string to float"),
        (lambda m: m.forecast([[1.0, 2.0]], 3, id="a"), "id and time name columns"),
        (lambda m: m.forecast(pd.DataFrame({"a": []}), 3), "no row: found an empty DataFrame"),
        (lambda m: m.forecast(pd.DataFrame({"t": [], "a": []}), 3, time="t"), "no row: found an empty DataFrame"),
        (lambda m: m.forecast(pd.DataFrame({"a": [1.0]}), 3, id="shop"), "no column 'shop'; found a"),
        (
            lambda m: m.forecast(pd.DataFrame({"y": [1.0]}, pd.Index([1], name="t")), 3, time="t"),
            r"no column 't'; found y; it is the index: frame.reset_index\(\) makes it one",
        ),
        (
            lambda m: m.forecast(pd.DataFrame({"t": [1, 1], "y": [1.0, 2.0]}), 3, time="t"),
            "t 1 stands twice",
        ),
        (
            lambda m: m.forecast(pd.DataFrame({"s": [1, 1], "y": [1.0, 2.0], "z": [1.0, 2.0]}), 3, id="s"),
            "columns of values: found y, z, 2 channels; expected 1",
        ),
        (
            lambda m: m.forecast(pd.Series([1.0, 2, 3], pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-09"])), 1),
            "have no one step between them",
        ),
        (lambda m: m.translate(["a"]), "does not translate; it can forecast, classify, score"),
        (lambda m: m.generate(["a"], 3), "does not generate"),
    ],
)
def test_bad_input_is_named(systems: Any, question: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        question(seqlab.load(systems("markov", "series")))


def test_times_that_are_text_are_read_as_times(systems: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = seqlab.load(systems("markov", "series"))
    days = pd.date_range("2024-01-01", periods=40)
    rows = pd.DataFrame({"shop": "a", "day": days, "sold": walks(1, 4)[0][:, 0], "place": "north"})
    expected = model.forecast(rows.drop(columns="place"), 2, id="shop", time="day")
    # By their text they would be sorted by the day of the month.
    text = rows.assign(day=days.strftime("%d.%m.%Y")).sample(frac=1, random_state=0)
    found = model.forecast(text, 2, id="shop", time="day", value="sold")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert "columns that are not used: 1 (place)" in caplog.text
    with pytest.raises(UserError, match="found sold, place, 2 channels; expected 1: name with value="):
        model.forecast(text, 2, id="shop", time="day")
    with pytest.raises(UserError, match=r"no row between 2024-01-10 .* and 2024-01-13 .* daily"):
        model.forecast(text[~text["day"].isin(["11.01.2024", "12.01.2024"])], 2, id="shop", time="day", value="sold")
    text.iloc[3, 1] = "soon"
    with pytest.raises(UserError, match="row 4, column day: 'soon' is no time"):
        model.forecast(text, 2, id="shop", time="day", value="sold")
    utc = rows.assign(day=days.strftime("%Y-%m-%dT00:00:00Z"))
    assert model.forecast(utc, 1, id="shop", time="day", value="sold")["time"][0] == pd.Timestamp(
        "2024-02-10", tz="UTC"
    )


def test_columns_side_by_side_are_sequences_of_their_own(systems: Any) -> None:
    model = seqlab.load(systems("markov", "series"))
    first, second = (one[:, 0] for one in walks(1, 4, count=2))
    rows = pd.DataFrame({"shop": "a", "x": first, "y": second})
    found = model.forecast(rows, 2, id="shop", value=["x", "y"])
    assert found["id"].tolist() == ["a/x"] * 2 + ["a/y"] * 2
    np.testing.assert_allclose(found["mean"], model.forecast([first, second], 2)["mean"])


def test_a_past_without_a_spread_is_refused(systems: Any) -> None:
    model = seqlab.load(systems("markov", "series"))
    for past, why in (([5.0], r"it has 1 step\(s\)"), ([5.0] * 30, "its 30 steps do not vary")):
        with pytest.raises(UserError, match=f"sequence 'a': {why}.*1 of 2 sequences"):
            model.forecast({"a": past, "b": walks(1, 4)[0][:, 0]}, 1)


def test_blank_texts_have_no_answer(systems: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = seqlab.load(systems("markov", "texts"))
    found = model.classify(["ab", " ", "ab ab", np.nan])
    assert found.index.tolist() == [0, 2]
    assert "blank texts, which have no answer: 2 of 4 (first 1)" in caplog.text
    for texts, why in (([], "empty list"), ([" "], "every text is blank")):
        with pytest.raises(UserError, match=why):
            model.classify(texts)


def test_what_defeats_a_family_is_said_once_of_all_series() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for count, of, why in ((1, 1, "do not vary"), (2, 5, "do not vary"), (1, 5, "are short")):
            warnings.warn(CarriedOn("SomeModel", count, of, why), stacklevel=1)
        warnings.warn("else", stacklevel=1)
    with pytest.warns(UserWarning, match=".") as said:
        api._warn(caught, "gbdt", 6)
    assert [str(one.message) for one in said] == [
        "else",
        "gbdt: 3 of 6 pasts do not vary; their last value is carried on",
        "gbdt: 1 of 6 pasts are short; their last value is carried on",
    ]


def test_a_value_without_a_transform_is_named(systems: Any) -> None:
    with pytest.raises(UserError, match=r"sequence 'a', row 2: -3 has no log\(1 \+ y\)"):
        seqlab.load(systems("markov", "counts")).forecast({"a": [1.0, -3.0]}, 1)
    with pytest.raises(UserError, match="row 1: 0 has no logarithm"):
        seqlab.load(systems("markov", "returns")).forecast([0.0, 1.0], 1)


def test_what_is_missing_is_named(systems: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        seqlab.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="no model"):
        seqlab.load(tmp_path)
    (tmp_path / "next_step").mkdir()
    (tmp_path / "next_step/model.json").write_text("{}")
    with pytest.raises(UserError, match=r"units\.json: missing"):
        seqlab.load(tmp_path)


def test_importing_seqlab_costs_nothing() -> None:
    code = "import sys, seqlab; print(sorted({'numpy', 'torch', 'pandas', 'mlflow'} & set(sys.modules))); seqlab.load"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
