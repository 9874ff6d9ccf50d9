"""Leaks and invariances, looked for rather than assumed: each probe returns what it found, nothing where all is well.

* `future`: a changed future changes no past score
* `scalers`: what standardises was estimated on training alone, or before the first position that is scored
* `symbols`: every symbol of an alphabet occurs in training
* `retrained`: a model that is trained where no test split is to be had is the same
* `overlap`: no held-out sequence occurs in another split, or in the source
* `shuffled_labels`: with the labels of training shuffled, a classifier falls to the majority
* `batches`: no score depends on the size of the evaluation's batches, or on the order of the examples
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from seqlab.artifacts import seed_of
from seqlab.data.sequences import Batch, Sequences
from seqlab.evaluation.scores import Predictions, Ratio, Scores
from seqlab.families.base import Predictor

Metric: TypeAlias = tuple[str, str]
"""A task and the name of one of its metrics."""
TOLERANCE = 1e-4  # relative, of scores that should be equal: float32 sums in another order differ by less
SIGNIFICANT = 1e-4  # of a probe's own test: a suite runs hundreds of them
SHINGLE = 32  # positions that are looked up at once
FACTOR = np.uint64(0x5851F42D4C957F2D)  # of the rolling hash
HELD_OUT = ("valid", "test")


@dataclass(frozen=True)
class Finding:
    """What a probe found. probe: its name; subject: what it was about; found: a clause for people."""

    probe: str
    subject: str
    found: str


# Future


def future(predictor: Predictor, sequences: Sequences, subject: str, seed: int) -> list[Finding]:
    """Replaces what follows a random position of each sequence, and compares what is said of the positions up to it.

    Looks at `log_prob`, and at `distribution` (symbols) or `moments` (vectors), which speak of the next position too.
    """
    batch = sequences.batch(np.arange(len(sequences)))
    rng = np.random.default_rng(seed)
    cut = rng.integers(1, np.maximum(batch.mask.sum(1), 2))
    later = np.arange(batch.x.shape[1]) >= cut[:, None]
    other = replace(batch, x=np.where(_like(later & batch.mask, batch.x), _other(batch, rng), batch.x))
    findings = []
    for name, say in _answers(predictor, sequences.symbols).items():
        before, after = say(batch), say(other)
        # Answers after T + 1 prefixes include the one on all positions up to the cut.
        known = np.arange(before.shape[1]) < (cut + (name != "log_prob"))[:, None]
        known &= np.pad(batch.mask, [(0, 0), (0, before.shape[1] - batch.mask.shape[1])], constant_values=True)
        wrong = known & ~np.isclose(before, after, rtol=TOLERANCE, atol=TOLERANCE).reshape(*known.shape, -1).all(2)
        if wrong.any():
            row, step = (int(part[0]) for part in np.nonzero(wrong))
            findings.append(
                Finding(
                    "future",
                    subject,
                    f"{name} at position {step} of sequence {row} changes with positions from {cut[row]} on"
                    f" ({int(wrong.sum()) - 1} more)",
                )
            )
    return findings


def _answers(predictor: Predictor, symbols: bool) -> dict[str, Callable[[Batch], np.ndarray]]:
    found: dict[str, Callable[[Batch], np.ndarray]] = {
        "log_prob": lambda batch: predictor.log_prob(batch.x, batch.mask),
    }
    if symbols:
        found["distribution"] = lambda batch: np.exp(predictor.distribution(batch.x, batch.mask))
    else:
        found["moments"] = lambda batch: np.concatenate(predictor.moments(batch.x, batch.mask), axis=2)
    return found


def _other(batch: Batch, rng: np.random.Generator) -> np.ndarray:
    """Other content of the same kind: symbols that occur in the batch, values of the same spread."""
    if batch.x.ndim == 2:
        return np.asarray(rng.choice(np.unique(batch.x[batch.mask]), batch.x.shape))
    spread = batch.x[batch.mask].std(0) + 1
    return np.asarray(batch.x + spread * rng.standard_normal(batch.x.shape), batch.x.dtype)


def _like(flags: np.ndarray, x: np.ndarray) -> np.ndarray:
    return flags.reshape(*flags.shape, *[1] * (x.ndim - 2))


# Training alone


def scalers(splits: Mapping[tuple[str, str], Sequences]) -> list[Finding]:
    """Of vectors, by (set, split): what standardises them saw nothing that is scored.

    A sequence that carries its own centre and scale and is scored from `first` on has those of the positions before.
    Where a set has none, one scaler was fitted for it, and if on the training split alone, that one has mean 0 and
    deviation 1 in every channel that varies.
    """
    findings = []
    for (name, split), found in splits.items():
        if found.symbols or not len(found.values):
            continue
        if found.centre is None or found.scale is None:
            if split == "train" and (clause := _unstandardised(np.asarray(found.values, np.float64))):
                findings.append(Finding("scalers", f"{name}/{split}", clause))
        elif found.first is not None:
            known = [np.asarray(one[:end], np.float64) for one, end in zip(found, found.first, strict=True)]
            wrong = [i for i, past in enumerate(known) if len(past) and not _standardises(past, found, i)]
            if wrong:
                clause = (
                    f"centre or scale of sequence {wrong[0]} is not that of its {len(known[wrong[0]])} known positions"
                )
                findings.append(Finding("scalers", f"{name}/{split}", f"{clause} ({len(wrong) - 1} more)"))
    return findings


def _unstandardised(values: np.ndarray) -> str:
    """A clause where a channel of (N, C) has another mean than 0, or a deviation that is neither 1 nor none."""
    mean, deviation = values.mean(0), values.std(0)
    wrong = (np.abs(mean) > TOLERANCE) | ((np.abs(deviation - 1) > TOLERANCE) & (deviation > TOLERANCE))
    if not wrong.any():
        return ""
    channel = int(np.flatnonzero(wrong)[0])
    return (
        f"channel {channel} has mean {mean[channel]:.4g} and deviation {deviation[channel]:.4g}: its scaler was fitted"
        " on other data than these"
    )


def _standardises(past: np.ndarray, found: Sequences, i: int) -> bool:
    assert found.centre is not None
    assert found.scale is not None
    deviation = past.std(0)
    size = TOLERANCE * (np.abs(past.mean(0)) + deviation)
    centred = np.abs(found.centre[i] - past.mean(0)) <= size
    return bool((centred & ((np.abs(found.scale[i] - deviation) <= size) | (deviation <= size))).all())


def symbols(splits: Mapping[tuple[str, str], Sequences], size: int) -> list[Finding]:
    """Of an alphabet of `size` symbols that was made of texts; symbol 0 stands for what it does not have."""
    train = [found.values for (_, split), found in splits.items() if split == "train"]
    lacking = np.setdiff1d(np.arange(1, size), np.concatenate(train))
    if not len(lacking):
        return []
    clause = f"symbol {lacking[0]} occurs in no training split ({len(lacking) - 1} more)"
    return [Finding("symbols", "the alphabet", clause)]


def retrained(known: Mapping[str, np.ndarray], again: Mapping[str, np.ndarray], subject: str) -> list[Finding]:
    """Compares a model's tensors with those of one that was trained without a test split."""
    for name in sorted(known.keys() | again.keys()):
        one, two = known.get(name), again.get(name)
        if one is None or two is None or one.shape != two.shape or not np.allclose(one, two, 1e-6, equal_nan=True):
            return [Finding("retrained", subject, f"{name} is another where training has no test split to read")]
    return []


