"""One suite over every yaml in conf/family but the translators': what `families.base` promises, for both kinds of data.

A family is instantiated with its shipped values. Closed forms are fitted on small random data, gradient families are as
their seed made them; both are then asked through the protocol that evaluation uses.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from seqlab import config, schema
from seqlab.artifacts import read_tensors, write_tensors
from seqlab.data.sequences import Sequences, Space
from seqlab.families.base import Classifier, Predictor
from seqlab.families.gradient.predictor import TorchPredictor
from seqlab.families.saved import Recipe

CONF = Path(__file__).parents[1] / "conf" / "family"
NEXT_STEP = ("next_step",)


def tasks(name: str) -> tuple[str, ...]:
    """What a family's class states that it does; the next step where it states nothing."""
    target = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))["_target_"]
    return schema.stated(target, "tasks") or NEXT_STEP


SHIPPED = [
    path.stem
    for path in sorted(CONF.glob("*.yaml"))
    if "pairs" not in config.family(path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))).kinds
]
# Those that forecast or classify and no more, and the mixture, which is of others, have suites of their own.
FAMILIES = [name for name in SHIPPED if NEXT_STEP[0] in tasks(name) and name != "mixture"]
SPACES = {"symbols": Space("symbols", 11), "series": Space("vectors", 1), "vectors": Space("vectors", 3)}
LENGTHS = np.array([12, 7, 1, 0, 9])
CLASSES = 4


def recipe(name: str, space: Space, classes: int | None = None) -> Recipe:
    """Of the family as shipped."""
    parameters = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    target = parameters.pop("_target_")
    fit = "closed_form" if parameters.pop("optimizer", None) is None else "gradient"
    return Recipe(target, parameters, fit, space.kind, space.size, classes)


def is_gradient(name: str) -> bool:
    return recipe(name, SPACES["symbols"]).fit == "gradient"


def values(space: Space, rng: np.random.Generator, *shape: int) -> np.ndarray:
    if space.symbols:
        return rng.integers(space.size, size=shape)
    return rng.standard_normal((*shape, space.size)).astype(np.float32)


def training_data(space: Space, seed: int, classes: int | None = None) -> Sequences:
    """40 sequences in which a position depends on the one before, in each class in another way."""
    rng = np.random.default_rng(seed)
    labels = np.arange(40) % (classes or 1)
    arrays = []
    for label, length in zip(labels, rng.integers(20, 60, size=40), strict=True):
        x = values(space, rng, length)
        for t in range(1, length):
            if space.symbols and rng.random() < 0.5:
                x[t] = (x[t - 1] + 1 + label) % space.size
            elif not space.symbols:
                x[t] += label + 0.6 * x[t - 1]
        arrays.append(x)
    return Sequences.from_arrays(arrays, labels=labels)


def build(name: str, space: Space, seed: int = 0, classes: int | None = None) -> Any:
    """As a run would build it, with nothing estimated."""
    torch.manual_seed(seed)
    return recipe(name, space, classes).build()


def fit(name: str, space: Space, classes: int | None = None) -> Any:
    """A Predictor or, with classes, a Classifier."""
    model = build(name, space, classes=classes)
    if is_gradient(name):
        if not space.symbols:  # what starts at zero would hide what the body does
            torch.nn.init.normal_(model.ends.leave.weight[: space.size], std=0.05)
        return TorchPredictor(model, "cpu", "fp32")
    model.fit(training_data(space, 1, classes), training_data(space, 2, classes))
    return model


class Case:
    """A fitted model and a padded batch with an empty, a one-position and a full row."""

    def __init__(self, name: str, kind: str):
        self.name, self.space = name, SPACES[kind]
        self.model: Predictor = fit(name, self.space)
        self.mask = np.arange(LENGTHS.max()) < LENGTHS[:, None]
        self.x = values(self.space, np.random.default_rng(3), *self.mask.shape)
        self.x[~self.mask] = 0

    @property
    def close(self) -> Callable[..., None]:
        """Equal up to the order of float32 sums (matrix products of different sizes), or of float64 ones."""
        tolerance = 2e-5 if is_gradient(self.name) else 1e-9
        return lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


