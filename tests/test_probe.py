"""Each probe finds a leak that was planted, and finds nothing where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from seqlab.artifacts import seed_of
from seqlab.data.domains.base import Scaler
from seqlab.data.domains.series import Series
from seqlab.data.sequences import Sequences, Space
from seqlab.evaluation import controls, metrics, probe
from seqlab.evaluation.metrics import CLASSIFY, NEXT
from seqlab.evaluation.scores import Predictions, Ratio, Scores


def vectors(seed: int, count: int = 12, first: int | None = None) -> Sequences:
    rng = np.random.default_rng(seed)
    rows = [np.cumsum(rng.normal(size=(n, 2)), axis=0).astype(np.float32) for n in rng.integers(50, 80, count)]
    return Sequences.from_arrays(rows, **({} if first is None else {"first": np.full(count, first)}))


def symbols(seed: int, count: int = 12) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences.from_arrays([rng.integers(0, 5, n).astype(np.uint8) for n in rng.integers(30, 60, count)])


# Future


@dataclass(frozen=True)
class Filter:
    """N(a mean of neighbours, 1): of those before, and where it leaks of one after."""

    leaks: bool
    space = Space("vectors", 2)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before, after = np.zeros_like(x), np.zeros_like(x)
        before[:, 1:], after[:, :-1] = x[:, :-1], x[:, 1:]
        return np.where(mask[..., None], 0.5 * before + 0.1 * self.leaks * after, 0), np.ones_like(x)

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask, norm.logpdf(x, *self.moments(x, mask)).sum(2), 0)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Adaptive:
    """Shares of the symbols seen so far; where it leaks, of the whole sequence."""

    leaks: bool
    space = Space("symbols", 5)

    def distribution(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        seen = np.cumsum(np.where(mask[..., None], np.eye(5)[x], 0), axis=1)
        counts = 1 + np.concatenate([np.zeros_like(seen[:, :1]), seen], axis=1)
        counts = counts + seen[:, -1:] * self.leaks
        return np.log(counts / counts.sum(2, keepdims=True))

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        said = np.take_along_axis(self.distribution(x, mask)[:, :-1], x[..., None], axis=2)[..., 0]
        return np.where(mask, said, 0)

    def moments(self, x: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def forecast(self, prefix: np.ndarray, mask: np.ndarray, steps: int, samples: int, seed: int) -> np.ndarray:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("predictor", "sequences", "second"), [(Filter, vectors(0), "moments"), (Adaptive, symbols(0), "distribution")]
)
def test_a_predictor_that_sees_the_future_is_found(
    predictor: type[Filter | Adaptive], sequences: Sequences, second: str
) -> None:
    assert probe.future(predictor(leaks=False), sequences, "honest", 0) == []
    found = probe.future(predictor(leaks=True), sequences, "leaky", 0)
    assert {one.found.partition(" ")[0] for one in found} == {"log_prob", second}
    assert all((one.probe, one.subject) == ("future", "leaky") for one in found)


def test_controls_see_no_future() -> None:
    for sequences, space in ((vectors(1), Space("vectors", 2)), (symbols(1), Space("symbols", 5))):
        for name, predictor in controls.next_step(sequences, space, 0.5).items():
            assert probe.future(predictor, sequences, name, 0) == []


# Training alone


CONF = yaml.safe_load((Path(__file__).parent.parent / "conf/domain/series.yaml").read_text())["prepare"]
COLUMNS = {"time": "t", "value": "y", "key": ["k"]}
SMALL = {
    "source": [{"file": "source.csv", **COLUMNS}],
    "target": {"file": "target.csv", **COLUMNS},
    "window": 20,
    "min_length": 8,
    "valid_steps": 4,
    "test_steps": 6,
    "stretches": 1,
    "valid": 0.3,
    "test": 0.3,
}
SERIES = Series(**{name: value for name, value in (CONF | SMALL).items() if name != "_target_"})


def panel(path: Path, series: int) -> None:
    """Series of 40 steps."""
    rng = np.random.default_rng(series)
    lines = ["t,k,y"]
    for k in range(series):
        values = rng.normal(10, 1, 40)
        lines += [f"{i},{k},{value}" for i, value in enumerate(values)]
    path.write_text("\n".join(lines) + "\n")


def prepared(folder: Path) -> dict[tuple[str, str], Sequences]:
    """A target and a source of series, as the recipe prepares them."""
    (folder / "raw").mkdir(parents=True)
    panel(folder / "raw/source.csv", 30)
    panel(folder / "raw/target.csv", 5)
    SERIES.prepare({"panels": folder / "raw"}, folder / "out")
    return {("target", split): Sequences.load(folder / "out/target" / split) for split in ("train", "valid", "test")}


def test_a_scale_of_the_whole_series_is_found(tmp_path: Path) -> None:
    splits = prepared(tmp_path)
    assert probe.scalers(splits) == []
    test = splits["target", "test"]
    leaking = replace(test, centre=np.stack([one.mean(0) for one in test]))
    (found,) = probe.scalers({**splits, ("target", "test"): leaking})
    assert (found.probe, found.subject) == ("scalers", "target/test")
    assert found.found == "centre or scale of sequence 0 is not that of its 34 known positions (4 more)"


def test_a_scaler_of_all_splits_is_found() -> None:
    train, test = vectors(0), vectors(1)
    for fitted, expected in ((list(train), 0), ([*train, *test], 1)):
        scaler = Scaler.fit(fitted)
        scaled = {("target", split): Sequences.from_arrays([scaler(one) for one in part])
                  for split, part in (("train", train), ("test", test))}  # fmt: skip
        assert len(probe.scalers(scaled)) == expected


def test_a_symbol_of_the_test_alone_is_found() -> None:
    known = Sequences.from_arrays([np.array([1, 2, 2], np.uint16)])
    splits = {("source", "train"): known, ("target", "train"): known, ("target", "test"): Sequences.from_arrays(
        [np.array([3, 0], np.uint16)])}  # fmt: skip
    assert probe.symbols(splits, 3) == []
    (found,) = probe.symbols(splits, 4)
    assert found.found == "symbol 3 occurs in no training split (0 more)"


def test_another_model_without_a_test_split_is_found() -> None:
    tensors = {"counts": np.arange(4.0), "words": np.zeros(2)}
    assert probe.retrained(tensors, {**tensors}, "lexicon") == []
    for other in (
        {**tensors, "counts": np.arange(4.0) + 1e-3},
        {"counts": np.arange(4.0)},
        {**tensors, "b": np.ones(1)},
    ):
        assert len(probe.retrained(tensors, other, "lexicon")) == 1


# Overlap


@pytest.mark.parametrize("make", [vectors, symbols], ids=["vectors", "symbols"])
def test_a_held_out_sequence_in_another_split_is_found(make: Callable[[int], Sequences]) -> None:
    splits = {("target", "train"): make(0), ("target", "valid"): make(1), ("target", "test"): make(2),
              ("source", "train"): make(3), ("labelled", "test"): make(2)}  # fmt: skip
    assert probe.overlaps(splits) == []  # the same test twice is one split in two sets
    planted = Sequences.from_arrays([*splits["source", "train"], splits["target", "test"][7]])
    found = probe.overlaps(splits | {("source", "train"): planted})
    assert [(one.subject, one.found) for one in found] == [
        ("target/test", "1 of 12 sequences stand in source/train as well, the first is 7"),
        ("labelled/test", "1 of 12 sequences stand in source/train as well, the first is 7"),
    ]
    both = Sequences.from_arrays([*splits["target", "valid"], splits["target", "test"][3]])
    subjects = {one.subject for one in probe.overlaps(splits | {("target", "valid"): both})}
    assert {"target/valid", "target/test"} <= subjects


def test_windows_of_one_series_may_share_their_past_and_nothing_else() -> None:
    series = np.random.default_rng(0).normal(size=(100, 1)).astype(np.float32)
    first = {"first": np.array([40])}

    def splits(train: slice) -> dict[tuple[str, str], Sequences]:
        return {
            ("target", "train"): Sequences.from_arrays([series[train]]),
            ("target", "valid"): Sequences.from_arrays([series[:60]], first=np.array([40])),
            ("target", "test"): Sequences.from_arrays([series[20:]], **first),
        }

    assert probe.overlaps(splits(slice(0, 40))) == []
    (found,) = probe.overlaps(splits(slice(0, 61)))
    assert found.subject == "target/valid"


def test_a_short_sentence_within_a_longer_one_is_no_overlap() -> None:
    texts = [np.frombuffer(text, np.uint8) for text in (b"It is what it is, and no more than that, he said.",)]
    inside = [np.frombuffer(b"and no more than that", np.uint8)]
    splits = {("target", "train"): Sequences.from_arrays(texts), ("target", "test"): Sequences.from_arrays(inside)}
    assert probe.overlaps(splits) == []


def test_a_sentence_is_compared_with_its_unscored_beginning() -> None:
    def sentence(text: bytes) -> Sequences:
        return Sequences.from_arrays([np.frombuffer(text, np.uint8)], first=np.ones(1, np.int64))

    assert probe.overlaps({("target", "train"): sentence(b"save"), ("target", "test"): sentence(b"?save")}) == []
    assert len(probe.overlaps({("target", "train"): sentence(b"save"), ("target", "test"): sentence(b"save")})) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_occurrences_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (1,) if seed % 2 else ()
    among = [rng.integers(0, 2, (rng.integers(0, 60), *shape)).astype(np.float32) for _ in range(4)]
    wanted = [rng.integers(0, 2, (rng.integers(0, 6), *shape)).astype(np.float32) for _ in range(6)]
    wanted += [one[2 : 2 + rng.integers(0, 50)] for one in among]
    expected = [
        index
        for index, one in enumerate(wanted)
        if len(one) > 1
        and any(
            np.array_equal(other[k : k + len(one)], one) for other in among for k in range(len(other) - len(one) + 1)
        )
    ]
    assert probe.occurring(wanted, among).tolist() == expected
    assert probe.occurring([], among).tolist() == probe.occurring(wanted, []).tolist() == []


# Labels


def labelled(seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
    rows = [rng.normal(2 * k, 1, (20, 1)).astype(np.float32) for k in labels]
    return Sequences.from_arrays(rows, labels=labels)


def answers(train: Sequences, valid: Sequences, test: Sequences) -> Predictions:
    model = controls.OrderFree(train, valid, Space("vectors", 1), [1.0])
    return metrics.classify(model, test, 4096).predictions[CLASSIFY]


def test_shuffled_labels_fall_to_the_majority_unless_labels_leak() -> None:
    train, valid, test = (labelled(seed) for seed in range(3))
    mixed = [[probe.with_shuffled_labels(part, 0, turn, 3) for part in (train, valid)] for turn in range(3)]
    assert sorted(mixed[0][0].labels) == sorted(train.labels)  # type: ignore[arg-type]
    assert probe.shuffled_labels([answers(*parts, test) for parts in mixed], "ridge") == []
    # A classifier that never saw the shuffled labels.
    (found,) = probe.shuffled_labels([answers(train, valid, test)] * 3, "ridge")
    assert found.found.startswith("trained on shuffled labels it is right on")


def test_classes_that_lie_apart_are_called_by_chance_and_that_is_no_leak() -> None:
    labels = np.arange(40) % 2
    guesses = np.log(np.where(np.eye(2)[labels] > 0, 0.9, 0.1))
    turns = [Predictions(np.arange(40), labels, part) for part in (guesses, guesses[:, ::-1])]
    assert probe.shuffled_labels(turns, "two clusters") == []
    assert len(probe.shuffled_labels(turns[:1] * 2, "two clusters")) == 1


# Batches and order


SCORED = vectors(5, 40, first=10)


def exact(sequences: Sequences, tokens: int, seed: int) -> Scores:
    predictor = controls.next_step(SCORED, Space("vectors", 2), 0.5)["random_walk"]
    return metrics.next_vectors(metrics.one_step(predictor, sequences, tokens, 4, 20, seed))


def sampled(sequences: Sequences, tokens: int, seed: int) -> Scores:
    """Sums of noise that is drawn batch by batch, as sample paths are."""
    found = np.zeros(len(sequences))
    for number, (indices, batch) in enumerate(sequences.batches(tokens)):
        noise = np.random.default_rng(seed_of(seed, number)).normal(size=len(indices))
        found[indices] = np.where(batch.mask[..., None], batch.x, 0).sum((1, 2)) + noise
    return Scores({(NEXT, "crps"): Ratio(np.arange(len(sequences)), found, np.ones(len(sequences)))})


def classes(sequences: Sequences, tokens: int, seed: int) -> Scores:
    model = controls.OrderFree(labelled(0), labelled(1), Space("vectors", 1), [1.0])
    return metrics.classify(model, sequences, tokens)


def loses_the_last_batch(sequences: Sequences, tokens: int, seed: int) -> Scores:
    *batches, _ = sequences.batches(tokens)
    kept = np.sort(np.concatenate([indices for indices, _ in batches])) if batches else np.arange(len(sequences))
    return Scores({(NEXT, "nll"): Ratio(kept, np.ones(len(kept)), np.ones(len(kept)))})


def standardises_the_batch(sequences: Sequences, tokens: int, seed: int) -> Scores:
    found = np.zeros(len(sequences))
    for indices, batch in sequences.batches(tokens):
        found[indices] = batch.x[:, 0, 0] - batch.x[:, 0, 0].mean()
    return Scores({(NEXT, "nll"): Ratio(np.arange(len(found)), found, np.ones(len(found)))})


def carries_over(sequences: Sequences, tokens: int, seed: int) -> Scores:
    """Each answer leans on the one before it, whatever the batches."""
    probs = np.random.default_rng(0).dirichlet(np.ones(3), len(sequences))
    values = np.array([float(one[0, 0]) for one in sequences])
    mixed = probs * 0 + np.exp(np.stack([values, np.roll(values, 1), 0 * values], axis=1))
    answers = Predictions(
        np.arange(len(values)), np.zeros(len(values), np.int64), np.log(mixed / mixed.sum(1)[:, None])
    )
    return Scores(predictions={CLASSIFY: answers})


def shifts_with_the_batch(sequences: Sequences, tokens: int, seed: int) -> Scores:
    found = sampled(sequences, tokens, seed).ratios[NEXT, "crps"]
    return Scores({(NEXT, "crps"): replace(found, numerator=found.numerator + tokens / 200)})


@pytest.mark.parametrize(("score", "sequences"), [(exact, SCORED), (sampled, SCORED), (classes, labelled(2))])
def test_scores_that_depend_on_no_batch_pass(
    score: Callable[[Sequences, int, int], Scores], sequences: Sequences
) -> None:
    assert probe.batches(score, sequences, [2000, 300, 90], "series", 0) == []


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (loses_the_last_batch, "examples become"),
        (standardises_the_batch, "changes by .* with 300 positions instead of 2000"),
        (carries_over, "the probabilities of example .* change with the order reversed"),
        (shifts_with_the_batch, "more than another seed explains with 300 positions"),
    ],
)
def test_scores_that_depend_on_the_batch_or_the_order_are_found(
    score: Callable[[Sequences, int, int], Scores], message: str
) -> None:
    import re

    found = probe.batches(score, SCORED, [2000, 300, 90], "series", 0)
    assert any(re.search(message, one.found) for one in found), found


def chaotic(sequences: Sequences, tokens: int, seed: int) -> Scores:
    """The logistic map doubles a difference at each of 60 steps; another batch rounds the first value differently."""
    state = np.array([float(one[0, 0]) for one in sequences]) % 1
    state = state * (1 + 1e-9 * (tokens == 300))
    for _ in range(60):
        state = 4 * state * (1 - state)
    return Scores({(NEXT, "nll"): Ratio(np.arange(len(state)), state, np.ones(len(state)))})


def test_what_rounding_explains_is_told_from_what_the_batch_does() -> None:
    def shifted(sequences: Sequences, tokens: int, seed: int) -> Scores:
        found = chaotic(sequences, tokens, seed).ratios[NEXT, "nll"]
        return Scores({(NEXT, "nll"): replace(found, numerator=found.numerator + tokens)})

    many, tokens = vectors(40, 5, first=1), [2000, 300]
    unstable = probe.amplified(chaotic, many, tokens[0], 0)
    assert list(unstable) == [(NEXT, "nll")]
    assert probe.batches(chaotic, many, tokens, "series", 0) != []
    assert probe.batches(chaotic, many, tokens, "series", 0, unstable) == []
    found = probe.batches(shifted, many, tokens, "series", 0, unstable)
    assert any("more than rounding explains" in one.found for one in found), found
    assert probe.amplified(exact, SCORED, tokens[0], 0) == {}
    base = probe.as_evaluated(shifted, many, tokens[0], 0)
    assert probe.batches(shifted, many, tokens, "series", 0, unstable, base) == found


def test_a_sampled_coverage_may_flip_one_value_and_no_more() -> None:
    def scores(crps: float, flipped: int) -> Scores:
        inside = np.ones(40)
        inside[:flipped] -= 1 / 6
        one, example = np.ones(40), np.arange(40)
        drawn = np.random.default_rng(round(1e3 * crps)).normal(size=40)
        return Scores({(NEXT, "crps"): Ratio(example, drawn, one), (NEXT, "coverage80"): Ratio(example, inside, one)})

    def answering(flipped: int) -> Callable[[Sequences, int, int], Scores]:
        return lambda _, tokens, seed: scores(seed % 97 / 97, flipped if tokens == 300 else 0)

    assert probe.batches(answering(1), SCORED, [2000, 300], "series", 0) == []
    (found,) = probe.batches(answering(40), SCORED, [2000, 300], "series", 0)
    assert found.subject == "series coverage80"