# Overlap


def overlaps(splits: Mapping[tuple[str, str], Sequences]) -> list[Finding]:
    """Of every held-out split with every other one that is not its namesake in another set, by (set, split).

    Vectors overlap when the scored part of a sequence occurs whole, and anywhere, in the other split: in that one's
    scored parts where it is held out itself, for what stands before them is the past of both. Symbols overlap when the
    sequence is one of the other split's: short sentences stand within longer ones in any language.
    """
    findings = []
    for (one, split), (other, against) in itertools.permutations(splits, 2):
        first, second = splits[one, split], splits[other, against]
        if split not in HELD_OUT or split == against or first.symbols != second.symbols:
            continue
        if first.values.shape[1:] != second.values.shape[1:]:
            continue
        if first.symbols:
            found = _equal(list(first), list(second))
        else:
            found = occurring(_scored(first), _scored(second) if against in HELD_OUT else list(second))
        if len(found):
            findings.append(
                Finding(
                    "overlap",
                    f"{one}/{split}",
                    f"{len(found)} of {len(first)} sequences stand in {other}/{against} as well, the first is"
                    f" {found[0]}",
                )
            )
    return findings


def _scored(sequences: Sequences) -> list[np.ndarray]:
    first = np.zeros(len(sequences), np.int64) if sequences.first is None else sequences.first
    return [one[start:] for one, start in zip(sequences, first, strict=True)]


def _equal(wanted: Sequence[np.ndarray], among: Sequence[np.ndarray]) -> np.ndarray:
    """Indices of the arrays of `wanted` that are among the others."""
    known = {one.tobytes() for one in among}
    return np.array([index for index, one in enumerate(wanted) if one.tobytes() in known], np.int64)


