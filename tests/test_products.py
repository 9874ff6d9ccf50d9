"""Products of matrices on the CPU: whatever computes them, the bits are those of torch's own."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqlab.families.gradient import products

SIZES = (64, 80, 176, 192, 208, 256, 304, 384, 512, 528)  # of models; what is counted in positions is drawn


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def same(a: Tensor, b: Tensor) -> bool:
    """To the bit, the sign of zero included."""
    return a.shape == b.shape and torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32))


def drawn(rows: int, columns: int, by_column: bool = False) -> Tensor:
    return torch.randn(columns, rows).t() if by_column else torch.randn(rows, columns)


@pytest.mark.parametrize("seed", range(8))
def test_forward_and_backward_products_have_torchs_own_bits(seed: int) -> None:
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    for _ in range(20):
        into, out = (int(size) for size in random.choice(SIZES, 2))
        positions = int(random.choice([random.integers(1, 600), random.integers(600, 2100)]))
        x, weight, bias, up = drawn(positions, into), drawn(out, into), torch.randn(out), drawn(positions, out)
        for a, b in ((x, weight.t()), (up, weight), (up.t(), x), (x.t(), up)):
            assert same(a @ b, products.own(a, b)), (tuple(a.shape), tuple(b.shape))
        expected = torch.addmm(bias, x, weight.t(), out=torch.empty(positions, out))
        assert same(torch.addmm(bias, x, weight.t()), expected), (positions, into, out)


def test_what_is_scaled_or_laid_out_otherwise_has_torchs_own_bits_too() -> None:
    torch.manual_seed(0)
    a, b = drawn(300, 1024), drawn(512, 1024)
    cases = [(a[:, ::2], b.t()[::2]), (a[:, 5:], b[:, 5:].t()), (a.double(), b.t().double()), (a[:, :0], b[:, :0].t())]
    for left, right in cases:
        expected = products.own(left, right)
        assert torch.equal(left @ right, expected)
    assert torch.equal(torch.addmm(a[:, :512], a, b.t(), beta=0.5, alpha=2.0), torch.addmm(
        a[:, :512], a, b.t(), beta=0.5, alpha=2.0, out=torch.empty(300, 512)))  # fmt: skip


def test_a_layers_gradients_are_the_same_bits_without_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(256, 528), torch.randn(4, 151, 256, requires_grad=True)

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]))

    found = gradients()
    monkeypatch.setattr(products, "suits", lambda a, b: False)
    assert all(map(same, found, gradients()))


def test_blocks_are_of_few_sizes_and_leave_no_row_out() -> None:
    for size in range(products.FEW, 1300):
        blocks = products.blocks(size)
        assert {end - begin for begin, end in blocks} <= set(products.ROWS)
        assert sorted({row for block in blocks for row in range(*block)}) == list(range(size))


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="all products are MKL's")
def test_where_mkl_cuts_elsewhere_its_own_kernels_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(512, 128), torch.randn(128, 512)
    products.alike.cache_clear()
    monkeypatch.setattr(products, "PIECE", 96)
    try:
        assert not products.alike()
        assert not products.suits(a, b)
    finally:
        products.alike.cache_clear()


def test_products_in_several_threads_and_small_ones_are_torchs_own() -> None:
    a, b = torch.randn(512, 128), torch.randn(128, 512)
    assert not products.suits(a[:32], b)
    assert not products.suits(a[:, :8].contiguous(), b[:8])
    torch.set_num_threads(2)
    assert not products.suits(a, b)
