"""Muon with matrices of one shape side by side, beside torch's own, which takes them one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.utils import counters

from seqlab.training.gradient.muon import BatchedMuon, orthogonalised
from seqlab.training.gradient.recorded import compile_steps

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(st.sampled_from([(1, 1), (7, 3), (3, 7), (24, 24), (33, 65), (96, 32)]), min_size=1, max_size=6),
    seed=st.integers(0, 2**31),
    absent=st.integers(0, 5),
)
@example(shapes=[(33, 65), (1, 1), (1, 1)], seed=170, absent=0)
def test_a_step_is_that_of_torch(shapes: list[tuple[int, int]], seed: int, absent: int) -> None:
    """In a process that has both, for several steps; a matrix without a gradient stays."""
    draw = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=draw) for shape in shapes]
    models = [[nn.Parameter(part.clone()) for part in start] for _ in range(2)]
    optimizers = [
        kind(model, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
        for kind, model in zip((BatchedMuon, torch.optim.Muon), models, strict=True)
    ]
    for _ in range(3):
        for i, (ours, theirs) in enumerate(zip(*models, strict=True)):
            gradient = torch.randn(ours.shape, generator=draw)
            for p in (ours, theirs):
                p.grad = None if i == absent else gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for i, (ours, theirs, before) in enumerate(zip(*models, start, strict=True)):
        # Both round to bfloat16, of which a product of another library may round the last bit otherwise.
        largest = 3 * 0.02 * 0.2 * max(ours.shape) ** 0.5
        torch.testing.assert_close(ours, theirs, rtol=0, atol=largest * 2**-7)
        if i == absent:
            assert torch.equal(ours, before)
        elif ours.numel() > 1:  # of a single number, steps and decay can cancel, as they do in the example
            assert not torch.equal(ours, before)
    assert all("momentum_buffer" in state for state in optimizers[0].state_dict()["state"].values())


@pytest.mark.slow
def test_compiled_steps_are_those_as_written_and_compiled_once() -> None:
    """Under a schedule: a rate that was compiled in would be compiled anew at every step. Of more shapes than one code
    may have."""
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draw) for shape in [(24, 16), (24, 16), *((16, 8 + 2 * n) for n in range(9))]]
    models = [[nn.Parameter(part.clone()) for part in start] for _ in range(2)]
    compiled, written = (BatchedMuon(model, weight_decay=0.1, adjust_lr_fn="match_rms_adamw") for model in models)
    compile_steps(compiled)
    before, graphs = counters["stats"]["unique_graphs"], []
    for step in range(4):
        for ours, theirs in zip(*models, strict=True):
            ours.grad = torch.randn(ours.shape, generator=draw)
            theirs.grad = ours.grad.clone()
        for optimizer in (compiled, written):
            optimizer.param_groups[0]["lr"] = 0.02 / (1 + step)
            optimizer.step()
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[-1] == graphs[0] == before + 10
    for ours, theirs in zip(*models, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=4 * 0.02 * 0.2 * max(ours.shape) ** 0.5 * 2**-6)


@pytest.mark.parametrize("shape", [(3, 40, 16), (2, 16, 40), (4, 24, 24)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int, int]) -> None:
    """Between 0.7 and 1.2, as Jordan et al. say of their coefficients, where no singular value is tiny."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(0.1, 1, u.shape[-1])
    found = orthogonalised((u * values) @ v, NEWTON_SCHULZ, 5, 1e-7).float()
    along = torch.einsum("nri,nrc,njc->nij", u, found, v)
    diagonal = torch.diagonal(along, dim1=1, dim2=2)
    assert 0.65 < diagonal.min() < diagonal.max() < 1.25
    assert (along - torch.diag_embed(diagonal)).abs().max() < 0.05
