"""Large float32 products of matrices on a CPU: torch's own bits, by faster kernels where MKL has slow ones.

torch hands a product to MKL, which on processors of other vendors than its own takes kernels of AVX2, though they have
AVX-512; oneDNN, which comes with torch too, asks what the processor can. Both add up an element of a product along K in
order, one fused multiplication and addition after the other; MKL cuts K into `pieces`, sums each from zero and adds the
sums. Cut likewise, oneDNN's result is the same to the bit. Whether MKL cuts so on this processor is tried on a few
products when the first large one comes (`alike`): where it does not, and for what is small or laid out otherwise, all
stays with MKL.

Importing this puts `mm` and `addmm` in the place of torch's own on CPUs, below autograd and every mode.
"""

from __future__ import annotations

import warnings
from functools import cache

import torch
from torch import Tensor

CHANGES_NO_BIT = True  # tests/test_products.py holds it to that

PIECE = 192  # of K, in MKL's kernels of AVX2
ALIGNED = 16  # of whose multiples the width of a matrix in memory is one; for others both libraries have other kernels
# Rows at once: oneDNN compiles a kernel for every shape, which takes as long as a product, and batches have many sizes.
ROWS = (512, 256, 128, 64)
FEW = ROWS[-1]
LEAST = 4_000_000  # multiplications, or there is less to gain than calling oneDNN takes


def pieces(size: int) -> list[tuple[int, int]]:
    """Where MKL cuts K: in halves what is less than two pieces."""
    step = size // 2 if PIECE < size < 2 * PIECE else PIECE
    return [(begin, min(begin + step, size)) for begin in range(0, size, step)]


def blocks(size: int) -> list[tuple[int, int]]:
    """Which rows, at least FEW, are computed at once: as many as ROWS says, the last ones again where that is less."""
    found, done = [], 0
    for rows in ROWS:
        while rows <= size and size - done > (0 if rows == FEW else 3 * rows // 4):
            done = min(done + rows, size)
            found.append((done - rows, done))
    return found


def suits(a: Tensor, b: Tensor) -> bool:
    """Whether `product` has MKL's bits of (M, K) and (K, N), sooner."""
    if a.numel() * b.shape[1] < LEAST or not a.dtype == b.dtype == torch.float32:
        return False
    (rows, size), columns = a.shape, b.shape[1]
    if min(rows, columns) < FEW:
        return False
    by_row, by_column = a.is_contiguous(), b.t().is_contiguous()
    if not (by_row or a.t().is_contiguous()) or not (by_column or b.is_contiguous()):
        return False
    widths = [
        columns,
        *([size] if by_row or by_column or PIECE < size < 2 * PIECE else []),
        *([] if by_row else [rows]),
    ]
    return not any(width % ALIGNED for width in widths) and torch.get_num_threads() == 1 and alike()


@cache
def alike() -> bool:
    """Whether there is AVX-512, which is not held back, and oneDNN has MKL's bits: of one piece, of halves, of many."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    drawn = torch.Generator().manual_seed(0)
    tried = [
        (torch.randn(FEW, size, generator=drawn), torch.randn(FEW, size, generator=drawn).t()) for size in (192, 256)
    ]
    tried.append((torch.randn(528, FEW, generator=drawn).t(), torch.randn(528, FEW, generator=drawn)))
    return all(torch.equal(product(*pair), own(*pair)) for pair in tried)


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """(M, K), (K, N), (N,) -> (M, N)."""
    if not a.is_contiguous() and bias is None and len(a) > b.shape[1] and b.is_contiguous():
        return product(b.t(), a.t()).t().contiguous()  # oneDNN copies what it is given by column as `a`
    linear = torch.ops.mkldnn._linear_pointwise
    out, cut = a.new_empty(len(a), b.shape[1]), pieces(len(b))
    by_row = a.is_contiguous()
    # By column K are positions, of which batches have many numbers.
    rest = cut.pop() if not by_row and len(cut) > 1 else None
    # oneDNN has no fast kernel for a part of each row of `b.t()`.
    parts = [b[first:last].t() if b.is_contiguous() else b.t()[:, first:last].contiguous() for first, last in cut]
    for begin, end in blocks(len(a)) if by_row else [(0, len(a))]:
        rows, target = a[begin:end], out[begin:end]
        for (first, last), part in zip(cut, parts, strict=True):
            if first:
                target += linear(rows[:, first:last], part, None, "none", [], "")
            else:
                target.copy_(linear(rows[:, :last], part, bias, "none", [], ""))
    return out if rest is None else out.addmm_(a[:, rest[0] :], b[rest[0] :])


def own(a: Tensor, b: Tensor) -> Tensor:
    """torch's own product: what writes into a given tensor is not replaced."""
    return torch.mm(a, b, out=a.new_empty(len(a), b.shape[1]))


def mm(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b) if suits(a, b) else own(a, b)


def addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    if beta == alpha == 1 and bias.shape == b.shape[1:] and bias.is_contiguous() and suits(a, b):
        return product(a, b, bias)
    return torch.addmm(bias, a, b, beta=beta, alpha=alpha, out=a.new_empty(len(a), b.shape[1]))


_KERNELS = torch.library.Library("aten", "IMPL")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that they are replaced
    _KERNELS.impl("mm", mm, "CPU", allow_override=True)
    _KERNELS.impl("addmm", addmm, "CPU", allow_override=True)