def occurring(wanted: Sequence[np.ndarray], among: Sequence[np.ndarray]) -> np.ndarray:
    """Indices of the arrays (T, ...) of `wanted`, longer than one position, that occur whole in one of `among`.

    The beginnings of all, SHINGLE positions long or whole, are looked up by a hash at every position of `among`; what
    agrees is compared in full.
    """
    if not wanted or not among:
        return np.empty(0, np.int64)
    widths = np.minimum([len(one) for one in wanted], SHINGLE)
    text, ends = np.concatenate(among), np.cumsum([len(one) for one in among])
    hashes = _hashes(text)
    found: set[int] = set()
    windows = np.zeros(len(hashes), np.uint64)  # of the `width` positions from each on: a polynomial modulo 2^64
    for width in range(1, int(widths.max()) + 1):
        size = max(0, len(hashes) - width + 1)
        windows = windows[:size] * FACTOR + hashes[width - 1 :]
        own = np.flatnonzero(widths == width).tolist() if width > 1 else []
        if not own or not size:
            continue
        begins: dict[int, list[int]] = {}
        for index, begin in zip(own, _beginnings([wanted[k] for k in own], width), strict=True):
            begins.setdefault(begin, []).append(index)
        for place in np.flatnonzero(np.isin(windows, np.array(list(begins), np.uint64))).tolist():
            end = int(ends[np.searchsorted(ends, place, side="right")])
            for index in begins[int(windows[place])]:
                stop = place + len(wanted[index])
                if index not in found and stop <= end and np.array_equal(text[place:stop], wanted[index]):
                    found.add(index)
    return np.array(sorted(found), np.int64)


def _beginnings(wanted: Sequence[np.ndarray], width: int) -> list[int]:
    """The hash of the first `width` positions of each."""
    hashes = _hashes(np.concatenate([one[:width] for one in wanted])).reshape(-1, width)
    total = np.zeros(len(wanted), np.uint64)
    for column in hashes.T:
        total = total * FACTOR + column
    return [int(one) for one in total]


