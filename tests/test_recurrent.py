"""The gated families against torch.nn.LSTM and GRU, numerical gradients, and what truncation must cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from seqlab.data.sequences import Space
from seqlab.families.gradient import SymbolEnds
from seqlab.families.gradient.vector_ends import VectorEnds
from seqlab.families.gru import GRU, GRULayer
from seqlab.families.lstm import LSTM
from seqlab.families.rnn import RNN

H = 16
PEERS: dict[type[LSTM | GRU], Callable[..., nn.RNNBase]] = {LSTM: nn.LSTM, GRU: nn.GRU}

Make = Callable[..., LSTM | GRU]


@pytest.fixture(params=PEERS, ids=lambda family: family.__name__)
def family(request: pytest.FixtureRequest) -> type[LSTM | GRU]:
    return request.param


@pytest.fixture
def make(family: type[LSTM | GRU]) -> Make:
    def model(layers: int = 2, truncation: int | None = None, dropout: float = 0.0) -> LSTM | GRU:
        torch.manual_seed(0)
        return family(
            Space("symbols", 5),
            None,
            hidden_size=H,
            layers=layers,
            dropout=dropout,
            truncation=truncation,
            density="gaussian",
        )

    return model


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("steps", [1, 33])
def test_equals_torch_nn(family: type[LSTM | GRU], make: Make, layers: int, steps: int) -> None:
    """Outputs and the gradient of every parameter and of the inputs."""
    ours = make(layers)
    reference = PEERS[family](H, H, layers, batch_first=True)
    reference.load_state_dict(ours.stack.state_dict())
    h = torch.randn(4, steps, H)
    weight = torch.randn(4, steps, H) / steps
    results = []
    for body, parameters in ((ours.body, ours.stack), (lambda x: reference(x)[0], reference)):
        x = h.clone().requires_grad_()
        output = body(x)
        (output * weight).sum().backward()
        results.append([output, x.grad, *(p.grad for p in parameters.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_states_equal_torch_nn(make: Make) -> None:
    """All parts of the state, of rows of other lengths too."""
    ours = make(2)
    h, lengths = torch.randn(3, 9, H), [9, 4, 1]
    with torch.no_grad():
        state, last = ours.prefill(h, torch.tensor(lengths))
        for row, length in enumerate(lengths):
            outputs, expected = ours.stack(h[row, :length])
            for part, reference in zip(state, expected if isinstance(expected, tuple) else (expected,), strict=True):
                torch.testing.assert_close(part[row], reference, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(last[row], outputs[-1], rtol=1e-6, atol=1e-6)


def test_gradient_by_hand_equals_the_numerical_one() -> None:
    torch.manual_seed(0)
    # Inputs, the state before, weights, biases.
    shapes = [(6, 3, 4), (3, 5), (15, 4), (15, 5), (15,), (15,)]
    assert torch.autograd.gradcheck(
        GRULayer.apply, [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    )


def test_lstm_equals_the_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 2, 4)
    w_x, w_h, b_x, b_h = (torch.randn(shape) for shape in ((20, 4), (20, 5), (20,), (20,)))
    h = c = torch.randn(2, 5)
    states, after = LSTM.layer(x, (h, c), (w_x, w_h, b_x, b_h))
    for t in range(7):
        i, f, g, o = (x[t] @ w_x.T + b_x + h @ w_h.T + b_h).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(states[t], h, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after, (h, c), rtol=1e-5, atol=1e-6)


def test_gru_equals_the_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 2, 4, dtype=torch.float64)
    w_x, w_h, b_x, b_h = (torch.randn(shape, dtype=torch.float64) for shape in ((15, 4), (15, 5), (15,), (15,)))
    h = torch.zeros(2, 5, dtype=torch.float64)
    states = GRULayer.apply(x, h, w_x, w_h, b_x, b_h)
    for t in range(7):
        (r_x, z_x, n_x), (r_h, z_h, n_h) = ((v @ w.T + b).chunk(3, -1) for v, w, b in ((x[t], w_x, b_x), (h, w_h, b_h)))
        z = torch.sigmoid(z_x + z_h)
        h = (1 - z) * torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h) + z * h
        torch.testing.assert_close(states[t], h, rtol=1e-12, atol=1e-12)


def influence(ours: LSTM | GRU, t: int) -> Tensor:
    """(T,) norm of the gradient of the output at t with respect to the input at each step."""
    h = torch.randn(1, 12, H, requires_grad=True)
    ours.body(h)[0, t].sum().backward()
    assert h.grad is not None
    return h.grad[0].norm(dim=1)


@pytest.mark.parametrize("layers", [1, 2])
def test_truncation_cuts_the_gradient_and_nothing_else(make: Make, layers: int) -> None:
    full, cut = make(layers), make(layers, truncation=5)
    h = torch.randn(2, 12, H)
    torch.testing.assert_close(cut.body(h), full.body(h), rtol=1e-6, atol=1e-6)
    assert (influence(full, 11) > 0).all()
    # Segments are 0-4, 5-9 and 10-11.
    assert (influence(cut, 11) > 0).tolist() == [False] * 10 + [True] * 2
    assert (influence(cut, 9) > 0).tolist() == [False] * 5 + [True] * 5 + [False] * 2


@pytest.mark.parametrize("truncation", [None, 4])
def test_torch_stack_and_own_unrolling_agree(make: Make, truncation: int | None) -> None:
    """CUDA trains through the one and the CPU through the other."""
    ours = make(2, truncation)
    h = torch.randn(9, 3, H)
    gradients = []
    for run in (ours.run_stack, ours.unroll):
        output = run(h)
        gradients.append([output, *torch.autograd.grad(output.square().sum(), list(ours.stack.parameters()))])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
@pytest.mark.parametrize("truncation", [None, 4])
@pytest.mark.parametrize("steps", [0, 1, 9])
def test_vectors_enter_as_their_embeddings_would(
    kind: type[RNN | LSTM | GRU], truncation: int | None, steps: int
) -> None:
    """The first layer reads vectors of few channels by a product of two maps; outputs and every gradient stay."""
    torch.manual_seed(0)
    sizes = {"hidden_size": H, "layers": 2, "dropout": 0.0, "truncation": truncation}
    model = kind(Space("vectors", 3), None, **sizes, density="gaussian")  # type: ignore[arg-type]
    x, weight = torch.randn(4, steps, 3), torch.randn(4, steps + 1, H)
    parameters = [model.ends.start, *model.ends.enter.parameters(), *model.stack.parameters()]
    results = []
    for outputs in (model.encode(x), model.body(model.ends.inputs(x))):
        results.append([outputs, *torch.autograd.grad((outputs * weight).sum(), parameters)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [RNN, LSTM, GRU])
@pytest.mark.parametrize("space", [Space("symbols", 5), Space("vectors", 3)], ids=lambda space: space.kind)
def test_a_seed_gives_torch_nn_its_start(kind: type[RNN | LSTM | GRU], space: Space) -> None:
    """Names, order and bits: the ends, then torch's own module, then orthogonal gates, then what the cell asks for."""
    torch.manual_seed(7)
    ours = kind(space, 2, hidden_size=H, layers=2, dropout=0.1, truncation=None, density="gaussian")
    torch.manual_seed(7)
    ends = SymbolEnds(space.size, H) if space.symbols else VectorEnds(space.size, H, "gaussian")
    head = nn.Linear(2 * H, 2)
    peer = getattr(nn, kind.__name__)(H, H, 2, dropout=0.1)
    for layer in range(2):
        for gate in getattr(peer, f"weight_hh_l{layer}").split(H):
            nn.init.orthogonal_(gate)
        if kind is LSTM:
            for name, value in (("ih", 1.0), ("hh", 0.0)):
                getattr(peer, f"bias_{name}_l{layer}").data[H : 2 * H] = value
    parts = (("ends", ends), ("head", head), ("stack", peer))
    expected = {f"{prefix}.{name}": part for prefix, module in parts for name, part in module.state_dict().items()}
    assert list(ours.state_dict()) == list(expected)
    assert all(torch.equal(part, expected[name]) for name, part in ours.state_dict().items())


