"""The memoryless family: one step of the past and no more, and a classifier that no order can reach."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from seqlab.data.sequences import Space
from seqlab.families.mlp import MLP

VECTORS = Space("vectors", 2)


def model(layers: int = 2, dropout: float = 0.0) -> MLP:
    torch.manual_seed(0)
    return MLP(VECTORS, 3, hidden_size=16, layers=layers, dropout=dropout, density="gaussian")


def batch(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(*mask.shape, 2) * mask[..., None], mask


def test_equals_the_formula() -> None:
    ours, h = model(3), torch.randn(2, 5, 16)
    expected = h
    for layer in ours.stack:
        expected = F.gelu(expected @ layer.weight.T + layer.bias)
    torch.testing.assert_close(ours.body(h), expected)


def test_prediction_sees_one_position() -> None:
    """x_t and x_{t+1} alone decide log P(x_{t+1} | x_<=t)."""
    ours = model()
    x, mask = batch([9])
    expected = ours.log_prob(x, mask)
    other = batch([9], seed=1)[0]
    other[:, 4:6] = x[:, 4:6]
    found = ours.log_prob(other, mask)
    torch.testing.assert_close(found[:, 5], expected[:, 5])
    assert (found[:, [3, 4, 6]] != expected[:, [3, 4, 6]]).all()


@given(st.integers(0, 2**16), st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_order_does_not_reach_the_classifier(seed: int, lengths: list[int]) -> None:
    ours = model()
    x, mask = batch(lengths, seed)
    shuffled = x.clone()
    for row, length in enumerate(lengths):
        shuffled[row, :length] = x[row, torch.randperm(length)]
    torch.testing.assert_close(ours.class_logits(shuffled, mask), ours.class_logits(x, mask), rtol=1e-5, atol=1e-5)


def test_pool_is_mean_and_greatest() -> None:
    ours = model()
    h, mask = torch.randn(3, 6, 16), torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    found = ours.pool(h, mask)
    for row, length in enumerate([5, 2]):
        seen = h[row, 1 : length + 1]
        torch.testing.assert_close(found[row], torch.cat([seen.mean(0), h[row, : length + 1].amax(0)]))
    torch.testing.assert_close(found[2], torch.cat([torch.zeros(16), h[2, 0]]))


def test_dropout_acts_in_training_alone() -> None:
    ours, h = model(dropout=0.5), torch.randn(2, 6, 16)
    assert not torch.equal(ours.train().body(h), ours.body(h))
    torch.testing.assert_close(ours.eval().body(h), ours.body(h), rtol=0, atol=0)
