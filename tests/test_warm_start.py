"""Weights move by name and shape, all or none."""

import numpy as np
import pytest
import torch

from seqlab.data.sequences import Space
from seqlab.errors import UserError
from seqlab.families.rnn import RNN
from seqlab.settings import Optimizer, Strategy
from seqlab.training.gradient.warm_start import begin, load_matching

SETTINGS = Optimizer(learning_rate=1e-2, weight_decay=0.1, betas=[0.9, 0.99], clip=1.0, warmup=0.1, floor=0.0)


def model(seed: int, symbols: int = 11, classes: int | None = None, layers: int = 1) -> RNN:
    torch.manual_seed(seed)
    space = Space("symbols", symbols)
    return RNN(space, classes, hidden_size=8, layers=layers, dropout=0.0, truncation=None, density="gaussian")


def arrays(source: RNN) -> dict[str, np.ndarray]:
    return {name: part.numpy().copy() for name, part in source.state_dict().items()}


def test_all_weights_move_to_an_equal_model() -> None:
    source, target = model(0), model(1)
    loaded = load_matching(target, arrays(source))
    assert (sorted(loaded.loaded), loaded.new, loaded.left) == (sorted(source.state_dict()), [], [])
    x, mask = torch.arange(10)[None], torch.ones(1, 10, dtype=torch.bool)
    assert torch.equal(source.log_prob(x, mask), target.log_prob(x, mask))


def test_a_new_head_keeps_its_own_weights_and_an_old_one_is_left() -> None:
    target = model(1, classes=3)
    before = arrays(target)
    loaded = load_matching(target, arrays(model(0)))
    assert sorted(loaded.new) == ["head.bias", "head.weight"]
    np.testing.assert_array_equal(target.state_dict()["head.weight"].numpy(), before["head.weight"])
    assert sorted(load_matching(model(1), arrays(model(0, classes=5))).left) == ["head.bias", "head.weight"]


def test_a_different_shape_is_named_and_nothing_is_copied() -> None:
    target = model(1, symbols=7)
    before = arrays(target)
    with pytest.raises(UserError, match=r"ends\.enter\.weight is \(11, 8\), the model's is \(7, 8\)"):
        load_matching(target, arrays(model(0, symbols=11)))
    assert all(np.array_equal(before[name], part.numpy()) for name, part in target.state_dict().items())


def test_weights_of_another_kind_of_model_are_refused() -> None:
    with pytest.raises(UserError, match=r"no name is shared; they have kernel"):
        load_matching(model(0), {"kernel": np.zeros(3)})


def test_strategies() -> None:
    source, target = model(0), model(1)
    untouched = arrays(target)
    settings, loaded = begin(target, Strategy("scratch", 1.0), arrays(source), SETTINGS)
    assert (settings, loaded) == (SETTINGS, None)
    assert all(np.array_equal(untouched[name], part.numpy()) for name, part in target.state_dict().items())

    settings, loaded = begin(target, Strategy("pretrained", 0.25), arrays(source), SETTINGS)
    assert settings.learning_rate == 0.25 * SETTINGS.learning_rate
    assert loaded is not None
    assert not loaded.new
    with pytest.raises(UserError, match="needs a model of the source"):
        begin(target, Strategy("pretrained", 0.25), None, SETTINGS)
