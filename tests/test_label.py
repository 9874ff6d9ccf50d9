"""Labelling: exact searches against enumeration, sight, scores, spacing without a leak, and the stages as functions."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from seqlab import api, config
from seqlab.artifacts import read_json
from seqlab.cells import Cell
from seqlab.data.domains import spacing, translation
from seqlab.data.domains.spacing import Spacing, unspaced
from seqlab.data.order import shuffled
from seqlab.data.prepared import ALPHABET, SOURCE, TARGET, Prepared
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.evaluation import leaderboard, metrics
from seqlab.evaluation.settings import Comparing
from seqlab.families import bundle, loading, saved
from seqlab.families.base import Use
from seqlab.families.saved import Recipe
from seqlab.settings import Component, Family, Objective, Strategy
from seqlab.stages.compare import Comparison, compare
from seqlab.stages.controls import controls as controls_stage
from seqlab.stages.draw import draw as draw_stage
from seqlab.stages.evaluate import evaluate
from seqlab.stages.finetune import finetune
from seqlab.stages.prepare import prepare
from seqlab.stages.pretrain import pretrain
from seqlab.tasks.label import controls, draw, judge, peers, report
from seqlab.tasks.label.train import AROUND, Train
from seqlab.training.closed_form.train import own_prior, pretrained_prior
from seqlab.training.resume import Checkpoint

ROOT = Path(__file__).resolve().parent.parent
GRADIENT = ("mlp", "rnn", "lstm", "gru", "transformer")
CLOSED = ("markov", "ar", "latent_ar")
SMALL: dict[str, dict[str, Any]] = {
    **{name: {"hidden_size": 16} for name in GRADIENT},
    "transformer": {"hidden_size": 16, "feedforward_size": 16, "layers": 1},
    "markov": {"concentrations": [1.0], "prior_weights": [0.5]},
    "ar": {"orders": [2, 4], "prior_weights": [0.5]},
    "latent_ar": {"states": [3], "restarts": 1, "passes": 3, "prior_weights": [0.5]},
}
TRAINER = config.trainer(yaml.safe_load((ROOT / "conf/trainer/cpu.yaml").read_text())).settings


def family(name: str) -> Family:
    """As shipped, but small."""
    return config.family(name, yaml.safe_load((ROOT / f"conf/family/{name}.yaml").read_text()) | SMALL[name])


def recipe(name: str, size: int, classes: int = 2, kind: str = "symbols") -> Recipe:
    found = family(name)
    return Recipe(found.component.target, found.component.parameters, found.fit, kind, size, classes, AROUND[found.fit])


def marked(seed: int, size: int, classes: int, number: int = 30) -> Sequences:
    """Random sequences in which a position's class depends on it and on its neighbours."""
    rng = np.random.default_rng(seed)
    arrays = [rng.integers(size, size=n) for n in rng.integers(1, 9, number)]
    marks = [(x + np.roll(x, 1) + rng.integers(2, size=len(x))) % classes for x in arrays]
    return Sequences.from_arrays(
        [x.astype(np.uint16) for x in arrays],
        marks=np.concatenate(marks).astype(np.uint8),
        first=np.minimum(1, np.array([len(x) for x in arrays])),
    )


def fitted(name: str, seed: int, size: int, classes: int, prior: bool) -> Any:
    """A labeller in closed form, on a source's where there is a prior."""
    source = None
    if prior:
        source = recipe(name, size, classes).build()
        source.fit(marked(seed + 1, size, classes), marked(seed + 2, size, classes))
    model = recipe(name, size, classes).build()
    model.fit(marked(seed + 3, size, classes, 8), marked(seed + 4, size, classes, 8), source)
    return model


# ---------------------------------------------------------------------------------------------------- exact searches