def _hashes(values: np.ndarray) -> np.ndarray:
    """(T,) uint64 of the positions of (T, ...) values."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    bits = flat.view(np.uint32) if flat.dtype == np.float32 else flat
    mixed = np.full(len(flat), FACTOR, np.uint64)
    for column in bits.T.astype(np.uint64):
        mixed = (mixed ^ column) * np.uint64(0xFF51AFD7ED558CCD)  # MurmurHash3's finaliser
        mixed ^= mixed >> np.uint64(33)
    return mixed


# Labels


def with_shuffled_labels(sequences: Sequences, seed: int, turn: int, classes: int) -> Sequences:
    """The same sequences, each with the label of another, and that `turn` classes further."""
    assert sequences.labels is not None
    shuffled = np.random.default_rng(seed).permutation(sequences.labels)
    return replace(sequences, labels=(shuffled + turn) % classes)


def shuffled_labels(answers: Sequence[Predictions], subject: str) -> list[Finding]:
    """Of a classifier that was trained on shuffled labels, once for each turn of the classes: whether on the mean over
    the turns it knows the true ones better than the majority.

    Classes that lie apart stay apart when labels are shuffled, and chance calls them: one training may be right on all
    or on none. Over all turns every guess is right once, so the mean is one in so many classes, and a binomial test
    against the share of the largest class is on the safe side.
    """
    from scipy.stats import binomtest

    labels = answers[0].labels
    hits = sum(int((one.log_probs.argmax(1) == labels).sum()) for one in answers) // len(answers)
    size = len(labels)
    share = np.bincount(labels).max() / size
    if binomtest(hits, size, share, alternative="greater").pvalue >= SIGNIFICANT:
        return []
    clause = f"trained on shuffled labels it is right on {hits / size:.1%} of {size}, the majority on {share:.1%}"
    return [Finding("shuffled_labels", subject, clause)]


# Batches and order


def batches(
    score: Callable[[Sequences, int, int], Scores],
    sequences: Sequences,
    tokens: Sequence[int],
    subject: str,
    seed: int,
    unstable: Mapping[Metric, np.ndarray] | None = None,
    base: Scores | None = None,
) -> list[Finding]:
    """Scores the same sequences in batches of each size, and in reverse order.

    score: sequences, positions in a batch, seed -> scores. What a second seed does not change must be equal up to
    TOLERANCE; what is sampled may differ by as much as two seeds do, on the mean over the examples, and what is
    `unstable` by as much as rounding does. base: `as_evaluated`, where it is at hand.
    """
    base = base or as_evaluated(score, sequences, tokens[0], seed)
    reseeded = score(sequences, tokens[0], seed_of(seed, 1))
    others = [(f"{size} positions", score(sequences, size, seed_of(seed, 0))) for size in tokens[1:]]
    backwards = np.arange(len(sequences))[::-1]
    turned = score(sequences.subset(backwards), tokens[0], seed_of(seed, 0))
    others.append(("the order reversed", _reordered(turned, backwards)))
    return [
        Finding("batches", f"{subject} {metric}", f"{clause} with {how} instead of {tokens[0]} positions in order")
        for how, other in others
        for metric, clause in _differences(base, reseeded, other, unstable or {})
    ]


def as_evaluated(
    score: Callable[[Sequences, int, int], Scores], sequences: Sequences, tokens: int, seed: int
) -> Scores:
    """What the other scores of `batches` and `amplified` are compared with."""
    return score(sequences, tokens, seed_of(seed, 0))


def amplified(
    score: Callable[[Sequences, int, int], Scores],
    sequences: Sequences,
    tokens: int,
    seed: int,
    base: Scores | None = None,
) -> dict[Metric, np.ndarray]:
    """By how much scores change, example by example, when each value becomes the next float32 above it.

    Only the metrics that change by more than TOLERANCE: a recurrence may be chaotic, and then float32 says no more.
    base: `as_evaluated`, where it is at hand.
    """
    assert not sequences.symbols
    raised = np.nextafter(sequences.values.astype(np.float32), np.float32(np.inf)).astype(sequences.values.dtype)
    one = base or as_evaluated(score, sequences, tokens, seed)
    two = as_evaluated(score, replace(sequences, values=raised), tokens, seed)
    changes = {key: _noise(ratio, two.ratios[key]) for key, ratio in one.ratios.items()}
    return {key: change for key, change in changes.items() if _wrong(one.ratios[key], change).any()}


def _reordered(found: Scores, places: np.ndarray) -> Scores:
    """As if example k had been example places[k]."""
    ratios = {}
    for key, one in found.ratios.items():
        example = places[one.example]
        order = np.argsort(example)
        ratios[key] = Ratio(example[order], one.numerator[order], one.denominator[order])
    predictions = {}
    for task, answers in found.predictions.items():
        example = places[answers.example]
        order = np.argsort(example)
        predictions[task] = Predictions(example[order], answers.labels[order], answers.log_probs[order])
    return Scores(ratios, predictions)


def _differences(
    base: Scores, reseeded: Scores, other: Scores, unstable: Mapping[Metric, np.ndarray]
) -> Iterator[tuple[str, str]]:
    """Metrics, or tasks, on which two evaluations disagree, and how.

    A coverage counts: where a task's scores are sampled, one value that falls on the other side of its interval, in no
    example of the second seed, is no more than chance.
    """
    sampled = {
        task for (task, metric), one in base.ratios.items() if (_noise(one, reseeded.ratios[task, metric])).any()
    }
    for key, one in base.ratios.items():
        two, again = other.ratios.get(key), reseeded.ratios[key]
        if two is None or not np.array_equal(one.example, two.example):
            yield key[1], f"{len(one.example)} examples become {0 if two is None else len(two.example)}"
            continue
        change = _per_example(two) - _per_example(one)
        noise = _noise(one, again)
        if not noise.any():
            noise = unstable.get(key, noise)
        variance = float((noise**2).mean())
        if key[0] in sampled and key[1].startswith("coverage") and change.any():
            variance = max(variance, float(np.abs(change[change != 0]).min() ** 2) / len(change))
        if not variance:
            if _wrong(one, change).any():
                worst = int(np.argmax(np.abs(change)))
                yield key[1], f"example {one.example[worst]} changes by {change[worst]:.3g}"
        elif abs(change.mean()) > reach(len(noise)) * np.sqrt(variance / len(noise)):
            cause = "rounding" if key in unstable else "another seed"
            yield key[1], f"the mean changes by {change.mean():.3g}, more than {cause} explains"
    for task, answers in base.predictions.items():
        two_answers = other.predictions.get(task)
        if two_answers is None or not np.array_equal(answers.example, two_answers.example):
            count = 0 if two_answers is None else len(two_answers.example)
            yield task, f"{len(answers.example)} answers become {count}"
        elif not np.allclose(np.exp(answers.log_probs), np.exp(two_answers.log_probs), atol=TOLERANCE):
            worst = int(np.abs(np.exp(answers.log_probs) - np.exp(two_answers.log_probs)).max(1).argmax())
            yield task, f"the probabilities of example {answers.example[worst]} change"


def _wrong(one: Ratio, change: np.ndarray) -> np.ndarray:
    """Of each example, whether its score changes by more than sums in another order explain."""
    scores = np.abs(_per_example(one))
    wrong: np.ndarray = np.abs(change) > TOLERANCE * (scores + scores.mean())
    return wrong


def _noise(one: Ratio, again: Ratio) -> np.ndarray:
    noise: np.ndarray = _per_example(again) - _per_example(one)
    return noise


def reach(examples: int) -> float:
    """Student's t that noise of so many examples exceeds, on either side, once in a hundred of a suite's probes."""
    from scipy.special import stdtrit

    return float(-stdtrit(examples, SIGNIFICANT / 200))


def _per_example(one: Ratio) -> np.ndarray:
    return one.numerator / np.where(one.denominator == 0, 1, one.denominator)
