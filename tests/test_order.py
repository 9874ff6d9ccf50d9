"""The value of order: data whose contents stay while their order goes, and a table that measures what that costs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from seqlab import config
from seqlab.data.order import shuffled
from seqlab.data.sequences import Sequences, Space
from seqlab.data.subsets import arranged
from seqlab.errors import UserError
from seqlab.evaluation import controls, metrics, order, pictures, seeds
from seqlab.evaluation.leaderboard import Entry
from seqlab.evaluation.order import Worth
from seqlab.evaluation.scores import Ratio, Scores
from seqlab.evaluation.significance import holm

ROOT = Path(__file__).resolve().parent.parent
HEADLINES = {"speech": {"next_step": "nll"}, "strings": {"next_step": "bits_per_character"}}
SHUFFLING = {"shuffled": "scratch"}
EXAMPLES, EFFECT = 120, 0.3


def losses(family: str, strategy: str, seed: int) -> np.ndarray:
    """Of a family for which order is worth EFFECT, or nothing of a memoryless one; an example is hard for both."""
    noise = np.random.default_rng([seed, *map(ord, family + strategy)]).normal(0, 0.1, EXAMPLES)
    hard = np.random.default_rng(seed).normal(2, 3, EXAMPLES)
    return hard + noise + (EFFECT if strategy == "shuffled" and not family.startswith("memoryless") else 0)


def cell(family: str, strategy: str, seed: int, domain: str = "speech") -> Entry:
    metric = HEADLINES[domain]["next_step"]
    ratio = Ratio(np.arange(EXAMPLES), losses(family, strategy, seed), np.ones(EXAMPLES))
    return Entry(domain, family, strategy, seed, Scores({("next_step", metric): ratio}))


CELLS = [
    cell(family, strategy, seed, domain)
    for domain in HEADLINES
    for family in ("gru", "memoryless")
    for strategy in ("scratch", "full", "shuffled")
    for seed in (0, 1, 2)
]


@pytest.fixture(scope="module")
def built() -> dict[tuple[str, str], Worth]:
    found = order.build([*CELLS, cell("rnn", "scratch", 0)], SHUFFLING, HEADLINES, replicates=500, seed=0)
    assert len(found) == 4, "a family that was not shuffled has no value of order"
    return {(one.domain, one.family): one for one in found}


def test_the_value_is_the_paired_difference_over_the_same_examples(built: dict) -> None:
    for domain in HEADLINES:
        one = built[domain, "gru"]
        kept, mixed = (np.mean([losses("gru", name, seed) for seed in range(3)]) for name in ("scratch", "shuffled"))
        assert (one.ordered, one.shuffled) == (pytest.approx(kept), pytest.approx(mixed))
        assert one.value == pytest.approx(mixed - kept)
        assert one.low < EFFECT < one.high
        # Unpaired, examples that differ by 3 among each other would give an interval ten times as wide.
        assert one.high - one.low < 0.15
        assert (one.seeds, one.examples, one.metric) == (3, EXAMPLES, HEADLINES[domain]["next_step"])


def test_nothing_is_found_where_nothing_is_kept(built: dict) -> None:
    for domain in HEADLINES:
        one = built[domain, "memoryless"]
        assert abs(one.value) < EFFECT / 10
    # A 95% interval misses nothing in one of twenty; of sixty p-values, corrected, none may be small.
    families = [f"memoryless{number}" for number in range(60)]
    cells = [
        cell(name, strategy, seed) for name in families for strategy in ("scratch", "shuffled") for seed in (0, 1, 2)
    ]
    found = order.build(cells, SHUFFLING, HEADLINES, replicates=500, seed=0)
    assert len(found) == 60
    assert sum(not one.low < 0 < one.high for one in found) <= 6
    assert all(one.p_holm > 0.05 for one in found)


def test_p_values_are_holms_over_the_families_of_a_domain(built: dict) -> None:
    families = ("gru", "memoryless")
    raw = []
    for family in families:
        pair = [
            np.stack([np.stack([losses(family, name, seed), np.ones(EXAMPLES)], 1) for seed in range(3)])
            for name in ("shuffled", "scratch")
        ]
        reduce = metrics.metric_of("nll").reduce
        raw.append(seeds.difference(*reversed(pair), reduce).p)
    found = [built["speech", family].p_holm for family in families]
    assert found == pytest.approx(holm(raw))
    assert found[0] < 1e-6


def test_other_examples_are_refused() -> None:
    ratio = Ratio(np.arange(1, EXAMPLES + 1), losses("gru", "shuffled", 0), np.ones(EXAMPLES))
    other = Entry("speech", "gru", "shuffled", 0, Scores({("next_step", "nll"): ratio}))
    with pytest.raises(UserError, match="not the same"):
        order.build([cell("gru", "scratch", 0), other], SHUFFLING, HEADLINES, replicates=10, seed=0)


def test_without_the_strategy_there_is_no_table(tmp_path: Path) -> None:
    found = order.build([c for c in CELLS if c.strategy != "shuffled"], {}, HEADLINES, replicates=10, seed=0)
    assert found == []
    assert order.markdown(found) == ""
    order.write_csv(found, tmp_path / "order.csv")
    assert len((tmp_path / "order.csv").read_text().splitlines()) == 1


def test_table_and_picture(built: dict, tmp_path: Path) -> None:
    found = list(built.values())
    order.write_csv(found, tmp_path / "order.csv")
    with open(tmp_path / "order.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["domain"], line["family"]) for line in lines] == list(built)
    assert float(lines[0]["value"]) == pytest.approx(found[0].value)
    text = order.markdown(found)
    assert "The value of order" in text
    assert text.count("**+0.3") == 2, "what is significant is bold, and nothing else"
    for name in ("one.png", "two.png"):
        pictures.order(found, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# The data


texts = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=30), min_size=1, max_size=8)


@given(texts)
def test_contents_stay_and_lengths_too(rows: list[list[int]]) -> None:
    data = Sequences.from_arrays([np.array(row, np.uint8) for row in rows], labels=np.arange(len(rows)))
    mixed = arranged(data, "shuffled", "strings", "test")
    assert np.array_equal(mixed.offsets, data.offsets)
    assert np.array_equal(mixed.labels, data.labels)
    assert [sorted(one) for one in mixed] == [sorted(row) for row in rows]
    assert np.array_equal(mixed.values, arranged(data, "shuffled", "strings", "test").values)
    assert arranged(data, "kept", "strings", "test") is data


def test_order_follows_from_the_names() -> None:
    data = Sequences.from_arrays([np.arange(200)])
    one, other = (arranged(data, "shuffled", "strings", split).values for split in ("train", "test"))
    assert not np.array_equal(one, data.values)
    assert not np.array_equal(one, other)


def test_shuffling_keeps_the_context_and_the_scored_part_apart() -> None:
    series = Sequences.from_arrays([np.arange(20), np.arange(100, 130)], first=np.array([12, 0]))
    mixed = shuffled(series, seed=0)
    assert sorted(mixed[0][:12]) == list(range(12))
    assert sorted(mixed[0][12:]) == list(range(12, 20))
    assert sorted(mixed[1]) == list(range(100, 130))
    assert not np.array_equal(mixed.values, series.values)
    assert np.array_equal(mixed.values, shuffled(series, seed=0).values)
    whole = shuffled(replace(series, filled=np.isin(series.values, [13, 111])), seed=0)
    assert sorted(whole.values[whole.filled]) == [13, 111]


def test_the_unigram_does_not_see_order_and_a_chain_does() -> None:
    space = Space("symbols", 3)
    rng = np.random.default_rng(0)
    data = Sequences.from_arrays([(rng.integers(3) + np.arange(40)) % 3 for _ in range(60)])
    mixed = arranged(data, "shuffled", "cycle", "test")
    unigram = controls.next_step(data, space, 0.5)["unigram"]
    cells = []
    for name, predictor in (("unigram", (unigram, unigram)), ("chain", (Cycle(space), unigram))):
        for strategy, model, part in zip(("scratch", "shuffled"), predictor, (data, mixed), strict=True):
            scores = metrics.next_symbols(model, part, np.ones(3, np.int64), 1000)
            cells.append(Entry("strings", name, strategy, 0, scores))
    found = {one.family: one for one in order.build(cells, SHUFFLING, HEADLINES, replicates=100, seed=0)}
    assert found["unigram"].value == pytest.approx(0, abs=1e-12)
    assert found["chain"].value == pytest.approx(np.log2(3) * 39 / 40, abs=0.01)


class Cycle(controls.Memoryless):
    """Knows that each symbol follows the one below it."""

    def __init__(self, space: Space):
        super().__init__(space, np.zeros(space.size))

    def log_prob(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        found = super().log_prob(x, mask).copy()
        found[:, 1:] = np.where(x[:, 1:] == (x[:, :-1] + 1) % self.space.size, 0, -np.inf)
        return np.where(mask, found, 0)


# The configuration


def test_shuffled_data_have_no_source() -> None:
    tree = yaml.safe_load((ROOT / "conf/strategy/shuffled.yaml").read_text())
    assert config.strategy(tree).order == "shuffled"
    with pytest.raises(UserError, match="expected scratch where the order is shuffled, found 'pretrained'"):
        config.strategy(tree | {"init": "pretrained"})
    with pytest.raises(UserError, match=r"strategy\.order"):
        config.strategy(tree | {"order": "reversed"})
