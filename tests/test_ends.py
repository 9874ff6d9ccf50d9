"""The density of the next vector, against torch's multivariate normal, integrals and its own draws."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from seqlab.families.gradient.vector_ends import Predictive, VectorEnds

MATRIX = torch.tensor([[1.0, 0, 0], [0.7, 1, 0], [-0.4, 1.3, 1]])
LOCATION, SCALE = torch.tensor([0.5, -1, 2]), torch.tensor([0.3, 2, 1.1])


def test_the_density_is_the_multivariate_normal_of_its_factor() -> None:
    torch.manual_seed(0)
    x = torch.randn(50, 3) * 3
    expected = MultivariateNormal(LOCATION, scale_tril=SCALE[:, None] * MATRIX.inverse())
    ours = Predictive(LOCATION, SCALE, None, MATRIX)
    torch.testing.assert_close(ours.log_prob(x), expected.log_prob(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.deviation(), expected.stddev, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("freedom", [None, 5.0])
def test_the_density_of_two_channels_integrates_to_one(freedom: float | None) -> None:
    grid = torch.linspace(-60, 60, 2401)
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1)
    expanded = (part[:2].expand(x.shape) for part in (LOCATION, SCALE))
    tail = None if freedom is None else torch.full(x.shape, freedom)
    mass = Predictive(*expanded, tail, MATRIX[:2, :2]).log_prob(x).double().exp().sum() * (grid[1] - grid[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("freedom", [None, 6.0])
def test_draws_have_the_moments_that_are_stated(freedom: float | None) -> None:
    shape = (400_000, 3)
    tail = None if freedom is None else torch.full(shape, freedom)
    ours = Predictive(LOCATION.expand(shape), SCALE.expand(shape), tail, MATRIX)
    drawn = ours.draw(torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), LOCATION, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), ours.deviation()[0], rtol=0.01, atol=0)
    whitened = ((drawn - LOCATION) / SCALE) @ MATRIX.T
    torch.testing.assert_close(whitened.T.corrcoef(), torch.eye(3), atol=0.01, rtol=0)


def test_bfloat16_leaves_the_density_exact() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 3)
    ours = Predictive(LOCATION, SCALE, None, MATRIX)
    with torch.autocast("cpu", torch.bfloat16):
        inside = ours.log_prob(x)
    torch.testing.assert_close(inside, ours.log_prob(x))


def test_a_single_channel_has_nothing_to_couple() -> None:
    assert VectorEnds(1, 4, "gaussian").coupling is None
    ends = VectorEnds(3, 4, "gaussian")
    with torch.no_grad():
        ends.coupling += torch.tensor([1.0, 2, 3])
    found = ends.predictive(torch.zeros(4), torch.zeros(3)).matrix
    torch.testing.assert_close(found, torch.tensor([[1.0, 0, 0], [1, 1, 0], [2, 3, 1]]))
