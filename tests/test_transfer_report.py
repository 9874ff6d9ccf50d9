"""Gains over the control, curves over shares of the target, and what pretraining costs."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from test_significance import paired_bootstrap

from seqlab.evaluation import pictures, transfer
from seqlab.evaluation.leaderboard import Entry
from seqlab.evaluation.scores import Ratio, Scores
from seqlab.evaluation.significance import holm
from seqlab.evaluation.transfer import Spent, log_weights, reached

HEADLINES = {"speech": {"next_step": "nll"}}
CONTROLS = {"scratch": "scratch", "full": "scratch", "student": "scratch", "distill": "student"}
SHARES = (0.01, 0.1, 1.0)
# Mean losses by strategy and share; distill is worse than its control, and full better than scratch until the end.
LOSSES = {
    "scratch": (3.0, 2.0, 1.0),
    "full": (1.5, 1.0, 0.9),
    "student": (3.0, 2.0, 1.5),
    "distill": (4.0, 3.0, 2.5),
}


def losses(strategy: str, k: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng((sum(map(ord, strategy)), k, seed))
    common = np.random.default_rng(seed).normal(size=80)  # what makes an example hard is hard for all
    return LOSSES[strategy][k] + 0.5 * common + 0.05 * draw.normal(size=80)


def cell(strategy: str, k: int, seed: int) -> tuple[Entry, float]:
    ratio = Ratio(np.arange(80), losses(strategy, k, seed), np.ones(80))
    return Entry("speech", "gru", strategy, seed, Scores({("next_step", "nll"): ratio})), SHARES[k]


def training(strategy: str) -> Spent:
    # Scratch reaches its best, 1.0, at step 100; full is there at step 20. A step costs 10 FLOPs.
    curve = [(0, 3.0), (20, 2.0), (100, 1.0)] if strategy == "scratch" else [(0, 2.0), (20, 0.9), (100, 0.95)]
    return Spent(100, 1000.0, 300 if strategy == "full" else 0, 3210.0 if strategy == "full" else 0.0, curve)


@pytest.fixture(scope="module")
def built() -> tuple[list[transfer.Point], list[transfer.Curve]]:
    cells = [cell(strategy, k, seed) for strategy in LOSSES for k in range(3) for seed in (0, 1, 2)]
    trainings = {
        (("speech", "next_step", "gru", strategy), share): [training(strategy)] * 3
        for strategy in LOSSES
        for share in SHARES
    }
    return transfer.build(cells, HEADLINES, CONTROLS, trainings, replicates=400, seed=0)


def test_each_point_is_compared_with_its_control_on_the_same_share(built: tuple) -> None:
    points = {(p.strategy, p.fraction): p for p in built[0]}
    assert len(points) == 12
    for k, share in enumerate(SHARES):
        assert points["scratch", share].gain is None
        for strategy, control in (("full", "scratch"), ("distill", "student")):
            one = points[strategy, share]
            means = [np.mean([losses(name, k, seed) for seed in range(3)]) for name in (strategy, control)]
            assert one.value == pytest.approx(means[0])
            assert one.gain == pytest.approx(means[1] - means[0])
            assert one.gain_low <= one.gain <= one.gain_high
            assert one.verdict == ("helps" if strategy == "full" else "hurts")


def test_p_values_are_holms_over_one_share(built: tuple) -> None:
    share = [p for p in built[0] if p.fraction == 0.1 and p.gain is not None]
    assert {p.strategy for p in share} == {"full", "student", "distill"}
    raw = []
    for p in share:
        pair = [
            np.stack([np.stack([losses(name, 1, seed), np.ones(80)], 1) for seed in range(3)])
            for name in (p.control, p.strategy)
        ]
        one = paired_bootstrap(*pair, lambda sums: sums[..., 0] / sums[..., 1], 400, 0)
        raw.append(one.p)
    # Other draws of the same bootstrap: far from any threshold they agree.
    for p, adjusted in zip(share, holm(raw), strict=True):
        assert p.p_holm == pytest.approx(adjusted, abs=0.15)


def test_area_labels_saved_and_break_even(built: tuple) -> None:
    full = next(curve for curve in built[1] if curve.strategy == "full")
    # Gains 1.5, 1, 0.1 at evenly spaced logarithms: weights 1/4, 1/2, 1/4.
    assert full.area == pytest.approx(0.9, abs=0.02)
    assert full.area_low < full.area < full.area_high
    goal = next(p.value for p in built[0] if (p.strategy, p.fraction) == ("scratch", 1.0))
    assert full.reached == pytest.approx(0.1, rel=0.6)
    assert full.saved_steps == 80
    # 80 steps of 10 FLOPs are saved a task: 3210 FLOPs of pretraining are back after 5.
    assert full.break_even == 5
    distill = next(curve for curve in built[1] if curve.strategy == "distill")
    assert (distill.control, distill.reached) == ("student", None)
    assert goal == pytest.approx(1.0, abs=0.2)


def test_labels_are_saved_only_against_the_whole_target() -> None:
    cells = [cell(strategy, 1, seed) for strategy in ("scratch", "full") for seed in (0, 1, 2)]
    trainings = {
        (("speech", "next_step", "gru", strategy), 0.1): [training(strategy)] * 3 for strategy in ("scratch", "full")
    }
    points, [curve] = transfer.build(cells, HEADLINES, CONTROLS, trainings, replicates=100, seed=0)
    assert (curve.reached, curve.area) == (None, None)
    assert {point.verdict for point in points} == {"", "helps"}


def test_reached_lies_between_shares_on_a_logarithmic_scale() -> None:
    assert reached([(0.01, 3.0), (0.1, 2.0), (1.0, 1.0)], 2.5) == pytest.approx(math.sqrt(0.001))
    assert reached([(0.01, 1.0), (1.0, 0.5)], 2.0) == 0.01
    assert reached([(0.01, 3.0), (1.0, 2.0)], 1.0) is None
    np.testing.assert_allclose(log_weights([0.01, 0.1, 1.0]), [0.25, 0.5, 0.25])


def test_files_say_what_helps_hurts_and_has_no_meaning(built: tuple, tmp_path: Path) -> None:
    points, curves = built
    transfer.write_points(points, tmp_path / "points.csv")
    transfer.write_curves(curves, tmp_path / "curves.csv")
    rows = list(csv.DictReader((tmp_path / "points.csv").open()))
    assert [float(row["value"]) for row in rows] == pytest.approx([p.value for p in points])
    assert {row["verdict"] for row in rows if row["strategy"] == "distill"} == {"hurts"}
    assert len(list(csv.DictReader((tmp_path / "curves.csv").open()))) == len(curves) == 3
    seconds = {("speech", "next_step", "gru", "full"): (3.0, 7.0)}
    text = transfer.markdown(points, curves, seconds, [("lora", "speech gru", "names no maps")])
    full = next(line for line in text.splitlines() if "gru · full" in line)
    assert "5 tasks" in full
    assert "3 + 7" in full
    assert "100 + 300" in full
    assert "Negative transfer, significant: speech next_step gru · distill at 0.01" in text
    assert "- lora, speech gru: names no maps" in text


def test_the_picture_is_the_same_twice(built: tuple, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        pictures.label_curves(built[0], tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