def test_recurrent_weights_start_orthogonal(make: Make) -> None:
    """Each gate's own."""
    for _, w_h, *_ in make(2).stack.all_weights:
        for gate in w_h.split(H):
            torch.testing.assert_close(gate @ gate.T, torch.eye(H), rtol=1e-5, atol=1e-5)


def test_forget_gates_start_open() -> None:
    """Whose gate it is, is read off the cell: after a saturated cell it alone says how much is left."""
    torch.manual_seed(0)
    ours = LSTM(Space("symbols", 5), None, hidden_size=H, layers=2, dropout=0.0, truncation=None, density="gaussian")
    nothing, cell = torch.zeros(1, H), torch.full((1, H), 1e6)
    for weights in ours.stack.all_weights:
        _, (_, after) = ours.layer(nothing[None], (nothing, cell), weights)
        torch.testing.assert_close(after / 1e6, torch.full((1, H), 1.0).sigmoid(), rtol=1e-5, atol=1e-5)


def test_dropout_acts_in_training_alone(make: Make) -> None:
    ours = make(2, dropout=0.5)
    h = torch.randn(2, 6, H)
    assert not torch.equal(ours.train().body(h), ours.body(h))
    torch.testing.assert_close(ours.eval().body(h), ours.body(h), rtol=0, atol=0)


def test_bfloat16_errs_no_more_at_the_end_than_at_the_start(make: Make) -> None:
    """Of the GRU only the large products are rounded, of the LSTM, in torch's kernel, each step's output as well."""
    ours = make(1)
    h = torch.randn(4, 200, H)
    exact = ours.body(h)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = ours.body(h)
    assert all(g.dtype == torch.float32 for g in torch.autograd.grad(rounded.sum(), list(ours.stack.parameters())))
    error = (rounded - exact).abs().mean(dim=(0, 2))
    assert error[100:].mean() < 3 * error[:100].mean() < 0.03
