"""One rule for what varies, wherever a scale or a spread is taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.data.domains.base import Scaler
from seqlab.data.scale import moves, standardisation, storing, varies

RNG = np.random.default_rng(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RNG.standard_normal(100), True),
        (np.full(100, 0.1), False),
        (0.1 + 1e-16 * RNG.standard_normal(100), False),  # rounding
        (5 + 2e-6 * (np.arange(100) == 50), False),  # one flicker
        (5 + 5e-3 * (np.arange(100) == 50), True),  # one event
        ((np.arange(100) == 50) * 1.0, True),
        (2.5e8 + RNG.integers(-60, 61, 100) / 20, True),  # small beside its level, but steady
        (np.zeros(100), False),
    ],
)
@given(scale=st.floats(1e-3, 1e3))
def test_what_varies_does_so_in_any_unit(values: np.ndarray, expected: bool, scale: float) -> None:
    both = np.stack([scale * values, RNG.standard_normal(100)], axis=1)
    assert varies(both).tolist() == [expected, True]
    mean, deviation = standardisation(both)
    np.testing.assert_allclose(mean, both.mean(0))
    np.testing.assert_allclose(deviation, np.where([expected, True], both.std(0), 1))
    scaler = Scaler.fit([both[:50], both[50:]])
    np.testing.assert_array_equal(scaler.deviation, deviation)


def test_noise_is_told_from_movement_by_the_level_that_it_belongs_to() -> None:
    halted = 1e-12 * RNG.standard_normal((220, 1))
    assert varies(halted).all()
    assert not varies(halted, level=1.0).any()
    assert not moves(np.diff(halted, axis=0), 1.0).any()


def test_float32_holds_what_it_can() -> None:
    small, great = RNG.standard_normal((50, 1)), 2e7 + RNG.standard_normal((50, 1))
    assert storing([small, 1e3 + small]) is np.float32
    assert storing([small, great]) is np.float64
    # What does not vary has nothing to lose.
    assert storing([np.full((50, 1), 1e9), small]) is np.float32