def over(*kinds: str) -> pytest.MarkDecorator:
    """Every family on these kinds of sequence."""
    params = [(name, kind) for name in FAMILIES for kind in kinds]
    return pytest.mark.parametrize("case", params, ids=map("-".join, params), indirect=True, scope="module")


@pytest.fixture(params=[(name, kind) for name in FAMILIES if is_gradient(name) for kind in SPACES], ids="-".join)
def gradient_case(request: pytest.FixtureRequest) -> tuple[str, Space]:
    name, kind = request.param
    return name, SPACES[kind]


@pytest.mark.parametrize("name", SHIPPED)
def test_constructor_matches_yaml(name: str) -> None:
    shipped = recipe(name, SPACES["symbols"])
    module, _, family = shipped.target.rpartition(".")
    signature = inspect.signature(getattr(importlib.import_module(module), family))
    own = [p for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {p.name for p in own} == set(shipped.parameters)
    for p in own:
        assert p.default is p.empty, f"{p.name}: its value lives in the yaml alone"
        assert p.annotation is not p.empty


@over(*SPACES)
def test_shapes_and_types(case: Case) -> None:
    log_prob = case.model.log_prob(case.x, case.mask)
    assert (log_prob.shape, log_prob.dtype) == (case.mask.shape, np.float64)
    assert np.isfinite(log_prob).all()
    assert (log_prob[~case.mask] == 0).all()
    if case.space.symbols:
        assert (log_prob[case.mask] < 0).all()
        distribution = case.model.distribution(case.x, case.mask)
        shape = (len(LENGTHS), LENGTHS.max() + 1, case.space.size)
        assert (distribution.shape, distribution.dtype) == (shape, np.float64)
    else:
        for moment in case.model.moments(case.x, case.mask):
            assert (moment.shape, moment.dtype) == (case.x.shape, np.float64)
            assert (moment[~case.mask] == 0).all()
        assert (moment[case.mask] > 0).all()


@over(*SPACES)
def test_the_future_does_not_reach_the_past(case: Case) -> None:
    before = case.model.log_prob(case.x, case.mask)
    for t in (1, 4, 11):
        other = case.x.copy()
        other[:, t:] = values(case.space, np.random.default_rng(t), *other[:, t:].shape[:2])
        other[~case.mask] = 0
        after = case.model.log_prob(other, case.mask)
        case.close(after[:, :t], before[:, :t])
        assert not np.allclose(after[:, t:], before[:, t:]), "the present must matter"
        if case.space.symbols:
            a, b = (case.model.distribution(x, case.mask) for x in (other, case.x))
            case.close(a[:, : t + 1], b[:, : t + 1])
        else:
            # A prediction of x_t sees x_<t: at t itself it is still the same.
            for a, b in zip(case.model.moments(other, case.mask), case.model.moments(case.x, case.mask), strict=True):
                case.close(a[:, : t + 1], b[:, : t + 1])


@over(*SPACES)
def test_padding_changes_nothing(case: Case) -> None:
    rng = np.random.default_rng(5)
    wide = np.concatenate([case.x, values(case.space, rng, len(case.x), 4)], axis=1)
    wide_mask = np.pad(case.mask, ((0, 0), (0, 4)))
    wide[~wide_mask] = values(case.space, rng, *wide.shape[:2])[~wide_mask]
    expected = case.model.log_prob(case.x, case.mask)
    case.close(case.model.log_prob(wide, wide_mask)[:, : expected.shape[1]], expected)
    assert (case.model.log_prob(wide, wide_mask)[~wide_mask] == 0).all()
    paths = case.model.forecast(case.x, case.mask, 3, 2, seed=0)
    case.close(case.model.forecast(wide, wide_mask, 3, 2, seed=0), paths)


@over(*SPACES)
def test_rows_do_not_meet(case: Case) -> None:
    together = case.model.log_prob(case.x, case.mask)
    for i, length in enumerate(LENGTHS):
        alone = case.model.log_prob(case.x[i : i + 1, :length], case.mask[i : i + 1, :length])
        assert alone.shape == (1, length)
        case.close(alone[0], together[i, :length])


@over("symbols")
def test_distribution_sums_to_one_and_gives_log_prob(case: Case) -> None:
    distribution = case.model.distribution(case.x, case.mask)
    exists = np.arange(LENGTHS.max() + 1) <= LENGTHS[:, None]
    np.testing.assert_allclose(np.exp(distribution[exists]).sum(-1), 1, rtol=1e-5)
    assert (distribution[~exists] == 0).all()
    chosen = np.take_along_axis(distribution[:, :-1], case.x[..., None], -1)[..., 0]
    case.close(case.model.log_prob(case.x, case.mask)[case.mask], chosen[case.mask])


def density_after(case: Case, prefix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The density of the value after a one-channel prefix: points, density, and each point's share of the line.

    Points are spaced as sinh from the mean, which reaches far into a heavy tail.
    """
    t = len(prefix)
    x = np.concatenate([prefix, np.zeros((1, 1), np.float32)])
    mean, deviation = (m[0, t, 0] for m in case.model.moments(x[None], np.ones((1, t + 1), bool)))
    u = np.linspace(-18, 18, 12_001)
    points = (mean + deviation / 10 * np.sinh(u)).astype(np.float32)
    width = deviation / 10 * np.cosh(u) * (u[1] - u[0])
    rows = np.repeat(x[None], len(u), 0)
    rows[:, t, 0] = points
    log_density = np.concatenate(
        [case.model.log_prob(part, np.ones(part.shape[:2], bool))[:, t] for part in np.array_split(rows, 6)]
    )
    return points.astype(np.float64), np.exp(log_density), width


@over("series")
@pytest.mark.parametrize("length", [0, 5])
def test_density_integrates_to_one_and_has_the_moments(case: Case, length: int) -> None:
    prefix = case.x[0, :length]
    points, density, width = density_after(case, prefix)
    mass = density * width
    assert mass.sum() == pytest.approx(1, abs=1e-3)
    x = np.concatenate([prefix, np.zeros((1, 1), np.float32)])[None]
    mean, deviation = (m[0, length, 0] for m in case.model.moments(x, np.ones((1, length + 1), bool)))
    assert (mass * points).sum() == pytest.approx(mean, abs=5e-3 * deviation)
    # The second moment of a Student's t of few degrees of freedom gathers slowly in the tails.
    assert np.sqrt((mass * (points - mean) ** 2).sum()) == pytest.approx(deviation, rel=2e-2)


@pytest.mark.slow
@over("series")
def test_samples_follow_the_density(case: Case) -> None:
    prefix, samples = case.x[0, :5], 2_000
    points, density, width = density_after(case, prefix)
    drawn = np.sort(case.model.forecast(prefix[None], np.ones((1, 5), bool), 1, samples, seed=1)[0, :, 0, 0])
    # Kolmogorov-Smirnov at a level of about 1e-4.
    expected = np.interp(drawn, points, np.cumsum(density * width))
    assert np.abs(expected - (np.arange(samples) + 0.5) / samples).max() < 2.2 / np.sqrt(samples)


@over("symbols")
def test_sample_paths_follow_the_distribution(case: Case) -> None:
    """The second step too, given the first: so a forecast's state carries on as a longer prefix would."""
    samples = 3_000
    paths = case.model.forecast(case.x[:2], case.mask[:2], 2, samples, seed=1)
    for row in range(2):
        prefix = case.x[row, : LENGTHS[row]]
        first = np.bincount(paths[row, :, 0], minlength=case.space.size)
        follow = int(first.argmax())
        second = np.bincount(paths[row, paths[row, :, 0] == follow, 1], minlength=case.space.size)
        for counts, context in ((first, prefix), (second, np.append(prefix, follow))):
            p = np.exp(case.model.distribution(context[None], np.ones((1, len(context)), bool))[0, -1])
            deviation = np.sqrt(counts.sum() * p * (1 - p)) + 0.5
            assert (np.abs(counts - counts.sum() * p) < 5 * deviation).all()


@over("series", "vectors")
def test_sample_means_are_the_moments(case: Case) -> None:
    samples = 4_000
    drawn = case.model.forecast(case.x, case.mask, 1, samples, seed=2)[:, :, 0]
    rows = np.arange(len(LENGTHS))
    longer = np.concatenate([case.x, np.zeros_like(case.x[:, :1])], 1)
    exists = np.arange(LENGTHS.max() + 1) <= LENGTHS[:, None]
    mean, deviation = (m[rows, LENGTHS] for m in case.model.moments(longer, exists))
    assert (np.abs(drawn.mean(1) - mean) < 6 * deviation / np.sqrt(samples)).all()


@over(*SPACES)
def test_forecast_shapes_and_seeds(case: Case) -> None:
    paths = case.model.forecast(case.x, case.mask, 20, 3, seed=7)
    tail = () if case.space.symbols else (case.space.size,)
    assert paths.shape == (len(LENGTHS), 3, 20, *tail)
    assert np.isfinite(paths).all()
    if case.space.symbols:
        assert np.issubdtype(paths.dtype, np.integer)
        assert set(paths.flat) <= set(range(case.space.size))
    np.testing.assert_array_equal(case.model.forecast(case.x, case.mask, 20, 3, seed=7), paths)
    assert not np.array_equal(case.model.forecast(case.x, case.mask, 20, 3, seed=8), paths)
    nothing = case.model.forecast(case.x[:, :0], case.mask[:, :0], 2, 3, seed=7)
    assert nothing.shape == (len(LENGTHS), 3, 2, *tail)


@over(*SPACES)
def test_saved_and_loaded_gives_the_same_bits(case: Case, tmp_path: Path) -> None:
    model: Any = case.model
    path = tmp_path / "model.safetensors"
    other = build(case.name, case.space, seed=1)
    if is_gradient(case.name):
        write_tensors(path, {name: part.numpy() for name, part in model.model.state_dict().items()})
        other.load_state_dict({name: torch.from_numpy(part) for name, part in read_tensors(path).items()})
        other = TorchPredictor(other, "cpu", "fp32")
    else:
        write_tensors(path, model.state())
        other.load_state(read_tensors(path))
    np.testing.assert_array_equal(other.log_prob(case.x, case.mask), model.log_prob(case.x, case.mask))
    np.testing.assert_array_equal(
        other.forecast(case.x, case.mask, 4, 2, seed=0), model.forecast(case.x, case.mask, 4, 2, seed=0)
    )


def test_same_seed_same_weights(gradient_case: tuple[str, Space]) -> None:
    one, two, other = (build(*gradient_case, seed=seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_step_equals_body(gradient_case: tuple[str, Space]) -> None:
    model = build(*gradient_case).eval()
    h = torch.randn(3, 40, model.width)
    with torch.no_grad():
        expected = model.body(h)
        state = model.start(3)
        for t in range(h.shape[1]):
            state, output = model.step(state, h[:, t])
            torch.testing.assert_close(output, expected[:, t], rtol=2e-5, atol=2e-5)


def test_prefill_of_ragged_prefixes_equals_steps(gradient_case: tuple[str, Space]) -> None:
    model = build(*gradient_case).eval()
    h = torch.randn(4, 50, model.width)
    lengths = torch.tensor([17, 1, 30, 9])
    with torch.no_grad():
        expected = model.body(h)
        state, output = model.prefill(h[:, :30], lengths)
        for i in range(20):
            torch.testing.assert_close(output, expected[torch.arange(4), lengths + i - 1], rtol=2e-5, atol=2e-5)
            state, output = model.step(state, h[torch.arange(4), lengths + i])


def test_gradient_reaches_every_parameter(gradient_case: tuple[str, Space]) -> None:
    name, space = gradient_case
    model = build(name, space, classes=CLASSES)
    x = torch.as_tensor(values(space, np.random.default_rng(0), 6, 30))
    mask = torch.ones(6, 30, dtype=torch.bool)
    (model.log_prob(x, mask).mean() + model.class_logits(x, mask)[:, 0].mean()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", [name for name in FAMILIES if is_gradient(name)])
def test_an_untrained_model_is_the_naive_forecast(name: str) -> None:
    space = SPACES["vectors"]
    x, mask = values(space, np.random.default_rng(0), 4, 20), np.ones((4, 20), bool)
    mean, _ = TorchPredictor(build(name, space), "cpu", "fp32").moments(x, mask)
    np.testing.assert_allclose(mean[:, 1:], x[:, :-1], rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in FAMILIES if is_gradient(name)])
def test_a_path_that_explodes_stays_finite(name: str) -> None:
    space = SPACES["vectors"]
    model = build(name, space)
    with torch.no_grad():
        model.ends.carry.fill_(-30.0)
        model.ends.leave.weight.mul_(30.0)
    x, mask = values(space, np.random.default_rng(0), 4, 20), np.ones((4, 20), bool)
    paths = TorchPredictor(model, "cpu", "fp32").forecast(x, mask, 40, 3, 0)
    assert np.isfinite(paths).all()
    assert np.abs(paths[:, :, -1]).max() == model.ends.FAR


def test_layer_groups_hold_every_parameter_once(gradient_case: tuple[str, Space]) -> None:
    model = build(*gradient_case, classes=CLASSES)
    groups = model.layer_groups()
    held = [id(parameter) for _, group in groups for parameter in group]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    names = [name for name, _ in groups]
    assert names == ["input", *(f"layer{i}" for i in range(1, len(names) - 2)), "output", "head"]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("name", FAMILIES)
def test_class_probabilities(name: str, space: Space) -> None:
    predictor: Classifier = fit(name, space, CLASSES)
    rng = np.random.default_rng(0)
    mask = np.arange(LENGTHS.max()) < LENGTHS[:, None]
    x = values(space, rng, *mask.shape)
    found = predictor.class_log_prob(x, mask)
    assert (found.shape, found.dtype) == ((len(LENGTHS), CLASSES), np.float64)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-12)
    x[~mask] = values(space, rng, *mask.shape)[~mask]
    np.testing.assert_allclose(predictor.class_log_prob(x, mask), found, rtol=1e-5, atol=1e-5)
    x[mask] = values(space, rng, *mask.shape)[mask]
    assert not np.allclose(predictor.class_log_prob(x, mask)[0], found[0])


def test_a_new_head_keeps_the_rest(gradient_case: tuple[str, Space]) -> None:
    model = build(*gradient_case)
    before = {key: part.clone() for key, part in model.state_dict().items()}
    assert model.with_classes(CLASSES) is model
    assert model.with_classes(2).head.out_features == 2
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)


def test_without_head_no_classes(gradient_case: tuple[str, Space]) -> None:
    name, space = gradient_case
    x, mask = torch.as_tensor(values(space, np.random.default_rng(0), 2, 3)), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(TypeError, match="with_classes"):
        build(name, space).class_logits(x, mask)


def test_prediction_leaves_the_training_mode(gradient_case: tuple[str, Space]) -> None:
    name, space = gradient_case
    model = build(name, space).train()
    predictor = TorchPredictor(model, "cpu", "fp32")
    x, mask = values(space, np.random.default_rng(0), 2, 9), np.ones((2, 9), bool)
    np.testing.assert_array_equal(predictor.log_prob(x, mask), predictor.log_prob(x, mask))
    assert model.training


def test_bfloat16_is_near_float32(gradient_case: tuple[str, Space]) -> None:
    model = build(*gradient_case)
    x, mask = values(gradient_case[1], np.random.default_rng(0), 4, 20), np.ones((4, 20), bool)
    found, exact = (TorchPredictor(model, "cpu", precision).log_prob(x, mask) for precision in ("bf16", "fp32"))
    np.testing.assert_allclose(found, exact, atol=0.15)
    assert not np.array_equal(found, exact)


@pytest.mark.slow
def test_training_has_a_pulse(gradient_case: tuple[str, Space]) -> None:
    """A few steps take more than half a nat a position off a cycle of four."""
    name, space = gradient_case
    x = torch.as_tensor(values(space, np.random.default_rng(0), 1, 4)).repeat(8, 5, *[1] * (not space.symbols))
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    model = build(name, space)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(40):
        loss = -model.log_prob(x, mask).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < losses[0] - 0.5