def enumerated(model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every labelling (K^T, T) of x, and log P(x, labelling)."""
    every = np.array(list(itertools.product(range(model.classes), repeat=len(x))))
    pairs = x * model.classes + every
    return every, model.model.log_prob(pairs, np.ones(pairs.shape, bool)).sum(1)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(CLOSED), st.integers(0, 50), st.integers(2, 4), st.integers(2, 3), st.booleans(), st.integers(1, 5)
)
def test_searches_equal_enumeration(name: str, seed: int, size: int, classes: int, prior: bool, length: int) -> None:
    model = fitted(name, seed, size, classes, prior)
    x = np.random.default_rng(seed).integers(size, size=length)
    every, log_probs = enumerated(model, x)
    posterior = np.exp(log_probs - np.logaddexp.reduce(log_probs))
    expected = np.array([[posterior[every[:, t] == k].sum() for k in range(classes)] for t in range(length)])
    mask = np.ones((1, length), bool)
    np.testing.assert_allclose(np.exp(model.label_log_prob(x[None], mask)[0]), expected, rtol=1e-8, atol=1e-12)
    answer = model.labels(x[None], mask)[0]
    if name == "latent_ar":
        assert (expected[np.arange(length), answer] >= expected.max(1) - 1e-12).all()
    else:
        [place] = np.flatnonzero((every == answer).all(1))
        assert log_probs[place] == pytest.approx(log_probs.max(), abs=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_walking_a_model_gives_its_probabilities(name: str) -> None:
    model = fitted(name, 5, 3, 2, True).model
    x = np.random.default_rng(0).integers(6, size=12)
    weights = {model.begin: 0.0}
    walked = []
    for symbol in x:
        states, before = np.array(list(weights)), np.array(list(weights.values()))
        arcs = model.arcs(states, np.full(len(states), symbol))
        weights = {}
        for row, log_prob, state in zip(arcs.row, arcs.log_prob, arcs.state.tolist(), strict=True):
            weights[state] = np.logaddexp(weights.get(state, -np.inf), before[row] + log_prob)
        walked.append(np.logaddexp.reduce(list(weights.values())))
    expected = model.log_prob(x[None], np.ones((1, len(x)), bool))[0]
    np.testing.assert_allclose(np.diff(walked, prepend=0.0), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CLOSED)
def test_padding_and_company_change_no_answer(name: str) -> None:
    model = fitted(name, 3, 4, 2, False)
    batch = marked(9, 4, 2, 6).batch(np.arange(6))
    together, log_probs = model.labels(batch.x, batch.mask), model.label_log_prob(batch.x, batch.mask)
    assert not together[~batch.mask].any()
    assert not log_probs[~batch.mask].any()
    for row, length in enumerate(batch.mask.sum(1)):
        alone = batch.x[row : row + 1, :length], np.ones((1, length), bool)
        assert model.labels(*alone)[0].tolist() == together[row, :length].tolist()


# --------------------------------------------------------------------------------------------------------- gradient


def opened(name: str, size: int = 7, kind: str = "symbols", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    made = recipe(name, size, kind=kind)
    tensors = {key: part.detach().numpy().copy() for key, part in made.build().state_dict().items()}
    return made.build().opened(tensors, Path(), Use(TRAINER))


@pytest.mark.parametrize("kind", ["symbols", "vectors"])
@pytest.mark.parametrize("name", GRADIENT)
def test_only_what_looks_both_ways_sees_the_future(name: str, kind: str) -> None:
    model, rng = opened(name, kind=kind), np.random.default_rng(1)
    x = rng.integers(7, size=(1, 6)) if kind == "symbols" else rng.standard_normal((1, 6, 7)).astype(np.float32)
    mask = np.ones((1, 6), bool)
    changed = x.copy()
    changed[:, 4] = (changed[:, 4] + 1) % 7
    before, after = (model.label_log_prob(one, mask)[0] for one in (x, changed))
    moved = ~np.isclose(before, after, rtol=0, atol=1e-7).all(1)
    assert moved[4]
    assert moved[:4].any() == (name == "transformer")
    assert moved[5] == (name != "mlp")
    np.testing.assert_allclose(np.exp(before).sum(1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", GRADIENT)
def test_padding_is_out_of_sight(name: str) -> None:
    model, x = opened(name), np.random.default_rng(2).integers(7, size=(1, 9))
    mask = np.arange(9)[None] < 5
    padded = model.label_log_prob(np.where(mask, x, 0), mask)[0]
    np.testing.assert_allclose(padded[:5], model.label_log_prob(x[:, :5], mask[:, :5])[0], rtol=0, atol=1e-5)
    assert not padded[5:].any()


@pytest.mark.parametrize("name", GRADIENT)
def test_weights_of_any_model_of_the_family_fit(name: str) -> None:
    made = recipe(name, 7)
    plain = set(replace(made, classes=None, around=None).build().state_dict())
    assert set(made.build().state_dict()) == plain | {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", [*GRADIENT, *CLOSED])
def test_a_saved_model_answers_as_before(name: str, tmp_path: Path) -> None:
    made, batch = recipe(name, 4), marked(1, 4, 2, 5).batch(np.arange(5))
    if name in GRADIENT:
        model = opened(name, 4)
        tensors = {key: part.numpy() for key, part in model.model.state_dict().items()}
    else:
        model = fitted(name, 0, 4, 2, True)
        tensors = model.state()
    saved.save(tmp_path, made, tensors)
    again = loading.load(tmp_path, Use(TRAINER))
    for ask in ("labels", "label_log_prob"):
        np.testing.assert_array_equal(
            getattr(again, ask)(batch.x, batch.mask), getattr(model, ask)(batch.x, batch.mask)
        )


def test_a_prior_is_of_the_same_task(tmp_path: Path) -> None:
    made = recipe("markov", 4)
    plain = replace(made, classes=None, around=None)
    other = plain.build()
    other.fit(marked(0, 4, 2), marked(1, 4, 2))
    saved.save(tmp_path / "other", plain, other.state())
    with pytest.raises(UserError, match="a prior in closed form is of the same task"):
        pretrained_prior(made, tmp_path / "other", TRAINER)
    model = fitted("markov", 0, 4, 2, False)
    saved.save(tmp_path / "same", made, model.state())
    assert own_prior(made, tmp_path / "same/model.safetensors").model.space.size == 8
    with pytest.raises(UserError, match=r"not what seqlab\.families\.markov\.Markov writes"):
        own_prior(replace(made, classes=3), tmp_path / "same/model.safetensors")
    with pytest.raises(UserError, match="the domain has vectors"):
        replace(made, kind="vectors").build()


def test_closed_form_validates_on_the_classes_alone() -> None:
    model, valid = fitted("ar", 0, 4, 2, False), marked(7, 4, 2)
    total, number = 0.0, 0
    for i, x in enumerate(valid):
        every, log_probs = enumerated(model, x.astype(np.int64))
        posterior = np.exp(log_probs - np.logaddexp.reduce(log_probs))
        assert valid.marks is not None
        for t, mark in enumerate(valid.marks[valid.offsets[i] : valid.offsets[i + 1]]):
            if t:
                total -= np.log(posterior[every[:, t] == mark].sum())
                number += 1
    assert Train().validation_loss(model, valid) == pytest.approx(total / number, rel=1e-9)


# ----------------------------------------------------------------------------------------------------------- scores


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_scores_equal_scikit_learns(seed: int, classes: int) -> None:
    test, rng = marked(seed, 5, classes), np.random.default_rng(seed)
    assert test.marks is not None
    truth = test.marks.astype(np.int64)
    wrong = rng.random(len(truth)) < 0.3
    flat = np.where(wrong, rng.integers(classes, size=len(truth)), truth)
    flat[np.flatnonzero(test.scored)[0]] = truth[np.flatnonzero(test.scored)[0]] = 1
    test = replace(test, marks=truth)
    found = judge.scores(np.split(flat, test.offsets[1:-1]), test)
    value = {name: metrics.value_of(found, "label", name) for _, name in metrics.names_of(found)}
    own = test.scored
    positive = range(1, classes)
    assert value["f1"] == pytest.approx(f1_score(truth[own], flat[own], labels=positive, average="micro"))
    assert value["position_accuracy"] == pytest.approx((truth == flat)[own].mean())
    rows = [slice(a + 1, b) for a, b in itertools.pairwise(test.offsets) if b - a > 1]
    whole = np.mean([(truth[row] == flat[row]).all() for row in rows])
    assert value["sequence_accuracy"] == pytest.approx(whole)
    groups = [found.ratios["label", f"f1@{name}"].example for name in judge.group_names() if f"f1@{name}" in value]
    assert set(np.concatenate(groups)) <= set(found.ratios["label", "f1"].example)
    assert sum(map(len, groups)) == len(set(np.concatenate(groups)))


def test_groups_of_lengths_are_named_in_their_own_unit() -> None:
    assert metrics.label_of("f1@9-11") == "F1, sequences of 9-11 positions"
    assert metrics.label_of("chrf++@6-10") == "chrF++, sources of 6-10 words"


def test_shuffling_moves_marks_with_their_positions() -> None:
    data = marked(0, 50, 3)
    mixed = shuffled(data, 3)
    assert data.marks is not None
    assert mixed.marks is not None
    for a, b in itertools.pairwise(data.offsets):
        pairs = (
            Counter(zip(s.values[a:b], m[a:b], strict=True)) for s, m in ((data, data.marks), (mixed, mixed.marks))
        )
        assert next(pairs) == next(pairs)


def text(words: str) -> tuple[np.ndarray, np.ndarray]:
    return spacing.encoded(words, {c: ord(c) for c in unspaced(words)})


def spelt(*sentences: str) -> Sequences:
    values, marks = zip(*map(text, sentences), strict=True)
    return Sequences.from_arrays(values, marks=np.concatenate(marks), first=np.ones(len(values), np.int64))


def test_the_lexicon_takes_the_longest_word_and_joins_what_it_does_not_know() -> None:
    lexicon = controls.Lexicon([spelt("ab abc d", "e")])
    for sentence in ("abc d", "ab ab d", "abc xyz abc", "xy", "e xy"):
        values, marks = text(sentence)
        found = lexicon.labels(values[None].astype(np.int64), np.ones((1, len(values)), bool))
        assert judge.spaced(unspaced(sentence), found[0]) == sentence
        assert found[0].tolist() == marks.tolist()
    x, mask = np.array([[ord("a")] * 3]), np.array([[True, True, False]])
    assert controls.Majority(spelt("abc de", "fgh")).labels(x, mask).tolist() == [[0, 0, 0]]
    assert controls.Majority(spelt("a b c d e")).labels(x, mask).tolist() == [[1, 1, 0]]


@pytest.mark.slow
def test_kiwi_spaces_korean() -> None:
    sentences = ["나는 학교에 간다.", "오늘 날씨가 좋다."]
    for sentence, found in zip(sentences, peers.kiwi([unspaced(one) for one in sentences]), strict=True):
        assert judge.spaced(unspaced(sentence), found) == sentence


def test_a_page_marks_what_is_missing_and_what_is_wrong() -> None:
    assert draw.marked("a <b c", "a<b c") == 'a<span class="missing"></span>&lt;b c'
    assert draw.marked("ab c", "a b c") == 'a<span class="wrong"></span>b c'


# ------------------------------------------------------------------------------------------------- spacing, prepared

SYLLABLES = "가나다라마바사아자차카타파하거너더러머버"
SHARED = ("corpora", "held_out", "max_words", "max_characters", "max_ratio", "sentence_words", "valid", "test")
PARAMETERS: dict[str, Any] = {
    "corpora": {
        "shop": {"format": "lines", "english": "shop_english", "korean": "shop_korean"},
        "web": {"format": "lines", "english": "web_english", "korean": "web_korean"},
    },
    "held_out": "web",
    "max_words": 40,
    "max_characters": 300,
    "max_ratio": 20.0,
    "sentence_words": 2,
    "valid": 0.1,
    "test": 0.1,
    "vocabulary_size": 20,
    "source_valid": 0.1,
    "target_valid": 0.2,
    "target_test": 0.3,
}


def sentence(rng: np.random.Generator) -> str:
    """Words that begin with one half of the syllables and go on with the other."""
    first, rest = SYLLABLES[:10], SYLLABLES[10:]
    words = [rng.choice(list(first)) + "".join(rng.choice(list(rest), rng.integers(1, 4))) for _ in range(4)]
    return " ".join(words) + "."


def english(number: int) -> str:
    return " ".join("abcdefghij"[int(digit)] * 3 for digit in f"{number:04}")


@pytest.fixture(scope="module")
def everyday() -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        {
            "source": english(9000 + i),
            "references": [sentence(rng), sentence(rng)],
            "origin": "everyday_open",
            "group": english(9000 + i),
        }
        for i in range(60)
    ]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two corpora of a user's own, whose Korean now and then repeats itself under other English."""
    folder, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    found = {}
    for name, start, number in (("shop", 0, 400), ("web", 5000, 40)):
        korean = [sentence(rng) for _ in range(number)]
        korean = [korean[i // 2] if i % 10 == 0 else one for i, one in enumerate(korean)]
        for side, lines in (("english", [english(start + i) for i in range(number)]), ("korean", korean)):
            found[f"{name}_{side}"] = folder / f"{name}_{side}.txt"
            found[f"{name}_{side}"].write_text("\n".join(lines), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def prepared(raw: dict[str, Path], everyday: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lab") / "data/prepared/spacing"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "_everyday", lambda: iter(everyday))
        prepare(Component("seqlab.data.domains.spacing.Spacing", PARAMETERS), raw, out)
    return out


def written(folder: Path, name: str, split: str) -> list[str]:
    """The sentences of a split, of which every character is in the alphabet, with the spaces that their marks say."""
    alphabet = (folder / ALPHABET).read_text(encoding="utf-8")
    data = Prepared.open(folder).split(name, split)
    assert data.marks is not None
    assert data.first is not None
    assert (data.first == 1).all()
    assert (data.marks[data.offsets[:-1]] == 1).all()
    return [
        judge.spaced("".join(alphabet[s] for s in data[i]), data.marks[data.offsets[i] : data.offsets[i + 1]])
        for i in range(len(data))
    ]


@pytest.fixture(scope="module")
def whole(
    raw: dict[str, Path], everyday: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """Prepared with an alphabet that holds everything; and translation's own sets of the same corpora."""
    out = tmp_path_factory.mktemp("whole") / "spacing"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "_everyday", lambda: iter(everyday))
        recipe = Spacing(**PARAMETERS | {"vocabulary_size": 100})
        out.mkdir()
        recipe.prepare(raw, out)
        return out, recipe.translation.sets(raw, Counter())


def test_nothing_of_translations_tests_is_in_the_source(
    whole: tuple[Path, dict[str, list[dict[str, Any]]]],
) -> None:
    folder, sets = whole
    source = {unspaced(one) for split in ("train", "valid") for one in written(folder, SOURCE, split)}
    trained = {unspaced(one) for row in sets["train"] for one in row["references"]}
    assert source
    assert source <= trained
    for name in ("valid", "test", "held_out", "everyday"):
        tested = {unspaced(one) for row in sets[name] for one in row["references"]}
        assert tested
        assert not source & tested, name
    # The corpora do repeat a test sentence under the English of another one.
    removed = Prepared.open(folder).meta.removed
    assert sum(number for reason, number in removed.items() if reason.startswith("source: also in translation")) > 0


def test_splits_share_no_sentence_and_no_group(
    whole: tuple[Path, dict[str, list[dict[str, Any]]]], everyday: list[dict[str, Any]]
) -> None:
    folder, _ = whole
    splits = {split: set(written(folder, TARGET, split)) for split in ("train", "valid", "test")}
    assert all(splits.values())
    assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == 2 * len(everyday)
    for row in everyday:
        assert len({split for split, texts in splits.items() if texts & set(row["references"])}) == 1
    everything = [*splits.values(), *(set(written(folder, SOURCE, split)) for split in ("train", "valid"))]
    assert sum(map(len, everything)) == len({unspaced(one) for part in everything for one in part})


def test_the_alphabet_is_of_training_alone(
    prepared: Path, raw: dict[str, Path], everyday: list[dict[str, Any]], tmp_path: Path
) -> None:
    test = {row["group"] for row in everyday if spacing.split_of(row["group"], 0.2, 0.3) == "test"}
    changed = [row | ({"references": ["왔다 갔다."]} if row["group"] in test else {}) for row in everyday]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translation, "_everyday", lambda: iter(changed))
        Spacing(**PARAMETERS).prepare(raw, tmp_path)
    assert (tmp_path / ALPHABET).read_text() == (prepared / ALPHABET).read_text()
    assert len((prepared / ALPHABET).read_text()) == Prepared.open(prepared).meta.size == 20
    unknown = sum(int((one == 0).sum()) for one in Prepared.open(prepared).split(TARGET, "test"))
    assert Prepared.open(prepared).meta.removed["target test: characters outside the alphabet"] == unknown > 0


def test_its_values_are_translations_own() -> None:
    ours, theirs = (
        yaml.safe_load((ROOT / f"conf/domain/{name}.yaml").read_text()) for name in ("spacing", "translation")
    )
    assert ours["archives"] == theirs["archives"]
    assert {key: ours["prepare"][key] for key in SHARED} == {key: theirs["prepare"][key] for key in SHARED}


def test_labelling_needs_marks(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(json.dumps({"kind": "symbols", "size": 3, "tasks": ["label"], "classes": []}))
    Sequences.from_arrays([np.zeros(3, np.uint8)]).save(tmp_path / TARGET / "train")
    domain = config.domain("spacing", yaml.safe_load((ROOT / "conf/domain/spacing.yaml").read_text()))
    with pytest.raises(UserError, match=r"no marks\.npy"):
        Train().data(Prepared.open(tmp_path), "train", domain.finetune["label"])


# ------------------------------------------------------------------------------------------------------- the stages


@pytest.fixture(scope="module")
def lab(prepared: Path) -> Path:
    """Trained and judged: one family of each kind, from scratch and from the source."""
    home = prepared.parents[2]
    domain = config.domain("spacing", yaml.safe_load((ROOT / "conf/domain/spacing.yaml").read_text()))
    budgets = {"label": replace(domain.finetune["label"], steps=30, evaluations=2)}
    strategies = {"scratch": Strategy("scratch", 1.0), "full": Strategy("pretrained", 0.5)}
    common: dict[str, Any] = {"positions": None, "seed": 0, "trainer": TRAINER, "steps": 1.0}
    for name in ("gru", "ar"):
        own = family(name)
        checkpoint = Checkpoint(home / "resume" / name, 1e9)
        source = home / f"models/spacing/{name}/pretrain/0"
        pretrain(
            prepared, source, domain="spacing", family=own, task="label", objective=Objective("next"),
            budget=replace(domain.pretrain, steps=150, tokens=512), checkpoint=checkpoint.of("source"), **common,
        )  # fmt: skip
        for how, strategy in strategies.items():
            path = f"spacing/{name}/{how}/0"
            finetune(
                prepared, home / "models" / path, domain="spacing", family=own, budgets=budgets, strategy=strategy,
                start=source / "next_step" if how == "full" else None, teacher=None, fraction=1.0,
                checkpoint=checkpoint.of(how), **common,
            )  # fmt: skip
            evaluate(
                prepared, home / "models" / path, home / "scores" / path, home / "shown" / path, domain="spacing",
                family=name, tasks=["label"], settings=domain.evaluate, order="kept", examples=None, seed=0,
                trainer=TRAINER,
            )  # fmt: skip
    controls_stage(
        prepared, home / "scores/spacing/controls", domain="spacing", tasks=["label"], settings=domain.evaluate,
        examples=None,
    )  # fmt: skip
    return home


@pytest.mark.slow
def test_stages_end_in_a_comparison(lab: Path, tmp_path: Path) -> None:
    domain = config.domain("spacing", yaml.safe_load((ROOT / "conf/domain/spacing.yaml").read_text()))
    strategies = {"scratch": Strategy("scratch", 1.0), "full": Strategy("pretrained", 0.5)}
    cells = [Cell("spacing", name, how, 0) for name in ("gru", "ar") for how in strategies]
    found = compare(
        Comparison(
            cells=cells,
            domains={"spacing": domain.evaluate},
            judges=config.judges(),
            judged={"spacing": ["label"]},
            strategies=strategies,
            replicates=50,
            comparing=Comparing(baseline="markov", rounds=5),
        ),
        lab / "models",
        lab / "scores",
        tmp_path,
    )
    table = {row.system: row for row in found.rows if row.metric == "f1"}
    assert set(table) == {
        "gru · scratch", "gru · full", "ar · scratch", "ar · full", "majority", "lexicon", "lexicon with source",
        "kiwi · outside",
    }  # fmt: skip
    assert table["majority"].value == 0
    # Where a word begins is told by its first syllable, so that every family learns it, but for what is unknown.
    assert min(table[f"{name} · full"].value for name in ("gru", "ar")) > 0.8
    assert not table["kiwi · outside"].control
    assert table["gru · full"].best_control in ("lexicon", "lexicon_with_source")
    assert "kiwi · outside" in (tmp_path / "spacing.md").read_text()
    assert report.SIGHT in (tmp_path / "spacing.md").read_text()
    assert (tmp_path / "pictures/spacing-label-lengths.png").stat().st_size > 0
    assert "outside" not in (tmp_path / "transfer.csv").read_text()


@pytest.mark.slow
def test_pages_are_drawn_of_what_was_shown(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    draw_stage({"spacing/gru/full/0": ["label"]}, lab / "models", lab / "scores", lab / "shown", out)
    tested = [json.loads(line)["references"][0] for line in (lab / "data/prepared/spacing/texts.jsonl").open()]
    page = (out / "gru/full/0/spaces.html").read_text(encoding="utf-8")
    shown = read_json(lab / "shown/spacing/gru/full/0/label/texts.json")
    assert page.count("<li>") == len(shown) // 2 == min(judge.SHOWN, len(tested))
    assert all(unspaced(shown[f"true/{key.partition('/')[2]}"]) == unspaced(one) for key, one in shown.items())
    assert all(shown[key] == tested[int(key.partition("/")[2])] for key in shown if key.startswith("true/"))


@pytest.mark.slow
def test_a_loaded_system_labels_texts(lab: Path) -> None:
    parts = bundle.found(
        lab / "models/spacing/ar/full/0", Prepared.open(lab / "data/prepared/spacing"), trainer=asdict(TRAINER),
        decoding=None, samples=None,
    )  # fmt: skip
    test = Prepared.open(lab / "data/prepared/spacing").split(TARGET, "test")
    texts = [json.loads(line)["source"] for line in (lab / "data/prepared/spacing/texts.jsonl").open()][:3]
    table = api.Model(parts).label([" ".join(one) for one in texts])
    model = loading.load(lab / "models/spacing/ar/full/0/label", Use(TRAINER))
    batch = test.batch(np.arange(3))
    expected = model.labels(batch.x, batch.mask)[batch.mask]
    assert table["label"].tolist() == [["inside", "begins"][k] for k in expected]
    np.testing.assert_allclose(table[["inside", "begins"]].sum(axis=1), 1, rtol=1e-9)


def test_marks_of_peers_and_controls_are_apart(lab: Path) -> None:
    folder = lab / "scores/spacing/controls"
    assert {path.name for path in folder.iterdir()} == {"majority", "lexicon", "lexicon_with_source", "outside"}
    assert [path.name for path in (folder / leaderboard.OUTSIDE).iterdir()] == ["kiwi"]


def test_space_is_a_pair_of_symbol_and_class() -> None:
    assert recipe("ar", 5, 3).build().model.space == Space("symbols", 15)
