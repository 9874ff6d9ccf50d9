"""The Transformer family against a reference written with torch's own attention, and rotary positions' mathematics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from seqlab.data.prepared import TARGET, Meta, Prepared
from seqlab.data.sequences import Sequences, Space
from seqlab.errors import UserError
from seqlab.evaluation.scores import Scores
from seqlab.evaluation.settings import SequenceEvaluation
from seqlab.families.gradient.predictor import TorchPredictor
from seqlab.families.transformer import SLOTS, Transformer, attend, weights
from seqlab.tasks import judging
from seqlab.tasks.judging import Shown
from seqlab.tasks.next_step.draw import draw
from seqlab.tasks.next_step.judge import Judge

WIDTH, HEADS, BASE = 24, 3, 100.0


def model(dropout: float = 0.0, hidden_size: int = WIDTH, heads: int = HEADS) -> Transformer:
    torch.manual_seed(0)
    return Transformer(
        Space("symbols", 7),
        None,
        hidden_size=hidden_size,
        layers=2,
        heads=heads,
        feedforward_size=40,
        rotary_base=BASE,
        dropout=dropout,
        density="gaussian",
    )


def rotated(x: Tensor) -> Tensor:
    """(B, heads, T, d), one pair and one position at a time: Su et al. (2021), equation 13."""
    out = torch.empty_like(x)
    size = x.shape[-1]
    for t in range(x.shape[2]):
        for i in range(0, size, 2):
            angle = torch.tensor(t * BASE ** (-i / size), dtype=x.dtype)
            a, b = x[..., t, i], x[..., t, i + 1]
            out[..., t, i] = a * angle.cos() - b * angle.sin()
            out[..., t, i + 1] = a * angle.sin() + b * angle.cos()
    return out


def reference(ours: Transformer, h: Tensor) -> Tensor:
    for block in ours.blocks:
        normed = F.layer_norm(h, (WIDTH,), block.norm_attention.weight, block.norm_attention.bias)
        q, k, v = ((normed @ w.T).view(*h.shape[:2], HEADS, -1).transpose(1, 2) for w in block.qkv.weight.chunk(3))
        mixed = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        h = h + mixed.transpose(1, 2).reshape(h.shape) @ block.mix.weight.T
        normed = F.layer_norm(h, (WIDTH,), block.norm_mlp.weight, block.norm_mlp.bias)
        inner = F.gelu(normed @ block.up.weight.T + block.up.bias)
        h = h + inner @ block.down.weight.T + block.down.bias
    return F.layer_norm(h, (WIDTH,), ours.norm.weight, ours.norm.bias)


def test_equals_the_reference() -> None:
    """Output and the gradient of every parameter of the body, in float64."""
    ours = model().double()
    parameters = [p for group in ours.body_groups() for p in group]
    h = torch.randn(3, 19, WIDTH, dtype=torch.float64)
    found, expected = ours.body(h), reference(ours, h)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_compiles_as_one_graph() -> None:
    """Complex numbers, of which the compiler has no code, would break it at every layer: rotations are real there."""
    ours, again = model(), model()
    again.load_state_dict(ours.state_dict())
    x, mask = torch.randint(7, (3, 9)), torch.ones(3, 9, dtype=torch.bool)

    def loss(family: Transformer) -> Tensor:
        return -family.log_prob(x, mask).mean()

    expected, found = loss(ours), torch.compile(loss, backend="aot_eager", fullgraph=True)(again)
    for one in (expected, found):
        one.backward()
    torch.testing.assert_close(found, expected)
    for a, b in zip(again.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_attention_sees_distances_not_places() -> None:
    """Queries and keys turned by their positions: scores are equal wherever the sequence stands."""
    ours = model().double()
    block = ours.blocks[0]
    h = torch.randn(2, 9, WIDTH, dtype=torch.float64)
    here, there = (block.project(h, ours.rotation(torch.arange(9) + shift)) for shift in (0, 1000))
    torch.testing.assert_close(weights(*here[:2]), weights(*there[:2]), rtol=1e-8, atol=1e-8)
    assert not torch.allclose(here[0], there[0])


def test_explicit_attention_equals_torchs() -> None:
    q, k, v = torch.randn(3, 2, HEADS, 13, 8, dtype=torch.float64)
    torch.testing.assert_close(weights(q, k) @ v, attend(q, k, v), rtol=1e-10, atol=1e-10)


def test_cache_grows() -> None:
    """Past its first size, and with rows of different lengths."""
    ours = model().eval()
    h = torch.randn(2, 3 * SLOTS, WIDTH)
    with torch.no_grad():
        state, _ = ours.prefill(h[:, :3], torch.tensor([1, 3]))
        for i in range(2 * SLOTS):
            rows = torch.stack([h[0, 1 + i], h[1, 3 + i]])
            state, output = ours.step(state, rows)
        expected = ours.body(h)
    last = torch.stack([expected[0, 2 * SLOTS], expected[1, 2 * SLOTS + 2]])
    torch.testing.assert_close(output, last, rtol=1e-5, atol=1e-5)


def test_attention_maps() -> None:
    ours = model()
    x = torch.randint(7, (3, 10))
    mask = torch.arange(10) < torch.tensor([10, 4, 0])[:, None]
    maps = ours.attention_maps(x, mask)
    assert maps.shape == (3, 2, HEADS, 11, 11)
    exists = torch.arange(11) <= mask.sum(1)[:, None]
    torch.testing.assert_close(maps.sum(-1), exists[:, None, None].expand(maps.shape[:-1]).float())
    assert (maps.triu(1) == 0).all()
    assert (maps >= 0).all()


def test_dropout_acts_in_training_alone() -> None:
    ours = model(dropout=0.5)
    h = torch.randn(2, 6, WIDTH)
    assert not torch.equal(ours.train().body(h), ours.body(h))
    torch.testing.assert_close(ours.eval().body(h), model().body(h), rtol=0, atol=0)


@pytest.mark.parametrize(("hidden_size", "heads"), [(24, 5), (24, 8)])
def test_heads_must_divide_into_even_parts(hidden_size: int, heads: int) -> None:
    with pytest.raises(UserError, match=f"heads: {heads} .* hidden_size {hidden_size}"):
        model(hidden_size=hidden_size, heads=heads)


@pytest.mark.slow
@pytest.mark.parametrize("characters", [True, False])
def test_attention_is_drawn_for_the_longest_examples(tmp_path: Path, characters: bool) -> None:
    predictor = TorchPredictor(model(), "cpu", "fp32")
    test = Sequences.from_arrays([np.full(n, n % 7, np.uint16) for n in (3, 9, 5)])
    shown = shown_of(predictor, test, tmp_path / "prepared", characters)
    maps = shown.part("attention")
    assert {example: part.shape for example, part in maps.items()} == {"1": (2, 3, 10, 10), "2": (2, 3, 6, 6)}
    x = np.asarray(test[1], np.int64)[None]
    np.testing.assert_array_equal(maps["1"], predictor.attention_maps(x, np.ones_like(x, bool))[0].astype(np.float32))
    # What stands at each position, the start included, where it can be written.
    assert [len(shown.texts[f"positions/{i}"]) for i in (1, 2)] == ([10, 6] if characters else [0, 0])
    shown.write(tmp_path / "shown")
    draw(Scores(), Shown.read(tmp_path / "shown"), "one", tmp_path)
    paths = sorted(tmp_path.glob("*.png"))
    assert [path.name for path in paths] == ["attention-1.png", "attention-2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_a_family_that_does_not_attend_has_no_picture_of_it(tmp_path: Path) -> None:
    class Blind(TorchPredictor):
        def attention_maps(self, x: np.ndarray, mask: np.ndarray) -> None:
            return None

    test = Sequences.from_arrays([np.full(4, 1, np.uint16)])
    shown = shown_of(Blind(model(), "cpu", "fp32"), test, tmp_path / "prepared", characters=False)
    assert not shown.arrays
    draw(Scores(), shown, "one", tmp_path)
    assert not list(tmp_path.glob("*.png"))


def shown_of(predictor: TorchPredictor, test: Sequences, folder: Path, characters: bool) -> Shown:
    """What judging the next step leaves to be drawn."""
    test.save(folder / TARGET / "test")
    prepared = Prepared(folder, Meta("symbols", 7, ["next_step"], [], characters=characters))
    settings = SequenceEvaluation(headline={}, horizons=[], origins=0, samples=0, period=1)
    asked = judging.Test(prepared=prepared, settings=settings, domain="own", name="own/0", seed=0, examples=None)
    return Judge().judge(predictor, asked).shown
