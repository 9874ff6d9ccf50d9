"""The recurrent family against torch.nn.RNN, numerical gradients, and what truncation must cut."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seqlab.data.sequences import Space
from seqlab.families.rnn import RNN, TanhLayer


def model(layers: int = 2, truncation: int | None = None, dropout: float = 0.0, seed: int = 0) -> RNN:
    torch.manual_seed(seed)
    return RNN(
        Space("symbols", 5),
        None,
        hidden_size=16,
        layers=layers,
        dropout=dropout,
        truncation=truncation,
        density="gaussian",
    )


@pytest.mark.parametrize("layers", [1, 3])
def test_equals_torch_nn_rnn(layers: int) -> None:
    """Outputs and the gradient of every parameter and of the inputs."""
    ours = model(layers)
    reference = nn.RNN(16, 16, layers, batch_first=True)
    reference.load_state_dict(ours.stack.state_dict())
    h = torch.randn(4, 33, 16)
    weight = torch.randn(4, 33, 16) / 33
    results = []
    for body, parameters in ((ours.body, ours.stack), (lambda x: reference(x)[0], reference)):
        x = h.clone().requires_grad_()
        output = body(x)
        (output * weight).sum().backward()
        results.append([output, x.grad, *(p.grad for p in parameters.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_state_equals_torch_nn_rnn() -> None:
    ours = model(2)
    h = torch.randn(3, 9, 16)
    with torch.no_grad():
        (state,), last = ours.prefill(h, torch.tensor([9, 9, 9]))
        outputs, expected = ours.stack(h.transpose(0, 1))
    torch.testing.assert_close(state.transpose(0, 1), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(last, outputs[-1], rtol=1e-6, atol=1e-6)


def test_gradient_by_hand_equals_the_numerical_one() -> None:
    torch.manual_seed(0)
    shapes = [(6, 3, 4), (3, 5), (5, 4), (5, 5), (5,)]  # inputs, first state, weights, bias
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(TanhLayer.apply, arguments)


def test_equals_the_formula() -> None:
    """h_t = tanh(x_t W_X + h_{t-1} W_H + b), written as a loop."""
    ours = model(1).double()
    w_x, w_h, b_x, b_h = ours.stack.all_weights[0]
    x = torch.randn(2, 7, 16, dtype=torch.float64)
    h, outputs = torch.zeros(2, 16, dtype=torch.float64), []
    for t in range(7):
        h = torch.tanh(x[:, t] @ w_x.T + h @ w_h.T + b_x + b_h)
        outputs.append(h)
    torch.testing.assert_close(ours.body(x), torch.stack(outputs, 1), rtol=1e-12, atol=1e-12)


def influence(ours: RNN, t: int) -> Tensor:
    """(T,) norm of the gradient of the output at t with respect to the input at each step."""
    h = torch.randn(1, 12, 16, requires_grad=True)
    ours.body(h)[0, t].sum().backward()
    assert h.grad is not None
    return h.grad[0].norm(dim=1)


@pytest.mark.parametrize("layers", [1, 2])
def test_truncation_cuts_the_gradient_and_nothing_else(layers: int) -> None:
    full, cut = model(layers), model(layers, truncation=5)
    h = torch.randn(2, 12, 16)
    torch.testing.assert_close(cut.body(h), full.body(h), rtol=1e-6, atol=1e-6)
    assert (influence(full, 11) > 0).all()
    # Segments are 0-4, 5-9 and 10-11.
    assert (influence(cut, 11) > 0).tolist() == [False] * 10 + [True] * 2
    assert (influence(cut, 9) > 0).tolist() == [False] * 5 + [True] * 5 + [False] * 2
    assert (influence(model(layers, truncation=12), 11) > 0).all()


@pytest.mark.parametrize("truncation", [None, 4])
def test_torch_stack_and_own_unrolling_agree(truncation: int | None) -> None:
    """CUDA trains through the one and the CPU through the other."""
    ours = model(2, truncation)
    h = torch.randn(9, 3, 16)
    gradients = []
    for run in (ours.run_stack, ours.unroll):
        output = run(h)
        gradients.append([output, *torch.autograd.grad(output.square().sum(), list(ours.stack.parameters()))])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_recurrent_weights_start_orthogonal() -> None:
    for _, w_h, *_ in model(2).stack.all_weights:
        torch.testing.assert_close(w_h @ w_h.T, torch.eye(16), rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_alone() -> None:
    ours = model(2, dropout=0.5)
    h = torch.randn(2, 6, 16)
    assert not torch.equal(ours.train().body(h), ours.body(h))
    torch.testing.assert_close(ours.eval().body(h), ours.body(h), rtol=0, atol=0)


def test_autocast_keeps_the_recurrence_in_float32() -> None:
    """Only the two large products are rounded, so the error does not grow with length."""
    ours = model(1)
    h = torch.randn(4, 200, 16)
    exact = ours.body(h)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = ours.body(h)
    assert rounded.dtype == torch.float32
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(rounded.sum(), list(ours.stack.parameters())))
    error = (rounded - exact).abs().mean(dim=(0, 2))
    assert error[100:].mean() < 3 * error[:100].mean() < 0.03
